//! Conference rooms.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use crate::carrier::twiml::Conference;
use crate::domain::AccountSid;
use crate::simulator::ledger::Via;

use super::{Switchboard, unique};

type Name = (AccountSid, String);

struct Party {
    call: usize,
    start_on_enter: bool,
    end_on_exit: bool,
}

struct Room {
    sid: String,
    parties: Vec<Party>,
    begun: CancellationToken,
    over: CancellationToken,
    /// Numbers the room's events.
    events: u32,
}

#[derive(Default)]
pub(super) struct Rooms {
    open: HashMap<Name, Room>,
    opened: usize,
}

/// A call's place in a room.
pub(crate) struct Place {
    /// The conference's SID.
    pub sid: String,
    /// Canceled once the conference has started.
    pub begun: CancellationToken,
    /// Canceled once the conference has ended for everybody.
    pub over: CancellationToken,
    /// What happened by this, in order, numbered.
    pub events: Vec<(u32, &'static str)>,
}

impl Room {
    fn event(&mut self, what: &'static str) -> (u32, &'static str) {
        let number = self.events;
        self.events += 1;
        (number, what)
    }
}

impl Switchboard {
    /// Lets a call into a room; it hears everybody there once two are in, one of whom may start it.
    pub fn enter(&mut self, account: &AccountSid, conference: &Conference, call: usize) -> Place {
        let rooms = &mut self.rooms;
        let room =
            rooms.open.entry((account.clone(), conference.name.clone())).or_insert_with(|| {
                rooms.opened += 1;
                Room {
                    sid: format!("CF{}", unique(self.clock.started_at, rooms.opened)),
                    parties: Vec::new(),
                    begun: CancellationToken::new(),
                    over: CancellationToken::new(),
                    events: 0,
                }
            });
        room.parties.push(Party {
            call,
            start_on_enter: conference.start_on_enter,
            end_on_exit: conference.end_on_exit,
        });
        let mut events = vec![room.event("participant-join")];
        let mut pairs = Vec::new();
        let calls: Vec<usize> = room.parties.iter().map(|party| party.call).collect();
        if room.begun.is_cancelled() {
            pairs.extend(calls.iter().filter(|other| **other != call).map(|other| (*other, call)));
        } else if calls.len() > 1 && room.parties.iter().any(|party| party.start_on_enter) {
            room.begun.cancel();
            events.push(room.event("conference-start"));
            let later = |at: usize| calls[at + 1..].iter();
            pairs.extend(
                calls
                    .iter()
                    .enumerate()
                    .flat_map(|(at, one)| later(at).map(|other| (*one, *other))),
            );
        }
        let place = Place {
            sid: room.sid.clone(),
            begun: room.begun.clone(),
            over: room.over.clone(),
            events,
        };
        for (one, other) in pairs {
            self.bridge(one, other, Via::Conference, Some(&conference.name));
        }
        place
    }

    /// The account's rooms: name, SID, and whether the conference has started.
    pub fn rooms(&self, account: &AccountSid) -> impl Iterator<Item = (&str, &str, bool)> {
        let own = self.rooms.open.iter().filter(move |((of, _), _)| of == account);
        own.map(|((_, name), room)| (name.as_str(), room.sid.as_str(), room.begun.is_cancelled()))
    }

    /// Whether a call is in the room of this SID.
    pub fn is_in_room(&self, sid: &str, call: usize) -> bool {
        let mut rooms = self.rooms.open.values().filter(|room| room.sid == sid);
        rooms.any(|room| room.parties.iter().any(|party| party.call == call))
    }

    /// Lets a call out of its room, and tells what happened by that.
    pub fn exit(
        &mut self,
        account: &AccountSid,
        name: &str,
        call: usize,
    ) -> Vec<(u32, &'static str)> {
        self.part(call);
        let key = (account.clone(), name.to_owned());
        let Some(room) = self.rooms.open.get_mut(&key) else { return Vec::new() };
        let Some(at) = room.parties.iter().position(|party| party.call == call) else {
            return Vec::new();
        };
        let party = room.parties.remove(at);
        let mut events = vec![room.event("participant-leave")];
        if party.end_on_exit || room.parties.is_empty() {
            events.push(room.event("conference-end"));
            room.over.cancel();
            // Whoever is still in it finds it closed, and parts from the others now.
            let rest: Vec<usize> = room.parties.iter().map(|party| party.call).collect();
            self.rooms.open.remove(&key);
            rest.into_iter().for_each(|other| self.part(other));
        }
        events
    }
}
