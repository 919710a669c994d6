//! SQL is checked before it runs: the database prepares every statement and says what it refuses.

use sqlx::{Executor as _, SqlSafeStr as _};

use crate::domain::TenantId;
use crate::store::db::sql::{Dialect, every_statement};
use crate::store::db::{Database, Scope};
use crate::store::{Result, Store};

/// PostgreSQL refuses to guess the type of a parameter, at the end of a statement that is right
/// otherwise. When it runs, its arguments bring their types.
const TYPE_COMES_WITH_THE_ARGUMENT: [&str; 2] = ["42P18", "42P08"];

/// A statement that the database refuses to prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRefused {
    /// The statement's name and module.
    pub name: &'static str,
    /// What the database says.
    pub reason: String,
}

impl Store {
    /// Has the database prepare every statement, on PostgreSQL in the role of the application.
    /// Gives how many there are, and those that it refuses.
    pub async fn prepare_statements(
        &self,
        tenant: &TenantId,
    ) -> Result<(usize, Vec<StatementRefused>)> {
        let (mut count, mut refused) = (0, Vec::new());
        for statement in every_statement() {
            count += 1;
            // A refusal ends a transaction of PostgreSQL's, so each has its own.
            let reason = match &*self.db {
                Database::Sqlite(db) => {
                    let text = sqlx::AssertSqlSafe(statement.sql.text(Dialect::Sqlite));
                    let mut tx = db.read().await?;
                    tx.prepare(text.into_sql_str()).await.err()
                }
                Database::Postgres(db) => {
                    let text = sqlx::AssertSqlSafe(statement.sql.text(Dialect::Postgres));
                    let mut tx = db.begin(Scope::Tenant(tenant)).await?;
                    tx.prepare(text.into_sql_str()).await.err()
                }
            };
            refused.extend(
                reason.filter(|error| !is_about_arguments(error)).map(|error| StatementRefused {
                    name: statement.name,
                    reason: error.to_string(),
                }),
            );
        }
        Ok((count, refused))
    }
}

fn is_about_arguments(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| TYPE_COMES_WITH_THE_ARGUMENT.contains(&&*code))
}
