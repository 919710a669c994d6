//! Webhooks that go out: what their use cases take and give.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use uuid::Uuid;

use super::engine::Engine;
use super::usecases::{deliveries, webhooks};
use super::{Page, Paged, RequestKey, Result, Task};
use crate::domain::webhook::{
    Answer, DeliveryState, DisabledReason, EventType, WebhookField, WebhookState,
};
use crate::domain::{DeliveryId, TenantId, Timestamp, WebhookId};

/// Deliveries of one endpoint sent at a time.
pub const ROUND_MAX: usize = 16;

/// What of an endpoint its owner decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where events are posted. May hold a secret of the receiver's.
    pub url: String,
    /// What it is told of; nothing named is everything.
    pub event_types: Vec<String>,
    /// For people.
    pub description: String,
}

/// New values for some of an endpoint's settings.
#[derive(Debug, Clone)]
pub struct WebhookPatch {
    /// Holds the new values.
    pub settings: WebhookSettings,
    /// Whether it is to be told anything.
    pub enabled: bool,
    /// Which of them to take.
    pub fields: Vec<WebhookField>,
    /// Only if the endpoint is still at this revision.
    pub revision: Option<i64>,
}

/// An endpoint as it stands, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookView {
    /// Its id.
    pub id: WebhookId,
    /// What its owner decided.
    pub settings: WebhookSettings,
    /// Whether it is told anything.
    pub state: WebhookState,
    /// Why not, if it is not.
    pub disabled_reason: Option<DisabledReason>,
    /// Since when nothing could be delivered.
    pub failing_since: Option<Timestamp>,
    /// Until when the secret before the last rotation signs, too.
    pub previous_until: Option<Timestamp>,
    /// Grows with every change.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An endpoint, and its new secret.
#[derive(Debug, Clone)]
pub struct WebhookWithSecret {
    /// As it stands.
    pub webhook: WebhookView,
    /// `whsec_…`, only now; none where the request is a repetition: it is never told again.
    pub secret: Option<SecretString>,
}

/// Where an endpoint is and what signs for it. `Debug` redacts the secrets.
#[derive(Debug, Clone)]
pub struct WebhookTarget {
    /// Which.
    pub id: WebhookId,
    /// As of which change of it.
    pub revision: i64,
    /// Where.
    pub url: String,
    /// Each signs: the current one, and the one before during a rotation.
    pub secrets: Vec<SecretString>,
    /// Database time of the reading.
    pub now: Timestamp,
}

/// A delivery that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// Its id, and the message's.
    pub id: DeliveryId,
    /// JSON.
    pub body: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// What is to be sent to one endpoint now.
#[derive(Debug, Clone)]
pub struct Round {
    /// Where to.
    pub target: WebhookTarget,
    /// At most [`ROUND_MAX`], no two about one subject.
    pub due: Vec<DueDelivery>,
}

/// What became of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryTried {
    /// Which.
    pub id: DeliveryId,
    /// Which attempt this was.
    pub attempt: u32,
    /// How it ended.
    pub answer: Answer,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundEnd {
    /// Deliveries that were given up.
    pub dead: u32,
    /// Why the endpoint was disabled, if it was.
    pub disabled: Option<DisabledReason>,
}

/// A delivery as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// Its id, and the message's.
    pub id: DeliveryId,
    /// What happened: maybe a word that only a newer version knows.
    pub event_type: String,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// What the receiver last answered.
    pub status_code: Option<u32>,
    /// How long the last attempt took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Not before, if it is queued.
    pub next_at: Timestamp,
    /// What is posted.
    pub body: String,
    /// When it was caused.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// What a tenant does about its own endpoints, and how they are told.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Creates an endpoint with `secret`, which is sealed.
    /// [`Error::NoMasterKey`](super::Error::NoMasterKey) without a key to seal it with.
    async fn create_webhook(
        &self,
        tenant: &TenantId,
        settings: WebhookSettings,
        secret: SecretString,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret>;
    /// The endpoint.
    async fn webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookView>;
    /// In order of creation.
    async fn list_webhooks(&self, tenant: &TenantId, page: Page) -> Result<Paged<WebhookView>>;
    /// Changes an endpoint. Enabled again, what waits for it goes on at once.
    async fn update_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        patch: WebhookPatch,
        key: Option<RequestKey>,
    ) -> Result<WebhookView>;
    /// Deletes an endpoint; its deliveries follow, page by page.
    async fn delete_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        key: Option<RequestKey>,
    ) -> Result<()>;
    /// Makes `secret` the endpoint's; the one before signs, too, for `keep`.
    async fn rotate_webhook_secret(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        secret: SecretString,
        keep: Duration,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret>;
    /// Where the endpoint is, for a test that the actor makes.
    async fn webhook_to_test(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookTarget>;
    /// In order of creation. Empty `states` means all.
    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        states: &[DeliveryState],
        page: Page,
    ) -> Result<Paged<DeliveryView>>;
    /// Has a delivery sent once more, or now, whatever became of it.
    async fn redeliver(&self, tenant: &TenantId, id: WebhookId, delivery: DeliveryId)
    -> Result<()>;
    /// What a [`DeliverWebhooks`](crate::domain::task::TaskKind::DeliverWebhooks) task is to send
    /// now; none if there is nothing, and the task was finished or put off.
    async fn begin_round(&self, task: &Task) -> Result<Option<Round>>;
    /// Records what became of it, and has the task done again when the next is due. `draw` is
    /// uniform in 0.0..1.0.
    async fn end_round(
        &self,
        task: &Task,
        revision: i64,
        tried: Vec<DeliveryTried>,
        disable_after: Duration,
        draw: f64,
    ) -> Result<RoundEnd>;
}

/// What is posted for a test.
pub fn test_body(id: WebhookId, at: Timestamp) -> String {
    crate::domain::webhook::body(EventType::Test, at, &serde_json::json!({ "webhook_id": id }))
}

/// A new id for a message that is kept nowhere.
pub fn test_message_id() -> DeliveryId {
    DeliveryId(Uuid::now_v7())
}

#[async_trait]
impl Hooks for Engine {
    async fn create_webhook(
        &self,
        tenant: &TenantId,
        settings: WebhookSettings,
        secret: SecretString,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret> {
        webhooks::create(self, tenant, settings, secret, key).await
    }

    async fn webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookView> {
        webhooks::get(self, tenant, id).await
    }

    async fn list_webhooks(&self, tenant: &TenantId, page: Page) -> Result<Paged<WebhookView>> {
        webhooks::list(self, tenant, page).await
    }

    async fn update_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        patch: WebhookPatch,
        key: Option<RequestKey>,
    ) -> Result<WebhookView> {
        webhooks::update(self, tenant, id, patch, key).await
    }

    async fn delete_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        key: Option<RequestKey>,
    ) -> Result<()> {
        webhooks::delete(self, tenant, id, key).await
    }

    async fn rotate_webhook_secret(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        secret: SecretString,
        keep: Duration,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret> {
        webhooks::rotate(self, tenant, id, (secret, keep), key).await
    }

    async fn webhook_to_test(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookTarget> {
        webhooks::to_test(self, tenant, id).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        states: &[DeliveryState],
        page: Page,
    ) -> Result<Paged<DeliveryView>> {
        deliveries::list(self, tenant, id, states, page).await
    }

    async fn redeliver(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        delivery: DeliveryId,
    ) -> Result<()> {
        deliveries::redeliver(self, tenant, id, delivery).await
    }

    async fn begin_round(&self, task: &Task) -> Result<Option<Round>> {
        deliveries::begin_round(self, task).await
    }

    async fn end_round(
        &self,
        task: &Task,
        revision: i64,
        tried: Vec<DeliveryTried>,
        disable_after: Duration,
        draw: f64,
    ) -> Result<RoundEnd> {
        deliveries::end_round(self, task, revision, tried, disable_after, draw).await
    }
}
