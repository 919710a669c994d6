//! Where everything durable lives. [`Store`] is a trait of use cases: one method, one transaction.
//!
//! The use cases are written once, in `usecases`, over SQL that both databases understand; `sqlite`
//! and `postgres` supply connections, locks and dialect (ADR 2). Database time is the only clock
//! here.

pub mod access;
pub mod admin;
pub mod audience;
pub mod book;
mod call_row;
mod database;
pub mod dispatch;
pub mod engine;
pub mod error;
pub mod group;
pub mod hook;
mod job_row;
pub mod lead;
mod lead_row;
pub mod maintain;
pub mod model;
mod outbox;
mod postgres;
mod run_row;
pub mod seal;
mod sql;
mod sqlite;
pub mod suppression;
pub mod task;
pub mod transfer;
mod transfer_row;
mod usecases;
mod wake;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

pub use access::*;
pub use admin::Admin;
pub use audience::Audience;
pub use book::AccountBook;
pub use dispatch::*;
pub use engine::Engine;
pub use error::{Error, Result};
pub use group::Recorder;
pub use hook::*;
pub use lead::*;
pub use maintain::*;
pub use model::*;
pub use seal::Keyring;
pub use suppression::*;
pub use task::*;
pub use transfer::*;

use crate::domain::call::News;
use crate::domain::event::Commit;
use crate::domain::lead::LeadFacts;
use crate::domain::run::{Command, RunState};
use crate::domain::task::{Lane, TaskState};
use crate::domain::tenant::Tenant;
use crate::domain::unknown::{Candidate, Verdict};
use crate::domain::{
    AccountSid, CallId, CallSid, JobId, LeadId, RunId, TaskId, TenantId, Timestamp, WorkerId,
};
use crate::metrics::Census;

/// The most items in one batch: jobs added, leads created, news applied, jobs ended by a sweep.
pub const BATCH_MAX: usize = 1_000;
/// The largest page.
pub const PAGE_MAX: u32 = 1_000;

/// The use cases. Every method that names a tenant sees and touches that tenant's rows only; what
/// belongs to another is [`Error::NotFound`].
#[async_trait]
pub trait Store: Admin + Audience + Hooks + Transfers {
    /// The same store on behalf of `actor`, whom the audit log names for each change.
    fn acting(&self, actor: Actor) -> Arc<dyn Store>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<()>;

    /// Who to tell when something changed: runs that got a revision, tenants that have work.
    fn wakes(&self) -> broadcast::Receiver<Wake>;

    /// Identifies this log; changes when a log can no longer be trusted to continue.
    fn epoch(&self) -> &str;

    // ── Tenants and keys
    // ────────────────────────────────────────────────────────────────────────────

    /// Creates or replaces a carrier account's pace. False if an administrator changed the account:
    /// it stays.
    async fn put_account(&self, account: &AccountSid, calls_per_second: f64) -> Result<bool>;
    /// Creates a tenant or replaces its settings. False if an administrator changed the tenant: it
    /// stays.
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool>;
    /// The tenant's settings.
    async fn tenant(&self, tenant: &TenantId) -> Result<Tenant>;
    /// Keeps a key; only the hash of its secret.
    async fn put_key(&self, key: &ApiKey) -> Result<()>;
    /// The key of this id, whoever's it is: the one look-up before the tenant is known.
    async fn key(&self, key_id: &str) -> Result<Option<KnownKey>>;

    // ── Runs
    // ────────────────────────────────────────────────────────────────────────────────────────

    /// Creates a run with its first jobs (at most [`BATCH_MAX`]). [`Error::QueueFull`] if the
    /// tenant may not have so many queued; so does everything that adds jobs.
    async fn create_run(
        &self,
        tenant: &TenantId,
        new: NewRun,
        key: Option<RequestKey>,
    ) -> Result<RunCreated>;
    /// Changes settings of a run that has not ended.
    async fn update_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        patch: RunPatch,
        key: Option<RequestKey>,
    ) -> Result<RunView>;
    /// Starts, pauses, resumes, cancels, stops or seals a run.
    async fn command_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        command: Command,
        key: Option<RequestKey>,
    ) -> Result<RunView>;
    /// The run, with its revision, from one statement. An ended run's revision never moves again.
    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<RunView>;
    /// Newest first. Empty `states` means all.
    async fn list_runs(
        &self,
        tenant: &TenantId,
        states: &[RunState],
        page: Page,
    ) -> Result<Paged<RunView>>;
    /// Live calls of the run.
    async fn in_flight(&self, tenant: &TenantId, run: RunId) -> Result<InFlight>;

    // ── Jobs and calls
    // ──────────────────────────────────────────────────────────────────────────────

    /// Adds up to [`BATCH_MAX`] jobs; the answer is in the order of `jobs`.
    async fn add_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<NewJob>,
        key: Option<RequestKey>,
    ) -> Result<Vec<JobAdded>>;
    /// How far the import got; 0 if it is new. [`Error::Closed`] if it is new and the run takes no
    /// jobs.
    async fn import_offset(&self, tenant: &TenantId, run: RunId, import_id: &str) -> Result<u64>;
    /// Adds a batch of an import and moves its offset to `offset + taken`, in one transaction.
    /// `taken` counts the items of the batch that `jobs` does not hold because they were rejected
    /// before, too.
    async fn import_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        step: ImportStep<'_>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<JobAdded>>;
    /// In order of creation. Empty `states` means all.
    async fn list_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        states: &[crate::domain::job::JobState],
        page: Page,
    ) -> Result<Paged<JobView>>;
    /// The job.
    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<JobView>;
    /// Cancels queued jobs of a run; at most [`BATCH_MAX`].
    async fn cancel_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<JobId>,
        key: Option<RequestKey>,
    ) -> Result<JobsCanceled>;
    /// Oldest first.
    async fn list_calls(
        &self,
        tenant: &TenantId,
        of: CallsOf,
        page: Page,
    ) -> Result<Paged<CallView>>;
    /// The call.
    async fn call(&self, tenant: &TenantId, call: CallId) -> Result<CallView>;
    /// The call that the carrier names so.
    async fn call_by_sid(&self, tenant: &TenantId, sid: &CallSid) -> Result<CallView>;

    // ── Maintenance
    // ─────────────────────────────────────────────────────────────────────────────────

    /// Holds runs of the tenant (at most [`RECONCILE_RUNS_MAX`]; none named: all that have not
    /// ended) against their jobs and calls, and puts right what differs, each run in transactions
    /// of its own. [`Error::TooSoon`] within [`MAINTENANCE_INTERVAL`], whichever process did it
    /// last.
    async fn reconcile_runs(&self, tenant: &TenantId, runs: &[RunId]) -> Result<Reconciled>;
    /// Ends what is proven stale of the tenant, in transactions of one page each. Limited like
    /// [`Store::reconcile_runs`], on its own.
    async fn cleanup_stale_calls(&self, tenant: &TenantId) -> Result<CleanedUp>;
    /// Makes a draft for jobs of an ended run, without jobs as yet: they come with
    /// [`Store::fill_retry`].
    async fn begin_retry(
        &self,
        tenant: &TenantId,
        retry: NewRetry,
        key: Option<RequestKey>,
    ) -> Result<RunId>;
    /// Adds the next page of jobs to a run made by [`Store::begin_retry`]; with the last, seals it
    /// and starts it if that was asked for. Does nothing to a run whose jobs are all in.
    async fn fill_retry(&self, tenant: &TenantId, run: RunId) -> Result<RetryFilled>;
    /// Why the job is where it is.
    async fn explain_job(&self, tenant: &TenantId, job: JobId) -> Result<JobExplained>;

    // ── Leads
    // ───────────────────────────────────────────────────────────────────────────────────────

    /// Creates up to [`BATCH_MAX`] leads; one that has the phone already is returned as it is. The
    /// answer is in the order of `leads`.
    async fn create_leads(
        &self,
        tenant: &TenantId,
        leads: Vec<LeadFacts>,
        key: Option<RequestKey>,
    ) -> Result<Vec<LeadCreated>>;
    /// The lead.
    async fn lead(&self, tenant: &TenantId, lead: LeadId) -> Result<LeadView>;
    /// In order of creation. A page of a filtered list may be short, even empty, and have a next
    /// one.
    async fn list_leads(
        &self,
        tenant: &TenantId,
        filter: &LeadFilter,
        page: Page,
    ) -> Result<Paged<LeadView>>;
    /// Changes a lead. [`Error::Changed`] if it is not as the client saw it.
    async fn update_lead(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        patch: LeadPatch,
        key: Option<RequestKey>,
    ) -> Result<LeadView>;
    /// Deletes a lead and erases what is personal about it from jobs and calls; its queued jobs are
    /// skipped.
    async fn delete_lead(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        seen: Option<i64>,
        key: Option<RequestKey>,
    ) -> Result<LeadErased>;
    /// The lead's history, oldest first.
    async fn lead_events(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        page: Page,
    ) -> Result<Paged<LeadEventView>>;
    /// How far an import of leads got; nowhere if it is new.
    async fn lead_import_stand(&self, tenant: &TenantId, import_id: &str) -> Result<ImportStand>;
    /// Stores a batch of an import of leads (at most [`BATCH_MAX`]) and moves the import on by
    /// `taken`, in one transaction. A phone that has a lead adds to it. The answer is in the order
    /// of `leads`.
    async fn import_leads(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        leads: Vec<LeadFacts>,
    ) -> Result<(Vec<LeadImported>, ImportStand)>;
    /// Creates the lead of a call's other side, or brings the call to it. May be repeated.
    async fn lead_from_call(&self, tenant: &TenantId, sid: &CallSid) -> Result<LeadCreated>;

    // ── Calls to us
    // ─────────────────────────────────────────────────────────────────────────────────

    /// The tenant whose caller id `number` is, if it is one's alone.
    async fn tenant_of_number(
        &self,
        account: &AccountSid,
        number: &crate::domain::Phone,
    ) -> Result<Option<TenantId>>;
    /// Records an inbound call, or news of it.
    async fn record_inbound(
        &self,
        tenant: &TenantId,
        call: &InboundCall,
        news: News,
    ) -> Result<(CallId, Applied)>;

    // ── Tasks
    // ───────────────────────────────────────────────────────────────────────────────────────

    /// Takes up to `limit` due tasks of a lane, of all tenants. Nobody else is given them for as
    /// long as the claim `holds`.
    async fn claim_tasks(
        &self,
        worker: &WorkerId,
        lane: Lane,
        limit: u32,
        holds: std::time::Duration,
    ) -> Result<TasksClaimed>;
    /// Puts a task that failed off, or gives it up. `draw` is uniform in 0.0..1.0.
    async fn fail_task(&self, task: &Task, error: &str, draw: f64) -> Result<TaskFate>;
    /// In order of creation. Empty `states` means all.
    async fn list_tasks(
        &self,
        tenant: &TenantId,
        states: &[TaskState],
        page: Page,
    ) -> Result<Paged<TaskView>>;
    /// Has a task that was given up done after all; nothing to one that is queued.
    async fn retry_task(&self, tenant: &TenantId, task: TaskId) -> Result<()>;
    /// Does a [`LeadsFromCalls`](crate::domain::task::TaskKind::LeadsFromCalls) task and takes it
    /// off the table.
    async fn leads_from_calls(&self, task: &Task) -> Result<()>;
    /// Does an [`EraseLead`](crate::domain::task::TaskKind::EraseLead) task and takes it off the
    /// table.
    async fn erase_lead_again(&self, task: &Task) -> Result<()>;
    /// Does a [`Reschedule`](crate::domain::task::TaskKind::Reschedule) task: one page.
    async fn reschedule(&self, task: &Task) -> Result<()>;

    /// Takes a task that was done off the table, or has it done `again` after this long.
    async fn finish_task(&self, task: &Task, again: Option<std::time::Duration>) -> Result<()>;

    // ── Progress
    // ────────────────────────────────────────────────────────────────────────────────────

    /// Up to `limit` commits after `revision`, in order, and how far the log reaches.
    async fn commits_after(
        &self,
        tenant: &TenantId,
        run: RunId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage>;

    // ── Dispatch
    // ────────────────────────────────────────────────────────────────────────────────────

    /// Says that the worker lives.
    async fn heartbeat(&self, worker: &WorkerId, lives_for: std::time::Duration) -> Result<()>;
    /// Picks the tenant that has waited longest and commits intents for what it may dial now.
    async fn claim(&self, worker: &WorkerId, limits: ClaimLimits) -> Result<Claim>;
    /// Opens the account's circuit breaker: claims through it take nothing for this long, then one
    /// probe at a time.
    async fn open_breaker(&self, account: &AccountSid, open_for: std::time::Duration)
    -> Result<()>;
    /// Closes the account's circuit breaker.
    async fn close_breaker(&self, account: &AccountSid) -> Result<()>;
    /// Applies up to [`BATCH_MAX`] pieces of news of one tenant's calls in one transaction; the
    /// answer is in the order of `news`. News of one call is applied in the order given.
    async fn apply(&self, tenant: &TenantId, news: &[(CallId, News)]) -> Result<Vec<Applied>>;
    /// Ends a page of queued jobs of runs that were called off or expired, settles runs that are
    /// done, and recomputes when tenants have work. Returns whether there is more to do at once.
    async fn sweep(&self) -> Result<bool>;
    /// Deletes a page of the logs of runs and transfers that ended longer ago than `keep`, from
    /// their beginning on. Returns how many commits were deleted.
    async fn trim_logs(&self, keep: std::time::Duration) -> Result<u64>;
    /// Live calls of which news is overdue, and calls whose creation went unanswered; each comes
    /// again after [`LOOKUP_INTERVAL`](crate::domain::call::LOOKUP_INTERVAL) unless something is
    /// learned of it before.
    async fn take_due_calls(&self, limit: u32) -> Result<Vec<DueCall>>;
    /// Resolves an unknown call by a *successful* look-up of the account's calls between its two
    /// numbers; `found` are all outbound API calls of the list that may be it, whether they are in
    /// our rows or not.
    async fn resolve_unknown(&self, due: &DueCall, found: Vec<Candidate>) -> Result<Verdict>;
    /// Calls to hang up, with a SID: live ones of runs that are stopping, and orphans. They are
    /// marked as asked for, and come again if nothing comes of it.
    async fn take_hangups(&self, limit: u32) -> Result<Vec<Hangup>>;
    /// Intents of workers whose life has expired, or older than `older_than`, become unknown.
    /// Returns how many.
    async fn lose_abandoned_intents(&self, older_than: std::time::Duration) -> Result<u64>;
    /// Unknown calls older than `older_than` are presumed failed. Returns how many.
    async fn presume_stale(&self, older_than: std::time::Duration) -> Result<u64>;
    /// How much there is, of all tenants, for the metrics.
    async fn census(&self) -> Result<Census>;
    /// Database time.
    async fn now(&self) -> Result<Timestamp>;
}

/// A page of a log: a run's, or a transfer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage<C = Commit> {
    /// In order, without gaps.
    pub commits: Vec<C>,
    /// The revision of what the log is of, at the moment of reading.
    pub latest: i64,
    /// The oldest revision still in the log.
    pub oldest: i64,
    /// Whether that has ended, so that `latest` is its last revision.
    pub ended: bool,
}
