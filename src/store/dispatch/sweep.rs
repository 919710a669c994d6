//! The slow sweep: pages of work across tenants, each in a transaction of its own tenant.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::amd::{Intervention, OnMachine};
use crate::domain::run::RunSettings;
use crate::domain::script::Script;
use crate::domain::time::micros;
use crate::domain::{AccountSid, CallId, CallSid, RunId, TenantId, Timestamp, WorkerId};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{BATCH_MAX, Hangup, Result, Store, keys, runs};

/// Runs that one sweep works on.
const RUNS_MAX: i64 = 64;
/// A hang-up of which nothing came is asked for again after this.
const HANGUP_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Kept answers that one sweep deletes.
const ANSWERS_MAX: i64 = 1_000;

impl Store {
    /// Says that the worker lives.
    pub async fn heartbeat(&self, worker: &WorkerId, lives_for: Duration) -> Result<()> {
        statement!(
            PUT,
            "INSERT INTO workers (worker_id, started_at, heartbeat_at, expires_at)
             VALUES ($1, {now}, {now}, {now} + $2)
             ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at,
                 expires_at = excluded.expires_at"
        );
        let mut tx = self.db.begin(Scope::Scheduler).await?;
        tx.execute(&PUT, args![worker.0.as_str(), micros(lives_for)]).await?;
        tx.commit(&self.wakes).await
    }
}

impl Store {
    /// Ends a page of queued jobs of runs that were called off or expired, settles runs that are
    /// done, and recomputes when tenants have work. Returns whether there is more to do at once.
    pub async fn sweep(&self) -> Result<bool> {
        let ending = runs_that_end(self).await?;
        let mut more = false;
        for (tenant, run) in ending {
            more |= end_page(self, &tenant, run).await?.jobs == BATCH_MAX;
        }
        wake_idle_tenants(self).await?;
        forget_answers(self).await?;
        Ok(more)
    }
}

/// Runs that were called off or have expired.
async fn runs_that_end(store: &Store) -> Result<Vec<(TenantId, RunId)>> {
    statement!(SELECT, "SELECT tenant_id, run_id FROM runs
         WHERE ended_at IS NULL AND (state IN ('canceling', 'stopping') OR expires_at <= {now}) LIMIT $1");
    let mut tx = store.db.read(Scope::Scheduler).await?;
    let rows = tx.fetch(&SELECT, args![RUNS_MAX]).await?;
    rows.iter()
        .map(|row| Ok((row.text("tenant_id")?.parse()?, RunId(row.uuid("run_id")?))))
        .collect()
}

/// What became of a run that was called off or has expired.
pub(in crate::store) struct EndedPage {
    /// Queued jobs that ended.
    pub jobs: usize,
    /// Whether the run ended with them.
    pub run_ended: bool,
}

/// Ends a page of the run's queued jobs and settles it. A page that was full may have more behind
/// it.
pub(in crate::store) async fn end_page(
    store: &Store,
    tenant: &TenantId,
    run: RunId,
) -> Result<EndedPage> {
    let mut tx = store.db.begin(Scope::Tenant(tenant)).await?;
    let mut run = runs::row::lock_one(&mut tx, tenant, run).await?;
    let now = tx.now().await?;
    let before = run.state;
    let jobs = runs::end_queued_page(&mut tx, tenant, &mut run, now).await?;
    run.settle(now);
    let run_ended = run.state.is_ended() && !before.is_ended();
    runs::row::save(&mut tx, tenant, &mut [run], now).await?;
    tx.commit(&store.wakes).await?;
    Ok(EndedPage { jobs, run_ended })
}

/// Lets dialers look at every tenant that has queued jobs of a run that may dial, in case a wake-up
/// was lost in a crash. A look that finds nothing costs one claim.
async fn wake_idle_tenants(store: &Store) -> Result<()> {
    statement!(
        HINTS,
        "SELECT DISTINCT tenant_id FROM runs WHERE ended_at IS NULL AND state IN ('pending', 'running')"
    );
    let mut tx = store.db.read(Scope::Scheduler).await?;
    let tenants: Vec<TenantId> = tx
        .fetch(&HINTS, Vec::new())
        .await?
        .iter()
        .map(|row| Ok(row.text("tenant_id")?.parse()?))
        .collect::<Result<_>>()?;
    drop(tx);
    for tenant in tenants {
        correct_hints(store, &tenant).await?;
    }
    Ok(())
}

/// Recomputes, from the queue itself, when the tenant's runs are claimable, and wakes the tenant.
async fn correct_hints(store: &Store, tenant: &TenantId) -> Result<()> {
    statement!(
        CORRECT,
        "UPDATE runs SET claimable_at = (SELECT min(q.eligible_at) FROM ready_jobs q
             WHERE q.tenant_id = $1 AND q.run_id = runs.run_id)
         WHERE tenant_id = $1 AND ended_at IS NULL AND queued > 0 AND EXISTS
             (SELECT 1 FROM ready_jobs q WHERE q.tenant_id = $1 AND q.run_id = runs.run_id
                  AND q.eligible_at < runs.claimable_at)"
    );
    statement!(FIRST, "SELECT min(claimable_at) AS claimable_at FROM runs
         WHERE tenant_id = $1 AND ended_at IS NULL AND state IN ('pending', 'running') AND queued > 0");
    let mut tx = store.db.begin(Scope::Tenant(tenant)).await?;
    let now = tx.now().await?;
    tx.execute(&CORRECT, args![tenant]).await?;
    if let Some(first) = tx.fetch_one(&FIRST, args![tenant]).await?.opt_int("claimable_at")? {
        tx.has_work(tenant, Timestamp(first).max(now));
    }
    tx.commit(&store.wakes).await
}

async fn forget_answers(store: &Store) -> Result<()> {
    statement!(
        DELETE,
        "DELETE FROM request_ids WHERE (tenant_id, method, request_id) IN
             (SELECT tenant_id, method, request_id FROM request_ids WHERE created_at <= $1
              ORDER BY created_at LIMIT $2)"
    );
    let mut tx = store.db.begin(Scope::Scheduler).await?;
    // A value: PostgreSQL does not look an expression of its clock up in an index.
    let until = tx.now().await? - keys::requests::KEPT;
    tx.execute(&DELETE, args![until, ANSWERS_MAX]).await?;
    tx.commit(&store.wakes).await
}

impl Store {
    /// Calls to hang up, with a SID: live ones of runs that are stopping, and orphans. They are
    /// marked as asked for, and come again if nothing comes of it.
    pub async fn take_hangups(&self, limit: u32) -> Result<Vec<Hangup>> {
        statement!(
            STOPPING,
            "SELECT DISTINCT tenant_id FROM runs WHERE ended_at IS NULL AND state = 'stopping'
             UNION SELECT DISTINCT tenant_id FROM call_log WHERE intervention IS NOT NULL LIMIT $1"
        );
        // Asked again when nothing came of it, but for a message, which must not be left twice.
        statement!(MARK, "UPDATE call_log SET hangup_asked_at = {now} WHERE tenant_id = $1 AND call_id IN
                 (SELECT c.call_id FROM call_log c JOIN runs r ON r.tenant_id = c.tenant_id AND r.run_id = c.run_id
                  WHERE c.tenant_id = $1 AND c.ended_at IS NULL AND c.direction <> 'inbound' AND r.state = 'stopping'
                      AND c.call_sid IS NOT NULL AND (c.hangup_asked_at IS NULL OR c.hangup_asked_at < {now} - $2)
                  UNION ALL
                  SELECT c.call_id FROM call_log c WHERE c.tenant_id = $1 AND c.intervention IS NOT NULL
                      AND c.call_sid IS NOT NULL AND (c.hangup_asked_at IS NULL
                           OR c.hangup_asked_at < {now} - $2 AND c.intervention <> 'leave_message')
                  LIMIT $3)
             RETURNING call_id, call_sid, account_sid, run_id, intervention");
        let mut tx = self.db.read(Scope::Scheduler).await?;
        let tenants = tx.fetch(&STOPPING, args![RUNS_MAX]).await?;
        drop(tx);
        let mut hangups = Vec::new();
        for row in tenants {
            let tenant: TenantId = row.text("tenant_id")?.parse()?;
            let left =
                i64::from(limit).saturating_sub(i64::try_from(hangups.len()).unwrap_or(i64::MAX));
            let mut tx = self.db.begin(Scope::Tenant(&tenant)).await?;
            let marked = tx.fetch(&MARK, args![&tenant, micros(HANGUP_AGAIN_AFTER), left]).await?;
            let messages = messages(&mut tx, &tenant, &marked).await?;
            for call in &marked {
                let run = if leaves_message(call)? { call.opt_uuid("run_id")? } else { None };
                hangups.push(Hangup {
                    tenant: tenant.clone(),
                    call_id: CallId(call.uuid("call_id")?),
                    sid: call.text("call_sid")?.parse::<CallSid>()?,
                    account: call.text("account_sid")?.parse::<AccountSid>()?,
                    message: run.and_then(|run| messages.get(&run)).cloned(),
                });
            }
            tx.commit(&self.wakes).await?;
        }
        Ok(hangups)
    }
}

fn leaves_message(call: &Row) -> Result<bool> {
    Ok(call.opt_text("intervention")?.as_deref() == Some(Intervention::LeaveMessage.as_str()))
}

/// What is to be said to machines that answered, by run.
async fn messages(tx: &mut Tx, tenant: &TenantId, calls: &[Row]) -> Result<HashMap<Uuid, Script>> {
    statement!(
        SELECT,
        "SELECT run_id, settings FROM runs WHERE tenant_id = $1 AND run_id {any 2 uuid}"
    );
    let mut runs = BTreeSet::new();
    for call in calls {
        if leaves_message(call)? {
            runs.extend(call.opt_uuid("run_id")?);
        }
    }
    let mut messages = HashMap::new();
    if runs.is_empty() {
        return Ok(messages);
    }
    for row in tx.fetch(&SELECT, args![tenant, runs.into_iter().collect::<Vec<_>>()]).await? {
        match row.json::<RunSettings>("settings")?.amd.map(|amd| amd.on_machine) {
            Some(OnMachine::LeaveMessage(script)) => {
                drop(messages.insert(row.uuid("run_id")?, script))
            }
            // The setting was changed since; the machine is not worth an error.
            Some(OnMachine::HangUp | OnMachine::TreatAsAnswered) | None => {}
        }
    }
    Ok(messages)
}
