//! Requests that go wrong on demand.

use std::time::Duration;

use trunkline::carrier::{CodeClass, Error, UpdateCall};
use trunkline::domain::CallSid;
use trunkline::domain::call::{CarrierStatus, RejectClass};
use trunkline::simulator::{RequestFault, RequestKind};

use super::world::{World, client, long_calls};

async fn live(world: &mut World) -> CallSid {
    let sid = world.create(1).await;
    world.until(&sid, CarrierStatus::InProgress).await;
    sid
}

fn pause() -> UpdateCall {
    UpdateCall::Twiml(r#"<Response><Pause length="3600"/></Response>"#.into())
}

#[tokio::test]
async fn the_next_requests_go_wrong() {
    let mut world = World::start(long_calls()).await;
    let sid = live(&mut world).await;
    let update = async || world.client.update_call(&world.account, &sid, &pause()).await;
    world.post("/simulator/spoil", r#"{"on":"redirect","times":2,"http_status":503}"#).await;
    for _ in 0..2 {
        let error = update().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    assert_eq!(update().await.unwrap().sid, sid);

    world.post("/simulator/spoil", r#"{"on":"redirect","http_status":429}"#).await;
    let deferred = update().await.unwrap_err();
    let class = CodeClass::Reject(RejectClass::Defer);
    assert!(
        matches!(deferred, Error::Rejected { class: c, code: Some(20429), .. } if c == class),
        "{deferred}"
    );
    world.post("/simulator/spoil", r#"{"on":"redirect","http_status":400,"code":21220}"#).await;
    let race = update().await.unwrap_err();
    assert!(matches!(race, Error::Rejected { class: CodeClass::Race, .. }), "{race}");
    world.post("/simulator/spoil", r#"{"on":"redirect","reset":true}"#).await;
    let reset = update().await.unwrap_err();
    assert!(matches!(reset, Error::Unavailable { .. }), "{reset}");

    let asked = world.simulator.ledger().asked;
    let statuses: Vec<_> = asked.iter().map(|asked| (asked.http_status, asked.done)).collect();
    let refused = |status| (Some(status), false);
    assert_eq!(
        statuses,
        [refused(503), refused(503), (Some(200), true), refused(429), refused(400), (None, false)]
    );
    assert!(asked.iter().all(|asked| asked.call_sid.as_ref() == Some(&sid)));
    let wrong = world.post("/simulator/spoil", r#"{"on":"redirect","http_status":200}"#).await;
    assert!(wrong.contains("http_status"), "{wrong}");
}

#[tokio::test]
async fn only_what_fits_goes_wrong() {
    let mut world = World::start(long_calls()).await;
    let sid = live(&mut world).await;
    let fault = RequestFault {
        contains: Some("<Conference".into()),
        http_status: Some(500),
        ..RequestFault::new(RequestKind::Redirect)
    };
    world.simulator.spoil(fault).unwrap();
    world.client.update_call(&world.account, &sid, &pause()).await.unwrap();
    let room =
        UpdateCall::Twiml("<Response><Dial><Conference>r</Conference></Dial></Response>".into());
    assert!(world.client.update_call(&world.account, &sid, &room).await.is_err());
    world.client.update_call(&world.account, &sid, &room).await.unwrap();

    let gone = RequestFault { http_status: Some(404), ..RequestFault::new(RequestKind::Fetch) };
    world.simulator.spoil(gone).unwrap();
    assert_eq!(world.client.fetch_call(&world.account, &sid).await, Err(Error::NotFound));
    assert!(world.client.fetch_call(&world.account, &sid).await.is_ok());
    let queues = RequestFault { http_status: Some(500), ..RequestFault::new(RequestKind::Queues) };
    world.simulator.spoil(queues).unwrap();
    assert!(world.client.find_queue(&world.account, "hold").await.is_err());
}

#[tokio::test]
async fn what_was_carried_out_may_not_say_so() {
    let mut world = World::start(long_calls()).await;
    let sid = live(&mut world).await;
    let after = RequestFault { after: true, reset: true, ..RequestFault::new(RequestKind::HangUp) };
    world.simulator.spoil(after).unwrap();
    let error =
        world.client.update_call(&world.account, &sid, &UpdateCall::Hangup).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(world.ended(&sid).await, CarrierStatus::Completed);

    let sid = live(&mut world).await;
    world
        .simulator
        .spoil(RequestFault { slow_ms: 60_000, ..RequestFault::new(RequestKind::HangUp) })
        .unwrap();
    let hasty = client(&world.origin, Duration::from_millis(500));
    let late = hasty.update_call(&world.account, &sid, &UpdateCall::Hangup).await.unwrap_err();
    assert!(matches!(late, Error::Unavailable { .. }), "{late}");
    assert_eq!(world.ended(&sid).await, CarrierStatus::Completed);
    assert!(world.simulator.ledger().asked.iter().all(|asked| asked.done));
}
