//! Queues of waiting callers.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{AccountSid, CallSid, QueueSid};
use crate::simulator::request::Source;

use super::{Moment, Switchboard, unique};

/// Twilio's default. <https://www.twilio.com/docs/voice/api/queue-resource#queue-properties>
pub const SIZE_DEFAULT: u32 = 1_000;
/// Queues that there may be, so that nothing grows without end; joining one more finds it full.
const QUEUES_MAX: usize = 10_000;

/// How a call is taken out of a queue.
pub(crate) enum Departure {
    /// Somebody dials the queue.
    Taken(Pickup),
    /// A client sends the call elsewhere.
    Sent(Source),
}

/// Who takes a call out of a queue.
pub(crate) struct Pickup {
    pub by: usize,
    /// What the call hears alone before it is connected.
    pub url: Option<String>,
    /// Told once the two are connected; dropped when they never are.
    pub ready: oneshot::Sender<CancellationToken>,
}

/// A call that waits.
pub(crate) struct Member {
    pub call: usize,
    pub sid: CallSid,
    pub since: Moment,
    out: oneshot::Sender<Departure>,
}

/// A queue.
pub(crate) struct Queue {
    pub sid: QueueSid,
    pub account: AccountSid,
    pub name: String,
    pub size_max: u32,
    pub created: Moment,
    pub members: VecDeque<Member>,
    /// Counts arrivals, so that whoever dials an empty queue learns of the next.
    arrivals: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct Queues {
    all: Vec<Queue>,
    by_name: HashMap<(AccountSid, String), usize>,
    /// How many were ever opened: no two have one SID.
    opened: usize,
}

/// What dialing a queue finds.
pub(crate) enum Front {
    /// There is no such queue.
    Unknown,
    /// Nobody waits; this changes when somebody comes.
    Empty(watch::Receiver<u64>),
    /// This call was told to come.
    Called(CallSid),
}

impl Switchboard {
    /// The queue of this name, opened if need be; none when there are too many.
    pub fn queue(&mut self, account: &AccountSid, name: &str, size_max: u32) -> Option<&Queue> {
        self.queue_index(account, name, size_max).and_then(|at| self.queues.all.get(at))
    }

    fn queue_index(&mut self, account: &AccountSid, name: &str, size_max: u32) -> Option<usize> {
        let key = (account.clone(), name.to_owned());
        if let Some(at) = self.queues.by_name.get(&key) {
            return Some(*at);
        }
        let at = self.queues.all.len();
        if at >= QUEUES_MAX {
            return None;
        }
        let sid = format!("QU{}", unique(self.clock.started_at, self.queues.opened));
        self.queues.opened += 1;
        self.queues.all.push(Queue {
            // Letters and digits, few enough for the type.
            sid: sid.parse().expect("letters and digits"),
            account: account.clone(),
            name: name.to_owned(),
            size_max,
            created: self.clock.now(),
            members: VecDeque::new(),
            arrivals: watch::Sender::new(0),
        });
        self.queues.by_name.insert(key, at);
        Some(at)
    }

    /// Removes a queue.
    pub fn close_queue(&mut self, sid: &str) {
        let Queues { all, by_name, .. } = &mut self.queues;
        all.retain(|queue| queue.sid.as_str() != sid);
        let names = all
            .iter()
            .enumerate()
            .map(|(at, queue)| ((queue.account.clone(), queue.name.clone()), at));
        *by_name = names.collect();
    }

    /// The account's queues, oldest first.
    pub fn queues(&self, account: &AccountSid) -> impl Iterator<Item = &Queue> {
        self.queues.all.iter().filter(move |queue| queue.account == *account)
    }

    /// Puts a live call at the queue's end, and gives the queue's SID and what will tell the call
    /// to leave; none when the queue is full.
    pub fn join(
        &mut self,
        account: &AccountSid,
        name: &str,
        call: usize,
    ) -> Option<(QueueSid, oneshot::Receiver<Departure>)> {
        let sid = self.live(call).and_then(|_| self.entry(call))?.sid.clone();
        let (at, since) = (self.queue_index(account, name, SIZE_DEFAULT)?, self.clock.now());
        let queue = self.queues.all.get_mut(at)?;
        if queue.members.len() >= queue.size_max as usize {
            return None;
        }
        let (out, departure) = oneshot::channel();
        queue.members.push_back(Member { call, sid, since, out });
        queue.arrivals.send_modify(|count| *count += 1);
        Some((queue.sid.clone(), departure))
    }

    /// Takes a call out of whatever queue it is in.
    pub fn leave(&mut self, call: usize) {
        for queue in &mut self.queues.all {
            queue.members.retain(|member| member.call != call);
        }
    }

    /// Tells the queue's first member to come to the call that dials it.
    pub fn take_front(&mut self, account: &AccountSid, name: &str, mut taken: Pickup) -> Front {
        let known = self.queues.by_name.get(&(account.clone(), name.to_owned()));
        let Some(queue) = known.and_then(|at| self.queues.all.get_mut(*at)) else {
            return Front::Unknown;
        };
        while let Some(member) = queue.members.pop_front() {
            match member.out.send(Departure::Taken(taken)) {
                Ok(()) => return Front::Called(member.sid),
                // It ended in this very moment.
                Err(Departure::Taken(back)) => taken = back,
                Err(Departure::Sent(_)) => break,
            }
        }
        Front::Empty(queue.arrivals.subscribe())
    }

    /// Sends a waiting call elsewhere; false when it is gone already.
    pub fn send_away(&mut self, queue: &QueueSid, position: usize, source: Source) -> bool {
        let queue = self.queues.all.iter_mut().find(|known| known.sid == *queue);
        let member = queue.and_then(|queue| queue.members.remove(position));
        member.is_some_and(|member| member.out.send(Departure::Sent(source)).is_ok())
    }
}
