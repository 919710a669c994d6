//! The wire: services, authentication, deadlines, errors.

pub mod auth;
mod batch;
mod body;
mod convert;
pub mod deadline;
#[doc(hidden)]
pub mod fuzzing;
mod idempotency;
mod identity;
mod imports;
mod keys;
mod leads;
pub mod limits;
pub mod methods;
mod outbound_queue;
mod page;
pub mod pb;
pub mod server;
mod service;
mod status;
mod tenants;
pub mod tls;
pub mod trace;
mod transfers;
mod watch;
mod webhooks;

pub use server::{Config, Error, serve};
