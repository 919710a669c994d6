//! Signed callbacks, as Twilio sends them, and what goes wrong with them.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;

use crate::carrier::callback_client::Error;
use crate::carrier::signature;
use crate::carrier::wire::{answered_by_word, format_rfc2822};
use crate::domain::Timestamp;
use crate::domain::call::{AnsweredBy, CarrierStatus};

use super::Core;
use super::ledger::Entry;
use super::plan::{self, CallbackPlan};
use super::request::NewCall;

/// Callbacks of one call that wait to be sent; a call has at most five.
pub(crate) const OUTBOX_MAX: usize = 16;
/// Twilio's most retries.
/// <https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>
const RETRIES_MAX: u32 = 5;
/// Twilio's retries when the URL does not say.
const RETRIES_DEFAULT: u32 = 1;

/// A webhook that waits to be sent. No `Debug`: the parameters hold phone numbers.
pub(crate) struct Outgoing {
    url: String,
    params: Vec<(String, String)>,
    /// Numbers the call's status callbacks; none for others, which no fault hits.
    sequence: Option<u32>,
}

/// What every webhook of Twilio's says of its call.
pub(crate) fn common(entry: &Entry) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let parent = entry.parent_sid.iter().map(|sid| pair("ParentCallSid", sid.as_str()));
    let mut params = vec![
        pair("CallSid", entry.sid.as_str()),
        pair("AccountSid", entry.account_sid.as_str()),
        pair("From", entry.from.expose()),
        pair("To", entry.to.expose()),
        pair("Caller", entry.from.expose()),
        pair("Called", entry.to.expose()),
        pair("CallStatus", entry.status.as_str()),
        pair("Direction", entry.direction()),
        pair("ApiVersion", "2010-04-01"),
    ];
    params.extend(parent);
    params
}

/// The status callback for the status that `entry` has now, if it was asked for.
pub(crate) fn status(
    request: &NewCall,
    entry: &Entry,
    sequence: u32,
    at: Timestamp,
    sip: u16,
) -> Option<Outgoing> {
    let event = match entry.status {
        CarrierStatus::Queued => return None,
        CarrierStatus::Initiated => "initiated",
        CarrierStatus::Ringing => "ringing",
        CarrierStatus::InProgress => "answered",
        CarrierStatus::Completed
        | CarrierStatus::Busy
        | CarrierStatus::NoAnswer
        | CarrierStatus::Canceled
        | CarrierStatus::Failed => "completed",
    };
    let url =
        request.status_callback.clone().filter(|_| request.events.iter().any(|e| e == event))?;
    let mut params = common(entry);
    let mut add = |name: &str, value: String| params.push((name.to_owned(), value));
    add("Timestamp", format_rfc2822(at));
    add("CallbackSource", "call-progress-events".into());
    add("SequenceNumber", sequence.to_string());
    if entry.status.is_final() {
        let duration = entry.duration_s.unwrap_or(0);
        add("CallDuration", duration.to_string());
        // Billed minutes.
        add("Duration", duration.div_ceil(60).to_string());
        add("SipResponseCode", sip.to_string());
        if let Some(answered_by) = entry.answered_by {
            add("AnsweredBy", answered_by_word(answered_by).into());
        }
    }
    Some(Outgoing { url, params, sequence: Some(sequence) })
}

/// The callback of asynchronous machine detection, if it was asked for.
pub(crate) fn detection(
    request: &NewCall,
    entry: &Entry,
    answered_by: AnsweredBy,
    took_ms: u32,
) -> Option<Outgoing> {
    let url = request.detection.as_ref()?.callback_url.clone()?;
    let params = vec![
        ("CallSid".to_owned(), entry.sid.to_string()),
        ("AccountSid".to_owned(), entry.account_sid.to_string()),
        ("AnsweredBy".to_owned(), answered_by_word(answered_by).to_owned()),
        ("MachineDetectionDuration".to_owned(), took_ms.to_string()),
    ];
    Some(Outgoing { url, params, sequence: None })
}

/// Tells `url` something that no call waits for and no fault hits.
pub(crate) async fn tell(
    core: Arc<Core>,
    token: SecretString,
    url: String,
    params: Vec<(String, String)>,
) {
    send(&core, &token, &Outgoing { url, params, sequence: None }, CallbackPlan::NOTHING).await;
}

/// Sends one call's callbacks in order, except where a fault says otherwise; ends when the call
/// has.
pub(crate) async fn deliver(
    core: Arc<Core>,
    token: SecretString,
    seed: u64,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let mut held: Option<(Outgoing, CallbackPlan)> = None;
    while let Some(next) = outgoing.recv().await {
        let plan = core.callback_plan(seed, next.sequence);
        if plan.reordered && held.is_none() {
            held = Some((next, plan));
            continue;
        }
        send(&core, &token, &next, plan).await;
        if let Some((late, plan)) = held.take() {
            send(&core, &token, &late, plan).await;
        }
    }
    if let Some((late, plan)) = held {
        send(&core, &token, &late, plan).await;
    }
}

async fn send(core: &Core, token: &SecretString, outgoing: &Outgoing, plan: CallbackPlan) {
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    if plan.lost {
        core.switchboard().ledger.callbacks_lost += 1;
        return;
    }
    for _ in 0..(1 + u32::from(plan.duplicated)) {
        let answered = post(core, token, outgoing).await;
        let mut switchboard = core.switchboard();
        if answered {
            switchboard.ledger.callbacks_sent += 1;
        } else {
            switchboard.ledger.callbacks_failed += 1;
        }
    }
}

/// Posts until there is a 2xx or the retries are used up.
async fn post(core: &Core, token: &SecretString, outgoing: &Outgoing) -> bool {
    let signature = signature::sign(token.expose_secret(), &outgoing.url, &outgoing.params);
    // Twilio itself repeats after a failed connection only; a 5xx is repeated here too.
    let policy = Override::read(&outgoing.url, "ct,5xx");
    for attempt in 0..=policy.retries {
        // The semaphore is never closed; without it, a burst would open a connection for every
        // call.
        let permit = core.posting.acquire().await;
        let posted = core.poster.post_form(&outgoing.url, &outgoing.params, &signature).await;
        drop(permit);
        let Err(failure) = Failure::of(posted) else { return true };
        let Some(pause) = policy.pause_after(attempt, failure) else {
            tracing::debug!(?failure, attempt, "a simulated callback failed");
            return false;
        };
        tokio::time::sleep(pause).await;
    }
    false
}

/// Before the second try of one request; each further pause is twice the one before. With five
/// retries a server may be away for three seconds.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Why a request to the client's server came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Connect,
    Read,
    Status(u16),
}

impl Failure {
    /// The body, or why there is none.
    pub fn of(answer: Result<(u16, String), Error>) -> Result<String, Self> {
        match answer {
            Ok((200..300, body)) => Ok(body),
            Ok((status, _)) => Err(Self::Status(status)),
            Err(Error::Connect(_)) => Err(Self::Connect),
            Err(Error::Answer(_)) => Err(Self::Read),
        }
    }
}

/// A connection override: the fragment of a webhook's URL, `#rc=2&rp=ct,5xx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Override {
    retries: u32,
    connect: bool,
    read: bool,
    status_4xx: bool,
    status_5xx: bool,
}

impl Override {
    /// As `url` says. If it does not say after what to try again, then after what `otherwise`
    /// names.
    pub fn read(url: &str, otherwise: &str) -> Self {
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        let value = |name: &str| {
            fragment
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v)
        };
        let retries =
            value("rc").and_then(|v| v.parse().ok()).unwrap_or(RETRIES_DEFAULT).min(RETRIES_MAX);
        let policy = value("rp").map_or_else(|| otherwise.to_owned(), |v| v.replace("%2C", ","));
        let has = |word: &str| policy.split(',').any(|w| w == word || w == "all");
        Self {
            retries,
            connect: has("ct"),
            read: has("rt"),
            status_4xx: has("4xx"),
            status_5xx: has("5xx"),
        }
    }

    /// How long to wait before the next try after this one, from 0, failed; none to give up.
    pub fn pause_after(&self, attempt: u32, failure: Failure) -> Option<Duration> {
        (attempt < self.retries && self.retries_after(failure))
            .then(|| RETRY_PAUSE * 2_u32.pow(attempt))
    }

    const fn retries_after(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.connect,
            Failure::Read => self.read,
            Failure::Status(400..500) => self.status_4xx,
            Failure::Status(500..) => self.status_5xx,
            Failure::Status(_) => false,
        }
    }
}

impl Core {
    fn callback_plan(&self, seed: u64, sequence: Option<u32>) -> CallbackPlan {
        let faults = self.switchboard().faults;
        sequence
            .map_or(CallbackPlan::NOTHING, |sequence| plan::draw_callback(&faults, seed, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides() {
        let plain = Override::read("https://a.test/x", "ct,5xx");
        assert_eq!(plain.retries, 1);
        assert!(plain.retries_after(Failure::Connect) && plain.retries_after(Failure::Status(503)));
        assert!(!plain.retries_after(Failure::Read) && !plain.retries_after(Failure::Status(404)));
        let all = Override::read("https://a.test/x?rc=9#rc=3&rp=all", "ct,5xx");
        assert_eq!(all.retries, 3);
        assert!(all.retries_after(Failure::Read) && all.retries_after(Failure::Status(404)));
        assert!(!all.retries_after(Failure::Status(302)));
        assert_eq!(Override::read("x#rc=99&rp=rt%2C4xx", "ct,5xx").retries, 5);
        assert_eq!(Override::read("x#rc=0", "ct,5xx").retries, 0);
    }
}
