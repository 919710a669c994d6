//! The generated messages and services of `trunkline.v1`.
#![allow(clippy::all, clippy::pedantic, missing_docs)]

tonic::include_proto!("trunkline.v1");

/// The descriptors of every proto, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trunkline_descriptor.bin"));
