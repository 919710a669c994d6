//! SQLite: one file, one writer, readers beside it; a file lock refuses a second server.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Sqlite as Db, Transaction};

use crate::domain::{TenantId, Timestamp, Violation};
use crate::store::db::sql::{Dialect, Row, Value, args, statement};
use crate::store::{Error, Result};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers beside the writer.
const READERS: u32 = 4;
/// How long a use case waits for the writer before it gives up.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept by a connection: more than there are statements.
const STATEMENTS_MAX: usize = 256;

/// An open file.
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Released when dropped.
    _lock: File,
}

impl Sqlite {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        let bad_url = |why: String| Error::Invalid(Violation::new("database_url", why));
        let options =
            SqliteConnectOptions::from_str(url).map_err(|error| bad_url(error.to_string()))?;
        let path = options.get_filename().to_owned();
        if url.contains(":memory:") || url.contains("mode=memory") || path.as_os_str().is_empty() {
            return Err(bad_url(
                "must name a file: an SQLite database in memory would not survive".to_owned(),
            ));
        }
        let lock = lock(&path)?;
        create_private(&path)?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An intent must be on disk before its request is sent.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENTS_MAX)
            .pragma("cache_size", "-65536")
            .pragma("wal_autocheckpoint", "4000");
        let cannot = |error: sqlx::Error| {
            Error::Unavailable(format!("cannot open {}: {error}", path.display()))
        };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await
            .map_err(cannot)?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|error| Error::Internal(format!("migration failed: {error}")))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(cannot)?;
        Ok(Self { writer, readers, _lock: lock })
    }

    /// Waits for the writer and begins.
    pub async fn begin(&self) -> Result<Transaction<'static, Db>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(error)
    }

    /// Begins on a reader.
    pub async fn read(&self) -> Result<Transaction<'static, Db>> {
        self.readers.begin().await.map_err(error)
    }
}

/// The file holds phone numbers: only its owner reads it. SQLite gives its other files the same
/// mode.
fn create_private(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let created = options.open(path).map(drop);
    created.map_err(|error| Error::Unavailable(format!("cannot open {}: {error}", path.display())))
}

/// Two servers on one file would each meter the pace and own the queue alone.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let cannot = |error: std::io::Error| {
        Error::Unavailable(format!("cannot open {}: {error}", name.display()))
    };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(format!(
            "another trunkline process uses {}; stop it, name another file, or use PostgreSQL for many processes",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

type Query<'q> = sqlx::query::Query<'q, Db, SqliteArguments>;

fn bind(sql: &'static str, args: Vec<Value>) -> Query<'static> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Int(int) => query.bind(int),
        Value::Float(float) => query.bind(float),
        Value::Bool(bool) => query.bind(bool),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Uuid(uuid) => query.bind(uuid.map(|uuid| uuid.to_string())),
        Value::Uuids(uuids) => query.bind(serde_json::json!(uuids).to_string()),
        Value::Texts(texts) => query.bind(serde_json::json!(texts).to_string()),
        Value::Rows(rows) => query.bind(rows.to_json()),
    })
}

/// Every row that the statement returns.
pub async fn fetch(
    tx: &mut Transaction<'static, Db>,
    sql: &'static str,
    args: Vec<Value>,
) -> Result<Vec<Row>> {
    let rows = bind(sql, args).fetch_all(&mut **tx).await.map_err(error)?;
    Ok(rows.into_iter().map(Row::Sqlite).collect())
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

/// The one writer holds every lock, so `ready_at` moves in the transaction that causes it.
pub async fn lower_ready_at(
    tx: &mut Transaction<'static, Db>,
    ready: &BTreeMap<TenantId, Timestamp>,
) -> Result<()> {
    statement!(
        LOWER,
        "UPDATE tenant_dispatch SET ready_at = $2 WHERE tenant_id = $1 AND ready_at > $2"
    );
    for (tenant, at) in ready {
        execute(tx, LOWER.text(Dialect::Sqlite), args![tenant, *at]).await?;
    }
    Ok(())
}

fn error(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => {
            Error::Unavailable(error.to_string())
        }
        // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_FULL and their extended codes.
        sqlx::Error::Database(db)
            if db.code().is_some_and(|code| {
                code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
            }) =>
        {
            Error::Unavailable(error.to_string())
        }
        _ => Error::Internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::sql::Sql;

    /// One row for each step of the plan.
    async fn plan(db: &Sqlite, template: &'static str) -> String {
        let text = Sql::new(template).text(Dialect::Sqlite);
        let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let steps: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sql).fetch_all(&db.writer).await.expect("a plan");
        steps.into_iter().map(|step| step.3).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn a_batch_is_found_by_its_keys_in_an_empty_database_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", dir.path().join("t.db").display());
        let db = Sqlite::open(&url).await.expect("a store");
        let update = plan(
            &db,
            "UPDATE call_log SET state = r.state FROM {rows 2 r: call_id uuid, state text}
             WHERE call_log.tenant_id = $1 AND call_log.call_id = r.call_id",
        )
        .await;
        assert!(update.contains("(tenant_id=? AND call_id=?)"), "{update}");
        let delete = plan(
            &db,
            "DELETE FROM ready_jobs WHERE tenant_id = $1 AND (run_id, priority, eligible_at, job_id) IN
                 (SELECT r.run_id, r.priority, r.eligible_at, r.job_id
                  FROM {rows 2 r: run_id uuid, priority bigint, eligible_at bigint, job_id uuid})",
        )
        .await;
        assert!(delete.contains("eligible_at=? AND job_id=?)"), "{delete}");
        let live = plan(
            &db,
            "SELECT run_id, count(*) AS live FROM call_log
             WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound' GROUP BY run_id",
        )
        .await;
        assert!(live.contains("call_log_live"), "{live}");
    }
}
