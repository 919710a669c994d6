//! When a run may dial: its window, its start, its end.

use std::time::Duration;

use prost_types::Timestamp;
use trunkline::domain::window::{ALL_DAYS, CallingWindow, zone};
use trunkline::grpc::pb::{self, JobState, Outcome, RunState};

use super::world::{
    Setup, World, counts, create, ended, jobs, list_jobs, quick_carrier, run, settings, state,
    until,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(
    a_closed_window_dials_nothing,
    a_start_in_the_future_is_honoured,
    a_run_that_expires_ends_its_jobs,
);

fn now() -> trunkline::domain::Timestamp {
    trunkline::domain::Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

fn on_the_wire(at: trunkline::domain::Timestamp) -> Timestamp {
    let (seconds, micros) = (at.micros().div_euclid(1_000_000), at.micros().rem_euclid(1_000_000));
    Timestamp { seconds, nanos: i32::try_from(micros * 1_000).unwrap() }
}

/// Open for an hour, some six hours from now, wherever midnight is.
fn closed_now() -> CallingWindow {
    let minute = u16::try_from(now().micros() / 60_000_000 % 1_440).unwrap();
    let opens_minute = (minute + 360) % 1_380;
    CallingWindow { opens_minute, closes_minute: opens_minute + 60, weekdays: ALL_DAYS }
}

fn with_window(window: CallingWindow) -> pb::RunSettings {
    let window = pb::CallingWindow {
        opens_minute: window.opens_minute.into(),
        closes_minute: window.closes_minute.into(),
        weekdays: Vec::new(),
    };
    pb::RunSettings { windows: vec![window], ..settings() }
}

async fn a_closed_window_dials_nothing(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let queue = world.queue();
    let window = closed_now();
    let (before, utc) = (now(), zone("UTC").unwrap());
    let closed = create(&queue, with_window(window), jobs(0..30)).await;
    until("every job to be put off", async || {
        list_jobs(&queue, &closed)
            .await
            .iter()
            .all(|job| job.eligible_time.unwrap().seconds > before.micros() / 1_000_000 + 60)
    })
    .await;
    // Another run goes on meanwhile, and while it does the closed one has every chance to dial.
    let open = create(&queue, settings(), jobs(30..50)).await;
    assert_eq!(state(&ended(&queue, &open).await), RunState::Completed);
    assert_eq!(world.carrier.creates().len(), 20);
    let opening = on_the_wire(window.next_opening(now(), &utc));
    for job in list_jobs(&queue, &closed).await {
        assert_eq!((job.state(), job.attempt), (JobState::Queued, 0));
        assert_eq!(job.eligible_time, Some(opening));
    }
    assert_eq!(counts(&run(&queue, &closed).await).queued, 30);
    world.stop().await;
}

async fn a_start_in_the_future_is_honoured(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let queue = world.queue();
    let starts_at = now() + Duration::from_secs(6);
    let at_once = create(&queue, settings(), jobs(20..25)).await;
    let later = pb::RunSettings { starts_at: Some(on_the_wire(starts_at)), ..settings() };
    let later = create(&queue, later, jobs(0..5)).await;
    // A job may wait for longer than its run.
    let eligible_at = starts_at + Duration::from_millis(1_000);
    let patient = |job| pb::NewJob { eligible_time: Some(on_the_wire(eligible_at)), ..job };
    let patient = create(&queue, settings(), jobs(10..13).into_iter().map(patient).collect()).await;
    for run_id in [&at_once, &later, &patient] {
        assert_eq!(state(&ended(&queue, run_id).await), RunState::Completed);
    }
    let arrivals = |numbers: std::ops::Range<usize>| {
        let phones: Vec<_> = numbers.map(crate::support::phone).collect();
        let creates =
            world.carrier.creates().into_iter().filter(move |entry| phones.contains(&entry.to));
        creates.map(|entry| entry.arrived_at_us).collect::<Vec<_>>()
    };
    assert!(arrivals(20..25).iter().all(|at| *at < starts_at), "no reason to wait");
    for (numbers, earliest) in [(0..5, starts_at), (10..13, eligible_at)] {
        for at in arrivals(numbers) {
            assert!(at >= earliest, "too early");
            // The poll is once a second; this is not to be left to a sweep.
            assert!(at < earliest + Duration::from_secs(5), "too late");
        }
    }
    world.stop().await;
}

async fn a_run_that_expires_ends_its_jobs(database: TestDatabase) {
    // One slot, and calls of two seconds: most jobs never get their turn.
    let carrier = trunkline::simulator::Config {
        outcomes: trunkline::simulator::Outcomes::ALL_ANSWERED,
        talk_s: trunkline::simulator::Range::exactly(200.0),
        ..quick_carrier()
    };
    let world = World::start(database, Setup { concurrent: 1, carrier, ..Setup::default() }).await;
    let queue = world.queue();
    let expires_at = now() + Duration::from_secs(4);
    let short = pb::RunSettings { expires_at: Some(on_the_wire(expires_at)), ..settings() };
    let run_id = create(&queue, short, jobs(0..12)).await;
    let run = ended(&queue, &run_id).await;
    let found = counts(&run);
    assert_eq!(state(&run), RunState::Expired);
    assert!(found.completed >= 1 && found.expired >= 8, "{found:?}");
    assert_eq!(found.completed + found.expired, 12);
    world.carrier.settled().await;
    let creates = world.carrier.creates();
    assert_eq!(creates.len() as i64, found.completed, "a call in flight finishes");
    assert!(
        creates.iter().all(|entry| entry.arrived_at_us < expires_at + Duration::from_millis(250))
    );
    for job in list_jobs(&queue, &run_id).await {
        let expected = match job.state() {
            JobState::Expired => Outcome::Expired,
            JobState::Completed => Outcome::Answered,
            other => panic!("{other:?}"),
        };
        assert_eq!((job.outcome(), job.eligible_time), (expected, None));
    }
    world.stop().await;
}
