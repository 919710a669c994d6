//! What a worker leaves behind that is gone: its intents become unknown, and unknown calls are
//! given up in the end. For all tenants in turn, or for one that asks.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::call::{News, SEND_WITHIN, STALE_NO_CALL_SID};
use crate::domain::time::micros;
use crate::domain::{CallId, TenantId};
use crate::metrics;
use crate::store::db::Scope;
use crate::store::db::sql::{Row, Sql, Value, args, statement};
use crate::store::{Applied, Result, Store};

/// Calls that one transaction works on.
const CALLS_MAX: i64 = 500;

/// Intents that nobody sends any more. A worker that never sent a heartbeat counts by the age of
/// its intents alone. One that seems dead may be only suspended, and send what it claimed less than
/// a lease ago. $1: the age, $2: [`SEND_WITHIN`].
macro_rules! abandoned {
    () => {
        "SELECT c.tenant_id, c.call_id, c.worker_id FROM call_log c LEFT JOIN workers w ON w.worker_id = c.worker_id
         WHERE c.ended_at IS NULL AND c.direction <> 'inbound' AND c.state = 'intent'
             AND (c.created_at < {now} - $1 OR w.expires_at < {now} AND c.created_at < {now} - $2) "
    };
}

/// Unknown calls that nobody waits for any more. $1: the age.
macro_rules! stale {
    () => {
        "SELECT c.tenant_id, c.call_id, c.worker_id FROM call_log c
         WHERE c.ended_at IS NULL AND c.direction <> 'inbound' AND c.state = 'unknown'
             AND c.created_at < {now} - $1 "
    };
}

impl Store {
    /// Intents of workers whose life has expired, or older than `older_than`, become unknown.
    /// Returns how many.
    pub async fn lose_abandoned_intents(&self, older_than: Duration) -> Result<u64> {
        statement!(SELECT, concat!(abandoned!(), "ORDER BY c.tenant_id LIMIT $3"));
        let values = args![micros(older_than), micros(SEND_WITHIN), CALLS_MAX];
        tell_all(self, &SELECT, values, lost()).await
    }
}

impl Store {
    /// Unknown calls older than `older_than` are presumed failed. Returns how many.
    pub async fn presume_stale(&self, older_than: Duration) -> Result<u64> {
        statement!(SELECT, concat!(stale!(), "ORDER BY c.tenant_id LIMIT $2"));
        tell_all(self, &SELECT, args![micros(older_than), CALLS_MAX], stale()).await
    }
}

/// The first for one tenant, all of it. Returns how many calls moved.
pub(in crate::store) async fn lose_abandoned_of(
    store: &Store,
    tenant: &TenantId,
    older_than: Duration,
) -> Result<u32> {
    statement!(
        SELECT,
        concat!(
            abandoned!(),
            "AND c.tenant_id = $3 AND c.call_id > $4 ORDER BY c.call_id LIMIT $5"
        )
    );
    let values = args![micros(older_than), micros(SEND_WITHIN)];
    tell_one(store, tenant, &SELECT, values, lost()).await
}

/// The second for one tenant, all of it. Returns how many calls moved.
pub(in crate::store) async fn presume_stale_of(
    store: &Store,
    tenant: &TenantId,
    older_than: Duration,
) -> Result<u32> {
    statement!(
        SELECT,
        concat!(stale!(), "AND c.tenant_id = $2 AND c.call_id > $3 ORDER BY c.call_id LIMIT $4")
    );
    tell_one(store, tenant, &SELECT, args![micros(older_than)], stale()).await
}

/// What becomes of the calls, and how the log calls it.
struct End {
    event: &'static str,
    news: News,
}

fn lost() -> End {
    let message = "the worker was gone before it recorded an answer".to_owned();
    End { event: "takeover", news: News::Lost { message } }
}

fn stale() -> End {
    let message =
        "the carrier's answer was lost and nothing was heard of the call since".to_owned();
    End { event: "calls_given_up", news: News::Presumed { code: STALE_NO_CALL_SID, message } }
}

/// A call, and the worker whose it was.
struct Left {
    tenant: TenantId,
    call: CallId,
    worker: String,
}

fn read(row: &Row) -> Result<Left> {
    Ok(Left {
        tenant: row.text("tenant_id")?.parse()?,
        call: CallId(row.uuid("call_id")?),
        worker: row.opt_text("worker_id")?.unwrap_or_default(),
    })
}

/// A page of all tenants' calls. Returns how many were found.
async fn tell_all(store: &Store, select: &Sql, values: Vec<Value>, end: End) -> Result<u64> {
    let mut tx = store.db.read(Scope::Scheduler).await?;
    let rows = tx.fetch(select, values).await?;
    drop(tx);
    let left: Vec<Left> = rows.iter().map(read).collect::<Result<_>>()?;
    for of_tenant in left.chunk_by(|a, b| a.tenant == b.tenant) {
        tell(store, of_tenant, &end).await?;
    }
    Ok(u64::try_from(left.len()).unwrap_or(u64::MAX))
}

/// Every page of one tenant's calls. Returns how many moved.
async fn tell_one(
    store: &Store,
    tenant: &TenantId,
    select: &Sql,
    values: Vec<Value>,
    end: End,
) -> Result<u32> {
    let (mut moved, mut after) = (0, Uuid::nil());
    loop {
        let mut page = values.clone();
        page.extend(args![tenant, after, CALLS_MAX]);
        let mut tx = store.db.read(Scope::Tenant(tenant)).await?;
        let rows = tx.fetch(select, page).await?;
        drop(tx);
        let left: Vec<Left> = rows.iter().map(read).collect::<Result<_>>()?;
        let Some(last) = left.last() else { return Ok(moved) };
        after = last.call.0;
        moved += tell(store, &left, &end).await?;
    }
}

/// Brings the news to calls of one tenant and tells the log how many of each worker moved.
async fn tell(store: &Store, left: &[Left], end: &End) -> Result<u32> {
    let Some(Left { tenant, .. }) = left.first() else { return Ok(0) };
    let news: Vec<_> = left.iter().map(|left| (left.call, end.news.clone())).collect();
    let applied = store.apply(tenant, &news).await?;
    let mut of_worker: BTreeMap<&str, u32> = BTreeMap::new();
    for (left, applied) in left.iter().zip(&applied) {
        if matches!(applied, Applied::Changed(_)) {
            *of_worker.entry(&left.worker).or_default() += 1;
        }
    }
    for (from_worker, calls) in &of_worker {
        tracing::warn!(event = end.event, %tenant, from_worker, calls, "calls of a worker that is gone, or was lost");
        if matches!(end.news, News::Lost { .. }) {
            metrics::takeover(u64::from(*calls));
        }
    }
    Ok(of_worker.values().sum())
}
