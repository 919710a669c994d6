//! A worker that sleeps past its lease while others go on, and wakes up with its intents still in
//! hand.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use trunkline::domain::call::{STALE_NO_CALL_SID, WITHDRAWN};

use super::fleet::{Fleet, Settings};
use super::judge::{Caps, judge};
use crate::support::TestDatabase;
use crate::system::world::{call_id, create, jobs, list_calls, quick_carrier, settings, until};

/// Three processes have twelve creates in hand at most. When the machine stalls they arrive
/// together, and eleven turns take 550 ms.
const TOLERANCE: Duration = Duration::from_millis(550);
const CAPS: Caps = Caps { concurrent: 16, per_second: Some(20.0), tolerance: TOLERANCE };
const SETTINGS: &Settings = &[
    ("TENANT__MAX_CONCURRENT_CALLS", "16"),
    ("TENANT__CALLS_PER_SECOND", "20"),
    ("TWILIO__CALLS_PER_SECOND", "20"),
    // A sleeper keeps four slots at most, and its intents wait for their turn.
    ("DIALER__PERMITS", "4"),
    ("DIALER__HORIZON_MS", "1000"),
];
/// Intents that it is stopped with, of its four.
const IN_HAND: usize = 3;
/// Tries to stop it so.
const CATCHES_MAX: usize = 50;
/// Enough to go on with for longer than a lease of 20 s.
const LEADS: usize = 700;
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_sends_nothing_that_is_too_old() {
    let fleet =
        Fleet::start(TestDatabase::postgres().await, 3, quick_carrier(), SETTINGS, None).await;
    let queue = fleet.queue(0);
    let run_id = create(&queue, settings(), jobs(0..LEADS)).await;
    // It hears no callbacks and answers no client, so that only its intents are missed.
    let sleeper = 2;
    let pid = fleet.server(sleeper).pid();
    // Its calls in this state that the carrier does not have.
    let unsent = async |state: &str| {
        let calls = fleet.probe.calls(&run_id).await;
        let at_carrier: HashSet<String> = fleet.carrier.creates().iter().map(call_id).collect();
        let of_it = calls.into_iter().filter(|call| call.pid() == pid && call.state == state);
        of_it.map(|call| call.call_id).filter(|id| !at_carrier.contains(id)).collect::<Vec<_>>()
    };
    // It may send them between the look and the signal; then it goes on, and is caught another
    // time.
    let mut catches = 0;
    loop {
        until("intents that wait", async || unsent("intent").await.len() >= IN_HAND).await;
        fleet.signal(sleeper, Signal::STOP);
        if unsent("intent").await.len() >= IN_HAND {
            break;
        }
        fleet.signal(sleeper, Signal::CONT);
        catches += 1;
        assert!(catches < CATCHES_MAX, "never caught with intents in hand");
    }
    let at_stop = fleet.carrier.creates().len();
    let age_out = async || {
        let calls = fleet.probe.calls(&run_id).await;
        !calls.iter().any(|call| call.pid() == pid && call.state == "intent")
    };
    until("its intents to be taken for lost", age_out).await;
    until("the others to go on", async || fleet.carrier.creates().len() > at_stop + 100).await;
    let in_hand: HashSet<String> = unsent("unknown").await.into_iter().collect();
    assert!(!in_hand.is_empty(), "stopped too late to be a test");
    fleet.signal(sleeper, Signal::CONT);
    until("it to withdraw them", async || unsent("unknown").await.is_empty()).await;

    judge(&queue, &fleet.carrier, std::slice::from_ref(&run_id), &CAPS, PATIENCE).await;
    let calls = list_calls(&queue, &run_id).await;
    let with_code =
        |code: &str| calls.iter().filter(|call| call.error_code == code).collect::<Vec<_>>();
    let withdrawn = with_code(WITHDRAWN);
    assert!(!withdrawn.is_empty() && withdrawn.iter().all(|call| in_hand.contains(&call.call_id)));
    // No retries here, so nobody is called twice; those withdrawn are called once, later. A request
    // that was on its way when the process was stopped may have come to nothing.
    let given_up = with_code(STALE_NO_CALL_SID);
    assert!(given_up.iter().all(|call| in_hand.contains(&call.call_id)));
    let ledger = fleet.carrier.simulator.ledger();
    assert_eq!(ledger.duplicates_by(|entry| Some(entry.to.clone())).len(), 0);
    assert_eq!(ledger.entries.len(), LEADS - given_up.len());
    fleet.stop().await;
}
