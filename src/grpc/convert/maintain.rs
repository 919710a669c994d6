//! Repairs and explanations.

use super::{call, enum_pairs, job, run, time};
use crate::domain::explain::Reason;
use crate::domain::repair::{Repair, RepairKind};
use crate::domain::task::TaskState;
use crate::grpc::pb::{self, JobReason, JobReasonKind as Kind};
use crate::store::{CleanedUp, JobExplained, Reconciled, RunRepaired, TaskView};

enum_pairs!(task_state, task_state_of: TaskState => pb::TaskState { Queued, Dead });
enum_pairs!(repair_kind, repair_kind_of: RepairKind => pb::RepairKind {
    Counts, Outcomes, CallEnded, CallMissing, QueueMissing, QueueStray, Hints, Settled,
});

/// What reconciling did, for the wire.
pub(in crate::grpc) fn reconciled(done: Reconciled) -> pb::ReconcileRunsResponse {
    pb::ReconcileRunsResponse {
        repaired_runs: done.repaired.into_iter().map(repaired_run).collect(),
        repaired_count: done.repaired_count,
        unchanged_count: done.unchanged_count,
    }
}

fn repaired_run(run: RunRepaired) -> pb::reconcile_runs_response::RepairedRun {
    let repair = |Repair { kind, count }| pb::Repair { kind: repair_kind(kind), count };
    pb::reconcile_runs_response::RepairedRun {
        run_id: run.id.to_string(),
        old_state: run::state(run.old_state),
        new_state: run::state(run.new_state),
        reasons: run.repairs.into_iter().map(repair).collect(),
        counts_before: Some(run::counts(&run.counts_before)),
        counts_after: Some(run::counts(&run.counts_after)),
    }
}

/// What a clean-up ended, for the wire.
pub(in crate::grpc) const fn cleaned_up(done: CleanedUp) -> pb::CleanupStaleCallsResponse {
    pb::CleanupStaleCallsResponse {
        stale_call_count: done.stale_calls,
        abandoned_intent_count: done.abandoned_intents,
        ended_job_count: done.ended_jobs,
        ended_run_count: done.ended_runs,
    }
}

/// Why a job is where it is, for the wire.
pub(in crate::grpc) fn explained(explained: JobExplained) -> pb::ExplainJobResponse {
    let explanation = explained.explanation;
    let reasons: Vec<JobReason> = explanation.reasons.into_iter().map(reason).collect();
    pb::ExplainJobResponse {
        job: Some(job::write(explained.job)),
        rule: reasons.first().map_or(0, |first| first.kind),
        reasons,
        next_eligible_time: explanation.next_eligible_at.and_then(time::write),
        expire_time: explanation.expires_at.and_then(time::write),
        call_ids: explained.calls.iter().map(ToString::to_string).collect(),
    }
}

fn of(kind: Kind, text: impl Into<String>) -> JobReason {
    JobReason { kind: kind.into(), text: text.into(), ..JobReason::default() }
}

fn reason(reason: Reason) -> JobReason {
    match reason {
        Reason::RunNotStarted => of(Kind::RunNotStarted, "the run is a draft; start it"),
        Reason::RunPaused { last_error } => {
            let why = last_error.map(|error| format!(" ({error})")).unwrap_or_default();
            of(Kind::RunPaused, format!("the run is paused{why}; resume it"))
        }
        Reason::RunStartsLater { at } => JobReason {
            time: time::write(at),
            ..of(Kind::RunStartsLater, "the run has not begun yet")
        },
        Reason::OutsideWindow { opens_at } => JobReason {
            time: time::write(opens_at),
            ..of(Kind::OutsideWindow, "the callee may not be called at this hour")
        },
        Reason::Suppressed { since } => JobReason {
            time: time::write(since),
            ..of(Kind::Suppressed, "the phone is suppressed; it is skipped when its turn comes")
        },
        Reason::FrequencyCap { cap, until } => JobReason {
            limit: cap.max_attempts,
            time: time::write(until),
            ..of(Kind::FrequencyCap, format!("the phone was tried as often as it may be: {cap}"))
        },
        Reason::CarrierFailing(breaker) => {
            let what = if breaker.probing { "the next call probes it" } else { "it is left alone" };
            let text = format!("the carrier fails; {what}");
            JobReason { time: time::write(breaker.until), ..of(Kind::CarrierFailing, text) }
        }
        Reason::WaitingForRetry { at } => JobReason {
            time: time::write(at),
            ..of(Kind::WaitingForRetry, "it waits for its next attempt")
        },
        Reason::PhoneHasLiveCall { call_id } => JobReason {
            call_id: call_id.to_string(),
            ..of(Kind::PhoneHasLiveCall, "another call to the phone is live")
        },
        Reason::RunAtConcurrency { live, limit } => {
            let text = "the run has as many live calls as it may";
            JobReason { count: live, limit, ..of(Kind::RunAtConcurrency, text) }
        }
        Reason::TenantAtConcurrency { live, limit } => {
            let text = "the tenant has as many live calls as it may";
            JobReason { count: live, limit, ..of(Kind::TenantAtConcurrency, text) }
        }
        Reason::Pace { at } => JobReason {
            time: time::write(at),
            ..of(Kind::Pace, "the next call's turn has not come")
        },
        Reason::BehindOthers { ahead } => {
            JobReason { count: ahead, ..of(Kind::BehindOthers, "other jobs of the run come first") }
        }
        Reason::CallInFlight { call_id, state, since } => JobReason {
            call_id: call_id.to_string(),
            call_state: call::state(state),
            time: time::write(since),
            ..of(Kind::CallInFlight, "its call is live")
        },
        Reason::CallUnknown { call_id, empty_lookups, gives_up_at } => JobReason {
            call_id: call_id.to_string(),
            call_state: pb::CallState::Unknown.into(),
            count: empty_lookups,
            time: time::write(gives_up_at),
            ..of(Kind::CallUnknown, "the carrier's answer was lost; the call is being looked for")
        },
        Reason::Ended { outcome, at, error_code } => JobReason {
            outcome: outcome.map_or(0, job::outcome),
            time: time::write(at),
            error_code: error_code.unwrap_or_default(),
            ..of(Kind::Ended, "it has ended")
        },
        Reason::NotYetEligible { at } => JobReason {
            time: time::write(at),
            ..of(Kind::NotYetEligible, "it is not to be dialed yet")
        },
        Reason::RunCalledOff => of(Kind::RunCalledOff, "the run was called off"),
        Reason::RunExpired => of(Kind::RunExpired, "the run has expired"),
        Reason::Ready => of(Kind::Ready, "nothing holds it; the next claim may take it"),
        Reason::NoLiveCall => {
            of(Kind::NoLiveCall, "it has no live call, though it should; reconcile the run")
        }
    }
}

/// A task for the wire.
pub(in crate::grpc) fn task(task: TaskView) -> pb::Task {
    pb::Task {
        task_id: task.id.to_string(),
        kind: task.kind,
        subject: task.subject,
        state: task_state(task.state),
        attempts: task.attempts,
        run_time: time::write(task.run_at),
        last_error: task.last_error.unwrap_or_default(),
        create_time: time::write(task.created_at),
        update_time: time::write(task.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_round_trip() {
        for value in RepairKind::ALL {
            assert_eq!(repair_kind_of(repair_kind(*value)), Some(*value));
            let name = pb::RepairKind::try_from(repair_kind(*value)).unwrap().as_str_name();
            assert!(name.to_lowercase().ends_with(value.as_str()), "{name}");
        }
    }
}
