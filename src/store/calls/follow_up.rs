//! Calls of which news is overdue, and what the carrier says of them when asked.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::call::{CallState, LOOKUP_INTERVAL, News, STALE_NO_CALL_SID};
use crate::domain::time::micros;
use crate::domain::unknown::{self, Candidate, Verdict};
use crate::domain::{AccountSid, CallId, Phone, TenantId, Timestamp};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{DueCall, Error, Result, Store, calls};

/// Tenants of one account whose unknown calls are compared.
const RIVAL_TENANTS_MAX: i64 = 1_000;
/// A call that stays as it was is asked about again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Store {
    /// Live calls of which news is overdue, and calls whose creation went unanswered; each comes
    /// again after [`LOOKUP_INTERVAL`](crate::domain::call::LOOKUP_INTERVAL) unless something is
    /// learned of it before.
    pub async fn take_due_calls(&self, limit: u32) -> Result<Vec<DueCall>> {
        statement!(DUE, "SELECT tenant_id, call_id FROM call_log
             WHERE ended_at IS NULL AND direction <> 'inbound' AND check_at <= {now}
             UNION ALL
             SELECT tenant_id, call_id FROM call_log
             WHERE ended_at IS NULL AND direction = 'inbound' AND check_at <= {now} ORDER BY tenant_id LIMIT $1");
        statement!(TAKE, "UPDATE call_log SET check_at = {now} + CASE state WHEN 'unknown' THEN CAST($3 AS BIGINT) ELSE CAST($4 AS BIGINT) END
             WHERE tenant_id = $1 AND call_id {any 2 uuid} AND ended_at IS NULL AND check_at <= {now}
             RETURNING call_id, call_sid, account_sid, state, phone_from, phone_to, answered_at, time_limit_s");
        let mut tx = self.db.read(Scope::Scheduler).await?;
        let due: Vec<(TenantId, Uuid)> = tx
            .fetch(&DUE, args![i64::from(limit)])
            .await?
            .iter()
            .map(|row| Ok((row.text("tenant_id")?.parse()?, row.uuid("call_id")?)))
            .collect::<Result<_>>()?;
        drop(tx);
        let mut taken = Vec::with_capacity(due.len());
        for of_tenant in due.chunk_by(|a, b| a.0 == b.0) {
            let tenant = &of_tenant[0].0;
            let ids: Vec<Uuid> = of_tenant.iter().map(|(_, call)| *call).collect();
            let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
            for row in tx
                .fetch(&TAKE, args![tenant, ids, micros(LOOKUP_INTERVAL), micros(ASK_AGAIN_AFTER)])
                .await?
            {
                taken.push(read_due(tenant, &row)?);
            }
            tx.commit(&self.wakes).await?;
        }
        Ok(taken)
    }
}

fn read_due(tenant: &TenantId, row: &Row) -> Result<DueCall> {
    Ok(DueCall {
        tenant: tenant.clone(),
        call_id: CallId(row.uuid("call_id")?),
        sid: row.opt_text("call_sid")?.map(|sid| sid.parse()).transpose()?,
        account: row.text("account_sid")?.parse()?,
        from: Phone::from_stored(row.text("phone_from")?),
        to: Phone::from_stored(row.text("phone_to")?),
        answered_at: row.opt_int("answered_at")?.map(Timestamp),
        time_limit_s: row.narrow("time_limit_s")?,
    })
}

impl Store {
    /// Resolves an unknown call by a *successful* look-up of the account's calls between its two
    /// numbers; `found` are all outbound API calls of the list that may be it, whether they are in
    /// our rows or not.
    pub async fn resolve_unknown(&self, due: &DueCall, found: Vec<Candidate>) -> Result<Verdict> {
        let account = account_view(self, due, &found).await?;
        let candidates: Vec<Candidate> = found
            .into_iter()
            .filter(|call| !account.known_sids.iter().any(|sid| sid == call.sid.as_str()))
            .collect();
        let mut tx = self.db.begin(Scope::Tenant(&due.tenant)).await?;
        let (runs, _) = calls::row::runs_of(&mut tx, &due.tenant, vec![due.call_id.0]).await?;
        crate::store::runs::row::lock(&mut tx, &due.tenant, runs).await?;
        let row = unknown_row(&mut tx, &due.tenant, due.call_id).await?;
        let Some((created_at, empty_lookups)) = row else {
            return Ok(Verdict::Wait { empty: false });
        };
        let now = tx.now().await?;
        let verdict = unknown::decide(created_at, &candidates, account.rivals, empty_lookups, now);
        match &verdict {
            Verdict::Adopt(call) => {
                let news = News::Status {
                    sid: call.sid.clone(),
                    status: call.status,
                    sequence: None,
                    duration_s: None,
                    answered_by: None,
                    error_code: None,
                };
                calls::apply::apply_in(&mut tx, &due.tenant, &[(due.call_id, news)]).await?;
            }
            Verdict::GiveUp => {
                let message =
                    "the answer to the create request was lost, and the carrier has no such call"
                        .to_owned();
                let news = News::Presumed { code: STALE_NO_CALL_SID, message };
                calls::apply::apply_in(&mut tx, &due.tenant, &[(due.call_id, news)]).await?;
            }
            Verdict::Wait { empty } => count_lookup(&mut tx, due, *empty).await?,
        }
        tx.commit(&self.wakes).await?;
        Ok(verdict)
    }
}

async fn count_lookup(tx: &mut Tx, due: &DueCall, empty: bool) -> Result<()> {
    statement!(
        COUNT,
        "UPDATE call_log SET empty_lookups = empty_lookups + 1 WHERE tenant_id = $1 AND call_id = $2"
    );
    if empty {
        tx.execute(&COUNT, args![&due.tenant, due.call_id.0]).await?;
    }
    Ok(())
}

/// When its intent was committed, and how many look-ups found nothing; none if it is unknown no
/// longer.
async fn unknown_row(
    tx: &mut Tx,
    tenant: &TenantId,
    call: CallId,
) -> Result<Option<(Timestamp, u32)>> {
    statement!(
        SELECT,
        "SELECT created_at, empty_lookups FROM call_log WHERE tenant_id = $1 AND call_id = $2 AND state = $3"
    );
    let args = args![tenant, call.0, CallState::Unknown.as_str()];
    let Some(row) = tx.fetch_optional(&SELECT, args).await? else { return Ok(None) };
    Ok(Some((Timestamp(row.int("created_at")?), row.narrow("empty_lookups")?)))
}

/// What all tenants of the account together know.
struct AccountView {
    known_sids: Vec<String>,
    /// Unknown calls of other tenants between the same numbers. Within a tenant there is none: a
    /// phone has one live call.
    rivals: usize,
}

async fn account_view(store: &Store, due: &DueCall, found: &[Candidate]) -> Result<AccountView> {
    statement!(
        KNOWN,
        "SELECT call_sid FROM call_log WHERE tenant_id {any 1 text} AND call_sid {any 2 text}"
    );
    statement!(RIVALS, "SELECT count(*) AS rivals FROM call_log WHERE tenant_id = $1 AND phone_to = $2 AND phone_from = $3
             AND ended_at IS NULL AND direction <> 'inbound' AND call_sid IS NULL");
    if found.is_empty() {
        return Ok(AccountView { known_sids: Vec::new(), rivals: 0 });
    }
    let mut tx = store.db.read(Scope::Scheduler).await?;
    let tenants = tenants_of(&mut tx, &due.account).await?;
    let sids: Vec<String> = found.iter().map(|call| call.sid.as_str().to_owned()).collect();
    let rows = tx.fetch(&KNOWN, args![tenants.clone(), sids]).await?;
    let known_sids = rows.iter().map(|row| row.text("call_sid")).collect::<Result<_>>()?;
    drop(tx);
    let mut rivals = 0;
    for other in tenants.iter().filter(|tenant| *tenant != due.tenant.as_str()) {
        let other: TenantId = other.parse().map_err(Error::Invalid)?;
        let mut tx = store.db.read(Scope::Tenant(&other)).await?;
        let args = args![&other, due.to.expose(), due.from.expose()];
        rivals += tx.fetch_one(&RIVALS, args).await?.narrow::<usize>("rivals")?;
    }
    Ok(AccountView { known_sids, rivals })
}

async fn tenants_of(tx: &mut Tx, account: &AccountSid) -> Result<Vec<String>> {
    statement!(SELECT, "SELECT tenant_id FROM tenants WHERE account_sid = $1 LIMIT $2");
    let rows = tx.fetch(&SELECT, args![account.as_str(), RIVAL_TENANTS_MAX]).await?;
    rows.iter().map(|row| row.text("tenant_id")).collect()
}
