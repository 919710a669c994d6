//! The last word on runs that ended: what the store says, call by call, against what the carrier
//! saw.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use trunkline::cli::client::Queue;
use trunkline::domain::call::{CarrierStatus, NOT_SENT, STALE_NO_CALL_SID, WITHDRAWN};
use trunkline::grpc::pb::{CallState, JobCounts, JobState};
use trunkline::simulator::Entry;

use crate::system::world::{Carrier, by_call_id, counts, ended_within, list_calls, list_jobs};

/// What the tenant is allowed.
pub struct Caps {
    pub concurrent: usize,
    /// None where locks and broken connections hold claims up: what they claimed is then sent late,
    /// and bunched with what was claimed after them.
    pub per_second: Option<f64>,
    /// How much earlier than its turn a create may arrive.
    pub tolerance: Duration,
}

/// Waits until every run has ended, then holds every job and call against the ledger. Returns how
/// many creates were accepted.
pub async fn judge(
    queue: &Queue,
    carrier: &Carrier,
    runs: &[String],
    caps: &Caps,
    patience: Duration,
) -> usize {
    let mut calls = Vec::new();
    for run_id in runs {
        let run = ended_within(queue, run_id, patience).await;
        let jobs = list_jobs(queue, run_id).await;
        let of_run = list_calls(queue, run_id).await;
        let mut found = JobCounts { total: jobs.len() as i64, ..JobCounts::default() };
        for job in jobs {
            match job.state() {
                JobState::Completed => found.completed += 1,
                JobState::Failed => found.failed += 1,
                JobState::Canceled => found.canceled += 1,
                state => panic!("job {} of an ended run is {state:?}", job.job_id),
            }
            let used = of_run
                .iter()
                .filter(|call| call.job_id == job.job_id && !was_put_back(&call.error_code));
            assert_eq!(used.count(), job.attempts_used as usize, "job {}", job.job_id);
        }
        assert_eq!(counts(&run), found, "run {run_id}");
        calls.extend(of_run);
    }
    carrier.settled().await;
    let ledger = carrier.simulator.ledger();
    // At most one create carries one call's id, and a call is one attempt of a job.
    let mut creates: HashMap<String, Entry> = by_call_id(ledger.entries.clone());
    let attempts: HashSet<_> = calls.iter().map(|call| (&call.job_id, call.attempt)).collect();
    assert_eq!(attempts.len(), calls.len(), "an attempt with two calls");
    for call in &calls {
        let what = format!("call {} of attempt {}", call.call_id, call.attempt);
        match creates.remove(&call.call_id) {
            Some(entry) => {
                assert_eq!(
                    (call.call_sid.as_str(), call.to.as_str()),
                    (entry.sid.as_str(), entry.to.expose())
                );
                assert_eq!(call.state(), ending(entry.status), "{what}");
            }
            None => {
                assert_eq!(
                    (call.state(), call.call_sid.as_str()),
                    (CallState::Failed, ""),
                    "{what}"
                );
                let code = call.error_code.as_str();
                assert!(code == STALE_NO_CALL_SID || was_put_back(code), "{what}: {code}");
            }
        }
    }
    assert!(creates.is_empty(), "creates without an intent: {:?}", creates.keys());
    assert!(
        ledger.peak_concurrency() <= caps.concurrent,
        "{} live calls",
        ledger.peak_concurrency()
    );
    if let Some(per_second) = caps.per_second {
        assert_eq!(ledger.pace_violations(per_second, caps.tolerance), []);
    }
    ledger.entries.len()
}

/// Whether the call used no attempt.
fn was_put_back(error_code: &str) -> bool {
    matches!(error_code, NOT_SENT | WITHDRAWN)
}

fn ending(status: CarrierStatus) -> CallState {
    match status {
        CarrierStatus::Completed => CallState::Completed,
        CarrierStatus::Busy => CallState::Busy,
        CarrierStatus::NoAnswer => CallState::NoAnswer,
        CarrierStatus::Failed => CallState::Failed,
        CarrierStatus::Canceled => CallState::Canceled,
        CarrierStatus::Queued
        | CarrierStatus::Initiated
        | CarrierStatus::Ringing
        | CarrierStatus::InProgress => panic!("not an ending: {status:?}"),
    }
}
