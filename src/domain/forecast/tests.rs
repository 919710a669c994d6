use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::domain::window::{self, ALL_DAYS, CallingWindow};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn group(zone: &str, people: u64) -> Group {
    Group { zone: window::zone(zone).unwrap(), people, from: Timestamp(0) }
}

/// A Monday at noon, open around the clock, everybody answers for a minute.
fn facts(people: u64) -> Facts {
    let now = at("2026-06-01T12:00:00Z");
    let nobody = Share { of_calls: 0.0, takes: SECOND };
    Facts {
        now,
        starts_at: now,
        expires_at: now + DAY * 7,
        schedule: Schedule { windows: vec![CallingWindow::ALWAYS], holidays: Vec::new() },
        groups: vec![group("UTC", people)],
        calls_per_second: 1.0,
        concurrency: 10,
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() },
        caps: Vec::new(),
        observed: Observed {
            completed: Share { of_calls: 1.0, takes: SECOND * 60 },
            busy: nobody,
            no_answer: nobody,
            failed: nobody,
            calls: 0,
        },
    }
}

fn seconds(facts: &Facts, forecast: &Forecast) -> f64 {
    forecast.ends_at.unwrap().since(facts.now).as_secs_f64()
}

#[test]
fn pace_and_slots_limit() {
    let by_slots = facts(1_000);
    let told = forecast(&by_slots);
    assert_eq!((told.dialed, told.calls, told.reached, told.expired), (1_000, 1_000, 1_000, 0));
    assert_eq!(told.limit, Limit::Concurrency);
    // Ten at a time for a minute each.
    let took = seconds(&by_slots, &told);
    assert!((5_900.0..6_300.0).contains(&took), "{took}");
    let by_pace = Facts { concurrency: 1_000, ..facts(1_000) };
    let told = forecast(&by_pace);
    assert_eq!(told.limit, Limit::Pace);
    let took = seconds(&by_pace, &told);
    assert!((1_030.0..1_100.0).contains(&took), "{took}");
    assert_eq!(forecast(&facts(0)).limit, Limit::Nothing);
}

#[test]
fn windows_of_each_zone_are_waited_for() {
    let window = CallingWindow { opens_minute: 9 * 60, closes_minute: 17 * 60, weekdays: ALL_DAYS };
    let zones = Facts {
        schedule: Schedule { windows: vec![window], holidays: Vec::new() },
        groups: vec![group("Asia/Tokyo", 100), group("America/New_York", 100)],
        concurrency: 1_000,
        calls_per_second: 10.0,
        ..facts(0)
    };
    let told = forecast(&zones);
    // Noon in London is eight in New York: an hour to wait. It is nine in the evening in Tokyo.
    assert_eq!(told.first_call_at, Some(at("2026-06-01T13:00:00Z")));
    let last = told.last_call_at.unwrap();
    assert!(last >= at("2026-06-02T00:00:00Z") && last < at("2026-06-02T00:01:00Z"), "{last:?}");
    assert_eq!(told.reached, 200);
    // A run that ends in between reaches New York only; Tokyo's window never opens in its life.
    let short = Facts { expires_at: zones.now + HOUR * 3, ..zones };
    let told = forecast(&short);
    assert_eq!((told.reached, told.expired, told.never_open), (100, 100, 100));
    assert_eq!(told.ends_at, Some(short.expires_at));
}

#[test]
fn retries_come_back_and_caps_hold_them() {
    let share = |of_calls| Share { of_calls, takes: SECOND * 30 };
    let observed = Observed {
        completed: share(0.5),
        no_answer: share(0.5),
        busy: share(0.0),
        failed: share(0.0),
        calls: 100,
    };
    let retry = RetryPolicy { max_attempts: 3, initial_delay_s: 600, ..facts(0).retry };
    let facts =
        Facts { observed, retry, concurrency: 1_000, calls_per_second: 100.0, ..facts(8_000) };
    let told = forecast(&facts);
    assert_eq!((told.dialed, told.calls), (8_000, 14_000));
    assert_eq!((told.reached, told.failed, told.expired), (7_000, 1_000, 0));
    // Four minutes for all of them once, half a minute for each call, 10 minutes, then 20.
    let took = seconds(&facts, &told);
    assert!((2_100.0..2_250.0).contains(&took), "{took}");
    let caps = vec![FrequencyCap { max_attempts: 1, span: Span::RollingSeconds(7_200) }];
    let capped = Facts { caps, ..facts };
    let took = seconds(&capped, &forecast(&capped));
    assert!(took > 7_200.0, "{took}");
}

/// The same reckoned person by person: with one draw for each call, slots taken one by one, and
/// times as they are.
fn person_by_person(facts: &Facts, seed: u64) -> (u64, f64) {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let zones: Vec<&TimeZone> = facts.groups.iter().map(|group| &group.zone).collect();
    // Who may be dialed as far as time goes, by zone; who comes later; and when slots are free.
    let mut ready: Vec<Vec<u32>> =
        facts.groups.iter().map(|group| vec![0; group.people as usize]).collect();
    let mut later: BinaryHeap<Reverse<(Timestamp, usize, u32)>> = BinaryHeap::new();
    let mut slots: BinaryHeap<_> = (0..facts.concurrency).map(|_| Reverse(facts.now)).collect();
    let (mut at, mut calls, mut end) = (facts.now, 0, facts.now);
    loop {
        while later.peek().is_some_and(|Reverse((from, ..))| *from <= at) {
            let Reverse((_, zone, attempts)) = later.pop().unwrap();
            ready[zone].push(attempts);
        }
        let opens = |zone: usize| facts.schedule.next_opening(at, zones[zone]);
        let wait = (0..zones.len()).filter(|zone| !ready[*zone].is_empty());
        let Some((opening, zone)) = wait.map(|zone| (opens(zone), zone)).min() else {
            match later.peek() {
                Some(Reverse((from, ..))) => at = *from,
                None => break,
            }
            continue;
        };
        let next = later.peek().map_or(Timestamp::NEVER, |Reverse((from, ..))| *from);
        if opening > at {
            at = opening.min(next);
            continue;
        }
        let free = slots.peek().unwrap().0;
        if free > at {
            at = free;
            continue;
        }
        slots.pop();
        let attempts = ready[zone].pop().unwrap();
        calls += 1;
        let (mut left, mut which) = (draw(), facts.observed.shares()[0]);
        for share in facts.observed.shares() {
            which = share;
            left -= share.0.of_calls;
            if left < 0.0 {
                break;
            }
        }
        let ends = at + which.0.takes;
        slots.push(Reverse(ends));
        end = end.max(ends);
        if let Some(delay) = which.1.and_then(|on| facts.retry.delay_after(on, attempts + 1, 0.5)) {
            later.push(Reverse((ends + delay, zone, attempts + 1)));
        }
        at = at + Duration::from_secs_f64(1.0 / facts.calls_per_second);
    }
    (calls, end.since(facts.now).as_secs_f64())
}

/// Within 15 % or two minutes of what it takes person by person, in virtual time; calls within 10
/// %.
#[test]
fn it_is_about_as_long_as_person_by_person() {
    let share = |of_calls, takes| Share { of_calls, takes: SECOND * takes };
    let observed = Observed {
        completed: share(0.45, 70),
        busy: share(0.1, 4),
        no_answer: share(0.4, 30),
        failed: share(0.05, 2),
        calls: 1,
    };
    let office = CallingWindow { opens_minute: 9 * 60, closes_minute: 17 * 60, weekdays: ALL_DAYS };
    let zones = || {
        vec![group("Europe/London", 400), group("America/New_York", 300), group("Asia/Tokyo", 100)]
    };
    for (n, (concurrency, calls_per_second, attempts, window)) in [
        (3, 1.0, 1, CallingWindow::ALWAYS),
        (20, 1.0, 3, CallingWindow::ALWAYS),
        (400, 5.0, 2, CallingWindow::ALWAYS),
        (10, 1.0, 2, office),
        (50, 0.2, 3, office),
    ]
    .into_iter()
    .enumerate()
    {
        let facts = Facts {
            observed,
            concurrency,
            calls_per_second,
            retry: RetryPolicy { max_attempts: attempts, ..facts(0).retry },
            schedule: Schedule { windows: vec![window], holidays: Vec::new() },
            groups: zones(),
            expires_at: facts(0).now + DAY * 60,
            ..facts(0)
        };
        let told = forecast(&facts);
        let (calls, took) = person_by_person(&facts, 7);
        let told_took = seconds(&facts, &told);
        assert!(
            (told_took - took).abs() < f64::max(took * 0.15, 120.0),
            "case {n}: {told_took} for {took}"
        );
        let off = (told.calls as f64 - calls as f64).abs() / calls as f64;
        assert!(off < 0.1, "case {n}: {} calls for {calls}", told.calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Nobody is lost, nobody is called too early, too late or too often, and the work ends.
    #[test]
    fn sums_add_up(
        people in prop::collection::vec((prop::sample::select(vec!["UTC", "Asia/Tokyo", "America/New_York"]), 0u64..2_000_000), 1..5),
        per_second in 0.01f64..200.0,
        concurrency in 1u32..2_000,
        attempts in 1u32..6,
        hours in 1u64..2_000,
        opens in 0u16..1_300,
        length in 1u16..600,
        weekdays in 1u8..=ALL_DAYS,
        answered in 0.0f64..1.0,
        takes in 1u64..300,
    ) {
        let window = CallingWindow { opens_minute: opens, closes_minute: (opens + length).min(1_440), weekdays };
        let share = |of_calls| Share { of_calls, takes: SECOND * u32::try_from(takes).unwrap() };
        let observed = Observed {
            completed: share(answered), no_answer: share((1.0 - answered) * 0.6), busy: share((1.0 - answered) * 0.3),
            failed: share((1.0 - answered) * 0.1), calls: 1,
        };
        let facts = Facts {
            expires_at: facts(0).now + HOUR * u32::try_from(hours).unwrap(),
            schedule: Schedule { windows: vec![window], holidays: Vec::new() },
            groups: people.iter().map(|(zone, people)| group(zone, *people)).collect(),
            calls_per_second: per_second,
            concurrency,
            retry: RetryPolicy { max_attempts: attempts, ..facts(0).retry },
            observed,
            ..facts(0)
        };
        let told = forecast(&facts);
        let total: u64 = people.iter().map(|(_, people)| people).sum();
        prop_assert!((told.reached + told.failed + told.expired).abs_diff(total) <= 1, "{told:?} of {total}");
        prop_assert!(told.dialed <= total && told.calls >= told.dialed);
        prop_assert!(told.calls <= told.dialed * u64::from(attempts) + 1);
        prop_assert!(told.never_open <= told.expired);
        if let (Some(first), Some(last)) = (told.first_call_at, told.last_call_at) {
            prop_assert!(first >= facts.now && first <= last && first < facts.expires_at);
            prop_assert!(facts.groups.iter().any(|group| facts.schedule.contains(first, &group.zone)));
            let most = per_second * (last.since(facts.now).as_secs_f64() + 120.0);
            prop_assert!(told.calls as f64 <= most + 1.0, "{} of {most}", told.calls);
        }
    }
}
