//! A run's jobs, counted.

use serde::{Deserialize, Serialize};

use crate::domain::job::{JobState, Outcome};

/// How many of a run's jobs stand where. They always add up to the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobCounts {
    /// Waiting for a claim.
    pub queued: i64,
    /// Claimed; not answered yet.
    pub dialing: i64,
    /// Answered.
    pub in_call: i64,
    /// Ended well.
    pub completed: i64,
    /// Ended without an answer.
    pub failed: i64,
    /// Called off.
    pub canceled: i64,
    /// Not dialed, because the lead may not be called.
    pub skipped: i64,
    /// The run expired first.
    pub expired: i64,
}

impl JobCounts {
    /// All jobs.
    pub const fn total(&self) -> i64 {
        self.queued + self.in_flight() + self.ended()
    }

    /// Jobs with a live call.
    pub const fn in_flight(&self) -> i64 {
        self.dialing + self.in_call
    }

    /// Jobs that will not change again.
    pub const fn ended(&self) -> i64 {
        self.completed + self.failed + self.canceled + self.skipped + self.expired
    }

    /// The count of jobs in `state`.
    pub const fn of_mut(&mut self, state: JobState) -> &mut i64 {
        match state {
            JobState::Queued => &mut self.queued,
            JobState::Dialing => &mut self.dialing,
            JobState::InCall => &mut self.in_call,
            JobState::Completed => &mut self.completed,
            JobState::Failed => &mut self.failed,
            JobState::Canceled => &mut self.canceled,
            JobState::Skipped => &mut self.skipped,
            JobState::Expired => &mut self.expired,
        }
    }

    /// One job moved.
    pub const fn moved(&mut self, from: JobState, to: JobState) {
        *self.of_mut(from) -= 1;
        *self.of_mut(to) += 1;
    }
}

/// How many of a run's jobs ended how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutcomeCounts(pub std::collections::BTreeMap<Outcome, i64>);

impl OutcomeCounts {
    /// One more job ended so.
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }
}
