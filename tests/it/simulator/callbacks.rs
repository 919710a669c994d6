//! What the simulated carrier sends back.

use trunkline::carrier::callback::{AmdCallback, StatusCallback};
use trunkline::carrier::{Amd, AmdMode, Answer, CreateCall};
use trunkline::domain::call::{AnsweredBy, CarrierStatus};
use trunkline::simulator::{Faults, Outcome, Scripted};

use super::world::{World, phone, quick_calls};

fn scripted(to: u32, outcome: Outcome) -> Scripted {
    Scripted { outcome: Some(outcome), ..Scripted::new(phone(to)) }
}

#[tokio::test]
async fn a_call_reports_every_step_in_order() {
    let mut world = World::start(quick_calls()).await;
    let sid = world.create(1).await;
    let expected = [
        CarrierStatus::Initiated,
        CarrierStatus::Ringing,
        CarrierStatus::InProgress,
        CarrierStatus::Completed,
    ];
    for (sequence, status) in (0..).zip(expected) {
        let arrived = world.next().await;
        assert_eq!(arrived.get("CallbackSource"), Some("call-progress-events"));
        let callback = StatusCallback::parse(&arrived.params).unwrap();
        assert_eq!((&callback.call_sid, callback.status), (&sid, status));
        assert_eq!(callback.sequence_number, Some(sequence));
        assert_eq!((callback.to, callback.from), (Some(phone(1)), Some(phone(500))));
        assert!(callback.timestamp.is_some());
        if status == CarrierStatus::Completed {
            assert_eq!(callback.call_duration_s, Some(2));
        }
    }
    let call = world.client.fetch_call(&world.account, &sid).await.unwrap();
    assert_eq!((call.status, call.duration_s), (CarrierStatus::Completed, Some(2)));
    assert!(call.start_time.is_some() && call.end_time.is_some() && call.date_created.is_some());
    let entry = &world.simulator.ledger().entries[0];
    assert_eq!(entry.steps.len(), 5);
    assert!(entry.steps.is_sorted_by_key(|step| step.monotonic_us));
    assert!(entry.ended_at_us.is_some());
}

#[tokio::test]
async fn every_outcome_ends() {
    let mut world = World::start(quick_calls()).await;
    for (to, outcome, status) in [
        (1, Outcome::Busy, CarrierStatus::Busy),
        (2, Outcome::Failed, CarrierStatus::Failed),
        (3, Outcome::NoAnswer, CarrierStatus::NoAnswer),
        (4, Outcome::Machine, CarrierStatus::Completed),
    ] {
        world.simulator.script(scripted(to, outcome)).unwrap();
        let call = CreateCall { ring_timeout_s: 5, ..world.call(to) };
        let sid = world.take(&call).await;
        world.until(&sid, status).await;
    }
}

#[tokio::test]
async fn nobody_waits_at_full_speed() {
    let mut config = quick_calls();
    (config.instant, config.talk_s) = (true, trunkline::simulator::Range::exactly(3_000.0));
    let mut world = World::start(config).await;
    let call = CreateCall { time_limit_s: 600, ..world.call(1) };
    let sid = world.take(&call).await;
    let last = world.until(&sid, CarrierStatus::Completed).await;
    assert_eq!(last.call_duration_s, Some(600), "the time limit holds");
}

#[tokio::test]
async fn detection_reports_beside_the_call() {
    let mut world = World::start(quick_calls()).await;
    let mut script = scripted(1, Outcome::Machine);
    script.talk_s = Some(100.0);
    world.simulator.script(script).unwrap();
    let amd = Amd { mode: AmdMode::DetectMessageEnd, callback_url: world.url("/amd") };
    let sid = world.take(&CreateCall { amd: Some(amd), ..world.call(1) }).await;
    let detected = loop {
        let arrived = world.next().await;
        if arrived.path == "/amd" {
            break AmdCallback::parse(&arrived.params).unwrap();
        }
    };
    assert_eq!(
        (detected.call_sid, detected.answered_by),
        (sid.clone(), AnsweredBy::MachineEndBeep)
    );
    let last = world.until(&sid, CarrierStatus::Completed).await;
    assert_eq!(last.answered_by, Some(AnsweredBy::MachineEndBeep));
}

#[tokio::test]
async fn twiml_is_fetched_and_its_fallback_too() {
    let mut world = World::start(quick_calls()).await;
    let answer =
        Answer::Url { url: world.url("/main"), fallback_url: Some(world.url("/fallback")) };
    // Nothing but documents is asked for, so the answers go where they are meant to.
    let call = CreateCall {
        answer,
        status_callback: "http://127.0.0.1:9/none#rc=0".into(),
        ..world.call(1)
    };
    world.answer(500, "no");
    world.answer(200, "<Response><Say>Hi</Say><Redirect>/next?a=1&amp;b=2</Redirect></Response>");
    world.answer(200, "<Response><Hangup/></Response>");
    world.take(&call).await;
    assert_eq!(world.next().await.path, "/main");
    let fallback = world.next().await;
    assert_eq!((fallback.path.as_str(), fallback.get("ErrorCode")), ("/fallback", Some("11200")));
    let next = world.next().await;
    assert_eq!((next.path.as_str(), next.get("CallStatus")), ("/next", Some("in-progress")));
}

#[tokio::test]
async fn a_refused_callback_is_sent_again() {
    let mut world = World::start(quick_calls()).await;
    world.answer(503, "");
    world.answer(503, "");
    let sid = world.create(1).await;
    for _ in 0..3 {
        assert_eq!(world.next().await.get("CallStatus"), Some("initiated"));
    }
    world.until(&sid, CarrierStatus::Completed).await;
}

#[tokio::test]
async fn callbacks_go_wrong_on_demand() {
    let mut world = World::start(quick_calls()).await;
    let doubled = Faults { callback_duplicated: 1.0, callback_reordered: 1.0, ..Faults::default() };
    world.simulator.set_faults(doubled).unwrap();
    world.create(1).await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(world.next().await.get("SequenceNumber").unwrap().parse::<u32>().unwrap());
    }
    assert_eq!(seen, [1, 1, 0, 0, 3, 3, 2, 2]);

    world.simulator.set_faults(Faults { callback_lost: 1.0, ..Faults::default() }).unwrap();
    let silent = world.create(2).await;
    world.settled().await;
    let call = world.client.fetch_call(&world.account, &silent).await.unwrap();
    assert_eq!(call.status, CarrierStatus::Completed, "fetching repairs what was lost");
    world.simulator.set_faults(Faults::default()).unwrap();
    world.create(3).await;
    assert_eq!(world.next().await.get("To"), Some(phone(3).expose()));
}
