//! The carrier's client against the simulated carrier, over HTTP both ways.

mod answers;
mod callbacks;
mod dial;
mod gather;
mod queues;
mod request_faults;
mod rooms;
mod world;

use std::time::Duration;

use trunkline::carrier::{CodeClass, Created, Error, ListCalls, UpdateCall};
use trunkline::domain::CallSid;
use trunkline::domain::call::{CarrierStatus, RejectClass};
use trunkline::simulator::{Config, SimAccount};

use world::{World, long_calls, phone};

#[tokio::test]
async fn a_hang_up_ends_a_live_call() {
    let mut world = World::start(long_calls()).await;
    let sid = world.create(1).await;
    world.until(&sid, CarrierStatus::InProgress).await;

    let update = UpdateCall::Cancel;
    let call = world.client.update_call(&world.account, &sid, &update).await.unwrap();
    assert_eq!(call.status, CarrierStatus::InProgress, "canceled leaves an answered call alone");

    let call = world.client.update_call(&world.account, &sid, &UpdateCall::Hangup).await.unwrap();
    assert_eq!(call.status, CarrierStatus::Completed);
    assert!(call.duration_s.is_some_and(|s| s >= 1) && call.end_time.is_some());
    let last = world.until(&sid, CarrierStatus::Completed).await;
    assert!(last.call_duration_s.is_some());

    let again =
        world.client.update_call(&world.account, &sid, &UpdateCall::Hangup).await.unwrap_err();
    assert!(
        matches!(again, Error::Rejected { class: CodeClass::Race, code: Some(21220), .. }),
        "{again}"
    );
    assert_eq!(world.simulator.live_calls(), 0);
}

#[tokio::test]
async fn a_ringing_call_is_canceled() {
    let config = Config { ring_s: trunkline::simulator::Range::exactly(50_000.0), ..long_calls() };
    let mut world = World::start(config).await;
    let sid = world.create(1).await;
    world.until(&sid, CarrierStatus::Ringing).await;
    let early = UpdateCall::Twiml("<Response/>".into());
    let early = world.client.update_call(&world.account, &sid, &early).await.unwrap_err();
    assert!(matches!(early, Error::Rejected { class: CodeClass::Race, .. }), "{early}");
    let call = world.client.update_call(&world.account, &sid, &UpdateCall::Cancel).await.unwrap();
    assert_eq!(call.status, CarrierStatus::Canceled);
    world.until(&sid, CarrierStatus::Canceled).await;
}

#[tokio::test]
async fn a_live_call_goes_on_elsewhere() {
    let mut world = World::start(long_calls()).await;
    let sid = world.create(1).await;
    world.until(&sid, CarrierStatus::InProgress).await;
    let update = UpdateCall::Twiml("<Response><Hangup/></Response>".into());
    world.client.update_call(&world.account, &sid, &update).await.unwrap();
    world.until(&sid, CarrierStatus::Completed).await;
}

#[tokio::test]
async fn what_is_unknown_is_not_found() {
    let world = World::start(long_calls()).await;
    let sid: CallSid = "CA0123456789abcdef0123456789abcdef".parse().unwrap();
    assert_eq!(world.client.fetch_call(&world.account, &sid).await, Err(Error::NotFound));
    let mut stranger = world.account.clone();
    stranger.credential.password = "wrong".into();
    let refused = world.client.fetch_call(&stranger, &sid).await.unwrap_err();
    let Error::Rejected { class, code, .. } = refused else { panic!("{refused}") };
    assert_eq!((class, code), (CodeClass::Reject(RejectClass::Configuration), Some(20003)));
}

#[tokio::test]
async fn lists_page_by_page() {
    let world = World::start(long_calls()).await;
    let mut created = Vec::new();
    for n in 0..7 {
        created.push(world.create(n % 2).await);
    }
    created.reverse();
    let mut list = ListCalls { page_size: 3, ..ListCalls::default() };
    let mut listed = Vec::new();
    loop {
        let page = world.client.list_calls(&world.account, &list).await.unwrap();
        assert!(page.calls.len() <= 3);
        listed.extend(page.calls.into_iter().map(|call| call.sid));
        list.page = page.next_page;
        if list.page.is_none() {
            break;
        }
    }
    assert_eq!(listed, created, "newest first, each once");

    let of = |to: u32, status| ListCalls { to: Some(phone(to)), status, ..ListCalls::default() };
    let count =
        async |list| world.client.list_calls(&world.account, &list).await.unwrap().calls.len();
    assert_eq!(count(of(0, None)).await, 4);
    assert_eq!(count(of(9, None)).await, 0);
    assert_eq!(count(of(0, Some(CarrierStatus::Busy))).await, 0);

    let at = world.simulator.ledger().entries[0].arrived_at_us;
    let hour = Duration::from_secs(3_600);
    let around = ListCalls {
        from: Some(phone(500)),
        started_after: Some(at - hour),
        started_before: Some(at + hour),
        ..of(1, None)
    };
    assert_eq!(count(around.clone()).await, 3);
    assert_eq!(count(ListCalls { started_after: Some(at + hour), ..around }).await, 0);
}

#[tokio::test]
async fn creates_above_the_pace_are_deferred() {
    let mut config = long_calls();
    config.accounts = vec![SimAccount { calls_per_second: Some(0.01), ..World::sim_account() }];
    let world = World::start(config).await;
    let first = world.client.create_call(&world.account, &world.call(1)).await;
    assert!(matches!(first, Created::Submitted { .. }), "{first:?}");
    let second = world.client.create_call(&world.account, &world.call(2)).await;
    let Created::Rejected { class, code, http_status, .. } = second else { panic!("{second:?}") };
    assert_eq!((class, code, http_status), (RejectClass::Defer, Some(20429), 429));
    let ledger = world.simulator.ledger();
    assert_eq!((ledger.entries.len(), ledger.refused["20429"]), (1, 1));
}

#[tokio::test]
async fn the_ledger_judges() {
    let world = World::start(long_calls()).await;
    for n in [1, 2, 1] {
        world.create(n).await;
    }
    let ledger = world.simulator.ledger();
    assert_eq!(ledger.duplicates_by(|e| Some(e.to.clone())), [(phone(1), 2)].into());
    assert!(ledger.duplicates_by(|e| Some(e.sid.clone())).is_empty());
    assert_eq!((ledger.peak_concurrency(), ledger.peak_live), (3, 3));
    assert_eq!(ledger.pace_violations(0.01, Duration::ZERO).len(), 2);

    let json: serde_json::Value =
        serde_json::from_str(&world.get("/simulator/ledger").await).unwrap();
    assert_eq!(json["entries"].as_array().unwrap().len(), 3);
    assert_eq!(json["entries"][0]["status_callback"], world.call(1).status_callback);
    assert!(world.get("/simulator/health").await.contains("\"live\":3"));
}
