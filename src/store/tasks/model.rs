//! What use cases of tasks take and give.

use crate::domain::task::{TaskKind, TaskState};
use crate::domain::{TaskId, TenantId, Timestamp};

/// A claimed task. While the claim holds nobody else is given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: TaskId,
    /// What it does.
    pub kind: TaskKind,
    /// What it is about: a kind of thing and an id, or how many.
    pub subject: String,
    /// Ids, as JSON.
    pub payload: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What the claim is known by: it grows with each.
    pub claim: i64,
}

/// What a claim of tasks brought.
#[derive(Debug, Clone, Default)]
pub struct TasksClaimed {
    /// To be done.
    pub tasks: Vec<Task>,
    /// Tasks that died with their last executor: given up.
    pub buried: Vec<Task>,
    /// How long until the next is due, if there is nothing to do now.
    pub next_in: Option<std::time::Duration>,
}

/// What became of a task that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskFate {
    /// It is tried again.
    Again(Timestamp),
    /// It is given up, and kept.
    Dead,
    /// The claim had lapsed; somebody else has it.
    Lapsed,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// What it does, in a word: maybe one that only a newer version knows.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: TaskState,
    /// How often it was begun.
    pub attempts: u32,
    /// Not before.
    pub run_at: Timestamp,
    /// Why the last attempt failed, without personal data.
    pub last_error: Option<String>,
    /// When it was caused.
    pub created_at: Timestamp,
    /// When it was last touched.
    pub updated_at: Timestamp,
}
