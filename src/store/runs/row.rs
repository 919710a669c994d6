//! A run's row under its lock: loaded, changed in memory, saved once with its events and next
//! revision.

use uuid::Uuid;

use crate::domain::event::{Event, Progress};
use crate::domain::job::JobState;
use crate::domain::run::{self, JobCounts, OutcomeCounts, RunSettings, RunState};
use crate::domain::webhook::Told;
use crate::domain::{OpenBreaker, RunId, TenantId, Timestamp, WorkerId};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, Rows, args, statement, to_json};
use crate::store::{Error, Result, RunView, WorkerView};

/// A run, locked.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Where it stands.
    pub state: RunState,
    /// Whether all jobs are in.
    pub sealed: bool,
    /// What the client decided.
    pub settings: RunSettings,
    /// Claims take nothing before.
    pub starts_at: Timestamp,
    /// When its queued jobs expire.
    pub expires_at: Timestamp,
    /// The run whose jobs these retry.
    pub parent: Option<RunId>,
    /// Why it paused itself or failed.
    pub last_error: Option<String>,
    /// The last committed revision.
    pub revision: i64,
    /// What it has used of the tenant's slots.
    pub pass: i64,
    /// No job is eligible before.
    pub claimable_at: Timestamp,
    /// Bit p: some job had priority p.
    pub job_priorities: i64,
    /// Its jobs by state.
    pub counts: JobCounts,
    /// Its ended jobs by outcome.
    pub outcomes: OutcomeCounts,
    /// Who last claimed for it.
    pub worker_id: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its first job was claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What this transaction did to it.
    events: Vec<Event>,
}

macro_rules! run_columns {
    () => {
        "r.run_id, r.state, r.sealed, r.settings, r.starts_at, r.expires_at, r.parent_run_id, r.last_error, \
         r.revision, r.pass, r.claimable_at, r.job_priorities, r.jobs_total, r.queued, r.dialing, r.in_call, \
         r.completed, r.failed, r.canceled, r.skipped, r.expired, r.outcomes, r.worker_id, r.created_at, \
         r.updated_at, r.started_at, r.ended_at"
    };
}
pub(in crate::store) use run_columns;

impl RunRow {
    /// A run as it is before its first commit.
    pub fn new(id: RunId, settings: RunSettings, now: Timestamp) -> Self {
        Self {
            id,
            state: RunState::Draft,
            sealed: false,
            starts_at: settings.starts_at.unwrap_or(now),
            expires_at: settings.expiry(now),
            settings,
            parent: None,
            last_error: None,
            revision: 0,
            pass: 0,
            claimable_at: Timestamp::NEVER,
            job_priorities: 0,
            counts: JobCounts::default(),
            outcomes: OutcomeCounts::default(),
            worker_id: None,
            created_at: now,
            updated_at: now,
            started_at: None,
            ended_at: None,
            events: Vec::new(),
        }
    }

    /// Reads [`run_columns`].
    pub fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: RunId(row.uuid("run_id")?),
            state: row.word("state", RunState::from_word)?,
            sealed: row.bool("sealed")?,
            settings: row.json("settings")?,
            starts_at: Timestamp(row.int("starts_at")?),
            expires_at: Timestamp(row.int("expires_at")?),
            parent: row.opt_uuid("parent_run_id")?.map(RunId),
            last_error: row.opt_text("last_error")?,
            revision: row.int("revision")?,
            pass: row.int("pass")?,
            claimable_at: Timestamp(row.int("claimable_at")?),
            job_priorities: row.int("job_priorities")?,
            counts: JobCounts {
                queued: row.int("queued")?,
                dialing: row.int("dialing")?,
                in_call: row.int("in_call")?,
                completed: row.int("completed")?,
                failed: row.int("failed")?,
                canceled: row.int("canceled")?,
                skipped: row.int("skipped")?,
                expired: row.int("expired")?,
            },
            outcomes: row.json("outcomes")?,
            worker_id: row.opt_text("worker_id")?,
            created_at: Timestamp(row.int("created_at")?),
            updated_at: Timestamp(row.int("updated_at")?),
            started_at: row.opt_int("started_at")?.map(Timestamp),
            ended_at: row.opt_int("ended_at")?.map(Timestamp),
            events: Vec::new(),
        })
    }

    /// Remembers what happened, for the log.
    pub fn log(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Whether anything happened.
    pub fn is_changed(&self) -> bool {
        !self.events.is_empty()
    }

    /// Moves the run, if that is a move.
    pub fn move_to(&mut self, state: RunState, reason: Option<String>, now: Timestamp) {
        if state == self.state {
            return;
        }
        self.log(Event::RunStateChanged { from: self.state, to: state, reason });
        self.state = state;
        if state.is_ended() {
            self.ended_at = Some(now);
        }
    }

    /// Takes the run where its jobs have brought it, if anywhere.
    pub fn settle(&mut self, now: Timestamp) {
        if let Some(state) =
            run::settle(self.state, self.sealed, &self.counts, self.expires_at, now)
        {
            self.move_to(state, None, now);
        }
    }

    /// Jobs of this priority wait, the first from `eligible_at` on.
    pub fn has_queued(&mut self, priority: u8, eligible_at: Timestamp) {
        self.job_priorities |= 1 << priority;
        self.claimable_at = self.claimable_at.min(eligible_at);
    }

    /// What becomes of its queued jobs without being dialed, or none.
    pub fn queued_jobs_end_as(&self, now: Timestamp) -> Option<JobState> {
        run::queued_jobs_end_as(self.state, self.expires_at, now)
    }

    fn progress(&self) -> Progress {
        Progress { state: self.state, counts: self.counts, outcomes: self.outcomes.clone() }
    }

    /// The run as clients see it.
    pub fn view(&self, worker: Option<WorkerView>, breaker: Option<OpenBreaker>) -> RunView {
        RunView {
            id: self.id,
            settings: self.settings.clone(),
            progress: self.progress(),
            sealed: self.sealed,
            parent: self.parent,
            last_error: self.last_error.clone(),
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            expires_at: self.expires_at,
            worker,
            population: None,
            breaker: breaker.filter(|_| !self.state.is_ended()),
        }
    }
}

/// Reads the worker columns of a join of runs with workers.
pub fn read_worker(row: &Row) -> Result<Option<WorkerView>> {
    let (Some(id), Some(heartbeat_at), Some(expires_at)) = (
        row.opt_text("worker_id")?,
        row.opt_int("heartbeat_at")?,
        row.opt_int("worker_expires_at")?,
    ) else {
        return Ok(None);
    };
    Ok(Some(WorkerView {
        id: WorkerId(id),
        heartbeat_at: Timestamp(heartbeat_at),
        expires_at: Timestamp(expires_at),
    }))
}

/// Locks runs of the tenant, in the order of their ids; those that do not exist are left out.
pub async fn lock(tx: &mut Tx, tenant: &TenantId, runs: Vec<Uuid>) -> Result<Vec<RunRow>> {
    statement!(
        LOCK,
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.tenant_id = $1 AND r.run_id {any 2 uuid} ORDER BY r.run_id {for_update}"
        )
    );
    tx.fetch(&LOCK, args![tenant, runs]).await?.iter().map(RunRow::read).collect()
}

/// Locks one run.
pub async fn lock_one(tx: &mut Tx, tenant: &TenantId, run: RunId) -> Result<RunRow> {
    lock(tx, tenant, vec![run.0]).await?.pop().ok_or(Error::NotFound("run"))
}

/// Inserts a new run; its first revision follows with [`save`].
pub async fn insert(tx: &mut Tx, tenant: &TenantId, run: &RunRow) -> Result<()> {
    statement!(INSERT, "INSERT INTO runs (tenant_id, run_id, state, sealed, settings, concurrency, weight, priority, starts_at,
             expires_at, parent_run_id, revision, claimable_at, jobs_total, queued, dialing, in_call, completed,
             failed, canceled, skipped, expired, outcomes, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, 0, 0, 0, 0, 0, 0, 0, 0, 0, $13, $14, $14)");
    let settings = &run.settings;
    tx.execute(
        &INSERT,
        args![
            tenant,
            run.id.0,
            run.state.as_str(),
            run.sealed,
            to_json(settings)?,
            i64::from(settings.concurrency),
            i64::from(settings.weight),
            i64::from(settings.priority),
            run.starts_at,
            run.expires_at,
            run.parent.map(|parent| parent.0),
            run.claimable_at,
            to_json(&run.outcomes)?,
            run.created_at,
        ],
    )
    .await?;
    Ok(())
}

/// Saves what changed: row, revision and events, each in one statement for all runs.
pub async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &mut [RunRow],
    now: Timestamp,
) -> Result<()> {
    statement!(
        EVENTS,
        "INSERT INTO run_events (tenant_id, run_id, revision, at, progress, events)
         SELECT $1, e.run_id, e.revision, $2, e.progress, e.events
         FROM {rows 3 e: run_id uuid, revision bigint, progress text, events text}"
    );
    let mut changed: Vec<&mut RunRow> = runs.iter_mut().filter(|run| run.is_changed()).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let mut progress = Vec::with_capacity(changed.len());
    let mut events = Vec::with_capacity(changed.len());
    for run in &mut changed {
        run.revision += 1;
        run.updated_at = now;
        tx.tell(
            tenant,
            run.events.iter().filter_map(|event| Told::of_run(run.id, run.revision, event)),
        );
        progress.push(to_json(&run.progress())?);
        events.push(to_json(&std::mem::take(&mut run.events))?);
        tx.run_changed(tenant, run.id);
    }
    update(tx, tenant, &changed).await?;
    let rows = Rows::new()
        .uuids(changed.iter().map(|run| run.id.0))
        .ints(changed.iter().map(|run| run.revision))
        .texts(progress)
        .texts(events);
    tx.execute(&EVENTS, args![tenant, now, rows]).await?;
    Ok(())
}

/// Saves a claim's hints of runs to which nothing happened, so that they cost no revision.
pub async fn save_hints(tx: &mut Tx, tenant: &TenantId, runs: &[RunRow]) -> Result<()> {
    statement!(
        HINTS,
        "UPDATE runs SET pass = r.pass, claimable_at = r.claimable_at
         FROM {rows 2 r: run_id uuid, pass bigint, claimable_at bigint}
         WHERE runs.tenant_id = $1 AND runs.run_id = r.run_id"
    );
    let unchanged: Vec<&RunRow> = runs.iter().filter(|run| !run.is_changed()).collect();
    if unchanged.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuids(unchanged.iter().map(|run| run.id.0))
        .ints(unchanged.iter().map(|run| run.pass))
        .ints(unchanged.iter().map(|run| run.claimable_at.0));
    tx.execute(&HINTS, args![tenant, rows]).await?;
    Ok(())
}

async fn update(tx: &mut Tx, tenant: &TenantId, runs: &[&mut RunRow]) -> Result<()> {
    statement!(UPDATE, "UPDATE runs SET state = r.state, sealed = r.sealed, settings = r.settings, concurrency = r.concurrency,
             weight = r.weight, priority = r.priority, starts_at = r.starts_at, expires_at = r.expires_at,
             last_error = r.last_error, revision = r.revision, pass = r.pass, claimable_at = r.claimable_at,
             job_priorities = r.job_priorities, jobs_total = r.jobs_total, queued = r.queued, dialing = r.dialing,
             in_call = r.in_call, completed = r.completed, failed = r.failed, canceled = r.canceled,
             skipped = r.skipped, expired = r.expired, outcomes = r.outcomes, worker_id = r.worker_id,
             updated_at = r.updated_at, started_at = r.started_at, ended_at = r.ended_at
         FROM {rows 2 r: run_id uuid, state text, sealed boolean, settings text, concurrency bigint, weight bigint, priority bigint, starts_at bigint, expires_at bigint, last_error text, revision bigint, pass bigint, claimable_at bigint, job_priorities bigint, jobs_total bigint, queued bigint, dialing bigint, in_call bigint, completed bigint, failed bigint, canceled bigint, skipped bigint, expired bigint, outcomes text, worker_id text, updated_at bigint, started_at bigint, ended_at bigint}
         WHERE runs.tenant_id = $1 AND runs.run_id = r.run_id");
    let settings: Vec<String> =
        runs.iter().map(|run| to_json(&run.settings)).collect::<Result<_>>()?;
    let outcomes: Vec<String> =
        runs.iter().map(|run| to_json(&run.outcomes)).collect::<Result<_>>()?;
    let rows = Rows::new()
        .uuids(runs.iter().map(|r| r.id.0))
        .texts(runs.iter().map(|r| r.state.as_str().to_owned()))
        .bools(runs.iter().map(|r| r.sealed))
        .texts(settings)
        .ints(runs.iter().map(|r| i64::from(r.settings.concurrency)))
        .ints(runs.iter().map(|r| i64::from(r.settings.weight)))
        .ints(runs.iter().map(|r| i64::from(r.settings.priority)))
        .ints(runs.iter().map(|r| r.starts_at.0))
        .ints(runs.iter().map(|r| r.expires_at.0))
        .texts(runs.iter().map(|r| r.last_error.clone()))
        .ints(runs.iter().map(|r| r.revision))
        .ints(runs.iter().map(|r| r.pass))
        .ints(runs.iter().map(|r| r.claimable_at.0))
        .ints(runs.iter().map(|r| r.job_priorities))
        .ints(runs.iter().map(|r| r.counts.total()))
        .ints(runs.iter().map(|r| r.counts.queued))
        .ints(runs.iter().map(|r| r.counts.dialing))
        .ints(runs.iter().map(|r| r.counts.in_call))
        .ints(runs.iter().map(|r| r.counts.completed))
        .ints(runs.iter().map(|r| r.counts.failed))
        .ints(runs.iter().map(|r| r.counts.canceled))
        .ints(runs.iter().map(|r| r.counts.skipped))
        .ints(runs.iter().map(|r| r.counts.expired))
        .texts(outcomes)
        .texts(runs.iter().map(|r| r.worker_id.clone()))
        .ints(runs.iter().map(|r| r.updated_at.0))
        .ints(runs.iter().map(|r| r.started_at.map(|at| at.0)))
        .ints(runs.iter().map(|r| r.ended_at.map(|at| at.0)));
    tx.execute(&UPDATE, args![tenant, rows]).await?;
    Ok(())
}
