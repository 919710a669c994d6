//! Three processes on one PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use trunkline::grpc::pb::{self, RunState};

use super::fleet::{Fleet, Settings};
use super::judge::{Caps, judge};
use crate::support::{TestDatabase, phone};
use crate::system::world::{
    PACE_TOLERANCE, counts, create, jobs, quick_carrier, retrying, run, settings, state, until,
};

/// Fewer slots than the pace could fill, so that both bind.
const CAPS: Caps = Caps { concurrent: 6, per_second: Some(25.0), tolerance: PACE_TOLERANCE };
const SETTINGS: &Settings = &[
    ("TENANT__MAX_CONCURRENT_CALLS", "6"),
    ("TENANT__CALLS_PER_SECOND", "25"),
    ("TWILIO__CALLS_PER_SECOND", "25"),
    // None of them takes everything at once.
    ("DIALER__PERMITS", "3"),
    // Intents wait for their turn, so that there are always some to be called off.
    ("DIALER__HORIZON_MS", "1000"),
];
const PATIENCE: Duration = Duration::from_secs(90);

async fn three() -> Fleet {
    Fleet::start(TestDatabase::postgres().await, 3, quick_carrier(), SETTINGS, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_workers_share_the_work_within_the_caps() {
    let fleet = three().await;
    let queue = fleet.queue(1);
    let narrow = pb::RunSettings { concurrency: 3, ..retrying() };
    let runs = [
        create(&queue, retrying(), jobs(0..100)).await,
        create(&queue, narrow, jobs(100..160)).await,
    ];
    judge(&queue, &fleet.carrier, &runs, &CAPS, PATIENCE).await;
    let mut placed: HashMap<u32, usize> = HashMap::new();
    for run_id in &runs {
        for call in fleet.probe.calls(run_id).await {
            *placed.entry(call.pid()).or_default() += 1;
        }
    }
    let of = |process| placed.get(&fleet.server(process).pid()).copied().unwrap_or(0);
    assert!((0..3).all(|process| of(process) >= 10), "{placed:?}");
    fleet.stop().await;
}

/// Whatever worker holds the run's intents: once the command returned, nothing of the run arrives
/// any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_called_off_stays_off_with_three_workers() {
    let fleet = three().await;
    let queue = fleet.queue(1);
    let range = |n: usize| n * 100..n * 100 + 60;
    let mut runs = Vec::new();
    for n in 0..4 {
        runs.push(create(&queue, settings(), jobs(range(n))).await);
    }
    let of = |n: usize| {
        let phones: HashSet<_> = range(n).map(phone).collect();
        fleet.carrier.creates().iter().filter(|entry| phones.contains(&entry.to)).count()
    };
    until("every run to dial", async || (0..4).all(|n| of(n) >= 5)).await;

    let pause = pb::PauseRunRequest { run_id: runs[0].clone(), ..Default::default() };
    let paused = queue.clone().pause_run(pause).await.unwrap().into_inner();
    let at_pause = of(0);
    let cancel = pb::CancelRunRequest { run_id: runs[1].clone(), ..Default::default() };
    let canceled = queue.clone().cancel_run(cancel).await.unwrap().into_inner();
    let at_cancel = of(1);
    let stop = pb::StopRunRequest { run_id: runs[2].clone(), ..Default::default() };
    let stopped = queue.clone().stop_run(stop).await.unwrap().into_inner();
    let at_stop = of(2);
    for in_flight in [paused.in_flight, canceled.in_flight, stopped.in_flight] {
        assert_eq!(in_flight.unwrap().intent, 0);
    }
    assert!([at_pause, at_cancel, at_stop].iter().all(|at| *at < 60), "too late to be a test");

    // The others' slots go to the run that is left; by its end those called off would have dialed
    // too.
    until("the run that is left", async || {
        state(&run(&queue, &runs[3]).await) == RunState::Completed
    })
    .await;
    assert_eq!((of(0), of(1), of(2), of(3)), (at_pause, at_cancel, at_stop, 60));
    let halted = run(&queue, &runs[0]).await;
    assert_eq!((state(&halted), counts(&halted).queued), (RunState::Paused, 60 - at_pause as i64));
    let resume = pb::ResumeRunRequest { run_id: runs[0].clone(), ..Default::default() };
    queue.clone().resume_run(resume).await.unwrap();
    judge(&queue, &fleet.carrier, &runs, &CAPS, PATIENCE).await;
    assert_eq!((of(0), of(1), of(2)), (60, at_cancel, at_stop));
    fleet.stop().await;
}
