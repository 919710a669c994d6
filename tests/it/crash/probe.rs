//! The database as seen, and held up, from outside the servers.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};
use tokio::time::sleep;
use url::Url;

/// A row of `call_log`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Seen {
    pub call_id: String,
    pub state: String,
    pub call_sid: Option<String>,
    pub worker_id: String,
}

impl Seen {
    /// The process that claimed it: the middle of `hostname:pid:boot-uuid`.
    pub fn pid(&self) -> u32 {
        self.worker_id.rsplit(':').nth(1).unwrap().parse().unwrap()
    }
}

/// Reads beside the servers.
pub enum Probe {
    Sqlite {
        /// Waits for its turn to write.
        patient: SqlitePool,
        /// Does not.
        hasty: SqlitePool,
    },
    Postgres(PgPool),
}

impl Probe {
    pub async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let open = |patience| {
                let options = SqliteConnectOptions::from_str(url).unwrap().busy_timeout(patience);
                SqlitePoolOptions::new().max_connections(2).connect_lazy_with(options)
            };
            Self::Sqlite { patient: open(Duration::from_secs(5)), hasty: open(Duration::ZERO) }
        } else {
            Self::Postgres(PgPoolOptions::new().max_connections(2).connect(url).await.unwrap())
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The committed calls of a run.
    pub async fn calls(&self, run_id: &str) -> Vec<Seen> {
        let sql =
            "SELECT CAST(call_id AS TEXT) AS call_id, state, call_sid, worker_id FROM call_log
             WHERE CAST(run_id AS TEXT) = $1";
        match self {
            Self::Sqlite { patient, .. } => {
                sqlx::query_as(sql).bind(run_id).fetch_all(patient).await
            }
            Self::Postgres(pool) => sqlx::query_as(sql).bind(run_id).fetch_all(pool).await,
        }
        .unwrap()
    }

    /// From when on nobody else can write a call; what they read goes on. On PostgreSQL the claim
    /// gets as far as its intents, and news as far as its calls; on SQLite neither begins.
    pub async fn hold_calls(&self) -> Held {
        match self {
            Self::Sqlite { patient, .. } => {
                Held::Sqlite(patient.begin_with("BEGIN IMMEDIATE").await.unwrap())
            }
            Self::Postgres(pool) => {
                let mut tx = pool.begin().await.unwrap();
                sqlx::query("LOCK TABLE call_log IN SHARE MODE").execute(&mut *tx).await.unwrap();
                Held::Postgres(tx)
            }
        }
    }

    /// PostgreSQL: which login waits for a lock in a statement that begins like this; none if
    /// nobody comes to wait.
    pub async fn until_blocked(&self, statement: &str) -> Option<String> {
        const LOOKS: usize = 400;
        for _ in 0..LOOKS {
            let blocked = self.blocked(statement).await;
            if blocked.is_some() {
                return blocked;
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    async fn blocked(&self, statement: &str) -> Option<String> {
        let Self::Postgres(pool) = self else { panic!("SQLite does not tell who waits") };
        let sql = "SELECT usename::text FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND starts_with(query, $1)";
        sqlx::query_scalar(sql).bind(statement).fetch_optional(pool).await.unwrap()
    }

    /// SQLite: whether somebody is in the middle of a transaction that writes.
    pub async fn is_being_written(&self) -> bool {
        let Self::Sqlite { hasty, .. } = self else { panic!("PostgreSQL has many writers") };
        match hasty.begin_with("BEGIN IMMEDIATE").await {
            Ok(tx) => {
                tx.rollback().await.unwrap();
                false
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("5") => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// PostgreSQL: a login of its own for a process, so that [`Probe::until_blocked`] can name it.
    /// SQLite: the same URL.
    pub async fn login(&self, url: &str, process: usize) -> String {
        let Self::Postgres(pool) = self else { return url.to_owned() };
        let mut url = Url::parse(url).unwrap();
        let name = login(url.path().trim_start_matches('/'), process);
        let create = AssertSqlSafe(format!("CREATE ROLE {name} SUPERUSER LOGIN"));
        sqlx::query(create).execute(pool).await.unwrap();
        url.set_username(&name).unwrap();
        url.into()
    }
}

/// The login of a process.
pub fn login(database: &str, process: usize) -> String {
    format!("{database}_{process}")
}

/// A lock; to be released.
pub enum Held {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Held {
    pub async fn release(self) {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
        }
        .unwrap();
    }
}
