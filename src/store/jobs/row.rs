//! Jobs and the queue: rows that use cases change under their run's lock, in batches.

use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::job::{Job, JobState, Outcome};
use crate::domain::{JobId, LeadId, RunId, TenantId, Timestamp};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, Rows, args, statement};
use crate::store::runs::row::RunRow;
use crate::store::{JobView, Result};

/// A job, its run locked.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Its lead.
    pub lead_id: LeadId,
    /// 0 to 9.
    pub priority: u8,
    /// Where it stands.
    pub job: Job,
}

macro_rules! job_columns {
    () => {
        "j.job_id, j.run_id, j.lead_id, j.state, j.priority, j.eligible_at, j.attempt, j.attempts_used, j.outcome"
    };
}
pub(in crate::store) use job_columns;

impl JobRow {
    /// Reads [`job_columns`].
    pub fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: JobId(row.uuid("job_id")?),
            run_id: RunId(row.uuid("run_id")?),
            lead_id: LeadId(row.uuid("lead_id")?),
            priority: row.narrow("priority")?,
            job: Job {
                state: row.word("state", JobState::from_word)?,
                attempt: row.narrow("attempt")?,
                attempts_used: row.narrow("attempts_used")?,
                eligible_at: Timestamp(row.int("eligible_at")?),
                outcome: match row.opt_text("outcome")? {
                    None => None,
                    Some(_) => Some(row.word("outcome", Outcome::from_word)?),
                },
            },
        })
    }

    /// The job as clients see it, from a row with metadata and times as well.
    pub fn view(row: &Row) -> Result<JobView> {
        let read = Self::read(row)?;
        Ok(JobView {
            id: read.id,
            run_id: read.run_id,
            lead_id: read.lead_id,
            state: read.job.state,
            attempt: read.job.attempt,
            attempts_used: read.job.attempts_used,
            outcome: read.job.outcome,
            eligible_at: read.job.eligible_at,
            priority: read.priority,
            metadata: if row.opt_text("metadata")?.is_some() {
                Some(row.json("metadata")?)
            } else {
                None
            },
            created_at: Timestamp(row.int("created_at")?),
            updated_at: Timestamp(row.int("updated_at")?),
        })
    }

    /// Moves the job in its run's counts and log. Saving the row and the queue is the caller's.
    pub fn move_to(&mut self, run: &mut RunRow, next: Job) {
        run.counts.moved(self.job.state, next.state);
        if next.state.is_ended()
            && let Some(outcome) = next.outcome
        {
            run.outcomes.add(outcome);
        }
        let queued = next.state == JobState::Queued;
        if queued {
            run.has_queued(self.priority, next.eligible_at);
        }
        self.job = next;
        run.log(Event::JobChanged {
            job_id: self.id,
            lead_id: self.lead_id,
            state: next.state,
            attempt: next.attempt,
            outcome: next.outcome,
            eligible_at: queued.then_some(next.eligible_at),
        });
    }
}

/// Saves jobs that moved.
pub async fn save(tx: &mut Tx, tenant: &TenantId, jobs: &[&JobRow], now: Timestamp) -> Result<()> {
    statement!(UPDATE, "UPDATE jobs SET state = r.state, attempt = r.attempt, attempts_used = r.attempts_used,
             eligible_at = r.eligible_at, outcome = r.outcome, updated_at = $2
         FROM {rows 3 r: job_id uuid, state text, attempt bigint, attempts_used bigint, eligible_at bigint, outcome text}
         WHERE jobs.tenant_id = $1 AND jobs.job_id = r.job_id");
    if jobs.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuids(jobs.iter().map(|row| row.id.0))
        .texts(jobs.iter().map(|row| row.job.state.as_str().to_owned()))
        .ints(jobs.iter().map(|row| i64::from(row.job.attempt)))
        .ints(jobs.iter().map(|row| i64::from(row.job.attempts_used)))
        .ints(jobs.iter().map(|row| row.job.eligible_at.0))
        .texts(jobs.iter().map(|row| row.job.outcome.map(|outcome| outcome.as_str().to_owned())));
    tx.execute(&UPDATE, args![tenant, now, rows]).await?;
    Ok(())
}

/// The key of a queued job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyKey {
    /// Its run.
    pub run_id: RunId,
    /// 0 to 9.
    pub priority: u8,
    /// Not before.
    pub eligible_at: Timestamp,
    /// The job.
    pub job_id: JobId,
}

impl ReadyKey {
    /// Where the job stands in the queue while queued.
    pub const fn of(row: &JobRow) -> Self {
        Self {
            run_id: row.run_id,
            priority: row.priority,
            eligible_at: row.job.eligible_at,
            job_id: row.id,
        }
    }
}

fn ready_rows(keys: &[ReadyKey]) -> Rows {
    Rows::new()
        .uuids(keys.iter().map(|key| key.run_id.0))
        .ints(keys.iter().map(|key| i64::from(key.priority)))
        .ints(keys.iter().map(|key| key.eligible_at.0))
        .uuids(keys.iter().map(|key| key.job_id.0))
}

/// Puts jobs into the queue.
pub async fn enqueue(tx: &mut Tx, tenant: &TenantId, keys: &[ReadyKey]) -> Result<()> {
    insert(tx, tenant, keys, false).await
}

/// The same for jobs that may not be dialed when they are due: they are looked at again when that
/// changes.
pub async fn put_off(tx: &mut Tx, tenant: &TenantId, keys: &[ReadyKey]) -> Result<()> {
    insert(tx, tenant, keys, true).await
}

async fn insert(tx: &mut Tx, tenant: &TenantId, keys: &[ReadyKey], put_off: bool) -> Result<()> {
    statement!(
        INSERT,
        "INSERT INTO ready_jobs (tenant_id, put_off, run_id, priority, eligible_at, job_id)
         SELECT $1, $2, r.run_id, r.priority, r.eligible_at, r.job_id
         FROM {rows 3 r: run_id uuid, priority bigint, eligible_at bigint, job_id uuid}"
    );
    if !keys.is_empty() {
        tx.execute(&INSERT, args![tenant, put_off, ready_rows(keys)]).await?;
    }
    Ok(())
}

/// Takes jobs out of the queue.
pub async fn dequeue(tx: &mut Tx, tenant: &TenantId, keys: &[ReadyKey]) -> Result<()> {
    statement!(
        DELETE,
        "DELETE FROM ready_jobs WHERE tenant_id = $1 AND (run_id, priority, eligible_at, job_id) IN
             (SELECT r.run_id, r.priority, r.eligible_at, r.job_id
              FROM {rows 2 r: run_id uuid, priority bigint, eligible_at bigint, job_id uuid})"
    );
    if !keys.is_empty() {
        tx.execute(&DELETE, args![tenant, ready_rows(keys)]).await?;
    }
    Ok(())
}

/// Up to `limit` queued jobs of the run, in no particular order.
pub async fn some_queued(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    limit: usize,
) -> Result<Vec<JobRow>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            job_columns!(),
            " FROM (SELECT job_id FROM ready_jobs WHERE tenant_id = $1 AND run_id = $2
               ORDER BY priority, eligible_at, job_id LIMIT $3) q
          JOIN jobs j ON j.tenant_id = $1 AND j.job_id = q.job_id"
        )
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.fetch(&SELECT, args![tenant, run.0, limit]).await?.iter().map(JobRow::read).collect()
}

/// Jobs by id; those that do not exist are left out.
pub async fn by_ids(tx: &mut Tx, tenant: &TenantId, jobs: Vec<Uuid>) -> Result<Vec<JobRow>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs j WHERE j.tenant_id = $1 AND j.job_id {any 2 uuid}"
        )
    );
    tx.fetch(&SELECT, args![tenant, jobs]).await?.iter().map(JobRow::read).collect()
}
