//! `<Dial><Conference>`: a room where everybody hears everybody.

use crate::carrier::twiml::{Conference, Dial, Method};
use crate::simulator::callbacks;
use crate::simulator::switchboard::Place;

use super::dial::Told;
use super::follow::pair;
use super::{Flow, Life, OVER};

impl Life {
    /// Waits until the conference starts, and stays until it ends or this person has enough.
    pub(super) async fn dial_conference(
        &mut self,
        dial: &Dial,
        conference: &Conference,
    ) -> Flow<Told> {
        self.pick_up()?;
        // Bound, so that the lock is not held while the conference lasts.
        let place = self.core.switchboard().enter(&self.account.sid, conference, self.index);
        self.report(conference, &place.sid, &place.events);
        let base = self.base.clone();
        let stayed = self.stay(dial, conference, &place).await;
        self.settle();
        self.base = base;
        let events = self.core.switchboard().exit(&self.account.sid, &conference.name, self.index);
        self.report(conference, &place.sid, &events);
        let talked_s = stayed?;
        // Twilio's word for a conference.
        Ok(Told { status: "answered", sid: None, talked_s })
    }

    /// How long the conference lasted for this call, in simulated seconds; none if it never
    /// started.
    async fn stay(
        &mut self,
        dial: &Dial,
        conference: &Conference,
        place: &Place,
    ) -> Flow<Option<u32>> {
        let limit_s = dial.time_limit_s.map_or(f64::INFINITY, f64::from);
        if !place.begun.is_cancelled() {
            // An empty address is silence.
            let wait = conference.wait_url.as_deref().filter(|url| !url.is_empty());
            let wait = wait
                .map(|url| self.link(url, Method::Post, vec![pair("ConferenceSid", &place.sid)]));
            let began = tokio::select! {
                biased;
                () = place.begun.cancelled() => true,
                held = self.hold(wait) => {
                    held?;
                    false
                }
            };
            self.settle();
            if !began {
                return Ok(None);
            }
        }
        let before = self.left_s;
        // Callers stay until they are left alone or their patience ends; who was called talks for a
        // while.
        let talk_s = if self.request.inbound { f64::INFINITY } else { self.plan.talk_s };
        let over = self.until(talk_s.min(limit_s), place.over.cancelled()).await?;
        if over.is_none() && talk_s <= limit_s {
            return Err(OVER);
        }
        Ok(Some((before - self.left_s).round() as u32))
    }

    /// <https://www.twilio.com/docs/voice/twiml/conference#attributes-status-callback-event>
    fn report(&self, conference: &Conference, sid: &str, events: &[(u32, &'static str)]) {
        let Some(url) = &conference.status_callback else { return };
        let asked = |event: &str| {
            let word = event.rsplit('-').next().unwrap_or(event);
            conference.status_callback_events.iter().any(|known| known == word)
        };
        for (number, event) in events.iter().filter(|(_, event)| asked(event)) {
            let mut params = self.common();
            params.extend([
                pair("ConferenceSid", sid),
                pair("FriendlyName", &conference.name),
                pair("StatusCallbackEvent", *event),
                pair("SequenceNumber", number.to_string()),
            ]);
            let (core, token) = (self.core.clone(), self.account.auth_token.clone());
            self.core.spawn(callbacks::tell(core, token, url.clone(), params));
        }
    }
}
