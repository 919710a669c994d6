//! What calls make of their leads: created where the phone has none, and moved on.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use uuid::Uuid;

use crate::domain::call::{AnsweredBy, CallState, Direction};
use crate::domain::lead::{Contact, LastCall, LeadChange, LeadFacts, LeadField, LeadSource};
use crate::domain::webhook::{CallTold, Told};
use crate::domain::{CallId, CallSid, LeadId, Phone, TenantId, Timestamp};
use crate::store::calls::row::CallRow;
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::NewEvent;
use crate::store::{Error, LeadCreated, Result, Store, Task, audit, calls, leads, tasks, webhooks};

/// A call, as far as its lead is concerned.
struct Called {
    /// The other side's number.
    phone: Phone,
    call: LastCall,
    answered_by: Option<AnsweredBy>,
    duration_s: Option<u32>,
}

/// The calls of people who were not erased.
async fn called(tx: &mut Tx, tenant: &TenantId, calls: Vec<Uuid>) -> Result<Vec<Called>> {
    statement!(SELECT, "SELECT c.call_id, c.direction, c.phone_from, c.phone_to, c.state, c.answered_by, c.duration_s, c.created_at,
             j.phone AS job_phone
         FROM call_log c LEFT JOIN jobs j ON j.tenant_id = $1 AND j.job_id = c.job_id
         WHERE c.tenant_id = $1 AND c.call_id {any 2 uuid}");
    let rows = tx.fetch(&SELECT, args![tenant, calls]).await?;
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

/// None if the person was erased since, or is nobody's lead: whom a transfer calls works for the
/// tenant.
fn read(row: &Row) -> Result<Option<Called>> {
    let direction = row.word("direction", Direction::from_word)?;
    let phone = match direction {
        Direction::Outbound => row.text("phone_to")?,
        Direction::Inbound => row.text("phone_from")?,
        Direction::Transfer => return Ok(None),
    };
    if phone.is_empty() || row.opt_text("job_phone")?.is_some_and(|phone| phone.is_empty()) {
        return Ok(None);
    }
    Ok(Some(Called {
        phone: Phone::from_stored(phone),
        call: LastCall {
            call_id: CallId(row.uuid("call_id")?),
            direction,
            state: row.word("state", CallState::from_word)?,
            at: Timestamp(row.int("created_at")?),
        },
        answered_by: row.opt_text("answered_by")?.and_then(|word| AnsweredBy::from_word(&word)),
        duration_s: row.opt_int("duration_s")?.and_then(|seconds| u32::try_from(seconds).ok()),
    }))
}

impl Store {
    /// Does a [`LeadsFromCalls`](crate::domain::task::TaskKind::LeadsFromCalls) task and takes it
    /// off the table.
    pub async fn leads_from_calls(&self, task: &Task) -> Result<()> {
        let tenant = &task.tenant;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        bring(&mut tx, tenant, &tasks::ids(task)?).await?;
        tell_ended(&mut tx, tenant, tasks::ids(task)?).await?;
        tasks::finish(&mut tx, task).await?;
        tx.commit(&self.wakes).await
    }
}

/// Tells the tenant's endpoints that the calls ended. Here and not where the news comes in, which
/// has more to do: the task is as durable as a delivery.
async fn tell_ended(tx: &mut Tx, tenant: &TenantId, calls: Vec<Uuid>) -> Result<()> {
    if !webhooks::enqueue::is_heard(tx, tenant).await? {
        return Ok(());
    }
    let now = tx.now().await?;
    let calls = calls::row::by_ids(tx, tenant, calls).await?;
    let ended = calls.iter().filter(|row| !row.call.state.is_live()).map(|row| {
        let CallRow { id, direction, run_id, job_id, attempt, call, .. } = row;
        let (id, direction, attempt) = (*id, *direction, *attempt);
        Told::call_ended(
            &CallTold { id, direction, run_id: *run_id, job_id: *job_id, attempt, call },
            now,
        )
    });
    tx.tell(tenant, ended);
    Ok(())
}

impl Store {
    /// Creates the lead of a call's other side, or brings the call to it. May be repeated.
    pub async fn lead_from_call(&self, tenant: &TenantId, sid: &CallSid) -> Result<LeadCreated> {
        statement!(SELECT, "SELECT call_id FROM call_log WHERE tenant_id = $1 AND call_sid = $2");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let row = tx.fetch_optional(&SELECT, args![tenant, sid.as_str()]).await?;
        let call = row.ok_or(Error::NotFound("call"))?.uuid("call_id")?;
        let brought = bring(&mut tx, tenant, &[call]).await?;
        let (id, created) =
            brought.into_values().next().ok_or(Error::NotFound("person of the call"))?;
        let lead = leads::row::by_ids(&mut tx, tenant, vec![id.0]).await?.remove(&id);
        let (now, detail) = (tx.now().await?, json!({ "call_id": call, "created": created }));
        audit::write(&mut tx, &self.actor, tenant, format!("lead {id}"), &detail, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(LeadCreated { lead: lead.ok_or(Error::NotFound("lead"))?, created })
    }
}

/// Brings calls to the leads of their phones. Doing it twice changes nothing. Returns whose each
/// phone is, and whether it is new.
async fn bring(
    tx: &mut Tx,
    tenant: &TenantId,
    calls: &[Uuid],
) -> Result<HashMap<Phone, (LeadId, bool)>> {
    let now = tx.now().await?;
    let of_people = called(tx, tenant, calls.to_vec()).await?;
    let mut by_phone: BTreeMap<&Phone, Vec<&Called>> = BTreeMap::new();
    for call in &of_people {
        by_phone.entry(&call.phone).or_default().push(call);
    }
    let phones = || by_phone.keys().map(|phone| phone.expose().to_owned()).collect();
    let mut known = leads::row::lock_by_phone(tx, tenant, phones()).await?;
    let mut new = HashMap::new();
    if known.len() < by_phone.len() {
        let missing: Vec<LeadFacts> = by_phone
            .keys()
            .filter(|phone| !known.contains_key(*phone))
            .map(|p| LeadFacts::of((*p).clone()))
            .collect();
        new = leads::row::insert(tx, tenant, &missing, LeadSource::Call, now).await?;
        // Whoever erased a lead while this waited for it has erased its calls as well.
        if called(tx, tenant, calls.to_vec()).await?.len() < of_people.len() {
            return Err(Error::Unavailable("a person of these calls was being erased".to_owned()));
        }
        known = leads::row::lock_by_phone(tx, tenant, phones()).await?;
    }
    let mut moved: Vec<(LeadId, Contact)> = Vec::new();
    let mut events = Vec::with_capacity(of_people.len());
    let mut answer = HashMap::with_capacity(known.len());
    for (phone, calls) in by_phone {
        // Deleted between two statements of ours: then it is as if it were deleted after all of
        // them.
        let Some(lead) = known.get(phone) else { continue };
        // A live call is brought again when it ends.
        let ended = || calls.iter().filter(|called| !called.call.state.is_live());
        let contact =
            ended().fold(lead.contact, |contact, call| contact.after(&call.call, call.answered_by));
        if contact.status != lead.contact.status {
            tx.tell(tenant, [Told::lead_updated(lead.id, lead.revision + 1, &[LeadField::Status])]);
        }
        if contact != lead.contact {
            moved.push((lead.id, contact));
        }
        events.extend(ended().map(|call| event(lead.id, call)));
        answer.insert(phone.clone(), (lead.id, new.contains_key(&lead.id)));
    }
    leads::row::save_contacts(tx, tenant, &moved, now).await?;
    leads::row::log(tx, tenant, &events).await?;
    Ok(answer)
}

fn event(lead_id: LeadId, called: &Called) -> NewEvent {
    let LastCall { call_id, direction, state, at } = called.call;
    let change = LeadChange::Called { call_id, direction, state, duration_s: called.duration_s };
    // The call's own id: it is told again when its ending is corrected.
    NewEvent { lead_id, event_id: call_id.0, at, change }
}

/// The task for calls that ended.
pub fn task(calls: &[Uuid], now: Timestamp) -> tasks::NewTask {
    let subject = match calls {
        [call] => format!("call {call}"),
        calls => format!("{} calls", calls.len()),
    };
    tasks::NewTask {
        kind: crate::domain::task::TaskKind::LeadsFromCalls,
        subject,
        payload: tasks::payload(calls),
        run_at: now,
    }
}
