//! Databases to measure on, and things to put into them.

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor, PgPool, SqlitePool};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::run::{Command, RunSettings};
use trunkline::domain::script::Script;
use trunkline::domain::tenant::Tenant;
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{AccountSid, Phone, RunId, TenantId};
use trunkline::store::{NewJob, NewRun, Store, Who};

use super::backend::Backend;

/// The fastest pace there is.
pub const CALLS_PER_SECOND: f64 = 10_000.0;
/// Jobs added at a time.
const PAGE: usize = 1_000;

/// A new database.
pub struct World {
    /// What an [`Store`] opens.
    pub url: String,
    /// Plain connections to the same database.
    pub raw: Raw,
    _dir: Option<tempfile::TempDir>,
}

/// Plain connections.
pub enum Raw {
    /// One writer, as durable as the store's.
    Sqlite(SqlitePool),
    /// As durable as the store's.
    Postgres(PgPool),
}

impl World {
    /// A new, empty database with the store's schema.
    pub async fn new(backend: &Backend) -> (Self, Store) {
        let (url, dir) = backend.database().await;
        let engine = Store::open(&url).await.expect("a store");
        let raw = match backend {
            Backend::Sqlite => {
                let options: SqliteConnectOptions = url.parse().expect("a URL");
                let options = options
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(std::time::Duration::from_secs(60))
                    .pragma("cache_size", "-65536")
                    .pragma("wal_autocheckpoint", "4000");
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options);
                Raw::Sqlite(pool.await.expect("a connection"))
            }
            Backend::Postgres(_) => {
                let pool = PgPoolOptions::new().max_connections(16).connect(&url);
                Raw::Postgres(pool.await.expect("a connection"))
            }
        };
        (Self { url, raw, _dir: dir }, engine)
    }

    /// Runs statements as they are.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Sqlite(pool) => pool.execute(sql).await.map(drop),
            Raw::Postgres(pool) => pool.execute(sql).await.map(drop),
        }
        .expect("a statement that works");
    }

    /// The one number that a statement returns, if it is not NULL.
    pub async fn number(&self, sql: &str) -> Option<i64> {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
            Raw::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        }
        .expect("a statement that works")
    }
}

/// The `n`th tenant's account: one each, since an account's pace holds for all of its tenants.
pub fn account(n: usize) -> AccountSid {
    format!("AC{n:032x}").parse().expect("an account SID")
}

/// The `n`th tenant: as fast and as wide as can be, calling at any hour.
pub fn tenant(n: usize) -> Tenant {
    let id = format!("tenant-{n}").parse().expect("a tenant id");
    Tenant {
        max_concurrent_calls: 10_000,
        calls_per_second: CALLS_PER_SECOND,
        window: CallingWindow::ALWAYS,
        ..Tenant::new(id, account(n), "+15005550006".parse().expect("a phone"))
    }
}

/// Stores the `n`th tenant.
pub async fn make_tenant(store: &Store, n: usize) -> TenantId {
    let tenant = tenant(n);
    store.put_account(&tenant.account_sid, CALLS_PER_SECOND).await.expect("an account");
    store.put_tenant(&tenant).await.expect("a tenant");
    tenant.id
}

fn job(n: usize) -> NewJob {
    let phone: Phone =
        format!("+1{}555{:04}", 201 + n / 10_000, n % 10_000).parse().expect("a phone");
    NewJob {
        who: Who::Person(LeadFacts::of(phone)),
        priority: 5,
        eligible_at: None,
        metadata: None,
    }
}

/// A run of the jobs of these numbers, started and sealed.
pub async fn make_run(store: &Store, tenant: &TenantId, jobs: std::ops::Range<usize>) -> RunId {
    let run = make_open_run(store, tenant, jobs).await;
    store.command_run(tenant, run, Command::Seal, None).await.expect("a sealed run");
    run
}

/// A started run that takes more jobs.
pub async fn make_open_run(
    store: &Store,
    tenant: &TenantId,
    jobs: std::ops::Range<usize>,
) -> RunId {
    let script = Script::Say {
        text: "Hello, this is a reminder of your appointment.".into(),
        voice: None,
        language: None,
    };
    let new = NewRun {
        settings: RunSettings::new("bench", script),
        jobs: Vec::new(),
        start: true,
        seal: false,
        parent: None,
    };
    let run = store.create_run(tenant, new, None).await.expect("a run").run.id;
    add_jobs(store, tenant, run, jobs).await;
    run
}

/// Adds the jobs of these numbers.
pub async fn add_jobs(store: &Store, tenant: &TenantId, run: RunId, jobs: std::ops::Range<usize>) {
    for page in jobs.collect::<Vec<_>>().chunks(PAGE) {
        let jobs = page.iter().map(|n| job(*n)).collect();
        store.add_jobs(tenant, run, jobs, None).await.expect("jobs");
    }
}
