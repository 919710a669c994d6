//! The life of one call: it is dialed, rings, is answered, follows its TwiML, and ends.
//!
//! One task a call. tokio's timer is a hashed wheel, so a hundred thousand waiting calls cost little.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use url::Url;

use crate::carrier::AmdMode;
use crate::carrier::signature;
use crate::carrier::twiml::{self, Verb};
use crate::domain::call::{AnsweredBy, CarrierStatus};

use super::book::{Change, NewLife};
use super::callbacks::{self, Outgoing};
use super::config::SimAccount;
use super::plan::{Outcome, Plan};
use super::request::{NewCall, Source};
use super::{Core, config};

/// From create to dialing, and from dialing to ringing, in simulated seconds.
const DIAL_S: f64 = 0.2;
const RING_BACK_S: f64 = 0.8;
/// How long machine detection takes, and a greeting up to its beep, in simulated seconds.
const DETECTION_S: f64 = 2.0;
const GREETING_S: f64 = 6.0;
/// Documents that one call may go through: a redirect loop must end.
const DOCUMENTS_MAX: usize = 100;

/// Starts the task of a call and the one that sends its callbacks.
pub(crate) fn start(core: &Arc<Core>, account: &SimAccount, life: NewLife) {
    let NewLife { index, plan, request, commands, outgoing, outbox } = life;
    let token = account.auth_token.clone();
    core.spawn(callbacks::deliver(core.clone(), token, plan.callback_seed, outgoing));
    let left_s = f64::from(request.time_limit_s);
    let life = Life {
        core: core.clone(),
        account: account.clone(),
        index,
        plan,
        request,
        commands,
        left_s,
        talked_s: 0.0,
    };
    core.spawn(life.run(outbox));
}

struct Life {
    core: Arc<Core>,
    account: SimAccount,
    index: usize,
    plan: Plan,
    request: Arc<NewCall>,
    commands: mpsc::Receiver<Source>,
    /// Until the time limit, in simulated seconds.
    left_s: f64,
    /// How long the call has lasted since it was answered, in simulated seconds.
    talked_s: f64,
}

/// What ended a wait.
enum Woken {
    Elapsed,
    /// Somebody ended the call.
    Ended,
    /// The call is to go on elsewhere.
    Sent(Source),
    LimitReached,
}

/// What came of fetching a document.
enum Loaded {
    Document(Vec<Verb>, Option<Url>),
    Failed,
    Ended,
    Sent(Source),
}

impl Life {
    async fn run(mut self, outbox: mpsc::Sender<Outgoing>) {
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
                    if let Some(outbox) = outbox {
                        self.detect(outbox);
                    }
                    self.talk(None).await;
                }
            }
            Outcome::Answered | Outcome::Machine | Outcome::Busy | Outcome::NoAnswer | Outcome::Failed => {
                self.after(timeout_s, CarrierStatus::NoAnswer, 487).await;
            }
        }
    }

    /// It rings while Twilio asks what to do with it; that answers it.
    async fn run_inbound(&mut self) {
        if !self.after(0.0, CarrierStatus::Ringing, 180).await {
            return;
        }
        let source = self.request.source.clone();
        match self.load(&source, None).await {
            Loaded::Document(verbs, base) => {
                if verbs.first() == Some(&Verb::Reject) {
                    self.after(0.0, CarrierStatus::Busy, 486).await;
                } else if self.after(0.0, CarrierStatus::InProgress, 200).await {
                    self.talk(Some((verbs, base))).await;
                }
            }
            // Twilio says that an application error has occurred, and hangs up.
            Loaded::Failed => drop(self.after(0.0, CarrierStatus::Failed, 500).await),
            Loaded::Ended | Loaded::Sent(_) => {}
        }
    }

    /// Waits, then moves on to `status`; false when somebody ended the call.
    async fn after(&mut self, seconds: f64, status: CarrierStatus, sip: u16) -> bool {
        let pause = self.core.real(seconds);
        let ended = tokio::select! {
            biased;
            // Nobody can send an unanswered call elsewhere, so this yields only when the call has ended.
            _ = self.commands.recv() => true,
            () = pass(pause) => false,
        };
        !ended && self.core.book().change(self.index, Change { status, duration_s: None, sip })
    }

    /// Waits within the time limit while the call talks.
    async fn wait(&mut self, seconds: f64) -> Woken {
        let within = seconds.min(self.left_s);
        let woken = tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Woken::Ended, Woken::Sent),
            () = pass(self.core.real(within)) => {
                self.talked_s += within;
                self.left_s -= within;
                if within < seconds { Woken::LimitReached } else { Woken::Elapsed }
            }
        };
        tokio::task::yield_now().await;
        woken
    }

    /// Reports who answered, beside the call.
    fn detect(&self, outbox: mpsc::Sender<Outgoing>) {
        let Some(detection) = &self.request.detection else { return };
        let (answered_by, took_s) = match (self.plan.outcome, detection.mode) {
            (Outcome::Machine, AmdMode::Enable) => (AnsweredBy::MachineStart, DETECTION_S),
            (Outcome::Machine, AmdMode::DetectMessageEnd) => (AnsweredBy::MachineEndBeep, GREETING_S),
            (Outcome::Answered | Outcome::Busy | Outcome::NoAnswer | Outcome::Failed, _) => {
                (AnsweredBy::Human, DETECTION_S)
            }
        };
        let (core, index) = (self.core.clone(), self.index);
        self.core.spawn(async move {
            pass(core.real(took_s)).await;
            let outgoing = core.book().detected(index, answered_by, (took_s * 1_000.0) as u32);
            if let Some(outgoing) = outgoing {
                let _ = outbox.send(outgoing).await;
            }
        });
    }

    /// Follows the call's documents, from the `first` if it is there already, until one ends, somebody hangs up, or
    /// the time limit is reached.
    async fn talk(&mut self, first: Option<(Vec<Verb>, Option<Url>)>) {
        let mut source = self.request.source.clone();
        let mut base = None;
        let mut ready = first.map(|(verbs, base)| Loaded::Document(verbs, base));
        'documents: for _ in 0..DOCUMENTS_MAX {
            let loaded = match ready.take() {
                Some(loaded) => loaded,
                None => self.load(&source, base.take()).await,
            };
            let verbs = match loaded {
                Loaded::Document(verbs, from) => {
                    base = from;
                    verbs
                }
                Loaded::Sent(next) => {
                    source = next;
                    continue;
                }
                Loaded::Ended => return,
                // Twilio says that an application error has occurred, and hangs up.
                Loaded::Failed => break,
            };
            for verb in verbs {
                let seconds = match verb {
                    Verb::Say { .. } | Verb::Play { .. } | Verb::Connect(_) => self.plan.talk_s,
                    Verb::Pause { length_s } => f64::from(length_s),
                    Verb::Redirect { url } => {
                        source = Source::Fetched { url, fallback_url: None };
                        continue 'documents;
                    }
                    // The simulator does not follow these yet.
                    Verb::Dial(_) | Verb::Enqueue { .. } | Verb::Gather(_) | Verb::Leave => break 'documents,
                    Verb::Hangup | Verb::Reject => break 'documents,
                };
                match self.wait(seconds).await {
                    Woken::Elapsed => {}
                    Woken::Ended => return,
                    Woken::LimitReached => break 'documents,
                    Woken::Sent(next) => {
                        source = next;
                        continue 'documents;
                    }
                }
            }
            break;
        }
        let duration_s = Some(self.talked_s);
        self.core
            .book()
            .change(self.index, Change { status: CarrierStatus::Completed, duration_s, sip: 200 });
    }

    /// The document, from `source` or its fallback. Addresses may be relative to `base`.
    async fn load(&mut self, source: &Source, base: Option<Url>) -> Loaded {
        let (url, fallback_url) = match source {
            Source::Inline(xml) => {
                return match twiml::Response::parse(xml) {
                    Ok(response) => Loaded::Document(response.0, None),
                    Err(_) => Loaded::Failed,
                };
            }
            Source::Fetched { url, fallback_url } => (url, fallback_url),
        };
        for (nth, url) in [Some(url), fallback_url.as_ref()].into_iter().flatten().enumerate() {
            let Some(url) = base.as_ref().map_or_else(|| Url::parse(url), |base| base.join(url)).ok() else {
                continue;
            };
            let mut params = match self.core.book().entry(self.index) {
                Some(entry) => callbacks::common(entry),
                None => return Loaded::Failed,
            };
            if nth > 0 {
                params.push(("ErrorCode".into(), "11200".into()));
            }
            let signature = signature::sign(self.account.auth_token.expose_secret(), url.as_str(), &params);
            let fetched = tokio::select! {
                biased;
                command = self.commands.recv() => return command.map_or(Loaded::Ended, Loaded::Sent),
                fetched = self.core.poster.post_form(url.as_str(), &params, &signature) => fetched,
            };
            if let Ok((200..300, body)) = fetched
                && let Ok(response) = twiml::Response::parse(&body)
            {
                return Loaded::Document(response.0, Some(url));
            }
        }
        Loaded::Failed
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
    /// Ends a live call as a client asked; what it had lasted is read off the clock.
    pub(super) fn hang_up(&self, index: usize, status: CarrierStatus) -> bool {
        let mut book = self.book();
        let scale = if self.config.is_instant() { config::INSTANT_SPEED } else { self.config.speed };
        let duration_s = book.answered_for_s(index).map(|s| s * scale);
        book.change(index, Change { status, duration_s, sip: if duration_s.is_some() { 200 } else { 487 } })
    }
}
