//! Integration tests: real stores, real sockets, the real simulator.

mod admin;
mod caps;
mod compatible_carrier;
mod crash;
mod grpc;
mod hooks;
mod interleavings;
mod maintenance;
mod security;
mod simulator;
mod store;
mod support;
mod system;
mod tidy;
mod transfers;
mod unknown;
