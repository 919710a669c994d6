//! The outbox and its rounds, on both stores.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::task::{Lane, TaskState};
use trunkline::domain::webhook::{ATTEMPTS_MAX, Answer, DeliveryState, WebhookState};
use trunkline::domain::{TenantId, WebhookId};
use trunkline::store::{
    Admin as _, DeliveryTried, Engine, Error, Hooks as _, Keyring, Page, Round, Store as _, Task,
    WebhookSettings,
};

use crate::support::{TestDatabase, make_tenant, on_both_databases, phone, worker};

on_both_databases!(
    who_has_no_endpoint_is_told_nothing,
    one_subject_goes_in_order_and_a_dead_one_makes_way,
    what_comes_during_a_round_is_not_lost,
    a_deleted_endpoint_leaves_nothing,
    secrets_are_sealed_for_their_row_and_resealed,
);

const DAY: Duration = Duration::from_secs(86_400);
const PAGE: Page = Page { size: 100, after: None };

fn ring(text: &str) -> Keyring {
    Keyring::parse(&SecretString::from(text)).unwrap()
}

fn key(id: &str, digit: char) -> String {
    format!("{id}:{}", digit.to_string().repeat(64))
}

async fn open(database: &TestDatabase) -> (Engine, TenantId) {
    let store = Engine::open_with(&database.url, ring(&key("a", '1'))).await.unwrap();
    let tenant = make_tenant(&store, "acme", 9, 100.0).await;
    (store, tenant)
}

async fn endpoint(store: &Engine, tenant: &TenantId, filters: &[&str]) -> WebhookId {
    let settings = WebhookSettings {
        url: "https://hooks.example.com/".into(),
        event_types: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        description: String::new(),
    };
    store.create_webhook(tenant, settings, "whsec_c2VjcmV0".into(), None).await.unwrap().webhook.id
}

async fn lead(store: &Engine, tenant: &TenantId, n: usize) -> trunkline::store::LeadView {
    store.create_leads(tenant, vec![LeadFacts::of(phone(n))], None).await.unwrap().remove(0).lead
}

async fn claim(store: &Engine) -> Vec<Task> {
    store.claim_tasks(&worker("1"), Lane::Outside, 10, Duration::from_secs(60)).await.unwrap().tasks
}

/// The one task there is, and what it is to send.
async fn round(store: &Engine) -> (Task, Round) {
    let task = claim(store).await.pop().expect("a task");
    let round = store.begin_round(&task).await.unwrap().expect("something to send");
    (task, round)
}

fn tried(round: &Round, answer: Answer) -> Vec<DeliveryTried> {
    let tried = |due: &trunkline::store::DueDelivery| DeliveryTried {
        id: due.id,
        attempt: due.attempt,
        answer,
        latency_ms: 7,
        error: None,
    };
    round.due.iter().map(tried).collect()
}

async fn who_has_no_endpoint_is_told_nothing(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    lead(&store, &tenant, 1).await;
    assert!(claim(&store).await.is_empty());
    let id = endpoint(&store, &tenant, &["run.*"]).await;
    lead(&store, &tenant, 2).await;
    assert!(claim(&store).await.is_empty(), "it did not ask for leads");
    assert!(store.list_deliveries(&tenant, id, &[], PAGE).await.unwrap().items.is_empty());
    let without = Engine::open_with(&database.url, Keyring::default()).await;
    // SQLite has one server.
    if let Ok(without) = without {
        let settings = store.webhook(&tenant, id).await.unwrap().settings;
        let refused = without.create_webhook(&tenant, settings, "x".into(), None).await.unwrap_err();
        assert!(matches!(refused, Error::NoMasterKey));
    }
}

async fn one_subject_goes_in_order_and_a_dead_one_makes_way(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &["lead.*"]).await;
    let first = lead(&store, &tenant, 1).await;
    store.delete_lead(&tenant, first.id, None, None).await.unwrap();
    lead(&store, &tenant, 2).await;
    let kinds = |round: &Round| -> Vec<String> {
        let kind = |body: &str| {
            serde_json::from_str::<serde_json::Value>(body).unwrap()["type"].as_str().unwrap().to_owned()
        };
        round.due.iter().map(|due| kind(&due.body)).collect()
    };
    let (task, round_one) = round(&store).await;
    assert_eq!(kinds(&round_one), ["lead.created", "lead.created"], "the deletion waits for its creation");
    // The first is given up, the second taken.
    let mut tried = tried(&round_one, Answer::Status(200));
    (tried[0].attempt, tried[0].answer) = (ATTEMPTS_MAX, Answer::Status(500));
    let end = store.end_round(&task, tried, DAY, 0.5).await.unwrap();
    assert_eq!((end.dead, end.disabled), (1, None));
    let (task, round_two) = round(&store).await;
    assert_eq!(kinds(&round_two), ["lead.deleted"]);
    // It fails and is put off; nothing is to be done meanwhile.
    store.end_round(&task, self::tried(&round_two, Answer::None), DAY, 0.5).await.unwrap();
    assert!(claim(&store).await.is_empty());
    let states: Vec<_> =
        store.list_deliveries(&tenant, id, &[], PAGE).await.unwrap().items.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeliveryState::Dead, DeliveryState::Queued, DeliveryState::Delivered]);
    let view = store.webhook(&tenant, id).await.unwrap();
    assert!(view.failing_since.is_some() && view.state == WebhookState::Enabled);
}

async fn what_comes_during_a_round_is_not_lost(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    endpoint(&store, &tenant, &[]).await;
    lead(&store, &tenant, 1).await;
    let (task, first) = round(&store).await;
    assert_eq!(first.due.len(), 1);
    lead(&store, &tenant, 2).await;
    assert!(claim(&store).await.is_empty(), "one endpoint has one task");
    store.end_round(&task, tried(&first, Answer::Status(204)), DAY, 0.5).await.unwrap();
    let (task, second) = round(&store).await;
    assert_eq!(second.due.len(), 1);
    assert_ne!(second.due[0].id, first.due[0].id);
    store.end_round(&task, tried(&second, Answer::Status(204)), DAY, 0.5).await.unwrap();
    assert!(claim(&store).await.is_empty());
    let tasks = store.list_tasks(&tenant, &[TaskState::Queued], PAGE).await.unwrap().items;
    assert!(tasks.is_empty(), "a task that has nothing to do is gone: {tasks:?}");
}

async fn a_deleted_endpoint_leaves_nothing(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &[]).await;
    lead(&store, &tenant, 1).await;
    store.delete_webhook(&tenant, id, None).await.unwrap();
    assert!(matches!(store.webhook(&tenant, id).await, Err(Error::NotFound("webhook"))));
    assert!(matches!(store.delete_webhook(&tenant, id, None).await, Err(Error::NotFound(_))));
    for _ in 0..2 {
        let task = claim(&store).await.pop().expect("a page to delete");
        assert!(store.begin_round(&task).await.unwrap().is_none());
    }
    assert!(claim(&store).await.is_empty());
    // An endpoint is created in its place as if there had been none.
    for _ in 0..10 {
        endpoint(&store, &tenant, &[]).await;
    }
    let settings =
        WebhookSettings { url: "https://x.example".into(), event_types: vec![], description: String::new() };
    let full = store.create_webhook(&tenant, settings, "whsec_c2VjcmV0".into(), None).await;
    assert!(matches!(full, Err(Error::Invalid(_))));
}

async fn secrets_are_sealed_for_their_row_and_resealed(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &[]).await;
    let secrets = async |store: &Engine| {
        let target = store.webhook_to_test(&tenant, id).await.unwrap();
        target.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(&store).await, ["whsec_c2VjcmV0"]);
    store.rotate_webhook_secret(&tenant, id, "whsec_bmV3".into(), DAY, None).await.unwrap();
    assert_eq!(secrets(&store).await, ["whsec_bmV3", "whsec_c2VjcmV0"]);
    store.rotate_webhook_secret(&tenant, id, "whsec_bmV3ZXI=".into(), Duration::ZERO, None).await.unwrap();
    assert_eq!(secrets(&store).await, ["whsec_bmV3ZXI="], "the old one has ended");
    drop(store);
    let both = Engine::open_with(&database.url, ring(&format!("{},{}", key("b", '2'), key("a", '1'))))
        .await
        .unwrap();
    assert_eq!(both.reseal_accounts().await.unwrap().resealed, 1);
    drop(both);
    let new = Engine::open_with(&database.url, ring(&key("b", '2'))).await.unwrap();
    assert_eq!(secrets(&new).await, ["whsec_bmV3ZXI="]);
}
