//! Maintenance on both stores: runs put right, stale calls ended, ended jobs retried, jobs
//! explained.

mod cleanup;
mod explain;
mod reconcile;
mod retry;
mod wire;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::event::Event;
use trunkline::domain::job::JobState;
use trunkline::domain::run::JobCounts;
use trunkline::domain::{CallId, CallSid, RunId, TenantId};
use trunkline::store::{ClaimLimits, ClaimedCall, JobView, Page, Store};

use crate::support::{postgres_url, worker};

/// A store whose database the test can reach past it, to break what the store never breaks.
pub struct Open {
    pub store: Store,
    url: String,
    _dir: Option<tempfile::TempDir>,
}

impl Open {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("trunkline.db").display());
        Self { store: Store::open(&url).await.unwrap(), url, _dir: Some(dir) }
    }

    pub async fn postgres() -> Self {
        let url = postgres_url().await;
        Self { store: Store::open(&url).await.unwrap(), url, _dir: None }
    }

    /// Another process on the same database, where there can be one.
    pub async fn beside(&self) -> Option<Store> {
        if self.url.starts_with("sqlite") {
            None
        } else {
            Some(Store::open(&self.url).await.unwrap())
        }
    }

    /// Runs statements as the owner. Returns how many rows they changed.
    pub async fn sql(&self, text: &str) -> Result<u64, sqlx::Error> {
        let text = AssertSqlSafe(text.to_owned());
        if self.url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&self.url).await?;
            Ok(connection.execute(text).await?.rows_affected())
        } else {
            let mut connection = PgConnection::connect(&self.url).await?;
            Ok(connection.execute(text).await?.rows_affected())
        }
    }

    /// The first column of every row, as text.
    pub async fn texts(&self, text: &str) -> Vec<String> {
        let text = AssertSqlSafe(text.to_owned());
        if self.url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            let rows = connection.fetch_all(text).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let rows = connection.fetch_all(text).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    }

    /// Lets maintenance be asked for again.
    pub async fn a_minute_passes(&self) {
        self.sql("UPDATE maintenance SET last_at = last_at - 60000000").await.unwrap();
    }
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::maintenance::Open::sqlite().await).await; })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::maintenance::Open::postgres().await).await; })+
        }
    };
}
use on_both;

const FAST: f64 = 10_000.0;

fn sid(call: CallId) -> CallSid {
    format!("CA{}", call.0.simple()).parse().unwrap()
}

async fn claim_n(store: &Store, n: usize) -> Vec<ClaimedCall> {
    let limits = ClaimLimits { max_calls: n, horizon: Duration::from_millis(250) };
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let mut calls = Vec::new();
    while calls.len() < n && std::time::Instant::now() < end {
        let limits = ClaimLimits { max_calls: n - calls.len(), ..limits };
        calls.extend(store.claim(&worker("1"), limits).await.unwrap().calls);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(calls.len(), n);
    calls
}

fn status(call: CallId, status: CarrierStatus) -> (CallId, News) {
    let news = News::Status {
        sid: sid(call),
        status,
        sequence: None,
        duration_s: None,
        answered_by: None,
        error_code: None,
    };
    (call, news)
}

async fn jobs(store: &Store, tenant: &TenantId, run: RunId) -> Vec<JobView> {
    let mut page = Page { size: 1_000, after: None };
    let mut jobs = Vec::new();
    loop {
        let found = store.list_jobs(tenant, run, &[], page).await.unwrap();
        jobs.extend(found.items);
        page.after = found.next;
        if page.after.is_none() {
            return jobs;
        }
    }
}

/// Invariant 5, and that the queue holds exactly the queued jobs.
async fn assert_sound(test: &Open, tenant: &TenantId, run: RunId) -> JobCounts {
    let view = test.store.run(tenant, run).await.unwrap();
    let all = jobs(&test.store, tenant, run).await;
    let mut counts = JobCounts::default();
    all.iter().for_each(|job| *counts.of_mut(job.state) += 1);
    assert_eq!(counts, view.progress.counts);
    let mut queued: Vec<String> = all
        .iter()
        .filter(|job| job.state == JobState::Queued)
        .map(|job| job.id.to_string())
        .collect();
    let sql = format!("SELECT CAST(job_id AS TEXT) FROM ready_jobs WHERE run_id = '{run}'");
    let mut ready = test.texts(&sql).await;
    queued.sort();
    ready.sort();
    assert_eq!(queued, ready);
    counts
}

/// The repairs that the run's log tells, and that the log has every revision.
async fn logged_repairs(store: &Store, tenant: &TenantId, run: RunId) -> Vec<(String, u32)> {
    let log = store.commits_after(tenant, run, 0, 10_000).await.unwrap();
    let revisions: Vec<i64> = log.commits.iter().map(|commit| commit.revision).collect();
    assert_eq!(revisions, (1..=log.latest).collect::<Vec<_>>());
    let events = log.commits.into_iter().flat_map(|commit| commit.events);
    let repair = |event| match event {
        Event::Repaired { repair, count } => Some((repair.as_str().to_owned(), count)),
        _ => None,
    };
    events.filter_map(repair).collect()
}
