//! What the dialer takes from the store and gives to it.

pub(super) mod claim;
mod intents;
pub(super) mod sweep;
pub(super) mod takeover;
pub(super) mod totals;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::amd::AmdMode;
use crate::domain::call::CallState;
use crate::domain::opt_out::OptOut;
use crate::domain::script::Script;
use crate::domain::{AccountSid, CallId, CallSid, JobId, Phone, RunId, TenantId, Timestamp};

/// What a claim may take.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    /// Free submit permits of the worker.
    pub max_calls: usize,
    /// How far ahead a call may be claimed before its turn.
    pub horizon: Duration,
}

/// What a claim took.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Database time of the claim.
    pub now: Timestamp,
    /// Whose calls; none if no tenant was ready.
    pub tenant: Option<TenantId>,
    /// Committed intents, in order of `send_at`.
    pub calls: Vec<ClaimedCall>,
    /// When the next tenant is ready; meaningful when nothing was taken.
    pub next_ready_at: Timestamp,
}

/// A committed intent: to be sent once, by the worker that claimed it.
#[derive(Debug, Clone)]
pub struct ClaimedCall {
    /// Its id.
    pub call_id: CallId,
    /// Its run.
    pub run_id: RunId,
    /// Its job.
    pub job_id: JobId,
    /// Which attempt.
    pub attempt: u32,
    /// The number to dial.
    pub to: Phone,
    /// The number to show.
    pub from: Phone,
    /// What the callee hears.
    pub script: Arc<Script>,
    /// By which key the callee asks to be called no more.
    pub opt_out: Option<Arc<OptOut>>,
    /// When the carrier reports who answered; none to not look.
    pub amd: Option<AmdMode>,
    /// The account to dial through.
    pub account: AccountSid,
    /// How long to let it ring.
    pub ring_timeout_s: u32,
    /// How long it may last.
    pub time_limit_s: u32,
    /// Database time before which it must not be sent.
    pub send_at: Timestamp,
    /// Whether it probes an account whose circuit breaker is half open.
    pub probe: bool,
}

/// What became of a piece of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It changed the call.
    Changed(CallState),
    /// It said nothing new.
    Unchanged(CallState),
    /// The tenant has no such call.
    NoSuchCall,
    /// It names another SID than the one on record.
    OtherSid,
}

/// A call to hang up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hangup {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub call_id: CallId,
    /// The carrier's name for it.
    pub sid: CallSid,
    /// The account it runs on.
    pub account: AccountSid,
    /// To be said or played before hanging up, to a machine; none to hang up at once.
    pub message: Option<Script>,
}

/// A live call of which news is overdue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCall {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub call_id: CallId,
    /// The carrier's name for it; none while it is unknown.
    pub sid: Option<CallSid>,
    /// The account it runs on.
    pub account: AccountSid,
    /// The number shown.
    pub from: Phone,
    /// The number dialed.
    pub to: Phone,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// How long it may last once answered.
    pub time_limit_s: u32,
}
