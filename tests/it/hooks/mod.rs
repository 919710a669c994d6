//! Webhooks that go out, over real sockets: a server of ours receives them.

mod delivery;
mod refused;
mod store;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use trunkline::cli::client::Client;
use trunkline::grpc::pb;

use crate::admin::MASTER_KEY;
use crate::system::world::Setup;

/// A world whose tenants may have webhooks on this machine.
pub fn hooking() -> Setup {
    Setup {
        tweak: |config| {
            config.sealing.keys = Some(MASTER_KEY.into());
            config.hooks.allow = "127.0.0.1/32".into();
            config.hooks.timeout_ms = 2_000;
            config.hooks.disable_after_s = 1;
        },
        ..Setup::default()
    }
}

/// One request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
    /// What was answered.
    pub status: u16,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// As a receiver does it: whether one of the signatures is `secret`'s.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.signature.split(' ').any(|signature| signature == expected)
    }
}

#[derive(Default)]
struct Behavior {
    /// Answered first, one each; then `always`.
    first: VecDeque<u16>,
    always: u16,
    delay: Duration,
}

/// A server that receives webhooks.
#[derive(Clone)]
pub struct Receiver {
    pub origin: String,
    received: Arc<Mutex<Vec<Received>>>,
    behavior: Arc<Mutex<Behavior>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let behavior = Behavior { always: 204, ..Behavior::default() };
        let receiver =
            Self { origin, received: Arc::default(), behavior: Arc::new(Mutex::new(behavior)) };
        let app = axum::Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        receiver
    }

    /// Answers `first`, one each, and then `always`.
    pub fn answer(&self, first: &[u16], always: u16) {
        let mut behavior = self.behavior.lock().unwrap();
        (behavior.first, behavior.always) = (first.iter().copied().collect(), always);
    }

    /// Takes so long to answer.
    pub fn take(&self, delay: Duration) {
        self.behavior.lock().unwrap().delay = delay;
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header =
        |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let (status, delay) = {
        let mut behavior = receiver.behavior.lock().unwrap();
        (behavior.first.pop_front().unwrap_or(behavior.always), behavior.delay)
    };
    assert_eq!(header("content-type"), "application/json");
    receiver.received.lock().unwrap().push(Received {
        path: uri.path().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: String::from_utf8(body.to_vec()).unwrap(),
        status,
    });
    tokio::time::sleep(delay).await;
    let code = StatusCode::from_u16(status).unwrap();
    if code.is_redirection() {
        (code, [("location", "/elsewhere")]).into_response()
    } else {
        code.into_response()
    }
}

/// An endpoint of the client's tenant: its id and its secret.
pub async fn create_webhook(client: &Client, url: &str, event_types: &[&str]) -> (String, String) {
    let event_types = event_types.iter().map(|kind| (*kind).to_owned()).collect();
    let settings =
        Some(pb::WebhookSettings { url: url.into(), event_types, description: String::new() });
    let request = pb::CreateWebhookRequest { settings, ..Default::default() };
    let made = client.webhooks.clone().create_webhook(request).await.unwrap().into_inner();
    assert!(made.secret.starts_with("whsec_"));
    (made.webhook.unwrap().webhook_id, made.secret)
}

pub async fn webhook(client: &Client, id: &str) -> pb::Webhook {
    let request = pb::GetWebhookRequest { webhook_id: id.into() };
    client.webhooks.clone().get_webhook(request).await.unwrap().into_inner().webhook.unwrap()
}

pub async fn deliveries(client: &Client, id: &str) -> Vec<pb::WebhookDelivery> {
    let request = pb::ListWebhookDeliveriesRequest {
        webhook_id: id.into(),
        page_size: 1_000,
        ..Default::default()
    };
    client.webhooks.clone().list_webhook_deliveries(request).await.unwrap().into_inner().deliveries
}

pub async fn create_lead(client: &Client, n: usize) -> String {
    let lead =
        pb::LeadFacts { phone: crate::support::phone(n).expose().into(), ..Default::default() };
    let request = pb::CreateLeadRequest { lead: Some(lead), ..Default::default() };
    client.leads.clone().create_lead(request).await.unwrap().into_inner().lead.unwrap().lead_id
}

pub async fn set_enabled(client: &Client, id: &str, enabled: bool) {
    let request = pb::UpdateWebhookRequest {
        webhook_id: id.into(),
        enabled,
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".into()] }),
        ..Default::default()
    };
    client.webhooks.clone().update_webhook(request).await.unwrap();
}

pub async fn test_webhook(client: &Client, id: &str) -> pb::TestWebhookResponse {
    let request = pb::TestWebhookRequest { webhook_id: id.into() };
    client.webhooks.clone().test_webhook(request).await.unwrap().into_inner()
}
