//! The database's own fastest way in: the same columns and keys, no server, no checks, nothing
//! read.

use std::fmt::Write as _;
use std::time::Instant;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::backend::Backend;
use super::people;

const COLUMNS: &str = "tenant_id, lead_id, phone, name, time_zone, attributes, tags, status, source, revision, \
                       created_at, updated_at";
const TABLE: &str = "CREATE TABLE floor_leads (tenant_id TEXT COLLATE \"C\" NOT NULL, lead_id UUID NOT NULL,
    phone TEXT COLLATE \"C\" NOT NULL, name TEXT COLLATE \"C\" NOT NULL, time_zone TEXT COLLATE \"C\",
    attributes TEXT COLLATE \"C\" NOT NULL, tags TEXT COLLATE \"C\" NOT NULL, status TEXT COLLATE \"C\" NOT NULL,
    source TEXT COLLATE \"C\" NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL, PRIMARY KEY (tenant_id, lead_id), UNIQUE (tenant_id, phone))";
/// What is handed to COPY at a time, in bytes.
const CHUNK: usize = 1 << 20;
const ATTRIBUTES: &str = r#"{"plan":"gold"}"#;

/// What it is called in the output.
pub const fn name(backend: &Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "floor: one prepared INSERT, one transaction",
        Backend::Postgres(_) => "floor: COPY",
    }
}

/// Rows a second.
pub async fn run(backend: &Backend, rows: usize) -> f64 {
    let (url, _dir) = backend.database().await;
    let began;
    match backend {
        Backend::Sqlite => {
            let options: SqliteConnectOptions = url.parse().expect("a URL");
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("cache_size", "-65536")
                .pragma("wal_autocheckpoint", "4000");
            let mut connection = options.connect().await.expect("a connection");
            let table = TABLE.replace(" COLLATE \"C\"", "").replace("UUID", "TEXT");
            connection.execute(sqlx::AssertSqlSafe(table)).await.expect("a table");
            began = Instant::now();
            sqlite(&mut connection, rows).await.expect("rows");
        }
        Backend::Postgres(_) => {
            let mut connection = PgConnection::connect(&url).await.expect("a connection");
            connection.execute(TABLE).await.expect("a table");
            began = Instant::now();
            copy(&mut connection, rows).await.expect("rows");
        }
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

async fn sqlite(connection: &mut sqlx::SqliteConnection, rows: usize) -> sqlx::Result<()> {
    let sql = format!(
        "INSERT INTO floor_leads ({COLUMNS}) VALUES ('bench', $1, $2, $3, 'America/New_York', $4, '[]', 'new', 'import',
             1, 0, 0)"
    );
    let mut tx = connection.begin().await?;
    for n in 0..rows {
        // One text, so the connection prepares it once.
        sqlx::query(sqlx::AssertSqlSafe(sql.clone()))
            .bind(Uuid::now_v7().to_string())
            .bind(people::phone(n))
            .bind(people::name(n))
            .bind(ATTRIBUTES)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await
}

async fn copy(connection: &mut PgConnection, rows: usize) -> sqlx::Result<()> {
    let mut copy =
        connection.copy_in_raw(&format!("COPY floor_leads ({COLUMNS}) FROM STDIN")).await?;
    let mut chunk = String::with_capacity(CHUNK + 1_024);
    for n in 0..rows {
        let (id, phone, name) = (Uuid::now_v7(), people::phone(n), people::name(n));
        let _ = writeln!(
            chunk,
            "bench\t{id}\t{phone}\t{name}\tAmerica/New_York\t{ATTRIBUTES}\t[]\tnew\timport\t1\t0\t0"
        );
        if chunk.len() >= CHUNK {
            copy.send(std::mem::take(&mut chunk).into_bytes()).await?;
        }
    }
    copy.send(chunk.into_bytes()).await?;
    copy.finish().await.map(drop)
}
