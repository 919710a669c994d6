//! Ending what is stale of one tenant, when asked for: what the sweep does for all of them, at once.

use std::time::Duration;

use uuid::Uuid;

use super::audit::{self, Maintenance};
use super::{apply, sweep};
use crate::domain::call::News;
use crate::domain::unknown::{ABANDONED_AFTER, STALE_AFTER};
use crate::domain::{CallId, RunId, TenantId};
use crate::store::database::Scope;
use crate::store::engine::Engine;
use crate::store::sql::{Sql, args};
use crate::store::{Applied, BATCH_MAX, CleanedUp, Result};

/// Calls ended in one transaction.
const CALLS_PER_PAGE: i64 = 500;
/// Runs looked up at a time.
const RUNS_PER_PAGE: i64 = 100;

/// See [`crate::store::Store::cleanup_stale_calls`].
pub async fn cleanup(engine: &Engine, tenant: &TenantId) -> Result<CleanedUp> {
    // As in the sweep. A worker that never sent a heartbeat counts by the age of its intents alone; one that seems
    // dead may be suspended only, and send what it claimed less than 20 s (`SEND_WITHIN`) ago.
    static ABANDONED: Sql = Sql::new(
        "SELECT c.call_id FROM call_log c LEFT JOIN workers w ON w.worker_id = c.worker_id
         WHERE c.tenant_id = $1 AND c.ended_at IS NULL AND c.direction <> 'inbound' AND c.state = 'intent'
             AND (c.created_at < {now} - $2 OR w.expires_at < {now} AND c.created_at < {now} - 20000000)
             AND c.call_id > $3
         ORDER BY c.call_id LIMIT $4",
    );
    static STALE: Sql = Sql::new(
        "SELECT call_id FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound' AND state = 'unknown'
             AND created_at < {now} - $2 AND call_id > $3
         ORDER BY call_id LIMIT $4",
    );
    let mut tx = engine.db.begin(Scope::Tenant(tenant)).await?;
    audit::once_a_minute(&mut tx, tenant, Maintenance::CleanupStaleCalls).await?;
    tx.commit(&engine.wakes).await?;
    let stale_calls = tell(engine, tenant, &STALE, STALE_AFTER, &sweep::stale()).await?;
    let abandoned_intents = tell(engine, tenant, &ABANDONED, ABANDONED_AFTER, &sweep::lost()).await?;
    let (ended_jobs, ended_runs) = end_runs(engine, tenant).await?;
    let done = CleanedUp { stale_calls, abandoned_intents, ended_jobs, ended_runs };
    let mut tx = engine.db.begin(Scope::Tenant(tenant)).await?;
    let now = tx.now().await?;
    audit::write(&mut tx, &engine.actor, tenant, format!("tenant {tenant}"), &done, now).await?;
    tx.commit(&engine.wakes).await?;
    if done != CleanedUp::default() {
        let actor = engine.actor.name();
        tracing::warn!(
            event = "stale_calls_cleaned_up", %tenant, actor, stale_calls, abandoned_intents, ended_jobs, ended_runs
        );
    }
    Ok(done)
}

/// Brings `news` to every call that `select` finds for an age. Returns how many it moved.
async fn tell(
    engine: &Engine,
    tenant: &TenantId,
    select: &Sql,
    older_than: Duration,
    news: &News,
) -> Result<u32> {
    let age = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
    let (mut told, mut after) = (0, Uuid::nil());
    loop {
        let mut tx = engine.db.read(Scope::Tenant(tenant)).await?;
        let rows = tx.fetch(select, args![tenant, age, after, CALLS_PER_PAGE]).await?;
        drop(tx);
        let page: Vec<_> =
            rows.iter().map(|row| Ok((CallId(row.uuid("call_id")?), news.clone()))).collect::<Result<_>>()?;
        let Some((last, _)) = page.last() else { return Ok(told) };
        after = last.0;
        let applied = apply::apply(engine, tenant, &page).await?;
        told += number(applied.iter().filter(|applied| matches!(applied, Applied::Changed(_))).count());
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Ends queued jobs of runs that expired or were called off, and the runs: jobs and runs that ended.
async fn end_runs(engine: &Engine, tenant: &TenantId) -> Result<(u32, u32)> {
    static SELECT: Sql = Sql::new(
        "SELECT run_id FROM runs WHERE tenant_id = $1 AND ended_at IS NULL
             AND (state IN ('canceling', 'stopping') OR expires_at <= {now}) AND run_id > $2
         ORDER BY run_id LIMIT $3",
    );
    let (mut jobs, mut runs, mut after) = (0, 0, Uuid::nil());
    loop {
        let mut tx = engine.db.read(Scope::Tenant(tenant)).await?;
        let page = tx.fetch(&SELECT, args![tenant, after, RUNS_PER_PAGE]).await?;
        drop(tx);
        if page.is_empty() {
            return Ok((jobs, runs));
        }
        for row in page {
            after = row.uuid("run_id")?;
            loop {
                let page = sweep::end_page(engine, tenant, RunId(after)).await?;
                jobs += number(page.jobs);
                runs += u32::from(page.run_ended);
                if page.jobs < BATCH_MAX {
                    break;
                }
            }
        }
    }
}
