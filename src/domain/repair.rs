//! A run held against its jobs and calls: what differs, and what puts it right.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::call::{Call, NOT_SENT, News, STALE_NO_CALL_SID, WITHDRAWN};
use super::job::{self, Context, Job, JobState};
use super::run::{self, JobCounts, OutcomeCounts, RunState};

super::state_words! {
    /// What was put right.
    pub enum RepairKind {
        /// Counters of jobs by state differed from the jobs.
        Counts = "counts",
        /// Counters of jobs by outcome differed from the jobs.
        Outcomes = "outcomes",
        /// Jobs in flight whose call had ended were moved on by how it ended.
        CallEnded = "call_ended",
        /// Jobs in flight without any call went back to the queue.
        CallMissing = "call_missing",
        /// Queued jobs were missing in the queue.
        QueueMissing = "queue_missing",
        /// The queue held jobs that are not queued, or not so.
        QueueStray = "queue_stray",
        /// What claims are told of the queue hid jobs from them.
        Hints = "hints",
        /// The run was over and had not ended.
        Settled = "settled",
    }
}

/// Something that is, or was, put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What.
    pub kind: RepairKind,
    /// How many: jobs, queue entries, or counters.
    pub count: u32,
}

/// What a run's row says.
#[derive(Debug, Clone)]
pub struct Recorded<'a> {
    /// Where it stands.
    pub state: RunState,
    /// Whether all jobs are in.
    pub sealed: bool,
    /// Its jobs by state.
    pub counts: &'a JobCounts,
    /// Its ended jobs by outcome.
    pub outcomes: &'a OutcomeCounts,
    /// Claims find no job eligible before.
    pub claimable_at: Timestamp,
    /// Claims look for these priorities only: bit p.
    pub job_priorities: i64,
    /// When its queued jobs expire.
    pub expires_at: Timestamp,
}

/// What its jobs, their calls and the queue say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its jobs by state.
    pub counts: JobCounts,
    /// Its ended jobs by outcome.
    pub outcomes: OutcomeCounts,
    /// Jobs in flight whose call has ended.
    pub call_ended: u32,
    /// Jobs in flight without a call.
    pub call_missing: u32,
    /// Queued jobs that the queue does not hold.
    pub queue_missing: u32,
    /// Entries of the queue that stand for no queued job.
    pub queue_stray: u32,
    /// When the first job of the queue is eligible.
    pub first_eligible_at: Timestamp,
    /// Bit p: the queue holds a job of priority p.
    pub priorities: i64,
}

impl Default for Facts {
    /// Of a run without jobs.
    fn default() -> Self {
        Self {
            counts: JobCounts::default(),
            outcomes: OutcomeCounts::default(),
            call_ended: 0,
            call_missing: 0,
            queue_missing: 0,
            queue_stray: 0,
            first_eligible_at: Timestamp::NEVER,
            priorities: 0,
        }
    }
}

/// Everything that does not fit. An ended run fits: its log has had its last event.
///
/// A run whose jobs have yet to be moved is not settled here; it is once they have been.
pub fn diagnose(recorded: &Recorded<'_>, facts: &Facts, now: Timestamp) -> Vec<Repair> {
    if recorded.state.is_ended() {
        return Vec::new();
    }
    let differing = |kind: &JobState| {
        let (mut recorded, mut counted) = (*recorded.counts, facts.counts);
        *recorded.of_mut(*kind) != *counted.of_mut(*kind)
    };
    let outcomes = job::Outcome::ALL.iter().filter(|outcome| {
        let of = |counts: &OutcomeCounts| counts.0.get(outcome).copied().unwrap_or(0);
        of(recorded.outcomes) != of(&facts.outcomes)
    });
    let late = facts.first_eligible_at < recorded.claimable_at;
    let unseen = (facts.priorities & !recorded.job_priorities).count_ones();
    let over =
        run::settle(recorded.state, recorded.sealed, &facts.counts, recorded.expires_at, now);
    let found = [
        (RepairKind::Counts, number(JobState::ALL.iter().filter(|state| differing(state)))),
        (RepairKind::Outcomes, number(outcomes)),
        (RepairKind::QueueStray, facts.queue_stray),
        (RepairKind::QueueMissing, facts.queue_missing),
        (RepairKind::CallEnded, facts.call_ended),
        (RepairKind::CallMissing, facts.call_missing),
        (RepairKind::Hints, u32::from(late) + unseen),
        (RepairKind::Settled, u32::from(over.is_some())),
    ];
    let some = found.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(kind, count)| Repair { kind, count }).collect()
}

fn number<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Where a job in flight goes that has no live call: on by how its call ended, or, without any
/// call, back to the queue: an intent is committed with its job's move and never deleted, so
/// nothing was ever sent.
pub fn without_live_call(job: &Job, call: Option<&Call>, context: Context<'_>) -> Option<Job> {
    match call {
        Some(call) => job::after_call(job, job.attempt, call, &told(call), context),
        None if matches!(job.state, JobState::Dialing | JobState::InCall) => {
            Some(job::put_back(job, context))
        }
        None => None,
    }
}

/// The news that an ended call's row stands for, as far as [`job::after_call`] reads it. Of a
/// refusal only the code is kept, not the class: it counts as a failed attempt.
fn told(call: &Call) -> News {
    let message = call.error_message.clone().unwrap_or_default();
    match call.error_code.as_deref() {
        Some(NOT_SENT) => News::NotSent { code: NOT_SENT, message },
        Some(WITHDRAWN) => News::NotSent { code: WITHDRAWN, message },
        _ => News::Presumed { code: STALE_NO_CALL_SID, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::CallState;
    use crate::domain::job::Outcome;
    use crate::domain::retry::RetryPolicy;

    const LATER: Timestamp = Timestamp::from_secs(1_000_000);

    fn outcomes(of: &[(Outcome, i64)]) -> OutcomeCounts {
        OutcomeCounts(of.iter().copied().collect())
    }

    fn recorded<'a>(counts: &'a JobCounts, outcomes: &'a OutcomeCounts) -> Recorded<'a> {
        Recorded {
            state: RunState::Running,
            sealed: true,
            counts,
            outcomes,
            claimable_at: Timestamp(5),
            job_priorities: 1 << 5,
            expires_at: LATER,
        }
    }

    #[test]
    fn what_fits_needs_nothing() {
        let (counts, none) =
            (JobCounts { queued: 2, ..JobCounts::default() }, OutcomeCounts::default());
        let facts = Facts {
            counts,
            first_eligible_at: Timestamp(5),
            priorities: 1 << 5,
            // A counter of zero says the same as none.
            outcomes: outcomes(&[(Outcome::Busy, 0)]),
            ..Facts::default()
        };
        assert_eq!(diagnose(&recorded(&counts, &none), &facts, Timestamp(0)), []);
        // Hints that are too early cost a claim and hide nothing.
        let early = Recorded {
            claimable_at: Timestamp(1),
            job_priorities: 1023,
            ..recorded(&counts, &none)
        };
        assert_eq!(diagnose(&early, &facts, Timestamp(0)), []);
    }

    #[test]
    fn every_difference_is_named_and_counted() {
        let counts = JobCounts { queued: 2, ..JobCounts::default() };
        let known = outcomes(&[(Outcome::Busy, 1)]);
        let facts = Facts {
            counts: JobCounts { queued: 1, failed: 1, ..JobCounts::default() },
            outcomes: outcomes(&[(Outcome::Failed, 1)]),
            call_ended: 3,
            call_missing: 4,
            queue_missing: 5,
            queue_stray: 6,
            first_eligible_at: Timestamp(4),
            priorities: 0b11,
        };
        let found = diagnose(&recorded(&counts, &known), &facts, Timestamp(0));
        let found: Vec<_> =
            found.iter().map(|repair| (repair.kind.as_str(), repair.count)).collect();
        let all = [
            ("counts", 2),
            ("outcomes", 2),
            ("queue_stray", 6),
            ("queue_missing", 5),
            ("call_ended", 3),
            ("call_missing", 4),
            ("hints", 3),
        ];
        assert_eq!(found, all);
    }

    #[test]
    fn a_run_that_is_over_is_settled_and_an_ended_one_is_left_alone() {
        let counts = JobCounts { completed: 1, ..JobCounts::default() };
        let known = outcomes(&[(Outcome::Answered, 1)]);
        let facts = Facts { counts, outcomes: known.clone(), ..Facts::default() };
        let found = diagnose(&recorded(&counts, &known), &facts, Timestamp(0));
        assert_eq!(found, [Repair { kind: RepairKind::Settled, count: 1 }]);
        let (wrong, ended) = (JobCounts::default(), RunState::Completed);
        let ended = Recorded { state: ended, ..recorded(&wrong, &known) };
        assert_eq!(diagnose(&ended, &facts, Timestamp(0)), []);
    }

    #[test]
    fn jobs_go_where_their_call_went_or_back_for_nothing() {
        let retry = RetryPolicy::default();
        let context = |run| Context {
            run,
            expires_at: LATER,
            retry: &retry,
            amd: None,
            now: Timestamp(0),
            draw: 0.5,
        };
        let job = Job {
            state: JobState::Dialing,
            attempt: 1,
            attempts_used: 0,
            eligible_at: Timestamp(0),
            outcome: None,
        };
        let end =
            |call: Call| without_live_call(&job, Some(&call), context(RunState::Running)).unwrap();
        let busy = end(Call { state: CallState::Busy, ..Call::intent() });
        assert_eq!(
            (busy.state, busy.outcome, busy.attempts_used),
            (JobState::Failed, Some(Outcome::Busy), 1)
        );
        let failed = |code: &str, presumed| Call {
            state: CallState::Failed,
            error_code: Some(code.to_owned()),
            presumed,
            ..Call::intent()
        };
        for code in [NOT_SENT, WITHDRAWN] {
            let back = end(failed(code, false));
            assert_eq!((back.state, back.attempts_used), (JobState::Queued, 0), "{code}");
        }
        assert_eq!(end(failed(STALE_NO_CALL_SID, true)).outcome, Some(Outcome::Unknown));
        assert_eq!(end(failed("21211", false)).outcome, Some(Outcome::Failed));
        let lost = without_live_call(&job, None, context(RunState::Running)).unwrap();
        assert_eq!((lost.state, lost.attempts_used, lost.attempt), (JobState::Queued, 0, 1));
        let off = without_live_call(&job, None, context(RunState::Stopping)).unwrap();
        assert_eq!(off.state, JobState::Canceled);
        for &state in
            JobState::ALL.iter().filter(|state| state.is_ended() || **state == JobState::Queued)
        {
            let other = Job { state, ..job };
            assert_eq!(
                without_live_call(&other, None, context(RunState::Running)),
                None,
                "{state:?}"
            );
        }
    }
}
