//! Requests that go wrong on demand: the next so many of a kind.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::domain::{CallSid, Violation};

use super::Core;
use super::config::DELAY_MAX_MS;
use super::ledger::Asked;
use super::listener::Line;
use super::request::{Params, Refusal};

/// Faults that may wait for their requests at once.
const WAITING_MAX: usize = 1_000;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// An update of a call with `Status`.
    HangUp,
    /// An update of a call with `Url` or `Twiml`.
    Redirect,
    /// An update of a queue's member.
    Dequeue,
    /// One call.
    Fetch,
    /// A list of calls.
    List,
    /// A queue or a list of queues or members, or that a queue be deleted.
    Queues,
    /// A list of conferences, or a participant.
    Conferences,
}

/// What goes wrong with the next requests of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFault {
    /// Which requests.
    pub on: RequestKind,
    /// Only those whose decoded `Twiml`, `Url` or `Status` contains this.
    #[serde(default)]
    pub contains: Option<String>,
    /// For how many requests. Default 1.
    #[serde(default = "once")]
    pub times: u32,
    /// The HTTP status that is answered, 400 to 599; none = the answer is the right one.
    #[serde(default)]
    pub http_status: Option<u16>,
    /// Twilio's error code in the answer; none = the usual one for the status.
    #[serde(default)]
    pub code: Option<u32>,
    /// The connection is reset instead of answered.
    #[serde(default)]
    pub reset: bool,
    /// How long the answer is held back, in real milliseconds.
    #[serde(default)]
    pub slow_ms: u32,
    /// Whether the request is carried out before it goes wrong.
    #[serde(default)]
    pub after: bool,
}

const fn once() -> u32 {
    1
}

impl RequestFault {
    /// The next request of a kind goes wrong in no way yet.
    pub const fn new(on: RequestKind) -> Self {
        Self {
            on,
            contains: None,
            times: 1,
            http_status: None,
            code: None,
            reset: false,
            slow_ms: 0,
            after: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        if self.http_status.is_some_and(|status| !(400..600).contains(&status)) {
            return Err(Violation::new("http_status", "must be 400 to 599"));
        }
        if f64::from(self.slow_ms) > DELAY_MAX_MS {
            return Err(Violation::new("slow_ms", "must be at most 120000"));
        }
        Ok(())
    }

    /// Whether nothing of the request is carried out.
    pub(super) const fn spoils(&self) -> bool {
        !self.after && (self.reset || self.http_status.is_some())
    }

    pub(super) fn slow(&self) -> Duration {
        Duration::from_millis(u64::from(self.slow_ms))
    }

    /// What is answered instead of the right answer.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let status = StatusCode::from_u16(self.http_status?).ok()?;
        let code = self.code.unwrap_or(match status.as_u16() {
            401 | 403 => 20003,
            404 => 20404,
            409 => 20409,
            429 => 20429,
            503 => 20503,
            500.. => 20500,
            _ => 20001,
        });
        Some(Refusal::new(status, code, "A fault that was asked for"))
    }
}

/// Faults that wait for their requests.
#[derive(Default)]
pub(crate) struct Waiting(VecDeque<RequestFault>);

impl Waiting {
    /// False when too many wait.
    pub fn add(&mut self, fault: RequestFault) -> bool {
        let fits = self.0.len() < WAITING_MAX;
        if fits && fault.times > 0 {
            self.0.push_back(fault);
        }
        fits
    }

    /// The fault that this request meets, one time less of it.
    pub fn meet(&mut self, kind: RequestKind, text: &str) -> Option<RequestFault> {
        let fits = |fault: &RequestFault| {
            fault.on == kind && fault.contains.as_deref().is_none_or(|part| text.contains(part))
        };
        let at = self.0.iter().position(fits)?;
        let fault = self.0.get_mut(at)?;
        fault.times -= 1;
        let met = fault.clone();
        if met.times == 0 {
            self.0.remove(at);
        }
        Some(met)
    }
}

/// A request as far as faults and the ledger care.
pub(crate) struct Request {
    kind: RequestKind,
    /// Whether the ledger tells of it.
    changes: bool,
    call_sid: Option<CallSid>,
    document: Option<String>,
    status: Option<String>,
}

impl Request {
    pub const fn to_read(kind: RequestKind) -> Self {
        Self { kind, changes: false, call_sid: None, document: None, status: None }
    }

    /// A request to change the call that the last part of a path names.
    pub fn to_change(kind: RequestKind, call: &str, params: &Params) -> Self {
        let text = |name| params.get(name).map(str::to_owned);
        Self {
            kind,
            changes: true,
            call_sid: call.strip_suffix(".json").and_then(|sid| sid.parse().ok()),
            document: text("Twiml").or_else(|| text("Url")),
            status: text("Status"),
        }
    }
}

impl Core {
    /// Answers a request, unless a fault waits for it.
    pub(super) async fn carry_out(
        &self,
        line: &Line,
        request: Request,
        work: impl FnOnce() -> Result<Response, Refusal>,
    ) -> Response {
        let text = request.document.as_deref().or(request.status.as_deref()).unwrap_or_default();
        // Bound, so that the lock is not held while the work is done.
        let met = self.switchboard().request_faults.meet(request.kind, text);
        let fault = met.unwrap_or_else(|| RequestFault::new(request.kind));
        let result = if fault.spoils() { Err(Refusal::INTERNAL) } else { work() };
        let done = result.is_ok();
        let answer = match (fault.refusal(), result) {
            (Some(refusal), _) | (None, Err(refusal)) => refusal.into_response(),
            (None, Ok(answer)) => answer,
        };
        if request.changes {
            let mut switchboard = self.switchboard();
            let now = switchboard.now();
            switchboard.note(Asked {
                kind: request.kind,
                call_sid: request.call_sid,
                document: request.document,
                at_us: now.at,
                monotonic_us: now.monotonic_us,
                http_status: (!fault.reset).then(|| answer.status().as_u16()),
                done,
            });
        }
        self.hold_back(fault.slow()).await;
        if fault.reset {
            line.cut();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_ones_that_fit() {
        let mut waiting = Waiting::default();
        let queued = RequestFault {
            contains: Some("<Queue".into()),
            ..RequestFault::new(RequestKind::Redirect)
        };
        assert!(waiting.add(queued));
        assert!(waiting.add(RequestFault { times: 2, ..RequestFault::new(RequestKind::Redirect) }));
        assert!(waiting.add(RequestFault { times: 0, ..RequestFault::new(RequestKind::Fetch) }));
        assert_eq!(waiting.meet(RequestKind::Fetch, ""), None);
        let named = |fault: Option<RequestFault>| fault.map(|fault| fault.contains.is_some());
        assert_eq!(named(waiting.meet(RequestKind::Redirect, "<Dial>")), Some(false));
        assert_eq!(named(waiting.meet(RequestKind::Redirect, "<Dial><Queue>q")), Some(true));
        assert_eq!(named(waiting.meet(RequestKind::Redirect, "<Dial><Queue>q")), Some(false));
        assert_eq!(named(waiting.meet(RequestKind::Redirect, "<Dial>")), None);
    }
}
