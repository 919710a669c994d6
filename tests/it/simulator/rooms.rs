//! `<Dial><Conference>`: a room where everybody hears everybody.

use trunkline::domain::call::CarrierStatus;
use trunkline::simulator::Via;

use super::world::{World, long_calls};

#[tokio::test]
async fn two_meet_in_a_room() {
    let mut world = World::start(long_calls()).await;
    let told = world.url("/room");
    let room = |attributes: &str| {
        format!(
            r#"<Dial action="/after"><Conference {attributes} waitUrl="/wait" statusCallback="{told}"
            statusCallbackEvent="start end join leave">r1</Conference></Dial>"#
        )
    };
    world.document("/voice", &room(""));
    world.document("/wait", "<Say>The other party will be here soon</Say>");
    world.document("/after", "<Hangup/>");
    let caller = world.inbound(1, "").await;
    world.at("/wait").await;
    let agent = world
        .perform(2, &room(r#"endConferenceOnExit="true""#).replace("/after", &world.url("/after")))
        .await;
    assert_eq!(world.bridged().await, [caller.clone(), agent.clone()]);
    let bridge = world.simulator.ledger().bridges[0].clone();
    assert_eq!((bridge.via, bridge.name.as_deref()), (Via::Conference, Some("r1")));

    // A third hears both.
    let third = world.inbound(3, "").await;
    let all = |ledger: &trunkline::simulator::Ledger| (ledger.bridges.len() == 3).then_some(());
    world.shows("three bridges", all).await;
    assert!(world.simulator.hang_up(&agent));
    // Its exit ends the conference: both others are asked what they do then.
    let mut events = Vec::new();
    let mut after = Vec::new();
    while events.len() < 6 || after.len() < 2 {
        let arrived = world.next().await;
        match arrived.path.as_str() {
            "/room" => events.push(arrived.get("StatusCallbackEvent").unwrap().to_owned()),
            "/after" => {
                assert_eq!(arrived.get("DialCallStatus"), Some("answered"));
                after.push(arrived.get("CallSid").unwrap().to_owned());
            }
            _ => {}
        }
    }
    after.sort_unstable();
    assert_eq!(after, [caller.to_string(), third.to_string()]);
    events.sort_unstable();
    assert_eq!(
        events,
        [
            "conference-end",
            "conference-start",
            "participant-join",
            "participant-join",
            "participant-join",
            "participant-leave"
        ]
    );
    for sid in [&caller, &third, &agent] {
        assert_eq!(world.ended(sid).await, CarrierStatus::Completed);
    }
    assert!(world.simulator.ledger().bridges.iter().all(|bridge| bridge.until_us.is_some()));
}

#[tokio::test]
async fn nobody_hears_anybody_before_it_starts() {
    let mut world = World::start(long_calls()).await;
    let quiet = r#"<Dial><Conference startConferenceOnEnter="false" waitUrl="/wait">r1</Conference></Dial>"#;
    world.document("/voice", quiet);
    world.document("/wait", "<Say>Soon</Say>");
    for from in [1, 2] {
        world.inbound(from, "").await;
        world.at("/wait").await;
    }
    assert!(world.simulator.ledger().bridges.is_empty());
    world.perform(3, "<Dial><Conference>r1</Conference></Dial>").await;
    let all = |ledger: &trunkline::simulator::Ledger| (ledger.bridges.len() == 3).then_some(());
    world.shows("everybody with everybody", all).await;
}
