//! A worker that sleeps past its lease while others go on, and wakes up with its intents still in hand.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use trunkline::domain::call::WITHDRAWN;

use super::fleet::{Fleet, Settings};
use super::judge::{Caps, judge};
use crate::support::TestDatabase;
use crate::system::world::{call_id, create, jobs, list_calls, quick_carrier, settings, until};

const CAPS: Caps = Caps { concurrent: 16, per_second: 20.0 };
const SETTINGS: &Settings = &[
    ("TENANT__MAX_CONCURRENT_CALLS", "16"),
    ("TENANT__CALLS_PER_SECOND", "20"),
    ("TWILIO__CALLS_PER_SECOND", "20"),
    // A sleeper keeps four slots at most, and its intents wait for their turn.
    ("DIALER__PERMITS", "4"),
    ("DIALER__HORIZON_MS", "1000"),
];
/// Enough to go on with for longer than a lease of 20 s.
const LEADS: usize = 700;
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_sends_nothing_that_is_too_old() {
    let fleet = Fleet::start(TestDatabase::postgres().await, 3, quick_carrier(), SETTINGS, None).await;
    let queue = fleet.queue(0);
    let run_id = create(&queue, settings(), jobs(0..LEADS)).await;
    // It hears no callbacks and answers no client, so that only its intents are missed.
    let sleeper = 2;
    let pid = fleet.server(sleeper).pid();
    let unsent = async || {
        let at_carrier: HashSet<String> = fleet.carrier.creates().iter().map(call_id).collect();
        let mut calls = fleet.probe.calls(&run_id).await;
        calls.retain(|call| {
            call.pid() == pid && call.state == "intent" && !at_carrier.contains(&call.call_id)
        });
        calls
    };
    until("intents that wait", async || unsent().await.len() >= 3).await;
    fleet.signal(sleeper, Signal::STOP);
    let in_hand: HashSet<String> = unsent().await.into_iter().map(|call| call.call_id).collect();
    assert!(!in_hand.is_empty(), "stopped too late to be a test");
    let at_stop = fleet.carrier.creates().len();

    let state_of_all = async |state: &str| {
        let calls = fleet.probe.calls(&run_id).await;
        let mut in_hand = calls.iter().filter(|call| in_hand.contains(&call.call_id));
        in_hand.all(|call| call.state == state)
    };
    until("its intents to be taken for lost", async || state_of_all("unknown").await).await;
    assert!(fleet.carrier.creates().len() > at_stop + 100, "the others did not go on");
    fleet.signal(sleeper, Signal::CONT);
    until("it to withdraw them", async || state_of_all("failed").await).await;

    judge(&queue, &fleet.carrier, std::slice::from_ref(&run_id), &CAPS, PATIENCE).await;
    let calls = list_calls(&queue, &run_id).await;
    let withdrawn = calls.iter().filter(|call| in_hand.contains(&call.call_id));
    assert!(withdrawn.clone().count() == in_hand.len());
    assert!(withdrawn.into_iter().all(|call| call.error_code == WITHDRAWN));
    // No retries here, so nobody is called twice; those withdrawn are called once, later.
    let ledger = fleet.carrier.simulator.ledger();
    assert_eq!(ledger.duplicates_by(|entry| Some(entry.to.clone())).len(), 0);
    assert_eq!(ledger.entries.len(), LEADS);
    fleet.stop().await;
}
