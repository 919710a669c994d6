//! Servers as processes of their own that are killed, stopped, cut off from their database, or
//! many. The judge is the carrier's ledger: whatever happened, no attempt has two creates, and
//! every job ends.

pub mod fleet;
mod judge;
mod kills;
mod many;
mod outage;
mod probe;
pub mod proxy;
mod stopped;
