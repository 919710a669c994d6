//! `<Dial>`: another party, and what comes of it.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::carrier::twiml::{Dial, Method, Noun, Number};
use crate::domain::CallSid;
use crate::domain::call::CarrierStatus;
use crate::simulator::Core;
use crate::simulator::ledger::Via;
use crate::simulator::request::{NewCall, Source, TIME_LIMIT_DEFAULT_S, TIMEOUT_MAX_S};
use crate::simulator::switchboard::NewLife;

use super::follow::{Next, Params, pair};
use super::{Cut, Dialed, End, Flow, Life};

/// Twilio rings for 30 s when `<Dial>` does not say.
pub(super) const TIMEOUT_DEFAULT_S: u32 = 30;

/// How a `<Dial>` ended.
pub(super) struct Told {
    /// `DialCallStatus`.
    pub status: &'static str,
    /// The other call.
    pub sid: Option<CallSid>,
    /// How long the two talked, in simulated seconds; none when they did not.
    pub talked_s: Option<u32>,
}

impl Told {
    pub const fn unreached(status: &'static str) -> Self {
        Self { status, sid: None, talked_s: None }
    }

    /// <https://www.twilio.com/docs/voice/twiml/dial#attributes-action-parameters>
    fn params(self) -> Params {
        let mut params = vec![pair("DialCallStatus", self.status)];
        params.extend(self.sid.map(|sid| pair("DialCallSid", sid.as_str())));
        params.extend(self.talked_s.map(|seconds| pair("DialCallDuration", seconds.to_string())));
        params.push(pair("DialBridged", self.talked_s.is_some().to_string()));
        params
    }
}

/// How the talk of two ended for the one that dialed.
enum Talk {
    /// They never talked.
    Never,
    /// The other party left.
    Left,
    /// The time that `<Dial>` allows was over, or `*` was pressed.
    CutOff,
}

impl Life {
    pub(super) async fn dial(&mut self, dial: Dial) -> Flow<Option<Source>> {
        let told = match &dial.noun {
            Noun::Number(number) => self.dial_number(&dial, number).await?,
            Noun::Queue(queue) => self.dial_queue(&dial, queue).await?,
            Noun::Conference(conference) => self.dial_conference(&dial, conference).await?,
        };
        Ok(dial.action.map(|url| self.link(&url, dial.method, told.params())))
    }

    async fn dial_number(&mut self, dial: &Dial, number: &Number) -> Flow<Told> {
        let Some(leg) = self.leg(dial, number) else { return Ok(Told::unreached("failed")) };
        let child = leg.index;
        let (ready, joined) = oneshot::channel();
        let url = number.url.as_ref().map(|url| self.link(url, Method::Post, Vec::new()));
        super::begin(
            &self.core,
            &self.account,
            leg,
            Some(Dialed { parent: self.index, url, ready }),
        );
        let talk = self.talk_with(dial, joined).await;
        // The leg is left when its callee leaves, or is sent elsewhere; else nobody is there for it
        // any more.
        if !matches!(talk, Ok(Talk::Left | Talk::Never)) {
            self.core.end(child);
        }
        let talked = matches!(talk?, Talk::Left | Talk::CutOff);
        let (status, sid, lasted_s) = self.core.leg_told(child);
        if self.core.config.is_instant() {
            self.talked_s += f64::from(lasted_s);
        }
        Ok(Told { status, sid, talked_s: talked.then_some(lasted_s) })
    }

    /// Records the call to `number`.
    fn leg(&self, dial: &Dial, number: &Number) -> Option<NewLife> {
        let from = dial.caller_id.clone().unwrap_or_else(|| self.request.from.clone());
        let mut events = number.status_callback_events.clone();
        if events.is_empty() {
            events.push("completed".into());
        }
        let mut switchboard = self.core.switchboard();
        let request = NewCall {
            to: number.number.clone(),
            from,
            // Never followed: who is dialed talks to the caller.
            source: Source::Inline(String::new()),
            status_callback: number.status_callback.clone(),
            events,
            ring_timeout_s: dial.timeout_s.unwrap_or(TIMEOUT_DEFAULT_S).clamp(1, TIMEOUT_MAX_S),
            time_limit_s: TIME_LIMIT_DEFAULT_S,
            detection: None,
            inbound: false,
            parent: Some(switchboard.entry(self.index)?.sid.clone()),
        };
        switchboard.dial(&self.core.config, &self.account, request)
    }

    async fn talk_with(
        &mut self,
        dial: &Dial,
        joined: oneshot::Receiver<CancellationToken>,
    ) -> Flow<Talk> {
        let Some(Ok(over)) = self.until(f64::INFINITY, joined).await? else {
            return Ok(Talk::Never);
        };
        self.answered = true;
        let keys = self.keys.clone();
        keys.forget();
        let star = async {
            match dial.hangup_on_star {
                true => while keys.next().await != '*' {},
                false => std::future::pending().await,
            }
        };
        let left = async {
            tokio::select! {
                () = over.cancelled() => Talk::Left,
                () = star => Talk::CutOff,
            }
        };
        let limit_s = dial.time_limit_s.map_or(f64::INFINITY, f64::from);
        Ok(self.until(limit_s, left).await?.unwrap_or(Talk::CutOff))
    }

    /// The life of the call that was dialed, from its answer on.
    pub(super) async fn meet(&mut self, dialed: Dialed) -> End {
        let Dialed { parent, url, ready } = dialed;
        let met = async {
            if let Some(url) = url {
                self.alone(&url).await?;
            }
            self.bridged(parent, Via::Number, None, ready, self.plan.talk_s).await
        };
        match met.await {
            // Who talked enough hangs up, and so does who is left alone.
            Ok(_) => End::Over,
            Err(Cut::End(end)) => end,
            Err(Cut::Sent(source)) => {
                self.core.switchboard().part(self.index);
                self.follow(Next::At(source)).await
            }
        }
    }

    /// Talks to the call that dialed this one, for at most `seconds`; false when there was nobody
    /// any more.
    pub(super) async fn bridged(
        &mut self,
        dialing: usize,
        via: Via,
        name: Option<&str>,
        ready: oneshot::Sender<CancellationToken>,
        seconds: f64,
    ) -> Flow<bool> {
        if ready.is_closed() {
            return Ok(false);
        }
        // Bound, so that the lock is not held while they talk.
        let bridge = self.core.switchboard().bridge(dialing, self.index, via, name);
        let Some(over) = bridge else { return Ok(false) };
        if ready.send(over.clone()).is_err() {
            self.core.switchboard().part(self.index);
            return Ok(false);
        }
        self.until(seconds, over.cancelled()).await?;
        Ok(true)
    }
}

impl Core {
    /// What a `<Dial>` says of the call that it made: its status in the words for it, its SID, and
    /// how long it lasted.
    fn leg_told(&self, leg: usize) -> (&'static str, Option<CallSid>, u32) {
        let switchboard = self.switchboard();
        let Some(entry) = switchboard.entry(leg) else { return ("failed", None, 0) };
        let status = match entry.status {
            CarrierStatus::Busy => "busy",
            CarrierStatus::NoAnswer => "no-answer",
            CarrierStatus::Failed => "failed",
            CarrierStatus::Canceled => "canceled",
            CarrierStatus::Queued
            | CarrierStatus::Initiated
            | CarrierStatus::Ringing
            | CarrierStatus::InProgress
            | CarrierStatus::Completed => "completed",
        };
        (status, Some(entry.sid.clone()), entry.duration_s.unwrap_or(0))
    }
}
