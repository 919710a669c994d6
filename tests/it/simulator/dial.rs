//! `<Dial><Number>`: who is reached, who is not, and who hangs up.

use trunkline::carrier::UpdateCall;
use trunkline::domain::call::CarrierStatus;
use trunkline::simulator::{Outcome, Press, Scripted, Via};

use super::world::{World, long_calls, phone, quick_calls};

/// Dials phone 2, and asks `/after` what then.
fn dial(world: &World, attributes: &str) -> String {
    let (after, number) = (world.url("/after"), phone(2));
    format!(r#"<Dial action="{after}" {attributes}><Number>{}</Number></Dial>"#, number.expose())
}

fn answers(talk_s: f64) -> Scripted {
    Scripted { outcome: Some(Outcome::Answered), talk_s: Some(talk_s), ..Scripted::new(phone(2)) }
}

#[tokio::test]
async fn a_caller_is_answered_by_the_number_that_is_dialed() {
    let mut world = World::start(quick_calls()).await;
    let leg = format!(
        r#"<Dial answerOnBridge="true" action="/after" callerId="{}"><Number statusCallback="/leg"
        statusCallbackEvent="initiated ringing answered completed">{}</Number></Dial>"#,
        phone(500).expose(),
        phone(2).expose()
    );
    // Callback addresses are full ones at Twilio.
    world.document("/voice", &leg.replace("/leg", &world.url("/leg")));
    world.document("/after", "<Say>Goodbye</Say>");
    world.simulator.script(answers(3.0)).unwrap();
    let caller = world.inbound(1, r#","talk_s":1"#).await;

    assert_eq!(world.at("/voice").await.get("CallStatus"), Some("ringing"));
    for status in ["initiated", "ringing", "in-progress", "completed"] {
        let told = world.at("/leg").await;
        assert_eq!(told.get("CallStatus"), Some(status));
        assert_eq!(told.get("ParentCallSid"), Some(caller.as_str()));
        assert_eq!(told.get("Direction"), Some("outbound-dial"));
        assert_eq!(
            (told.get("From"), told.get("To")),
            (Some(phone(500).expose()), Some(phone(2).expose()))
        );
    }
    let after = world.at("/after").await;
    let ledger = world.simulator.ledger();
    let leg = &ledger.legs[0];
    assert_eq!(after.get("DialCallStatus"), Some("completed"));
    assert_eq!(after.get("DialCallSid"), Some(leg.sid.as_str()));
    assert_eq!(
        (after.get("DialCallDuration"), after.get("DialBridged")),
        (Some("3"), Some("true"))
    );
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);

    let ledger = world.simulator.ledger();
    assert_eq!(
        (ledger.entries.len(), ledger.legs.len(), ledger.peak_live),
        (1, 1, 1),
        "no create of ours"
    );
    let [bridge] = &ledger.bridges[..] else { panic!("{:?}", ledger.bridges) };
    assert_eq!((&bridge.legs, bridge.via), (&[caller.clone(), leg.sid.clone()], Via::Number));
    assert!(bridge.until_us.unwrap() > bridge.from_us);
    let answered = |at: usize| {
        let entry = if at == 0 { &ledger.entries[0] } else { &ledger.legs[0] };
        entry.at(CarrierStatus::InProgress).unwrap()
    };
    assert!(answered(0) >= answered(1), "it rang until the other party answered");
    let leg = world.client.fetch_call(&world.account, &leg.sid).await.unwrap();
    assert_eq!(leg.parent_call_sid, Some(caller));
}

#[tokio::test]
async fn who_is_not_reached_is_reported() {
    let mut world = World::start(quick_calls()).await;
    for (outcome, said) in
        [(Outcome::Busy, "busy"), (Outcome::NoAnswer, "no-answer"), (Outcome::Failed, "failed")]
    {
        world.simulator.script(Scripted { outcome: Some(outcome), ..answers(1.0) }).unwrap();
        world.document("/after", "<Hangup/>");
        let caller = world.perform(1, &dial(&world, r#"timeout="5""#)).await;
        let after = world.at("/after").await;
        assert_eq!(
            (after.get("DialCallStatus"), after.get("DialBridged")),
            (Some(said), Some("false"))
        );
        assert_eq!(after.get("DialCallDuration"), None);
        assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
    }
    assert!(world.simulator.ledger().bridges.is_empty());
    // Without an action the next verb follows.
    world.simulator.script(Scripted { outcome: Some(Outcome::Busy), ..answers(1.0) }).unwrap();
    let next =
        format!("<Dial>{}</Dial><Redirect>{}</Redirect>", phone(2).expose(), world.url("/next"));
    world.perform(1, &next).await;
    assert_eq!(world.at("/next").await.get("DialCallStatus"), None);
}

#[tokio::test]
async fn a_redirect_takes_the_caller_away() {
    let mut world = World::start(long_calls()).await;
    let caller = world.perform(1, &dial(&world, "")).await;
    let [dialing, leg] = world.bridged().await;
    assert_eq!(dialing, caller);
    let update = UpdateCall::Url(world.url("/elsewhere"));
    world.document("/elsewhere", "<Say>Hello again</Say>");
    world.client.update_call(&world.account, &caller, &update).await.unwrap();
    assert_eq!(world.next().await.path, "/elsewhere", "the action is not asked");
    assert_eq!(world.ended(&leg).await, CarrierStatus::Completed);
    let ledger = world.simulator.ledger();
    assert!(ledger.bridges[0].until_us.is_some() && !ledger.entries[0].status.is_final());
    assert_eq!(ledger.asked[0].document, Some(world.url("/elsewhere")));

    // The same while it still rings.
    world.simulator.script(Scripted { outcome: Some(Outcome::NoAnswer), ..answers(1.0) }).unwrap();
    let caller = world.perform(3, &dial(&world, r#"timeout="600""#)).await;
    let rings = |ledger: &trunkline::simulator::Ledger| {
        ledger
            .legs
            .get(1)
            .filter(|leg| leg.status == CarrierStatus::Ringing)
            .map(|leg| leg.sid.clone())
    };
    let leg = world.shows("a ringing leg", rings).await;
    let update = UpdateCall::Twiml("<Response><Hangup/></Response>".into());
    world.client.update_call(&world.account, &caller, &update).await.unwrap();
    assert_eq!(world.ended(&leg).await, CarrierStatus::Canceled);
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
}

#[tokio::test]
async fn either_party_may_hang_up() {
    let mut world = World::start(long_calls()).await;
    let caller = world.perform(1, &dial(&world, "")).await;
    let [_, leg] = world.bridged().await;
    world.post("/simulator/hangup", &format!(r#"{{"call_sid":"{caller}"}}"#)).await;
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
    assert_eq!(world.ended(&leg).await, CarrierStatus::Completed);

    world.document("/after", "<Hangup/>");
    let caller = world.perform(3, &dial(&world, "")).await;
    let [_, leg] = world.bridged().await;
    assert!(world.simulator.hang_up(&leg) && !world.simulator.hang_up(&leg));
    let after = world.next().await;
    assert_eq!((after.path.as_str(), after.get("DialCallSid")), ("/after", Some(leg.as_str())));
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
    let late = UpdateCall::Twiml("<Response/>".into());
    let late = world.client.update_call(&world.account, &caller, &late).await.unwrap_err();
    assert!(
        matches!(late, trunkline::carrier::Error::Rejected { code: Some(21220), .. }),
        "{late}"
    );
}

#[tokio::test]
async fn people_hang_up_when_they_have_enough() {
    let mut world = World::start(long_calls()).await;
    world.document("/voice", &dial(&world, ""));
    world.document("/after", "<Hangup/>");
    // The callee after four seconds, in the middle of what would be a day.
    world.simulator.script(Scripted { hang_up_after_s: Some(4.0), ..answers(80_000.0) }).unwrap();
    world.inbound(1, "").await;
    assert_eq!(world.at("/after").await.get("DialCallDuration"), Some("4"));
    // The caller, while the announcement is still spoken.
    world.document("/voice", "<Say>Please wait</Say>");
    let caller = world.inbound(3, r#","talk_s":9000,"hang_up_after_s":6"#).await;
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
    let ledger = world.simulator.ledger();
    assert_eq!(ledger.entries.last().unwrap().duration_s, Some(6));
}

#[tokio::test]
async fn a_dial_can_be_cut_off() {
    let mut world = World::start(long_calls()).await;
    world.document("/after", "<Hangup/>");
    world.perform(1, &dial(&world, r#"timeLimit="3""#)).await;
    let after = world.at("/after").await;
    assert_eq!(
        (after.get("DialCallStatus"), after.get("DialBridged")),
        (Some("completed"), Some("true"))
    );
    let leg = world.simulator.ledger().legs[0].sid.clone();
    assert_eq!(world.ended(&leg).await, CarrierStatus::Completed);

    let caller = world.perform(3, &dial(&world, r#"hangupOnStar="true""#)).await;
    let [_, leg] = world.bridged().await;
    world.post("/simulator/press", &format!(r#"{{"call_sid":"{caller}","digits":"5*"}}"#)).await;
    assert_eq!(world.at("/after").await.get("DialCallSid"), Some(leg.as_str()));
    assert_eq!(world.ended(&leg).await, CarrierStatus::Completed);
}

#[tokio::test]
async fn a_callee_hears_something_alone_and_decides() {
    let mut world = World::start(long_calls()).await;
    let url = world.url("/whisper");
    world.document(
        "/whisper",
        r#"<Gather numDigits="1" action="/decide"><Pause/></Gather><Hangup/>"#,
    );
    let (after, number) = (world.url("/after"), phone(2));
    let dial = format!(
        r#"<Dial action="{after}"><Number url="{url}">{}</Number></Dial>"#,
        number.expose()
    );
    world.document("/after", "<Hangup/>");
    for (digits, decision, bridged) in
        [("1", "", "true"), ("2", "<Hangup/>", "false"), ("", "", "false")]
    {
        world.document("/decide", decision);
        let press = Press { digits: digits.into(), after_s: 0.5 };
        let script =
            Scripted { presses: vec![press], hang_up_after_s: Some(60.0), ..answers(80_000.0) };
        world.simulator.script(script).unwrap();
        world.perform(1, &dial).await;
        if !digits.is_empty() {
            let decided = world.at("/decide").await;
            assert_eq!(decided.get("Digits"), Some(digits));
            assert_eq!(decided.get("To"), Some(phone(2).expose()));
        }
        assert_eq!(world.at("/after").await.get("DialBridged"), Some(bridged), "{digits}");
    }
}
