//! The reckoning itself: time in steps, cohorts, slots.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Facts, Forecast, Limit, STEPS_MAX, span};
use crate::domain::Timestamp;

/// A short run is reckoned in so many steps.
const STEPS_AIMED_AT: f64 = 2_000.0;
/// The shortest step.
const STEP_MIN: Duration = Duration::from_millis(100);
/// Windows open and close with whole minutes.
const MINUTE: Duration = Duration::from_secs(60);
/// Less of a person than this is nobody: what rounding leaves.
const NOBODY: f64 = 1e-6;

/// A cohort that waits.
#[derive(Debug, Clone, Copy)]
struct Cohort {
    /// Which of the zones.
    zone: usize,
    people: f64,
    /// Attempts made.
    attempts: u32,
    /// When the first was made.
    first_at: Timestamp,
}

/// Where a reckoning stands.
pub(super) struct Reckoning<'a> {
    facts: &'a Facts,
    step: Duration,
    /// Whether slots are followed one by one; else calls are short beside a step, and their rate is
    /// limited.
    slots: bool,
    at: Timestamp,
    zones: Vec<&'a TimeZone>,
    waiting: BTreeMap<Timestamp, Vec<Cohort>>,
    /// Cohorts that may be dialed as far as they are concerned, by zone.
    ready: Vec<Vec<Cohort>>,
    /// For each zone: closed until, or (in the past) open, as of the last look.
    opens_at: Vec<Timestamp>,
    looked_at: Timestamp,
    /// Calls that end.
    ending: BTreeMap<Timestamp, f64>,
    live: f64,
    total: Totals,
    /// Steps limited by pace, by slots, and by people.
    limited: [f64; 3],
}

#[derive(Default)]
struct Totals {
    people: f64,
    dialed: f64,
    calls: f64,
    reached: f64,
    failed: f64,
    never_open: f64,
    first_call_at: Option<Timestamp>,
    last_call_at: Option<Timestamp>,
    last_end_at: Option<Timestamp>,
}

impl<'a> Reckoning<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        let at = facts.now.max(facts.starts_at);
        let mut waiting: BTreeMap<Timestamp, Vec<Cohort>> = BTreeMap::new();
        let mut total = Totals::default();
        // However many groups there are, there are some hundred zones: steps cost no more than
        // those.
        let (mut zones, mut known) = (Vec::new(), HashMap::new());
        for who in facts.groups.iter().filter(|who| who.people > 0) {
            #[allow(clippy::cast_precision_loss)] // Numbers of people.
            let people = who.people as f64;
            total.people += people;
            let from = who.from.max(at);
            if facts.schedule.next_opening(from, &who.zone) >= facts.expires_at {
                total.never_open += people;
                continue;
            }
            let zone = *known.entry(who.zone.iana_name()).or_insert_with(|| {
                zones.push(&who.zone);
                zones.len() - 1
            });
            let cohort = Cohort { zone, people, attempts: 0, first_at: from };
            waiting.entry(from).or_default().push(cohort);
        }
        let step = step(facts, total.people);
        Self {
            facts,
            step,
            slots: step * 2 <= facts.observed.mean_takes(),
            at,
            waiting,
            ready: vec![Vec::new(); zones.len()],
            opens_at: vec![at; zones.len()],
            zones,
            looked_at: Timestamp(i64::MIN),
            ending: BTreeMap::new(),
            live: 0.0,
            total,
            limited: [0.0; 3],
        }
    }

    pub(super) fn carry_out(mut self) -> Forecast {
        for _ in 0..STEPS_MAX {
            if self.at >= self.facts.expires_at {
                break;
            }
            self.come_in();
            let open = self.open_zones();
            if open.is_empty() {
                // Nobody until somebody's time comes.
                match self.next_event() {
                    Some(next) => self.at = next.max(Timestamp(self.at.0 + 1)),
                    None => break,
                }
                self.limited[2] += 1.0;
                continue;
            }
            self.dial(&open);
            self.at = self.at + self.step;
        }
        self.told()
    }

    /// Cohorts whose time has come, and calls that ended.
    fn come_in(&mut self) {
        let later = self.waiting.split_off(&Timestamp(self.at.0 + 1));
        for cohort in std::mem::replace(&mut self.waiting, later).into_values().flatten() {
            join(&mut self.ready[cohort.zone], cohort);
        }
        let later = self.ending.split_off(&Timestamp(self.at.0 + 1));
        for ended in std::mem::replace(&mut self.ending, later).into_values() {
            self.live = (self.live - ended).max(0.0);
        }
    }

    /// Zones with people to dial whose window is open.
    fn open_zones(&mut self) -> Vec<usize> {
        let minute = |at: Timestamp| at.0.div_euclid(60_000_000);
        let look = minute(self.looked_at) != minute(self.at);
        let mut open = Vec::new();
        for zone in 0..self.ready.len() {
            if self.ready[zone].is_empty() {
                continue;
            }
            // A closed window is left alone until it opens; an open one is looked at each minute.
            if self.opens_at[zone] <= self.at
                && (look || self.opens_at[zone] < self.looked_at - MINUTE)
            {
                self.opens_at[zone] = self.facts.schedule.next_opening(self.at, self.zones[zone]);
            }
            if self.opens_at[zone] <= self.at {
                open.push(zone);
            }
        }
        if look {
            self.looked_at = self.at;
        }
        open
    }

    /// When somebody's window opens, or somebody's time comes.
    fn next_event(&self) -> Option<Timestamp> {
        let opens = (0..self.ready.len()).filter(|zone| !self.ready[*zone].is_empty());
        let opens = opens.map(|zone| self.opens_at[zone]).min();
        let comes = self.waiting.keys().next().copied();
        opens.into_iter().chain(comes).min()
    }

    /// One step's calls, taken from open zones by how many wait there.
    fn dial(&mut self, open: &[usize]) {
        let seconds = self.step.as_secs_f64();
        let by_pace = self.facts.calls_per_second * seconds;
        let concurrency = f64::from(self.facts.concurrency);
        let by_slots = if self.slots {
            concurrency - self.live
        } else {
            concurrency * seconds / self.facts.observed.mean_takes().as_secs_f64()
        };
        let wait: f64 =
            open.iter().flat_map(|zone| &self.ready[*zone]).map(|cohort| cohort.people).sum();
        let calls = by_pace.min(by_slots.max(0.0)).min(wait);
        let limit = if wait <= by_pace.min(by_slots) { 2 } else { usize::from(by_slots < by_pace) };
        self.limited[limit] += 1.0;
        if calls < NOBODY {
            return;
        }
        self.total.first_call_at.get_or_insert(self.at);
        #[allow(clippy::cast_possible_truncation)] // A part of a step.
        let used = Duration::from_secs_f64(seconds * (calls / by_pace).min(1.0));
        self.total.last_call_at = Some(self.at + used);
        let share = calls / wait;
        for zone in open {
            for mut cohort in std::mem::take(&mut self.ready[*zone]) {
                let dialed = cohort.people * share;
                self.call(&cohort, dialed);
                cohort.people -= dialed;
                if cohort.people >= NOBODY {
                    self.ready[*zone].push(cohort);
                }
            }
        }
    }

    /// `people` of a cohort are called.
    fn call(&mut self, cohort: &Cohort, people: f64) {
        let facts = self.facts;
        self.total.calls += people;
        let first_at = if cohort.attempts == 0 { self.at } else { cohort.first_at };
        if cohort.attempts == 0 {
            self.total.dialed += people;
        }
        for (share, retry_on) in facts.observed.shares() {
            let these = people * share.of_calls;
            if these <= 0.0 {
                continue;
            }
            let ends_at = self.at + share.takes;
            self.live += if self.slots { these } else { 0.0 };
            if self.slots {
                *self.ending.entry(self.bucket(ends_at)).or_default() += these;
            }
            self.total.last_end_at = self.total.last_end_at.max(Some(ends_at));
            let attempts = cohort.attempts + 1;
            let again = retry_on.and_then(|on| facts.retry.delay_after(on, attempts, 0.5));
            match (retry_on, again) {
                (None, _) => self.total.reached += these,
                (Some(_), None) => self.total.failed += these,
                (Some(_), Some(delay)) => {
                    let from = self.capped(first_at, attempts, ends_at + delay);
                    // The domain's own rule: a retry that would come too late is none.
                    if ends_at + delay >= facts.expires_at {
                        self.total.failed += these;
                    } else {
                        let next = Cohort { people: these, attempts, first_at, ..*cohort };
                        self.waiting.entry(self.bucket(from)).or_default().push(next);
                    }
                }
            }
        }
    }

    /// When the next attempt may come as far as caps go: one that allows `n` in a time holds the `n
    /// + 1`st until that time after the first is over.
    fn capped(&self, first_at: Timestamp, attempts: u32, from: Timestamp) -> Timestamp {
        let holds = self.facts.caps.iter().filter(|cap| attempts >= cap.max_attempts);
        holds.map(|cap| first_at + span(cap)).fold(from, Timestamp::max)
    }

    /// Moments of one step are one, so that cohorts stay few.
    fn bucket(&self, at: Timestamp) -> Timestamp {
        let step = i64::try_from(self.step.as_micros()).unwrap_or(i64::MAX).max(1);
        Timestamp(at.0.saturating_add(step - 1) / step * step)
    }

    fn told(self) -> Forecast {
        let Totals { people, dialed, calls, reached, failed, never_open, .. } = self.total;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // Numbers of people, never below zero.
        let whole = |number: f64| number.round().max(0.0) as u64;
        let expired = whole(people).saturating_sub(whole(reached) + whole(failed));
        let ends_at =
            if expired > 0 { Some(self.facts.expires_at) } else { self.total.last_end_at };
        let [pace, slots, others] = self.limited;
        let limit = match () {
            () if calls < 0.5 => Limit::Nothing,
            () if pace >= slots && pace >= others => Limit::Pace,
            () if slots >= others => Limit::Concurrency,
            () => Limit::People,
        };
        Forecast {
            dialed: whole(dialed),
            calls: whole(calls),
            reached: whole(reached),
            failed: whole(failed),
            expired,
            never_open: whole(never_open),
            first_call_at: self.total.first_call_at,
            last_call_at: self.total.last_call_at,
            ends_at,
            limit,
        }
    }
}

/// Puts a cohort to those of its zone; there is one for each number of attempts, so that they stay
/// few.
fn join(cohorts: &mut Vec<Cohort>, new: Cohort) {
    let Some(known) = cohorts.iter_mut().find(|cohort| cohort.attempts == new.attempts) else {
        cohorts.push(new);
        return;
    };
    let people = known.people + new.people;
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    // A mean of two instants.
    let later = ((new.first_at.0 - known.first_at.0) as f64 * (new.people / people)) as i64;
    known.first_at = Timestamp(known.first_at.0 + later);
    known.people = people;
}

/// Short runs go in small steps, long ones in as many as there may be.
fn step(facts: &Facts, people: f64) -> Duration {
    let life = facts.expires_at.since(facts.now.max(facts.starts_at));
    let coarsest = life / u32::try_from(STEPS_MAX).unwrap_or(u32::MAX) + STEP_MIN;
    let calls = people * f64::from(facts.retry.max_attempts);
    let takes = facts.observed.mean_takes();
    let rate = facts.calls_per_second.min(f64::from(facts.concurrency) / takes.as_secs_f64());
    let fine = (calls / rate.max(1e-9) / STEPS_AIMED_AT).min(takes.as_secs_f64() / 4.0);
    let fine = Duration::from_secs_f64(fine.clamp(STEP_MIN.as_secs_f64(), MINUTE.as_secs_f64()));
    // A window that opens later is jumped to, but a run that is open throughout must not take more
    // steps than it may.
    let busy = Duration::from_secs_f64((calls / rate.max(1e-9)).min(life.as_secs_f64()));
    #[allow(clippy::cast_precision_loss)] // A small number.
    let too_many = busy.as_secs_f64() / fine.as_secs_f64() > STEPS_MAX as f64 / 2.0;
    if too_many { fine.max(coarsest) } else { fine }
}
