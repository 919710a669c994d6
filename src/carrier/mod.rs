//! The telephone carrier: Twilio's REST API, TwiML, signatures and callbacks.
//!
//! Everything that knows Twilio's wire is here, and this is the only module that names the HTTP
//! client. The one promise that matters is in [`Client::create_call`]: it sends a create request
//! once and says honestly what became of it, so that nobody is ever called twice.

pub mod breaker;
pub mod callback;
pub mod callback_client;
pub mod client;
pub mod error;
pub mod signature;
pub mod transfer;
pub mod twiml;
pub mod wire;

pub(crate) mod http;
mod request;

pub use client::{Client, Config};
pub use error::{CodeClass, Error};
pub use http::install_tls_provider;
pub use request::{
    Account, Amd, AmdMode, Answer, CreateCall, Created, Credential, ListCalls, UpdateCall,
    connection_override,
};
pub use wire::{CallPage, CallResource, QueueResource};
