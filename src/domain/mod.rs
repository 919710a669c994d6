//! What Trunkline decides, and nothing else: no I/O, no clock, no randomness, no SQL.
//!
//! Every time is handed in as [`Timestamp`]; every random draw is handed in as a number.

pub mod call;
pub mod event;
pub mod ids;
pub mod job;
pub mod lead;
pub mod pace;
pub mod phone;
pub mod retry;
pub mod run;
pub mod script;
pub mod share;
pub mod tenant;
pub mod time;
pub mod transfer;
pub mod window;

pub use ids::{AccountSid, CallId, CallSid, JobId, LeadId, RunId, TenantId, WorkerId};
pub use phone::Phone;
pub use time::Timestamp;

/// A value that the caller gave and the domain refuses: which field, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Violation {
    /// The field's path in the request, for example `window.opens_at`.
    pub field: String,
    /// What is wrong and what would be right; never contains the value of a phone or a secret.
    pub reason: String,
}

impl Violation {
    /// A violation of `field` for `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The same violation seen from the message that contains the field.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}
