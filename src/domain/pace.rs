//! Pace: the generic cell rate algorithm (GCRA, ITU-T I.371) without a burst, on database time.

use std::time::Duration;

use super::{Timestamp, Violation};

/// The slowest pace: one call in an hour.
pub const CALLS_PER_SECOND_MIN: f64 = 1.0 / 3_600.0;
/// The fastest pace that can be configured.
pub const CALLS_PER_SECOND_MAX: f64 = 10_000.0;

/// One meter: how far apart calls must be, and when the next may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Microseconds between two calls.
    interval_us: i64,
    /// The theoretical arrival time: no call may start before it.
    pub next: Timestamp,
}

impl Meter {
    /// A meter of `calls_per_second` whose next call may start at `next`.
    pub fn new(calls_per_second: f64, next: Timestamp) -> Result<Self, Violation> {
        if !(CALLS_PER_SECOND_MIN..=CALLS_PER_SECOND_MAX).contains(&calls_per_second) {
            return Err(Violation::new("calls_per_second", "must be between 1/3600 and 10000"));
        }
        // Rounded up: a rounding error may slow us down by a microsecond, never speed us up.
        // The range check bounds the quotient to 100..=3.6e9.
        #[allow(clippy::cast_possible_truncation)]
        let interval_us = (1_000_000.0 / calls_per_second).ceil() as i64;
        Ok(Self { interval_us, next })
    }
}

/// Takes up to `max` start times that every meter allows, none later than `now + horizon`, and
/// moves the meters past them. The times come in order; times not used are lost, never lent.
pub fn reserve(
    meters: &mut [Meter],
    now: Timestamp,
    horizon: Duration,
    max: usize,
) -> Vec<Timestamp> {
    let last = now + horizon;
    let mut slots = Vec::new();
    while slots.len() < max {
        let slot = meters.iter().map(|meter| meter.next).fold(now, Timestamp::max);
        if slot > last {
            break;
        }
        for meter in meters.iter_mut() {
            meter.next = Timestamp(slot.0.saturating_add(meter.interval_us));
        }
        slots.push(slot);
    }
    slots
}

/// When [`reserve`] would next give a slot at once.
pub fn next_slot(meters: &[Meter], now: Timestamp) -> Timestamp {
    meters.iter().map(|meter| meter.next).fold(now, Timestamp::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the claims and however many meters share a call, no two starts on one meter are
        /// closer than its interval.
        #[test]
        fn never_faster_than_any_meter(
            rates in prop::collection::vec(0.5f64..200.0, 1..4),
            claims in prop::collection::vec((0i64..2_000_000, 0usize..40), 1..60),
        ) {
            let mut meters: Vec<Meter> =
                rates.iter().map(|r| Meter::new(*r, Timestamp(0)).unwrap()).collect();
            let mut now = Timestamp(1_000_000);
            let mut all = Vec::new();
            for (pause, max) in claims {
                now = Timestamp(now.0 + pause);
                let slots = reserve(&mut meters, now, Duration::from_millis(250), max);
                prop_assert!(slots.len() <= max);
                prop_assert!(slots.iter().all(|s| *s >= now && *s <= now + Duration::from_millis(250)));
                all.extend(slots);
            }
            let widest = rates.iter().map(|r| 1_000_000.0 / r).fold(0.0, f64::max);
            for pair in all.windows(2) {
                prop_assert!((pair[1].0 - pair[0].0) as f64 >= widest);
            }
        }
    }

    #[test]
    fn keeps_up_with_its_rate() {
        let mut meters = [Meter::new(10.0, Timestamp(0)).unwrap()];
        let mut started = 0;
        for tick in 0..100 {
            started += reserve(&mut meters, Timestamp(tick * 100_000), Duration::ZERO, 99).len();
        }
        assert_eq!(started, 100);
    }

    #[test]
    fn refuses_impossible_rates() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 20_000.0] {
            assert!(Meter::new(bad, Timestamp(0)).is_err(), "{bad}");
        }
    }
}
