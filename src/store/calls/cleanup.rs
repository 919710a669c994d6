//! Ending what is stale of one tenant, when asked for: what the sweep does for all of them, at
//! once.

use uuid::Uuid;

use crate::domain::unknown::{ABANDONED_AFTER, STALE_AFTER};
use crate::domain::{RunId, TenantId};
use crate::store::audit::{self, Maintenance};
use crate::store::db::Scope;
use crate::store::db::sql::{args, statement};
use crate::store::{BATCH_MAX, CleanedUp, Result, Store, dispatch};

/// Runs looked up at a time.
const RUNS_PER_PAGE: i64 = 100;

impl Store {
    /// Ends what is proven stale of the tenant, in transactions of one page each. Limited like
    /// [`Store::reconcile_runs`], on its own.
    pub async fn cleanup_stale_calls(&self, tenant: &TenantId) -> Result<CleanedUp> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        audit::once_a_minute(&mut tx, tenant, Maintenance::CleanupStaleCalls).await?;
        tx.commit(&self.wakes).await?;
        let stale_calls = dispatch::takeover::presume_stale_of(self, tenant, STALE_AFTER).await?;
        let abandoned_intents =
            dispatch::takeover::lose_abandoned_of(self, tenant, ABANDONED_AFTER).await?;
        let (ended_jobs, ended_runs) = end_runs(self, tenant).await?;
        let done = CleanedUp { stale_calls, abandoned_intents, ended_jobs, ended_runs };
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let now = tx.now().await?;
        audit::write(&mut tx, &self.actor, tenant, format!("tenant {tenant}"), &done, now).await?;
        tx.commit(&self.wakes).await?;
        if done != CleanedUp::default() {
            let actor = self.actor.name();
            tracing::warn!(
                event = "stale_calls_cleaned_up", %tenant, actor, stale_calls, abandoned_intents, ended_jobs, ended_runs
            );
        }
        Ok(done)
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Ends queued jobs of runs that expired or were called off, and the runs: jobs and runs that
/// ended.
async fn end_runs(store: &Store, tenant: &TenantId) -> Result<(u32, u32)> {
    statement!(
        SELECT,
        "SELECT run_id FROM runs WHERE tenant_id = $1 AND ended_at IS NULL
             AND (state IN ('canceling', 'stopping') OR expires_at <= {now}) AND run_id > $2
         ORDER BY run_id LIMIT $3"
    );
    let (mut jobs, mut runs, mut after) = (0, 0, Uuid::nil());
    loop {
        let mut tx = store.db.read(Scope::Tenant(tenant)).await?;
        let page = tx.fetch(&SELECT, args![tenant, after, RUNS_PER_PAGE]).await?;
        drop(tx);
        if page.is_empty() {
            return Ok((jobs, runs));
        }
        for row in page {
            after = row.uuid("run_id")?;
            loop {
                let page = dispatch::sweep::end_page(store, tenant, RunId(after)).await?;
                jobs += number(page.jobs);
                runs += u32::from(page.run_ended);
                if page.jobs < BATCH_MAX {
                    break;
                }
            }
        }
    }
}
