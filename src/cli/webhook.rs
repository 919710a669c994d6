//! `trunkline webhook`: one's own servers that are told what happens.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::tenant::PAGE_SIZE;
use super::{Error, display};
use crate::grpc::pb;

/// Works with endpoints for webhooks.
#[derive(Subcommand)]
pub enum Command {
    /// Creates an endpoint and shows its secret, this once.
    Create {
        /// Where events are posted: https, on the public internet.
        url: String,
        /// A type such as run.completed, or a group such as run.*; may be given more than once
        /// [default: everything]
        #[arg(long = "event", value_name = "TYPE")]
        event_types: Vec<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Shows an endpoint.
    Get {
        /// Its id.
        webhook: String,
    },
    /// Lists endpoints.
    List,
    /// Changes what is named of an endpoint.
    Update {
        /// Its id.
        webhook: String,
        /// Where events are posted.
        #[arg(long)]
        url: Option<String>,
        /// A type such as run.completed, or a group such as run.*; may be given more than once.
        #[arg(long = "event", value_name = "TYPE")]
        event_types: Vec<String>,
        /// For people.
        #[arg(long)]
        description: Option<String>,
    },
    /// Tells an endpoint again; what waited for it goes out at once.
    Enable {
        /// Its id.
        webhook: String,
    },
    /// Tells an endpoint nothing any more.
    Disable {
        /// Its id.
        webhook: String,
    },
    /// Deletes an endpoint and its deliveries.
    Delete {
        /// Its id.
        webhook: String,
    },
    /// Makes a new secret and shows it, this once.
    Rotate {
        /// The endpoint's id.
        webhook: String,
        /// How long the old secret signs, too.
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=168))]
        keep_old_hours: u32,
    },
    /// Posts a test event now and says what came back.
    Test {
        /// The endpoint's id.
        webhook: String,
    },
    /// Lists deliveries in order of creation.
    Deliveries {
        /// The endpoint's id.
        webhook: String,
        /// Only those that were given up.
        #[arg(long)]
        dead: bool,
    },
    /// Has a delivery sent once more, or now.
    Redeliver {
        /// The endpoint's id.
        webhook: String,
        /// The delivery's id.
        delivery: String,
    },
}

/// Asks the service, with retries.
macro_rules! ask {
    ($client:expr, $method:ident, $request:expr) => {{
        let send = |request| {
            let mut webhooks = $client.webhooks.clone();
            async move { webhooks.$method(request).await }
        };
        client::call(&$request, send).await
    }};
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    let request_id = request_id();
    match command {
        Command::Create { url, event_types, description } => {
            let settings = Some(pb::WebhookSettings { url, event_types, description });
            let made =
                ask!(client, create_webhook, pb::CreateWebhookRequest { request_id, settings })?;
            secret(output, made.webhook.unwrap_or_default(), made.secret)
        }
        Command::Get { webhook: webhook_id } => {
            let found = ask!(client, get_webhook, pb::GetWebhookRequest { webhook_id })?;
            show(output, found.webhook.into_iter().collect())
        }
        Command::List => list(client, output).await,
        Command::Update { webhook, url, event_types, description } => {
            let named = [
                ("url", url.is_some()),
                ("event_types", !event_types.is_empty()),
                ("description", description.is_some()),
            ];
            let paths: Vec<&str> =
                named.iter().filter(|(_, named)| *named).map(|(path, _)| *path).collect();
            if paths.is_empty() {
                return Err(Error::Usage("name at least one thing to change".into()));
            }
            let (url, description) = (url.unwrap_or_default(), description.unwrap_or_default());
            let settings = pb::WebhookSettings { url, event_types, description };
            update(client, output, webhook, (settings, false), &paths).await
        }
        Command::Enable { webhook } => {
            update(client, output, webhook, (pb::WebhookSettings::default(), true), &["enabled"])
                .await
        }
        Command::Disable { webhook } => {
            update(client, output, webhook, (pb::WebhookSettings::default(), false), &["enabled"])
                .await
        }
        Command::Delete { webhook: webhook_id } => {
            ask!(client, delete_webhook, pb::DeleteWebhookRequest { request_id, webhook_id })?;
            Ok(output.note("deleted")?)
        }
        Command::Rotate { webhook: webhook_id, keep_old_hours } => {
            let keep_old = Some(prost_types::Duration {
                seconds: i64::from(keep_old_hours) * 3_600,
                nanos: 0,
            });
            let request = pb::RotateWebhookSecretRequest { request_id, webhook_id, keep_old };
            let made = ask!(client, rotate_webhook_secret, request)?;
            secret(output, made.webhook.unwrap_or_default(), made.secret)
        }
        Command::Test { webhook: webhook_id } => {
            let answer = ask!(client, test_webhook, pb::TestWebhookRequest { webhook_id })?;
            test(output, &answer)
        }
        Command::Deliveries { webhook, dead } => deliveries(client, webhook, dead, output).await,
        Command::Redeliver { webhook: webhook_id, delivery: delivery_id } => {
            ask!(
                client,
                redeliver_webhook,
                pb::RedeliverWebhookRequest { webhook_id, delivery_id }
            )?;
            Ok(output.note("queued")?)
        }
    }
}

async fn update(
    client: &Client,
    output: Output,
    webhook_id: String,
    (settings, enabled): (pb::WebhookSettings, bool),
    paths: &[&str],
) -> Result<(), Error> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateWebhookRequest {
        request_id: request_id(),
        webhook_id,
        settings: Some(settings),
        enabled,
        update_mask: Some(prost_types::FieldMask { paths }),
        etag: String::new(),
    };
    show(output, ask!(client, update_webhook, request)?.webhook.into_iter().collect())
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let mut request = pb::ListWebhooksRequest { page_size: PAGE_SIZE, page_token: String::new() };
    let mut webhooks = Vec::new();
    loop {
        let page = ask!(client, list_webhooks, request)?;
        webhooks.extend(page.webhooks);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return show(output, webhooks);
        }
    }
}

/// The secret alone on stdout, so that it can be sent into a file.
fn secret(output: Output, webhook: pb::Webhook, secret: String) -> Result<(), Error> {
    if secret.is_empty() {
        let why = "has a secret, but the answer with it was lost: rotate it";
        return Err(Error::Runtime(format!("webhook {} {why}", webhook.webhook_id)));
    }
    let mut value = webhook_json(&webhook);
    value["secret"] = json!(secret);
    if output.json {
        return Ok(output.show(&value, &[], Vec::new())?);
    }
    eprintln!("webhook {}", webhook.webhook_id);
    Ok(output.note(&secret)?)
}

fn test(output: Output, answer: &pb::TestWebhookResponse) -> Result<(), Error> {
    let latency_ms = display::millis(answer.latency.as_ref());
    if output.json {
        let value = json!({ "status_code": answer.status_code, "latency_ms": latency_ms, "error": answer.error });
        return Ok(output.show(&value, &[], Vec::new())?);
    }
    if answer.error.is_empty() {
        return Ok(output.note(&format!("HTTP {} after {latency_ms} ms", answer.status_code))?);
    }
    Err(Error::Runtime(format!("{}, after {latency_ms} ms", answer.error)))
}

fn webhook_json(webhook: &pb::Webhook) -> Value {
    let settings = webhook.settings.clone().unwrap_or_default();
    json!({
        "webhook_id": webhook.webhook_id,
        "url": settings.url,
        "event_types": settings.event_types,
        "description": settings.description,
        "state": display::webhook_state(webhook.state()),
        "disabled_reason": display::webhook_disabled_reason(webhook.disabled_reason()),
        "failing_since_time": display::time(webhook.failing_since_time.as_ref()),
        "old_secret_expire_time": display::time(webhook.old_secret_expire_time.as_ref()),
        "etag": webhook.etag,
        "create_time": display::time(webhook.create_time.as_ref()),
        "update_time": display::time(webhook.update_time.as_ref()),
    })
}

fn show(output: Output, webhooks: Vec<pb::Webhook>) -> Result<(), Error> {
    let value: Value = webhooks.iter().map(webhook_json).collect();
    let rows = webhooks.into_iter().map(|webhook| {
        let settings = webhook.settings.clone().unwrap_or_default();
        let events = if settings.event_types.is_empty() {
            "all".into()
        } else {
            settings.event_types.join(" ")
        };
        let (state, reason) = (
            display::webhook_state(webhook.state()),
            display::webhook_disabled_reason(webhook.disabled_reason()),
        );
        let failing = display::time(webhook.failing_since_time.as_ref());
        vec![webhook.webhook_id, state, reason, failing, settings.url, events, settings.description]
    });
    let header = ["webhook", "state", "why", "failing since", "url", "events", "description"];
    Ok(output.show(&value, &header, rows.collect())?)
}

async fn deliveries(
    client: &Client,
    webhook_id: String,
    dead: bool,
    output: Output,
) -> Result<(), Error> {
    let states = if dead { vec![pb::WebhookDeliveryState::Dead.into()] } else { Vec::new() };
    let page_token = String::new();
    let mut request =
        pb::ListWebhookDeliveriesRequest { webhook_id, states, page_size: PAGE_SIZE, page_token };
    let mut found = Vec::new();
    loop {
        let page = ask!(client, list_webhook_deliveries, request)?;
        found.extend(page.deliveries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let value = found
        .iter()
        .map(|delivery| {
            json!({
                "delivery_id": delivery.delivery_id, "event_type": delivery.event_type,
                "subject": delivery.subject, "state": display::webhook_delivery_state(delivery.state()),
                "attempts": delivery.attempts, "status_code": delivery.status_code,
                "latency_ms": display::millis(delivery.latency.as_ref()), "last_error": delivery.last_error,
                "next_attempt_time": display::time(delivery.next_attempt_time.as_ref()), "body": delivery.body,
                "create_time": display::time(delivery.create_time.as_ref()),
            })
        })
        .collect();
    let rows = found.into_iter().map(|delivery| {
        let state = display::webhook_delivery_state(delivery.state());
        let (attempts, status) = (delivery.attempts.to_string(), delivery.status_code.to_string());
        let next = display::time(delivery.next_attempt_time.as_ref());
        let pb::WebhookDelivery { delivery_id, event_type, subject, last_error, .. } = delivery;
        vec![delivery_id, event_type, subject, state, attempts, status, next, last_error]
    });
    let header =
        ["delivery", "event", "about", "state", "attempts", "HTTP", "not before", "last error"];
    Ok(output.show(&value, &header, rows.collect())?)
}
