//! The outbox of webhooks: what a transaction told becomes deliveries in that transaction, at its
//! very end, all in a few statements. A transaction that tells nothing does nothing here; one of a
//! tenant without endpoints asks once.

use uuid::Uuid;

use crate::domain::task::TaskKind;
use crate::domain::webhook::{self, Told};
use crate::domain::{TenantId, Timestamp};
use crate::store::db::Tx;
use crate::store::db::sql::{Rows, args, statement};
use crate::store::{Result, tasks};

/// Writes a delivery for each endpoint and each event that it asked for.
pub async fn write(tx: &mut Tx, tenant: &TenantId, told: Vec<Told>) -> Result<()> {
    statement!(
        ENDPOINTS,
        "SELECT webhook_id, event_types FROM webhooks WHERE tenant_id = $1 AND state = 'enabled' ORDER BY webhook_id"
    );
    statement!(INSERT, "INSERT INTO webhook_deliveries (tenant_id, webhook_id, delivery_id, subject, position, event_type, body, state,
             next_at, created_at, updated_at)
         SELECT $1, r.webhook_id, r.delivery_id, r.subject, r.position, r.event_type, r.body, 'queued', $2, $2, $2
         FROM {rows 3 r: webhook_id uuid, delivery_id uuid, subject text, position bigint, event_type text, body text}");
    let endpoints = tx.fetch(&ENDPOINTS, args![tenant]).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let now = tx.now().await?;
    let mut awake = Vec::with_capacity(endpoints.len());
    let mut due: Vec<(Uuid, &Told)> = Vec::new();
    for row in &endpoints {
        let (id, filters) = (row.uuid("webhook_id")?, row.json::<Vec<String>>("event_types")?);
        let before = due.len();
        due.extend(
            told.iter().filter(|told| webhook::wants(&filters, told.kind)).map(|told| (id, told)),
        );
        if due.len() > before {
            awake.push(id);
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuids(due.iter().map(|(id, _)| *id))
        // Drawn in the order of telling, by which what has one position is sent.
        .uuids(due.iter().map(|_| Uuid::now_v7()))
        .texts(due.iter().map(|(_, told)| told.subject.clone()))
        .ints(due.iter().map(|(_, told)| told.position))
        .texts(due.iter().map(|(_, told)| told.kind.as_str().to_owned()))
        .texts(due.iter().map(|(_, told)| webhook::body(told.kind, now, &told.data)));
    tx.execute(&INSERT, args![tenant, now, rows]).await?;
    wake(tx, tenant, &awake, now).await
}

/// Whether the tenant has an endpoint that is told anything.
pub async fn is_heard(tx: &mut Tx, tenant: &TenantId) -> Result<bool> {
    statement!(
        ANY,
        "SELECT webhook_id FROM webhooks WHERE tenant_id = $1 AND state = 'enabled' LIMIT 1"
    );
    Ok(tx.fetch_optional(&ANY, args![tenant]).await?.is_some())
}

/// Sees to it that each endpoint has its one task, and that it is due. The task has the endpoint's
/// id, so there are never two; a round that is under way sees what came meanwhile when it ends,
/// because it then locks the same row.
pub async fn wake(
    tx: &mut Tx,
    tenant: &TenantId,
    endpoints: &[Uuid],
    now: Timestamp,
) -> Result<()> {
    statement!(WAKE, "INSERT INTO tasks (tenant_id, task_id, kind, subject, payload, state, run_at, created_at, updated_at)
         SELECT $1, r.task_id, $2, r.subject, r.payload, 'queued', $3, $3, $3
         FROM {rows 4 r: task_id uuid, subject text, payload text}
         WHERE true
         ON CONFLICT (tenant_id, task_id) DO UPDATE SET state = 'queued',
             attempts = CASE WHEN tasks.state = 'dead' THEN 0 ELSE tasks.attempts END,
             run_at = CASE WHEN tasks.claimed_by IS NULL AND tasks.run_at > excluded.run_at THEN excluded.run_at
                 ELSE tasks.run_at END,
             updated_at = excluded.updated_at");
    let rows = Rows::new()
        .uuids(endpoints.iter().copied())
        .texts(endpoints.iter().map(|id| format!("webhook {id}")))
        .texts(endpoints.iter().map(|id| tasks::payload(&[*id])));
    tx.execute(&WAKE, args![tenant, TaskKind::DeliverWebhooks.as_str(), now, rows]).await?;
    tx.has_tasks();
    Ok(())
}
