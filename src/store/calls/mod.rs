//! Calls and the log, read.

pub(super) mod apply;
pub(super) mod cleanup;
pub(super) mod follow_up;
pub(super) mod inbound;
pub(super) mod recorder;
pub(super) mod row;

use uuid::Uuid;

use crate::domain::event::Commit;
use crate::domain::run::RunState;
use crate::domain::{CallId, CallSid, RunId, TenantId, Timestamp};
use crate::store::calls::row::{CallRow, call_columns};
use crate::store::db::Scope;
use crate::store::db::sql::{Sql, Value, args, statement};
use crate::store::{CallView, CallsOf, Error, LogPage, Page, Paged, Result, Store};

macro_rules! call_view {
    () => {
        concat!(
            "SELECT ",
            call_columns!(),
            ", c.phone_from, c.phone_to, c.created_at, c.ended_at FROM call_log c "
        )
    };
}

impl Store {
    /// The call.
    pub async fn call(&self, tenant: &TenantId, call: CallId) -> Result<CallView> {
        statement!(SELECT, concat!(call_view!(), "WHERE c.tenant_id = $1 AND c.call_id = $2"));
        one(self, tenant, &SELECT, args![tenant, call.0]).await
    }
}

impl Store {
    /// The call that the carrier names so.
    pub async fn call_by_sid(&self, tenant: &TenantId, sid: &CallSid) -> Result<CallView> {
        statement!(SELECT, concat!(call_view!(), "WHERE c.tenant_id = $1 AND c.call_sid = $2"));
        one(self, tenant, &SELECT, args![tenant, sid.as_str()]).await
    }
}

async fn one(store: &Store, tenant: &TenantId, sql: &Sql, args: Vec<Value>) -> Result<CallView> {
    let mut tx = store.db.read(Scope::Tenant(tenant)).await?;
    let row = tx.fetch_optional(sql, args).await?.ok_or(Error::NotFound("call"))?;
    CallRow::view(&row)
}

impl Store {
    /// Oldest first.
    pub async fn list_calls(
        &self,
        tenant: &TenantId,
        of: CallsOf,
        page: Page,
    ) -> Result<Paged<CallView>> {
        statement!(
            BY_RUN,
            concat!(
                call_view!(),
                "WHERE c.tenant_id = $1 AND c.run_id = $2 AND c.call_id > $3 ORDER BY c.call_id LIMIT $4"
            )
        );
        statement!(
            BY_JOB,
            concat!(
                call_view!(),
                "WHERE c.tenant_id = $1 AND c.job_id = $2 AND c.call_id > $3 ORDER BY c.call_id LIMIT $4"
            )
        );
        let (sql, id) = match of {
            CallsOf::Run(run) => {
                self.run(tenant, run).await?;
                (&BY_RUN, run.0)
            }
            CallsOf::Job(job) => {
                self.job(tenant, job).await?;
                (&BY_JOB, job.0)
            }
        };
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let after = page.after.unwrap_or(Uuid::nil());
        let rows = tx.fetch(sql, args![tenant, id, after, page.limit()]).await?;
        let items = rows.iter().map(CallRow::view).collect::<Result<_>>()?;
        Ok(page.cut(items, |call: &CallView| call.id.0))
    }
}

impl Store {
    /// Up to `limit` commits after `revision`, in order, and how far the log reaches.
    pub async fn commits_after(
        &self,
        tenant: &TenantId,
        run: RunId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage> {
        statement!(
            HEAD,
            "SELECT r.revision, r.state, COALESCE((SELECT min(e.revision) FROM run_events e
                 WHERE e.tenant_id = $1 AND e.run_id = $2), r.revision + 1) AS oldest
             FROM runs r WHERE r.tenant_id = $1 AND r.run_id = $2"
        );
        statement!(
            TAIL,
            "SELECT revision, at, progress, events FROM run_events
             WHERE tenant_id = $1 AND run_id = $2 AND revision > $3 ORDER BY revision LIMIT $4"
        );
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        // The head first: what is committed later than it is read may be among the commits, never
        // the reverse.
        let head =
            tx.fetch_optional(&HEAD, args![tenant, run.0]).await?.ok_or(Error::NotFound("run"))?;
        let rows = tx.fetch(&TAIL, args![tenant, run.0, revision, i64::from(limit)]).await?;
        let commits: Vec<Commit> = rows
            .iter()
            .map(|row| {
                Ok(Commit {
                    revision: row.int("revision")?,
                    at: Timestamp(row.int("at")?),
                    progress: row.json("progress")?,
                    events: row.json("events")?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(LogPage {
            latest: head.int("revision")?,
            oldest: head.int("oldest")?,
            ended: head.word("state", RunState::from_word)?.is_ended(),
            commits,
        })
    }
}
