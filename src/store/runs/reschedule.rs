//! Jobs that claims put off, once the windows or caps that they went by have changed: moved to when
//! they may be dialed by what holds now, page by page, by a task.
//!
//! Each is looked at once, in the order of (run, job): one that is put off again meanwhile is not
//! met a second time. Later times are the claim's to find.

use uuid::Uuid;

use crate::domain::task::TaskKind;
use crate::domain::{RunId, TenantId, Timestamp};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::runs::opening::Openings;
use crate::store::{BATCH_MAX, Error, Result, Store, Task, jobs, runs, tasks, tenants};

/// How far it got: behind this job of this run, up to that run.
struct Cursor {
    run: Uuid,
    after: Uuid,
    last: Uuid,
}

/// Has the jobs of a run looked at that were put off.
pub async fn run(tx: &mut Tx, tenant: &TenantId, run: RunId, now: Timestamp) -> Result<()> {
    let cursor = Cursor { run: run.0, after: Uuid::nil(), last: run.0 };
    enqueue(tx, tenant, format!("run {run}"), &cursor, now).await
}

/// Has those of all of a tenant's runs looked at.
pub async fn all(tx: &mut Tx, tenant: &TenantId, now: Timestamp) -> Result<()> {
    let cursor = Cursor { run: Uuid::nil(), after: Uuid::nil(), last: Uuid::max() };
    enqueue(tx, tenant, "every run".to_owned(), &cursor, now).await
}

async fn enqueue(
    tx: &mut Tx,
    tenant: &TenantId,
    subject: String,
    cursor: &Cursor,
    now: Timestamp,
) -> Result<()> {
    let payload = tasks::payload(&[cursor.run, cursor.after, cursor.last]);
    let new = tasks::NewTask { kind: TaskKind::Reschedule, subject, payload, run_at: now };
    tasks::enqueue(tx, tenant, new, now).await
}

impl Store {
    /// Does a [`Reschedule`](crate::domain::task::TaskKind::Reschedule) task: one page.
    pub async fn reschedule(&self, task: &Task) -> Result<()> {
        let &[run, after, last] = tasks::ids(task)?.as_slice() else {
            return Err(Error::Internal("payload: not three ids".to_owned()));
        };
        let tenant = &task.tenant;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let next = step(&mut tx, tenant, Cursor { run, after, last }).await?;
        tasks::finish(&mut tx, task).await?;
        if let Some(next) = next {
            let now = tx.now().await?;
            enqueue(&mut tx, tenant, task.subject.clone(), &next, now).await?;
        }
        tx.commit(&self.wakes).await
    }
}

/// One page, of one run; where the next begins, unless there is none.
async fn step(tx: &mut Tx, tenant: &TenantId, cursor: Cursor) -> Result<Option<Cursor>> {
    let Some(id) = next_run(tx, tenant, &cursor).await? else { return Ok(None) };
    let mut run = runs::row::lock_one(tx, tenant, id).await?;
    // Read under the lock, and no job is put before it: claims do not look behind their low-water
    // mark.
    let now = tx.now().await?;
    let after = if id.0 == cursor.run { cursor.after } else { Uuid::nil() };
    let candidates = jobs::queue::put_off(tx, tenant, id, after, BATCH_MAX).await?;
    let after = candidates.last().map_or(Uuid::max(), |candidate| candidate.row.id.0);
    if run.state.may_dial() {
        let settings = tenants::access::tenant(tx, tenant).await?.tenant;
        let mut openings = Openings::read(tx, &settings, &run, &candidates, now).await?;
        let mut sooner = Vec::new();
        for candidate in candidates {
            let opening = openings.of(&candidate)?;
            if opening < candidate.row.job.eligible_at {
                sooner.push((candidate, opening));
            }
        }
        jobs::queue::defer(tx, tenant, &mut run, sooner, now).await?;
        if run.is_changed() {
            runs::finish(tx, tenant, run, now).await?;
        }
    }
    Ok(Some(Cursor { run: id.0, after, last: cursor.last }))
}

/// The run of the next job that was put off.
async fn next_run(tx: &mut Tx, tenant: &TenantId, cursor: &Cursor) -> Result<Option<RunId>> {
    statement!(
        NEXT,
        "SELECT run_id FROM ready_jobs
         WHERE tenant_id = $1 AND (run_id, job_id) > ($2, $3) AND run_id <= $4 AND put_off
         ORDER BY run_id, job_id LIMIT 1"
    );
    let row =
        tx.fetch_optional(&NEXT, args![tenant, cursor.run, cursor.after, cursor.last]).await?;
    row.map(|row| Ok(RunId(row.uuid("run_id")?))).transpose()
}
