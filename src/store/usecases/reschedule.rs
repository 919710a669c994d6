//! Jobs that were put off, once the windows or caps that did it have changed: moved to when they may be dialed by what
//! holds now, page by page, by a task.
//!
//! The queue keeps when such a job was due (`ready_jobs.due_at`). Each is looked at once, in the order of (run, job):
//! one that is put off again by the new rules is not met a second time. Later times are the claim's to find.

use uuid::Uuid;

use super::{access, runs, tasks};
use crate::domain::job::Job;
use crate::domain::task::TaskKind;
use crate::domain::{Phone, RunId, TenantId, Timestamp, window};
use crate::store::database::{Scope, Tx};
use crate::store::engine::Engine;
use crate::store::job_row::{self, Held, JobRow, ReadyKey, job_columns};
use crate::store::run_row;
use crate::store::sql::{Sql, args};
use crate::store::{BATCH_MAX, Error, Result, Task};

/// How far it got: behind this job of this run, up to that run.
struct Cursor {
    run: Uuid,
    after: Uuid,
    last: Uuid,
}

impl Cursor {
    fn payload(&self) -> String {
        tasks::payload(&[self.run, self.after, self.last])
    }
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
    let payload = cursor.payload();
    tasks::enqueue(
        tx,
        tenant,
        tasks::NewTask { kind: TaskKind::Reschedule, subject, payload, run_at: now },
        now,
    )
    .await
}

/// See [`crate::store::Store::reschedule`].
pub async fn page(engine: &Engine, task: &Task) -> Result<()> {
    let &[run, after, last] = tasks::ids(task)?.as_slice() else {
        return Err(Error::Internal("payload: not three ids".to_owned()));
    };
    let cursor = Cursor { run, after, last };
    let tenant = &task.tenant;
    let mut tx = engine.db.begin(Scope::Tenant(tenant)).await?;
    tasks::finish(&mut tx, task).await?;
    if let Some(next) = step(&mut tx, tenant, cursor).await? {
        let now = tx.now().await?;
        enqueue(&mut tx, tenant, task.subject.clone(), &next, now).await?;
    }
    tx.commit(&engine.wakes).await
}

/// One page, of one run; where the next begins, unless there is none.
async fn step(tx: &mut Tx, tenant: &TenantId, cursor: Cursor) -> Result<Option<Cursor>> {
    let Some(id) = next_run(tx, tenant, &cursor).await? else { return Ok(None) };
    let mut run = run_row::lock_one(tx, tenant, id).await?;
    // Read under the lock, and no job is put before it: claims do not look behind their low-water mark.
    let now = tx.now().await?;
    let after = if id.0 == cursor.run { cursor.after } else { Uuid::nil() };
    let held = held(tx, tenant, id, after).await?;
    let tenants = access::tenant(tx, tenant).await?.tenant;
    let schedule = run.settings.schedule(tenants.window);
    let (mut left, mut jobs, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let after = held.last().map_or(Uuid::max(), |job| job.row.id.0);
    for PutOff { mut row, due_at, phone, time_zone } in held {
        let zone = window::zone_of(time_zone.as_deref(), &phone, &tenants.time_zone)?;
        let Some(eligible_at) = schedule.sooner(due_at, row.job.eligible_at, now, &zone) else { continue };
        left.push(ReadyKey::of(&row));
        let next = Job { eligible_at, ..row.job };
        row.move_to(&mut run, next);
        let due_at = if eligible_at > now { due_at } else { eligible_at };
        places.push(Held { key: ReadyKey::of(&row), due_at });
        jobs.push(row);
    }
    if !jobs.is_empty() {
        job_row::dequeue(tx, tenant, &left).await?;
        job_row::put_off(tx, tenant, &places).await?;
        job_row::save(tx, tenant, &jobs.iter().collect::<Vec<_>>(), now).await?;
        runs::finish(tx, tenant, run, now).await?;
    }
    Ok(Some(Cursor { run: id.0, after, last: cursor.last }))
}

/// The run of the next job that was put off.
async fn next_run(tx: &mut Tx, tenant: &TenantId, cursor: &Cursor) -> Result<Option<RunId>> {
    static NEXT: Sql = Sql::new(
        "SELECT run_id FROM ready_jobs
         WHERE tenant_id = $1 AND (run_id, job_id) > ($2, $3) AND run_id <= $4 AND due_at IS NOT NULL
         ORDER BY run_id, job_id LIMIT 1",
    );
    let row = tx.fetch_optional(&NEXT, args![tenant, cursor.run, cursor.after, cursor.last]).await?;
    row.map(|row| Ok(RunId(row.uuid("run_id")?))).transpose()
}

/// A job that was put off.
struct PutOff {
    row: JobRow,
    due_at: Timestamp,
    phone: Phone,
    time_zone: Option<String>,
}

async fn held(tx: &mut Tx, tenant: &TenantId, run: RunId, after: Uuid) -> Result<Vec<PutOff>> {
    static SELECT: Sql = Sql::new(concat!(
        "SELECT ",
        job_columns!(),
        ", j.phone, j.time_zone, q.due_at
          FROM (SELECT job_id, due_at FROM ready_jobs
                WHERE tenant_id = $1 AND run_id = $2 AND job_id > $3 AND due_at IS NOT NULL
                ORDER BY job_id LIMIT $4) q
          JOIN jobs j ON j.tenant_id = $1 AND j.job_id = q.job_id
          ORDER BY q.job_id"
    ));
    let limit = i64::try_from(BATCH_MAX).unwrap_or(i64::MAX);
    let rows = tx.fetch(&SELECT, args![tenant, run.0, after, limit]).await?;
    let read = |row| {
        Ok(PutOff {
            row: JobRow::read(row)?,
            due_at: Timestamp(row.int("due_at")?),
            phone: Phone::from_stored(row.text("phone")?),
            time_zone: row.opt_text("time_zone")?,
        })
    };
    rows.iter().map(read).collect()
}
