//! The wire: services, authentication, limits, deadlines.

pub mod pb;
