//! The audit log, which only grows; and the limit on maintenance that a client asks for.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::time::micros;
use crate::domain::{TenantId, Timestamp};
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::{
    Actor, AuditEvent, AuditFilter, Error, MAINTENANCE_INTERVAL, Page, Paged, Result, Store,
};

/// Writes, in the transaction of what it tells, that the actor did something to `subject` (its kind
/// and id). `detail` holds ids and facts, like a log line: never a phone or a secret. What the
/// system does by itself is not written, but for [`write_system`].
pub async fn write<D: Serialize>(
    tx: &mut Tx,
    actor: &Actor,
    tenant: &TenantId,
    subject: String,
    detail: &D,
    now: Timestamp,
) -> Result<()> {
    statement!(INSERT, "INSERT INTO audit_log (tenant_id, audit_id, at, actor, actor_tenant, peer, method, subject, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let Some(client) = actor.client() else { return Ok(()) };
    let values = args![
        tenant,
        Uuid::now_v7(),
        now,
        client.key_id.as_str(),
        &client.tenant,
        client.peer.map(|peer| peer.to_string()),
        client.method,
        subject,
        to_json(detail)?,
    ];
    tx.execute(&INSERT, values).await?;
    Ok(())
}

/// The same of what the system did by itself to a tenant, where its administrators have to know of
/// it. `method` says what, in the form of an RPC's name.
pub async fn write_system<D: Serialize>(
    tx: &mut Tx,
    tenant: &TenantId,
    method: &'static str,
    subject: String,
    detail: &D,
    now: Timestamp,
) -> Result<()> {
    statement!(
        INSERT,
        "INSERT INTO audit_log (tenant_id, audit_id, at, actor, method, subject, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    );
    let actor = Actor::System;
    let values =
        args![tenant, Uuid::now_v7(), now, actor.name(), method, subject, to_json(detail)?];
    tx.execute(&INSERT, values).await?;
    Ok(())
}

/// The same for what belongs to no tenant: it stands in the log of the actor's own.
pub async fn write_own<D: Serialize>(
    tx: &mut Tx,
    actor: &Actor,
    subject: String,
    detail: &D,
    now: Timestamp,
) -> Result<()> {
    match actor.client() {
        Some(client) => write(tx, actor, &client.tenant, subject, detail, now).await,
        None => Ok(()),
    }
}

impl Store {
    /// Newest first.
    pub async fn list_audit_events(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<Paged<AuditEvent>> {
        // Ids grow with time, so the key gives the order. A filter that is absent is NULL.
        statement!(SELECT, "SELECT audit_id, at, actor, actor_tenant, peer, method, subject, detail FROM audit_log
             WHERE tenant_id = $1 AND audit_id < $2 AND at >= $3 AND at < $4
                 AND actor = COALESCE($5, actor) AND method = COALESCE($6, method) AND subject = COALESCE($7, subject)
             ORDER BY audit_id DESC LIMIT $8");
        let values = args![
            tenant,
            page.after.unwrap_or(Uuid::max()),
            filter.from.unwrap_or(Timestamp(i64::MIN)),
            filter.until.unwrap_or(Timestamp::NEVER),
            filter.actor.clone(),
            filter.method.clone(),
            filter.subject.clone(),
            page.limit(),
        ];
        let mut tx = self.db.read(Scope::Owner).await?;
        crate::store::tenants::view(&mut tx, tenant).await?;
        let rows = tx.fetch(&SELECT, values).await?;
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(page.cut(items, |event: &AuditEvent| event.id))
    }
}

fn read(row: &Row) -> Result<AuditEvent> {
    Ok(AuditEvent {
        id: row.uuid("audit_id")?,
        at: Timestamp(row.int("at")?),
        actor: row.text("actor")?,
        actor_tenant: row.opt_text("actor_tenant")?.map(|tenant| tenant.parse()).transpose()?,
        peer: row.opt_text("peer")?,
        method: row.text("method")?,
        subject: row.text("subject")?,
        detail: row.json("detail")?,
    })
}

crate::domain::state_words! {
    /// What a client may ask for once a minute.
    pub enum Maintenance {
        /// Holding runs against their jobs and calls.
        ReconcileRuns = "reconcile_runs",
        /// Ending what is stale.
        CleanupStaleCalls = "cleanup_stale_calls",
    }
}

/// Notes that the tenant has this done now, or says how long it has to wait. The row's lock makes
/// it hold across processes.
pub async fn once_a_minute(tx: &mut Tx, tenant: &TenantId, kind: Maintenance) -> Result<()> {
    statement!(
        TAKE,
        "INSERT INTO maintenance (tenant_id, kind, last_at) VALUES ($1, $2, {now})
         ON CONFLICT (tenant_id, kind) DO UPDATE SET last_at = excluded.last_at
         WHERE maintenance.last_at <= excluded.last_at - $3"
    );
    statement!(
        LAST,
        "SELECT last_at, {now} AS now FROM maintenance WHERE tenant_id = $1 AND kind = $2"
    );
    if tx.execute(&TAKE, args![tenant, kind.as_str(), micros(MAINTENANCE_INTERVAL)]).await? > 0 {
        return Ok(());
    }
    let row = tx.fetch_one(&LAST, args![tenant, kind.as_str()]).await?;
    let again = Timestamp(row.int("last_at")?) + MAINTENANCE_INTERVAL;
    let retry_after = again.since(Timestamp(row.int("now")?)).max(Duration::from_millis(1));
    Err(Error::TooSoon { retry_after })
}
