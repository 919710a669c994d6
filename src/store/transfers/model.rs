//! The use cases of transfers, and what they take and give.

use std::time::Duration;

use crate::domain::transfer::{Event, Mode, Settings, State, Step, Transfer};
use crate::domain::{AccountSid, CallId, CallSid, IncidentId, Phone, Timestamp, TransferId};

/// Whoever is to do something at the carrier has done it, or is dead, after this: longer than a
/// task may take.
pub const ACTING_MAX: Duration = Duration::from_secs(28);

/// Who is transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The tenant's call of this id.
    Call(CallId),
    /// The tenant's call that the carrier names so.
    Sid(CallSid),
    /// Whoever dials in from this number; warm transfers only.
    Awaited(Phone),
}

/// A transfer to be started.
#[derive(Debug, Clone)]
pub struct NewTransfer {
    /// Which story.
    pub mode: Mode,
    /// The client's own id of it; warm transfers have one.
    pub incident: Option<IncidentId>,
    /// Who is transferred.
    pub caller: Caller,
    /// What the client decided.
    pub settings: Settings,
}

/// A transfer as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Its id.
    pub id: TransferId,
    /// The client's own id of it.
    pub incident: Option<IncidentId>,
    /// What it is, and how far.
    pub transfer: Transfer,
    /// Grows by one with every commit.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What one transaction did to a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferCommit {
    /// Without gaps, from 1.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// Where it stood afterwards.
    pub state: State,
    /// What happened.
    pub events: Vec<Event>,
}

/// The caller's call, as the carrier has to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerCall {
    /// The carrier's name for it.
    pub sid: CallSid,
    /// The account that it runs on.
    pub account: AccountSid,
}

/// How far a transfer is, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advanced {
    /// As it stands.
    pub view: TransferView,
    /// What to do now; to wait, while somebody else does something.
    pub step: Step,
    /// The caller's call, if there is one.
    pub caller: Option<CallerCall>,
    /// Whether somebody was given it before, and never brought what came of it.
    pub again: bool,
    /// Somebody else is at it: look again after this, for they may be dead.
    pub later: Option<Duration>,
}

/// What came of asking for a call to a transfer's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegIntent {
    /// It is committed: to be sent once, by whoever asked.
    Call(LegCall),
    /// Not now; ask again after this long.
    Later(Duration),
    /// The transfer does not want it any more.
    Stale,
}

/// A committed intent of a call to a transfer's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegCall {
    /// Its id.
    pub call_id: CallId,
    /// The number to dial.
    pub to: Phone,
    /// The number to show.
    pub from: Phone,
    /// The account to dial through.
    pub account: AccountSid,
    /// How long to let it ring, in seconds.
    pub ring_timeout_s: u32,
    /// How long it may last once answered, in seconds.
    pub time_limit_s: u32,
    /// Not to be sent sooner than after this.
    pub send_in: Duration,
    /// Whether it probes an account whose circuit breaker is half open.
    pub probe: bool,
}
