//! Queues: waiting, being taken out, leaving.

use serde_json::json;
use trunkline::carrier::{Error, UpdateCall};
use trunkline::domain::CallSid;
use trunkline::domain::call::CarrierStatus;
use trunkline::simulator::Via;

use super::world::{Arrived, World, long_calls, quick_calls};

const WAIT: &str =
    r#"<Enqueue action="/left" waitUrl="/wait">hold</Enqueue><Redirect>/next</Redirect>"#;

/// A caller who waits in `hold`.
async fn waiting(world: &mut World, from: u32, does: &str) -> CallSid {
    world.document("/voice", WAIT);
    world.document("/wait", "<Say>Please hold</Say>");
    let caller = world.inbound(from, does).await;
    world
        .first(|arrived| arrived.path == "/wait" && arrived.get("CallSid") == Some(caller.as_str()))
        .await;
    caller
}

/// Whether a webhook is none of those that every waiting caller asks.
fn is_news(arrived: &Arrived) -> bool {
    !["/voice", "/wait"].contains(&arrived.path.as_str())
}

async fn size(world: &World) -> Option<u32> {
    let queue = world.client.find_queue(&world.account, "hold").await.unwrap();
    queue.map(|queue| queue.current_size)
}

#[tokio::test]
async fn a_waiting_call_is_dequeued() {
    let mut world = World::start(quick_calls()).await;
    assert_eq!(size(&world).await, None);
    let caller = waiting(&mut world, 1, r#","talk_s":3"#).await;
    let queue = world.client.find_queue(&world.account, "hold").await.unwrap().unwrap();
    assert_eq!(queue.current_size, 1);
    // Again and again.
    for _ in 0..2 {
        let wait = world.at("/wait").await;
        assert_eq!(
            (wait.get("CallSid"), wait.get("QueueSid")),
            (Some(caller.as_str()), Some(queue.sid.as_str()))
        );
    }
    world.document("/taken", "<Say>You are next</Say>");
    let url = world.url("/taken");
    let not_empty = world.client.close_queue(&world.account, &queue.sid).await;
    assert!(matches!(not_empty, Err(Error::Rejected { .. })), "{not_empty:?}");
    let member: serde_json::Value =
        world.dequeue(&queue.sid, &caller, &url).await.json().await.unwrap();
    assert_eq!((&member["call_sid"], &member["queue_sid"]), (&json!(caller), &json!(queue.sid)));
    assert_eq!(member["position"], 1);
    let mut paths = Vec::new();
    for _ in 0..2 {
        let arrived = world.first(is_news).await;
        if arrived.path == "/left" {
            assert_eq!(arrived.get("QueueResult"), Some("redirected"));
            assert_eq!(arrived.get("QueueSid"), Some(queue.sid.as_str()));
            assert!(arrived.get("QueueTime").unwrap().parse::<u32>().unwrap() >= 6);
        }
        paths.push(arrived.path);
    }
    paths.sort_unstable();
    assert_eq!(paths, ["/left", "/taken"], "what the action answers is not heard");
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
    assert_eq!(world.dequeue(&queue.sid, &caller, &url).await.status(), 404);
    assert_eq!(size(&world).await, Some(0));
    world.client.close_queue(&world.account, &queue.sid).await.unwrap();
    assert_eq!(size(&world).await, None);
    assert_eq!(world.client.close_queue(&world.account, &queue.sid).await, Err(Error::NotFound));
    let asked = world.simulator.ledger().asked;
    assert_eq!(
        asked.iter().map(|asked| (asked.http_status, asked.done)).collect::<Vec<_>>(),
        [(Some(200), true), (Some(404), false)]
    );
}

#[tokio::test]
async fn whoever_dials_the_queue_talks_to_the_first() {
    let mut world = World::start(long_calls()).await;
    let first = waiting(&mut world, 1, "").await;
    let second = waiting(&mut world, 2, "").await;
    world.document("/soon", "<Pause/>");
    let soon = world.url("/soon");
    let after = world.url("/after");
    let agent = world
        .perform(3, &format!(r#"<Dial action="{after}"><Queue url="{soon}">hold</Queue></Dial>"#))
        .await;
    let soon = world.at("/soon").await;
    assert_eq!(
        (soon.get("CallSid"), soon.get("DequeingCallSid")),
        (Some(first.as_str()), Some(agent.as_str()))
    );
    assert_eq!(world.bridged().await, [agent.clone(), first.clone()]);
    let bridge = world.simulator.ledger().bridges[0].clone();
    assert_eq!((bridge.via, bridge.name.as_deref()), (Via::Queue, Some("hold")));
    assert_eq!(size(&world).await, Some(1), "the second still waits");

    // The caller hangs up: the agent goes on.
    world.document("/after", "<Hangup/>");
    assert!(world.simulator.hang_up(&first));
    let told = world.at("/after").await;
    assert_eq!(
        (told.get("DialCallStatus"), told.get("DialCallSid")),
        (Some("completed"), Some(first.as_str()))
    );
    assert_eq!(world.ended(&agent).await, CarrierStatus::Completed);

    // The agent hangs up: the caller goes on with the action.
    world.document("/left", "<Hangup/>");
    let agent = world.perform(3, "<Dial><Queue>hold</Queue></Dial>").await;
    assert_eq!(world.bridged().await, [agent.clone(), second.clone()]);
    assert!(world.simulator.hang_up(&agent));
    let of_second = |arrived: &Arrived| {
        arrived.path == "/left" && arrived.get("CallSid") == Some(second.as_str())
    };
    assert_eq!(world.first(of_second).await.get("QueueResult"), Some("bridged"));
    assert_eq!(world.ended(&second).await, CarrierStatus::Completed);
    assert!(world.simulator.ledger().bridges.iter().all(|bridge| bridge.until_us.is_some()));
}

#[tokio::test]
async fn an_agent_waits_for_a_caller_but_not_for_a_queue() {
    let mut world = World::start(long_calls()).await;
    world.document("/after", "<Hangup/>");
    let dial = format!(
        r#"<Dial action="{}" timeout="600"><Queue>hold</Queue></Dial>"#,
        world.url("/after")
    );
    world.perform(3, &dial).await;
    assert_eq!(
        world.at("/after").await.get("DialCallStatus"),
        Some("failed"),
        "there is no such queue"
    );

    let gone = waiting(&mut world, 1, "").await;
    assert!(world.simulator.hang_up(&gone));
    let left = world.at("/left").await;
    assert_eq!(
        (left.get("QueueResult"), left.get("CallStatus")),
        (Some("hangup"), Some("completed"))
    );
    let agent = world.perform(3, &dial).await;
    let caller = waiting(&mut world, 2, "").await;
    assert_eq!(world.bridged().await, [agent, caller]);
    // Nobody comes for the next.
    world.perform(4, &dial.replace("600", "5")).await;
    assert_eq!(world.at("/after").await.get("DialCallStatus"), Some("no-answer"));
}

#[tokio::test]
async fn a_queue_is_left_in_many_ways() {
    let mut world = World::start(quick_calls()).await;
    // As the document says that is heard there.
    world.document("/voice", WAIT);
    world.document("/wait", "<Pause/><Leave/><Say>Never heard</Say>");
    world.document("/left", "<Redirect>/next</Redirect>");
    world.inbound(1, "").await;
    assert_eq!(world.at("/left").await.get("QueueResult"), Some("leave"));
    world.at("/next").await;

    // As a client says that knows only the call.
    let caller = waiting(&mut world, 2, "").await;
    let update = UpdateCall::Twiml(format!(
        "<Response><Redirect>{}</Redirect></Response>",
        world.url("/away")
    ));
    world.client.update_call(&world.account, &caller, &update).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let arrived = world.first(is_news).await;
        if arrived.path == "/left" {
            assert_eq!(arrived.get("QueueResult"), Some("redirected"));
        }
        seen.push(arrived.path);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["/away", "/left"]);
    assert_eq!(size(&world).await, Some(0));

    // Because the caller has no patience.
    let caller = waiting(&mut world, 3, r#","hang_up_after_s":30"#).await;
    assert_eq!(world.at("/left").await.get("QueueResult"), Some("hangup"));
    assert_eq!(world.ended(&caller).await, CarrierStatus::Completed);
}

#[tokio::test]
async fn a_redirect_takes_a_caller_out_of_the_talk() {
    let mut world = World::start(long_calls()).await;
    let caller = waiting(&mut world, 1, "").await;
    let agent = world.perform(3, "<Dial><Queue>hold</Queue></Dial><Hangup/>").await;
    world.bridged().await;
    let update = UpdateCall::Url(world.url("/wait"));
    world.client.update_call(&world.account, &caller, &update).await.unwrap();
    assert_eq!(world.ended(&agent).await, CarrierStatus::Completed);
    assert_eq!(world.at("/left").await.get("QueueResult"), Some("redirected-from-bridged"));
    let caller = world.client.fetch_call(&world.account, &caller).await.unwrap();
    assert_eq!(caller.status, CarrierStatus::InProgress);
}

#[tokio::test]
async fn queues_are_found_page_by_page() {
    let mut world = World::start(long_calls()).await;
    for n in 0..3 {
        world.document("/voice", &format!(r#"<Enqueue waitUrl="/wait">q{n}</Enqueue>"#));
        world.document("/wait", "<Say>Hold</Say>");
        world.inbound(n, "").await;
        world.at("/wait").await;
    }
    for name in ["q0", "q2"] {
        let found = world.client.find_queue(&world.account, name).await.unwrap().unwrap();
        assert_eq!((found.friendly_name.as_str(), found.current_size), (name, 1));
    }
    assert_eq!(world.client.find_queue(&world.account, "q9").await, Ok(None));
    // Another account sees none of them.
    let other = world
        .get(&format!("/2010-04-01/Accounts/{}/Queues.json", "AC00000000000000000000000000000000"))
        .await;
    assert!(other.contains("20003"), "{other}");
}
