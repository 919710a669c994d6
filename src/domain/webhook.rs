//! Webhooks that go out: what is told of, to whom, and what becomes of an attempt to tell.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::call::{Call, Direction};
use super::event::Event;
use super::lead::{LeadField, LeadSource};
use super::run::RunState;
use super::{CallId, JobId, LeadId, RunId, Timestamp, TransferId, Violation};

/// Endpoints that a tenant may have.
pub const ENDPOINTS_MAX: i64 = 10;
/// The longest URL, in bytes.
pub const URL_MAX_BYTES: usize = 1_000;
/// The longest description, in characters.
pub const DESCRIPTION_MAX_CHARS: usize = 200;
/// The most filters of an endpoint.
pub const FILTERS_MAX: usize = 50;
/// A delivery is tried this often; then it is dead, kept, and can be asked for again.
pub const ATTEMPTS_MAX: u32 = 12;
/// Before the second attempt; each further delay is four times the one before.
const DELAY_MIN: Duration = Duration::from_secs(2);
/// No delay is longer. With [`ATTEMPTS_MAX`] attempts a delivery is dead about two days after its
/// first failure.
const DELAY_MAX: Duration = Duration::from_secs(12 * 3_600);
/// An endpoint of which every attempt failed is left alone for so long, twice as long each time.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// It is never left alone for longer.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// Each delay is spread by up to this share of itself, either way, so that what failed together
/// comes back apart.
const JITTER: f64 = 0.2;
/// An endpoint that fails while more than this waits for it is disabled: its queue must not grow
/// for days.
pub const QUEUED_MAX: i64 = 100_000;

super::state_words! {
    /// What happened. The words are those of filters and payloads.
    pub enum EventType {
        /// A run was created.
        RunCreated = "run.created",
        /// It was started, and waits for its first call.
        RunPending = "run.pending",
        /// Its first call was claimed, or it was resumed.
        RunRunning = "run.running",
        /// It was paused, or paused itself.
        RunPaused = "run.paused",
        /// It was canceled; calls in flight finish.
        RunCanceling = "run.canceling",
        /// It was stopped; calls in flight are hung up.
        RunStopping = "run.stopping",
        /// All its jobs ended.
        RunCompleted = "run.completed",
        /// It was canceled and is over.
        RunCanceled = "run.canceled",
        /// It was stopped and is over.
        RunStopped = "run.stopped",
        /// It failed.
        RunFailed = "run.failed",
        /// It expired.
        RunExpired = "run.expired",
        /// A call ended, or its ending was corrected.
        CallEnded = "call.ended",
        /// A lead was created.
        LeadCreated = "lead.created",
        /// A lead was changed.
        LeadUpdated = "lead.updated",
        /// A lead was deleted.
        LeadDeleted = "lead.deleted",
        /// A transfer came to its one ending.
        TransferEnded = "transfer.ended",
        /// Somebody tries whether the endpoint works.
        Test = "webhook.test",
    }
}

super::state_words! {
    /// Whether an endpoint is told anything.
    pub enum WebhookState {
        /// It is.
        Enabled = "enabled",
        /// It is not; what waits for it waits on.
        Disabled = "disabled",
        /// It is being deleted with what waits for it.
        Deleted = "deleted",
    }
}

super::state_words! {
    /// Why an endpoint was disabled.
    pub enum DisabledReason {
        /// Its owner wanted it so.
        Client = "client",
        /// Nothing could be delivered for long.
        Failing = "failing",
        /// It answered 410 Gone.
        Gone = "gone",
        /// It failed while too much waited for it.
        Overflow = "overflow",
    }
}

super::state_words! {
    /// Where a delivery stands.
    pub enum DeliveryState {
        /// To be tried, or tried again.
        Queued = "queued",
        /// The receiver took it.
        Delivered = "delivered",
        /// Given up; kept for a while, and can be asked for again.
        Dead = "dead",
    }
}

super::state_words! {
    /// What of an endpoint a client may change.
    pub enum WebhookField {
        /// Where it is.
        Url = "url",
        /// What it is told of.
        EventTypes = "event_types",
        /// For people.
        Description = "description",
        /// Whether it is told anything.
        Enabled = "enabled",
    }
}

/// Something that happened, to be told to whoever asked for it. Ids and states, never a phone or a
/// name.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it is about: a kind and an id. What is told of one subject arrives in order.
    pub subject: String,
    /// Grows with each change of the subject, so that the order does not hang on clocks.
    pub position: i64,
    /// What happened.
    pub kind: EventType,
    /// The payload's `data`.
    pub data: Value,
}

impl Told {
    /// What is told of an event of a run's log, if anything. `revision` is the commit's.
    pub fn of_run(run_id: RunId, revision: i64, event: &Event) -> Option<Self> {
        let (kind, data) = match event {
            Event::RunCreated { state } => (EventType::RunCreated, json!({ "state": state })),
            Event::RunStateChanged { from, to, .. } => {
                (of_state(*to)?, json!({ "previous_state": from, "state": to }))
            }
            Event::RunUpdated { .. }
            | Event::RunSealed
            | Event::JobsAdded { .. }
            | Event::JobChanged { .. }
            | Event::OrphanCall { .. }
            | Event::CallChanged { .. }
            | Event::Repaired { .. } => return None,
        };
        let data = with(data, &[("run_id", json!(run_id)), ("revision", json!(revision))]);
        Some(Self { subject: format!("run {run_id}"), position: revision, kind, data })
    }

    /// A call ended; `at` is when that was told.
    pub fn call_ended(call: &CallTold<'_>, at: Timestamp) -> Self {
        let data = json!({
            "call_id": call.id,
            "call_sid": call.call.sid,
            "direction": call.direction,
            "state": call.call.state,
            "run_id": call.run_id,
            "job_id": call.job_id,
            "attempt": call.attempt,
            "duration_s": call.call.duration_s,
            "answered_by": call.call.answered_by,
            "error_code": call.call.error_code,
        });
        Self {
            subject: format!("call {}", call.id),
            position: at.micros(),
            kind: EventType::CallEnded,
            data,
        }
    }

    /// A lead was created.
    pub fn lead_created(lead_id: LeadId, source: LeadSource) -> Self {
        let data = json!({ "lead_id": lead_id, "source": source });
        Self { subject: format!("lead {lead_id}"), position: 1, kind: EventType::LeadCreated, data }
    }

    /// A lead was changed, which made it `revision`.
    pub fn lead_updated(lead_id: LeadId, revision: i64, fields: &[LeadField]) -> Self {
        let data = json!({ "lead_id": lead_id, "revision": revision, "fields": fields });
        Self {
            subject: format!("lead {lead_id}"),
            position: revision,
            kind: EventType::LeadUpdated,
            data,
        }
    }

    /// A lead was deleted.
    pub fn lead_deleted(lead_id: LeadId) -> Self {
        let data = json!({ "lead_id": lead_id });
        Self {
            subject: format!("lead {lead_id}"),
            position: i64::MAX,
            kind: EventType::LeadDeleted,
            data,
        }
    }

    /// A transfer came to its one ending. `state` and `outcome` are the words of its state and
    /// outcome, `revision` its last.
    pub fn transfer_ended(
        transfer_id: TransferId,
        call_id: Option<CallId>,
        (state, outcome): (&'static str, &'static str),
        revision: i64,
    ) -> Self {
        let data = json!({
            "transfer_id": transfer_id, "call_id": call_id, "state": state, "outcome": outcome, "revision": revision,
        });
        let subject = format!("transfer {transfer_id}");
        Self { subject, position: revision, kind: EventType::TransferEnded, data }
    }
}

/// A call, as far as receivers are told of it.
#[derive(Debug)]
pub struct CallTold<'a> {
    /// Its id.
    pub id: CallId,
    /// Who called whom.
    pub direction: Direction,
    /// Its run, if it has one.
    pub run_id: Option<RunId>,
    /// Its job, if it has one.
    pub job_id: Option<JobId>,
    /// Which attempt at the job.
    pub attempt: u32,
    /// What is known of it.
    pub call: &'a Call,
}

fn of_state(state: RunState) -> Option<EventType> {
    Some(match state {
        // Nothing leads back to a draft.
        RunState::Draft => return None,
        RunState::Pending => EventType::RunPending,
        RunState::Running => EventType::RunRunning,
        RunState::Paused => EventType::RunPaused,
        RunState::Canceling => EventType::RunCanceling,
        RunState::Stopping => EventType::RunStopping,
        RunState::Completed => EventType::RunCompleted,
        RunState::Canceled => EventType::RunCanceled,
        RunState::Stopped => EventType::RunStopped,
        RunState::Failed => EventType::RunFailed,
        RunState::Expired => EventType::RunExpired,
    })
}

fn with(mut data: Value, more: &[(&str, Value)]) -> Value {
    for (name, value) in more {
        data[*name] = value.clone();
    }
    data
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: EventType,
    timestamp: String,
    data: &'a Value,
}

/// What is posted: the event as JSON, after the Standard Webhooks specification.
pub fn body(kind: EventType, at: Timestamp, data: &Value) -> String {
    let timestamp = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or_default().to_string();
    // Words and ids are always JSON.
    serde_json::to_string(&Body { r#type: kind, timestamp, data }).unwrap_or_default()
}

/// Whether an endpoint with these filters is told of `kind`; without any it is told of everything.
pub fn wants(filters: &[String], kind: EventType) -> bool {
    let word = kind.as_str();
    let matches = |filter: &String| {
        let group = filter.strip_suffix('*').filter(|group| group.ends_with('.'));
        filter == word || group.is_some_and(|group| word.starts_with(group))
    };
    filters.is_empty() || filters.iter().any(matches)
}

/// Refuses filters that match nothing.
pub fn check_filters(filters: &[String]) -> Result<(), Violation> {
    if filters.len() > FILTERS_MAX {
        return Err(Violation::new("event_types", "has more than 50 items"));
    }
    for (i, filter) in filters.iter().enumerate() {
        if !EventType::ALL.iter().any(|kind| wants(std::slice::from_ref(filter), *kind)) {
            let why = "must be a type of event, such as run.completed, or a group, such as run.*";
            return Err(Violation::new(format!("event_types[{i}]"), why));
        }
    }
    Ok(())
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered with this HTTP status.
    Status(u16),
    /// It did not answer, or not in time.
    None,
    /// The target may not be called.
    Refused,
}

impl Answer {
    /// Whether the receiver took it. A redirect is not followed, so it is a failure.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    /// Whether the receiver wants nothing any more.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Status(410))
    }
}

/// When a delivery whose `attempts`th attempt failed is tried again; none when it is given up.
/// `draw` is uniform in 0.0..1.0.
pub fn again_at(attempts: u32, now: Timestamp, draw: f64) -> Option<Timestamp> {
    (attempts < ATTEMPTS_MAX).then(|| {
        let steps = attempts.saturating_sub(1).min(15);
        now + spread(DELAY_MIN.saturating_mul(1 << (2 * steps)).min(DELAY_MAX), draw)
    })
}

fn spread(delay: Duration, draw: f64) -> Duration {
    delay.mul_f64(1.0 + JITTER * (2.0 * draw.clamp(0.0, 1.0) - 1.0))
}

/// How an endpoint does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when nothing could be delivered.
    pub failing_since: Option<Timestamp>,
    /// Rounds in a row of which every attempt failed.
    pub failures: u32,
}

impl Health {
    /// After a round of attempts: how it does, when it may be tried again, and why it is to be
    /// disabled, if it is.
    pub fn after(
        self,
        answers: &[Answer],
        queued: i64,
        disable_after: Duration,
        (now, draw): (Timestamp, f64),
    ) -> (Self, Timestamp, Option<DisabledReason>) {
        if answers.iter().any(|answer| answer.is_gone()) {
            return (self, now, Some(DisabledReason::Gone));
        }
        if answers.is_empty() {
            return (self, now, None);
        }
        if answers.iter().any(|answer| answer.is_success()) {
            return (Self::default(), now, None);
        }
        let since = self.failing_since.unwrap_or(now);
        let hold = HOLD_MIN.saturating_mul(1 << self.failures.min(16)).min(HOLD_MAX);
        let reason = if now.since(since) >= disable_after {
            Some(DisabledReason::Failing)
        } else if queued > QUEUED_MAX {
            Some(DisabledReason::Overflow)
        } else {
            None
        };
        let health = Self { failing_since: Some(since), failures: self.failures.saturating_add(1) };
        (health, now + spread(hold, draw), reason)
    }
}

#[cfg(test)]
mod tests;
