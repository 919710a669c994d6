//! Following a run: a snapshot or a resume token, then every change until the run ends.
//!
//! The event table is the log; the [`hub`] only wakes readers, the [`cursor`] says where each of
//! them stands.

pub mod cursor;
mod follow;
pub mod hub;
mod page;
pub mod transfer;

use std::time::Duration;

pub use cursor::Cursor;
pub use hub::{Hub, Watcher};

use crate::domain::event::Commit;
use crate::domain::{RunId, TenantId};
use crate::store::{self, RunView};

/// The shortest bookmark interval.
pub const BOOKMARK_MIN: Duration = Duration::from_secs(1);
/// The bookmark interval of a client that names none.
pub const BOOKMARK_DEFAULT: Duration = Duration::from_secs(15);
/// The longest bookmark interval.
pub const BOOKMARK_MAX: Duration = Duration::from_secs(60);

/// Where a watcher begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the run as it stands.
    Snapshot,
    /// After what it saw last.
    After(Cursor),
}

/// How much of the log a watcher wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Every commit, in order, once.
    Full,
    /// Only the latest state and counts.
    Progress,
}

/// What is watched, from where, and how.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Whose run.
    pub tenant: TenantId,
    /// Which.
    pub run: RunId,
    /// From where.
    pub start: Start,
    /// How much.
    pub view: View,
    /// How often to say that nothing happened, give or take a fifth; held between [`BOOKMARK_MIN`]
    /// and [`BOOKMARK_MAX`].
    pub bookmark_every: Duration,
}

/// One thing a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Where to continue after it.
    pub cursor: Cursor,
    /// What it says.
    pub kind: Kind,
}

/// What an [`Update`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The run as a whole.
    Snapshot(Box<RunView>),
    /// What one transaction did.
    Events(Commit),
    /// Nothing happened.
    Bookmark,
}

/// Why a token cannot be continued from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// Events after it were deleted.
    Trimmed,
    /// It is of a log that ended.
    ForeignEpoch,
    /// It is ahead of the log.
    Future,
    /// It is of another run.
    OtherRun,
}

impl OutOfRange {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::ForeignEpoch => "foreign_epoch",
            Self::Future => "future",
            Self::OtherRun => "other_run",
        }
    }
}

/// Why a watch ended before its run did.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant has no such run.
    #[error("no such run")]
    NotFound,
    /// The token cannot be continued from.
    #[error("the resume token cannot be continued from: {}", .reason.as_str())]
    TokenOutOfRange {
        /// Why.
        reason: OutOfRange,
        /// The oldest token that can be.
        oldest: Option<Cursor>,
    },
    /// This process is going away; resume elsewhere.
    #[error("the server is draining")]
    Draining,
    /// This process has as many watchers as it takes.
    #[error("too many watchers")]
    TooMany,
    /// The log could not be read.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound(_) => Self::NotFound,
            store::Error::Exists(_)
            | store::Error::Changed
            | store::Error::OnOneself(_)
            | store::Error::NoMasterKey
            | store::Error::Invalid(_)
            | store::Error::WrongState(_)
            | store::Error::Transfer(_)
            | store::Error::Closed(_)
            | store::Error::Over(_)
            | store::Error::NotEnded(_)
            | store::Error::NothingToRetry
            | store::Error::TooSoon { .. }
            | store::Error::Lapsed
            | store::Error::QueueFull { .. }
            | store::Error::RequestReused
            | store::Error::Unavailable(_)
            | store::Error::Locked(_)
            | store::Error::Internal(_) => Self::Store(error),
        }
    }
}
