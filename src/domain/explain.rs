//! Why a job is where it is: every rule that a claim would hold against it, the deciding one first.

use jiff::tz::TimeZone;

use super::call::CallState;
use super::cap::{self, FrequencyCap};
use super::job::{Job, JobState, Outcome, PHONE_BUSY_DEFER};
use super::run::RunState;
use super::schedule::Schedule;
use super::unknown::STALE_AFTER;
use super::{CallId, OpenBreaker, Timestamp};

/// The run's side.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// Where it stands.
    pub state: RunState,
    /// Why it paused itself.
    pub last_error: Option<String>,
    /// Not before.
    pub starts_at: Option<Timestamp>,
    /// When its queued jobs expire.
    pub expires_at: Timestamp,
    /// Its live calls.
    pub live: u32,
    /// How many it may have.
    pub concurrency: u32,
    /// Its eligible jobs that come before this one.
    pub ahead: u32,
}

/// The tenant's side.
#[derive(Debug, Clone)]
pub struct TenantFacts {
    /// Its live calls.
    pub live: u32,
    /// How many it may have.
    pub max_concurrent_calls: u32,
    /// When its pace, and its account's, allow the next call.
    pub next_call_at: Timestamp,
    /// Its account's circuit breaker, unless closed.
    pub breaker: Option<OpenBreaker>,
}

/// The job's latest call.
#[derive(Debug, Clone)]
pub struct LastCall {
    /// Which.
    pub id: CallId,
    /// Of which attempt.
    pub attempt: u32,
    /// Where it stands.
    pub state: CallState,
    /// Since when.
    pub since: Timestamp,
    /// When its intent was committed.
    pub created_at: Timestamp,
    /// Look-ups that found nothing.
    pub empty_lookups: u32,
    /// What went wrong.
    pub error_code: Option<String>,
}

/// What is known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Database time.
    pub now: Timestamp,
    /// The job.
    pub job: Job,
    /// When it last moved.
    pub moved_at: Timestamp,
    /// Its run.
    pub run: RunFacts,
    /// Its tenant.
    pub tenant: TenantFacts,
    /// When its callee may be called.
    pub schedule: Schedule,
    /// The callee's clock.
    pub zone: TimeZone,
    /// How often the phone may be tried.
    pub caps: Vec<FrequencyCap>,
    /// When it was, as far back as the caps look, the newest first.
    pub attempts: Vec<Timestamp>,
    /// Since when its phone is suppressed, if it is.
    pub suppressed_since: Option<Timestamp>,
    /// The live call to its phone.
    pub phone_call: Option<CallId>,
    /// Its latest call.
    pub call: Option<LastCall>,
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The run is a draft.
    RunNotStarted,
    /// The run is paused.
    RunPaused {
        /// Why it paused itself.
        last_error: Option<String>,
    },
    /// The run starts later.
    RunStartsLater {
        /// When.
        at: Timestamp,
    },
    /// The phone is suppressed: its turn comes, and it is skipped.
    Suppressed {
        /// Since when.
        since: Timestamp,
    },
    /// The callee may not be called now.
    OutsideWindow {
        /// From when on.
        opens_at: Timestamp,
    },
    /// The phone was tried as often as it may be.
    FrequencyCap {
        /// The cap that holds it for longest.
        cap: FrequencyCap,
        /// From when on it may be tried again.
        until: Timestamp,
    },
    /// The carrier fails, and is left alone or probed.
    CarrierFailing(OpenBreaker),
    /// Between two attempts.
    WaitingForRetry {
        /// When the next comes.
        at: Timestamp,
    },
    /// Another call to the phone is live.
    PhoneHasLiveCall {
        /// Which.
        call_id: CallId,
    },
    /// The run has as many live calls as it may.
    RunAtConcurrency {
        /// Live.
        live: u32,
        /// Allowed.
        limit: u32,
    },
    /// The tenant has as many live calls as it may.
    TenantAtConcurrency {
        /// Live.
        live: u32,
        /// Allowed.
        limit: u32,
    },
    /// The next call's turn has not come.
    Pace {
        /// When it comes.
        at: Timestamp,
    },
    /// Other jobs of the run come first.
    BehindOthers {
        /// How many.
        ahead: u32,
    },
    /// Its call is live.
    CallInFlight {
        /// Which.
        call_id: CallId,
        /// Where it stands.
        state: CallState,
        /// Since when.
        since: Timestamp,
    },
    /// The answer to its call's create request was lost.
    CallUnknown {
        /// Which.
        call_id: CallId,
        /// Look-ups that found nothing.
        empty_lookups: u32,
        /// The last moment at which it is given up.
        gives_up_at: Timestamp,
    },
    /// It is over.
    Ended {
        /// How.
        outcome: Option<Outcome>,
        /// When.
        at: Timestamp,
        /// Its last call's.
        error_code: Option<String>,
    },
    /// It was added for later, or put off.
    NotYetEligible {
        /// Until when.
        at: Timestamp,
    },
    /// The run was called off.
    RunCalledOff,
    /// The run expired.
    RunExpired,
    /// Nothing holds it.
    Ready,
    /// It is in flight and its call is not.
    NoLiveCall,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The deciding one first; at least one.
    pub reasons: Vec<Reason>,
    /// The first instant at which the clock lets it be dialed; none unless queued, and none if it
    /// expires first.
    pub next_eligible_at: Option<Timestamp>,
    /// When it expires; none once ended.
    pub expires_at: Option<Timestamp>,
}

/// Explains.
pub fn explain(facts: &Facts) -> Explanation {
    let (reasons, next_eligible_at) = match facts.job.state {
        JobState::Queued => (held(facts), next_eligible(facts)),
        JobState::Dialing | JobState::InCall => (vec![in_flight(facts)], None),
        JobState::Completed
        | JobState::Failed
        | JobState::Canceled
        | JobState::Skipped
        | JobState::Expired => (vec![ended(facts)], None),
    };
    let expires_at = (!facts.job.state.is_ended()).then_some(facts.run.expires_at);
    Explanation { reasons, next_eligible_at, expires_at }
}

fn ended(facts: &Facts) -> Reason {
    let error_code = facts.call.as_ref().and_then(|call| call.error_code.clone());
    Reason::Ended { outcome: facts.job.outcome, at: facts.moved_at, error_code }
}

fn in_flight(facts: &Facts) -> Reason {
    match &facts.call {
        Some(call) if call.attempt == facts.job.attempt && call.state == CallState::Unknown => {
            Reason::CallUnknown {
                call_id: call.id,
                empty_lookups: call.empty_lookups,
                gives_up_at: call.created_at + STALE_AFTER,
            }
        }
        Some(call) if call.attempt == facts.job.attempt && call.state.is_live() => {
            Reason::CallInFlight { call_id: call.id, state: call.state, since: call.since }
        }
        _ => Reason::NoLiveCall,
    }
}

/// Every rule that holds a queued job, in the order in which a claim meets them.
fn held(facts: &Facts) -> Vec<Reason> {
    let Facts { now, run, tenant, .. } = facts;
    let over = match run.state {
        RunState::Canceling | RunState::Stopping => Some(Reason::RunCalledOff),
        state if state.may_dial() && *now >= run.expires_at => Some(Reason::RunExpired),
        _ => None,
    };
    if let Some(over) = over {
        return vec![over];
    }
    let mut reasons = Vec::new();
    match run.state {
        RunState::Draft => reasons.push(Reason::RunNotStarted),
        RunState::Paused => reasons.push(Reason::RunPaused { last_error: run.last_error.clone() }),
        _ => {}
    }
    if let Some(at) = run.starts_at.filter(|at| at > now) {
        reasons.push(Reason::RunStartsLater { at });
    }
    reasons.extend(tenant.breaker.map(Reason::CarrierFailing));
    reasons.extend(facts.suppressed_since.map(|since| Reason::Suppressed { since }));
    reasons.extend(held_by_the_callee(facts));
    if run.live >= run.concurrency {
        reasons.push(Reason::RunAtConcurrency { live: run.live, limit: run.concurrency });
    }
    if tenant.live >= tenant.max_concurrent_calls {
        reasons.push(Reason::TenantAtConcurrency {
            live: tenant.live,
            limit: tenant.max_concurrent_calls,
        });
    }
    if tenant.next_call_at > *now {
        reasons.push(Reason::Pace { at: tenant.next_call_at });
    }
    if run.ahead > 0 {
        reasons.push(Reason::BehindOthers { ahead: run.ahead });
    }
    if reasons.is_empty() {
        reasons.push(Reason::Ready);
    }
    reasons
}

/// The retry delay, the window, the caps and the phone. A claim that meets one of the last three
/// puts the job off, so a time that they explain is no reason of its own.
fn held_by_the_callee(facts: &Facts) -> Vec<Reason> {
    let (now, job) = (facts.now, &facts.job);
    let opens_at = facts.schedule.next_opening(now, &facts.zone);
    let mut explained_until = now;
    let mut others = Vec::new();
    if opens_at > now {
        explained_until = opens_at;
        others.push(Reason::OutsideWindow { opens_at });
    }
    if let Some((cap, until)) = cap::holds(&facts.caps, &facts.attempts, now, &facts.zone) {
        explained_until = explained_until.max(facts.schedule.next_opening(until, &facts.zone));
        others.push(Reason::FrequencyCap { cap, until });
    }
    if let Some(call_id) = facts.phone_call {
        explained_until = explained_until.max(now + PHONE_BUSY_DEFER);
        others.push(Reason::PhoneHasLiveCall { call_id });
    }
    let mut reasons = Vec::new();
    if job.eligible_at > explained_until {
        let at = job.eligible_at;
        let later = if job.attempts_used > 0 {
            Reason::WaitingForRetry { at }
        } else {
            Reason::NotYetEligible { at }
        };
        reasons.push(later);
    }
    reasons.extend(others);
    reasons
}

fn next_eligible(facts: &Facts) -> Option<Timestamp> {
    if !facts.run.state.may_dial() || facts.suppressed_since.is_some() {
        return None;
    }
    let starts_at = facts.run.starts_at.unwrap_or(facts.now);
    let breaker_until = facts.tenant.breaker.map_or(facts.now, |breaker| breaker.until);
    let earliest = [starts_at, facts.job.eligible_at, facts.tenant.next_call_at, breaker_until];
    let earliest = earliest.into_iter().fold(facts.now, Timestamp::max);
    let capped = cap::holds(&facts.caps, &facts.attempts, earliest, &facts.zone);
    let opening =
        facts.schedule.next_opening(capped.map_or(earliest, |(_, until)| until), &facts.zone);
    (opening < facts.run.expires_at).then_some(opening)
}

#[cfg(test)]
mod tests;
