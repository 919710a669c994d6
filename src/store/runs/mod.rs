//! Runs: created, changed, commanded, read.

pub(super) mod forecast;
pub(super) mod maintenance;
pub(super) mod opening;
pub(super) mod populate;
pub(super) mod reconcile;
pub(super) mod reconcile_facts;
pub(super) mod reschedule;
pub(super) mod retry;
pub(super) mod row;
pub(super) mod trim;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::run::{self, Command, RunState, WrongState};
use crate::domain::{RunId, TenantId, Timestamp, breaker, job};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, ReadyKey};
use crate::store::runs::row::{RunRow, read_worker, run_columns};
use crate::store::{
    BATCH_MAX, Error, InFlight, JobAdded, LeadFilter, NewRun, Page, Paged, RequestKey, Result,
    RunCreated, RunPatch, RunView, Store, audit, jobs, keys, runs, tenants,
};

/// What is kept of an answer: ids, no personal data.
#[derive(Serialize, Deserialize)]
struct Created {
    run_id: RunId,
    jobs: Vec<JobAdded>,
}

/// Creates a run of these jobs, or of the leads that pass `from_leads`.
async fn create(
    store: &Store,
    tenant: &TenantId,
    new: NewRun,
    from_leads: Option<LeadFilter>,
    key: Option<RequestKey>,
) -> Result<RunCreated> {
    let mut tx = store.db.begin(Scope::Tenant(tenant)).await?;
    if let Some(Created { run_id, jobs }) =
        keys::requests::replay(&mut tx, tenant, key.as_ref()).await?
    {
        return Ok(RunCreated { run: view(&mut tx, tenant, run_id).await?, jobs });
    }
    let now = tx.now().await?;
    new.settings.check(now)?;
    tenants::access::check_caller_id(&mut tx, tenant, &new.settings).await?;
    if let Some(parent) = new.parent {
        view(&mut tx, tenant, parent).await?;
    }
    let mut run = RunRow::new(RunId(Uuid::now_v7()), new.settings, now);
    run.parent = new.parent;
    run.state = if new.start { RunState::Pending } else { RunState::Draft };
    runs::row::insert(&mut tx, tenant, &run).await?;
    run.log(Event::RunCreated { state: run.state });
    let jobs = jobs::add_in(&mut tx, tenant, &mut run, new.jobs, now).await?;
    jobs::check_queue(&mut tx, store, tenant, &jobs).await?;
    let detail = json!({
        "start": new.start, "seal": new.seal, "jobs": jobs.len(), "from_leads": from_leads.is_some(),
    });
    if let Some(filter) = from_leads {
        // Sealed with its last page.
        runs::populate::begin(&mut tx, tenant, run.id, filter, new.seal, now).await?;
    } else if new.seal {
        run.sealed = true;
        run.log(Event::RunSealed);
    }
    run.settle(now);
    let run_id = run.id;
    finish(&mut tx, tenant, run, now).await?;
    audit::write(&mut tx, &store.actor, tenant, format!("run {run_id}"), &detail, now).await?;
    keys::requests::keep(
        &mut tx,
        tenant,
        key.as_ref(),
        &Created { run_id, jobs: jobs.clone() },
        now,
    )
    .await?;
    let run = view(&mut tx, tenant, run_id).await?;
    tx.commit(&store.wakes).await?;
    Ok(RunCreated { run, jobs })
}

impl Store {
    /// Changes settings of a run that has not ended.
    pub async fn update_run(
        &self,
        tenant: &TenantId,
        id: RunId,
        patch: RunPatch,
        key: Option<RequestKey>,
    ) -> Result<RunView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return view(&mut tx, tenant, id).await;
        }
        let mut run = runs::row::lock_one(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        if !run.state.may_dial() {
            return Err(Error::Over(run.state));
        }
        let settings = run.settings.clone().with(&patch.fields, &patch.settings);
        settings.check_change(&run.settings, now)?;
        if settings.caller_id != run.settings.caller_id {
            tenants::access::check_caller_id(&mut tx, tenant, &settings).await?;
        }
        let fields: Vec<&str> = patch.fields.iter().map(|field| field.as_str()).collect();
        if settings != run.settings {
            run.starts_at = settings.starts_at.unwrap_or(run.starts_at.min(now));
            if settings.expires_at != run.settings.expires_at
                || settings.starts_at != run.settings.starts_at
            {
                run.expires_at = settings.expiry(now);
            }
            let before = std::mem::replace(&mut run.settings, settings);
            if !before.allows_the_same_as(&run.settings) {
                runs::reschedule::run(&mut tx, tenant, id, now).await?;
            }
            run.log(Event::RunUpdated {
                fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            });
        }
        finish(&mut tx, tenant, run, now).await?;
        let detail = json!({ "fields": fields });
        audit::write(&mut tx, &self.actor, tenant, format!("run {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        let run = view(&mut tx, tenant, id).await?;
        tx.commit(&self.wakes).await?;
        Ok(run)
    }
}

impl Store {
    /// Starts, pauses, resumes, cancels, stops or seals a run.
    pub async fn command_run(
        &self,
        tenant: &TenantId,
        id: RunId,
        command: Command,
        key: Option<RequestKey>,
    ) -> Result<RunView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return view(&mut tx, tenant, id).await;
        }
        let mut run = runs::row::lock_one(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        let state = run::decide(run.state, command)?;
        if command == Command::Start && state == RunState::Pending && now >= run.expires_at {
            return Err(Error::WrongState(WrongState { command, state: RunState::Expired }));
        }
        if command == Command::Resume && state != run.state {
            run.last_error = None;
        }
        run.move_to(state, None, now);
        if command == Command::Seal && !run.sealed {
            run.sealed = true;
            run.log(Event::RunSealed);
        }
        end_queued_page(&mut tx, tenant, &mut run, now).await?;
        run.settle(now);
        let detail = json!({ "command": command.as_str(), "state": run.state });
        finish(&mut tx, tenant, run, now).await?;
        audit::write(&mut tx, &self.actor, tenant, format!("run {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        let run = view(&mut tx, tenant, id).await?;
        tx.commit(&self.wakes).await?;
        Ok(run)
    }
}

/// Ends up to a page of the run's queued jobs, if it is called off or expired. Returns how many.
pub async fn end_queued_page(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    now: Timestamp,
) -> Result<usize> {
    let Some(state) = run.queued_jobs_end_as(now) else { return Ok(0) };
    if run.counts.queued == 0 {
        return Ok(0);
    }
    let mut jobs = jobs::row::some_queued(tx, tenant, run.id, BATCH_MAX).await?;
    let keys: Vec<ReadyKey> = jobs.iter().map(ReadyKey::of).collect();
    for row in &mut jobs {
        let ended = job::called_off(&row.job, state);
        row.move_to(run, ended);
    }
    jobs::row::dequeue(tx, tenant, &keys).await?;
    jobs::row::save(tx, tenant, &jobs.iter().collect::<Vec<&JobRow>>(), now).await?;
    Ok(jobs.len())
}

/// Saves the run and tells whoever may dial it.
pub(in crate::store) async fn finish(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunRow,
    now: Timestamp,
) -> Result<()> {
    if run.state.is_dialing() && run.counts.queued > 0 {
        tx.has_work(tenant, run.starts_at.max(run.claimable_at).max(now));
    }
    runs::row::save(tx, tenant, &mut [run], now).await
}

macro_rules! run_view {
    () => {
        concat!(
            "SELECT ",
            run_columns!(),
            ", w.heartbeat_at, w.expires_at AS worker_expires_at, {now} AS now,
                 (SELECT a.breaker_open_until FROM tenants t JOIN carrier_accounts a ON a.account_sid = t.account_sid
                  WHERE t.tenant_id = r.tenant_id) AS breaker_open_until
              , p.done AS population_done, p.added, p.duplicates, p.suppressed AS of_added,
                 p.last_error AS population_error
              FROM runs r LEFT JOIN workers w ON w.worker_id = r.worker_id
                  LEFT JOIN run_populations p ON p.tenant_id = r.tenant_id AND p.run_id = r.run_id "
        )
    };
}

fn read_view(row: &Row) -> Result<RunView> {
    let open_until = row.opt_int("breaker_open_until")?.map(Timestamp);
    let breaker = breaker::seen(open_until, Timestamp(row.int("now")?));
    let view = RunRow::read(row)?.view(read_worker(row)?, breaker);
    Ok(RunView { population: runs::populate::view(row)?, ..view })
}

/// The run, with its revision, from one statement.
pub async fn view(tx: &mut Tx, tenant: &TenantId, run: RunId) -> Result<RunView> {
    statement!(SELECT, concat!(run_view!(), "WHERE r.tenant_id = $1 AND r.run_id = $2"));
    let row =
        tx.fetch_optional(&SELECT, args![tenant, run.0]).await?.ok_or(Error::NotFound("run"))?;
    read_view(&row)
}

impl Store {
    /// The run, with its revision, from one statement. An ended run's revision never moves again.
    pub async fn run(&self, tenant: &TenantId, run: RunId) -> Result<RunView> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        view(&mut tx, tenant, run).await
    }
}

impl Store {
    /// Newest first. Empty `states` means all.
    pub async fn list_runs(
        &self,
        tenant: &TenantId,
        states: &[RunState],
        page: Page,
    ) -> Result<Paged<RunView>> {
        statement!(
            SELECT,
            concat!(
                run_view!(),
                "WHERE r.tenant_id = $1 AND r.run_id < $2 AND r.state {any 3 text} ORDER BY r.run_id DESC LIMIT $4"
            )
        );
        let all = if states.is_empty() { RunState::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let before = page.after.unwrap_or(Uuid::max());
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let rows = tx.fetch(&SELECT, args![tenant, before, states, page.limit()]).await?;
        let items = rows.iter().map(read_view).collect::<Result<_>>()?;
        Ok(page.cut(items, |run: &RunView| run.id.0))
    }
}

impl Store {
    /// Live calls of the run.
    pub async fn in_flight(&self, tenant: &TenantId, run: RunId) -> Result<InFlight> {
        statement!(COUNT, "SELECT state, count(*) AS calls FROM call_log
             WHERE tenant_id = $1 AND run_id = $2 AND ended_at IS NULL AND direction <> 'inbound' GROUP BY state");
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let mut in_flight = InFlight::default();
        for row in tx.fetch(&COUNT, args![tenant, run.0]).await? {
            let calls: u32 = row.narrow("calls")?;
            match row.text("state")?.as_str() {
                "intent" => in_flight.intent += calls,
                "unknown" => in_flight.unknown += calls,
                "answered" => in_flight.answered += calls,
                _ => in_flight.ringing += calls,
            }
        }
        Ok(in_flight)
    }
}

impl Store {
    /// Creates a run with its first jobs (at most [`BATCH_MAX`]). [`Error::QueueFull`] if the
    /// tenant may not have so many queued; so does everything that adds jobs.
    pub async fn create_run(
        &self,
        tenant: &TenantId,
        new: NewRun,
        key: Option<RequestKey>,
    ) -> Result<RunCreated> {
        create(self, tenant, new, None, key).await
    }
}

impl Store {
    /// Creates a run of the leads that pass a filter now; leads that come later are not taken. Its
    /// jobs are added page by page by a task, which waits while the tenant's queue is full;
    /// `new.seal` holds after the last.
    pub async fn create_run_from_leads(
        &self,
        tenant: &TenantId,
        new: NewRun,
        filter: LeadFilter,
        key: Option<RequestKey>,
    ) -> Result<RunCreated> {
        create(self, tenant, new, Some(filter), key).await
    }
}
