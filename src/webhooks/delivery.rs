//! Webhooks to tenants: one task for each endpoint sends what is due to it, a round at a time.

use std::time::Duration;

use futures_util::future::join_all;

use super::client::{Client, Message};
use crate::domain::webhook::Answer;
use crate::metrics::{self, Delivered};
use crate::store::{DeliveryTried, DueDelivery, Result, Store, Task, WebhookTarget};

/// Sends webhooks.
#[derive(Debug, Clone)]
pub struct Sender {
    /// How endpoints are reached.
    pub client: Client,
    /// An endpoint to which nothing could be delivered for so long is disabled.
    pub disable_after: Duration,
}

impl Sender {
    /// Sends what is due to the task's endpoint, side by side, and records what became of it. What
    /// dies in between is sent again: receivers know it by its id.
    pub async fn deliver(&self, store: &Store, task: &Task) -> Result<()> {
        let Some(round) = store.begin_round(task).await? else { return Ok(()) };
        let tried = join_all(round.due.iter().map(|due| self.send(&round.target, due))).await;
        let end = store
            .end_round(task, round.target.revision, tried, self.disable_after, rand::random())
            .await?;
        metrics::deliveries_dead(end.dead);
        if end.dead > 0 {
            tracing::warn!(event = "webhook_deliveries_dead", webhook = %round.target.id, deliveries = end.dead);
        }
        if let Some(reason) = end.disabled {
            tracing::warn!(event = "webhook_disabled", webhook = %round.target.id, reason = reason.as_str());
        }
        Ok(())
    }

    async fn send(&self, target: &WebhookTarget, due: &DueDelivery) -> DeliveryTried {
        let id = due.id.to_string();
        let message = Message { id: &id, body: &due.body, secrets: &target.secrets };
        let attempt = self.client.post(&target.url, &message, target.now.secs()).await;
        let result = match attempt.answer {
            answer if answer.is_success() => Delivered::Delivered,
            answer if answer.is_gone() => Delivered::Gone,
            Answer::Refused => Delivered::Refused,
            Answer::Status(_) | Answer::None => Delivered::Failed,
        };
        metrics::delivery(result, attempt.took);
        tracing::debug!(webhook = %target.id, delivery = %due.id, result = result.as_str(), "webhook sent");
        DeliveryTried {
            id: due.id,
            attempt: due.attempt,
            answer: attempt.answer,
            latency_ms: u32::try_from(attempt.took.as_millis()).unwrap_or(u32::MAX),
            error: attempt.error,
        }
    }
}
