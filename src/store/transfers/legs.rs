//! Calls to the targets of transfers: intents, under the same locks and limits as any other call's.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::pace::{self, Meter};
use crate::domain::tenant::TenantState;
use crate::domain::transfer::{Fact, Purpose, Step, next_step};
use crate::domain::{CallId, TenantId, Timestamp, WorkerId};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::transfers::row::TransferRow;
use crate::store::transfers::steps::transfer_of;
use crate::store::{
    Error, LegCall, LegIntent, Result, Store, Task, TenantView, dispatch, tenants, transfers,
};

/// No slot is free, or the target's phone is in use: asked again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A notification that takes longer is talking to itself; a conversation may take Twilio's four
/// hours.
const NOTIFY_LIMIT_S: u32 = 300;
const TALK_LIMIT_S: u32 = 14_400;

impl Store {
    /// Commits the intent of a call to the transfer's target, under the tenant's and the account's
    /// limits.
    pub async fn transfer_leg(
        &self,
        task: &Task,
        purpose: Purpose,
        worker: &WorkerId,
        horizon: Duration,
    ) -> Result<LegIntent> {
        let tenant = &task.tenant;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let next_call_at = lock_dispatch(&mut tx, tenant).await?;
        let TenantView { tenant: owner, state, .. } =
            tenants::access::tenant(&mut tx, tenant).await?;
        let (account_meter, breaker) = dispatch::claim::lock_account(&mut tx, &owner).await?;
        let mut meters = [Meter::new(owner.calls_per_second, next_call_at)?, account_meter];
        let mut row = transfers::row::lock(&mut tx, tenant, transfer_of(task)?).await?;
        let now = tx.now().await?;
        if next_step(&row.view.transfer) != Step::Call(purpose) {
            return Ok(LegIntent::Stale);
        }
        if state == TenantState::Disabled {
            return Ok(LegIntent::Later(ASK_AGAIN_AFTER));
        }
        if let Some(until) = breaker.filter(|until| *until > now) {
            return Ok(LegIntent::Later(until.since(now)));
        }
        let Some(target) =
            row.view.transfer.settings.targets.get(row.view.transfer.progress.target).cloned()
        else {
            return Err(Error::Internal("a transfer without its target".to_owned()));
        };
        if !is_free(&mut tx, tenant, target.expose(), owner.max_concurrent_calls).await? {
            return Ok(LegIntent::Later(ASK_AGAIN_AFTER));
        }
        let Some(send_at) = pace::reserve(&mut meters, now, horizon, 1).pop() else {
            return Ok(LegIntent::Later(pace::next_slot(&meters, now).since(now)));
        };
        let leg = LegCall {
            call_id: CallId(Uuid::now_v7()),
            to: target,
            from: from(&row, &owner)?,
            account: owner.account_sid.clone(),
            ring_timeout_s: row.view.transfer.settings.ring_timeout_s,
            time_limit_s: if purpose == Purpose::Notify { NOTIFY_LIMIT_S } else { TALK_LIMIT_S },
            send_in: send_at.since(now),
            probe: breaker.is_some(),
        };
        insert(&mut tx, tenant, &leg, &row, worker, now).await?;
        row.take(&Fact::LegStarted(leg.call_id), now)?;
        transfers::row::save(&mut tx, tenant, &mut row, now).await?;
        let probing = leg.probe.then(|| now + dispatch::claim::PROBE_EVERY);
        save_meters(&mut tx, tenant, &leg, meters, probing).await?;
        transfers::row::commit(self, tx, tenant, &row).await?;
        Ok(LegIntent::Call(leg))
    }
}

fn from(row: &TransferRow, owner: &crate::domain::tenant::Tenant) -> Result<crate::domain::Phone> {
    let fixed = row.view.transfer.settings.caller_id.clone();
    fixed
        .or_else(|| owner.caller_id_at(0).cloned())
        .ok_or_else(|| Error::Internal(format!("tenant {} has no caller id", owner.id)))
}

async fn lock_dispatch(tx: &mut Tx, tenant: &TenantId) -> Result<Timestamp> {
    statement!(LOCK, "SELECT next_call_at FROM tenant_dispatch WHERE tenant_id = $1 {for_update}");
    Ok(Timestamp(tx.fetch_one(&LOCK, args![tenant]).await?.int("next_call_at")?))
}

/// Whether a slot is free, and the phone.
async fn is_free(tx: &mut Tx, tenant: &TenantId, phone: &str, slots: u32) -> Result<bool> {
    statement!(LIVE, "SELECT count(*) AS live, COALESCE(sum(CASE WHEN phone_to = $2 THEN 1 ELSE 0 END), 0) AS busy FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound'");
    let row = tx.fetch_one(&LIVE, args![tenant, phone]).await?;
    Ok(row.int("live")? < i64::from(slots) && row.int("busy")? == 0)
}

async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    leg: &LegCall,
    row: &TransferRow,
    worker: &WorkerId,
    now: Timestamp,
) -> Result<()> {
    statement!(INSERT, "INSERT INTO call_log (tenant_id, call_id, direction, transfer_id, account_sid, worker_id, state, phone_from,
             phone_to, time_limit_s, created_at, updated_at)
         VALUES ($1, $2, 'transfer', $3, $4, $5, 'intent', $6, $7, $8, $9, $9)");
    let values = args![
        tenant,
        leg.call_id.0,
        row.view.id.0,
        leg.account.as_str(),
        worker.0.as_str(),
        leg.from.expose(),
        leg.to.expose(),
        i64::from(leg.time_limit_s),
        now,
    ];
    tx.execute(&INSERT, values).await?;
    Ok(())
}

async fn save_meters(
    tx: &mut Tx,
    tenant: &TenantId,
    leg: &LegCall,
    [own, account]: [Meter; 2],
    probing: Option<Timestamp>,
) -> Result<()> {
    statement!(TENANT, "UPDATE tenant_dispatch SET next_call_at = $2 WHERE tenant_id = $1");
    statement!(ACCOUNT, "UPDATE carrier_accounts SET next_call_at = $2, breaker_open_until = COALESCE($3, breaker_open_until)
         WHERE account_sid = $1");
    tx.execute(&TENANT, args![tenant, own.next]).await?;
    tx.execute(&ACCOUNT, args![leg.account.as_str(), account.next, probing]).await?;
    Ok(())
}
