//! What is learned, and what happens because of it.

use serde::{Deserialize, Serialize};

use super::{Action, Method, Miss, Mode, Outcome, Phase, State};
use crate::domain::CallId;

/// What went wrong at the carrier, without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// The carrier's code as text, or a word of ours.
    pub code: String,
    /// `rejected`, `unavailable` or another word for the kind of it.
    pub class: String,
}

/// How a call of ours to a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegEnd {
    /// It was answered, and is over.
    Answered,
    /// It was not.
    Missed(Miss),
}

/// How the dialing of a target by the caller's own call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialEnd {
    /// The two talked.
    Talked,
    /// They did not.
    Missed(Miss),
}

/// Something learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Somebody takes care of it.
    Begun,
    /// The carrier did it.
    Done(Action),
    /// The carrier did not, and repeating it is of no use.
    Refused(Action, StepError),
    /// The caller's call is over.
    CallerEnded,
    /// The caller is in the queue: the carrier asks what they hear there.
    CallerWaits,
    /// The caller dialed in.
    CallerCame(CallId),
    /// The queue did not take the caller.
    QueueFailed,
    /// The target of this number is dialed for the caller, and its phone rings.
    ChildRings(usize),
    /// … and answered, and so is connected.
    ChildAnswered(usize),
    /// … and that is over.
    ChildEnded(usize, DialEnd),
    /// A call of ours to the target has its intent.
    LegStarted(CallId),
    /// … and was answered.
    LegAnswered(CallId),
    /// … by a machine.
    LegMachine(CallId),
    /// … and is over.
    LegEnded(CallId, LegEnd),
    /// The target accepted.
    Accepted(CallId),
    /// The target declined, or pressed nothing.
    NotAccepted(CallId, Miss),
    /// Caller and target are being connected.
    Connected,
    /// A client canceled it.
    Canceled,
    /// The deadline has passed.
    Timeout,
}

/// What happened; one or more make a revision. What clients see of it are these, as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was created.
    Created {
        /// Which story.
        mode: Mode,
        /// How many targets there are.
        targets: usize,
    },
    /// The caller dialed in.
    CallerJoined {
        /// The caller's call.
        call_id: CallId,
    },
    /// The caller waits in the queue.
    CallerWaiting,
    /// It went on to another phase.
    Moved {
        /// Which.
        phase: Phase,
        /// Which way is being tried.
        method: Method,
        /// Which target, from 0.
        target: usize,
    },
    /// The caller's call now dials the target.
    Redirected {
        /// Which target.
        target: usize,
    },
    /// Something at the carrier failed for good.
    ActionFailed {
        /// What.
        action: Action,
        /// Why.
        error: StepError,
    },
    /// The next way is tried.
    FellBack {
        /// Which.
        to: Method,
    },
    /// A call to the target was begun.
    LegStarted {
        /// Which target.
        target: usize,
        /// The call.
        call_id: CallId,
    },
    /// The target answered our call.
    TargetAnswered {
        /// Which target.
        target: usize,
    },
    /// The target accepted.
    Accepted {
        /// Which target.
        target: usize,
    },
    /// The caller is being taken back.
    TakingBack {
        /// The final state that follows.
        state: State,
        /// How it will have come out.
        outcome: Outcome,
    },
    /// The target was not reached.
    TargetMissed {
        /// Which target.
        target: usize,
        /// Why.
        miss: Miss,
    },
    /// It is over: the last event.
    Ended {
        /// The final state.
        state: State,
        /// How it came out.
        outcome: Outcome,
    },
}
