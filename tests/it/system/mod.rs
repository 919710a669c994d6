//! The system as a whole: the composed server, the simulated carrier, clients over sockets, on both stores.

mod dial;
mod halt;
mod watch;
mod webhooks;
pub mod world;
