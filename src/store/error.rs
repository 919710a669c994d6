//! What can go wrong in a use case, by what the caller can do about it.

use std::time::Duration;

use crate::domain::Violation;
use crate::domain::run::{RunState, WrongState};
use crate::domain::transfer::Rejection;

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. No text holds personal data or a secret: databases put values into details,
/// which are not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant has no such thing, whoever else may have.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// There is such a thing already.
    #[error("there is such a {0} already")]
    Exists(&'static str),
    /// It changed since the caller read it.
    #[error("it changed since it was read: the etag is another")]
    Changed,
    /// A key would shut itself out.
    #[error("{0}")]
    OnOneself(&'static str),
    /// Secrets cannot be kept.
    #[error("this server has no master key to seal secrets with: set sealing.keys")]
    NoMasterKey,
    /// The input is wrong.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// The run's state does not allow the command.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// The transfer, or the call that is to be transferred, does not allow it.
    #[error(transparent)]
    Transfer(#[from] Rejection),
    /// The run takes no more jobs, because it is sealed or over.
    #[error("the run takes no more jobs: {0}")]
    Closed(&'static str),
    /// The run has ended or is ending, so that nothing about it changes any more.
    #[error("the run is {}: its settings change no more", .0.as_str())]
    Over(RunState),
    /// Only jobs of a run that has ended can be retried.
    #[error("the run has not ended: it is {}", .0.as_str())]
    NotEnded(RunState),
    /// The run has no job to be retried.
    #[error("the run has no job in these states with these outcomes")]
    NothingToRetry,
    /// The tenant had this done less than a minute ago.
    #[error("this was done less than a minute ago")]
    TooSoon {
        /// It may be done again after this.
        retry_after: Duration,
    },
    /// The claim of a task had lapsed, so that somebody else may have it.
    #[error("the claim of the task has lapsed")]
    Lapsed,
    /// The tenant has as many jobs queued as it may.
    #[error("as many jobs are queued as may be: {max}")]
    QueueFull {
        /// So many may be queued.
        max: u64,
    },
    /// The request id was used for another request.
    #[error("request_id was used for a different request")]
    RequestReused,
    /// The database cannot be reached or did not answer in time; try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Another process holds the SQLite file.
    #[error("{0}")]
    Locked(String),
    /// The database refused or returned something unexpected: a defect, for the log.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether the same use case may succeed when tried again.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
