//! Transfers. The words are those of the states and modes of the domain, which are few.

use std::time::Duration;

use metrics::{counter, histogram};

use super::catalog;
use crate::domain::state_words;

state_words! {
    /// How one request to the carrier that a transfer made ended.
    pub enum StepResult {
        /// The carrier did it.
        Done = "done",
        /// The carrier said no: the next way is tried.
        Refused = "refused",
        /// The carrier did not answer, or its circuit breaker is open.
        Unavailable = "unavailable",
    }
}

/// A transfer was asked for. `kind` is `direct`, or `warm` for one that belongs to an incident.
pub fn transfer_started(kind: &'static str) {
    counter!(catalog::TRANSFERS_STARTED, "kind" => kind).increment(1);
}

/// A transfer came to its one ending, which is committed. `mode` is the way that was tried last:
/// `redirect`, `dequeue` or `conference`; `outcome` is the word of its outcome.
pub fn transfer_ended(mode: &'static str, outcome: &'static str) {
    counter!(catalog::TRANSFERS_ENDED, "mode" => mode, "outcome" => outcome).increment(1);
}

/// A request to the carrier that is part of a transfer ended.
pub fn transfer_step(mode: &'static str, result: StepResult) {
    counter!(catalog::TRANSFER_STEPS, "mode" => mode, "result" => result.as_str()).increment(1);
}

/// Caller and target speak; `took` since the transfer was asked for.
pub fn transfer_bridged(mode: &'static str, took: Duration) {
    histogram!(catalog::TRANSFER_BRIDGE_SECONDS, "mode" => mode).record(took);
}
