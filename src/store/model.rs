//! What use cases take and give.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::call::{Call, Direction};
use crate::domain::event::Progress;
use crate::domain::job::{JobState, Outcome};
use crate::domain::lead::LeadFacts;
use crate::domain::run::{RunField, RunSettings};
use crate::domain::{
    CallId, JobId, LeadId, OpenBreaker, Phone, RunId, TenantId, Timestamp, TransferId, Violation,
    WorkerId,
};

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The run has a new revision.
    Run(TenantId, RunId),
    /// The transfer has a new revision.
    Transfer(TenantId, TransferId),
    /// A tenant may have work.
    Work,
    /// A task may be due.
    Tasks,
    /// Anything may have changed: look at everything.
    Everything,
}

/// A client's mark on a mutating request, so that repeating it does nothing twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The RPC's name.
    pub method: &'static str,
    /// Unique per (tenant, method), up to 100 characters.
    pub request_id: String,
    /// SHA-256 of the request.
    pub payload_hash: [u8; 32],
}

/// A page asked for: keyset, never offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<K = Uuid> {
    /// 1 to [`super::PAGE_MAX`].
    pub size: u32,
    /// The last key of the page before.
    pub after: Option<K>,
}

impl<K> Page<K> {
    /// One row more than the page holds, to see whether there is a next one.
    pub(in crate::store) fn limit(&self) -> i64 {
        i64::from(self.size.clamp(1, super::PAGE_MAX)) + 1
    }

    /// The page of what was read with [`Page::limit`].
    pub(in crate::store) fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Paged<T, K> {
        let size = self.size.clamp(1, super::PAGE_MAX) as usize;
        let more = items.len() > size;
        items.truncate(size);
        let next = if more { items.last().map(key) } else { None };
        Paged { items, next }
    }
}

/// A page given.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T, K = Uuid> {
    /// At most `size` items.
    pub items: Vec<T>,
    /// The last key, if there is more.
    pub next: Option<K>,
}

/// A run to be created.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// What it does.
    pub settings: RunSettings,
    /// Its first jobs.
    pub jobs: Vec<NewJob>,
    /// Start at once.
    pub start: bool,
    /// No more jobs will come.
    pub seal: bool,
    /// The run whose jobs these retry.
    pub parent: Option<RunId>,
}

/// A run that was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCreated {
    /// The run.
    pub run: RunView,
    /// In the order of the jobs given.
    pub jobs: Vec<JobAdded>,
}

/// New values for some of a run's settings.
#[derive(Debug, Clone)]
pub struct RunPatch {
    /// Holds the new values.
    pub settings: RunSettings,
    /// Which of them to take.
    pub fields: Vec<RunField>,
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// What the client decided.
    pub settings: RunSettings,
    /// State and counts.
    pub progress: Progress,
    /// Whether all jobs are in.
    pub sealed: bool,
    /// The run whose jobs these retry.
    pub parent: Option<RunId>,
    /// Why it paused itself or failed.
    pub last_error: Option<String>,
    /// Grows by one with every commit.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its first job was claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its queued jobs expire.
    pub expires_at: Timestamp,
    /// Who last claimed for it.
    pub worker: Option<WorkerView>,
    /// How far its filling got, if it is made of leads.
    #[serde(default)]
    pub population: Option<PopulationView>,
    /// Its carrier account's circuit breaker, as it was when the run was read; none if that is
    /// closed, or the run has ended.
    pub breaker: Option<OpenBreaker>,
}

/// How far the filling of a run got that is made of leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopulationView {
    /// Whether no more jobs come of it.
    pub done: bool,
    /// Jobs added.
    pub added: u64,
    /// Leads that had a job already.
    pub duplicates: u64,
    /// Of those added: skipped, because the phone is suppressed.
    pub suppressed: u64,
    /// What it waits for, or why it ended early.
    pub last_error: Option<String>,
}

/// The worker that last claimed for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// When it was last heard of.
    pub heartbeat_at: Timestamp,
    /// When it counts as dead unless heard of again.
    pub expires_at: Timestamp,
}

/// Whom a new job calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// A lead of the tenant.
    Lead(LeadId),
    /// A person; becomes a lead unless the phone has one.
    Person(LeadFacts),
}

/// A job to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Whom to call.
    pub who: Who,
    /// 0 to 9.
    pub priority: u8,
    /// Not before.
    pub eligible_at: Option<Timestamp>,
    /// What the client attaches.
    pub metadata: Option<Map<String, Value>>,
}

/// What became of a job to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobAdded {
    /// It is new, or (`duplicate`) the run had one for this lead.
    Job {
        /// Its id.
        job_id: JobId,
        /// Its lead.
        lead_id: LeadId,
        /// Whether it was there before.
        duplicate: bool,
        /// Whether it is new and skipped already, because its phone is suppressed.
        #[serde(default)]
        suppressed: bool,
    },
    /// The tenant has no such lead, or another reason.
    Rejected {
        /// Which field.
        field: String,
        /// Why.
        reason: String,
    },
}

impl From<Violation> for JobAdded {
    fn from(violation: Violation) -> Self {
        Self::Rejected { field: violation.field, reason: violation.reason }
    }
}

/// One step of an import.
#[derive(Debug, Clone, Copy)]
pub struct ImportStep<'a> {
    /// The client's name for the import.
    pub import_id: &'a str,
    /// Items of the import before this batch.
    pub offset: u64,
    /// Items in this batch, rejected ones included.
    pub taken: u64,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Its lead.
    pub lead_id: LeadId,
    /// Where it stands.
    pub state: JobState,
    /// The number of its last attempt.
    pub attempt: u32,
    /// How many count against the policy.
    pub attempts_used: u32,
    /// How the last came out.
    pub outcome: Option<Outcome>,
    /// Not before.
    pub eligible_at: Timestamp,
    /// 0 to 9.
    pub priority: u8,
    /// What the client attached.
    pub metadata: Option<Map<String, Value>>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// What became of jobs to be canceled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobsCanceled {
    /// Canceled now or before.
    pub canceled: Vec<JobId>,
    /// In flight, or ended otherwise.
    pub unchanged: Vec<JobId>,
    /// Not jobs of the run.
    pub unknown: Vec<JobId>,
}

/// Whose calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallsOf {
    /// A run's.
    Run(RunId),
    /// A job's.
    Job(JobId),
}

/// A call as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView {
    /// Its id.
    pub id: CallId,
    /// Which way it goes.
    pub direction: Direction,
    /// Its run, if it has one.
    pub run_id: Option<RunId>,
    /// Its job, if it has one.
    pub job_id: Option<JobId>,
    /// The transfer that it was made for, if any.
    pub transfer_id: Option<TransferId>,
    /// Which attempt at the job.
    pub attempt: u32,
    /// What is known of it.
    pub call: Call,
    /// The number shown.
    pub from: Phone,
    /// The number dialed.
    pub to: Phone,
    /// When the intent was committed.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A run's live calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InFlight {
    /// Committed to be sent, and not known to have been.
    pub intent: u32,
    /// Sent, the answer lost.
    pub unknown: u32,
    /// Accepted, not answered.
    pub ringing: u32,
    /// Answered.
    pub answered: u32,
}
