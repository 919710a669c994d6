//! Forecasts: what would become of a run, reckoned with numbers of people instead of people.
//!
//! People of one zone who may be dialed from the same moment on are one cohort. Time goes in steps.
//! In each, as many are dialed as pace and free slots allow, out of the zones whose window is open.
//! What was observed of calls says how many of them are reached, how long a slot is taken, and how
//! many come back as the cohort of their next attempt. The work is bounded by [`STEPS_MAX`],
//! however many people there are.

mod reckoning;

use std::time::Duration;

use jiff::tz::TimeZone;

use super::Timestamp;
use super::cap::{FrequencyCap, Span};
use super::retry::{RetryOn, RetryPolicy};
use super::schedule::Schedule;

/// The most steps: a run of 90 days goes in steps of about three minutes.
pub const STEPS_MAX: u64 = 40_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How calls of one kind end: which share of all does, and how long each takes a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// 0.0 to 1.0.
    pub of_calls: f64,
    /// From the intent to the end.
    pub takes: Duration,
}

/// What is known of calls. The shares add up to one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Somebody, or something, answered.
    pub completed: Share,
    /// The line was busy.
    pub busy: Share,
    /// Nobody answered.
    pub no_answer: Share,
    /// The carrier could not complete it.
    pub failed: Share,
    /// Calls that this was learned from; 0 where it is assumed.
    pub calls: u64,
}

impl Observed {
    /// What is assumed of a tenant that has hardly called anybody: cautious, rather than an average
    /// of anything.
    pub const ASSUMED: Self = Self {
        completed: Share { of_calls: 0.4, takes: Duration::from_secs(75) },
        busy: Share { of_calls: 0.05, takes: Duration::from_secs(5) },
        no_answer: Share { of_calls: 0.45, takes: Duration::from_secs(32) },
        failed: Share { of_calls: 0.1, takes: Duration::from_secs(5) },
        calls: 0,
    };

    const fn shares(&self) -> [(Share, Option<RetryOn>); 4] {
        [
            (self.completed, None),
            (self.busy, Some(RetryOn::Busy)),
            (self.no_answer, Some(RetryOn::NoAnswer)),
            (self.failed, Some(RetryOn::Failed)),
        ]
    }

    /// How long a call takes a slot.
    pub fn mean_takes(&self) -> Duration {
        let seconds =
            self.shares().iter().map(|(share, _)| share.of_calls * share.takes.as_secs_f64()).sum();
        Duration::from_secs_f64(f64::max(seconds, 0.001))
    }
}

/// People who are treated alike.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their clock.
    pub zone: TimeZone,
    /// How many.
    pub people: u64,
    /// Not before: a cap holds them, or their jobs wait.
    pub from: Timestamp,
}

/// What is forecast from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Database time.
    pub now: Timestamp,
    /// Nobody is dialed before.
    pub starts_at: Timestamp,
    /// Nobody is dialed from then on.
    pub expires_at: Timestamp,
    /// When callees may be called.
    pub schedule: Schedule,
    /// Whom to call.
    pub groups: Vec<Group>,
    /// The slower of the tenant's pace and its account's.
    pub calls_per_second: f64,
    /// The run's live calls at most, or the tenant's, whichever is less.
    pub concurrency: u32,
    /// Which outcomes are tried again.
    pub retry: RetryPolicy,
    /// How often a phone may be tried.
    pub caps: Vec<FrequencyCap>,
    /// What is known of calls.
    pub observed: Observed,
}

/// What would become of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// People who would be dialed at least once.
    pub dialed: u64,
    /// Calls in all.
    pub calls: u64,
    /// People who would be reached.
    pub reached: u64,
    /// People who would be tried as often as the policy says, and not be reached.
    pub failed: u64,
    /// People whose jobs would expire, tried before or not.
    pub expired: u64,
    /// Of those, people whose window does not open in the run's life.
    pub never_open: u64,
    /// The first call; none if there would be none.
    pub first_call_at: Option<Timestamp>,
    /// The last call.
    pub last_call_at: Option<Timestamp>,
    /// The end of the last call, or the run's expiry where jobs expire.
    pub ends_at: Option<Timestamp>,
    /// What it mostly waits for.
    pub limit: Limit,
}

/// What a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nobody is to be dialed.
    Nothing,
    /// The pace.
    Pace,
    /// Free slots.
    Concurrency,
    /// Windows, caps and retry delays.
    People,
}

/// Forecasts.
pub fn forecast(facts: &Facts) -> Forecast {
    reckoning::Reckoning::new(facts).carry_out()
}

/// The time that a cap looks at. Calendar days count whole, because where in its day the first
/// attempt falls is not followed.
pub fn span(cap: &FrequencyCap) -> Duration {
    match cap.span {
        Span::RollingSeconds(seconds) => Duration::from_secs(u64::from(seconds)),
        Span::CalendarDays(days) => DAY * days,
    }
}

#[cfg(test)]
mod tests;
