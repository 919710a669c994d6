//! What a run's log says: ids and facts, never a phone or a secret.

use serde::{Deserialize, Serialize};

use super::call::{AnsweredBy, CallState};
use super::job::{JobState, Outcome};
use super::repair::RepairKind;
use super::run::{JobCounts, OutcomeCounts, RunState};
use super::{CallId, CallSid, JobId, LeadId, Timestamp};

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run was created.
    RunCreated {
        /// Draft, or pending when it was started at once.
        state: RunState,
    },
    /// The run moved.
    RunStateChanged {
        /// From here.
        from: RunState,
        /// To here.
        to: RunState,
        /// Why, when it moved by itself.
        reason: Option<String>,
    },
    /// Settings changed.
    RunUpdated {
        /// The fields that changed, as field mask paths.
        fields: Vec<String>,
    },
    /// No more jobs will come.
    RunSealed,
    /// Jobs were added.
    JobsAdded {
        /// How many.
        count: u32,
    },
    /// A job moved.
    JobChanged {
        /// The job.
        job_id: JobId,
        /// Its lead.
        lead_id: LeadId,
        /// Where it stands now.
        state: JobState,
        /// Its last attempt.
        attempt: u32,
        /// How that came out.
        outcome: Option<Outcome>,
        /// Not before, when queued.
        eligible_at: Option<Timestamp>,
    },
    /// A call turned up after its job had moved on; it is hung up at once.
    OrphanCall {
        /// The call.
        call_id: CallId,
        /// Its job.
        job_id: JobId,
        /// Which attempt at the job.
        attempt: u32,
        /// The carrier's name for it.
        call_sid: CallSid,
    },
    /// A call moved.
    CallChanged {
        /// The call.
        call_id: CallId,
        /// Its job.
        job_id: JobId,
        /// Which attempt at the job.
        attempt: u32,
        /// Where it stands now.
        state: CallState,
        /// The carrier's name for it, once known.
        call_sid: Option<CallSid>,
        /// Billed seconds, once ended.
        duration_s: Option<u32>,
        /// Who answered, when detection ran.
        answered_by: Option<AnsweredBy>,
        /// What went wrong.
        error_code: Option<String>,
    },
    /// Something that did not fit the facts was put right.
    Repaired {
        /// What.
        repair: RepairKind,
        /// How many: jobs, queue entries, or counters.
        count: u32,
    },
}

/// One committed change to a run: its revision, and everything that the transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Per run, from 1, without gaps.
    pub revision: i64,
    /// Database time of the change.
    pub at: Timestamp,
    /// Where the run stood afterwards.
    pub progress: Progress,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Where a run stood after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The run's state.
    pub state: RunState,
    /// Its jobs by state.
    pub counts: JobCounts,
    /// Its ended jobs by outcome.
    pub outcomes: OutcomeCounts,
}
