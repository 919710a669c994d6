//! Carries out the steps of a case on a real store and checks what is committed.

mod ending;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::ToSpan as _;
use tokio::sync::Mutex as AsyncMutex;
use trunkline::domain::call::{CarrierStatus, GONE_AT_CARRIER, NOT_SENT, News};
use trunkline::domain::job::JobState;
use trunkline::domain::retry::{RetryOn, RetryPolicy};
use trunkline::domain::run::{Command, RunField, RunSettings};
use trunkline::domain::task::TaskKind;
use trunkline::domain::unknown::Candidate;
use trunkline::domain::{CallId, CallSid, JobId, RunId, TaskId, TenantId};
use trunkline::store::{
    Applied, ClaimLimits, Error, JobAdded, NewRetry, NewRun, RunPatch, Store, Task,
};

use super::facts::Facts;
use super::ops::{Op, Piece, Step, Time};
use super::replica::Replica;
use crate::support::raw::Raw;
use crate::support::{TestDatabase, job, make_tenant, new_run, settings, worker};

const FAST: f64 = 10_000.0;

/// The stores of a test, one for each process; every case has tenants of its own in them.
pub struct Stores {
    processes: Vec<Store>,
    raw: AsyncMutex<Raw>,
    database: TestDatabase,
    cases: AtomicUsize,
}

impl Stores {
    pub async fn open(database: TestDatabase, processes: usize) -> Self {
        let mut opened = Vec::new();
        for _ in 0..processes {
            opened.push(Store::open(&database.url).await.unwrap());
        }
        let raw = AsyncMutex::new(Raw::connect(&database.url).await);
        Self { processes: opened, raw, database, cases: AtomicUsize::new(0) }
    }
}

/// One case: the steps, and then whatever it takes to end every job.
pub async fn live_through(stores: &Stores, steps: &[Step]) -> Result<(), String> {
    let world = World::begin(stores).await;
    let mut watcher = Watcher::begin(stores, &world).await;
    for step in steps {
        if let Some(time) = &step.time {
            world.pass(&mut watcher.raw, time).await;
        }
        watcher.asked = step.ops.iter().map(asked).max().unwrap_or(0);
        let acting = AtomicBool::new(true);
        let act = async {
            let done = join_all(step.ops.iter().enumerate().map(|(i, op)| world.act(i, op))).await;
            acting.store(false, Ordering::Relaxed);
            done.into_iter().collect::<Result<(), String>>()
        };
        let watch = async {
            while acting.load(Ordering::Relaxed) {
                watcher.check().await.map_err(|why| format!("during {step:?}: {why}"))?;
            }
            Ok(())
        };
        let (acted, watched) = tokio::join!(act, watch);
        acted.and(watched)?;
        watcher.check().await.map_err(|why| format!("after {step:?}: {why}"))?;
    }
    ending::end_everything(&world, &mut watcher).await
}

/// How many live calls an operation asks to allow.
fn asked(op: &Op) -> i64 {
    match op {
        Op::Create { concurrency, .. } | Op::Limit { concurrency, .. } => i64::from(*concurrency),
        Op::LimitTenant { concurrent, .. } => i64::from(*concurrent),
        _ => 0,
    }
}

/// Reads and checks committed states, one after the other.
struct Watcher {
    raw: Raw,
    tenants: String,
    before: Facts,
    known: BTreeMap<String, Replica>,
    asked: i64,
}

impl Watcher {
    async fn begin(stores: &Stores, world: &World<'_>) -> Self {
        let tenants: Vec<String> =
            world.tenants.iter().map(|tenant| format!("'{tenant}'")).collect();
        Self {
            raw: Raw::connect(&stores.database.url).await,
            tenants: tenants.join(", "),
            before: Facts::default(),
            known: BTreeMap::new(),
            asked: 0,
        }
    }

    async fn check(&mut self) -> Result<(), String> {
        let facts = Facts::read(&mut self.raw, &self.tenants, &self.known).await;
        facts.check(&self.before, self.asked, &mut self.known)?;
        self.before = facts;
        Ok(())
    }
}

/// A case's tenants, and what it has made.
struct World<'a> {
    stores: &'a Stores,
    tenants: [TenantId; 2],
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    runs: Vec<(TenantId, RunId)>,
    jobs: Vec<JobId>,
    calls: Vec<(TenantId, CallId)>,
}

fn pick<T: Clone>(from: &[T], number: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(number) % from.len()].clone())
}

fn sid(call: CallId) -> CallSid {
    format!("CA{}", call.0.simple()).parse().unwrap()
}

fn news(call: CallId, piece: &Piece) -> (CallId, News) {
    let message = || "said the test".to_owned();
    let news = match piece {
        Piece::Submitted => News::Submitted { sid: sid(call) },
        // A name of a call that is nobody's.
        Piece::OtherSid => News::Submitted { sid: sid(CallId(uuid::Uuid::now_v7())) },
        Piece::Rejected(class) => {
            News::Rejected { class: *class, code: "1".into(), message: message() }
        }
        Piece::NotSent => News::NotSent { code: NOT_SENT, message: message() },
        Piece::Lost => News::Lost { message: message() },
        Piece::Status(status, sequence) => News::Status {
            sid: sid(call),
            status: *status,
            sequence: *sequence,
            duration_s: status.is_final().then_some(3),
            answered_by: None,
            error_code: None,
        },
        Piece::AnsweredBy(answered_by) => {
            News::AnsweredBy { sid: sid(call), answered_by: *answered_by }
        }
        Piece::Gone => News::Presumed { code: GONE_AT_CARRIER, message: message() },
    };
    (call, news)
}

/// What the store may say to a client at any time; all else is a defect.
fn expected<T>(result: Result<T, Error>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Error::NotFound(_)
            | Error::WrongState(_)
            | Error::Closed(_)
            | Error::Over(_)
            | Error::NotEnded(_)
            | Error::NothingToRetry
            | Error::TooSoon { .. },
        ) => Ok(None),
        Err(error) => Err(format!("{error:?}")),
    }
}

impl<'a> World<'a> {
    async fn begin(stores: &'a Stores) -> Self {
        let case = stores.cases.fetch_add(1, Ordering::Relaxed);
        let store = &stores.processes[0];
        let a = make_tenant(store, &format!("a{case}"), 3, FAST).await;
        let b = make_tenant(store, &format!("b{case}"), 2, FAST).await;
        Self { stores, tenants: [a, b], made: Mutex::default() }
    }

    /// Moves what waits for the clock instead of the clock.
    async fn pass(&self, raw: &mut Raw, time: &Time) {
        // Later than whatever has been claimed by its time so far, on a clock of milliseconds as
        // well.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = self.stores.processes[0].now().await.unwrap().0;
        let run = |number| pick(&self.made.lock().unwrap().runs, number);
        match time {
            Time::Due => {
                let due = |table: &str, column: &str, whose: &str| {
                    format!(
                        "UPDATE {table} SET {column} = {now} WHERE tenant_id = '{whose}' AND {column} > {now}"
                    )
                };
                for tenant in self.tenants.iter().map(TenantId::as_str) {
                    raw.execute(&due("ready_jobs", "eligible_at", tenant)).await;
                    raw.execute(&(due("jobs", "eligible_at", tenant) + " AND state = 'queued'"))
                        .await;
                    raw.execute(&due("runs", "claimable_at", tenant)).await;
                    raw.execute(&due("call_log", "check_at", tenant)).await;
                }
            }
            Time::Expiry(number) => {
                if let Some((_, run)) = run(*number) {
                    let expire =
                        format!("UPDATE runs SET expires_at = {now} WHERE run_id = '{run}'");
                    raw.execute(&format!("{expire} AND expires_at > {now}")).await;
                }
            }
        }
    }

    fn tenant(&self, number: u8) -> &TenantId {
        &self.tenants[usize::from(number) % 2]
    }

    async fn act(&self, process: usize, op: &Op) -> Result<(), String> {
        let store = &self.stores.processes[process % self.stores.processes.len()];
        let run = |number: u8| pick(&self.made.lock().unwrap().runs, number);
        match op {
            Op::Create { .. } => self.create(store, op).await,
            Op::Add { run: number, jobs } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                let jobs = (jobs.first..jobs.first + jobs.count).map(job).collect();
                let added = expected(store.add_jobs(&tenant, run, jobs, None).await)?;
                self.remember(&added.unwrap_or_default());
                Ok(())
            }
            Op::Command { run: number, command } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                expected(store.command_run(&tenant, run, *command, None).await).map(drop)
            }
            Op::Limit { run: number, concurrency } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                let settings = RunSettings { concurrency: *concurrency, ..settings() };
                let patch = RunPatch { settings, fields: vec![RunField::Concurrency] };
                expected(store.update_run(&tenant, run, patch, None).await).map(drop)
            }
            Op::Holidays { run: number, shut } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                keep_holidays(store, &tenant, run, *shut).await
            }
            Op::Reschedule => self.reschedule(store).await,
            Op::LimitTenant { tenant, concurrent } => {
                make_tenant(store, self.tenant(*tenant).as_str(), *concurrent, FAST).await;
                Ok(())
            }
            Op::CancelJobs { run: number, jobs } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                let known = self.made.lock().unwrap().jobs.clone();
                let jobs = jobs.iter().filter_map(|job| pick(&known, *job)).collect();
                expected(store.cancel_jobs(&tenant, run, jobs, None).await).map(drop)
            }
            Op::Retry { run: number } => {
                let Some((tenant, run)) = run(*number) else { return Ok(()) };
                self.retry(store, &tenant, run).await
            }
            Op::Claim { tenant, worker, max } => {
                self.claim(store, self.tenant(*tenant), *worker, *max).await
            }
            Op::News { tenant, news: pieces } => {
                let tenant = self.tenant(*tenant);
                let calls = self.calls_of(tenant);
                let batch: Vec<_> = pieces
                    .iter()
                    .filter_map(|(call, piece)| Some(news(pick(&calls, *call)?, piece)))
                    .collect();
                expected(store.apply(tenant, &batch).await).map(drop)
            }
            Op::Foreign { call, piece } => self.foreign(store, *call, piece).await,
            Op::LoseIntents => {
                expected(store.lose_abandoned_intents(Duration::ZERO).await).map(drop)
            }
            Op::PresumeStale => expected(store.presume_stale(Duration::ZERO).await).map(drop),
            Op::LookUp { found } => look_up(store, *found).await,
            Op::HangUps => expected(store.take_hangups(100).await).map(drop),
            Op::Sweep => expected(store.sweep().await).map(drop),
            Op::Reconcile { tenant } => {
                expected(store.reconcile_runs(self.tenant(*tenant), &[]).await).map(drop)
            }
            Op::CleanUp { tenant } => {
                expected(store.cleanup_stale_calls(self.tenant(*tenant)).await).map(drop)
            }
        }
    }

    async fn create(&self, store: &Store, op: &Op) -> Result<(), String> {
        let Op::Create { tenant, concurrency, weight, attempts, jobs, start, seal } = op else {
            return Ok(());
        };
        let retry = RetryPolicy {
            max_attempts: *attempts,
            on: vec![
                RetryOn::Busy,
                RetryOn::NoAnswer,
                RetryOn::Failed,
                RetryOn::Machine,
                RetryOn::Unknown,
            ],
            initial_delay_s: 0,
            ..RetryPolicy::default()
        };
        let settings =
            RunSettings { concurrency: *concurrency, weight: *weight, retry, ..settings() };
        let jobs = jobs.first..jobs.first + jobs.count;
        let new = NewRun { start: *start, seal: *seal, ..new_run(settings, jobs) };
        let tenant = self.tenant(*tenant);
        if let Some(created) = expected(store.create_run(tenant, new, None).await)? {
            self.made.lock().unwrap().runs.push((tenant.clone(), created.run.id));
            self.remember(&created.jobs);
        }
        Ok(())
    }

    /// Does what is in the table, claimed by nobody: of two at once one comes too late.
    async fn reschedule(&self, store: &Store) -> Result<(), String> {
        for tenant in &self.tenants {
            let rows = format!(
                "SELECT CAST(task_id AS TEXT), payload FROM tasks WHERE tenant_id = '{tenant}' AND kind = 'reschedule'"
            );
            for row in self.stores.raw.lock().await.rows(&rows).await {
                let task = Task {
                    tenant: tenant.clone(),
                    id: TaskId(row[0].parse().unwrap()),
                    kind: TaskKind::Reschedule,
                    subject: "a run".to_owned(),
                    payload: row[1].clone(),
                    attempt: 1,
                    claim: 0,
                };
                match store.reschedule(&task).await {
                    Err(Error::Lapsed) => {}
                    done => drop(expected(done)?),
                }
            }
        }
        Ok(())
    }

    async fn retry(&self, store: &Store, tenant: &TenantId, run: RunId) -> Result<(), String> {
        let states = vec![JobState::Failed, JobState::Canceled, JobState::Expired];
        let retry =
            NewRetry { parent: run, states, outcomes: Vec::new(), patch: None, start: true };
        if let Some(run) = expected(store.begin_retry(tenant, retry, None).await)? {
            self.made.lock().unwrap().runs.push((tenant.clone(), run));
            expected(store.fill_retry(tenant, run).await)?;
        }
        Ok(())
    }

    async fn claim(
        &self,
        store: &Store,
        tenant: &TenantId,
        name: u8,
        max: usize,
    ) -> Result<(), String> {
        // Its turn: before every other tenant, also those of other cases.
        let turn = format!("UPDATE tenant_dispatch SET ready_at = 0 WHERE tenant_id = '{tenant}'");
        self.stores.raw.lock().await.execute(&turn).await;
        let limits = ClaimLimits { max_calls: max, horizon: Duration::from_millis(250) };
        let Some(claim) = expected(store.claim(&worker(&(name % 3).to_string()), limits).await)?
        else {
            return Ok(());
        };
        let mut made = self.made.lock().unwrap();
        if let Some(tenant) = claim.tenant.filter(|tenant| self.tenants.contains(tenant)) {
            made.calls.extend(claim.calls.iter().map(|call| (tenant.clone(), call.call_id)));
        }
        Ok(())
    }

    /// The other tenant's call is nobody's.
    async fn foreign(&self, store: &Store, call: u8, piece: &Piece) -> Result<(), String> {
        let Some((tenant, call)) = pick(&self.made.lock().unwrap().calls, call) else {
            return Ok(());
        };
        let Some(other) = self.tenants.iter().find(|other| **other != tenant) else {
            return Ok(());
        };
        match expected(store.apply(other, &[news(call, piece)]).await)?.as_deref() {
            Some([Applied::NoSuchCall]) => Ok(()),
            applied => Err(format!("another tenant's call: {applied:?}")),
        }
    }

    fn calls_of(&self, tenant: &TenantId) -> Vec<CallId> {
        let made = self.made.lock().unwrap();
        made.calls.iter().filter(|(owner, _)| owner == tenant).map(|(_, call)| *call).collect()
    }

    fn remember(&self, added: &[JobAdded]) {
        let ids = added.iter().filter_map(|added| match added {
            JobAdded::Job { job_id, .. } => Some(*job_id),
            JobAdded::Rejected { .. } => None,
        });
        self.made.lock().unwrap().jobs.extend(ids);
    }
}

async fn keep_holidays(
    store: &Store,
    tenant: &TenantId,
    run: RunId,
    shut: bool,
) -> Result<(), String> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let around = (-2..=2).map(|n| today.checked_add(n.days()).unwrap());
    let holidays = if shut { around.collect() } else { Vec::new() };
    let patch = RunPatch {
        settings: RunSettings { holidays, ..settings() },
        fields: vec![RunField::Holidays],
    };
    expected(store.update_run(tenant, run, patch, None).await).map(drop)
}

/// Reads the account's list for every unknown call that is due, as the follow-up does.
async fn look_up(store: &Store, found: bool) -> Result<(), String> {
    for due in expected(store.take_due_calls(100).await)?.unwrap_or_default() {
        if due.sid.is_some() {
            continue;
        }
        let created_at = Some(store.now().await.map_err(|error| error.to_string())?);
        let call =
            Candidate { sid: sid(due.call_id), status: CarrierStatus::InProgress, created_at };
        expected(store.resolve_unknown(&due, if found { vec![call] } else { Vec::new() }).await)?;
    }
    Ok(())
}
