//! The database goes away and comes back, and connections break in the middle of everything.

use std::time::Duration;

use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use trunkline::grpc::pb;

use super::fleet::{Fleet, Settings};
use super::judge::{Caps, judge};
use super::probe::Held;
use super::proxy::Proxy;
use crate::support::TestDatabase;
use crate::system::world::{PACE_TOLERANCE, create, jobs, quick_carrier, settings, until};

const CAPS: Caps = Caps { concurrent: 60, per_second: None, tolerance: PACE_TOLERANCE };
const SETTINGS: &Settings = &[
    ("TENANT__MAX_CONCURRENT_CALLS", "60"),
    ("TENANT__CALLS_PER_SECOND", "20"),
    ("TWILIO__CALLS_PER_SECOND", "20"),
];
const OUTAGE: Duration = Duration::from_secs(5);
/// Calls whose callbacks were lost are asked about after a minute, intents given up after a little
/// more.
const PATIENCE: Duration = Duration::from_secs(180);

async fn until_healthy(fleet: &Fleet, wanted: ServingStatus) {
    for process in 0..fleet.len() {
        until(wanted.as_str_name(), async || fleet.health(process).await == Some(wanted)).await;
    }
}

/// Holds a claim up in the middle of its transaction. News may get in its way; then the next one is
/// tried.
async fn hold_a_claim_up(fleet: &Fleet) -> Held {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let held = fleet.probe.hold_calls().await;
        if fleet.probe.until_blocked("INSERT INTO call_log").await.is_some() {
            return held;
        }
        held.release().await;
    }
    panic!("no claim was held up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_loses_nothing() {
    let database = TestDatabase::postgres().await;
    let proxy = Proxy::start(&database.url).await;
    let url = proxy.url(&database.url);
    let fleet = Fleet::start(database, 2, quick_carrier(), SETTINGS, Some(&url)).await;
    let queue = fleet.queue(0);
    until_healthy(&fleet, ServingStatus::Serving).await;
    let mut runs = vec![create(&queue, settings(), jobs(0..150)).await];
    fleet.carrier.accepted(10).await;

    // In the middle of a claim, its intents about to be written.
    let held = hold_a_claim_up(&fleet).await;
    proxy.cut();
    let mended_at = Instant::now() + OUTAGE;
    held.release().await;
    until_healthy(&fleet, ServingStatus::NotServing).await;
    let get = pb::GetRunRequest { run_id: runs[0].clone() };
    let refused = queue.clone().get_run(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    sleep_until(mended_at).await;
    proxy.mend();
    until_healthy(&fleet, ServingStatus::Serving).await;
    let at_return = fleet.carrier.creates().len();
    fleet.carrier.accepted(at_return + 5).await;

    // Committed, but whoever asked for it does not know: claims nobody sends, news that is told
    // twice.
    proxy.lose_commits(4);
    until("commits to be lost", async || proxy.commits_to_lose() == 0).await;
    runs.push(create(&queue, settings(), jobs(150..250)).await);
    for _ in 0..8 {
        sleep(Duration::from_millis(rand::rng().random_range(50..400))).await;
        proxy.reset();
    }
    let created = judge(&queue, &fleet.carrier, &runs, &CAPS, PATIENCE).await;
    assert!(created > 100, "{created} of 250 jobs were dialed");
    fleet.stop().await;
}
