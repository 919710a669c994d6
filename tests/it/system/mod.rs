//! The system as a whole: the composed server, the simulated carrier, clients over sockets, on both
//! stores.

mod callbacks;
pub mod child;
mod dial;
mod drain;
mod forecast;
mod halt;
mod inbound;
mod isolation;
mod lost;
mod machines;
mod metrics;
mod opt_out;
mod rejections;
mod scripts;
mod secrets;
mod startup;
mod watch;
mod window;
pub mod world;
