//! Targets that may not be called, and answers that lead elsewhere.

use std::time::Duration;

use tonic::Code;
use trunkline::grpc::pb;

use super::{Receiver, create_lead, create_webhook, deliveries, hooking, test_webhook};
use crate::admin::sealing;
use crate::support::{TestDatabase, on_both_databases};
use crate::system::world::{World, until};

on_both_databases!(nothing_inside_is_called, redirects_are_not_followed_and_patience_ends);

async fn nothing_inside_is_called(database: TestDatabase) {
    let world = World::start(database, sealing()).await;
    let receiver = Receiver::start().await;
    let port = receiver.origin.rsplit(':').next().unwrap();
    for url in [
        receiver.url("/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f.1:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://[64:ff9b::7f00:1]:{port}/"),
        format!("https://[2002:7f00:1::]:{port}/"),
        "https://0.0.0.0/".into(),
        "https://10.0.0.1/".into(),
        "https://172.16.0.1/".into(),
        "https://192.168.0.1/".into(),
        "https://100.64.0.1/".into(),
        "https://169.254.169.254/latest/meta-data/".into(),
        "https://[fd00:ec2::254]/".into(),
        "https://[fe80::1]/".into(),
        "https://224.0.0.1/".into(),
        "https://[ff02::1]/".into(),
        "https://user:secret@example.com/".into(),
        "file:///etc/passwd".into(),
        "nonsense".into(),
    ] {
        let settings = Some(pb::WebhookSettings { url: url.clone(), ..Default::default() });
        let request = pb::CreateWebhookRequest { settings, ..Default::default() };
        let refused = world.client.webhooks.clone().create_webhook(request).await.expect_err(&url);
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}: {refused}");
        assert!(
            refused.message().contains("settings.url") && !refused.message().contains("secret"),
            "{refused}"
        );
    }
    // A name says nothing; what it leads to is looked at when it is called.
    let (id, _) = create_webhook(&world.client, &format!("https://localhost:{port}/"), &[]).await;
    let test = test_webhook(&world.client, &id).await;
    assert_eq!(
        (test.status_code, test.error.as_str()),
        (0, "its host is not on the public internet")
    );
    create_lead(&world.client, 1).await;
    until("the delivery to be tried", async || {
        deliveries(&world.client, &id).await.iter().any(|d| d.attempts > 0)
    })
    .await;
    assert_eq!(
        deliveries(&world.client, &id).await[0].last_error,
        "its host is not on the public internet"
    );
    assert!(receiver.received().is_empty(), "{:?}", receiver.received());
    world.stop().await;
}

async fn redirects_are_not_followed_and_patience_ends(database: TestDatabase) {
    let world = World::start(database, hooking()).await;
    let receiver = Receiver::start().await;
    let (id, _) = create_webhook(&world.client, &receiver.url("/"), &[]).await;
    receiver.answer(&[301, 302, 307, 308], 200);
    for status in [301, 302, 307, 308] {
        let test = test_webhook(&world.client, &id).await;
        assert_eq!((test.status_code, test.error), (status, format!("HTTP {status}")));
    }
    let paths: Vec<String> = receiver.received().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/"; 4]);
    receiver.take(Duration::from_secs(3_600));
    let test = test_webhook(&world.client, &id).await;
    let latency = test.latency.unwrap();
    assert_eq!(test.status_code, 0);
    assert!(
        !test.error.is_empty() && (2..10).contains(&latency.seconds),
        "{} after {latency:?}",
        test.error
    );
    world.stop().await;
}
