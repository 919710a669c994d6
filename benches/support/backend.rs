//! Where rows are kept while they are measured.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

/// Names the server that databases are made on.
pub const POSTGRES_URL: &str = "TEST_POSTGRES_URL";

/// A kind of database.
pub enum Backend {
    /// A file in a scratch directory.
    Sqlite,
    /// A new database on the server of this URL.
    Postgres(String),
}

impl Backend {
    /// For a heading.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// A new, empty database: its URL, and what keeps it alive.
    pub async fn database(&self) -> (String, Option<tempfile::TempDir>) {
        match self {
            Self::Sqlite => {
                let dir = tempfile::tempdir().expect("a scratch directory");
                (format!("sqlite://{}", dir.path().join("bench.db").display()), Some(dir))
            }
            Self::Postgres(server) => {
                let name = format!("b_{}", Uuid::new_v4().simple());
                let mut connection =
                    PgConnection::connect(server).await.expect("a PostgreSQL server");
                let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
                connection.execute(create).await.expect("a database");
                let (base, _) = server.rsplit_once('/').expect("a URL");
                (format!("{base}/{name}"), None)
            }
        }
    }
}
