//! Why a job is where it is: the facts in a few statements, the answer from the domain.

use crate::domain::explain::{self, Facts, LastCall, RunFacts, TenantFacts};
use crate::domain::job::Job;
use crate::domain::{CallId, JobId, Phone, TenantId, Timestamp, window};
use crate::store::calls::row::{CallRow, call_columns};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, job_columns};
use crate::store::{
    AHEAD_MAX, EXPLAINED_CALLS_MAX, Error, JobExplained, JobView, Result, RunView, Store, jobs,
    runs, suppressions, tenants,
};

impl Store {
    /// Why the job is where it is.
    pub async fn explain_job(&self, tenant: &TenantId, id: JobId) -> Result<JobExplained> {
        statement!(
            JOB,
            concat!(
                "SELECT ",
                job_columns!(),
                ", j.metadata, j.created_at, j.updated_at, j.phone, j.time_zone, {now} AS now
              FROM jobs j WHERE j.tenant_id = $1 AND j.job_id = $2"
            )
        );
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let row =
            tx.fetch_optional(&JOB, args![tenant, id.0]).await?.ok_or(Error::NotFound("job"))?;
        let (job, now) = (JobRow::view(&row)?, Timestamp(row.int("now")?));
        let run = runs::view(&mut tx, tenant, job.run_id).await?;
        let owner = tenants::access::tenant(&mut tx, tenant).await?.tenant;
        let phone = Phone::from_stored(row.text("phone")?);
        let live = live(&mut tx, tenant, &job, phone.expose()).await?;
        let caps = run.settings.caps();
        let attempts =
            jobs::queue::attempts_to(&mut tx, tenant, &caps, vec![phone.expose().to_owned()], now)
                .await?;
        let suppressed =
            suppressions::among(&mut tx, tenant, vec![phone.expose().to_owned()], now).await?;
        let (call, calls) = calls(&mut tx, tenant, id).await?;
        let ahead = ahead(&mut tx, tenant, &job, now).await?;
        let facts = Facts {
            now,
            job: state_of(&job),
            moved_at: job.updated_at,
            run: run_facts(&run, live.of_run, ahead),
            tenant: TenantFacts {
                live: live.of_tenant,
                max_concurrent_calls: owner.max_concurrent_calls,
                next_call_at: live.next_call_at,
                breaker: run.breaker,
            },
            schedule: run.settings.schedule(owner.window),
            zone: window::zone_of(row.opt_text("time_zone")?.as_deref(), &phone, &owner.time_zone)?,
            caps,
            // One phone was asked about.
            attempts: attempts.into_values().next().unwrap_or_default(),
            suppressed_since: suppressed.into_values().next(),
            phone_call: live.of_phone,
            call,
        };
        Ok(JobExplained { job, explanation: explain::explain(&facts), calls })
    }
}

const fn state_of(job: &JobView) -> Job {
    Job {
        state: job.state,
        attempt: job.attempt,
        attempts_used: job.attempts_used,
        eligible_at: job.eligible_at,
        outcome: job.outcome,
    }
}

fn run_facts(run: &RunView, live: u32, ahead: u32) -> RunFacts {
    RunFacts {
        state: run.progress.state,
        last_error: run.last_error.clone(),
        starts_at: run.settings.starts_at,
        expires_at: run.expires_at,
        live,
        concurrency: run.settings.concurrency,
        ahead,
    }
}

/// Live calls, and when the next may start.
struct Live {
    of_tenant: u32,
    of_run: u32,
    of_phone: Option<CallId>,
    next_call_at: Timestamp,
}

async fn live(tx: &mut Tx, tenant: &TenantId, job: &JobView, phone: &str) -> Result<Live> {
    statement!(LIVE, "SELECT count(*) AS of_tenant, count(CASE WHEN run_id = $2 THEN 1 END) AS of_run FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound'");
    statement!(
        PHONE,
        "SELECT call_id FROM call_log
         WHERE tenant_id = $1 AND phone_to = $2 AND ended_at IS NULL AND direction <> 'inbound'"
    );
    statement!(
        PACE,
        "SELECT d.next_call_at AS of_tenant, a.next_call_at AS of_account FROM tenants t
         JOIN tenant_dispatch d ON d.tenant_id = t.tenant_id
         JOIN carrier_accounts a ON a.account_sid = t.account_sid
         WHERE t.tenant_id = $1"
    );
    let counts = tx.fetch_one(&LIVE, args![tenant, job.run_id.0]).await?;
    let of_phone = tx.fetch_optional(&PHONE, args![tenant, phone]).await?;
    let pace = tx.fetch_one(&PACE, args![tenant]).await?;
    Ok(Live {
        of_tenant: counts.narrow("of_tenant")?,
        of_run: counts.narrow("of_run")?,
        of_phone: of_phone.map(|row| row.uuid("call_id").map(CallId)).transpose()?,
        next_call_at: Timestamp(pace.int("of_tenant")?.max(pace.int("of_account")?)),
    })
}

/// The job's latest call, and all of them, oldest first.
async fn calls(
    tx: &mut Tx,
    tenant: &TenantId,
    job: JobId,
) -> Result<(Option<LastCall>, Vec<CallId>)> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            call_columns!(),
            ", c.created_at, c.updated_at, c.empty_lookups FROM call_log c
          WHERE c.tenant_id = $1 AND c.job_id = $2 ORDER BY c.attempt DESC LIMIT $3"
        )
    );
    let limit = i64::try_from(EXPLAINED_CALLS_MAX).unwrap_or(i64::MAX);
    let rows = tx.fetch(&SELECT, args![tenant, job.0, limit]).await?;
    let last = rows.first().map(read_call).transpose()?;
    let ids =
        rows.iter().rev().map(|row| row.uuid("call_id").map(CallId)).collect::<Result<_>>()?;
    Ok((last, ids))
}

fn read_call(row: &Row) -> Result<LastCall> {
    let CallRow { id, attempt, call, .. } = CallRow::read(row)?;
    Ok(LastCall {
        id,
        attempt,
        state: call.state,
        since: Timestamp(row.int("updated_at")?),
        created_at: Timestamp(row.int("created_at")?),
        empty_lookups: row.narrow("empty_lookups")?,
        error_code: call.error_code,
    })
}

/// Jobs of the run that are eligible and come first, up to [`AHEAD_MAX`].
async fn ahead(tx: &mut Tx, tenant: &TenantId, job: &JobView, now: Timestamp) -> Result<u32> {
    statement!(
        COUNT,
        "SELECT count(*) AS ahead FROM (SELECT job_id FROM ready_jobs
             WHERE tenant_id = $1 AND run_id = $2 AND eligible_at <= $3
                 AND (priority > $4 OR (priority = $4 AND (eligible_at, job_id) < ($5, $6)))
             LIMIT $7) q"
    );
    let by_then = now.max(job.eligible_at);
    let values = args![
        tenant,
        job.run_id.0,
        by_then,
        i64::from(job.priority),
        job.eligible_at,
        job.id.0,
        i64::from(AHEAD_MAX),
    ];
    tx.fetch_one(&COUNT, values).await?.narrow("ahead")
}
