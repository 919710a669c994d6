//! Everything that needs more than one module, over real sockets.

mod simulator;
