//! A transfer: moving a live caller to a human, and a way back.
//!
//! A saga: [`decide`] says what each fact makes of it, [`Transfer::apply`] carries that out,
//! [`next_step`] says what is to be done at the carrier next. Whoever carries it out may die at any
//! point; another goes on from what is stored. The caller is never left in silence: whenever the
//! carrier asks what the caller is to hear, [`heard`] answers.

mod decide;
mod event;
mod observe;
mod settings;
mod states;

use serde::{Deserialize, Serialize};

pub use decide::{EDGES, decide};
pub use event::{DialEnd, Event, Fact, LegEnd, StepError};
pub use observe::observe;
pub use settings::{
    FACTS_MAX_CHARS, OnFailure, QUEUE_NAME_MAX_CHARS, RING_TIMEOUT_DEFAULT_S, Settings, TARGETS_MAX,
};

pub use states::{Action, Method, Miss, Mode, Outcome, Phase, Purpose, State};

use super::{CallId, Timestamp};

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To be begun.
    Begin,
    /// Something at the carrier, about the caller's call.
    Act(Action),
    /// A call to the target. Its intent comes first; it is sent once.
    Call(Purpose),
    /// Nothing until news come, or the deadline.
    Wait,
    /// It is over.
    Nothing,
}

/// What the caller is to hear when the carrier asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The target is dialed.
    Dial,
    /// They wait in the queue.
    Hold,
    /// They are in the conference.
    Conference,
    /// The way back of the settings.
    WayBack,
    /// The conversation is over.
    Goodbye,
}

/// A final state and how it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The final state.
    pub state: State,
    /// How it came out.
    pub outcome: Outcome,
}

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is in the middle of.
    pub phase: Phase,
    /// Which way is being tried.
    pub method: Method,
    /// Which target, from 0.
    pub target: usize,
    /// The call to the target that is under way.
    pub leg: Option<CallId>,
    /// Whether that was answered.
    pub leg_answered: bool,
    /// Whether the caller waits in the queue.
    pub held: bool,
    /// Whether the caller ever waited in the queue: then the carrier keeps it until somebody
    /// deletes it.
    pub queued: bool,
    /// Why the last target was missed.
    pub miss: Option<Miss>,
    /// How it ends once the caller was taken back.
    pub then: Option<Ending>,
    /// The ending.
    pub ending: Option<Ending>,
    /// What last went wrong at the carrier.
    pub error: Option<StepError>,
    /// Without news until then it goes on by itself.
    pub deadline: Timestamp,
}

/// A transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Which story.
    pub mode: Mode,
    /// What the client decided.
    pub settings: Settings,
    /// The caller's call; none while they are yet to dial in.
    pub caller: Option<CallId>,
    /// How far it is.
    pub progress: Progress,
}

/// Why a client's wish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The caller's call is over.
    #[error("the caller's call has ended")]
    CallerGone,
    /// The caller's call has not begun.
    #[error("the caller's call was not answered yet")]
    NotAnswered,
    /// The call is one to a target.
    #[error("the call is itself part of a transfer")]
    PartOfTransfer,
    /// The caller's call has a transfer already.
    #[error("the caller's call is being transferred already")]
    InTransfer,
    /// It is over.
    #[error("the transfer has ended")]
    Ended,
    /// It is ending: the caller is being taken back.
    #[error("the transfer is ending")]
    Ending,
    /// It has a caller.
    #[error("the transfer has a caller")]
    HasCaller,
}

impl Transfer {
    /// A transfer that nothing was done for yet.
    pub fn new(mode: Mode, settings: Settings, caller: Option<CallId>, now: Timestamp) -> Self {
        let progress = Progress {
            phase: Phase::Requested,
            method: Method::Redirect,
            target: 0,
            leg: None,
            leg_answered: false,
            held: false,
            queued: false,
            miss: None,
            then: None,
            ending: None,
            error: None,
            deadline: now + decide::ACTION_MAX,
        };
        Self { mode, settings, caller, progress }
    }

    /// Where it stands, as clients see it.
    pub fn state(&self) -> State {
        let progress = &self.progress;
        if let Some(ending) = progress.ending {
            return ending.state;
        }
        match progress.phase {
            Phase::Requested | Phase::Hold => State::Requested,
            Phase::Redirect | Phase::Return => State::Redirecting,
            Phase::Enqueue => State::Dequeuing,
            Phase::QueueLeg if progress.leg.is_none() => State::Dequeuing,
            Phase::Notify
            | Phase::Settle
            | Phase::AwaitCaller
            | Phase::Dialing
            | Phase::Check
            | Phase::QueueLeg
            | Phase::ConferenceLeg
            | Phase::Move
            | Phase::Ended => State::Ringing,
        }
    }

    /// How it came out, once it is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.progress.ending.map(|ending| ending.outcome)
    }

    /// Carries an event out.
    pub fn apply(&mut self, event: &Event, now: Timestamp) {
        let progress = &mut self.progress;
        match event {
            Event::Created { .. }
            | Event::Redirected { .. }
            | Event::FellBack { .. }
            | Event::Accepted { .. } => {}
            Event::CallerJoined { call_id } => self.caller = Some(*call_id),
            Event::CallerWaiting => (progress.held, progress.queued) = (true, true),
            Event::Moved { phase, method, target } => {
                // A call to the target is for one phase, but for these, which go on with it.
                if !matches!(phase, Phase::Settle | Phase::Move) {
                    (progress.leg, progress.leg_answered) = (None, false);
                }
                // Dialing takes the caller out of the queue.
                if matches!(phase, Phase::Dialing) {
                    progress.held = false;
                }
                (progress.phase, progress.method, progress.target) = (*phase, *method, *target);
                progress.deadline = now + decide::at_most(*phase, &self.settings);
            }
            Event::TakingBack { state, outcome } => {
                (progress.leg, progress.leg_answered) = (None, false);
                progress.then = Some(Ending { state: *state, outcome: *outcome });
                progress.phase = Phase::Return;
                progress.deadline = now + decide::at_most(Phase::Return, &self.settings);
            }
            Event::TargetAnswered { .. } => {
                progress.leg_answered = true;
                progress.deadline = now + decide::at_most(progress.phase, &self.settings);
            }
            Event::ActionFailed { error, .. } => progress.error = Some(error.clone()),
            Event::LegStarted { call_id, .. } => {
                (progress.leg, progress.leg_answered) = (Some(*call_id), false);
                progress.deadline = now + decide::at_most(progress.phase, &self.settings);
            }
            Event::TargetMissed { miss, .. } => progress.miss = Some(*miss),
            Event::Ended { state, outcome } => {
                progress.ending = Some(Ending { state: *state, outcome: *outcome });
                (progress.phase, progress.deadline) = (Phase::Ended, Timestamp::NEVER);
            }
        }
    }
}

/// What is to be done next.
pub fn next_step(transfer: &Transfer) -> Step {
    let progress = &transfer.progress;
    let call = |purpose| if progress.leg.is_none() { Step::Call(purpose) } else { Step::Wait };
    match progress.phase {
        Phase::Requested => Step::Begin,
        Phase::Hold => Step::Act(Action::Hold),
        Phase::Redirect => Step::Act(Action::Redirect),
        Phase::Enqueue => Step::Act(Action::Enqueue),
        Phase::Move => Step::Act(Action::Move),
        Phase::Return => Step::Act(Action::Return),
        Phase::Check => Step::Act(Action::Check),
        Phase::Notify => call(Purpose::Notify),
        Phase::QueueLeg => call(Purpose::Queue),
        Phase::ConferenceLeg => call(Purpose::Conference),
        Phase::Settle | Phase::AwaitCaller | Phase::Dialing => Step::Wait,
        Phase::Ended => Step::Nothing,
    }
}

/// What the caller is to hear when the carrier asks.
pub fn heard(transfer: &Transfer) -> Heard {
    match transfer.progress.phase {
        Phase::Redirect | Phase::Dialing | Phase::Check => Heard::Dial,
        Phase::Requested
        | Phase::Hold
        | Phase::Notify
        | Phase::Settle
        | Phase::AwaitCaller
        | Phase::Enqueue
        | Phase::QueueLeg
        | Phase::ConferenceLeg => Heard::Hold,
        Phase::Move => Heard::Conference,
        Phase::Return => Heard::WayBack,
        Phase::Ended => match transfer.outcome() {
            Some(Outcome::Bridged | Outcome::CallerGone) => Heard::Goodbye,
            _ => Heard::WayBack,
        },
    }
}

#[cfg(test)]
mod tests;
