//! Webhooks: what Trunkline posts to tenants' own endpoints. How they are signed and sent, which
//! destinations may be called, and the delivery of what is due.

mod client;
mod delivery;
pub mod destinations;

pub use client::{Attempt, Client, Config, Message, new_secret};
pub use delivery::Sender;
