//! Runs made of leads that pass a filter: filled page by page, by a task.
//!
//! What was asked and how far it got stand in a row beside the run, changed in the transaction of
//! each page. So a page is added once, whoever does it. Leads that are created after the run are
//! not taken.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::job::PRIORITY_DEFAULT;
use crate::domain::task::TaskKind;
use crate::domain::{RunId, TenantId, Timestamp};
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::runs::row::RunRow;
use crate::store::{
    BATCH_MAX, Error, JobAdded, LeadFilter, NewJob, Page, PopulationView, Result, Store, Task, Who,
    jobs, leads, runs, tasks,
};

/// How long a full queue is waited for before it is looked at again: it empties at the pace of
/// calls.
const QUEUE_FULL_WAIT: Duration = Duration::from_secs(5);

/// Begins to fill a run that is being created.
pub async fn begin(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    filter: LeadFilter,
    seal: bool,
    now: Timestamp,
) -> Result<()> {
    statement!(
        INSERT,
        "INSERT INTO run_populations (tenant_id, run_id, filter, seal, after_lead_id) VALUES ($1, $2, $3, $4, $5)"
    );
    let until = filter.created_until.map_or(now, |until| until.min(now));
    let filter = LeadFilter { created_until: Some(until), ..filter };
    tx.execute(&INSERT, args![tenant, run.0, to_json(&filter)?, seal, Uuid::nil()]).await?;
    let new = tasks::NewTask {
        kind: TaskKind::PopulateRun,
        subject: format!("run {run}"),
        payload: tasks::payload(&[run.0]),
        run_at: now,
    };
    tasks::enqueue(tx, tenant, new, now).await
}

/// How far the filling of a run got.
struct Population {
    filter: LeadFilter,
    seal: bool,
    after: Uuid,
    view: PopulationView,
}

/// What a page of it came to.
enum Step {
    More,
    Full { max: u64 },
    Done,
}

impl Store {
    /// Does a [`PopulateRun`](crate::domain::task::TaskKind::PopulateRun) task: one page.
    pub async fn populate_run(&self, task: &Task) -> Result<()> {
        let tenant = &task.tenant;
        for run in tasks::ids(task)?.into_iter().map(RunId) {
            let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
            match step(&mut tx, self, tenant, run).await {
                Ok(Step::More) => {
                    tasks::repeat(&mut tx, task, Duration::ZERO).await?;
                    tx.has_tasks();
                    return tx.commit(&self.wakes).await;
                }
                Ok(Step::Full { max }) => {
                    tell(
                        &mut tx,
                        tenant,
                        run,
                        &format!("as many jobs are queued as may be: {max}"),
                    )
                    .await?;
                    tasks::repeat(&mut tx, task, QUEUE_FULL_WAIT).await?;
                    return tx.commit(&self.wakes).await;
                }
                Ok(Step::Done) | Err(Error::NotFound(_)) => {}
                // Sealed by hand, called off, or over: no more jobs are wanted.
                Err(Error::Closed(why)) => {
                    drop(tx);
                    tx = self.db.begin(Scope::Tenant(tenant)).await?;
                    end(&mut tx, tenant, run, why).await?;
                }
                Err(error) => return Err(error),
            }
            tasks::finish(&mut tx, task).await?;
            tx.commit(&self.wakes).await?;
        }
        Ok(())
    }
}

/// Adds the next page of jobs under the run's lock, which is the lock on its filling; with the
/// last, seals the run.
async fn step(tx: &mut Tx, store: &Store, tenant: &TenantId, id: RunId) -> Result<Step> {
    let mut run = jobs::open_run(tx, tenant, id).await?;
    let now = tx.now().await?;
    if now >= run.expires_at {
        return Err(Error::Closed("it has expired"));
    }
    let mut population = read(tx, tenant, id).await?;
    if population.view.done {
        return Ok(Step::Done);
    }
    let (room, max) = jobs::room(tx, store, tenant).await?;
    let size = u32::try_from(room.min(BATCH_MAX as u64)).unwrap_or(0);
    if size == 0 {
        return Ok(Step::Full { max });
    }
    let page = Page { size, after: Some(population.after) };
    let found = leads::list::list_in(tx, tenant, &population.filter, page).await?;
    let new = found.items.iter().map(|lead| NewJob {
        who: Who::Lead(lead.id),
        priority: PRIORITY_DEFAULT,
        eligible_at: None,
        metadata: None,
    });
    let added = jobs::add_in(tx, tenant, &mut run, new.collect(), now).await?;
    population.view.count(&added);
    population.after = found.next.unwrap_or(population.after);
    population.view.done = found.next.is_none();
    population.view.last_error = None;
    save(tx, tenant, id, &population).await?;
    let done = population.view.done;
    if done && population.seal {
        run.sealed = true;
        run.log(Event::RunSealed);
    }
    run.settle(now);
    finish(tx, tenant, run, now).await?;
    Ok(if done { Step::Done } else { Step::More })
}

async fn finish(tx: &mut Tx, tenant: &TenantId, run: RunRow, now: Timestamp) -> Result<()> {
    if run.is_changed() { runs::finish(tx, tenant, run, now).await } else { Ok(()) }
}

impl PopulationView {
    fn count(&mut self, added: &[JobAdded]) {
        for job in added {
            match job {
                JobAdded::Job { duplicate: true, .. } => self.duplicates += 1,
                JobAdded::Job { duplicate: false, suppressed, .. } => {
                    self.added += 1;
                    self.suppressed += u64::from(*suppressed);
                }
                // Deleted since it was listed: nobody to call.
                JobAdded::Rejected { .. } => {}
            }
        }
    }
}

async fn read(tx: &mut Tx, tenant: &TenantId, run: RunId) -> Result<Population> {
    statement!(SELECT, "SELECT filter, seal, after_lead_id, done AS population_done, added, duplicates, suppressed AS of_added,
             last_error AS population_error
         FROM run_populations WHERE tenant_id = $1 AND run_id = $2");
    let row = tx.fetch_optional(&SELECT, args![tenant, run.0]).await?;
    let row = row.ok_or(Error::NotFound("filling of the run"))?;
    let view = view(&row)?.ok_or(Error::NotFound("filling of the run"))?;
    Ok(Population {
        filter: row.json("filter")?,
        seal: row.bool("seal")?,
        after: row.uuid("after_lead_id")?,
        view,
    })
}

/// What is told of a run's filling, from the columns of a join; none if it is not filled so.
pub fn view(row: &Row) -> Result<Option<PopulationView>> {
    let Some(added) = row.opt_int("added")? else { return Ok(None) };
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Some(PopulationView {
        done: row.bool("population_done")?,
        added: number(added),
        duplicates: number(row.int("duplicates")?),
        suppressed: number(row.int("of_added")?),
        last_error: row.opt_text("population_error")?,
    }))
}

async fn save(tx: &mut Tx, tenant: &TenantId, run: RunId, population: &Population) -> Result<()> {
    statement!(UPDATE, "UPDATE run_populations SET filter = $3, after_lead_id = $4, done = $5, added = $6, duplicates = $7,
             suppressed = $8, last_error = NULL
         WHERE tenant_id = $1 AND run_id = $2");
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let PopulationView { done, added, duplicates, suppressed, .. } = population.view;
    // What was looked for may name a person, and is of no more use.
    let filter = if done { LeadFilter::default() } else { population.filter.clone() };
    let values = args![
        tenant,
        run.0,
        to_json(&filter)?,
        population.after,
        done,
        number(added),
        number(duplicates),
        number(suppressed),
    ];
    tx.execute(&UPDATE, values).await?;
    Ok(())
}

/// Says what it waits for.
async fn tell(tx: &mut Tx, tenant: &TenantId, run: RunId, why: &str) -> Result<()> {
    statement!(
        UPDATE,
        "UPDATE run_populations SET last_error = $3 WHERE tenant_id = $1 AND run_id = $2"
    );
    tx.execute(&UPDATE, args![tenant, run.0, why]).await.map(drop)
}

/// Ends it before its last page.
async fn end(tx: &mut Tx, tenant: &TenantId, run: RunId, why: &str) -> Result<()> {
    statement!(
        UPDATE,
        "UPDATE run_populations SET done = $4, last_error = $3, filter = $5
         WHERE tenant_id = $1 AND run_id = $2 AND NOT done"
    );
    // The run's lock comes first, as for a page.
    runs::row::lock_one(tx, tenant, run).await?;
    let values = args![tenant, run.0, why, true, to_json(&LeadFilter::default())?];
    tx.execute(&UPDATE, values).await.map(drop)
}
