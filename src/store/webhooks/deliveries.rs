//! Deliveries of webhooks: what is to be sent to an endpoint now, what became of it, and what is
//! kept of it.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::domain::webhook::{self, DeliveryState, DisabledReason, Health, WebhookState};
use crate::domain::{DeliveryId, TenantId, Timestamp, WebhookId, task};
use crate::store::db::sql::{Row, Rows, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::webhooks::{self, read, target, webhook_columns};
use crate::store::{
    DeliveryTried, DeliveryView, DueDelivery, Error, Page, Paged, ROUND_MAX, Result, Round,
    RoundEnd, Store, Task, audit, leads, tasks,
};

/// How long deliveries are kept that were taken or given up.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Rows deleted in one transaction.
const DELETED_MAX: i64 = 1_000;
/// Without anything queued the task is done. Should the clock of `next_at` be wrong, it looks again
/// after this.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(3_600);

/// A queued delivery with nothing queued before it about the same subject.
macro_rules! heads {
    () => {
        "FROM webhook_deliveries d WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.state = 'queued'
             AND NOT EXISTS (SELECT 1 FROM webhook_deliveries e WHERE e.tenant_id = $1 AND e.webhook_id = $2
                 AND e.subject = d.subject AND e.state = 'queued'
                 AND (e.position, e.delivery_id) < (d.position, d.delivery_id)) "
    };
}

impl Store {
    /// What a [`DeliverWebhooks`](crate::domain::task::TaskKind::DeliverWebhooks) task is to send
    /// now; none if there is nothing, and the task was finished or put off.
    pub async fn begin_round(&self, task: &Task) -> Result<Option<Round>> {
        statement!(
            DUE,
            concat!(
                "SELECT d.delivery_id, d.body, d.attempts ",
                heads!(),
                "AND d.next_at <= $3 ORDER BY d.next_at, d.delivery_id LIMIT $4"
            )
        );
        let (tenant, id) = (&task.tenant, WebhookId(endpoint(task)?));
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let row = lock(&mut tx, tenant, id).await?;
        let known = row
            .as_ref()
            .map(read)
            .transpose()?
            .filter(|known| known.state != WebhookState::Deleted);
        // Gone, or going; a transaction that did not know so yet may have added a delivery since.
        let (Some(row), Some(known)) = (row, known) else {
            delete_page(&mut tx, task, id).await?;
            tx.commit(&self.wakes).await?;
            return Ok(None);
        };
        let (now, state) = (tx.now().await?, known.state);
        let held = Timestamp(row.int("retry_at")?);
        if state == WebhookState::Enabled && held <= now {
            let limit = i64::try_from(ROUND_MAX).unwrap_or(i64::MAX);
            let rows = tx.fetch(&DUE, args![tenant, id.0, now, limit]).await?;
            if !rows.is_empty() {
                let due = rows.iter().map(due).collect::<Result<_>>()?;
                return Ok(Some(Round { target: target(self, tenant, &row, now)?, due }));
            }
        }
        go_on(&mut tx, task, id, state, held, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(None)
    }
}

fn endpoint(task: &Task) -> Result<Uuid> {
    tasks::ids(task)?.pop().ok_or_else(|| Error::Internal("a task of no webhook".to_owned()))
}

fn due(row: &Row) -> Result<DueDelivery> {
    Ok(DueDelivery {
        id: DeliveryId(row.uuid("delivery_id")?),
        body: row.text("body")?,
        attempt: row.narrow::<u32>("attempts")?.saturating_add(1),
    })
}

async fn lock(tx: &mut Tx, tenant: &TenantId, id: WebhookId) -> Result<Option<Row>> {
    statement!(
        LOCK,
        concat!(
            "SELECT ",
            webhook_columns!(),
            " FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 {for_update}"
        )
    );
    tx.fetch_optional(&LOCK, args![tenant, id.0]).await
}

/// Deletes what an endpoint that is deleted left behind, a page each time, and with the last page
/// itself.
async fn delete_page(tx: &mut Tx, task: &Task, id: WebhookId) -> Result<()> {
    statement!(PAGE, "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id IN
             (SELECT delivery_id FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2 LIMIT $3)");
    statement!(ENDPOINT, "DELETE FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2");
    // The task's row first, as in `go_on`: what is added by a transaction that holds it is seen.
    tasks::repeat(tx, task, Duration::ZERO).await?;
    if tx.execute(&PAGE, args![&task.tenant, id.0, DELETED_MAX]).await? > 0 {
        tx.has_tasks();
        return Ok(());
    }
    tx.execute(&ENDPOINT, args![&task.tenant, id.0]).await?;
    tasks::finish(tx, task).await
}

impl Store {
    /// Records what became of it, and has the task done again when the next is due. `draw` is
    /// uniform in 0.0..1.0.
    pub async fn end_round(
        &self,
        task: &Task,
        revision: i64,
        tried: Vec<DeliveryTried>,
        disable_after: Duration,
        draw: f64,
    ) -> Result<RoundEnd> {
        statement!(
            QUEUED,
            "SELECT count(*) AS n FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'queued'"
        );
        let (tenant, id) = (&task.tenant, WebhookId(endpoint(task)?));
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let row = lock(&mut tx, tenant, id).await?.ok_or(Error::Lapsed)?;
        let now = tx.now().await?;
        let before = read(&row)?;
        let dead = save(&mut tx, tenant, id, &tried, (now, draw)).await?;
        let health =
            Health { failing_since: before.failing_since, failures: row.narrow("failures")? };
        let answers: Vec<_> = tried.iter().map(|tried| tried.answer).collect();
        // Counted only where it may matter.
        let queued = if health.failing_since.is_some() {
            tx.fetch_one(&QUEUED, args![tenant, id.0]).await?.int("n")?
        } else {
            0
        };
        let (health, held, reason) = if row.int("revision")? == revision {
            health.after(&answers, queued, disable_after, (now, draw))
        } else {
            // Changed since: what was asked may be somebody else by now.
            (health, Timestamp(row.int("retry_at")?), None)
        };
        // One that was disabled or deleted meanwhile stays so.
        let disabled = reason.filter(|_| before.state == WebhookState::Enabled);
        let state = if disabled.is_some() { WebhookState::Disabled } else { before.state };
        save_health(&mut tx, tenant, id, (health, held), disabled, now).await?;
        trim(&mut tx, tenant, id, now).await?;
        go_on(&mut tx, task, id, state, held, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(RoundEnd { dead, disabled })
    }
}

/// Returns how many were given up.
async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    id: WebhookId,
    tried: &[DeliveryTried],
    (now, draw): (Timestamp, f64),
) -> Result<u32> {
    statement!(UPDATE, "UPDATE webhook_deliveries SET state = r.state, attempts = r.attempts, status_code = r.status_code,
             latency_ms = r.latency_ms, last_error = r.last_error, next_at = r.next_at, updated_at = $3
         FROM {rows 4 r: delivery_id uuid, state text, attempts bigint, status_code bigint, latency_ms bigint, last_error text, next_at bigint}
         WHERE webhook_deliveries.tenant_id = $1 AND webhook_deliveries.webhook_id = $2
             AND webhook_deliveries.delivery_id = r.delivery_id");
    let fate = |tried: &DeliveryTried| {
        if tried.answer.is_success() {
            return (DeliveryState::Delivered, now);
        }
        match webhook::again_at(tried.attempt, now, draw) {
            Some(at) => (DeliveryState::Queued, at),
            None => (DeliveryState::Dead, now),
        }
    };
    let fates: Vec<_> = tried.iter().map(fate).collect();
    let rows = Rows::new()
        .uuids(tried.iter().map(|tried| tried.id.0))
        .texts(fates.iter().map(|(state, _)| state.as_str().to_owned()))
        .ints(tried.iter().map(|tried| i64::from(tried.attempt)))
        .ints(tried.iter().map(|tried| match tried.answer {
            webhook::Answer::Status(status) => Some(i64::from(status)),
            webhook::Answer::None | webhook::Answer::Refused => None,
        }))
        .ints(tried.iter().map(|tried| i64::from(tried.latency_ms)))
        .texts(tried.iter().map(|tried| tried.error.as_deref().map(task::clip)))
        .ints(fates.iter().map(|(_, at)| at.0));
    tx.execute(&UPDATE, args![tenant, id.0, now, rows]).await?;
    let dead = fates.iter().filter(|(state, _)| *state == DeliveryState::Dead).count();
    Ok(u32::try_from(dead).unwrap_or(u32::MAX))
}

async fn save_health(
    tx: &mut Tx,
    tenant: &TenantId,
    id: WebhookId,
    (health, held): (Health, Timestamp),
    disabled: Option<DisabledReason>,
    now: Timestamp,
) -> Result<()> {
    statement!(
        HEALTH,
        "UPDATE webhooks SET failing_since = $3, failures = $4, retry_at = $5 WHERE tenant_id = $1 AND webhook_id = $2"
    );
    statement!(DISABLE, "UPDATE webhooks SET state = 'disabled', disabled_reason = $3, revision = revision + 1, updated_at = $4
         WHERE tenant_id = $1 AND webhook_id = $2");
    let values = args![tenant, id.0, health.failing_since, i64::from(health.failures), held];
    tx.execute(&HEALTH, values).await?;
    if let Some(reason) = disabled {
        tx.execute(&DISABLE, args![tenant, id.0, reason.as_str(), now]).await?;
        let detail = json!({ "state": WebhookState::Disabled, "reason": reason });
        audit::write_system(tx, tenant, "DisableWebhook", format!("webhook {id}"), &detail, now)
            .await?;
    }
    Ok(())
}

/// Deletes deliveries that ended long ago; a page, so that a round stays short.
async fn trim(tx: &mut Tx, tenant: &TenantId, id: WebhookId, now: Timestamp) -> Result<()> {
    statement!(TRIM, "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id IN
             (SELECT delivery_id FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2
                 AND delivery_id < $3 AND state <> 'queued' AND updated_at < $5 ORDER BY delivery_id LIMIT $4)");
    // Ids grow with time, and nothing ends before it begins.
    let oldest = leads::row::first_id(now - KEPT);
    tx.execute(&TRIM, args![tenant, id.0, oldest, DELETED_MAX, now - KEPT]).await.map(drop)
}

/// Puts the task off until the next delivery may be sent, or finishes it.
async fn go_on(
    tx: &mut Tx,
    task: &Task,
    id: WebhookId,
    state: WebhookState,
    held: Timestamp,
    now: Timestamp,
) -> Result<()> {
    statement!(NEXT, concat!("SELECT d.next_at ", heads!(), "ORDER BY d.next_at LIMIT 1"));
    // The task's row first: a transaction that adds a delivery holds it, too, so what it adds is
    // seen.
    tasks::repeat(tx, task, Duration::ZERO).await?;
    let next = match state {
        WebhookState::Enabled => {
            let next = tx.fetch_optional(&NEXT, args![&task.tenant, id.0]).await?;
            next.map(|row| row.int("next_at")).transpose()?
        }
        // Enabling it wakes it.
        WebhookState::Disabled => None,
        WebhookState::Deleted => Some(now.0),
    };
    match next {
        None => tasks::finish(tx, task).await,
        Some(next) => {
            let wait = Timestamp(next).max(held).since(now).min(LOOK_AGAIN_MAX);
            if wait.is_zero() {
                tx.has_tasks();
            }
            tasks::repeat(tx, task, wait).await
        }
    }
}

impl Store {
    /// In order of creation. Empty `states` means all.
    pub async fn list_deliveries(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        states: &[DeliveryState],
        page: Page,
    ) -> Result<Paged<DeliveryView>> {
        statement!(SELECT, "SELECT delivery_id, event_type, subject, state, attempts, status_code, latency_ms, last_error, next_at, body,
                 created_at, updated_at
             FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id > $3 AND state {any 4 text}
             ORDER BY delivery_id LIMIT $5");
        self.webhook(tenant, id).await?;
        let all = if states.is_empty() { DeliveryState::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let after = page.after.unwrap_or(Uuid::nil());
        let rows = tx.fetch(&SELECT, args![tenant, id.0, after, states, page.limit()]).await?;
        let items = rows.iter().map(view).collect::<Result<_>>()?;
        Ok(page.cut(items, |delivery: &DeliveryView| delivery.id.0))
    }
}

fn view(row: &Row) -> Result<DeliveryView> {
    let number = |column| -> Result<Option<u32>> {
        Ok(row.opt_int(column)?.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    };
    Ok(DeliveryView {
        id: DeliveryId(row.uuid("delivery_id")?),
        event_type: row.text("event_type")?,
        subject: row.text("subject")?,
        state: row.word("state", DeliveryState::from_word)?,
        attempts: row.narrow("attempts")?,
        status_code: number("status_code")?,
        latency_ms: number("latency_ms")?,
        last_error: row.opt_text("last_error")?,
        next_at: Timestamp(row.int("next_at")?),
        body: row.text("body")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

impl Store {
    /// Has a delivery sent once more, or now, whatever became of it.
    pub async fn redeliver(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        delivery: DeliveryId,
    ) -> Result<()> {
        statement!(AGAIN, "UPDATE webhook_deliveries SET state = 'queued', attempts = 0, next_at = $4, updated_at = $4
             WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id = $3");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let endpoint = lock(&mut tx, tenant, id).await?.ok_or(Error::NotFound("webhook"))?;
        if read(&endpoint)?.state == WebhookState::Deleted {
            return Err(Error::NotFound("webhook"));
        }
        let now = tx.now().await?;
        if tx.execute(&AGAIN, args![tenant, id.0, delivery.0, now]).await? == 0 {
            return Err(Error::NotFound("delivery"));
        }
        let detail = json!({ "delivery_id": delivery });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        webhooks::enqueue::wake(&mut tx, tenant, &[id.0], now).await?;
        tx.commit(&self.wakes).await
    }
}
