//! The outbox and its rounds, on both stores.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::task::{Lane, TaskState};
use trunkline::domain::webhook::{ATTEMPTS_MAX, Answer, DeliveryState, WebhookField, WebhookState};
use trunkline::domain::{TenantId, WebhookId};
use trunkline::store::{
    DeliveryTried, Error, Keyring, Page, ROUND_MAX, Round, Store, Task, Wake, WebhookPatch,
    WebhookSettings,
};

use crate::support::raw::Raw;
use crate::support::{TestDatabase, make_tenant, on_both_databases, phone, worker};

on_both_databases!(
    who_has_no_endpoint_is_told_nothing,
    one_subject_goes_in_order_and_a_dead_one_makes_way,
    what_comes_during_a_round_is_not_lost,
    a_backlog_is_gone_on_with_at_once,
    what_ended_late_is_kept,
    an_endpoint_that_moved_is_not_judged_by_its_old_server,
    no_more_than_ten_even_at_once,
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

async fn open(database: &TestDatabase) -> (Store, TenantId) {
    let store = Store::open_with(&database.url, ring(&key("a", '1'))).await.unwrap();
    let tenant = make_tenant(&store, "acme", 9, 100.0).await;
    (store, tenant)
}

async fn endpoint(store: &Store, tenant: &TenantId, filters: &[&str]) -> WebhookId {
    let settings = WebhookSettings {
        url: "https://hooks.example.com/".into(),
        event_types: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        description: String::new(),
    };
    store.create_webhook(tenant, settings, "whsec_c2VjcmV0".into(), None).await.unwrap().webhook.id
}

async fn lead(store: &Store, tenant: &TenantId, n: usize) -> trunkline::store::LeadView {
    store.create_leads(tenant, vec![LeadFacts::of(phone(n))], None).await.unwrap().remove(0).lead
}

async fn claim(store: &Store) -> Vec<Task> {
    store.claim_tasks(&worker("1"), Lane::Outside, 10, Duration::from_secs(60)).await.unwrap().tasks
}

/// The one task there is, and what it is to send.
async fn round(store: &Store) -> (Task, Round) {
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
    let without = Store::open_with(&database.url, Keyring::default()).await;
    // SQLite has one server.
    if let Ok(without) = without {
        let settings = store.webhook(&tenant, id).await.unwrap().settings;
        let refused =
            without.create_webhook(&tenant, settings, "x".into(), None).await.unwrap_err();
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
            serde_json::from_str::<serde_json::Value>(body).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        round.due.iter().map(|due| kind(&due.body)).collect()
    };
    let (task, round_one) = round(&store).await;
    assert_eq!(
        kinds(&round_one),
        ["lead.created", "lead.created"],
        "the deletion waits for its creation"
    );
    // The first is given up, the second taken.
    let mut tried = tried(&round_one, Answer::Status(200));
    (tried[0].attempt, tried[0].answer) = (ATTEMPTS_MAX, Answer::Status(500));
    let end = store.end_round(&task, round_one.target.revision, tried, DAY, 0.5).await.unwrap();
    assert_eq!((end.dead, end.disabled), (1, None));
    let (task, round_two) = round(&store).await;
    assert_eq!(kinds(&round_two), ["lead.deleted"]);
    // It fails and is put off; nothing is to be done meanwhile.
    store
        .end_round(
            &task,
            round_two.target.revision,
            self::tried(&round_two, Answer::None),
            DAY,
            0.5,
        )
        .await
        .unwrap();
    assert!(claim(&store).await.is_empty());
    let states: Vec<_> = store
        .list_deliveries(&tenant, id, &[], PAGE)
        .await
        .unwrap()
        .items
        .iter()
        .map(|d| d.state)
        .collect();
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
    store
        .end_round(&task, first.target.revision, tried(&first, Answer::Status(204)), DAY, 0.5)
        .await
        .unwrap();
    let (task, second) = round(&store).await;
    assert_eq!(second.due.len(), 1);
    assert_ne!(second.due[0].id, first.due[0].id);
    store
        .end_round(&task, second.target.revision, tried(&second, Answer::Status(204)), DAY, 0.5)
        .await
        .unwrap();
    assert!(claim(&store).await.is_empty());
    let tasks = store.list_tasks(&tenant, &[TaskState::Queued], PAGE).await.unwrap().items;
    assert!(tasks.is_empty(), "a task that has nothing to do is gone: {tasks:?}");
}

/// What is due at once has a task at once, in this process and without a poll.
async fn a_backlog_is_gone_on_with_at_once(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    endpoint(&store, &tenant, &[]).await;
    let people = (0..20).map(|n| LeadFacts::of(phone(n))).collect();
    store.create_leads(&tenant, people, None).await.unwrap();
    let (task, first) = round(&store).await;
    assert_eq!(first.due.len(), ROUND_MAX);
    let mut wakes = store.wakes();
    let answers = tried(&first, Answer::Status(204));
    store.end_round(&task, first.target.revision, answers, DAY, 0.5).await.unwrap();
    let woken = async { while wakes.recv().await.unwrap() != Wake::Tasks {} };
    tokio::time::timeout(Duration::from_secs(10), woken).await.expect("a wake");
    assert_eq!(round(&store).await.1.due.len(), 20 - ROUND_MAX);
}

/// Kept for a week from its end, however long it waited before.
async fn what_ended_late_is_kept(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &[]).await;
    lead(&store, &tenant, 1).await;
    // Told nine days ago: its id says so.
    let mut raw = Raw::connect(&database.url).await;
    let old = uuid::Builder::from_unix_timestamp_millis(
        (store.now().await.unwrap() - 9 * DAY).micros() as u64 / 1_000,
        &[7; 10],
    )
    .into_uuid();
    raw.execute(&format!("UPDATE webhook_deliveries SET delivery_id = '{old}'")).await;
    let (task, one) = round(&store).await;
    let answers = tried(&one, Answer::Status(204));
    store.end_round(&task, one.target.revision, answers, DAY, 0.5).await.unwrap();
    let kept = store.list_deliveries(&tenant, id, &[], PAGE).await.unwrap().items;
    assert_eq!(kept.iter().map(|kept| kept.state).collect::<Vec<_>>(), [DeliveryState::Delivered]);
    // It goes with the first round after its week.
    raw.execute("UPDATE webhook_deliveries SET updated_at = 1").await;
    lead(&store, &tenant, 2).await;
    let (task, two) = round(&store).await;
    let answers = tried(&two, Answer::Status(204));
    store.end_round(&task, two.target.revision, answers, DAY, 0.5).await.unwrap();
    let kept = store.list_deliveries(&tenant, id, &[], PAGE).await.unwrap().items;
    assert_eq!(kept.iter().map(|kept| kept.id).collect::<Vec<_>>(), [two.due[0].id]);
}

/// What a server answers says nothing of the one that took its place meanwhile.
async fn an_endpoint_that_moved_is_not_judged_by_its_old_server(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &[]).await;
    lead(&store, &tenant, 1).await;
    let (task, one) = round(&store).await;
    let settings = WebhookSettings {
        url: "https://new.example.com/".into(),
        ..store.webhook(&tenant, id).await.unwrap().settings
    };
    let patch =
        WebhookPatch { settings, enabled: true, fields: vec![WebhookField::Url], revision: None };
    store.update_webhook(&tenant, id, patch, None).await.unwrap();
    let gone = tried(&one, Answer::Status(410));
    let end = store.end_round(&task, one.target.revision, gone.clone(), DAY, 0.5).await.unwrap();
    assert_eq!(end.disabled, None);
    let view = store.webhook(&tenant, id).await.unwrap();
    assert_eq!((view.state, view.failing_since), (WebhookState::Enabled, None));
    // As of now it is judged.
    let delivery = store.list_deliveries(&tenant, id, &[], PAGE).await.unwrap().items.remove(0).id;
    store.redeliver(&tenant, id, delivery).await.unwrap();
    let (task, two) = round(&store).await;
    assert_eq!(two.target.url, "https://new.example.com/");
    let end = store
        .end_round(&task, two.target.revision, tried(&two, Answer::Status(410)), DAY, 0.5)
        .await;
    assert!(end.unwrap().disabled.is_some());
}

/// Ten, however many ask at once.
async fn no_more_than_ten_even_at_once(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    for _ in 0..9 {
        endpoint(&store, &tenant, &[]).await;
    }
    let settings = store.list_webhooks(&tenant, PAGE).await.unwrap().items.remove(0).settings;
    let made =
        futures_util::future::join_all((0..8).map(|_| {
            store.create_webhook(&tenant, settings.clone(), "whsec_c2VjcmV0".into(), None)
        }));
    assert_eq!(made.await.iter().filter(|made| made.is_ok()).count(), 1);
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
    let settings = WebhookSettings {
        url: "https://x.example".into(),
        event_types: vec![],
        description: String::new(),
    };
    let full = store.create_webhook(&tenant, settings, "whsec_c2VjcmV0".into(), None).await;
    assert!(matches!(full, Err(Error::Invalid(_))));
}

async fn secrets_are_sealed_for_their_row_and_resealed(database: TestDatabase) {
    let (store, tenant) = open(&database).await;
    let id = endpoint(&store, &tenant, &[]).await;
    let secrets = async |store: &Store| {
        let target = store.webhook_to_test(&tenant, id).await.unwrap();
        target.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(&store).await, ["whsec_c2VjcmV0"]);
    store.rotate_webhook_secret(&tenant, id, "whsec_bmV3".into(), DAY, None).await.unwrap();
    assert_eq!(secrets(&store).await, ["whsec_bmV3", "whsec_c2VjcmV0"]);
    store
        .rotate_webhook_secret(&tenant, id, "whsec_bmV3ZXI=".into(), Duration::ZERO, None)
        .await
        .unwrap();
    assert_eq!(secrets(&store).await, ["whsec_bmV3ZXI="], "the old one has ended");
    drop(store);
    let both =
        Store::open_with(&database.url, ring(&format!("{},{}", key("b", '2'), key("a", '1'))))
            .await
            .unwrap();
    assert_eq!(both.reseal_accounts().await.unwrap().resealed, 1);
    drop(both);
    let new = Store::open_with(&database.url, ring(&key("b", '2'))).await.unwrap();
    assert_eq!(secrets(&new).await, ["whsec_bmV3ZXI="]);
}
