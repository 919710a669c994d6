//! What the simulated carrier saw: the judge of the dialer, from the other side of the wire.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use serde::Serialize;

use crate::domain::call::{AnsweredBy, CarrierStatus};
use crate::domain::{AccountSid, CallSid, Phone, Timestamp};

use super::plan::CreateFault;
use super::request_faults::RequestKind;

/// Calls that are remembered; more are refused with 20429. As many bridges and requests are.
pub const ENTRIES_MAX: usize = 1_000_000;

/// One step of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What the call became.
    pub status: CarrierStatus,
    /// When, in microseconds since the Unix epoch.
    pub at_us: Timestamp,
    /// When, in microseconds since the simulator started, on the monotonic clock.
    pub monotonic_us: u64,
}

/// One create that was accepted, one call that was placed to us, or one leg that a `<Dial>` made,
/// and what became of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The call's name.
    pub sid: CallSid,
    /// Whose call.
    pub account_sid: AccountSid,
    /// The callee.
    pub to: Phone,
    /// The caller id.
    pub from: Phone,
    /// Whether it calls the account's number, instead of being created by the account.
    pub inbound: bool,
    /// The call whose `<Dial>` made it.
    pub parent_sid: Option<CallSid>,
    /// The status callback's URL as given, connection override included.
    pub status_callback: Option<String>,
    /// When the create was accepted, in microseconds since the Unix epoch.
    pub arrived_at_us: Timestamp,
    /// When the create was accepted, in microseconds since the simulator started, on the monotonic
    /// clock.
    pub arrived_monotonic_us: u64,
    /// When the create was answered, in microseconds since the Unix epoch; none while the answer is
    /// held back, or when the connection was reset instead.
    pub answered_at_us: Option<Timestamp>,
    /// Where the call stands.
    pub status: CarrierStatus,
    /// Every status the call had, `queued` first.
    pub steps: Vec<Step>,
    /// When the call ended, in microseconds since the Unix epoch.
    pub ended_at_us: Option<Timestamp>,
    /// When the call ended, in microseconds since the simulator started.
    pub ended_monotonic_us: Option<u64>,
    /// How long the call lasted once answered, in simulated seconds.
    pub duration_s: Option<u32>,
    /// Who or what answered, once detection said so.
    pub answered_by: Option<AnsweredBy>,
    /// What went wrong with the answer to the create.
    pub fault: Option<CreateFault>,
}

impl Entry {
    /// Twilio's word for which way it goes.
    pub const fn direction(&self) -> &'static str {
        match (self.inbound, &self.parent_sid) {
            (true, _) => "inbound",
            (false, Some(_)) => "outbound-dial",
            (false, None) => "outbound-api",
        }
    }

    /// When the call first had `status`.
    pub fn at(&self, status: CarrierStatus) -> Option<Timestamp> {
        self.steps.iter().find(|step| step.status == status).map(|step| step.at_us)
    }
}

/// What connected two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// `<Dial><Number>`.
    Number,
    /// `<Dial><Queue>`.
    Queue,
    /// `<Dial><Conference>`; three in a room are three bridges.
    Conference,
}

/// Two calls that heard each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    /// Both calls; of a `<Dial>`, the one that dialed comes first.
    pub legs: [CallSid; 2],
    /// What connected them.
    pub via: Via,
    /// The queue's or the conference's name.
    pub name: Option<String>,
    /// From when, in microseconds since the Unix epoch.
    pub from_us: Timestamp,
    /// From when, in microseconds since the simulator started.
    pub from_monotonic_us: u64,
    /// Until when, in microseconds since the Unix epoch; none while they still talk.
    pub until_us: Option<Timestamp>,
    /// Until when, in microseconds since the simulator started.
    pub until_monotonic_us: Option<u64>,
}

/// A request that changes a live call, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// What was asked for.
    pub kind: RequestKind,
    /// The call that the request names.
    pub call_sid: Option<CallSid>,
    /// The `Url` or the `Twiml` that the call was to go on with.
    pub document: Option<String>,
    /// When, in microseconds since the Unix epoch.
    pub at_us: Timestamp,
    /// When, in microseconds since the simulator started.
    pub monotonic_us: u64,
    /// The HTTP status of the answer; none when the connection was reset instead.
    pub http_status: Option<u16>,
    /// Whether it was carried out, whatever the answer said.
    pub done: bool,
}

/// Everything the simulator saw, in the order of arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Every create accepted and every call placed to us.
    pub entries: Vec<Entry>,
    /// Every call that a `<Dial><Number>` made: the carrier's doing, nobody's create.
    pub legs: Vec<Entry>,
    /// Who talked to whom.
    pub bridges: Vec<Bridge>,
    /// Every request to hang up, redirect or dequeue a call.
    pub asked: Vec<Asked>,
    /// Creates refused, by Twilio's error code or the fault's name.
    pub refused: BTreeMap<String, u64>,
    /// The most calls that were live at once, legs left out.
    pub peak_live: usize,
    /// Callbacks that were answered with 2xx.
    pub callbacks_sent: u64,
    /// Callbacks given up after their retries.
    pub callbacks_failed: u64,
    /// Callbacks lost on purpose.
    pub callbacks_lost: u64,
}

/// Two creates that came closer together than the pace allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceViolation {
    /// The later create, an index into [`Ledger::entries`].
    pub index: usize,
    /// How much too early it came, tolerance deducted.
    pub early_by: Duration,
}

impl Ledger {
    /// The most calls live at once, recomputed from the entries: from create accepted until ended.
    /// A call that ends in the microsecond in which another begins is not live with it.
    pub fn peak_concurrency(&self) -> usize {
        peak_concurrency(
            self.entries.iter().map(|e| (e.arrived_monotonic_us, e.ended_monotonic_us)),
        )
    }

    /// Creates that came faster than `calls_per_second`.
    pub fn pace_violations(
        &self,
        calls_per_second: f64,
        tolerance: Duration,
    ) -> Vec<PaceViolation> {
        let arrivals: Vec<u64> = self.entries.iter().map(|e| e.arrived_monotonic_us).collect();
        pace_violations(&arrivals, calls_per_second, tolerance)
    }

    /// Every key that more than one entry has, and how many have it. Entries without a key are left
    /// out.
    pub fn duplicates_by<K: Eq + Hash>(
        &self,
        key: impl Fn(&Entry) -> Option<K>,
    ) -> HashMap<K, usize> {
        let mut counts = HashMap::new();
        for key in self.entries.iter().filter_map(key) {
            *counts.entry(key).or_insert(0) += 1;
        }
        counts.retain(|_, count| *count > 1);
        counts
    }
}

/// The most spans that overlap; a span without an end never ends, one that ends as it starts counts
/// for nothing.
pub fn peak_concurrency(spans: impl Iterator<Item = (u64, Option<u64>)>) -> usize {
    let mut edges: Vec<(u64, i64)> = Vec::new();
    for (start, end) in spans {
        edges.push((start, 1));
        edges.extend(end.map(|end| (end, -1)));
    }
    // Ends sort before starts of the same instant.
    edges.sort_unstable();
    let (mut live, mut peak) = (0_i64, 0_i64);
    for (_, edge) in edges {
        live += edge;
        peak = peak.max(live);
    }
    usize::try_from(peak).unwrap_or(0)
}

/// Arrivals (microseconds, ascending) that break `t_j − t_i ≥ (j−i)/rate − tolerance` for some `i <
/// j`.
///
/// With `u_k = t_k − k/rate` that is `u_j ≥ u_i − tolerance` for every `i < j`, so a running
/// maximum suffices.
pub fn pace_violations(
    arrivals_us: &[u64],
    calls_per_second: f64,
    tolerance: Duration,
) -> Vec<PaceViolation> {
    let interval_us = 1_000_000.0 / calls_per_second;
    let tolerance_us = tolerance.as_secs_f64() * 1_000_000.0;
    let mut furthest = f64::NEG_INFINITY;
    let mut violations = Vec::new();
    for (index, &at) in arrivals_us.iter().enumerate() {
        let schedule = at as f64 - index as f64 * interval_us;
        let early_us = furthest - tolerance_us - schedule;
        // Half a microsecond is the clock's own rounding.
        if early_us > 0.5 {
            violations
                .push(PaceViolation { index, early_by: Duration::from_micros(early_us as u64) });
        }
        furthest = furthest.max(schedule);
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peaks() {
        let peak = |spans: &[(u64, Option<u64>)]| peak_concurrency(spans.iter().copied());
        assert_eq!(peak(&[]), 0);
        assert_eq!(peak(&[(0, Some(10)), (10, Some(20))]), 1);
        assert_eq!(peak(&[(0, Some(10)), (9, None), (11, None)]), 2);
        assert_eq!(peak(&[(5, Some(5)), (5, Some(5))]), 0);
    }

    #[test]
    fn pace() {
        let found = |arrivals: &[u64], tolerance_ms| {
            let all = pace_violations(arrivals, 2.0, Duration::from_millis(tolerance_ms));
            all.into_iter().map(|v| (v.index, v.early_by.as_millis())).collect::<Vec<_>>()
        };
        assert_eq!(found(&[0, 500_000, 1_000_000], 0), []);
        assert_eq!(found(&[0, 400_000, 1_000_000], 0), [(1, 100)]);
        assert_eq!(found(&[0, 400_000, 1_000_000], 100), []);
        // Each step is within tolerance of the one before, but they add up.
        assert_eq!(found(&[0, 450_000, 900_000, 1_350_000], 100), [(3, 50)]);
        assert_eq!(found(&[0, 5_000_000, 5_000_001], 0), [(2, 499)]);
    }

    proptest! {
        #[test]
        fn pace_agrees_with_its_definition(gaps in proptest::collection::vec(0_u64..900_000, 0..30), tolerance in 0_u64..300) {
            let arrivals: Vec<u64> = gaps.iter().scan(0, |t, gap| { *t += gap; Some(*t) }).collect();
            let tolerance = Duration::from_millis(tolerance);
            let found: Vec<usize> = pace_violations(&arrivals, 2.0, tolerance).iter().map(|v| v.index).collect();
            let by_definition: Vec<usize> = (0..arrivals.len())
                .filter(|&j| (0..j).any(|i| {
                    let due = (j - i) as i64 * 500_000 - tolerance.as_micros() as i64;
                    ((arrivals[j] - arrivals[i]) as i64) < due
                }))
                .collect();
            prop_assert_eq!(found, by_definition);
        }
    }
}
