//! Direct transfers: each way of connecting caller and target, and each way back.

use tonic::Code;
use trunkline::domain::call::CarrierStatus;
use trunkline::grpc::pb::transfer_event::Kind as EventKind;
use trunkline::grpc::pb::{self, TransferMethod, TransferOutcome as O, TransferState};
use trunkline::simulator::{Outcome, Scripted, Via};

use super::*;
use crate::support::on_both_databases;

on_both_databases!(
    a_redirect_connects_caller_and_target,
    a_busy_target_is_followed_by_the_next,
    whoever_reaches_nobody_hears_an_apology,
    whoever_reaches_nobody_is_returned,
    whoever_reaches_nobody_is_sent_to_a_url,
    a_refused_redirect_falls_back_to_the_queue,
    without_the_queue_there_is_the_conference,
    where_nothing_works_the_caller_is_left_on_the_line,
    a_carrier_that_stumbles_is_asked_again,
    two_at_once_and_one_wins,
    what_is_canceled_is_taken_back,
);

async fn a_redirect_connects_caller_and_target(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, [answers(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, events) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::Bridged, TransferState::Bridged));
    assert_eq!(transfer.method(), TransferMethod::Redirect);
    assert!(matches!(events.last(), Some(EventKind::Ended(_))), "{events:?}");
    // The carrier agrees, and dialed the target itself: no create of ours.
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    let bridge = bridges(&world, &caller).remove(0);
    assert_eq!((bridge.via, bridge.legs[0].as_str()), (Via::Number, caller.sid.as_str()));
    let ledger = world.carrier.simulator.ledger();
    assert_eq!((ledger.entries.len(), ledger.legs.len()), (1, 1));
    assert_eq!(
        (ledger.legs[0].to.clone(), ledger.legs[0].from.expose()),
        (phone(500), "+15005550006")
    );
    // When the target hangs up the conversation is over, and so is the call.
    hung_up(&world, &caller.sid).await;
    assert_eq!(get(&world, &transfer.transfer_id).await, transfer);
    assert_tidy(&world).await;
    world.stop().await;
}

async fn a_busy_target_is_followed_by_the_next(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, [comes_to(500, Outcome::Busy), comes_to(501, Outcome::Failed), answers(502)]);
    let started = start(&world, &caller, to(&[500, 501, 502])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.target), (O::Bridged, 2));
    let called: Vec<_> =
        world.carrier.simulator.ledger().legs.iter().map(|leg| leg.to.clone()).collect();
    assert_eq!(called, [phone(500), phone(501), phone(502)]);
    world.stop().await;
}

async fn whoever_reaches_nobody_hears_an_apology(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let caller = caller(&world, 1_000.0).await;
    people(&world, [comes_to(500, Outcome::Busy), comes_to(501, Outcome::NoAnswer)]);
    let started =
        start(&world, &caller, pb::TransferSettings { ring_timeout: ring(5), ..to(&[500, 501]) })
            .await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::NoAnswer, TransferState::Failed));
    assert!(!status(&world, &caller.sid).is_final(), "the call ended before they heard anything");
    // They hear it, and then the call ends.
    hung_up(&world, &caller.sid).await;
    assert!(bridges(&world, &caller).is_empty());
    world.stop().await;
}

fn ring(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// How many wait in the queue of this name, as the carrier tells.
async fn waiting(world: &World, name: &str) -> i64 {
    let found = queues(world).await.into_iter().find(|(known, _)| known == name);
    found.map_or(0, |(_, size)| size)
}

/// Their own document goes on with them.
async fn whoever_reaches_nobody_is_sent_to_a_url(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, [comes_to(500, Outcome::Busy)]);
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let document = move || {
        asked.send(()).unwrap();
        std::future::ready("<Response><Say>Back again.</Say><Pause length=\"100\"/></Response>")
    };
    let back = axum::Router::new().route("/back", axum::routing::any(document));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/back", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, back).await });
    let on_failure = Some(pb::OnFailure { kind: Some(pb::on_failure::Kind::TwimlUrl(url)) });
    let started = start(&world, &caller, pb::TransferSettings { on_failure, ..to(&[500]) }).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::Returned, TransferState::Returned));
    tokio::time::timeout(PATIENCE, asks.recv()).await.expect("their document").unwrap();
    assert_eq!(status(&world, &caller.sid), CarrierStatus::InProgress);
    serving.abort();
    world.stop().await;
}

async fn whoever_reaches_nobody_is_returned(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, [comes_to(500, Outcome::Busy)]);
    let on_failure =
        Some(pb::OnFailure { kind: Some(pb::on_failure::Kind::QueueName("support".into())) });
    let started = start(&world, &caller, pb::TransferSettings { on_failure, ..to(&[500]) }).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::Returned, TransferState::Returned));
    until("the caller in the queue", async || waiting(&world, "support").await == 1).await;
    world.stop().await;
}

fn fell_back(events: &[EventKind]) -> Vec<TransferMethod> {
    let back = |event: &EventKind| match event {
        EventKind::FellBack(back) => Some(back.to()),
        _ => None,
    };
    events.iter().filter_map(back).collect()
}

async fn a_refused_redirect_falls_back_to_the_queue(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, Some("<Number"));
    people(&world, [comes_to(500, Outcome::Busy), answers(501)]);
    let started = start(&world, &caller, to(&[500, 501])).await;
    let (transfer, events) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Dequeue));
    assert_eq!(fell_back(&events), [TransferMethod::Dequeue]);
    assert_eq!(
        (transfer.error_code.as_str(), transfer.error_class.as_str()),
        ("21218", "rejected")
    );
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    assert_eq!(bridges(&world, &caller)[0].via, Via::Queue);
    // The targets were called by us, each once.
    let creates: Vec<_> = world.carrier.creates().iter().map(|entry| entry.to.clone()).collect();
    assert_eq!(creates, [phone(CALLER), phone(500), phone(501)]);
    assert_tidy(&world).await;
    hung_up(&world, &caller.sid).await;
    world.stop().await;
}

async fn without_the_queue_there_is_the_conference(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, Some("<Number"));
    refuse(&world, Some("<Enqueue"));
    people(&world, [answers(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, events) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Conference));
    assert_eq!(fell_back(&events), [TransferMethod::Dequeue, TransferMethod::Conference]);
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    assert_eq!(bridges(&world, &caller)[0].via, Via::Conference);
    world.stop().await;
}

async fn where_nothing_works_the_caller_is_left_on_the_line(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, None);
    people(&world, [Scripted { talk_s: Some(80_000.0), ..answers(500) }]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::TargetFailed, TransferState::Failed));
    assert_eq!(status(&world, &caller.sid), CarrierStatus::InProgress, "their script goes on");
    // The target is not left in an empty conference.
    let target = world.carrier.creates()[1].sid.to_string();
    hung_up(&world, &target).await;
    assert!(bridges(&world, &caller).is_empty());
    world.stop().await;
}

async fn a_carrier_that_stumbles_is_asked_again(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    spoil(&world, None, 1, Some(503), None);
    spoil(&world, None, 1, Some(429), Some(20_429));
    spoil(&world, None, 1, None, None);
    people(&world, [answers(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, events) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Redirect));
    assert!(fell_back(&events).is_empty());
    assert_eq!(world.carrier.simulator.ledger().asked.len(), 4);
    world.stop().await;
}

async fn two_at_once_and_one_wins(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, [answers(500), answers(500)]);
    let ask = || {
        let call = Some(pb::start_transfer_request::Call::CallSid(caller.sid.clone()));
        let settings = Some(to(&[500]));
        let request = pb::StartTransferRequest { call, settings, ..Default::default() };
        let mut client = world.client.transfers.clone();
        async move { client.start_transfer(request).await }
    };
    let (one, other) = tokio::join!(ask(), ask());
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    let won = won.unwrap().into_inner().transfer.unwrap();
    assert_eq!(lost.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(ended(&world, &won.transfer_id).await.0.outcome(), O::Bridged);
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    assert_eq!(world.carrier.simulator.ledger().legs.len(), 1);
    world.stop().await;
}

async fn what_is_canceled_is_taken_back(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    people(&world, [endless(500)]);
    let on_failure =
        Some(pb::OnFailure { kind: Some(pb::on_failure::Kind::QueueName("support".into())) });
    let settings = pb::TransferSettings { on_failure, ..patient(&[500]) };
    let started = start(&world, &caller, settings).await;
    let id = started.transfer_id;
    reaches(&world, &id, "ringing", |transfer| transfer.state() == TransferState::Ringing).await;
    let request = pb::CancelTransferRequest { transfer_id: id.clone(), ..Default::default() };
    world.client.transfers.clone().cancel_transfer(request).await.unwrap();
    assert_eq!(ended(&world, &id).await.0.outcome(), O::Canceled);
    until("the caller in the queue", async || waiting(&world, "support").await == 1).await;
    assert!(bridges(&world, &caller).is_empty());
    world.stop().await;
}
