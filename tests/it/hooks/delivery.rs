//! What receivers see: signatures, order, repetitions, and the end of patience.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline::grpc::pb;

use super::{
    Received, Receiver, create_lead, create_webhook, deliveries, hooking, set_enabled,
    test_webhook, webhook,
};
use crate::admin::{audited, client, make_key, make_tenant, tenant_settings};
use crate::support::{TestDatabase, on_both_databases, phone};
use crate::system::world::{World, create, ended, jobs, settings, until};

on_both_databases!(
    a_run_is_told_signed_and_in_order,
    what_fails_is_repeated_and_what_follows_waits,
    long_failure_disables_and_enabling_goes_on,
    gone_disables_at_once,
    secrets_rotate_and_deliveries_are_sent_again,
    a_slow_receiver_holds_up_nobody_else,
);

async fn a_run_is_told_signed_and_in_order(database: TestDatabase) {
    let world = World::start(database, Setup::patient()).await;
    let (all, ends) = (Receiver::start().await, Receiver::start().await);
    let (_, secret) = create_webhook(&world.client, &all.url("/all"), &[]).await;
    let (_, other) = create_webhook(&world.client, &ends.url("/ends"), &["run.completed"]).await;
    let run_id = create(&world.queue(), settings(), jobs(0..5)).await;
    ended(&world.queue(), &run_id).await;
    let count = |kind: &str| all.received().iter().filter(|r| r.kind() == kind).count();
    until("everything to be told", async || {
        count("run.completed") == 1
            && count("call.ended") == 5
            && count("lead.created") == 5
            && !ends.received().is_empty()
    })
    .await;
    let received = all.received();
    let ids: BTreeSet<&str> = received.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids.len(), received.len(), "an event was told twice");
    for told in &received {
        assert!(told.is_signed_by(&secret) && !told.is_signed_by(&other), "{told:?}");
        assert_eq!(told.path, "/all");
        for n in 0..5 {
            assert!(
                !told.body.contains(phone(n).expose().trim_start_matches('+')),
                "{}",
                told.body
            );
        }
    }
    let of_run: Vec<&Received> = received.iter().filter(|r| r.kind().starts_with("run.")).collect();
    let kinds: Vec<String> = of_run.iter().map(|r| r.kind()).collect();
    assert_eq!(kinds, ["run.created", "run.running", "run.completed"]);
    let revisions: Vec<i64> =
        of_run.iter().map(|r| r.json()["data"]["revision"].as_i64().unwrap()).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert!(of_run.iter().all(|r| r.json()["data"]["run_id"] == run_id.as_str()));
    let only: Vec<String> = ends.received().iter().map(Received::kind).collect();
    assert_eq!(only, ["run.completed"]);
    assert!(ends.received()[0].is_signed_by(&other));
    world.stop().await;
}

async fn what_fails_is_repeated_and_what_follows_waits(database: TestDatabase) {
    let world = World::start(database, Setup::patient()).await;
    let receiver = Receiver::start().await;
    receiver.answer(&[500], 200);
    let (id, _) = create_webhook(&world.client, &receiver.url("/"), &["run.*"]).await;
    let run_id = create(&world.queue(), settings(), jobs(0..2)).await;
    ended(&world.queue(), &run_id).await;
    until("the end to be told", async || {
        receiver.received().iter().any(|r| r.kind() == "run.completed")
    })
    .await;
    let seen: Vec<(String, u16)> =
        receiver.received().iter().map(|r| (r.kind(), r.status)).collect();
    let expected =
        [("run.created", 500), ("run.created", 200), ("run.running", 200), ("run.completed", 200)];
    assert_eq!(seen, expected.map(|(kind, status)| (kind.to_owned(), status)));
    let received = receiver.received();
    assert_eq!(received[0].id, received[1].id, "receivers know a repetition by its id");
    assert_eq!(received[0].body, received[1].body);
    until("it to be recorded", async || {
        deliveries(&world.client, &id)
            .await
            .iter()
            .all(|delivery| delivery.state() == pb::WebhookDeliveryState::Delivered)
    })
    .await;
    let first = &deliveries(&world.client, &id).await[0];
    assert_eq!((first.attempts, first.status_code, first.last_error.as_str()), (2, 200, ""));
    assert!(webhook(&world.client, &id).await.failing_since_time.is_none());
    world.stop().await;
}

async fn long_failure_disables_and_enabling_goes_on(database: TestDatabase) {
    let world = World::start(database, hooking()).await;
    let receiver = Receiver::start().await;
    receiver.answer(&[], 503);
    let (id, _) = create_webhook(&world.client, &receiver.url("/"), &["lead.*"]).await;
    let lead = create_lead(&world.client, 1).await;
    let state = async || webhook(&world.client, &id).await;
    until("it to be disabled", async || state().await.state() == pb::WebhookState::Disabled).await;
    assert_eq!(state().await.disabled_reason(), pb::WebhookDisabledReason::Failing);
    assert!(state().await.failing_since_time.is_some());
    let entries = audited(&world, "acme", "DisableWebhook").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].actor.as_str(), entries[0].subject.clone()),
        ("system", format!("webhook {id}"))
    );
    // What happens while it is disabled is not kept for it; what waited goes on.
    create_lead(&world.client, 2).await;
    receiver.answer(&[], 200);
    let before = receiver.received().len();
    set_enabled(&world.client, &id, true).await;
    until("what waited", async || receiver.received().len() > before).await;
    let told = receiver.received().pop().unwrap();
    assert_eq!(told.json()["data"]["lead_id"], lead.as_str());
    until("it to be recorded", async || {
        deliveries(&world.client, &id).await[0].state() == pb::WebhookDeliveryState::Delivered
    })
    .await;
    assert_eq!(deliveries(&world.client, &id).await.len(), 1);
    assert!(state().await.failing_since_time.is_none());
    world.stop().await;
}

async fn gone_disables_at_once(database: TestDatabase) {
    let world = World::start(database, Setup::patient()).await;
    let receiver = Receiver::start().await;
    receiver.answer(&[410], 200);
    let (id, _) = create_webhook(&world.client, &receiver.url("/"), &[]).await;
    create_lead(&world.client, 1).await;
    let state = async || webhook(&world.client, &id).await;
    until("it to be disabled", async || state().await.state() == pb::WebhookState::Disabled).await;
    assert_eq!(state().await.disabled_reason(), pb::WebhookDisabledReason::Gone);
    assert_eq!(audited(&world, "acme", "DisableWebhook").await.len(), 1);
    create_lead(&world.client, 2).await;
    assert_eq!((deliveries(&world.client, &id).await.len(), receiver.received().len()), (1, 1));
    world.stop().await;
}

async fn secrets_rotate_and_deliveries_are_sent_again(database: TestDatabase) {
    let world = World::start(database, Setup::patient()).await;
    let receiver = Receiver::start().await;
    let (id, old) = create_webhook(&world.client, &receiver.url("/"), &["lead.created"]).await;
    let rotate = async |hours: i64| {
        let keep_old = Some(prost_types::Duration { seconds: hours * 3_600, nanos: 0 });
        let request = pb::RotateWebhookSecretRequest {
            webhook_id: id.clone(),
            keep_old,
            ..Default::default()
        };
        world
            .client
            .webhooks
            .clone()
            .rotate_webhook_secret(request)
            .await
            .unwrap()
            .into_inner()
            .secret
    };
    let new = rotate(1).await;
    create_lead(&world.client, 1).await;
    until("it to be told", async || receiver.received().len() == 1).await;
    let told = receiver.received().remove(0);
    assert!(told.is_signed_by(&old) && told.is_signed_by(&new), "both count for a time");
    let newest = rotate(0).await;
    until("it to be recorded", async || {
        deliveries(&world.client, &id).await[0].state() == pb::WebhookDeliveryState::Delivered
    })
    .await;
    let delivery_id = deliveries(&world.client, &id).await[0].delivery_id.clone();
    let again = pb::RedeliverWebhookRequest { webhook_id: id.clone(), delivery_id };
    world.client.webhooks.clone().redeliver_webhook(again).await.unwrap();
    until("it to be told again", async || receiver.received().len() == 2).await;
    let again = receiver.received().remove(1);
    assert_eq!((&again.id, &again.body), (&told.id, &told.body));
    assert!(again.is_signed_by(&newest) && !again.is_signed_by(&new) && !again.is_signed_by(&old));
    let test = test_webhook(&world.client, &id).await;
    assert_eq!((test.status_code, test.error.as_str()), (204, ""));
    let test = receiver.received().pop().unwrap();
    assert!(test.kind() == "webhook.test" && test.is_signed_by(&newest));
    // Deleted, it is nobody's any more.
    let delete = pb::DeleteWebhookRequest { webhook_id: id.clone(), ..Default::default() };
    world.client.webhooks.clone().delete_webhook(delete).await.unwrap();
    let get = pb::GetWebhookRequest { webhook_id: id };
    let gone = world.client.webhooks.clone().get_webhook(get).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    world.stop().await;
}

async fn a_slow_receiver_holds_up_nobody_else(database: TestDatabase) {
    let world = World::start(database, Setup::patient()).await;
    make_tenant(&world, "other", tenant_settings()).await;
    let (_, key) = make_key(&world, "other", &["leads:write", "webhooks:write"]).await;
    let other = client(&world, &key).await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    slow.take(Duration::from_secs(3_600));
    for n in 0..10 {
        create_webhook(&world.client, &slow.url(&format!("/{n}")), &["lead.*"]).await;
    }
    for n in 0..30 {
        create_lead(&world.client, n).await;
    }
    // Every one of its endpoints has a round under way that ends no sooner than its timeout.
    let busy = || slow.received().iter().map(|r| r.path.clone()).collect::<BTreeSet<_>>().len();
    until("ten rounds under way", async || busy() == 10).await;
    let by_path = |received: Vec<Received>| {
        let mut of_path: BTreeMap<String, usize> = BTreeMap::new();
        received.into_iter().for_each(|r| *of_path.entry(r.path).or_default() += 1);
        of_path
    };
    create_webhook(&other, &quick.url("/"), &["lead.*"]).await;
    create_lead(&other, 50).await;
    until("the other tenant to be told", async || quick.received().len() == 1).await;
    // Bounded at the slow one, and not one of its rounds was over when the other was told.
    assert!(
        by_path(slow.received()).values().all(|sent| *sent <= 16),
        "{:?}",
        by_path(slow.received())
    );
    world.stop().await;
}

/// The usual world, but endpoints are not given up.
struct Setup;

impl Setup {
    fn patient() -> crate::system::world::Setup {
        let usual = hooking();
        crate::system::world::Setup {
            tweak: |config| {
                (hooking().tweak)(config);
                config.hooks.disable_after_s = 3_600;
                config.hooks.timeout_ms = 20_000;
            },
            ..usual
        }
    }
}
