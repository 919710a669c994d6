//! Webhooks that go out: what their use cases take and give.

use secrecy::SecretString;
use uuid::Uuid;

use crate::domain::webhook::{
    Answer, DeliveryState, DisabledReason, EventType, WebhookField, WebhookState,
};
use crate::domain::{DeliveryId, Timestamp, WebhookId};

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

/// What is posted for a test.
pub fn test_body(id: WebhookId, at: Timestamp) -> String {
    crate::domain::webhook::body(EventType::Test, at, &serde_json::json!({ "webhook_id": id }))
}

/// A new id for a message that is kept nowhere.
pub fn test_message_id() -> DeliveryId {
    DeliveryId(Uuid::now_v7())
}
