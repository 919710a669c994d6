//! Warm transfers: responders are told of an incident, and asked, while the caller waits.

use pb::open_incident_request::Caller as Of;
use serde_json::json;
use trunkline::grpc::pb::transfer_event::Kind as EventKind;
use trunkline::grpc::pb::{self, TargetMiss, TransferMethod, TransferOutcome as O, TransferState};
use trunkline::simulator::{Outcome, Scripted, Via};

use super::*;
use crate::support::on_both_databases;

on_both_databases!(
    who_accepts_is_connected,
    who_does_not_is_followed_by_the_next,
    nobody_accepts_and_the_caller_is_taken_back,
    a_caller_who_dials_in_is_connected,
    an_accepted_call_falls_back_too,
    the_caller_hangs_up_at_each_step,
);

fn of(caller: &Caller) -> Of {
    Of::CallId(caller.call_id.clone())
}

fn missed(events: &[EventKind]) -> Vec<TargetMiss> {
    let miss = |event: &EventKind| match event {
        EventKind::TargetMissed(missed) => Some(missed.miss()),
        _ => None,
    };
    events.iter().filter_map(miss).collect()
}

async fn who_accepts_is_connected(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, presses(500, "1"));
    let opened = open(&world, of(&caller), to(&[500])).await;
    let (transfer, events) = ended(&world, &opened.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Redirect));
    assert!(events.iter().any(|event| matches!(event, EventKind::Accepted(_))), "{events:?}");
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    let ledger = world.carrier.simulator.ledger();
    // The notification is ours, and was over before the two were connected.
    assert_eq!(ledger.entries.len(), 2);
    let (notification, bridge) = (&ledger.entries[1], bridges(&world, &caller).remove(0));
    assert_eq!((notification.to.clone(), bridge.via), (phone(500), Via::Number));
    assert!(notification.ended_at_us.unwrap() <= bridge.from_us);
    hung_up(&world, &caller.sid).await;
    assert_tidy(&world).await;
    world.stop().await;
}

async fn who_does_not_is_followed_by_the_next(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, presses(500, "2").into_iter().take(1));
    people(&world, [comes_to(501, Outcome::Machine), comes_to(502, Outcome::NoAnswer)]);
    // Answers, and presses nothing.
    people(&world, [Scripted { talk_s: Some(2.0), ..answers(503) }]);
    people(&world, presses(504, "1"));
    let settings = pb::TransferSettings {
        ring_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..to(&[500, 501, 502, 503, 504])
    };
    let opened = open(&world, of(&caller), settings).await;
    let (transfer, events) = ended(&world, &opened.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.target), (O::Bridged, 4));
    let all = [TargetMiss::Declined, TargetMiss::Machine, TargetMiss::NoAnswer, TargetMiss::NoKey];
    assert_eq!(missed(&events), all);
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    world.stop().await;
}

async fn nobody_accepts_and_the_caller_is_taken_back(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    people(&world, presses(500, "2").into_iter().take(1));
    let on_failure =
        Some(pb::OnFailure { kind: Some(pb::on_failure::Kind::Apology("Sorry.".into())) });
    let settings = pb::TransferSettings { on_failure, ..to(&[500]) };
    let opened = open(&world, of(&caller), settings).await;
    let (transfer, _) = ended(&world, &opened.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.state()), (O::Declined, TransferState::Failed));
    // Out of the queue, into the apology.
    let asked = world.carrier.simulator.ledger().asked;
    let last = asked
        .iter()
        .rfind(|asked| asked.call_sid.as_ref().is_some_and(|sid| sid.as_str() == caller.sid));
    let document = last.unwrap().document.clone().unwrap();
    assert!(document.contains("Sorry.") && document.contains("<Hangup"), "{document}");
    assert!(bridges(&world, &caller).is_empty());
    world.stop().await;
}

async fn a_caller_who_dials_in_is_connected(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    people(&world, presses(500, "1"));
    let awaited = Of::CallerPhone(phone(7).expose().to_owned());
    let opened = open(&world, awaited, to(&[500])).await;
    let id = opened.transfer_id;
    let accepted =
        |transfer: &pb::Transfer| transfer.target_call_id.is_empty() && transfer.revision > 3;
    reaches(&world, &id, "acceptance", accepted).await;
    let body = json!({
        "from": phone(7).expose(),
        "to": "+15005550006",
        "voice_url": format!("{}/twilio/voice", world.webhooks),
        "status_callback": format!("{}/twilio/voice/status", world.webhooks),
        "talk_s": 5.0,
        "hang_up_after_s": 6_000.0,
    });
    let url = format!("{}/simulator/inbound", world.carrier.origin);
    let placed = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    let sid = placed.json::<serde_json::Value>().await.unwrap()["sid"].as_str().unwrap().to_owned();
    let (transfer, events) = ended(&world, &id).await;
    assert_eq!(transfer.outcome(), O::Bridged);
    assert!(events.iter().any(|event| matches!(event, EventKind::CallerJoined(_))), "{events:?}");
    let caller = Caller { call_id: transfer.call_id, sid };
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    world.stop().await;
}

async fn an_accepted_call_falls_back_too(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, Some("<Number"));
    people(&world, presses(500, "1"));
    let opened = open(&world, of(&caller), to(&[500])).await;
    let (transfer, _) = ended(&world, &opened.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Dequeue));
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    assert_eq!(bridges(&world, &caller)[0].via, Via::Queue);
    world.stop().await;
}

/// Whether a transfer has come to some step.
type Holds = fn(&pb::Transfer) -> bool;

async fn the_caller_hangs_up_at_each_step(database: TestDatabase) {
    let carrier = simulator::Config { speed: 10.0, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, ..Setup::default() }).await;
    let waits = |transfer: &pb::Transfer| transfer.caller_waiting;
    let told =
        |transfer: &pb::Transfer| transfer.caller_waiting && !transfer.target_call_id.is_empty();
    let dialed = |transfer: &pb::Transfer| {
        transfer.state() == TransferState::Ringing
            && !transfer.caller_waiting
            && transfer.revision > 6
    };
    let steps: [(&str, Holds); 3] = [("waiting", waits), ("notifying", told), ("dialing", dialed)];
    for (step, (what, holds)) in steps.into_iter().enumerate() {
        let caller = caller(&world, SCRIPT_S).await;
        let target = 500 + step;
        // Rings for long where the caller is to go during that.
        let [first, second] = presses(target, "1");
        let first =
            if what == "dialing" { first } else { Scripted { ring_s: Some(11_000.0), ..first } };
        people(&world, [first, Scripted { ring_s: Some(11_000.0), ..second }]);
        let opened = open(&world, of(&caller), patient(&[target])).await;
        reaches(&world, &opened.transfer_id, what, holds).await;
        assert!(world.carrier.simulator.hang_up(&caller.sid.parse().unwrap()));
        let (transfer, _) = ended(&world, &opened.transfer_id).await;
        assert_eq!(transfer.outcome(), O::CallerGone, "{what}");
        // Nobody is left talking to nobody.
        world.carrier.settled().await;
        assert!(bridges(&world, &caller).is_empty());
    }
    world.stop().await;
}
