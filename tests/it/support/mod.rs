//! What tests share: real stores, and things to put into them.

pub mod logs;
pub mod raw;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::plan::Plans;
use trunkline::domain::run::RunSettings;
use trunkline::domain::script::Script;
use trunkline::domain::tenant::Tenant;
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{Phone, TenantId, WorkerId};
use trunkline::store::{Actor, Client, NewJob, NewRun, Store, Who};
use uuid::Uuid;

/// An empty database of its own for a test, and what keeps it alive.
pub struct TestDatabase {
    pub url: String,
    _dir: Option<tempfile::TempDir>,
}

impl TestDatabase {
    /// A new SQLite file.
    pub async fn sqlite() -> Self {
        logs::listen();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("trunkline.db").display());
        Self { url, _dir: Some(dir) }
    }

    /// A new database on the test server.
    pub async fn postgres() -> Self {
        logs::listen();
        Self { url: postgres_url().await, _dir: None }
    }
}

/// A store of its own for a test, and what keeps it alive.
pub struct TestStore {
    pub store: Store,
    database: TestDatabase,
}

impl TestStore {
    /// A connection to its database, past the store.
    pub async fn raw(&self) -> raw::Raw {
        raw::Raw::connect(&self.database.url).await
    }

    /// On a new SQLite file.
    pub async fn sqlite() -> Self {
        Self::on(TestDatabase::sqlite().await).await
    }

    /// On a new database of the test server.
    pub async fn postgres() -> Self {
        Self::on(TestDatabase::postgres().await).await
    }

    /// The same store, under other plans. Before anybody else holds it.
    pub fn with_plans(self, plans: Plans) -> Self {
        Self { store: self.store.with_plans(plans), ..self }
    }

    async fn on(database: TestDatabase) -> Self {
        Self { store: Store::open(&database.url).await.unwrap(), database }
    }
}

/// The URL of a new, empty database on the test server.
pub async fn postgres_url() -> String {
    let server = std::env::var("TEST_POSTGRES_URL").expect(
        "TEST_POSTGRES_URL is not set: run ./scripts/test, or scripts/with-postgres cargo test",
    );
    let name = format!("t_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

/// Declares each test once and runs it on both stores.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => { crate::support::on_both!(TestStore: $($name),+); };
}
/// The same for tests that open the database themselves.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => { crate::support::on_both!(TestDatabase: $($name),+); };
}
macro_rules! on_both {
    ($given:ident: $($name:ident),+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::support::$given::sqlite().await).await; })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::support::$given::postgres().await).await; })+
        }
    };
}
pub(crate) use {on_both, on_both_databases, on_both_stores};

pub const ACCOUNT: &str = "AC00000000000000000000000000000001";

pub fn tenant_id(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn worker(name: &str) -> WorkerId {
    WorkerId(format!("host:{name}"))
}

pub fn phone(n: usize) -> Phone {
    format!("+1{}555{:04}", 201 + n / 10_000, n % 10_000).parse().unwrap()
}

/// A tenant with these limits that may call at any hour.
pub async fn make_tenant(store: &Store, name: &str, concurrent: u32, per_second: f64) -> TenantId {
    let account = ACCOUNT.parse().unwrap();
    store.put_account(&account, per_second).await.unwrap();
    let id = tenant_id(name);
    store
        .put_tenant(&Tenant {
            max_concurrent_calls: concurrent,
            calls_per_second: per_second,
            window: CallingWindow::ALWAYS,
            ..Tenant::new(id.clone(), account, "+15005550006".parse().unwrap())
        })
        .await
        .unwrap();
    id
}

pub fn settings() -> RunSettings {
    RunSettings::new("test", Script::Say { text: "Hello".into(), voice: None, language: None })
}

pub fn job(n: usize) -> NewJob {
    NewJob {
        who: Who::Person(LeadFacts::of(phone(n))),
        priority: 5,
        eligible_at: None,
        metadata: None,
    }
}

pub fn new_run(settings: RunSettings, jobs: std::ops::Range<usize>) -> NewRun {
    NewRun { settings, jobs: jobs.map(job).collect(), start: true, seal: true, parent: None }
}

/// Until the store's clock shows a later millisecond: lists in order of creation are so to the
/// millisecond, and two transactions may share one.
pub async fn next_millisecond(store: &Store) {
    let millis = async || store.now().await.unwrap().micros() / 1_000;
    let before = millis().await;
    while millis().await <= before {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The store on behalf of a key of another tenant's administrator, with one request.
pub fn by(store: &Store, key_id: &str, method: &'static str) -> Store {
    let tenant = tenant_id("operator");
    let peer = Some("192.0.2.7".parse().unwrap());
    store.acting(Actor::Client(Client { tenant, key_id: key_id.into(), peer, method }))
}
