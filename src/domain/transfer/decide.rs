//! What a fact makes of a transfer.

use std::time::Duration;

use super::{
    Action, DialEnd, Ending, Event, Fact, Heard, LegEnd, Method, Miss, Mode, OnFailure, Outcome,
    Phase, Rejection, Settings, State, StepError, Transfer, heard,
};

/// Something at the carrier, with all its repetitions and an executor that died in between, takes
/// no longer.
pub(super) const ACTION_MAX: Duration = Duration::from_secs(120);
/// Beyond the ringing: until the carrier has told how it ended.
const NEWS_MAX: Duration = Duration::from_secs(30);
/// For the facts, twice, and a key.
const SPOKEN_MAX: Duration = Duration::from_secs(180);
/// A notification that is told to end has ended.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// A caller who is expected dials in.
const CALLER_MAX: Duration = Duration::from_secs(1_800);
/// A target that answered is connected.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// What states follow which; the page in docs/transfers.md shows the same.
pub const EDGES: [(State, State); 25] = {
    use State::{
        Bridged as B, CallerGone as G, Canceled as X, Dequeuing as D, Failed as F,
        Redirecting as M, Requested as Q, Returned as R, Ringing as C,
    };
    [
        (Q, M),
        (Q, C),
        (Q, R),
        (Q, F),
        (Q, G),
        (Q, X),
        (M, C),
        (M, D),
        (M, R),
        (M, F),
        (M, G),
        (M, X),
        (D, C),
        (D, M),
        (D, B),
        (D, R),
        (D, F),
        (D, G),
        (C, M),
        (C, D),
        (C, B),
        (C, R),
        (C, F),
        (C, G),
        (C, X),
    ]
};

/// How long a phase may take without news.
pub(super) fn at_most(phase: Phase, settings: &Settings) -> Duration {
    let ringing = settings.ring_timeout() + NEWS_MAX;
    match phase {
        Phase::Requested
        | Phase::Hold
        | Phase::Redirect
        | Phase::Check
        | Phase::Enqueue
        | Phase::Move
        | Phase::Return => ACTION_MAX,
        Phase::Dialing => ringing + CONNECT_MAX,
        Phase::Notify => ringing + SPOKEN_MAX,
        Phase::QueueLeg | Phase::ConferenceLeg => ringing + CONNECT_MAX,
        Phase::Settle => SETTLE_MAX,
        Phase::AwaitCaller => CALLER_MAX,
        Phase::Ended => Duration::ZERO,
    }
}

/// How it ends when no target was reached.
fn missed(settings: &Settings, miss: Miss) -> Ending {
    match settings.on_failure {
        OnFailure::Apologize { .. } => Ending { state: State::Failed, outcome: miss.outcome() },
        OnFailure::Queue { .. } | OnFailure::Url { .. } => {
            Ending { state: State::Returned, outcome: Outcome::Returned }
        }
    }
}

const BRIDGED: Ending = Ending { state: State::Bridged, outcome: Outcome::Bridged };
const GONE: Ending = Ending { state: State::CallerGone, outcome: Outcome::CallerGone };
const CANCELED: Ending = Ending { state: State::Canceled, outcome: Outcome::Canceled };
/// The caller's call was left alone: there is nothing to take back.
const UNTOUCHED: Ending = Ending { state: State::Failed, outcome: Outcome::TargetFailed };

type Events = Vec<Event>;

fn end(ending: Ending) -> Events {
    vec![Event::Ended { state: ending.state, outcome: ending.outcome }]
}

/// What happens because of `fact`; nothing, if it is of no matter (any more).
///
/// # Errors
/// When a client asks for what cannot be; the carrier's news are never refused.
pub fn decide(transfer: &Transfer, fact: &Fact) -> Result<Events, Rejection> {
    let progress = &transfer.progress;
    let phase = progress.phase;
    if phase == Phase::Ended {
        return match fact {
            Fact::Canceled if transfer.outcome() == Some(Outcome::Canceled) => Ok(Vec::new()),
            Fact::Canceled | Fact::CallerCame(_) => Err(Rejection::Ended),
            _ => Ok(Vec::new()),
        };
    }
    Ok(match fact {
        // Whether they heard the way back is not known; whom they did not reach is.
        Fact::CallerEnded if phase == Phase::Return => end(progress.then.unwrap_or(GONE)),
        Fact::CallerEnded if transfer.caller.is_some() => end(GONE),
        Fact::CallerEnded => Vec::new(),
        Fact::Canceled => return cancel(transfer),
        Fact::CallerCame(_) if transfer.caller.is_some() => return Err(Rejection::HasCaller),
        Fact::CallerCame(call_id) => vec![Event::CallerJoined { call_id: *call_id }],
        // A stranger in its queue is not the caller.
        Fact::CallerWaits if transfer.caller.is_none() => Vec::new(),
        Fact::CallerWaits => waits(transfer),
        Fact::QueueFailed if progress.held || is_sent_to_the_queue(transfer) => {
            // The caller asks right now, and is told: see `heard`.
            end(missed(&transfer.settings, progress.miss.unwrap_or(Miss::Failed)))
        }
        Fact::QueueFailed => Vec::new(),
        Fact::LegStarted(call_id) if is_leg(phase) && progress.leg.is_none() => {
            vec![Event::LegStarted { target: progress.target, call_id: *call_id }]
        }
        Fact::LegStarted(_) => Vec::new(),
        Fact::LegAnswered(leg) | Fact::LegMachine(leg) | Fact::LegEnded(leg, _)
            if progress.leg != Some(*leg) =>
        {
            Vec::new()
        }
        Fact::Accepted(leg) | Fact::NotAccepted(leg, _)
            if progress.leg != Some(*leg) || phase != Phase::Notify =>
        {
            Vec::new()
        }
        Fact::Begun
        | Fact::Done(_)
        | Fact::Refused(..)
        | Fact::ChildRings(_)
        | Fact::ChildAnswered(_)
        | Fact::ChildEnded(..)
        | Fact::LegAnswered(_)
        | Fact::LegMachine(_)
        | Fact::LegEnded(..)
        | Fact::Accepted(_)
        | Fact::NotAccepted(..)
        | Fact::Connected
        | Fact::Timeout => in_phase(transfer, fact),
    })
}

/// Whether the caller, if they ask now, is sent to the queue.
fn is_sent_to_the_queue(transfer: &Transfer) -> bool {
    transfer.caller.is_some() && heard(transfer) == Heard::Hold
}

fn is_leg(phase: Phase) -> bool {
    matches!(phase, Phase::Notify | Phase::QueueLeg | Phase::ConferenceLeg)
}

fn in_phase(transfer: &Transfer, fact: &Fact) -> Events {
    match transfer.progress.phase {
        Phase::Requested => match fact {
            Fact::Begun => begin(transfer),
            Fact::Timeout => end(UNTOUCHED),
            _ => Vec::new(),
        },
        Phase::Hold => hold(transfer, fact),
        Phase::Notify => notify(transfer, fact),
        Phase::Settle => match fact {
            Fact::LegEnded(..) | Fact::Timeout if transfer.caller.is_some() => {
                vec![moved(transfer, Phase::Redirect, Method::Redirect)]
            }
            Fact::LegEnded(..) | Fact::Timeout => {
                vec![moved(transfer, Phase::AwaitCaller, Method::Redirect)]
            }
            _ => Vec::new(),
        },
        Phase::AwaitCaller => match fact {
            Fact::Timeout => end(GONE),
            _ => Vec::new(),
        },
        Phase::Redirect | Phase::Dialing | Phase::Check => dial(transfer, fact),
        Phase::Enqueue => enqueue(transfer, fact),
        Phase::QueueLeg => queue_leg(transfer, fact),
        Phase::ConferenceLeg | Phase::Move => conference(transfer, fact),
        Phase::Return => match fact {
            Fact::Done(Action::Return) | Fact::Refused(Action::Return, _) | Fact::Timeout => {
                end(transfer.progress.then.unwrap_or(UNTOUCHED))
            }
            _ => Vec::new(),
        },
        Phase::Ended => Vec::new(),
    }
}

fn moved(transfer: &Transfer, phase: Phase, method: Method) -> Event {
    Event::Moved { phase, method, target: transfer.progress.target }
}

fn begin(transfer: &Transfer) -> Events {
    let phase = match (transfer.mode, transfer.caller) {
        (Mode::Direct, _) => Phase::Redirect,
        (Mode::Warm, Some(_)) => Phase::Hold,
        (Mode::Warm, None) => Phase::Notify,
    };
    vec![moved(transfer, phase, Method::Redirect)]
}

fn cancel(transfer: &Transfer) -> Result<Events, Rejection> {
    let moved_already = match transfer.progress.phase {
        Phase::Return => return Err(Rejection::Ending),
        Phase::Hold
        | Phase::Redirect
        | Phase::Dialing
        | Phase::Check
        | Phase::Enqueue
        | Phase::Move => true,
        Phase::Requested
        | Phase::Notify
        | Phase::Settle
        | Phase::AwaitCaller
        | Phase::QueueLeg
        | Phase::ConferenceLeg
        | Phase::Ended => transfer.progress.held,
    };
    Ok(if moved_already && transfer.caller.is_some() { take_back(CANCELED) } else { end(CANCELED) })
}

fn take_back(ending: Ending) -> Events {
    vec![Event::TakingBack { state: ending.state, outcome: ending.outcome }]
}

fn waits(transfer: &Transfer) -> Events {
    let mut events = Vec::new();
    if !transfer.progress.held {
        events.push(Event::CallerWaiting);
    }
    match transfer.progress.phase {
        Phase::Hold => events.push(moved(transfer, Phase::Notify, Method::Redirect)),
        Phase::Enqueue => events.push(moved(transfer, Phase::QueueLeg, Method::Dequeue)),
        Phase::AwaitCaller => events.push(moved(transfer, Phase::Redirect, Method::Redirect)),
        _ => {}
    }
    events
}

fn hold(transfer: &Transfer, fact: &Fact) -> Events {
    let on = moved(transfer, Phase::Notify, Method::Redirect);
    match fact {
        Fact::Done(Action::Hold) => vec![Event::CallerWaiting, on],
        // The caller is not on hold, but on the line, and hears their script.
        Fact::Refused(Action::Hold, error) => vec![failed(Action::Hold, error), on],
        Fact::Timeout => vec![on],
        _ => Vec::new(),
    }
}

fn failed(action: Action, error: &StepError) -> Event {
    Event::ActionFailed { action, error: error.clone() }
}

/// The target was missed: the next one, or the way back.
fn next(transfer: &Transfer, miss: Miss, next_phase: Phase) -> Events {
    let progress = &transfer.progress;
    let mut events = vec![Event::TargetMissed { target: progress.target, miss }];
    let target = progress.target + 1;
    if target < transfer.settings.targets.len() {
        let phase = if transfer.mode == Mode::Warm { Phase::Notify } else { next_phase };
        let method = if transfer.mode == Mode::Warm { Method::Redirect } else { progress.method };
        events.push(Event::Moved { phase, method, target });
        return events;
    }
    let ending = missed(&transfer.settings, miss);
    events.extend(match (next_phase, transfer.caller) {
        // The caller asks right now, and is told: see `heard`.
        (Phase::Dialing, _) => end(ending),
        (_, Some(_)) if progress.held || progress.phase == Phase::Move => take_back(ending),
        (_, Some(_)) => end(Ending { outcome: miss.outcome(), ..UNTOUCHED }),
        (_, None) => end(Ending { outcome: miss.outcome(), ..UNTOUCHED }),
    });
    events
}

fn notify(transfer: &Transfer, fact: &Fact) -> Events {
    let target = transfer.progress.target;
    match fact {
        Fact::Accepted(_) => {
            vec![Event::Accepted { target }, moved(transfer, Phase::Settle, Method::Redirect)]
        }
        Fact::NotAccepted(_, miss) => next(transfer, *miss, Phase::Notify),
        Fact::LegMachine(_) => next(transfer, Miss::Machine, Phase::Notify),
        Fact::LegEnded(_, LegEnd::Answered) => next(transfer, Miss::NoKey, Phase::Notify),
        Fact::LegEnded(_, LegEnd::Missed(miss)) => next(transfer, *miss, Phase::Notify),
        Fact::LegAnswered(_) if !transfer.progress.leg_answered => {
            vec![Event::TargetAnswered { target }]
        }
        Fact::Timeout => next(transfer, Miss::NoAnswer, Phase::Notify),
        _ => Vec::new(),
    }
}

fn dial(transfer: &Transfer, fact: &Fact) -> Events {
    let (phase, target) = (transfer.progress.phase, transfer.progress.target);
    let dialing =
        || vec![Event::Redirected { target }, moved(transfer, Phase::Dialing, Method::Redirect)];
    match fact {
        Fact::Done(Action::Redirect) if phase == Phase::Redirect => dialing(),
        Fact::ChildRings(of) if *of == target && phase == Phase::Redirect => dialing(),
        Fact::ChildAnswered(of) | Fact::ChildEnded(of, DialEnd::Talked) if *of == target => {
            let mut events = if phase == Phase::Redirect { dialing() } else { Vec::new() };
            events.extend(end(BRIDGED));
            events
        }
        Fact::ChildEnded(of, DialEnd::Missed(miss)) if *of == target => {
            next(transfer, *miss, Phase::Dialing)
        }
        Fact::Refused(Action::Redirect, error) if phase == Phase::Redirect => {
            let mut events = vec![failed(Action::Redirect, error)];
            events.extend(to_dequeue(transfer));
            events
        }
        Fact::Timeout if phase == Phase::Redirect => to_dequeue(transfer),
        Fact::Timeout if phase == Phase::Dialing => {
            vec![moved(transfer, Phase::Check, Method::Redirect)]
        }
        // The dialing is long over, and the caller's call goes on without having asked: the two are
        // talking.
        Fact::Done(Action::Check) if phase == Phase::Check => end(BRIDGED),
        Fact::Refused(Action::Check, error) if phase == Phase::Check => {
            let mut events = vec![failed(Action::Check, error)];
            events.extend(end(UNTOUCHED));
            events
        }
        Fact::Timeout => end(UNTOUCHED),
        _ => Vec::new(),
    }
}

fn to_dequeue(transfer: &Transfer) -> Events {
    let phase = if transfer.progress.held { Phase::QueueLeg } else { Phase::Enqueue };
    vec![Event::FellBack { to: Method::Dequeue }, moved(transfer, phase, Method::Dequeue)]
}

fn to_conference(transfer: &Transfer) -> Events {
    vec![
        Event::FellBack { to: Method::Conference },
        moved(transfer, Phase::ConferenceLeg, Method::Conference),
    ]
}

fn enqueue(transfer: &Transfer, fact: &Fact) -> Events {
    match fact {
        Fact::Done(Action::Enqueue) => {
            vec![Event::CallerWaiting, moved(transfer, Phase::QueueLeg, Method::Dequeue)]
        }
        Fact::Refused(Action::Enqueue, error) => {
            let mut events = vec![failed(Action::Enqueue, error)];
            events.extend(to_conference(transfer));
            events
        }
        Fact::Timeout => to_conference(transfer),
        _ => Vec::new(),
    }
}

fn queue_leg(transfer: &Transfer, fact: &Fact) -> Events {
    let (target, answered) = (transfer.progress.target, transfer.progress.leg_answered);
    match fact {
        Fact::LegAnswered(_) if !answered => vec![Event::TargetAnswered { target }],
        // Be it with one that was given up a moment ago: nobody else takes callers out of this
        // queue.
        Fact::Connected => end(BRIDGED),
        // The target was there, and the queue did not give it the caller.
        Fact::LegEnded(_, LegEnd::Answered) => to_conference(transfer),
        Fact::LegEnded(_, LegEnd::Missed(miss)) => next(transfer, *miss, Phase::QueueLeg),
        // A target that waits in vain hangs up. This one talks.
        Fact::Timeout if answered => end(BRIDGED),
        Fact::Timeout => next(transfer, Miss::NoAnswer, Phase::QueueLeg),
        _ => Vec::new(),
    }
}

fn conference(transfer: &Transfer, fact: &Fact) -> Events {
    let moving = transfer.progress.phase == Phase::Move;
    let target = transfer.progress.target;
    match fact {
        Fact::LegAnswered(_) if !moving => {
            vec![Event::TargetAnswered { target }, moved(transfer, Phase::Move, Method::Conference)]
        }
        Fact::Done(Action::Move) | Fact::Connected if moving => end(BRIDGED),
        Fact::LegEnded(_, LegEnd::Answered) => next(transfer, Miss::Failed, Phase::ConferenceLeg),
        Fact::LegEnded(_, LegEnd::Missed(miss)) => next(transfer, *miss, Phase::ConferenceLeg),
        Fact::Refused(Action::Move, error) if moving => {
            let mut events = vec![failed(Action::Move, error)];
            events.extend(give_up(transfer));
            events
        }
        Fact::Timeout if moving => give_up(transfer),
        Fact::Timeout => next(transfer, Miss::NoAnswer, Phase::ConferenceLeg),
        _ => Vec::new(),
    }
}

/// The caller cannot be moved at all; so other targets would be called in vain.
fn give_up(transfer: &Transfer) -> Events {
    if transfer.progress.held {
        return take_back(missed(&transfer.settings, Miss::Failed));
    }
    end(UNTOUCHED)
}
