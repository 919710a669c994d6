//! What a create can come to, each as it happens on a socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trunkline::carrier::{CreateCall, Created};
use trunkline::domain::call::{CarrierStatus, RejectClass};
use trunkline::simulator::{CreateFault, Faults, Range, Scripted};

use super::world::{World, client, long_calls, phone, quick_calls};

async fn faulted(world: &World, to: u32, fault: CreateFault) -> Created {
    world.simulator.script(Scripted { fault: Some(fault), ..Scripted::new(phone(to)) }).unwrap();
    world.client.create_call(&world.account, &world.call(to)).await
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_call_lives() {
    let mut world = World::start(quick_calls()).await;
    for (to, fault) in [(1, CreateFault::Lost), (2, CreateFault::Error500After)] {
        let created = faulted(&world, to, fault).await;
        assert!(matches!(created, Created::Unknown { .. }), "{created:?}");
        let ledger = world.simulator.ledger();
        let entry = ledger.entries.last().unwrap();
        assert_eq!((entry.to.clone(), entry.fault), (phone(to), Some(fault)));
        assert_eq!(entry.answered_at_us.is_some(), fault == CreateFault::Error500After);
        assert_eq!(entry.status_callback, Some(world.call(to).status_callback));
        world.until(&entry.sid, CarrierStatus::Completed).await;
    }
    assert_eq!(world.simulator.ledger().entries.len(), 2, "sent once each");
}

#[tokio::test]
async fn what_failed_before_the_call_leaves_none() {
    let world = World::start(quick_calls()).await;
    for (to, fault) in [(1, CreateFault::Error500Before), (2, CreateFault::ResetBefore)] {
        let created = faulted(&world, to, fault).await;
        assert!(matches!(created, Created::Unknown { .. }), "only the carrier knows: {created:?}");
        assert_eq!(world.simulator.ledger().refused[fault.name()], 1);
    }
    let created = faulted(&world, 3, CreateFault::TooMany).await;
    let Created::Rejected { class, code, .. } = created else { panic!("{created:?}") };
    assert_eq!((class, code), (RejectClass::Defer, Some(20429)));
    assert!(world.simulator.ledger().entries.is_empty());
}

#[tokio::test]
async fn no_connection_is_not_sent() {
    let world = World::start(long_calls()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(&nobody, Duration::from_secs(5));
    let created = client.create_call(&world.account, &world.call(1)).await;
    assert!(matches!(created, Created::NotSent { .. }), "{created:?}");
}

#[tokio::test]
async fn a_late_answer_is_unknown() {
    let world = World::start(long_calls()).await;
    let slow = Faults { slow_answer_ms: Range::exactly(100_000.0), ..Faults::default() };
    world.simulator.set_faults(slow).unwrap();
    let hasty = client(&world.origin, Duration::from_millis(500));
    let created = hasty.create_call(&world.account, &world.call(1)).await;
    assert!(matches!(created, Created::Unknown { .. }), "{created:?}");
    assert_eq!(world.simulator.ledger().entries.len(), 1);
}

#[tokio::test]
async fn magic_numbers_are_classified() {
    let world = World::start(long_calls()).await;
    for (to, class, code) in [
        ("+15005550001", RejectClass::LeadDead, 21217),
        ("+15005550002", RejectClass::LeadDead, 21214),
        ("+15005550003", RejectClass::PolicyBlock, 21215),
        ("+15005550004", RejectClass::PolicyBlock, 21216),
    ] {
        let call = CreateCall { to: to.parse().unwrap(), ..world.call(1) };
        let created = world.client.create_call(&world.account, &call).await;
        let Created::Rejected { class: found, code: said, .. } = created else {
            panic!("{created:?}")
        };
        assert_eq!((found, said), (class, Some(code)), "{to}");
    }
    let call = CreateCall { from: "+15005550001".parse().unwrap(), ..world.call(1) };
    let created = world.client.create_call(&world.account, &call).await;
    assert!(matches!(
        created,
        Created::Rejected { class: RejectClass::Configuration, code: Some(21212), .. }
    ));

    let mut stranger = world.account.clone();
    stranger.credential.password = "wrong".into();
    let created = world.client.create_call(&stranger, &world.call(1)).await;
    assert!(matches!(
        created,
        Created::Rejected { class: RejectClass::Configuration, code: Some(20003), .. }
    ));
}

/// Answers every connection with `bytes` after a whole request, then hangs up; counts the requests.
async fn canned(bytes: &'static [u8]) -> (String, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = asked.send(());
            let _ = stream.write_all(bytes).await;
        }
    });
    (origin, asks)
}

#[tokio::test]
async fn nothing_is_followed_or_sent_twice() {
    let world = World::start(long_calls()).await;
    for answer in [
        &b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{\"sid\":\"CA",
        b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
        b"nonsense",
        b"",
    ] {
        let (origin, mut asks) = canned(answer).await;
        let client = client(&origin, Duration::from_secs(5));
        let created = client.create_call(&world.account, &world.call(1)).await;
        assert!(matches!(created, Created::Unknown { .. }), "{created:?}");
        asks.recv().await.unwrap();
        assert!(asks.try_recv().is_err(), "asked twice");
    }
}

#[tokio::test]
async fn faults_are_set_over_http() {
    let world = World::start(long_calls()).await;
    let answer = world.post("/simulator/faults", r#"{"create_429":1.0}"#).await;
    assert!(answer.contains("\"create_429\":1.0"), "{answer}");
    assert!(world.get("/simulator/faults").await.contains("\"create_429\":1.0"));
    let created = world.client.create_call(&world.account, &world.call(1)).await;
    assert!(matches!(created, Created::Rejected { class: RejectClass::Defer, .. }), "{created:?}");

    let script = format!(r#"{{"to":"{}","outcome":"busy","ring_s":0.5}}"#, phone(1).expose());
    world.post("/simulator/script", &script).await;
    world.create(1).await;
    let refused = world.post("/simulator/faults", r#"{"create_429":7}"#).await;
    assert!(refused.contains("create_429"), "{refused}");
}
