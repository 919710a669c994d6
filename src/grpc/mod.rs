//! The wire: services, authentication, deadlines, errors.

pub mod auth;
mod batch;
mod body;
mod convert;
pub mod deadline;
mod idempotency;
mod keys;
mod leads;
pub mod methods;
mod outbound_queue;
mod page;
pub mod pb;
pub mod server;
mod service;
mod status;
mod tenants;
pub mod trace;
mod watch;

pub use server::{Config, Error, serve};
