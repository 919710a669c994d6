//! Gauges: how much there is, counted in the store when somebody asks. All processes of a database
//! tell the same.

use std::time::Duration;

use metrics::gauge;

use super::catalog;
use crate::domain::AccountSid;
use crate::domain::call::CallState;
use crate::domain::run::RunState;
use crate::domain::task::TaskState;

/// The circuit breaker of a carrier account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call at a time tries whether the carrier answers again.
    Probing,
    /// Nothing goes through.
    Open,
}

/// How much there is, of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs that wait to be dialed.
    pub queued_jobs: i64,
    /// Runs that have not ended; a state that is absent has none.
    pub open_runs: Vec<(RunState, i64)>,
    /// Outbound calls that have not ended; the same.
    pub live_calls: Vec<(CallState, i64)>,
    /// Tasks; the same.
    pub tasks: Vec<(TaskState, i64)>,
    /// How long the longest waiting due task has waited.
    pub tasks_late: Duration,
    /// Every carrier account's circuit breaker.
    pub breakers: Vec<(AccountSid, BreakerState)>,
}

/// Sets the gauges.
#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; counts beyond 2^53 do not occur"
)]
pub fn set_totals(totals: &Totals) {
    gauge!(catalog::STORE_UP).set(1);
    gauge!(catalog::QUEUED_JOBS).set(totals.queued_jobs as f64);
    // A state that has none any more must say so.
    for state in RunState::ALL.iter().filter(|state| !state.is_ended()) {
        gauge!(catalog::OPEN_RUNS, "state" => state.as_str()).set(count(&totals.open_runs, *state));
    }
    for state in CallState::ALL.iter().filter(|state| state.is_live()) {
        gauge!(catalog::LIVE_CALLS, "state" => state.as_str())
            .set(count(&totals.live_calls, *state));
    }
    for state in TaskState::ALL {
        gauge!(catalog::TASKS_KEPT, "state" => state.as_str()).set(count(&totals.tasks, *state));
    }
    gauge!(catalog::TASKS_LATE).set(totals.tasks_late.as_secs_f64());
    for (account, state) in &totals.breakers {
        let value = match state {
            BreakerState::Closed => 0,
            BreakerState::Probing => 1,
            BreakerState::Open => 2,
        };
        gauge!(catalog::BREAKER, "account" => account.as_str().to_owned()).set(value);
    }
}

/// The store could not be asked: the gauges keep what they said last.
pub fn store_is_down() {
    gauge!(catalog::STORE_UP).set(0);
}

#[allow(clippy::cast_precision_loss, reason = "as above")]
fn count<S: PartialEq>(counts: &[(S, i64)], state: S) -> f64 {
    counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, n)| *n) as f64
}
