//! Integration tests: real stores, real sockets, the real simulator.

mod store;
mod support;
