//! The wire: services, authentication, deadlines, errors.

pub mod auth;
mod body;
mod convert;
pub mod deadline;
pub mod methods;
mod page;
pub mod pb;
mod status;
pub mod trace;
