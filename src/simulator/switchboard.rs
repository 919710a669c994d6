//! Everything the simulator remembers, under one lock: calls, what lives, what is scripted.

mod bridges;
mod queues;
mod rooms;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::domain::call::{AnsweredBy, CarrierStatus};
use crate::domain::{AccountSid, CallSid, Phone, Timestamp};

use super::callbacks::{self, Outgoing};
use super::config::{Config, Faults, SimAccount};
use super::keys::Keys;
use super::ledger::{Asked, ENTRIES_MAX, Entry, Ledger, Step};
use super::plan::{self, CreateFault, Plan, Scripted};
use super::request::{NewCall, Source};
use super::request_faults::Waiting;

pub(crate) use queues::{Departure, Front, Pickup, Queue, SIZE_DEFAULT as QUEUE_SIZE_DEFAULT};
pub(crate) use rooms::Place;

/// Numbers that may be scripted at once, and scripts for one number.
const SCRIPTED_MAX: usize = 100_000;
const SCRIPTED_PER_NUMBER_MAX: usize = 1_000;
/// Changes of one live call that wait to be carried out.
pub(crate) const COMMANDS_MAX: usize = 16;
/// How much earlier than its pace a create may come, in seconds: networks bunch.
const PACE_TOLERANCE_S: f64 = 0.25;

/// The clocks, so that every record carries both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub at: Timestamp,
    pub monotonic_us: u64,
}

impl Clock {
    pub fn start() -> Self {
        let started_at = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
        Self { started: Instant::now(), started_at }
    }

    pub fn now(&self) -> Moment {
        let since = self.started.elapsed();
        let monotonic_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Moment { at: self.started_at + since, monotonic_us }
    }
}

/// What only a live call needs.
pub(crate) struct Live {
    pub request: Arc<NewCall>,
    /// Dropped when the call ends: that is how its task learns of it.
    pub commands: mpsc::Sender<Source>,
    pub keys: Arc<Keys>,
    outbox: mpsc::Sender<Outgoing>,
    sequence: u32,
}

/// What the simulator makes of a create.
pub(crate) enum Taken {
    /// A call exists; `fault` spoils the answer only.
    Call(Box<NewLife>),
    /// 20429.
    TooMany,
    /// No call, and this fault.
    Fault(CreateFault, std::time::Duration),
}

/// A call that begins.
pub(crate) struct NewLife {
    pub index: usize,
    pub plan: Plan,
    pub request: Arc<NewCall>,
    pub commands: mpsc::Receiver<Source>,
    pub keys: Arc<Keys>,
    pub outgoing: mpsc::Receiver<Outgoing>,
    pub outbox: mpsc::Sender<Outgoing>,
}

/// How a call changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub status: CarrierStatus,
    /// How long the call lasted, in simulated seconds, if it did.
    pub duration_s: Option<f64>,
    /// The far end's SIP answer.
    pub sip: u16,
}

/// The state behind the lock.
pub(crate) struct Switchboard {
    /// Its lists of calls are empty: they are made from `calls` when somebody asks.
    pub ledger: Ledger,
    pub faults: Faults,
    pub request_faults: Waiting,
    calls: Vec<Entry>,
    /// How many of `calls`, and how many of those that live, were made by a `<Dial>`.
    legs: usize,
    legs_live: usize,
    open: Vec<bridges::Open>,
    queues: queues::Queues,
    rooms: rooms::Rooms,
    by_sid: HashMap<CallSid, usize>,
    by_to: HashMap<Phone, Vec<usize>>,
    live: HashMap<usize, Live>,
    creates_to: HashMap<Phone, u32>,
    scripted: HashMap<Phone, VecDeque<Scripted>>,
    /// GCRA's theoretical arrival time of each paced account, in monotonic seconds.
    paced: HashMap<AccountSid, f64>,
    clock: Clock,
}

impl Switchboard {
    pub fn new(faults: Faults, clock: Clock) -> Self {
        Self {
            ledger: Ledger::default(),
            faults,
            request_faults: Waiting::default(),
            calls: Vec::new(),
            legs: 0,
            legs_live: 0,
            open: Vec::new(),
            queues: queues::Queues::default(),
            rooms: rooms::Rooms::default(),
            by_sid: HashMap::new(),
            by_to: HashMap::new(),
            live: HashMap::new(),
            creates_to: HashMap::new(),
            scripted: HashMap::new(),
            paced: HashMap::new(),
            clock,
        }
    }

    /// Holds `script` ready for the next creates to its number; false when there are too many.
    pub fn script(&mut self, script: Scripted) -> bool {
        if self.scripted.len() >= SCRIPTED_MAX && !self.scripted.contains_key(&script.to) {
            return false;
        }
        let queue = self.scripted.entry(script.to.clone()).or_default();
        let fits = queue.len() < SCRIPTED_PER_NUMBER_MAX;
        if fits && script.times > 0 {
            queue.push_back(script);
        }
        fits
    }

    /// Everything seen so far.
    pub fn ledger(&self) -> Ledger {
        let (legs, entries) =
            self.calls.iter().cloned().partition(|entry| entry.parent_sid.is_some());
        Ledger { entries, legs, ..self.ledger.clone() }
    }

    /// Creates accepted and calls placed to us.
    pub const fn created(&self) -> usize {
        self.calls.len() - self.legs
    }

    /// Notes a request that changes a call.
    pub fn note(&mut self, asked: Asked) {
        if self.ledger.asked.len() < ENTRIES_MAX {
            self.ledger.asked.push(asked);
        }
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn refuse(&mut self, reason: impl Into<String>) {
        *self.ledger.refused.entry(reason.into()).or_insert(0) += 1;
    }

    /// Decides what becomes of a create, and records the call if there is one.
    pub fn take(&mut self, config: &Config, account: &SimAccount, request: NewCall) -> Taken {
        let now = self.clock.now();
        if self.calls.len() >= ENTRIES_MAX || !self.keeps_pace(account, now) {
            self.refuse("20429");
            return Taken::TooMany;
        }
        let nth = self.count_create(&request.to);
        let scripted = next_script(&mut self.scripted, &request.to);
        let plan = plan::draw(config, &self.faults, &request.to, nth, scripted.as_ref());
        match plan.fault {
            Some(
                fault @ (CreateFault::Error500Before
                | CreateFault::TooMany
                | CreateFault::ResetBefore),
            ) => {
                self.refuse(fault.name());
                Taken::Fault(fault, plan.slow_answer)
            }
            Some(CreateFault::Lost | CreateFault::Error500After) | None => {
                Taken::Call(Box::new(self.begin(account, request, plan, now)))
            }
        }
    }

    /// Records a call that somebody places to a number of the account's. It is answered: by a
    /// computer.
    pub fn place(&mut self, account: &SimAccount, request: NewCall, plan: Plan) -> Option<NewLife> {
        if self.calls.len() >= ENTRIES_MAX {
            return None;
        }
        let now = self.clock.now();
        Some(self.begin(account, request, plan, now))
    }

    /// Records a call that a `<Dial>` makes. It is no create: it is not paced, and no fault meets
    /// it.
    pub fn dial(
        &mut self,
        config: &Config,
        account: &SimAccount,
        request: NewCall,
    ) -> Option<NewLife> {
        if self.calls.len() >= ENTRIES_MAX {
            return None;
        }
        let now = self.clock.now();
        let nth = self.count_create(&request.to);
        let scripted = next_script(&mut self.scripted, &request.to);
        let mut plan = plan::draw(config, &self.faults, &request.to, nth, scripted.as_ref());
        plan.fault = None;
        Some(self.begin(account, request, plan, now))
    }

    /// How often `to` was called before. Bounded: refused creates are in no ledger, but are counted
    /// here.
    fn count_create(&mut self, to: &Phone) -> u32 {
        if self.creates_to.len() >= ENTRIES_MAX && !self.creates_to.contains_key(to) {
            return 0;
        }
        let count = self.creates_to.entry(to.clone()).or_insert(0);
        let before = *count;
        *count = before.saturating_add(1);
        before
    }

    /// GCRA on real time.
    fn keeps_pace(&mut self, account: &SimAccount, now: Moment) -> bool {
        let Some(rate) = account.calls_per_second else { return true };
        let now = now.monotonic_us as f64 / 1e6;
        let due = self.paced.entry(account.sid.clone()).or_insert(now);
        if now + PACE_TOLERANCE_S < *due {
            return false;
        }
        *due = due.max(now) + 1.0 / rate;
        true
    }

    fn begin(
        &mut self,
        account: &SimAccount,
        request: NewCall,
        plan: Plan,
        now: Moment,
    ) -> NewLife {
        let index = self.calls.len();
        let sid = call_sid(self.clock.started_at, index);
        let request = Arc::new(request);
        let queued =
            Step { status: CarrierStatus::Queued, at_us: now.at, monotonic_us: now.monotonic_us };
        self.calls.push(Entry {
            sid: sid.clone(),
            account_sid: account.sid.clone(),
            to: request.to.clone(),
            from: request.from.clone(),
            inbound: request.inbound,
            parent_sid: request.parent.clone(),
            status_callback: request.status_callback.clone(),
            arrived_at_us: now.at,
            arrived_monotonic_us: now.monotonic_us,
            answered_at_us: None,
            status: CarrierStatus::Queued,
            steps: vec![queued],
            ended_at_us: None,
            ended_monotonic_us: None,
            duration_s: None,
            answered_by: None,
            fault: plan.fault,
        });
        self.by_sid.insert(sid, index);
        self.by_to.entry(request.to.clone()).or_default().push(index);
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (outbox, outgoing) = mpsc::channel(callbacks::OUTBOX_MAX);
        let keys = Arc::<Keys>::default();
        let live = Live {
            request: request.clone(),
            commands,
            keys: keys.clone(),
            outbox: outbox.clone(),
            sequence: 0,
        };
        self.live.insert(index, live);
        let is_leg = usize::from(request.parent.is_some());
        (self.legs, self.legs_live) = (self.legs + is_leg, self.legs_live + is_leg);
        self.ledger.peak_live = self.ledger.peak_live.max(self.live.len() - self.legs_live);
        NewLife { index, plan, request, commands: commanded, keys, outgoing, outbox }
    }

    /// Notes that the create is being answered.
    pub fn answer(&mut self, index: usize) {
        let now = self.clock.now();
        if let Some(entry) = self.calls.get_mut(index) {
            entry.answered_at_us = Some(now.at);
        }
    }

    /// Moves a live call on and queues its callback; false when it has ended already.
    pub fn change(&mut self, index: usize, change: Change) -> bool {
        let now = self.clock.now();
        let (Some(live), Some(entry)) = (self.live.get_mut(&index), self.calls.get_mut(index))
        else {
            return false;
        };
        entry.status = change.status;
        entry.steps.push(Step {
            status: change.status,
            at_us: now.at,
            monotonic_us: now.monotonic_us,
        });
        if change.status.is_final() {
            entry.ended_at_us = Some(now.at);
            entry.ended_monotonic_us = Some(now.monotonic_us);
            // Twilio bills and reports whole seconds, and never says less than one for an answered
            // call.
            entry.duration_s = Some(change.duration_s.map_or(0, |s| s.round().max(1.0) as u32));
        }
        if let Some(outgoing) =
            callbacks::status(&live.request, entry, live.sequence, now.at, change.sip)
        {
            // A call has fewer events than the outbox has places.
            let _ = live.outbox.try_send(outgoing);
        }
        live.sequence += 1;
        if change.status.is_final() {
            self.legs_live -= usize::from(live.request.parent.is_some());
            self.live.remove(&index);
            self.part(index);
        }
        true
    }

    /// Notes who answered, and gives the callback that says so.
    pub fn detected(
        &mut self,
        index: usize,
        answered_by: AnsweredBy,
        took_ms: u32,
    ) -> Option<Outgoing> {
        let entry = self.calls.get_mut(index)?;
        let live = self.live.get(&index)?;
        entry.answered_by = Some(answered_by);
        callbacks::detection(&live.request, entry, answered_by, took_ms)
    }

    pub fn entry(&self, index: usize) -> Option<&Entry> {
        self.calls.get(index)
    }

    pub fn live(&self, index: usize) -> Option<&Live> {
        self.live.get(&index)
    }

    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// How long an answered call has lasted, in real seconds.
    pub fn answered_for_s(&self, index: usize) -> Option<f64> {
        let step =
            self.entry(index)?.steps.iter().find(|s| s.status == CarrierStatus::InProgress)?;
        Some(self.clock.now().monotonic_us.saturating_sub(step.monotonic_us) as f64 / 1e6)
    }

    /// The call of this name, whose ever it is.
    pub fn named(&self, sid: &CallSid) -> Option<usize> {
        self.by_sid.get(sid).copied()
    }

    /// The account's call of this name.
    pub fn find(&self, account: &AccountSid, sid: &CallSid) -> Option<usize> {
        let index = *self.by_sid.get(sid)?;
        (self.entry(index)?.account_sid == *account).then_some(index)
    }

    /// Calls newest first, before `before`, only those to `to` when it is given.
    pub fn newest<'a>(
        &'a self,
        to: Option<&Phone>,
        before: usize,
    ) -> Box<dyn Iterator<Item = usize> + 'a> {
        match to {
            Some(to) => {
                let known = self.by_to.get(to).map_or(&[][..], Vec::as_slice);
                Box::new(known.iter().rev().copied().filter(move |index| *index < before))
            }
            None => Box::new((0..before.min(self.calls.len())).rev()),
        }
    }
}

fn next_script(scripted: &mut HashMap<Phone, VecDeque<Scripted>>, to: &Phone) -> Option<Scripted> {
    let queue = scripted.get_mut(to)?;
    let next = queue.front_mut()?;
    next.times -= 1;
    if next.times > 0 {
        return Some(next.clone());
    }
    let last = queue.pop_front();
    if queue.is_empty() {
        scripted.remove(to);
    }
    last
}

/// Unique across simulators too, so that a store that outlives this one never sees a SID again.
fn call_sid(started_at: Timestamp, index: usize) -> CallSid {
    let text = format!("CA{}", unique(started_at, index));
    // Letters and digits, few enough for the type.
    text.parse().expect("letters and digits")
}

/// 32 hexadecimal digits, other ones in every simulator.
fn unique(started_at: Timestamp, index: usize) -> String {
    format!("{:016x}{index:016x}", started_at.micros())
}
