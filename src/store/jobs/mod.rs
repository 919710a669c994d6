//! Jobs: added, imported, canceled, read.

pub(super) mod explain;
pub(super) mod queue;
pub(super) mod row;

use std::collections::{HashMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::job::{self, JobState};
use crate::domain::run::RunState;
use crate::domain::{JobId, LeadId, RunId, TenantId, Timestamp};
use crate::store::db::sql::{Rows, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, ReadyKey, job_columns};
use crate::store::runs::row::RunRow;
use crate::store::{
    BATCH_MAX, Error, ImportStep, JobAdded, JobView, JobsCanceled, NewJob, Page, Paged, RequestKey,
    Result, Store, audit, jobs, keys, leads, runs, suppressions,
};

impl Store {
    /// Adds up to [`BATCH_MAX`] jobs; the answer is in the order of `jobs`.
    pub async fn add_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<NewJob>,
        key: Option<RequestKey>,
    ) -> Result<Vec<JobAdded>> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(added) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(added);
        }
        let mut run = open_run(&mut tx, tenant, run).await?;
        let now = tx.now().await?;
        let added = add_in(&mut tx, tenant, &mut run, jobs, now).await?;
        check_queue(&mut tx, self, tenant, &added).await?;
        let detail = json!({ "jobs": added.len() });
        audit::write(&mut tx, &self.actor, tenant, format!("run {}", run.id), &detail, now).await?;
        save_added(&mut tx, tenant, run, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &added, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(added)
    }
}

impl Store {
    /// How far the import got; 0 if it is new. [`Error::Closed`] if it is new and the run takes no
    /// jobs.
    pub async fn import_offset(
        &self,
        tenant: &TenantId,
        run: RunId,
        import_id: &str,
    ) -> Result<u64> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let open = open_run(&mut tx, tenant, run).await;
        match (stored_offset(&mut tx, tenant, run, import_id).await?, open) {
            // Whoever was cut off after the last batch asks again, and nothing is left to add.
            (known, Ok(_) | Err(Error::Closed(_))) if known > 0 => Ok(known),
            (offset, open) => open.map(|_| offset),
        }
    }
}

async fn stored_offset(tx: &mut Tx, tenant: &TenantId, run: RunId, import_id: &str) -> Result<u64> {
    statement!(
        SELECT,
        "SELECT next_offset FROM imports WHERE tenant_id = $1 AND run_id = $2 AND import_id = $3"
    );
    match tx.fetch_optional(&SELECT, args![tenant, run.0, import_id]).await? {
        Some(row) => row.narrow("next_offset"),
        None => Ok(0),
    }
}

impl Store {
    /// Adds a batch of an import and moves its offset to `offset + taken`, in one transaction.
    /// `taken` counts the items of the batch that `jobs` does not hold because they were rejected
    /// before, too.
    pub async fn import_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        step: ImportStep<'_>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<JobAdded>> {
        statement!(PUT, "INSERT INTO imports (tenant_id, run_id, import_id, next_offset, updated_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, run_id, import_id) DO UPDATE SET next_offset = excluded.next_offset,
                 updated_at = excluded.updated_at");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let mut run = open_run(&mut tx, tenant, run).await?;
        let now = tx.now().await?;
        if stored_offset(&mut tx, tenant, run.id, step.import_id).await? != step.offset {
            return Err(Error::Invalid(crate::domain::Violation::new(
                "batch.offset",
                "does not follow what is stored; send the header again to learn where to go on",
            )));
        }
        let added = add_in(&mut tx, tenant, &mut run, jobs, now).await?;
        check_queue(&mut tx, self, tenant, &added).await?;
        let next = i64::try_from(step.offset.saturating_add(step.taken)).unwrap_or(i64::MAX);
        tx.execute(&PUT, args![tenant, run.id.0, step.import_id, next, now]).await?;
        let detail = json!({ "offset": step.offset, "jobs": added.len() });
        audit::write(&mut tx, &self.actor, tenant, format!("run {}", run.id), &detail, now).await?;
        save_added(&mut tx, tenant, run, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(added)
    }
}

/// The run, locked, if it takes jobs.
pub(in crate::store) async fn open_run(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
) -> Result<RunRow> {
    let run = runs::row::lock_one(tx, tenant, run).await?;
    if run.sealed {
        return Err(Error::Closed("it is sealed"));
    }
    match run.state {
        RunState::Draft | RunState::Pending | RunState::Running | RunState::Paused => Ok(run),
        RunState::Canceling | RunState::Stopping => Err(Error::Closed("it is being called off")),
        RunState::Completed
        | RunState::Canceled
        | RunState::Stopped
        | RunState::Failed
        | RunState::Expired => Err(Error::Closed("it has ended")),
    }
}

async fn save_added(tx: &mut Tx, tenant: &TenantId, run: RunRow, now: Timestamp) -> Result<()> {
    if run.is_changed() && run.state.is_dialing() {
        tx.has_work(tenant, run.claimable_at.max(run.starts_at));
    }
    runs::row::save(tx, tenant, &mut [run], now).await
}

/// Adds jobs to a locked run and its queue, counts and log; the run is saved by the caller.
pub async fn add_in(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    jobs: Vec<NewJob>,
    now: Timestamp,
) -> Result<Vec<JobAdded>> {
    if jobs.len() > BATCH_MAX {
        return Err(Error::Invalid(crate::domain::Violation::new(
            "jobs",
            "has more than 1,000 items",
        )));
    }
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let known = leads::resolve(tx, tenant, jobs.iter().map(|job| &job.who), now).await?;
    let mut first: HashMap<LeadId, usize> = HashMap::new();
    let mut rows = Vec::new();
    for (i, (job, lead)) in jobs.iter().zip(&known).enumerate() {
        if let Some(lead) = lead
            && !first.contains_key(&lead.id)
        {
            first.insert(lead.id, i);
            rows.push((JobId(Uuid::now_v7()), lead, job));
        }
    }
    let new = insert(tx, tenant, run, &rows, now).await?;
    let suppressed: HashSet<LeadId> = new
        .iter()
        .filter(|row| row.job.state == JobState::Skipped)
        .map(|row| row.lead_id)
        .collect();
    let mut ids: HashMap<LeadId, JobId> = new.iter().map(|row| (row.lead_id, row.id)).collect();
    let missing: Vec<Uuid> = rows
        .iter()
        .map(|(_, lead, _)| lead.id.0)
        .filter(|id| !ids.contains_key(&LeadId(*id)))
        .collect();
    let there = existing(tx, tenant, run.id, missing).await?;
    let duplicates = known.iter().flatten().count() - new.len();
    if duplicates > 0 {
        let run_id = run.id;
        tracing::info!(event = "dedup_conflict", key = "lead", %tenant, %run_id, jobs = duplicates, "had a job");
    }
    ids.extend(&there);
    let added = known.iter().enumerate().map(|(i, lead)| match lead {
        None => JobAdded::Rejected {
            field: "lead_id".to_owned(),
            reason: "is no lead of the tenant".to_owned(),
        },
        Some(lead) => JobAdded::Job {
            job_id: ids[&lead.id],
            lead_id: lead.id,
            duplicate: first[&lead.id] != i || there.contains_key(&lead.id),
            suppressed: first[&lead.id] == i && suppressed.contains(&lead.id),
        },
    });
    Ok(added.collect())
}

/// Whether what was added still fits into the tenant's queue; to be asked before the run is saved
/// with it.
///
/// Runs are counted as they are committed, not locked: what is added to other runs at the same
/// moment does not count.
pub async fn check_queue(
    tx: &mut Tx,
    store: &Store,
    tenant: &TenantId,
    added: &[JobAdded],
) -> Result<()> {
    let is_new =
        |job: &&JobAdded| matches!(job, JobAdded::Job { duplicate: false, suppressed: false, .. });
    let new = added.iter().filter(is_new).count();
    if new == 0 {
        return Ok(());
    }
    let (room, max) = room(tx, store, tenant).await?;
    if new as u64 > room { Err(Error::QueueFull { max }) } else { Ok(()) }
}

/// How many jobs still fit into the tenant's queue, and how many it may hold.
pub async fn room(tx: &mut Tx, store: &Store, tenant: &TenantId) -> Result<(u64, u64)> {
    statement!(
        QUEUED,
        "SELECT t.plan, (SELECT CAST(COALESCE(sum(r.queued), 0) AS BIGINT) FROM runs r
             WHERE r.tenant_id = $1 AND r.ended_at IS NULL) AS queued
         FROM tenants t WHERE t.tenant_id = $1"
    );
    let row = tx.fetch_one(&QUEUED, args![tenant]).await?;
    let max = store.plans.of(&row.text("plan")?).queued_jobs_max;
    Ok((max.saturating_sub(row.narrow("queued")?), max))
}

async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    rows: &[(JobId, &leads::Dialable, &NewJob)],
    now: Timestamp,
) -> Result<Vec<JobRow>> {
    statement!(INSERT, "INSERT INTO jobs (tenant_id, job_id, run_id, lead_id, state, phone, time_zone, priority, eligible_at, metadata,
             created_at, updated_at)
         SELECT $1, r.job_id, $2, r.lead_id, 'queued', r.phone, r.time_zone, r.priority, r.eligible_at, r.metadata, $3, $3
         FROM {rows 4 r: job_id uuid, lead_id uuid, phone text, time_zone text, priority bigint, eligible_at bigint, metadata text}
         WHERE true
         ON CONFLICT (tenant_id, run_id, lead_id) DO NOTHING
         RETURNING job_id, run_id, lead_id, state, priority, eligible_at, attempt, attempts_used, outcome");
    let metadata: Vec<Option<String>> = rows
        .iter()
        .map(|(_, _, job)| job.metadata.as_ref().map(to_json).transpose())
        .collect::<Result<_>>()?;
    let values = Rows::new()
        .uuids(rows.iter().map(|(id, _, _)| id.0))
        .uuids(rows.iter().map(|(_, lead, _)| lead.id.0))
        .texts(rows.iter().map(|(_, lead, _)| lead.phone.expose().to_owned()))
        .texts(rows.iter().map(|(_, lead, _)| lead.time_zone.clone()))
        .ints(rows.iter().map(|(_, _, job)| i64::from(job.priority)))
        .ints(rows.iter().map(|(_, _, job)| job.eligible_at.unwrap_or(now).max(now).0))
        .texts(metadata);
    let inserted = tx.fetch(&INSERT, args![tenant, run.id.0, now, values]).await?;
    let mut new: Vec<JobRow> = inserted.iter().map(JobRow::read).collect::<Result<_>>()?;
    if new.is_empty() {
        return Ok(new);
    }
    let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
    run.counts.queued += i64::from(count);
    run.log(Event::JobsAdded { count });
    skip_suppressed(tx, tenant, run, rows, &mut new, now).await?;
    let queued = || new.iter().filter(|row| row.job.state == JobState::Queued);
    let keys: Vec<ReadyKey> = queued().map(ReadyKey::of).collect();
    jobs::row::enqueue(tx, tenant, &keys).await?;
    for row in queued() {
        run.has_queued(row.priority, row.job.eligible_at);
    }
    Ok(new)
}

/// Ends those of new jobs whose phone is suppressed. A claim looks again: what is suppressed later
/// counts as well.
async fn skip_suppressed(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    rows: &[(JobId, &leads::Dialable, &NewJob)],
    new: &mut [JobRow],
    now: Timestamp,
) -> Result<()> {
    let phones = rows.iter().map(|(_, lead, _)| lead.phone.expose().to_owned()).collect();
    let suppressed = suppressions::among(tx, tenant, phones, now).await?;
    if suppressed.is_empty() {
        return Ok(());
    }
    let leads: HashSet<LeadId> = rows
        .iter()
        .filter(|(_, lead, _)| suppressed.contains_key(&lead.phone))
        .map(|(_, lead, _)| lead.id)
        .collect();
    let mut skipped = Vec::new();
    for row in new.iter_mut().filter(|row| leads.contains(&row.lead_id)) {
        let ended = job::suppressed(&row.job);
        row.move_to(run, ended);
        skipped.push(&*row);
    }
    jobs::row::save(tx, tenant, &skipped, now).await
}

/// The run's jobs for these leads.
async fn existing(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    leads: Vec<Uuid>,
) -> Result<HashMap<LeadId, JobId>> {
    statement!(
        SELECT,
        "SELECT job_id, lead_id FROM jobs WHERE tenant_id = $1 AND run_id = $2 AND lead_id {any 3 uuid}"
    );
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.fetch(&SELECT, args![tenant, run.0, leads]).await?;
    rows.iter().map(|row| Ok((LeadId(row.uuid("lead_id")?), JobId(row.uuid("job_id")?)))).collect()
}

impl Store {
    /// Cancels queued jobs of a run; at most [`BATCH_MAX`].
    pub async fn cancel_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<JobId>,
        key: Option<RequestKey>,
    ) -> Result<JobsCanceled> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(canceled) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(canceled);
        }
        let mut run = runs::row::lock_one(&mut tx, tenant, run).await?;
        let now = tx.now().await?;
        let rows =
            jobs::row::by_ids(&mut tx, tenant, jobs.iter().map(|job| job.0).collect()).await?;
        let mut known: HashMap<JobId, JobRow> =
            rows.into_iter().filter(|row| row.run_id == run.id).map(|row| (row.id, row)).collect();
        let mut answer = JobsCanceled::default();
        let mut keys = Vec::new();
        let mut changed = Vec::new();
        for id in jobs {
            match known.get_mut(&id) {
                None => answer.unknown.push(id),
                Some(row) => match row.job.state {
                    JobState::Queued => {
                        keys.push(ReadyKey::of(row));
                        let ended = job::called_off(&row.job, JobState::Canceled);
                        row.move_to(&mut run, ended);
                        changed.push(id);
                        answer.canceled.push(id);
                    }
                    JobState::Canceled => answer.canceled.push(id),
                    JobState::Dialing
                    | JobState::InCall
                    | JobState::Completed
                    | JobState::Failed
                    | JobState::Skipped
                    | JobState::Expired => answer.unchanged.push(id),
                },
            }
        }
        jobs::row::dequeue(&mut tx, tenant, &keys).await?;
        jobs::row::save(
            &mut tx,
            tenant,
            &changed.iter().map(|id| &known[id]).collect::<Vec<_>>(),
            now,
        )
        .await?;
        run.settle(now);
        let detail = json!({ "canceled": changed.len() });
        audit::write(&mut tx, &self.actor, tenant, format!("run {}", run.id), &detail, now).await?;
        runs::row::save(&mut tx, tenant, &mut [run], now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &answer, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(answer)
    }
}

macro_rules! job_view {
    () => {
        concat!("SELECT ", job_columns!(), ", j.metadata, j.created_at, j.updated_at FROM jobs j ")
    };
}

impl Store {
    /// The job.
    pub async fn job(&self, tenant: &TenantId, job: JobId) -> Result<JobView> {
        statement!(SELECT, concat!(job_view!(), "WHERE j.tenant_id = $1 AND j.job_id = $2"));
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let row = tx
            .fetch_optional(&SELECT, args![tenant, job.0])
            .await?
            .ok_or(Error::NotFound("job"))?;
        JobRow::view(&row)
    }
}

impl Store {
    /// In order of creation. Empty `states` means all.
    pub async fn list_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        states: &[JobState],
        page: Page,
    ) -> Result<Paged<JobView>> {
        statement!(
            SELECT,
            concat!(
            job_view!(),
            "WHERE j.tenant_id = $1 AND j.run_id = $2 AND j.job_id > $3 AND j.state {any 4 text}
             ORDER BY j.job_id LIMIT $5"
        )
        );
        let all = if states.is_empty() { JobState::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let after = page.after.unwrap_or(Uuid::nil());
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        crate::store::runs::view(&mut tx, tenant, run).await?;
        let rows = tx.fetch(&SELECT, args![tenant, run.0, after, states, page.limit()]).await?;
        let items = rows.iter().map(JobRow::view).collect::<Result<_>>()?;
        Ok(page.cut(items, |job: &JobView| job.id.0))
    }
}
