//! The cases of `Webhooks`.

use tonic::Status;
use trunkline::cli::client::Client;
use trunkline::grpc::pb;

use super::{Ids, told};
use crate::hooks::{create_lead, create_webhook, deliveries};
use crate::system::world::World;

/// Where webhooks are refused: the name leads to this machine.
const NOWHERE: &str = "https://localhost:9/";

/// One request of `Webhooks` about those ids.
pub(super) async fn ask(client: &Client, method: &str, ids: &Ids) -> Result<String, Status> {
    let mut webhooks = client.webhooks.clone();
    let (webhook_id, request_id) = (ids.webhook.clone(), String::new());
    let settings = pb::WebhookSettings { url: NOWHERE.into(), ..Default::default() };
    match method {
        "CreateWebhook" => {
            let settings = Some(settings);
            told(webhooks.create_webhook(pb::CreateWebhookRequest { request_id, settings }).await)
        }
        "GetWebhook" => told(webhooks.get_webhook(pb::GetWebhookRequest { webhook_id }).await),
        "ListWebhooks" => told(webhooks.list_webhooks(pb::ListWebhooksRequest::default()).await),
        "UpdateWebhook" => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["description".into()] });
            let request =
                pb::UpdateWebhookRequest { webhook_id, update_mask, ..Default::default() };
            told(webhooks.update_webhook(request).await)
        }
        "DeleteWebhook" => {
            let webhook_id = ids.spare_webhook.clone();
            told(webhooks.delete_webhook(pb::DeleteWebhookRequest { request_id, webhook_id }).await)
        }
        "RotateWebhookSecret" => {
            let request = pb::RotateWebhookSecretRequest { request_id, webhook_id, keep_old: None };
            told(webhooks.rotate_webhook_secret(request).await)
        }
        "TestWebhook" => told(webhooks.test_webhook(pb::TestWebhookRequest { webhook_id }).await),
        "ListWebhookDeliveries" => {
            let request = pb::ListWebhookDeliveriesRequest { webhook_id, ..Default::default() };
            told(webhooks.list_webhook_deliveries(request).await)
        }
        "RedeliverWebhook" => {
            let delivery_id = ids.delivery.clone();
            told(
                webhooks
                    .redeliver_webhook(pb::RedeliverWebhookRequest { webhook_id, delivery_id })
                    .await,
            )
        }
        other => panic!("Webhooks/{other} has no case here: add one"),
    }
}

/// An endpoint with a delivery, and one to spare.
pub(super) async fn make(world: &World) -> (String, String, String) {
    let (webhook, _) = create_webhook(&world.client, NOWHERE, &["lead.*"]).await;
    create_lead(&world.client, 62).await;
    let delivery = deliveries(&world.client, &webhook).await.remove(0).delivery_id;
    let (spare, _) = create_webhook(&world.client, NOWHERE, &["run.failed"]).await;
    (webhook, delivery, spare)
}
