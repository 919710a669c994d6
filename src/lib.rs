//! Trunkline: a multi-tenant gRPC telephony control plane. See `docs/ARCHITECTURE.md` for the map.

pub mod app;
pub mod callbacks;
pub mod carrier;
pub mod cli;
pub mod config;
pub mod dialer;
pub mod domain;
pub mod gateway;
pub mod grpc;
pub mod metrics;
pub mod progress;
pub mod simulator;
pub mod store;
pub mod tasks;
pub mod webhooks;
