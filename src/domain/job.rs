//! A job: one lead in one run, moved on by what becomes of its calls.

use std::time::Duration;

use super::Timestamp;
use super::amd::{Amd, Intervention};
use super::call::{Call, CallState, News, RejectClass, STALE_NO_CALL_SID};
use super::retry::{RetryOn, RetryPolicy};
use super::run::RunState;

/// Jobs have a priority of 0 to this; bigger goes first.
pub const PRIORITY_MAX: u8 = 9;
/// The priority of a job that names none.
pub const PRIORITY_DEFAULT: u8 = 5;
/// The largest metadata, in bytes of JSON.
pub const METADATA_MAX_BYTES: usize = 4_096;
/// How long a job waits after the carrier put it off or the request was never sent.
pub const DEFER: Duration = Duration::from_secs(5);
/// How long a job waits when its phone has a live call already.
pub const PHONE_BUSY_DEFER: Duration = Duration::from_secs(10);

super::state_words! {
    /// Where a job stands.
    pub enum JobState {
        /// Waiting for a claim.
        Queued = "queued",
        /// Claimed; its call is not answered yet.
        Dialing = "dialing",
        /// Its call is answered.
        InCall = "in_call",
        /// A call was answered and ended.
        Completed = "completed",
        /// No attempt succeeded.
        Failed = "failed",
        /// Called off.
        Canceled = "canceled",
        /// Not dialed, because the lead may not be called.
        Skipped = "skipped",
        /// The run expired first.
        Expired = "expired",
    }
}

impl JobState {
    /// Whether the job is over.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Canceled | Self::Skipped | Self::Expired => true,
            Self::Queued | Self::Dialing | Self::InCall => false,
        }
    }
}

super::state_words! {
    /// How a job, or its last attempt, came out.
    pub enum Outcome {
        /// A person (or nobody asked who) answered, and the call ended.
        Answered = "answered",
        /// A machine answered.
        Machine = "machine",
        /// The line was busy.
        Busy = "busy",
        /// Nobody answered.
        NoAnswer = "no_answer",
        /// The carrier could not complete the call.
        Failed = "failed",
        /// The number cannot be called.
        LeadDead = "lead_dead",
        /// The account may not call the number.
        PolicyBlock = "policy_block",
        /// We never learned what became of the call.
        Unknown = "unknown",
        /// Called off before it was dialed, or hung up by us.
        Canceled = "canceled",
        /// Not dialed before the run expired.
        Expired = "expired",
        /// Not dialed, because the phone is suppressed.
        Suppressed = "suppressed",
    }
}

/// What is known of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Where it stands.
    pub state: JobState,
    /// The number of its last attempt; 0 before the first.
    pub attempt: u32,
    /// How many attempts count against the retry policy.
    pub attempts_used: u32,
    /// Not before; meaningful while queued.
    pub eligible_at: Timestamp,
    /// How the last attempt came out.
    pub outcome: Option<Outcome>,
}

/// The run's side of a decision about one of its jobs.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Where the run stands.
    pub run: RunState,
    /// When its jobs expire.
    pub expires_at: Timestamp,
    /// Its retry policy.
    pub retry: &'a RetryPolicy,
    /// How it treats answering machines.
    pub amd: Option<&'a Amd>,
    /// Database time.
    pub now: Timestamp,
    /// Uniform in 0.0..1.0, for jitter.
    pub draw: f64,
}

/// What a change of its call makes of a job, or none when it stays as it is.
///
/// `attempt` is the call's: news of an older attempt does not move the job.
pub fn after_call(
    job: &Job,
    attempt: u32,
    call: &Call,
    news: &News,
    context: Context<'_>,
) -> Option<Job> {
    if job.state.is_ended() || attempt != job.attempt || job.state == JobState::Queued {
        return None;
    }
    let next = match call.state {
        CallState::Intent | CallState::Unknown | CallState::Submitted | CallState::Ringing => *job,
        CallState::Answered => Job { state: JobState::InCall, ..*job },
        CallState::Completed => completed(job, call, context),
        CallState::Busy => ended(job, Outcome::Busy, Some(RetryOn::Busy), context),
        CallState::NoAnswer => ended(job, Outcome::NoAnswer, Some(RetryOn::NoAnswer), context),
        CallState::Canceled => hung_up(job, context),
        CallState::Failed => failed(job, call, news, context),
    };
    (next != *job).then_some(next)
}

fn completed(job: &Job, call: &Call, context: Context<'_>) -> Job {
    let done = |outcome| Job {
        state: JobState::Completed,
        attempts_used: job.attempts_used + 1,
        outcome: Some(outcome),
        ..*job
    };
    let intervention = context.amd.zip(call.answered_by).and_then(|(amd, by)| amd.intervention(by));
    match intervention {
        None | Some(Intervention::HangUpOrphan | Intervention::HangUpLeg) => {
            done(Outcome::Answered)
        }
        Some(Intervention::LeaveMessage) => done(Outcome::Machine),
        Some(Intervention::HangUpMachine) => {
            ended(job, Outcome::Machine, Some(RetryOn::Machine), context)
        }
    }
}

fn failed(job: &Job, call: &Call, news: &News, context: Context<'_>) -> Job {
    match news {
        News::Rejected { class, .. } => match class {
            RejectClass::LeadDead => ended(job, Outcome::LeadDead, None, context),
            RejectClass::PolicyBlock => ended(job, Outcome::PolicyBlock, None, context),
            RejectClass::Configuration | RejectClass::Defer => put_back(job, context),
            RejectClass::Other => ended(job, Outcome::Failed, Some(RetryOn::Failed), context),
        },
        News::NotSent { .. } => put_back(job, context),
        _ if call.presumed && call.error_code.as_deref() == Some(STALE_NO_CALL_SID) => {
            ended(job, Outcome::Unknown, Some(RetryOn::Unknown), context)
        }
        _ => ended(job, Outcome::Failed, Some(RetryOn::Failed), context),
    }
}

/// The attempt never happened: back to the queue, and it does not count.
pub(super) fn put_back(job: &Job, context: Context<'_>) -> Job {
    match super::run::queued_jobs_end_as(context.run, context.expires_at, context.now) {
        Some(state) => called_off(job, state),
        None => Job { state: JobState::Queued, eligible_at: context.now + DEFER, ..*job },
    }
}

/// A call that we hung up before it was answered: the end, unless the run goes on without us having
/// asked.
fn hung_up(job: &Job, context: Context<'_>) -> Job {
    if context.run.may_dial() {
        ended(job, Outcome::Failed, Some(RetryOn::Failed), context)
    } else {
        called_off(&Job { attempts_used: job.attempts_used + 1, ..*job }, JobState::Canceled)
    }
}

fn ended(job: &Job, outcome: Outcome, retry_on: Option<RetryOn>, context: Context<'_>) -> Job {
    match again(job, retry_on, context) {
        Some(retry) => Job { outcome: Some(outcome), ..retry },
        None => Job {
            state: JobState::Failed,
            attempts_used: job.attempts_used + 1,
            outcome: Some(outcome),
            ..*job
        },
    }
}

/// The job back in the queue for another attempt, if the policy and the run allow one before it
/// expires.
fn again(job: &Job, retry_on: Option<RetryOn>, context: Context<'_>) -> Option<Job> {
    let attempts_used = job.attempts_used + 1;
    let delay = context.retry.delay_after(retry_on?, attempts_used, context.draw)?;
    let eligible_at = context.now + delay;
    (context.run.may_dial() && eligible_at < context.expires_at).then_some(Job {
        state: JobState::Queued,
        attempts_used,
        eligible_at,
        ..*job
    })
}

/// A job that ends without (another) attempt, as `state`: canceled, expired or skipped.
pub fn called_off(job: &Job, state: JobState) -> Job {
    let outcome = if state == JobState::Expired { Outcome::Expired } else { Outcome::Canceled };
    Job { state, outcome: Some(outcome), ..*job }
}

/// A job that ends undialed because its phone is suppressed.
pub const fn suppressed(job: &Job) -> Job {
    Job { state: JobState::Skipped, outcome: Some(Outcome::Suppressed), ..*job }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call;
    use crate::domain::retry::RetryPolicy;

    const DIALING: Job = Job {
        state: JobState::Dialing,
        attempt: 1,
        attempts_used: 0,
        eligible_at: Timestamp(0),
        outcome: None,
    };

    fn context(retry: &RetryPolicy, run: RunState) -> Context<'_> {
        Context {
            run,
            expires_at: Timestamp::from_secs(1_000_000),
            retry,
            amd: None,
            now: Timestamp(0),
            draw: 0.5,
        }
    }

    fn step(job: &Job, news: &News, context: Context<'_>) -> Option<Job> {
        let call = call::decide(&Call::intent(), news, context.now).unwrap().unwrap();
        after_call(job, job.attempt, &call, news, context)
    }

    fn busy() -> News {
        News::Status {
            sid: format!("CA{:032x}", 1).parse().unwrap(),
            status: call::CarrierStatus::Busy,
            sequence: Some(2),
            duration_s: None,
            answered_by: None,
            error_code: None,
        }
    }

    #[test]
    fn busy_is_tried_again_until_the_policy_ends() {
        let twice = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
        let retried = step(&DIALING, &busy(), context(&twice, RunState::Running)).unwrap();
        assert_eq!((retried.state, retried.attempts_used), (JobState::Queued, 1));
        let again = Job { state: JobState::Dialing, attempt: 2, ..retried };
        let ended = step(&again, &busy(), context(&twice, RunState::Running)).unwrap();
        assert_eq!((ended.state, ended.outcome), (JobState::Failed, Some(Outcome::Busy)));
    }

    #[test]
    fn a_run_that_is_called_off_retries_nothing() {
        let many = RetryPolicy { max_attempts: 9, ..RetryPolicy::default() };
        let ended = step(&DIALING, &busy(), context(&many, RunState::Canceling)).unwrap();
        assert_eq!(ended.state, JobState::Failed);
    }

    #[test]
    fn what_was_never_sent_costs_no_attempt() {
        let once = RetryPolicy::default();
        for news in [
            News::NotSent { code: call::NOT_SENT, message: "refused".into() },
            News::Rejected {
                class: RejectClass::Defer,
                code: "20429".into(),
                message: "slow".into(),
            },
        ] {
            let back = step(&DIALING, &news, context(&once, RunState::Running)).unwrap();
            assert_eq!((back.state, back.attempts_used), (JobState::Queued, 0));
            let off = step(&DIALING, &news, context(&once, RunState::Stopping)).unwrap();
            assert_eq!(off.state, JobState::Canceled);
        }
    }

    #[test]
    fn an_unknown_call_is_retried_only_if_named() {
        let stale = News::Presumed { code: STALE_NO_CALL_SID, message: "never heard of".into() };
        let off = RetryPolicy { max_attempts: 5, ..RetryPolicy::default() };
        let ended = step(&DIALING, &stale, context(&off, RunState::Running)).unwrap();
        assert_eq!((ended.state, ended.outcome), (JobState::Failed, Some(Outcome::Unknown)));
        let named = RetryPolicy { on: vec![RetryOn::Unknown], ..off };
        assert_eq!(
            step(&DIALING, &stale, context(&named, RunState::Running)).unwrap().state,
            JobState::Queued
        );
    }

    #[test]
    fn a_machine_is_hung_up_on_or_told_or_taken_for_a_person() {
        use crate::domain::amd::{AmdMode, OnMachine};
        use crate::domain::script::Script;

        let policy =
            RetryPolicy { max_attempts: 2, on: vec![RetryOn::Machine], ..RetryPolicy::default() };
        let call = Call {
            state: CallState::Completed,
            answered_by: Some(crate::domain::call::AnsweredBy::MachineEndBeep),
            ..Call::intent()
        };
        let message = Script::Say { text: "bye".into(), voice: None, language: None };
        for (on_machine, state, outcome) in [
            (OnMachine::HangUp, JobState::Queued, Outcome::Machine),
            (OnMachine::LeaveMessage(message), JobState::Completed, Outcome::Machine),
            (OnMachine::TreatAsAnswered, JobState::Completed, Outcome::Answered),
        ] {
            let amd = Amd { mode: AmdMode::DetectMessageEnd, on_machine };
            let context = Context { amd: Some(&amd), ..context(&policy, RunState::Running) };
            let next = after_call(&DIALING, 1, &call, &busy(), context).unwrap();
            assert_eq!((next.state, next.outcome), (state, Some(outcome)));
        }
    }

    #[test]
    fn an_ended_job_never_reopens() {
        let policy = RetryPolicy { max_attempts: 9, ..RetryPolicy::default() };
        for &state in JobState::ALL.iter().filter(|state| state.is_ended()) {
            let job = Job { state, ..DIALING };
            assert_eq!(step(&job, &busy(), context(&policy, RunState::Running)), None);
        }
        let older = Job { attempt: 2, ..DIALING };
        let call = call::decide(&Call::intent(), &busy(), Timestamp(0)).unwrap().unwrap();
        assert_eq!(
            after_call(&older, 1, &call, &busy(), context(&policy, RunState::Running)),
            None
        );
    }
}
