//! Transfers: started, read, canceled, and joined by callers who dial in.

pub(super) mod legs;
pub(super) mod model;
pub(super) mod row;
pub(super) mod steps;

use serde_json::json;
use uuid::Uuid;

use crate::domain::call::CallState;
use crate::domain::transfer::{Fact, Rejection, State, Transfer};
use crate::domain::{CallId, Phone, TenantId, Timestamp, TransferId, Violation};
use crate::store::calls::row::{CallRow, call_columns};
use crate::store::db::sql::{Value, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::transfers::row::{TransferRow, transfer_columns};
use crate::store::{
    CallView, Caller, Error, InboundCall, LogPage, NewTransfer, Page, Paged, RequestKey, Result,
    Store, TransferCommit, TransferView, audit, calls, keys, tasks, tenants, transfers,
};

impl Store {
    /// Starts a transfer. [`Error::Transfer`](super::Error::Transfer) if its caller's call does not
    /// allow it, [`Error::Exists`](super::Error::Exists) if there is such an incident.
    pub async fn start_transfer(
        &self,
        tenant: &TenantId,
        new: NewTransfer,
        key: Option<RequestKey>,
    ) -> Result<TransferView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return view(&mut tx, tenant, id).await;
        }
        let NewTransfer { mode, incident, caller, mut settings } = new;
        settings.check()?;
        let owner = tenants::access::tenant(&mut tx, tenant).await?.tenant;
        owner.check_caller_id(settings.caller_id.as_ref())?;
        settings.caller_id = settings.caller_id.or_else(|| owner.caller_id_at(0).cloned());
        let (call, awaited) = match caller {
            Caller::Call(id) => (Some(caller_call(&mut tx, tenant, By::Id(id)).await?), None),
            Caller::Sid(sid) => {
                (Some(caller_call(&mut tx, tenant, By::Sid(sid.as_str())).await?), None)
            }
            Caller::Awaited(phone) => (None, Some(phone)),
        };
        if let Some(call) = &call {
            transfers::row::check_caller(call.direction, call.call.state)?;
            refuse_oneself(&settings.targets, &[&call.from, &call.to])?;
        }
        let now = tx.now().await?;
        let transfer = Transfer::new(mode, settings, call.map(|call| call.id), now);
        let mut row = TransferRow::new(incident, awaited, transfer, now);
        if !transfers::row::insert(&mut tx, tenant, &row).await? {
            return Err(match incident {
                Some(_) if row.view.transfer.caller.is_none() => Error::Exists("incident"),
                Some(id) if is_known(&mut tx, tenant, id.0).await? => Error::Exists("incident"),
                Some(_) | None => Rejection::InTransfer.into(),
            });
        }
        let id = row.view.id;
        transfers::row::save(&mut tx, tenant, &mut row, now).await?;
        tasks::enqueue(&mut tx, tenant, transfers::row::step_task(id, now), now).await?;
        let detail =
            json!({ "mode": mode, "call_id": row.view.transfer.caller, "incident_id": incident });
        audit::write(&mut tx, &self.actor, tenant, format!("transfer {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        transfers::row::commit(self, tx, tenant, &row).await?;
        Ok(row.view)
    }
}

enum By<'a> {
    Id(CallId),
    Sid(&'a str),
}

async fn caller_call(tx: &mut Tx, tenant: &TenantId, by: By<'_>) -> Result<CallView> {
    statement!(
        BY_ID,
        concat!(
            "SELECT ",
            call_columns!(),
            ", c.phone_from, c.phone_to, c.created_at, c.ended_at FROM call_log c
         WHERE c.tenant_id = $1 AND c.call_id = $2"
        )
    );
    statement!(
        BY_SID,
        concat!(
            "SELECT ",
            call_columns!(),
            ", c.phone_from, c.phone_to, c.created_at, c.ended_at FROM call_log c
         WHERE c.tenant_id = $1 AND c.call_sid = $2"
        )
    );
    let (sql, values): (_, Vec<Value>) = match by {
        By::Id(id) => (&BY_ID, args![tenant, id.0]),
        By::Sid(sid) => (&BY_SID, args![tenant, sid]),
    };
    let row = tx.fetch_optional(sql, values).await?.ok_or(Error::NotFound("call"))?;
    CallRow::view(&row)
}

/// Nobody can be connected to themselves: their line is in use.
fn refuse_oneself(targets: &[Phone], phones: &[&Phone]) -> Result<()> {
    match targets.iter().position(|target| phones.contains(&target)) {
        Some(i) => {
            Err(Violation::new(format!("targets[{i}]"), "is a number of the caller's own call")
                .into())
        }
        None => Ok(()),
    }
}

async fn is_known(tx: &mut Tx, tenant: &TenantId, incident: Uuid) -> Result<bool> {
    statement!(
        KNOWN,
        "SELECT transfer_id FROM transfers WHERE tenant_id = $1 AND incident_id = $2"
    );
    Ok(tx.fetch_optional(&KNOWN, args![tenant, incident]).await?.is_some())
}

/// The transfer, with its revision, from one statement.
pub async fn view(tx: &mut Tx, tenant: &TenantId, id: TransferId) -> Result<TransferView> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            transfer_columns!(),
            " FROM transfers t WHERE t.tenant_id = $1 AND t.transfer_id = $2"
        )
    );
    let row = tx.fetch_optional(&SELECT, args![tenant, id.0]).await?;
    Ok(TransferRow::read(&row.ok_or(Error::NotFound("transfer"))?)?.view)
}

impl Store {
    /// The transfer, with its revision, from one statement.
    pub async fn transfer(&self, tenant: &TenantId, id: TransferId) -> Result<TransferView> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        view(&mut tx, tenant, id).await
    }
}

impl Store {
    /// Newest first. Empty `states` means all.
    pub async fn list_transfers(
        &self,
        tenant: &TenantId,
        states: &[State],
        page: Page,
    ) -> Result<Paged<TransferView>> {
        statement!(SELECT, concat!(
            "SELECT ",
            transfer_columns!(),
            " FROM transfers t WHERE t.tenant_id = $1 AND t.transfer_id < $2 AND t.state {any 3 text}
             ORDER BY t.transfer_id DESC LIMIT $4"
        ));
        let all = if states.is_empty() { State::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let before = page.after.unwrap_or(Uuid::max());
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let rows = tx.fetch(&SELECT, args![tenant, before, states, page.limit()]).await?;
        let items =
            rows.iter().map(|row| Ok(TransferRow::read(row)?.view)).collect::<Result<_>>()?;
        Ok(page.cut(items, |view: &TransferView| view.id.0))
    }
}

impl Store {
    /// Cancels a transfer; a caller who was moved is taken back first.
    pub async fn cancel_transfer(
        &self,
        tenant: &TenantId,
        id: TransferId,
        key: Option<RequestKey>,
    ) -> Result<TransferView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return view(&mut tx, tenant, id).await;
        }
        let mut row = transfers::row::lock(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        row.take(&Fact::Canceled, now)?;
        if row.has_changed() {
            transfers::row::save(&mut tx, tenant, &mut row, now).await?;
            tasks::enqueue(&mut tx, tenant, transfers::row::step_task(id, now), now).await?;
        }
        let detail = json!({ "state": row.view.transfer.state() });
        audit::write(&mut tx, &self.actor, tenant, format!("transfer {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        transfers::row::commit(self, tx, tenant, &row).await?;
        Ok(row.view)
    }
}

impl Store {
    /// Records a call to us, if its caller is awaited, as the caller of that transfer.
    pub async fn join_awaited(
        &self,
        tenant: &TenantId,
        call: &InboundCall,
    ) -> Result<Option<TransferView>> {
        statement!(AWAITED, "SELECT transfer_id FROM transfers WHERE tenant_id = $1 AND caller_phone = $2 AND caller_phone IS NOT NULL
             ORDER BY transfer_id LIMIT 1");
        // The carrier asks again when our answer was lost on its way.
        statement!(
            JOINED,
            "SELECT t.transfer_id FROM call_log c
             JOIN transfers t ON t.tenant_id = $1 AND t.call_id = c.call_id AND t.ended_at IS NULL
             WHERE c.tenant_id = $1 AND c.call_sid = $2"
        );
        let Some(from) = &call.from else { return Ok(None) };
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        if let Some(joined) = tx.fetch_optional(&JOINED, args![tenant, call.sid.as_str()]).await? {
            return Ok(Some(view(&mut tx, tenant, TransferId(joined.uuid("transfer_id")?)).await?));
        }
        let Some(found) = tx.fetch_optional(&AWAITED, args![tenant, from.expose()]).await? else {
            return Ok(None);
        };
        drop(tx);
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let mut row =
            transfers::row::lock(&mut tx, tenant, TransferId(found.uuid("transfer_id")?)).await?;
        let now = tx.now().await?;
        let caller = calls::inbound::insert(&mut tx, tenant, call, now).await?;
        if row.awaited.is_none() || row.take(&Fact::CallerCame(caller), now).is_err() {
            return Ok(None);
        }
        transfers::row::save(&mut tx, tenant, &mut row, now).await?;
        transfers::row::commit(self, tx, tenant, &row).await?;
        Ok(Some(row.view))
    }
}

/// The state of the caller's call, and how the carrier has to be told of it; of the call to the
/// target, its row.
pub(in crate::store) async fn calls_of(
    tx: &mut Tx,
    tenant: &TenantId,
    transfer: &Transfer,
) -> Result<Vec<CallRow>> {
    let ids: Vec<Uuid> =
        [transfer.caller, transfer.progress.leg].into_iter().flatten().map(|id| id.0).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    calls::row::by_ids(tx, tenant, ids).await
}

impl Store {
    /// Up to `limit` commits after `revision`, in order, and how far the log reaches.
    pub async fn transfer_commits_after(
        &self,
        tenant: &TenantId,
        id: TransferId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage<TransferCommit>> {
        statement!(
            HEAD,
            "SELECT t.revision, t.ended_at, COALESCE((SELECT min(e.revision) FROM transfer_events e
                 WHERE e.tenant_id = $1 AND e.transfer_id = $2), t.revision + 1) AS oldest
             FROM transfers t WHERE t.tenant_id = $1 AND t.transfer_id = $2"
        );
        statement!(TAIL, "SELECT revision, at, state, events FROM transfer_events
             WHERE tenant_id = $1 AND transfer_id = $2 AND revision > $3 ORDER BY revision LIMIT $4");
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        // The head first: what is committed later than it is read may be among the commits, never
        // the reverse.
        let head = tx
            .fetch_optional(&HEAD, args![tenant, id.0])
            .await?
            .ok_or(Error::NotFound("transfer"))?;
        let rows = tx.fetch(&TAIL, args![tenant, id.0, revision, i64::from(limit)]).await?;
        let commits = rows
            .iter()
            .map(|row| {
                Ok(TransferCommit {
                    revision: row.int("revision")?,
                    at: Timestamp(row.int("at")?),
                    state: row.word("state", State::from_word)?,
                    events: row.json("events")?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(LogPage {
            latest: head.int("revision")?,
            oldest: head.int("oldest")?,
            ended: head.opt_int("ended_at")?.is_some(),
            commits,
        })
    }
}

/// The caller's state among the calls of a transfer.
pub(in crate::store) fn caller_state(transfer: &Transfer, calls: &[CallRow]) -> Option<CallState> {
    let caller = transfer.caller?;
    calls.iter().find(|row| row.id == caller).map(|row| row.call.state)
}

impl Store {
    /// Records what the carrier told of a transfer, and gives the transfer as it is then. What says
    /// nothing new changes nothing.
    pub async fn transfer_fact(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        fact: Fact,
    ) -> Result<TransferView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let mut row = transfers::row::lock(&mut tx, tenant, transfer).await?;
        let now = tx.now().await?;
        row.take(&fact, now)?;
        if row.has_changed() {
            transfers::row::save(&mut tx, tenant, &mut row, now).await?;
            tasks::enqueue(&mut tx, tenant, transfers::row::step_task(transfer, now), now).await?;
            transfers::row::commit(self, tx, tenant, &row).await?;
        }
        Ok(row.view)
    }
}
