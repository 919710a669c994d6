//! `<Gather>`: what is pressed, when, and what comes of it.

use trunkline::domain::CallSid;
use trunkline::domain::call::CarrierStatus;
use trunkline::simulator::{Press, Scripted};

use super::world::{Arrived, World, long_calls, phone, quick_calls};

fn presses(all: &[(&str, f64)]) -> Scripted {
    let presses =
        all.iter().map(|(digits, after_s)| Press { digits: (*digits).into(), after_s: *after_s });
    Scripted { presses: presses.collect(), ..Scripted::new(phone(1)) }
}

/// What `/keys` is asked after one call that gathers like this and then goes to `/silent`.
async fn asked(world: &mut World, attributes: &str) -> Arrived {
    let keys = world.url("/keys");
    let silent = world.url("/silent");
    let verbs = format!(
        r#"<Gather action="{keys}" {attributes}><Say>Press one</Say></Gather><Redirect>{silent}</Redirect>"#
    );
    world.perform(1, &verbs).await;
    world.next().await
}

#[tokio::test]
async fn what_is_pressed_is_posted() {
    let mut world = World::start(quick_calls()).await;
    // Spoken for two seconds: a key within ends it.
    for (script, attributes, digits, finished) in [
        (presses(&[("1", 0.5)]), r#"numDigits="1""#, "1", None),
        (presses(&[("1234", 1.0)]), r#"numDigits="2""#, "12", None),
        (presses(&[("42#9", 1.0)]), "", "42", Some("#")),
        (presses(&[("42#*", 1.0)]), r#"finishOnKey="*""#, "42#", Some("*")),
        (presses(&[("7", 6.0)]), r#"timeout="10""#, "7", None),
    ] {
        world.simulator.script(script).unwrap();
        let keys = asked(&mut world, attributes).await;
        assert_eq!(
            (keys.path.as_str(), keys.get("Digits")),
            ("/keys", Some(digits)),
            "{attributes}"
        );
        assert_eq!(keys.get("FinishedOnKey"), finished);
        assert_eq!(keys.get("CallStatus"), Some("in-progress"));
    }
}

#[tokio::test]
async fn silence_falls_through_or_is_told() {
    let mut world = World::start(quick_calls()).await;
    for (script, attributes, path) in [
        (presses(&[]), "", "/silent"),
        (presses(&[("1", 20.0)]), "", "/silent"),
        (presses(&[("#", 1.0)]), "", "/silent"),
        (presses(&[]), r#"actionOnEmptyResult="true" timeout="1""#, "/keys"),
    ] {
        world.simulator.script(script).unwrap();
        let next = asked(&mut world, attributes).await;
        assert_eq!(next.path, path, "{attributes}");
        assert_eq!(next.get("Digits"), (path == "/keys").then_some(""));
    }
}

#[tokio::test]
async fn each_gather_has_keys_of_its_own_and_may_ask_with_get() {
    let mut world = World::start(quick_calls()).await;
    let url = world.url("/menu?lang=en");
    world.document(
        "/menu",
        r#"<Gather numDigits="1" action="/got" method="GET"/><Redirect>/none</Redirect>"#,
    );
    world.document("/got", "<Redirect>/menu</Redirect>");
    world.simulator.script(presses(&[("1", 1.0), ("2", 1.0), ("", 0.0)])).unwrap();
    let sid = world.perform(1, &format!("<Redirect>{url}</Redirect>")).await;
    for digits in ["1", "2"] {
        assert_eq!(world.at("/got").await.get("Digits"), Some(digits));
    }
    assert_eq!(world.at("/none").await.get("CallSid"), Some(sid.as_str()));
}

#[tokio::test]
async fn keys_are_pressed_over_http() {
    let mut world = World::start(long_calls()).await;
    let keys = world.url("/keys");
    world.document("/keys", "<Hangup/>");
    let gather = format!(r#"<Gather numDigits="2" action="{keys}"><Say>A day long</Say></Gather>"#);
    let sid = world.perform(1, &gather).await;
    let answered = |ledger: &trunkline::simulator::Ledger| {
        (ledger.entries[0].status == CarrierStatus::InProgress).then_some(())
    };
    world.shows("an answer", answered).await;
    // Keys pressed before anybody listens are lost, at Twilio too: press until it is heard.
    let press = async |sid: &CallSid, digits: &str| {
        let json = format!(r#"{{"call_sid":"{sid}","digits":"{digits}"}}"#);
        world.post("/simulator/press", &json).await
    };
    let heard = async {
        loop {
            press(&sid, "77").await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            if world.simulator.ledger().entries[0].status == CarrierStatus::Completed {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), heard).await.unwrap();
    let wrong = press(&sid, "seven").await;
    assert!(!world.simulator.press(&sid, "77").unwrap(), "the call is over");
    assert_eq!(world.next().await.get("Digits"), Some("77"));
    assert!(wrong.contains("digits"), "{wrong}");
    assert!(world.simulator.script(presses(&[("a", 1.0)])).is_err());
}
