//! What jobs, calls and the queue say of runs: a handful of aggregating statements for any number
//! of runs, and pages of what has to be moved.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::call::Call;
use crate::domain::job::{JobState, Outcome};
use crate::domain::repair::Facts;
use crate::domain::{CallId, JobId, RunId, TenantId, Timestamp};
use crate::store::calls::row::{CallRow, call_columns};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, args, statement};
use crate::store::jobs::row::{JobRow, ReadyKey, job_columns};
use crate::store::{BATCH_MAX, Result};

/// The facts of each of `runs`.
pub async fn read(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: Vec<Uuid>,
) -> Result<HashMap<RunId, Facts>> {
    let mut facts: HashMap<RunId, Facts> =
        runs.iter().map(|run| (RunId(*run), Facts::default())).collect();
    count_jobs(tx, tenant, &runs, &mut facts).await?;
    count_without_call(tx, tenant, &runs, &mut facts).await?;
    compare_queue(tx, tenant, &runs, &mut facts).await?;
    look_at_queue(tx, tenant, &runs, &mut facts).await?;
    Ok(facts)
}

/// The facts that a row of a grouped statement is about.
fn of_row<'a>(facts: &'a mut HashMap<RunId, Facts>, row: &Row) -> Result<&'a mut Facts> {
    Ok(facts.entry(RunId(row.uuid("run_id")?)).or_default())
}

async fn count_jobs(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &[Uuid],
    facts: &mut HashMap<RunId, Facts>,
) -> Result<()> {
    statement!(
        COUNT,
        "SELECT run_id, state, outcome, count(*) AS jobs FROM jobs
         WHERE tenant_id = $1 AND run_id {any 2 uuid} GROUP BY run_id, state, outcome"
    );
    for row in tx.fetch(&COUNT, args![tenant, runs.to_vec()]).await? {
        let facts = of_row(facts, &row)?;
        let state = row.word("state", JobState::from_word)?;
        let jobs = row.int("jobs")?;
        *facts.counts.of_mut(state) += jobs;
        if state.is_ended() && row.opt_text("outcome")?.is_some() {
            *facts.outcomes.0.entry(row.word("outcome", Outcome::from_word)?).or_default() += jobs;
        }
    }
    Ok(())
}

/// Jobs in flight that have no live call: with one that has ended, or with none.
async fn count_without_call(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &[Uuid],
    facts: &mut HashMap<RunId, Facts>,
) -> Result<()> {
    statement!(COUNT, "SELECT j.run_id, count(c.call_id) AS ended, count(*) AS jobs FROM jobs j
         LEFT JOIN call_log c ON c.tenant_id = j.tenant_id AND c.job_id = j.job_id AND c.attempt = j.attempt
         WHERE j.tenant_id = $1 AND j.run_id {any 2 uuid} AND j.state IN ('dialing', 'in_call')
             AND (c.call_id IS NULL OR c.ended_at IS NOT NULL)
         GROUP BY j.run_id");
    for row in tx.fetch(&COUNT, args![tenant, runs.to_vec()]).await? {
        let facts = of_row(facts, &row)?;
        facts.call_ended = row.narrow("ended")?;
        facts.call_missing = row.narrow::<u32>("jobs")?.saturating_sub(facts.call_ended);
    }
    Ok(())
}

macro_rules! queue_missing {
    () => {
        "FROM jobs j
         LEFT JOIN ready_jobs q ON q.tenant_id = j.tenant_id AND q.run_id = j.run_id AND q.priority = j.priority
             AND q.eligible_at = j.eligible_at AND q.job_id = j.job_id
         WHERE j.tenant_id = $1 AND j.run_id {any 2 uuid} AND j.state = 'queued' AND q.job_id IS NULL "
    };
}

macro_rules! queue_stray {
    () => {
        "FROM ready_jobs q
         LEFT JOIN jobs j ON j.tenant_id = q.tenant_id AND j.job_id = q.job_id AND j.run_id = q.run_id
             AND j.priority = q.priority AND j.eligible_at = q.eligible_at AND j.state = 'queued'
         WHERE q.tenant_id = $1 AND q.run_id {any 2 uuid} AND j.job_id IS NULL "
    };
}

async fn compare_queue(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &[Uuid],
    facts: &mut HashMap<RunId, Facts>,
) -> Result<()> {
    statement!(
        MISSING,
        concat!("SELECT j.run_id, count(*) AS jobs ", queue_missing!(), "GROUP BY j.run_id")
    );
    statement!(
        STRAY,
        concat!("SELECT q.run_id, count(*) AS jobs ", queue_stray!(), "GROUP BY q.run_id")
    );
    for row in tx.fetch(&MISSING, args![tenant, runs.to_vec()]).await? {
        of_row(facts, &row)?.queue_missing = row.narrow("jobs")?;
    }
    for row in tx.fetch(&STRAY, args![tenant, runs.to_vec()]).await? {
        of_row(facts, &row)?.queue_stray = row.narrow("jobs")?;
    }
    Ok(())
}

/// What hints are to say, by the entries that are no strays.
async fn look_at_queue(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &[Uuid],
    facts: &mut HashMap<RunId, Facts>,
) -> Result<()> {
    statement!(
        FIRST,
        "SELECT q.run_id, q.priority, min(q.eligible_at) AS eligible_at FROM ready_jobs q
         JOIN jobs j ON j.tenant_id = q.tenant_id AND j.job_id = q.job_id AND j.run_id = q.run_id
             AND j.priority = q.priority AND j.eligible_at = q.eligible_at AND j.state = 'queued'
         WHERE q.tenant_id = $1 AND q.run_id {any 2 uuid} GROUP BY q.run_id, q.priority"
    );
    for row in tx.fetch(&FIRST, args![tenant, runs.to_vec()]).await? {
        let facts = of_row(facts, &row)?;
        facts.priorities |= 1 << row.narrow::<u8>("priority")?;
        facts.first_eligible_at = facts.first_eligible_at.min(Timestamp(row.int("eligible_at")?));
    }
    Ok(())
}

/// A page of queued jobs that the queue does not hold, after a job.
pub async fn missing_page(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    after: JobId,
) -> Result<Vec<JobRow>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            job_columns!(),
            " ",
            queue_missing!(),
            "AND j.job_id > $3 ORDER BY j.job_id LIMIT $4"
        )
    );
    let rows = tx.fetch(&SELECT, args![tenant, vec![run.0], after.0, page_size()]).await?;
    rows.iter().map(JobRow::read).collect()
}

/// A page of entries of the queue that stand for no queued job, after a key.
pub async fn stray_page(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    after: ReadyKey,
) -> Result<Vec<ReadyKey>> {
    statement!(
        SELECT,
        concat!(
            "SELECT q.run_id, q.priority, q.eligible_at, q.job_id ",
            queue_stray!(),
            "AND (q.priority, q.eligible_at, q.job_id) > ($3, $4, $5)
         ORDER BY q.priority, q.eligible_at, q.job_id LIMIT $6"
        )
    );
    let key = |row: &Row| {
        Ok(ReadyKey {
            run_id: RunId(row.uuid("run_id")?),
            priority: row.narrow("priority")?,
            eligible_at: Timestamp(row.int("eligible_at")?),
            job_id: JobId(row.uuid("job_id")?),
        })
    };
    let ReadyKey { priority, eligible_at, job_id, .. } = after;
    let values =
        args![tenant, vec![run.0], i64::from(priority), eligible_at, job_id.0, page_size()];
    tx.fetch(&SELECT, values).await?.iter().map(key).collect()
}

/// A page of jobs in flight that have no live call, each with its call that has ended, if there is
/// one; after a job.
pub async fn without_call_page(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    after: JobId,
) -> Result<Vec<(JobRow, Option<(CallId, Call)>)>> {
    statement!(JOBS, concat!(
        "SELECT ",
        job_columns!(),
        " FROM jobs j
          LEFT JOIN call_log c ON c.tenant_id = j.tenant_id AND c.job_id = j.job_id AND c.attempt = j.attempt
          WHERE j.tenant_id = $1 AND j.run_id = $2 AND j.state IN ('dialing', 'in_call')
              AND (c.call_id IS NULL OR c.ended_at IS NOT NULL) AND j.job_id > $3
          ORDER BY j.job_id LIMIT $4"
    ));
    statement!(CALLS, concat!(
        "SELECT ",
        call_columns!(),
        " FROM jobs j
          JOIN call_log c ON c.tenant_id = j.tenant_id AND c.job_id = j.job_id AND c.attempt = j.attempt
          WHERE j.tenant_id = $1 AND j.job_id {any 2 uuid}"
    ));
    let rows = tx.fetch(&JOBS, args![tenant, run.0, after.0, page_size()]).await?;
    let jobs: Vec<JobRow> = rows.iter().map(JobRow::read).collect::<Result<_>>()?;
    let ids: Vec<Uuid> = jobs.iter().map(|row| row.id.0).collect();
    let mut calls = HashMap::with_capacity(ids.len());
    for row in tx.fetch(&CALLS, args![tenant, ids]).await? {
        let row = CallRow::read(&row)?;
        calls.insert(row.job_id, (row.id, row.call));
    }
    let with_call = |job: JobRow| {
        let call = calls.remove(&Some(job.id));
        (job, call)
    };
    Ok(jobs.into_iter().map(with_call).collect())
}

fn page_size() -> i64 {
    i64::try_from(BATCH_MAX).unwrap_or(i64::MAX)
}
