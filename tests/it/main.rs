//! Integration tests: real stores, real sockets, the real simulator.

mod simulator;
mod store;
mod support;
