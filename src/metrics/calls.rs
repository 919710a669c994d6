//! Calls, from the claim to the end.

use std::time::Duration;

use metrics::{counter, histogram};

use super::catalog;
use crate::domain::call::{CallState, Direction};
use crate::domain::state_words;

state_words! {
    /// What became of a create request.
    pub enum Submitted {
        /// There is a call.
        Created = "created",
        /// The carrier said no.
        Rejected = "rejected",
        /// Proven not sent.
        NotSent = "not_sent",
        /// Sent, and no answer: the call may exist.
        Lost = "lost",
    }
}

state_words! {
    /// Why nobody knows whether a call exists.
    pub enum Unknown {
        /// The answer to the create request was lost.
        Lost = "lost",
        /// The worker that was to send it is gone.
        Abandoned = "abandoned",
    }
}

/// A claim that found a tenant took `took` and committed `calls` intents.
pub fn calls_claimed(calls: usize, took: Duration) {
    counter!(catalog::CALLS_CLAIMED).increment(calls as u64);
    histogram!(catalog::CLAIM_SECONDS).record(took);
}

/// A create request came to `result`; `took` if it was sent at all.
pub fn submitted(result: Submitted, took: Option<Duration>) {
    counter!(catalog::CALLS_SUBMITTED, "result" => result.as_str()).increment(1);
    if let Some(took) = took {
        histogram!(catalog::SUBMIT_SECONDS, "result" => result.as_str()).record(took);
    }
    if result == Submitted::Lost {
        calls_lost(Unknown::Lost, 1);
    }
}

/// A call came to its end, which is committed.
pub fn call_ended(direction: Direction, outcome: CallState) {
    counter!(catalog::CALLS_ENDED, "direction" => direction.as_str(), "outcome" => outcome.as_str())
        .increment(1);
}

/// Of `calls` calls nobody knows any more whether they exist.
pub fn calls_lost(cause: Unknown, calls: u64) {
    counter!(catalog::CALLS_UNKNOWN, "cause" => cause.as_str()).increment(calls);
}

/// A look-up at the carrier ended an unknown: `adopted` says whether the call was found.
pub fn unknown_resolved(adopted: bool) {
    let verdict = if adopted { "adopted" } else { "given_up" };
    counter!(catalog::UNKNOWNS_RESOLVED, "verdict" => verdict).increment(1);
}

/// `calls` intents of a worker that is gone were taken over.
pub fn takeover(calls: u64) {
    counter!(catalog::TAKEOVERS).increment(1);
    calls_lost(Unknown::Abandoned, calls);
}
