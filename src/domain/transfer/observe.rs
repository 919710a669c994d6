//! What the rows of its calls say about a transfer.

use super::{Fact, LegEnd, Miss, Phase, Transfer};
use crate::domain::call::{AnsweredBy, Call, CallState};
use crate::domain::{CallId, Timestamp};

/// The facts that the rows of the calls tell: the caller's, and that of the call to the target.
pub fn observe(
    transfer: &Transfer,
    caller: Option<CallState>,
    leg: Option<(CallId, &Call)>,
    now: Timestamp,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    if transfer.progress.phase == Phase::Requested {
        facts.push(Fact::Begun);
    }
    if caller.is_some_and(|state| !state.is_live()) {
        facts.push(Fact::CallerEnded);
    }
    if let Some((id, call)) = leg {
        let machine = call
            .answered_by
            .is_some_and(|by| !matches!(by, AnsweredBy::Human | AnsweredBy::Unknown));
        if machine {
            facts.push(Fact::LegMachine(id));
        }
        let missed = |miss| Fact::LegEnded(id, LegEnd::Missed(miss));
        facts.extend(match call.state {
            CallState::Intent | CallState::Unknown | CallState::Submitted | CallState::Ringing => {
                None
            }
            CallState::Answered => Some(Fact::LegAnswered(id)),
            CallState::Completed => Some(Fact::LegEnded(id, LegEnd::Answered)),
            CallState::Busy => Some(missed(Miss::Busy)),
            CallState::NoAnswer | CallState::Canceled => Some(missed(Miss::NoAnswer)),
            CallState::Failed => Some(missed(Miss::Failed)),
        });
    }
    if now >= transfer.progress.deadline {
        facts.push(Fact::Timeout);
    }
    facts
}
