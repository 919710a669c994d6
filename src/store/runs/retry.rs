//! Retrying jobs of a run that has ended: a new run, filled page by page.
//!
//! The new run is an unsealed draft until its last page is in, so that it neither dials nor
//! completes half-made. How far it got stands in the same transaction as each page: whoever repeats
//! the request goes on from there.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::job::{JobState, Outcome};
use crate::domain::run::{RunSettings, RunState};
use crate::domain::{LeadId, RunId, TenantId, Violation};
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::runs::row::RunRow;
use crate::store::{
    BATCH_MAX, Error, NewJob, NewRetry, RequestKey, Result, RetryFilled, RunPatch, Store, Who,
    audit, jobs, keys, runs, tenants,
};

impl Store {
    /// Makes a draft for jobs of an ended run, without jobs as yet: they come with
    /// [`Store::fill_retry`].
    pub async fn begin_retry(
        &self,
        tenant: &TenantId,
        retry: NewRetry,
        key: Option<RequestKey>,
    ) -> Result<RunId> {
        statement!(INSERT, "INSERT INTO run_retries (tenant_id, run_id, parent_run_id, states, outcomes, start_run, after_job_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7)");
        let filter = Filter::read(&retry)?;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(id);
        }
        let parent = runs::view(&mut tx, tenant, retry.parent).await?;
        if !parent.progress.state.is_ended() {
            return Err(Error::NotEnded(parent.progress.state));
        }
        let now = tx.now().await?;
        let settings = settings(parent.settings, retry.patch);
        settings.check(now)?;
        tenants::access::check_caller_id(&mut tx, tenant, &settings).await?;
        if filter.page(&mut tx, tenant, parent.id, Uuid::nil(), 1).await?.is_empty() {
            return Err(Error::NothingToRetry);
        }
        let mut run = RunRow::new(RunId(Uuid::now_v7()), settings, now);
        run.parent = Some(parent.id);
        runs::row::insert(&mut tx, tenant, &run).await?;
        run.log(Event::RunCreated { state: run.state });
        let id = run.id;
        runs::finish(&mut tx, tenant, run, now).await?;
        let values = args![
            tenant,
            id.0,
            parent.id.0,
            to_json(&filter.states)?,
            to_json(&filter.outcomes)?,
            retry.start,
            Uuid::nil(),
        ];
        tx.execute(&INSERT, values).await?;
        let detail = json!({ "of": parent.id, "states": filter.states, "outcomes": filter.outcomes, "start": retry.start });
        audit::write(&mut tx, &self.actor, tenant, format!("run {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(id)
    }
}

/// The ended run's settings with what is other; start and expiry begin anew.
fn settings(of_parent: RunSettings, patch: Option<RunPatch>) -> RunSettings {
    let anew = RunSettings { starts_at: None, expires_at: None, ..of_parent };
    match patch {
        Some(patch) => anew.with(&patch.fields, &patch.settings),
        None => anew,
    }
}

/// Which of the ended run's jobs are retried, in the words of their rows.
struct Filter {
    states: Vec<String>,
    outcomes: Vec<String>,
}

impl Filter {
    fn read(retry: &NewRetry) -> Result<Self> {
        if let Some(i) = retry.states.iter().position(|state| !state.is_ended()) {
            return Err(Error::Invalid(Violation::new(
                format!("states[{i}]"),
                "is not a final state",
            )));
        }
        let states = if retry.states.is_empty() { &[JobState::Failed][..] } else { &retry.states };
        let outcomes = if retry.outcomes.is_empty() { Outcome::ALL } else { &retry.outcomes };
        Ok(Self {
            states: states.iter().map(|state| state.as_str().to_owned()).collect(),
            outcomes: outcomes.iter().map(|outcome| outcome.as_str().to_owned()).collect(),
        })
    }

    /// Matching jobs after `after`, in order of creation. They never change again: their run has
    /// ended.
    async fn page(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        parent: RunId,
        after: Uuid,
        limit: usize,
    ) -> Result<Vec<Row>> {
        statement!(SELECT, "SELECT job_id, lead_id, priority, metadata FROM jobs
             WHERE tenant_id = $1 AND run_id = $2 AND job_id > $3 AND state {any 4 text} AND outcome {any 5 text}
             ORDER BY job_id LIMIT $6");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (states, outcomes) = (self.states.clone(), self.outcomes.clone());
        tx.fetch(&SELECT, args![tenant, parent.0, after, states, outcomes, limit]).await
    }
}

/// How far the filling of a run got.
struct Filling {
    parent: RunId,
    filter: Filter,
    start: bool,
    after: Uuid,
    filled: bool,
}

impl Store {
    /// Adds the next page of jobs to a run made by [`Store::begin_retry`]; with the last, seals it
    /// and starts it if that was asked for. Does nothing to a run whose jobs are all in.
    pub async fn fill_retry(&self, tenant: &TenantId, id: RunId) -> Result<RetryFilled> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        // The run's lock is the lock on its filling.
        runs::row::lock_one(&mut tx, tenant, id).await?;
        let filling = filling(&mut tx, tenant, id).await?;
        if filling.filled {
            return Ok(RetryFilled { run: runs::view(&mut tx, tenant, id).await?, done: true });
        }
        let mut run = jobs::open_run(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        let rows =
            filling.filter.page(&mut tx, tenant, filling.parent, filling.after, BATCH_MAX).await?;
        let done = rows.len() < BATCH_MAX;
        let after = rows.last().map_or(Ok(filling.after), |row| row.uuid("job_id"))?;
        let new = rows.iter().map(read_job).collect::<Result<_>>()?;
        let added = jobs::add_in(&mut tx, tenant, &mut run, new, now).await?;
        jobs::check_queue(&mut tx, self, tenant, &added).await?;
        if done {
            if filling.start && run.state == RunState::Draft {
                run.move_to(RunState::Pending, None, now);
            }
            run.sealed = true;
            run.log(Event::RunSealed);
            run.settle(now);
        }
        save_filling(&mut tx, tenant, id, after, done).await?;
        runs::finish(&mut tx, tenant, run, now).await?;
        let run = runs::view(&mut tx, tenant, id).await?;
        tx.commit(&self.wakes).await?;
        Ok(RetryFilled { run, done })
    }
}

fn read_job(row: &Row) -> Result<NewJob> {
    let metadata: Option<Map<String, Value>> =
        if row.opt_text("metadata")?.is_some() { Some(row.json("metadata")?) } else { None };
    Ok(NewJob {
        who: Who::Lead(LeadId(row.uuid("lead_id")?)),
        priority: row.narrow("priority")?,
        eligible_at: None,
        metadata,
    })
}

async fn filling(tx: &mut Tx, tenant: &TenantId, run: RunId) -> Result<Filling> {
    statement!(
        SELECT,
        "SELECT parent_run_id, states, outcomes, start_run, after_job_id, filled FROM run_retries
         WHERE tenant_id = $1 AND run_id = $2"
    );
    let row =
        tx.fetch_optional(&SELECT, args![tenant, run.0]).await?.ok_or(Error::NotFound("retry"))?;
    Ok(Filling {
        parent: RunId(row.uuid("parent_run_id")?),
        filter: Filter { states: row.json("states")?, outcomes: row.json("outcomes")? },
        start: row.bool("start_run")?,
        after: row.uuid("after_job_id")?,
        filled: row.bool("filled")?,
    })
}

async fn save_filling(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    after: Uuid,
    filled: bool,
) -> Result<()> {
    statement!(
        UPDATE,
        "UPDATE run_retries SET after_job_id = $3, filled = $4 WHERE tenant_id = $1 AND run_id = $2"
    );
    tx.execute(&UPDATE, args![tenant, run.0, after, filled]).await?;
    Ok(())
}
