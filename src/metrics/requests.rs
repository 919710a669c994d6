//! What comes in: gRPC requests and the carrier's callbacks.

use std::time::Duration;

use metrics::{counter, histogram};

use super::catalog;
use crate::domain::state_words;

state_words! {
    /// What a callback is about.
    pub enum HeardOf {
        /// An outbound call moved.
        Status = "status",
        /// Who answered.
        Amd = "amd",
        /// A call came in.
        Voice = "voice",
        /// A call that came in moved.
        VoiceStatus = "voice_status",
        /// A transfer moved, or asks what to do next.
        Transfer = "transfer",
    }
}

state_words! {
    /// What became of a callback.
    pub enum Heard {
        /// It changed something.
        Applied = "applied",
        /// It told nothing new.
        Unchanged = "unchanged",
        /// It names a call that the tenant does not have, or another than the one on record.
        Stray = "stray",
        /// Its signature is missing or wrong.
        Forged = "forged",
        /// It cannot be read.
        Unreadable = "unreadable",
        /// It could not be stored; the carrier is to try again.
        Unavailable = "unavailable",
    }
}

/// A callback was answered.
pub fn callback(of: HeardOf, result: Heard) {
    counter!(catalog::CALLBACKS, "kind" => of.as_str(), "result" => result.as_str()).increment(1);
}

/// A gRPC request ended. `method` is one of the table of methods, or a word for what is not; `code`
/// is the status code's name.
pub fn grpc_ended(method: &'static str, code: &'static str, took: Duration) {
    counter!(catalog::GRPC_REQUESTS, "method" => method, "code" => code).increment(1);
    histogram!(catalog::GRPC_SECONDS, "method" => method).record(took);
}

/// A limit refused a request; `reason` is that of the answer's `ErrorInfo`.
pub fn grpc_limited(reason: &'static str) {
    counter!(catalog::GRPC_LIMITED, "reason" => reason).increment(1);
}
