//! The audit log, which only grows; and the limit on maintenance that a client asks for.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::{TenantId, Timestamp};
use crate::store::database::Tx;
use crate::store::sql::{Sql, args, to_json};
use crate::store::{Error, MAINTENANCE_INTERVAL, Result};

/// One entry. Like a log line it holds ids and facts, never a phone or a secret.
pub struct Entry<'a, D> {
    /// The key's id, or `system`.
    pub actor: &'a str,
    /// The RPC's name.
    pub method: &'static str,
    /// Kind and id of what changed.
    pub subject: String,
    /// What was done.
    pub detail: D,
}

/// Writes an entry in the transaction of what it tells.
pub async fn write<D: Serialize>(
    tx: &mut Tx,
    tenant: &TenantId,
    entry: Entry<'_, D>,
    now: Timestamp,
) -> Result<()> {
    static INSERT: Sql = Sql::new(
        "INSERT INTO audit_log (tenant_id, audit_id, at, actor, method, subject, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    let detail = to_json(&entry.detail)?;
    let values = args![tenant, Uuid::now_v7(), now, entry.actor, entry.method, entry.subject, detail];
    tx.execute(&INSERT, values).await?;
    Ok(())
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

/// Notes that the tenant has this done now, or says how long it has to wait. The row's lock makes it hold across
/// processes.
pub async fn once_a_minute(tx: &mut Tx, tenant: &TenantId, kind: Maintenance) -> Result<()> {
    static TAKE: Sql = Sql::new(
        "INSERT INTO maintenance (tenant_id, kind, last_at) VALUES ($1, $2, {now})
         ON CONFLICT (tenant_id, kind) DO UPDATE SET last_at = excluded.last_at
         WHERE maintenance.last_at <= excluded.last_at - $3",
    );
    static LAST: Sql =
        Sql::new("SELECT last_at, {now} AS now FROM maintenance WHERE tenant_id = $1 AND kind = $2");
    let interval = i64::try_from(MAINTENANCE_INTERVAL.as_micros()).unwrap_or(i64::MAX);
    if tx.execute(&TAKE, args![tenant, kind.as_str(), interval]).await? > 0 {
        return Ok(());
    }
    let row = tx.fetch_one(&LAST, args![tenant, kind.as_str()]).await?;
    let again = Timestamp(row.int("last_at")?) + MAINTENANCE_INTERVAL;
    let retry_after = again.since(Timestamp(row.int("now")?)).max(Duration::from_millis(1));
    Err(Error::TooSoon { retry_after })
}
