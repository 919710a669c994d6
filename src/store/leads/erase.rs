//! A lead deleted, and what is personal about it erased wherever else it was kept. What remains are
//! facts about nobody: that a job was done, that a call lasted so long.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::job::{self, JobState};
use crate::domain::task::TaskKind;
use crate::domain::webhook::Told;
use crate::domain::{LeadId, TenantId, Timestamp};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, ReadyKey, job_columns};
use crate::store::{
    LeadErased, RequestKey, Result, Store, Task, audit, jobs, keys, leads, runs, suppressions,
    tasks,
};

/// A job that was being added while the lead was deleted, or whose call was going on then, is
/// looked for again after this, until there is none.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Store {
    /// Deletes a lead and erases what is personal about it from jobs and calls; its queued jobs are
    /// skipped.
    pub async fn delete_lead(
        &self,
        tenant: &TenantId,
        id: LeadId,
        seen: Option<i64>,
        key: Option<RequestKey>,
    ) -> Result<LeadErased> {
        statement!(DELETE, "DELETE FROM leads WHERE tenant_id = $1 AND lead_id = $2");
        statement!(FORGET, "DELETE FROM lead_events WHERE tenant_id = $1 AND lead_id = $2");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(erased) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(erased);
        }
        let (mut erased, _) = erase_jobs(&mut tx, tenant, id).await?;
        // After the runs' locks, as whoever adds jobs takes them.
        let lead = leads::lock(&mut tx, tenant, id).await?;
        leads::check_seen(&lead, seen)?;
        erased.calls_erased += erase_inbound(&mut tx, tenant, lead.facts.phone.expose()).await?;
        suppressions::forget_note(&mut tx, tenant, lead.facts.phone.expose()).await?;
        tx.execute(&FORGET, args![tenant, id.0]).await?;
        tx.execute(&DELETE, args![tenant, id.0]).await?;
        tx.tell(tenant, [Told::lead_deleted(id)]);
        let now = tx.now().await?;
        let new = tasks::NewTask {
            kind: TaskKind::EraseLead,
            subject: format!("lead {id}"),
            payload: tasks::payload(&[id.0]),
            run_at: now + LOOK_AGAIN_AFTER,
        };
        tasks::enqueue(&mut tx, tenant, new, now).await?;
        audit::write(&mut tx, &self.actor, tenant, format!("lead {id}"), &erased, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &erased, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(erased)
    }
}

impl Store {
    /// Does an [`EraseLead`](crate::domain::task::TaskKind::EraseLead) task and takes it off the
    /// table.
    pub async fn erase_lead_again(&self, task: &Task) -> Result<()> {
        let mut tx = self.db.begin(Scope::Tenant(&task.tenant)).await?;
        let mut live = 0;
        for lead in tasks::ids(task)? {
            live += erase_jobs(&mut tx, &task.tenant, LeadId(lead)).await?.1;
        }
        if live == 0 {
            tasks::finish(&mut tx, task).await?;
        } else {
            // Every call ends, so this does.
            tasks::repeat(&mut tx, task, LOOK_AGAIN_AFTER).await?;
        }
        tx.commit(&self.wakes).await
    }
}

/// Skips the lead's queued jobs, erases all its jobs and their calls that have ended. Returns how
/// many calls go on.
async fn erase_jobs(tx: &mut Tx, tenant: &TenantId, lead: LeadId) -> Result<(LeadErased, u32)> {
    statement!(
        RUNS,
        "SELECT DISTINCT run_id FROM jobs WHERE tenant_id = $1 AND lead_id = $2 ORDER BY run_id"
    );
    statement!(
        JOBS,
        concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs j WHERE j.tenant_id = $1 AND j.lead_id = $2 ORDER BY j.job_id"
        )
    );
    statement!(
        ERASE_JOBS,
        "UPDATE jobs SET phone = '', time_zone = NULL, metadata = NULL
         WHERE tenant_id = $1 AND job_id {any 2 uuid} AND phone <> ''"
    );
    statement!(ERASE_CALLS, "UPDATE call_log SET phone_to = '' WHERE tenant_id = $1 AND job_id {any 2 uuid} AND ended_at IS NOT NULL
             AND phone_to <> ''");
    statement!(
        LIVE,
        "SELECT count(*) AS live FROM call_log WHERE tenant_id = $1 AND job_id {any 2 uuid} AND ended_at IS NULL"
    );
    let rows = tx.fetch(&RUNS, args![tenant, lead.0]).await?;
    let in_runs: Vec<Uuid> = rows.iter().map(|row| row.uuid("run_id")).collect::<Result<_>>()?;
    if in_runs.is_empty() {
        return Ok((LeadErased::default(), 0));
    }
    let mut locked = runs::row::lock(tx, tenant, in_runs).await?;
    let now = tx.now().await?;
    let rows = tx.fetch(&JOBS, args![tenant, lead.0]).await?;
    let mut jobs = rows.iter().map(JobRow::read).collect::<Result<Vec<_>>>()?;
    // Of a run that came after the locks, by a job that was being added: it is the task's.
    jobs.retain(|row| locked.iter().any(|run| run.id == row.run_id));
    let ids: Vec<Uuid> = jobs.iter().map(|row| row.id.0).collect();
    let skipped = skip(tx, tenant, &mut locked, &mut jobs, now).await?;
    for run in locked {
        runs::finish(tx, tenant, run, now).await?;
    }
    let calls = tx.execute(&ERASE_CALLS, args![tenant, ids.clone()]).await?;
    let erased = tx.execute(&ERASE_JOBS, args![tenant, ids.clone()]).await?;
    let live = tx.fetch_one(&LIVE, args![tenant, ids]).await?.narrow("live")?;
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let erased = LeadErased {
        jobs_skipped: skipped,
        jobs_erased: number(erased),
        calls_erased: number(calls),
    };
    Ok((erased, live))
}

async fn skip(
    tx: &mut Tx,
    tenant: &TenantId,
    locked: &mut [runs::row::RunRow],
    jobs: &mut [JobRow],
    now: Timestamp,
) -> Result<u32> {
    let mut keys = Vec::new();
    let mut skipped = Vec::new();
    for row in jobs.iter_mut().filter(|row| row.job.state == JobState::Queued) {
        let Some(run) = locked.iter_mut().find(|run| run.id == row.run_id) else { continue };
        keys.push(ReadyKey::of(row));
        let ended = job::called_off(&row.job, JobState::Skipped);
        row.move_to(run, ended);
        skipped.push(&*row);
    }
    jobs::row::dequeue(tx, tenant, &keys).await?;
    jobs::row::save(tx, tenant, &skipped, now).await?;
    for run in locked {
        run.settle(now);
    }
    Ok(u32::try_from(keys.len()).unwrap_or(u32::MAX))
}

async fn erase_inbound(tx: &mut Tx, tenant: &TenantId, phone: &str) -> Result<u32> {
    statement!(
        ERASE,
        "UPDATE call_log SET phone_from = '' WHERE tenant_id = $1 AND phone_from = $2 AND direction = 'inbound'"
    );
    let erased = tx.execute(&ERASE, args![tenant, phone]).await?;
    Ok(u32::try_from(erased).unwrap_or(u32::MAX))
}
