//! What the use cases of maintenance take and give.

use crate::domain::explain::Explanation;
use crate::domain::job::{JobState, Outcome};
use crate::domain::repair::Repair;
use crate::domain::run::{JobCounts, RunState};
use crate::domain::{CallId, RunId};
use crate::store::{JobView, RunPatch, RunView};

/// The most runs that can be named to be reconciled.
pub const RECONCILE_RUNS_MAX: usize = 100;
/// Repaired runs told one by one.
pub const REPAIRED_RUNS_MAX: usize = 1_000;
/// Calls of a job that are told with its explanation.
pub const EXPLAINED_CALLS_MAX: usize = 100;
/// Jobs ahead are counted up to here.
pub const AHEAD_MAX: u32 = 1_000;
/// Between two reconciliations, or two clean-ups, of a tenant.
pub const MAINTENANCE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

/// A run that needed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRepaired {
    /// Which.
    pub id: RunId,
    /// Where it stood.
    pub old_state: RunState,
    /// Where it stands.
    pub new_state: RunState,
    /// What was put right, in the order in which it was done.
    pub repairs: Vec<Repair>,
    /// Its jobs by state as they were counted before.
    pub counts_before: JobCounts,
    /// Its jobs by state now.
    pub counts_after: JobCounts,
}

/// What reconciling did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// The first [`REPAIRED_RUNS_MAX`] runs that needed something.
    pub repaired: Vec<RunRepaired>,
    /// How many needed something.
    pub repaired_count: u32,
    /// How many needed nothing.
    pub unchanged_count: u32,
}

/// What a clean-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CleanedUp {
    /// Unknown calls that were given up.
    pub stale_calls: u32,
    /// Intents that are unknown now.
    pub abandoned_intents: u32,
    /// Queued jobs of runs that expired or were called off.
    pub ended_jobs: u32,
    /// Runs that ended because of it.
    pub ended_runs: u32,
}

/// A retry of an ended run's jobs.
#[derive(Debug, Clone)]
pub struct NewRetry {
    /// The ended run.
    pub parent: RunId,
    /// Only jobs in these final states; empty for failed.
    pub states: Vec<JobState>,
    /// Only jobs with these outcomes; empty for all.
    pub outcomes: Vec<Outcome>,
    /// What is other than in the ended run.
    pub patch: Option<RunPatch>,
    /// Start once all jobs are in.
    pub start: bool,
}

/// How far a retry got.
#[derive(Debug, Clone)]
pub struct RetryFilled {
    /// The new run.
    pub run: RunView,
    /// Whether all its jobs are in.
    pub done: bool,
}

/// Why a job is where it is.
#[derive(Debug, Clone)]
pub struct JobExplained {
    /// The job.
    pub job: JobView,
    /// Why.
    pub explanation: Explanation,
    /// Its last [`EXPLAINED_CALLS_MAX`] calls, oldest first.
    pub calls: Vec<CallId>,
}
