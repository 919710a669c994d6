//! The one seam between use cases and databases: open, begin, fetch, execute, commit.

pub(super) mod postgres;
pub(super) mod prepare;
pub(super) mod sql;
pub(super) mod sqlite;
pub(super) mod wake;

use crate::domain::call::{CallState, Direction};
use crate::domain::webhook::Told;
use crate::domain::{RunId, TenantId, Timestamp, TransferId};
use crate::metrics;
use crate::store::db::sql::{Dialect, Row, Sql, Value, statement};
use crate::store::db::wake::{Changes, Wakes};
use crate::store::{Error, Result, db, webhooks};

/// An open database.
pub enum Database {
    /// One file, one writer.
    Sqlite(db::sqlite::Sqlite),
    /// Many processes on many hosts.
    Postgres(db::postgres::Postgres),
}

/// On whose behalf a transaction runs.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// One tenant's rows.
    Tenant(&'a TenantId),
    /// Routing columns of all tenants.
    Scheduler,
    /// Administration: tenants, accounts, keys.
    Owner,
}

impl Database {
    /// Opens the database that `url` names and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => db::sqlite::Sqlite::open(url).await.map(Self::Sqlite),
            Some("postgres" | "postgresql") => {
                db::postgres::Postgres::open(url).await.map(Self::Postgres)
            }
            _ => Err(Error::Invalid(crate::domain::Violation::new(
                "database_url",
                "must begin with sqlite:// or postgres://",
            ))),
        }
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self, scope: Scope<'_>) -> Result<Tx> {
        let inner = match self {
            Self::Sqlite(db) => Inner::Sqlite(db.begin().await?),
            Self::Postgres(db) => Inner::Postgres(db.begin(scope).await?),
        };
        Ok(Tx { inner, changes: Changes::default() })
    }

    /// Begins a transaction that only reads; on SQLite it does not wait for the writer.
    pub async fn read(&self, scope: Scope<'_>) -> Result<Tx> {
        let inner = match self {
            Self::Sqlite(db) => Inner::Sqlite(db.read().await?),
            Self::Postgres(db) => Inner::Postgres(db.begin(scope).await?),
        };
        Ok(Tx { inner, changes: Changes::default() })
    }
}

enum Inner {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
pub struct Tx {
    inner: Inner,
    changes: Changes,
}

impl Tx {
    /// Every row that the statement returns.
    pub async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>> {
        match &mut self.inner {
            Inner::Sqlite(tx) => db::sqlite::fetch(tx, sql.text(Dialect::Sqlite), args).await,
            Inner::Postgres(tx) => db::postgres::fetch(tx, sql.text(Dialect::Postgres), args).await,
        }
    }

    /// The first row that the statement returns, if any.
    pub async fn fetch_optional(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.fetch(sql, args).await?.into_iter().next())
    }

    /// The row of a statement that always returns one.
    pub async fn fetch_one(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Row> {
        self.fetch_optional(sql, args)
            .await?
            .ok_or_else(|| Error::Internal("a row is missing".to_owned()))
    }

    /// How many rows the statement changed.
    pub async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64> {
        match &mut self.inner {
            Inner::Sqlite(tx) => db::sqlite::execute(tx, sql.text(Dialect::Sqlite), args).await,
            Inner::Postgres(tx) => {
                db::postgres::execute(tx, sql.text(Dialect::Postgres), args).await
            }
        }
    }

    /// Database time.
    pub async fn now(&mut self) -> Result<Timestamp> {
        statement!(NOW, "SELECT {now} AS now");
        Ok(Timestamp(self.fetch_one(&NOW, Vec::new()).await?.int("now")?))
    }

    /// Goes on, in the same transaction, as the application on behalf of `tenant`.
    pub async fn become_tenant(&mut self, tenant: &TenantId) -> Result<()> {
        match &mut self.inner {
            Inner::Sqlite(_) => Ok(()),
            Inner::Postgres(tx) => db::postgres::set_scope(tx, Scope::Tenant(tenant)).await,
        }
    }

    /// Tells watchers of the run, once committed.
    pub fn run_changed(&mut self, tenant: &TenantId, run: RunId) {
        self.changes.runs.insert((tenant.clone(), run));
    }

    /// Tells watchers of the transfer, once committed.
    pub fn transfer_changed(&mut self, tenant: &TenantId, transfer: TransferId) {
        self.changes.transfers.insert((tenant.clone(), transfer));
    }

    /// The tenant has work from `at` on; lowers its `ready_at` once committed.
    pub fn has_work(&mut self, tenant: &TenantId, at: Timestamp) {
        let earliest = self.changes.ready.entry(tenant.clone()).or_insert(at);
        *earliest = at.min(*earliest);
    }

    /// A call ended, once committed.
    pub fn call_ended(&mut self, direction: Direction, state: CallState) {
        self.changes.calls_ended.push((direction, state));
    }

    /// Tells the tenant's endpoints, in this transaction: at its end, so that what it tells is
    /// written at once and locks nothing before. A transaction tells of one tenant only.
    pub fn tell(&mut self, tenant: &TenantId, told: impl IntoIterator<Item = Told>) {
        let told = told.into_iter();
        match &mut self.changes.told {
            Some((_, before)) => before.extend(told),
            none => *none = Some((tenant.clone(), told.collect())),
        }
    }

    /// There are new tasks, once committed.
    pub fn has_tasks(&mut self) {
        self.changes.tasks = true;
    }

    /// Commits, then tells whom it concerns.
    ///
    /// On PostgreSQL `ready_at` is lowered after the commit and outside of it: its row is the
    /// dispatch lock, which comes first in the lock order and belongs to dialers. If the process
    /// dies in between, the sweep finds the work.
    pub async fn commit(mut self, wakes: &Wakes) -> Result<()> {
        if let Some((tenant, told)) = self.changes.told.take().filter(|(_, told)| !told.is_empty())
        {
            webhooks::enqueue::write(&mut self, &tenant, told).await?;
        }
        let ended = std::mem::take(&mut self.changes.calls_ended);
        match self.inner {
            Inner::Sqlite(mut tx) => {
                db::sqlite::lower_ready_at(&mut tx, &self.changes.ready).await?;
                db::sqlite::commit(tx).await?;
                wakes.committed_with_ready(self.changes);
            }
            Inner::Postgres(tx) => {
                db::postgres::commit(tx).await?;
                wakes.committed(self.changes);
            }
        }
        for (direction, state) in ended {
            metrics::call_ended(direction, state);
        }
        Ok(())
    }
}
