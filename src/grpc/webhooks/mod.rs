//! The `Webhooks` service: a tenant's own endpoints. One function per RPC.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use url::Url;

use super::page::Pager;
use super::pb::webhooks_server::Webhooks;
use super::service::{Call, Shared};
use super::status::Refusal;
use super::{convert, idempotency, pb};
use crate::domain::{Violation, WebhookId};
use crate::store::{self, WebhookSettings, WebhookWithSecret};
use crate::webhooks::{self as webhooks, Message};

/// How long the old secret signs, too, unless the client says.
const KEEP_OLD: Duration = Duration::from_secs(24 * 3_600);
/// The longest that it may.
const KEEP_OLD_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The service.
pub(super) struct Service {
    /// What all services share.
    pub shared: Shared,
    /// How endpoints are reached.
    pub client: webhooks::Client,
}

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl Webhooks for Service {
    async fn create_webhook(
        &self,
        request: Request<pb::CreateWebhookRequest>,
    ) -> Answer<pb::CreateWebhookResponse> {
        let client = self.client.clone();
        self.shared.unary(request, |call, request| create(call, client, request)).await
    }

    async fn get_webhook(
        &self,
        request: Request<pb::GetWebhookRequest>,
    ) -> Answer<pb::GetWebhookResponse> {
        self.shared.unary(request, get).await
    }

    async fn list_webhooks(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> Answer<pb::ListWebhooksResponse> {
        self.shared.unary(request, list).await
    }

    async fn update_webhook(
        &self,
        request: Request<pb::UpdateWebhookRequest>,
    ) -> Answer<pb::UpdateWebhookResponse> {
        let client = self.client.clone();
        self.shared.unary(request, |call, request| update(call, client, request)).await
    }

    async fn delete_webhook(
        &self,
        request: Request<pb::DeleteWebhookRequest>,
    ) -> Answer<pb::DeleteWebhookResponse> {
        self.shared.unary(request, delete).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> Answer<pb::RotateWebhookSecretResponse> {
        self.shared.unary(request, rotate).await
    }

    async fn test_webhook(
        &self,
        request: Request<pb::TestWebhookRequest>,
    ) -> Answer<pb::TestWebhookResponse> {
        let client = self.client.clone();
        self.shared.unary(request, |call, request| test(call, client, request)).await
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<pb::ListWebhookDeliveriesRequest>,
    ) -> Answer<pb::ListWebhookDeliveriesResponse> {
        self.shared.unary(request, deliveries).await
    }

    async fn redeliver_webhook(
        &self,
        request: Request<pb::RedeliverWebhookRequest>,
    ) -> Answer<pb::RedeliverWebhookResponse> {
        self.shared.unary(request, redeliver).await
    }
}

/// Refuses a target that will never be called; where a name leads is only known when it is.
fn check_url(client: &webhooks::Client, settings: &WebhookSettings) -> Result<(), Violation> {
    let url =
        Url::parse(&settings.url).map_err(|_| Violation::new("settings.url", "is not a URL"))?;
    client.check(&url).map_err(|refused| Violation::new("settings.url", refused.to_string()))
}

/// What the store refuses of a setting, named as in the request.
fn in_settings(error: store::Error) -> store::Error {
    match error {
        store::Error::Invalid(violation) if violation.field != "request_id" => {
            store::Error::Invalid(violation.under("settings"))
        }
        other => other,
    }
}

async fn create(
    call: Call,
    client: webhooks::Client,
    request: pb::CreateWebhookRequest,
) -> Result<pb::CreateWebhookResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let settings = convert::webhook::read(convert::required("settings", request.settings)?);
    check_url(&client, &settings)?;
    let secret = webhooks::new_secret(rand::random());
    let made = call
        .store
        .create_webhook(&call.tenant, settings, secret, key)
        .await
        .map_err(in_settings)?;
    let (webhook, secret) = with_secret(made);
    Ok(pb::CreateWebhookResponse { webhook, secret })
}

fn with_secret(made: WebhookWithSecret) -> (Option<pb::Webhook>, String) {
    let secret = made.secret.map(|secret| secret.expose_secret().to_owned()).unwrap_or_default();
    (Some(convert::webhook::write(made.webhook)), secret)
}

async fn get(
    call: Call,
    request: pb::GetWebhookRequest,
) -> Result<pb::GetWebhookResponse, Refusal> {
    let view = call.store.webhook(&call.tenant, request.webhook_id.parse()?).await?;
    Ok(pb::GetWebhookResponse { webhook: Some(convert::webhook::write(view)) })
}

async fn list(
    call: Call,
    request: pb::ListWebhooksRequest,
) -> Result<pb::ListWebhooksResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let found = call.store.list_webhooks(&call.tenant, page).await?;
    let (webhooks, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::webhook::write(view)));
    Ok(pb::ListWebhooksResponse { webhooks, next_page_token })
}

async fn update(
    call: Call,
    client: webhooks::Client,
    request: pb::UpdateWebhookRequest,
) -> Result<pb::UpdateWebhookResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let id = request.webhook_id.parse()?;
    let patch = convert::webhook::patch(request)?;
    if patch.fields.contains(&crate::domain::webhook::WebhookField::Url) {
        check_url(&client, &patch.settings)?;
    }
    let view =
        call.store.update_webhook(&call.tenant, id, patch, key).await.map_err(in_settings)?;
    Ok(pb::UpdateWebhookResponse { webhook: Some(convert::webhook::write(view)) })
}

async fn delete(
    call: Call,
    request: pb::DeleteWebhookRequest,
) -> Result<pb::DeleteWebhookResponse, Refusal> {
    let key = idempotency::key(&request)?;
    call.store.delete_webhook(&call.tenant, request.webhook_id.parse()?, key).await?;
    Ok(pb::DeleteWebhookResponse {})
}

async fn rotate(
    call: Call,
    request: pb::RotateWebhookSecretRequest,
) -> Result<pb::RotateWebhookSecretResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let id: WebhookId = request.webhook_id.parse()?;
    let keep = match request.keep_old {
        None => KEEP_OLD,
        Some(given) => Duration::try_from(given)
            .ok()
            .filter(|keep| *keep <= KEEP_OLD_MAX)
            .ok_or_else(|| Violation::new("keep_old", "must be 0 s to 7 days"))?,
    };
    let secret = webhooks::new_secret(rand::random());
    let made = call.store.rotate_webhook_secret(&call.tenant, id, secret, keep, key).await?;
    let (webhook, secret) = with_secret(made);
    Ok(pb::RotateWebhookSecretResponse { webhook, secret })
}

async fn test(
    call: Call,
    client: webhooks::Client,
    request: pb::TestWebhookRequest,
) -> Result<pb::TestWebhookResponse, Refusal> {
    let target = call.store.webhook_to_test(&call.tenant, request.webhook_id.parse()?).await?;
    let (id, body) =
        (store::test_message_id().to_string(), store::test_body(target.id, target.now));
    let message = Message { id: &id, body: &body, secrets: &target.secrets };
    let attempt = client.post(&target.url, &message, target.now.secs()).await;
    Ok(convert::webhook::write_attempt(attempt))
}

async fn deliveries(
    call: Call,
    request: pb::ListWebhookDeliveriesRequest,
) -> Result<pb::ListWebhookDeliveriesResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::webhook::delivery_state_of)?;
    let id = request.webhook_id.parse()?;
    let found = call.store.list_deliveries(&call.tenant, id, &states, page).await?;
    let (deliveries, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::webhook::write_delivery(view)));
    Ok(pb::ListWebhookDeliveriesResponse { deliveries, next_page_token })
}

async fn redeliver(
    call: Call,
    request: pb::RedeliverWebhookRequest,
) -> Result<pb::RedeliverWebhookResponse, Refusal> {
    let (id, delivery) = (request.webhook_id.parse()?, request.delivery_id.parse()?);
    call.store.redeliver(&call.tenant, id, delivery).await?;
    Ok(pb::RedeliverWebhookResponse {})
}
