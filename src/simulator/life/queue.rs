//! `<Enqueue>` and `<Dial><Queue>`: both ends of a queue.

use tokio::sync::oneshot;

use crate::carrier::twiml::{Dial, Method, Queue};
use crate::domain::{CallSid, QueueSid};
use crate::simulator::ledger::Via;
use crate::simulator::request::Source;
use crate::simulator::switchboard::{Departure, Front, Pickup};

use super::dial::{TIMEOUT_DEFAULT_S, Told};
use super::follow::{Params, pair};
use super::{Cut, Flow, Life, OVER};

/// A call's stay in a queue.
struct Stay {
    queue: QueueSid,
    name: String,
    /// What was left of the call when it joined, in simulated seconds.
    joined_with_s: f64,
    /// Where to tell how it ended.
    action: Option<(String, Method)>,
}

impl Life {
    /// Waits in a queue; gives where to go on when somebody else or the `waitUrl` ended that.
    pub(super) async fn enqueue(
        &mut self,
        name: &str,
        action: Option<(String, Method)>,
        wait_url: Option<String>,
    ) -> Flow<Option<Source>> {
        // Bound, so that the lock is not held while the call waits.
        let joined = self.core.switchboard().join(&self.account.sid, name, self.index);
        let Some((queue, mut departure)) = joined else {
            let full = vec![pair("QueueResult", "queue-full")];
            return Ok(action.map(|(url, method)| self.link(&url, method, full)));
        };
        let stay = Stay { queue, name: name.to_owned(), joined_with_s: self.left_s, action };
        let wait = wait_url
            .map(|url| self.link(&url, Method::Post, vec![pair("QueueSid", stay.queue.as_str())]));
        let base = self.base.clone();
        let departed = tokio::select! {
            biased;
            // A queue is never closed: who is let go of it hears how.
            Ok(departure) = &mut departure => Ok(Some(departure)),
            held = self.hold(wait) => held.map(|()| None),
        };
        self.settle();
        self.core.switchboard().leave(self.index);
        self.base = base;
        match departed {
            Ok(Some(Departure::Taken(taken))) => self.come(taken, &stay).await,
            Ok(Some(Departure::Sent(source))) => {
                self.inform_of(&stay, "redirected");
                Err(Cut::Sent(source))
            }
            Ok(None) => Ok(self.leaving(&stay, "leave")),
            Err(Cut::Sent(source)) => {
                self.inform_of(&stay, "redirected");
                Err(Cut::Sent(source))
            }
            Err(Cut::End(end)) => {
                self.inform_of(&stay, "hangup");
                Err(Cut::End(end))
            }
        }
    }

    /// Talks to the call that dialed the queue.
    async fn come(&mut self, taken: Pickup, stay: &Stay) -> Flow<Option<Source>> {
        let Pickup { by, url, ready } = taken;
        if let Some(url) = url {
            let mut params = self.told(stay, "bridging-in-process");
            let by = self
                .core
                .switchboard()
                .entry(by)
                .map(|entry| pair("DequeingCallSid", entry.sid.as_str()));
            params.extend(by);
            let base = self.base.clone();
            let source = self.link(&url, Method::Post, params);
            self.alone(&source).await?;
            self.base = base;
        }
        let talked = self.bridged(by, Via::Queue, Some(&stay.name), ready, f64::INFINITY).await;
        match talked {
            Ok(talked) => Ok(self.leaving(stay, if talked { "bridged" } else { "error" })),
            Err(cut) => {
                let redirected = matches!(cut, Cut::Sent(_));
                self.inform_of(
                    stay,
                    if redirected { "redirected-from-bridged" } else { "bridged" },
                );
                Err(cut)
            }
        }
    }

    /// <https://www.twilio.com/docs/voice/twiml/enqueue#attributes-action-parameters>
    fn told(&self, stay: &Stay, result: &str) -> Params {
        let waited_s = (stay.joined_with_s - self.left_s).max(0.0);
        vec![
            pair("QueueResult", result),
            pair("QueueSid", stay.queue.as_str()),
            pair("QueueTime", waited_s.round().to_string()),
        ]
    }

    fn leaving(&self, stay: &Stay, result: &str) -> Option<Source> {
        let params = self.told(stay, result);
        stay.action.as_ref().map(|(url, method)| self.link(url, *method, params))
    }

    fn inform_of(&self, stay: &Stay, result: &str) {
        if let Some(action) = self.leaving(stay, result) {
            self.inform(&action);
        }
    }

    /// Takes whoever waits longest, or waits for somebody to come.
    pub(super) async fn dial_queue(&mut self, dial: &Dial, queue: &Queue) -> Flow<Told> {
        let mut patience_s = f64::from(dial.timeout_s.unwrap_or(TIMEOUT_DEFAULT_S));
        let url = queue.url.as_ref().map(|url| match self.link(url, Method::Post, Vec::new()) {
            Source::Fetched(fetch) => fetch.url,
            Source::Inline(_) => url.clone(),
        });
        loop {
            let (ready, joined) = oneshot::channel();
            let taken = Pickup { by: self.index, url: url.clone(), ready };
            // Bound, so that the lock is not held while somebody is waited for.
            let front = self.core.switchboard().take_front(&self.account.sid, &queue.name, taken);
            let before = self.left_s;
            match front {
                Front::Unknown => return Ok(Told::unreached("failed")),
                Front::Empty(mut arrivals) => {
                    if self.until(patience_s, arrivals.changed()).await?.is_none() {
                        return Ok(Told::unreached("no-answer"));
                    }
                    patience_s -= before - self.left_s;
                }
                Front::Called(sid) => {
                    let Some(Ok(over)) = self.until(f64::INFINITY, joined).await? else { continue };
                    return self.serve(dial, sid, over.cancelled()).await;
                }
            }
        }
    }

    /// Talks to a caller taken from a queue, until one of the two has enough.
    async fn serve(
        &mut self,
        dial: &Dial,
        sid: CallSid,
        over: impl Future<Output = ()>,
    ) -> Flow<Told> {
        self.answered = true;
        let limit_s = dial.time_limit_s.map_or(f64::INFINITY, f64::from);
        let talk_s = self.plan.talk_s;
        let before = self.left_s;
        let left = self.until(talk_s.min(limit_s), over).await?;
        if left.is_none() {
            // Who dialed has talked enough, and hangs up.
            if talk_s <= limit_s {
                return Err(OVER);
            }
            self.core.switchboard().part(self.index);
        }
        let talked_s = (before - self.left_s).round() as u32;
        Ok(Told { status: "completed", sid: Some(sid), talked_s: Some(talked_s) })
    }
}
