//! PostgreSQL: many processes, row locks, row-level security, NOTIFY.

use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions,
};
use sqlx::{AssertSqlSafe, Connection, Executor, Postgres as Db, Transaction};
use uuid::Uuid;

use crate::domain::{RunId, TenantId, TransferId, Violation};
use crate::store::db::Scope;
use crate::store::db::sql::{Column, Row, Value};
use crate::store::db::wake::{Changes, Wakes};
use crate::store::{Error, Result, Wake};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of one process.
const CONNECTIONS_MAX: u32 = 16;
/// How long a use case waits for a connection before it gives up.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept by a connection: more than there are statements.
const STATEMENTS_MAX: usize = 256;
/// Other processes are told at most once in this time: a NOTIFY in each commit costs more than half
/// the commits.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(10);
/// Runs and transfers named in one NOTIFY; beyond it, listeners look at everything (a payload holds
/// at most 8,000 bytes).
const NOTIFY_NAMED_MAX: usize = 60;
const CHANNEL: &str = "trunkline";
/// Pause after a failed flush or a lost listener.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Per connection. Statements are point look-ups by index; a plan cached while a table was small
/// must not scan it once it is large. `lock_timeout` ends a wait that a stuck peer would make
/// endless. A process that is suspended in a transaction loses it after 5 s, long before its lease
/// of 20 s is over: the lock on the tenant's dispatch row must not keep the others from dialing,
/// nor its intents be committed when it wakes.
const SESSION: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET enable_bitmapscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan; SET lock_timeout = '10s'; \
     SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '5s'; SET synchronous_commit = on";

/// An open pool.
pub struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| Error::Invalid(Violation::new("database_url", error.to_string())))?
            .application_name("trunkline")
            .statement_cache_capacity(STATEMENTS_MAX);
        let connecting = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SESSION).await.map(drop) })
            })
            .connect_with(options.clone());
        let pool = match connecting.await {
            Ok(pool) => pool,
            Err(error) => {
                let why = why_not(&options, error).await;
                return Err(Error::Unavailable(format!("cannot connect to PostgreSQL: {why}")));
            }
        };
        MIGRATIONS
            .run(&pool)
            .await
            .map_err(|error| Error::Internal(format!("migration failed: {error}")))?;
        pin_statistics(&pool)
            .await
            .map_err(|error| Error::Internal(format!("cannot pin the statistics: {error}")))?;
        Ok(Self { pool })
    }

    /// Begins; the first statement sets role and tenant for this transaction alone.
    pub async fn begin(&self, scope: Scope<'_>) -> Result<Transaction<'static, Db>> {
        let statement = format!("BEGIN; {}", scope_statement(scope));
        self.pool.begin_with(AssertSqlSafe(statement)).await.map_err(error)
    }

    /// Keeps `ready_at` and other processes informed until `wakes` is dropped.
    pub fn spawn_wakes(&self, wakes: &Arc<Wakes>) {
        let origin = Uuid::new_v4();
        tokio::spawn(flush_loop(self.pool.clone(), Arc::downgrade(wakes), origin));
        tokio::spawn(listen_loop(self.pool.clone(), Arc::downgrade(wakes), origin));
    }
}

/// The pool is patient with a server that refuses, and then says only that it waited; one more try
/// says why.
async fn why_not(options: &PgConnectOptions, error: sqlx::Error) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Err(why)) => why,
        Ok(Ok(_)) | Err(_) => error,
    }
}

/// Tells the planner of new tables that a tenant has a great many rows of everything, and keeps it
/// believing so.
///
/// Of a table that was never analyzed it believes that a tenant has one row, and then reads all of
/// a tenant's calls to find a batch of them by id; later an average over many small tenants would
/// do the same to a large one. So `tenant_id` counts as having one value, whatever ANALYZE finds,
/// and tables are analyzed once with rows that this transaction deletes again. Plans are generic
/// and kept, so they must be right from the start.
async fn pin_statistics(pool: &PgPool) -> Result<(), sqlx::Error> {
    const NEW: &str = "SELECT reltuples < 0 FROM pg_class WHERE oid = to_regclass('call_log')";
    if !sqlx::query_scalar(NEW).fetch_one(pool).await? {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    // Processes that start at the same time do this one after the other.
    tx.execute("LOCK TABLE workers IN SHARE ROW EXCLUSIVE MODE").await?;
    if sqlx::query_scalar(NEW).fetch_one(&mut *tx).await? {
        tx.execute(STATISTICS).await?;
    }
    tx.commit().await
}

const STATISTICS: &str = include_str!("postgres_statistics.sql");

/// Safe to compose: a tenant id is `a-z`, `0-9` and `-`.
fn scope_statement(scope: Scope<'_>) -> String {
    match scope {
        Scope::Tenant(tenant) => {
            format!("SET LOCAL ROLE trunkline_app; SET LOCAL trunkline.tenant = '{tenant}'")
        }
        Scope::Scheduler => "SET LOCAL ROLE trunkline_scheduler".to_owned(),
        Scope::Owner => "SET LOCAL trunkline.tenant = ''".to_owned(),
    }
}

/// Goes on in the same transaction on somebody else's behalf.
pub async fn set_scope(tx: &mut Transaction<'static, Db>, scope: Scope<'_>) -> Result<()> {
    tx.execute(AssertSqlSafe(scope_statement(scope))).await.map(drop).map_err(error)
}

type Query<'q> = sqlx::query::Query<'q, Db, PgArguments>;

fn bind(sql: &'static str, args: Vec<Value>) -> Query<'static> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Int(int) => query.bind(int),
        Value::Float(float) => query.bind(float),
        Value::Bool(bool) => query.bind(bool),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Uuid(uuid) => query.bind(uuid),
        Value::Uuids(uuids) => query.bind(uuids),
        Value::Texts(texts) => query.bind(texts),
        Value::Rows(rows) => {
            rows.into_columns().into_iter().fold(query, |query, column| match column {
                Column::Uuid(values) => query.bind(values),
                Column::Text(values) => query.bind(values),
                Column::Int(values) => query.bind(values),
                Column::Bool(values) => query.bind(values),
            })
        }
    })
}

/// Every row that the statement returns.
pub async fn fetch(
    tx: &mut Transaction<'static, Db>,
    sql: &'static str,
    args: Vec<Value>,
) -> Result<Vec<Row>> {
    let rows = bind(sql, args).fetch_all(&mut **tx).await.map_err(error)?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}

/// How many rows the statement changed.
pub async fn execute(
    tx: &mut Transaction<'static, Db>,
    sql: &'static str,
    args: Vec<Value>,
) -> Result<u64> {
    Ok(bind(sql, args).execute(&mut **tx).await.map_err(error)?.rows_affected())
}

/// Commits.
pub async fn commit(tx: Transaction<'static, Db>) -> Result<()> {
    tx.commit().await.map_err(error)
}

/// What one process tells the others.
#[derive(Serialize, Deserialize)]
struct Note {
    origin: Uuid,
    work: bool,
    /// None: too many to name.
    named: Option<Named>,
}

/// What has a new revision.
#[derive(Serialize, Deserialize)]
struct Named {
    runs: Vec<(TenantId, RunId)>,
    transfers: Vec<(TenantId, TransferId)>,
}

async fn flush_loop(pool: PgPool, wakes: Weak<Wakes>, origin: Uuid) {
    while let Some(wakes) = wakes.upgrade() {
        // Woken at least this often, to see whether the store is gone.
        let Ok(changes) = tokio::time::timeout(RECONNECT_PAUSE, wakes.next_flush()).await else {
            continue;
        };
        if let Err(error) = flush(&pool, &changes, origin).await {
            tracing::warn!(%error, "cannot pass wake-ups on; the poll and the sweep stand in");
            wakes.put_back(changes);
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        }
        if !changes.ready.is_empty() {
            wakes.tell(Wake::Work);
        }
        tokio::time::sleep(NOTIFY_INTERVAL).await;
    }
}

async fn flush(pool: &PgPool, changes: &Changes, origin: Uuid) -> Result<(), sqlx::Error> {
    let note = Note {
        origin,
        work: !changes.ready.is_empty(),
        named: (changes.runs.len() + changes.transfers.len() <= NOTIFY_NAMED_MAX).then(|| Named {
            runs: changes.runs.iter().cloned().collect(),
            transfers: changes.transfers.iter().cloned().collect(),
        }),
    };
    let payload =
        serde_json::to_string(&note).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let (tenants, times): (Vec<String>, Vec<i64>) =
        changes.ready.iter().map(|(tenant, at)| (tenant.to_string(), at.0)).unzip();
    let mut tx = pool.begin_with("BEGIN; SET LOCAL ROLE trunkline_scheduler").await?;
    if !tenants.is_empty() {
        // Locked in the order of their keys, as everywhere.
        sqlx::query(
            "UPDATE tenant_dispatch d SET ready_at = r.ready_at
             FROM (SELECT t.tenant_id, w.ready_at
                   FROM unnest($1::text[], $2::bigint[]) AS w(tenant_id, ready_at)
                   JOIN tenant_dispatch t ON t.tenant_id = w.tenant_id AND t.ready_at > w.ready_at
                   ORDER BY t.tenant_id FOR UPDATE OF t) AS r
             WHERE d.tenant_id = r.tenant_id",
        )
        .bind(tenants)
        .bind(times)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&mut *tx).await?;
    tx.commit().await
}

async fn listen_loop(pool: PgPool, wakes: Weak<Wakes>, origin: Uuid) {
    while wakes.strong_count() > 0 {
        if let Err(error) = listen(&pool, &wakes, origin).await {
            tracing::warn!(%error, "not listening for wake-ups; the poll stands in");
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn listen(pool: &PgPool, wakes: &Weak<Wakes>, origin: Uuid) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // Whatever was told while nobody listened.
    if let Some(wakes) = wakes.upgrade() {
        wakes.tell(Wake::Everything);
    }
    loop {
        let received = tokio::time::timeout(RECONNECT_PAUSE, listener.try_recv()).await;
        let Some(wakes) = wakes.upgrade() else { return Ok(()) };
        match received {
            Err(_) => {}
            Ok(received) => match received? {
                Some(notification) => hear(&wakes, notification.payload(), origin),
                // The connection was lost and is back; what was told in between is not.
                None => wakes.tell(Wake::Everything),
            },
        }
    }
}

fn hear(wakes: &Wakes, payload: &str, origin: Uuid) {
    let Ok(note) = serde_json::from_str::<Note>(payload) else {
        wakes.tell(Wake::Everything);
        return;
    };
    if note.origin == origin {
        return;
    }
    if note.work {
        wakes.tell(Wake::Work);
    }
    let Some(Named { runs, transfers }) = note.named else {
        wakes.tell(Wake::Everything);
        return;
    };
    runs.into_iter().for_each(|(tenant, run)| wakes.tell(Wake::Run(tenant, run)));
    transfers
        .into_iter()
        .for_each(|(tenant, transfer)| wakes.tell(Wake::Transfer(tenant, transfer)));
}

fn error(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(db) => {
            let code = db.code().unwrap_or_default().into_owned();
            // Connection exceptions, insufficient resources, operator intervention, lock and
            // serialization conflicts:
            // https://www.postgresql.org/docs/current/errcodes-appendix.html
            let transient = ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || matches!(code.as_str(), "40001" | "40P01" | "55P03" | "25006");
            if transient {
                Error::Unavailable(error.to_string())
            } else {
                Error::Internal(error.to_string())
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => Error::Unavailable(error.to_string()),
        _ => Error::Internal(error.to_string()),
    }
}
