//! Plain SQL on the store's database, past the store.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};

/// A connection of the owner's, whom row-level security does not bind.
pub enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Raw {
    pub async fn connect(url: &str) -> Self {
        if url.starts_with("sqlite") {
            Self::Sqlite(SqliteConnection::connect(url).await.unwrap())
        } else {
            Self::Postgres(PgConnection::connect(url).await.unwrap())
        }
    }

    pub async fn execute(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => connection.execute(sql).await.map(drop),
            Self::Postgres(connection) => connection.execute(sql).await.map(drop),
        }
        .unwrap();
    }

    /// From here to [`Raw::end_snapshot`] everything is read from one committed state.
    pub async fn begin_snapshot(&mut self) {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.execute(begin).await;
    }

    pub async fn end_snapshot(&mut self) {
        self.execute("ROLLBACK").await;
    }

    /// Rows of texts; NULL is the empty text. Other types are to be cast.
    pub async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => texts(&connection.fetch_all(sql).await.unwrap()),
            Self::Postgres(connection) => texts(&connection.fetch_all(sql).await.unwrap()),
        }
    }
}

fn texts<R: Row>(rows: &[R]) -> Vec<Vec<String>>
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let text = |row: &R, i| row.get::<Option<String>, _>(i).unwrap_or_default();
    rows.iter().map(|row| (0..row.len()).map(|i| text(row, i)).collect()).collect()
}
