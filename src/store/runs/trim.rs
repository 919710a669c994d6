//! Logs of runs and transfers that ended long ago: deleted from their beginning on, page by page.
//!
//! By the scheduler's role, which may delete a log's rows and read nothing but their keys; tenants'
//! own role never deletes one. Each look at a log is a transaction of its own.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::TenantId;
use crate::store::db::Scope;
use crate::store::db::sql::{Registered, Sql, args};
use crate::store::{Result, Store};

/// Logs that one turn looks at, of runs and of transfers each.
const LOGS_MAX: i64 = 64;
/// Rows that one turn deletes of them, so that years of logs do not stand in the way of calls.
const ROWS_MAX: u64 = 4_000;
/// Rows that one transaction deletes.
const PAGE: u64 = 1_000;

/// Whose logs.
struct Logs {
    /// Those that are old enough and still there, the oldest first.
    due: Sql,
    /// The first rows of one.
    delete: Sql,
    /// That nothing is left of one, unless something is: another process may have deleted what this
    /// one was about to.
    mark: Sql,
}

macro_rules! logs {
    ($owner:literal, $id:literal, $log:literal) => {
        Logs {
            due: Sql::new(concat!(
                "SELECT tenant_id, ", $id, " AS id FROM ", $owner,
                " WHERE ended_at IS NOT NULL AND NOT log_trimmed AND ended_at <= $1 ORDER BY ended_at LIMIT $2"
            )),
            delete: Sql::new(concat!(
                "DELETE FROM ", $log, " WHERE (tenant_id, ", $id, ", revision) IN
                     (SELECT tenant_id, ", $id, ", revision FROM ", $log, " WHERE tenant_id = $1 AND ", $id, " = $2
                      ORDER BY revision LIMIT $3)"
            )),
            mark: Sql::new(concat!(
                "UPDATE ", $owner, " SET log_trimmed = true WHERE tenant_id = $1 AND ", $id, " = $2
                     AND NOT EXISTS (SELECT 1 FROM ", $log, " e WHERE e.tenant_id = $1 AND e.", $id, " = $2)"
            )),
        }
    };
}

static RUNS: Logs = logs!("runs", "run_id", "run_events");
static TRANSFERS: Logs = logs!("transfers", "transfer_id", "transfer_events");

macro_rules! register {
    ($($log:ident . $field:ident),+) => {
        $(inventory::submit! {
            Registered {
                name: concat!(stringify!($log), ".", stringify!($field), " in ", module_path!()),
                sql: &$log.$field,
            }
        })+
    };
}
register!(RUNS.due, RUNS.delete, RUNS.mark, TRANSFERS.due, TRANSFERS.delete, TRANSFERS.mark);

impl Store {
    /// Deletes a page of the logs of runs and transfers that ended longer ago than `keep`, from
    /// their beginning on. Returns how many commits were deleted.
    pub async fn trim_logs(&self, keep: Duration) -> Result<u64> {
        let mut deleted = 0;
        for logs in [&RUNS, &TRANSFERS] {
            for (tenant, id) in due(self, logs, keep).await? {
                let room = PAGE.min(ROWS_MAX - deleted);
                if room == 0 {
                    return Ok(deleted);
                }
                deleted += page(self, logs, &tenant, id, room).await?;
            }
        }
        Ok(deleted)
    }
}

async fn due(store: &Store, logs: &'static Logs, keep: Duration) -> Result<Vec<(TenantId, Uuid)>> {
    let mut tx = store.db.read(Scope::Scheduler).await?;
    // A value: PostgreSQL does not look an expression of its clock up in an index.
    let until = tx.now().await? - keep;
    let rows = tx.fetch(&logs.due, args![until, LOGS_MAX]).await?;
    rows.iter().map(|row| Ok((row.text("tenant_id")?.parse()?, row.uuid("id")?))).collect()
}

async fn page(
    store: &Store,
    logs: &'static Logs,
    tenant: &TenantId,
    id: Uuid,
    room: u64,
) -> Result<u64> {
    let mut tx = store.db.begin(Scope::Scheduler).await?;
    let rows =
        tx.execute(&logs.delete, args![tenant, id, i64::try_from(room).unwrap_or(0)]).await?;
    if rows < room {
        tx.execute(&logs.mark, args![tenant, id]).await?;
    }
    tx.commit(&store.wakes).await?;
    Ok(rows)
}
