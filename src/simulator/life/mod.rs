//! The life of one call: it is dialed, rings, is answered, follows its TwiML, and ends.
//!
//! One task a call. tokio's timer is a hashed wheel, so a hundred thousand waiting calls cost
//! little.

mod dial;
mod follow;
mod gather;
mod queue;
mod room;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::carrier::AmdMode;
use crate::carrier::twiml::Verb;
use crate::domain::call::{AnsweredBy, CarrierStatus};

use super::callbacks::{self, Outgoing};
use super::config::SimAccount;
use super::keys::Keys;
use super::plan::{Outcome, Plan, Press};
use super::request::{NewCall, Source};
use super::switchboard::{Change, NewLife};
use super::{Core, config};

use follow::Next;

/// From create to dialing, and from dialing to ringing, in simulated seconds.
const DIAL_S: f64 = 0.2;
const RING_BACK_S: f64 = 0.8;
/// How long machine detection takes, and a greeting up to its beep, in simulated seconds.
const DETECTION_S: f64 = 2.0;
const GREETING_S: f64 = 6.0;

/// Starts the task of a call and the one that sends its callbacks.
pub(crate) fn start(core: &Arc<Core>, account: &SimAccount, life: NewLife) {
    begin(core, account, life, None);
}

fn begin(core: &Arc<Core>, account: &SimAccount, life: NewLife, dialed: Option<Dialed>) {
    let NewLife { index, plan, request, commands, keys, outgoing, outbox } = life;
    let token = account.auth_token.clone();
    core.spawn(callbacks::deliver(core.clone(), token, plan.callback_seed, outgoing));
    let life = Life {
        core: core.clone(),
        account: account.clone(),
        index,
        left_s: f64::from(request.time_limit_s),
        presses: plan.presses.clone().into(),
        plan,
        request,
        commands,
        keys,
        base: None,
        answered: false,
        waiting_since: None,
        talked_s: 0.0,
    };
    core.spawn(life.run(outbox, dialed));
}

/// What a leg owes to the call that dialed it.
struct Dialed {
    parent: usize,
    /// What the callee hears alone before the two are connected.
    url: Option<Source>,
    /// Told once the two are connected; dropped when they never are.
    ready: oneshot::Sender<CancellationToken>,
}

struct Life {
    core: Arc<Core>,
    account: SimAccount,
    index: usize,
    plan: Plan,
    request: Arc<NewCall>,
    commands: mpsc::Receiver<Source>,
    keys: Arc<Keys>,
    /// What will be pressed at the next `<Gather>`s.
    presses: VecDeque<Press>,
    /// Where the document came from that is being followed.
    base: Option<Url>,
    /// Whether anybody has answered; an outbound call talks only then.
    answered: bool,
    /// Until the time limit or until this person hangs up, in simulated seconds.
    left_s: f64,
    /// How long the call has lasted since it was answered, in simulated seconds.
    talked_s: f64,
    /// Since when it waits for something, so that a wait that is dropped counts.
    waiting_since: Option<Instant>,
}

/// What keeps a call from going on as its document says.
enum Cut {
    /// The call is to go on elsewhere.
    Sent(Source),
    /// The call ends.
    End(End),
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody has ended it already.
    Gone,
    /// Its document, its time or this person's patience is over.
    Over,
    /// It was refused.
    Rejected,
    /// Its document cannot be had: Twilio says that an application error has occurred, and hangs
    /// up.
    Broken,
}

type Flow<T> = Result<T, Cut>;

const OVER: Cut = Cut::End(End::Over);
const BROKEN: Cut = Cut::End(End::Broken);

impl Life {
    async fn run(mut self, outbox: mpsc::Sender<Outgoing>, dialed: Option<Dialed>) {
        // Only detection needs to write to it: holding on to it would keep the delivery task alive.
        let outbox = self.request.detection.is_some().then_some(outbox);
        if self.request.inbound {
            return self.run_inbound().await;
        }
        if !self.after(DIAL_S, CarrierStatus::Initiated, 100).await {
            return;
        }
        if self.plan.outcome == Outcome::Failed {
            self.after(RING_BACK_S, CarrierStatus::Failed, 503).await;
            return;
        }
        if !self.after(RING_BACK_S, CarrierStatus::Ringing, 180).await {
            return;
        }
        let timeout_s = f64::from(self.request.ring_timeout_s);
        let in_time = self.plan.ring_s <= timeout_s;
        match self.plan.outcome {
            Outcome::Busy if in_time => {
                self.after(self.plan.ring_s, CarrierStatus::Busy, 486).await;
            }
            Outcome::Answered | Outcome::Machine if in_time => {
                if self.after(self.plan.ring_s, CarrierStatus::InProgress, 200).await {
                    self.answered = true;
                    self.limit_patience();
                    if let Some(outbox) = outbox {
                        self.detect(outbox);
                    }
                    let end = match dialed {
                        Some(dialed) => self.meet(dialed).await,
                        None => self.follow(Next::At(self.request.source.clone())).await,
                    };
                    self.finish(end);
                }
            }
            Outcome::Answered
            | Outcome::Machine
            | Outcome::Busy
            | Outcome::NoAnswer
            | Outcome::Failed => {
                self.after(timeout_s, CarrierStatus::NoAnswer, 487).await;
            }
        }
    }

    /// It rings while Twilio asks what to do with it; most of what can be done answers it.
    async fn run_inbound(mut self) {
        if !self.after(0.0, CarrierStatus::Ringing, 180).await {
            return;
        }
        self.limit_patience();
        let source = self.request.source.clone();
        let end = match self.load(&source).await {
            Ok(verbs) if verbs.is_empty() => match self.pick_up() {
                Ok(()) => End::Over,
                Err(_) => End::Gone,
            },
            Ok(verbs) => self.follow(Next::Document(verbs)).await,
            Err(Cut::End(end)) => end,
            // Nobody can send an unanswered call elsewhere.
            Err(Cut::Sent(_)) => End::Broken,
        };
        self.finish(end);
    }

    /// This person hangs up in time, whatever happens then.
    fn limit_patience(&mut self) {
        self.left_s = self.left_s.min(self.plan.hang_up_after_s.unwrap_or(f64::INFINITY));
    }

    fn finish(&self, end: End) {
        let (status, sip) = match (end, self.answered) {
            (End::Gone, _) => return,
            (End::Over | End::Rejected | End::Broken, true) => (CarrierStatus::Completed, 200),
            (End::Over, false) => (CarrierStatus::NoAnswer, 487),
            (End::Rejected, false) => (CarrierStatus::Busy, 486),
            (End::Broken, false) => (CarrierStatus::Failed, 500),
        };
        let duration_s = self.answered.then_some(self.talked_s);
        self.core.switchboard().change(self.index, Change { status, duration_s, sip });
    }

    /// Answers an inbound call that was not answered yet.
    fn pick_up(&mut self) -> Flow<()> {
        if self.answered {
            return Ok(());
        }
        let change = Change { status: CarrierStatus::InProgress, duration_s: None, sip: 200 };
        if !self.core.switchboard().change(self.index, change) {
            return Err(Cut::End(End::Gone));
        }
        self.answered = true;
        Ok(())
    }

    /// Waits, then moves on to `status`; false when somebody ended the call.
    async fn after(&mut self, seconds: f64, status: CarrierStatus, sip: u16) -> bool {
        let pause = self.core.real(seconds);
        let ended = tokio::select! {
            biased;
            // Nobody can send an unanswered call elsewhere, so this yields only when the call has
            // ended.
            _ = self.commands.recv() => true,
            () = pass(pause) => false,
        };
        !ended
            && self.core.switchboard().change(self.index, Change { status, duration_s: None, sip })
    }

    /// Waits within the time limit.
    async fn wait(&mut self, seconds: f64) -> Flow<()> {
        let never = std::future::pending::<()>();
        self.until(seconds, never).await.map(|_| ())
    }

    /// Waits for `event` within the time limit, and at most `seconds`; none when these have passed.
    async fn until<T>(&mut self, seconds: f64, event: impl Future<Output = T>) -> Flow<Option<T>> {
        enum Woken<T> {
            Command(Option<Source>),
            Happened(T),
            Passed,
        }
        let within = seconds.min(self.left_s);
        // Where no time passes, whoever waits for somebody else would never get to hear of him.
        let endless = self.core.config.is_instant()
            && seconds.is_infinite()
            && self.plan.hang_up_after_s.is_none();
        let (core, since) = (self.core.clone(), Instant::now());
        self.waiting_since = Some(since);
        let time = async {
            match endless {
                true => std::future::pending().await,
                false => pass(core.real(within)).await,
            }
        };
        let woken = tokio::select! {
            biased;
            command = self.commands.recv() => Woken::Command(command),
            happened = event => Woken::Happened(happened),
            () = time => Woken::Passed,
        };
        match woken {
            Woken::Passed => {
                self.waiting_since = None;
                self.spend(within);
            }
            Woken::Command(_) | Woken::Happened(_) => self.settle(),
        }
        // A command that was taken must not be dropped with this wait: it was accepted.
        if !matches!(woken, Woken::Command(_)) {
            tokio::task::yield_now().await;
        }
        match woken {
            Woken::Command(None) => Err(Cut::End(End::Gone)),
            Woken::Command(Some(source)) => Err(Cut::Sent(source)),
            Woken::Happened(happened) => Ok(Some(happened)),
            Woken::Passed if within < seconds => Err(OVER),
            Woken::Passed => Ok(None),
        }
    }

    /// Counts a wait that was cut short.
    fn settle(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            let seconds = self.core.simulated(since.elapsed()).min(self.left_s);
            self.spend(seconds);
        }
    }

    fn spend(&mut self, seconds: f64) {
        self.left_s -= seconds;
        if self.answered {
            self.talked_s += seconds;
        }
    }

    /// Reports who answered, beside the call.
    fn detect(&self, outbox: mpsc::Sender<Outgoing>) {
        let Some(detection) = &self.request.detection else { return };
        let (answered_by, took_s) = match (self.plan.outcome, detection.mode) {
            (Outcome::Machine, AmdMode::Enable) => (AnsweredBy::MachineStart, DETECTION_S),
            (Outcome::Machine, AmdMode::DetectMessageEnd) => {
                (AnsweredBy::MachineEndBeep, GREETING_S)
            }
            (Outcome::Answered | Outcome::Busy | Outcome::NoAnswer | Outcome::Failed, _) => {
                (AnsweredBy::Human, DETECTION_S)
            }
        };
        let (core, index) = (self.core.clone(), self.index);
        self.core.spawn(async move {
            pass(core.real(took_s)).await;
            let outgoing =
                core.switchboard().detected(index, answered_by, (took_s * 1_000.0) as u32);
            if let Some(outgoing) = outgoing {
                let _ = outbox.send(outgoing).await;
            }
        });
    }

    /// Whether `verb` answers a call that only rings so far.
    const fn answers(verb: &Verb) -> bool {
        match verb {
            Verb::Redirect { .. } | Verb::Reject => false,
            Verb::Dial(dial) => !dial.answer_on_bridge,
            Verb::Say { .. }
            | Verb::Play { .. }
            | Verb::Pause { .. }
            | Verb::Gather(_)
            | Verb::Enqueue { .. }
            | Verb::Leave
            | Verb::Hangup
            | Verb::Connect(_) => true,
        }
    }
}

/// Lets time pass; no time at all still lets others run.
async fn pass(pause: std::time::Duration) {
    if pause.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(pause).await;
    }
}

impl Core {
    /// Ends a live call as a client or a person asked; what it had lasted is read off the clock.
    pub(super) fn hang_up(&self, index: usize, status: CarrierStatus) -> bool {
        let mut switchboard = self.switchboard();
        let scale =
            if self.config.is_instant() { config::INSTANT_SPEED } else { self.config.speed };
        let duration_s = switchboard.answered_for_s(index).map(|s| s * scale);
        switchboard.change(
            index,
            Change { status, duration_s, sip: if duration_s.is_some() { 200 } else { 487 } },
        )
    }

    /// Ends a live call, whether it was answered or not.
    pub(super) fn end(&self, index: usize) -> bool {
        let answered = self.switchboard().answered_for_s(index).is_some();
        self.hang_up(
            index,
            if answered { CarrierStatus::Completed } else { CarrierStatus::Canceled },
        )
    }
}
