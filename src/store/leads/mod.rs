//! Leads: created, resolved for jobs, read, changed.

pub(super) mod erase;
pub(super) mod from_calls;
pub(super) mod import;
pub(super) mod list;
pub(super) mod model;
pub(super) mod row;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::domain::lead::{self, LeadChange, LeadFacts, LeadField, LeadSource};
use crate::domain::webhook::Told;
use crate::domain::{LeadId, Phone, TenantId, Timestamp, Violation};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::NewEvent;
use crate::store::{
    BATCH_MAX, Error, LeadCreated, LeadEventView, LeadPatch, LeadView, Page, Paged, RequestKey,
    Result, Store, Who, audit, keys, leads,
};

/// What a job needs to know of its lead.
#[derive(Debug, Clone)]
pub struct Dialable {
    /// The lead.
    pub id: LeadId,
    /// The number to dial.
    pub phone: Phone,
    /// The callee's zone, if known.
    pub time_zone: Option<String>,
}

/// What is kept of an answer: ids, no personal data.
#[derive(Serialize, Deserialize)]
struct Created {
    id: LeadId,
    created: bool,
}

impl Store {
    /// Creates up to [`BATCH_MAX`] leads; one that has the phone already is returned as it is. The
    /// answer is in the order of `leads`.
    pub async fn create_leads(
        &self,
        tenant: &TenantId,
        leads: Vec<LeadFacts>,
        key: Option<RequestKey>,
    ) -> Result<Vec<LeadCreated>> {
        if leads.len() > BATCH_MAX {
            return Err(Error::Invalid(Violation::new("leads", "has more than 1,000 items")));
        }
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let answer =
            match keys::requests::replay::<Vec<Created>>(&mut tx, tenant, key.as_ref()).await? {
                Some(answer) => answer,
                None => {
                    let now = tx.now().await?;
                    let mut new =
                        leads::row::insert(&mut tx, tenant, &leads, LeadSource::Api, now).await?;
                    let known = by_phone(&mut tx, tenant, leads.iter()).await?;
                    // Of two items with one phone, the first creates the lead.
                    let answer = leads.iter().map(|lead| {
                        let id = known.get(&lead.phone).ok_or_else(deleted_meanwhile)?.id;
                        Ok(Created { id, created: new.remove(&id).is_some() })
                    });
                    let answer = answer.collect::<Result<Vec<_>>>()?;
                    let created = answer.iter().filter(|lead| lead.created).count();
                    let subject = match answer.as_slice() {
                        [one] => format!("lead {}", one.id),
                        _ => "leads".to_owned(),
                    };
                    let detail = json!({ "leads": answer.len(), "created": created });
                    audit::write(&mut tx, &self.actor, tenant, subject, &detail, now).await?;
                    keys::requests::keep(&mut tx, tenant, key.as_ref(), &answer, now).await?;
                    answer
                }
            };
        let views =
            leads::row::by_ids(&mut tx, tenant, answer.iter().map(|lead| lead.id.0).collect())
                .await?;
        tx.commit(&self.wakes).await?;
        answer
            .iter()
            .map(|Created { id, created }| {
                let lead = views.get(id).cloned().ok_or(Error::NotFound("lead"))?;
                Ok(LeadCreated { lead, created: *created })
            })
            .collect()
    }
}

/// A phone that had a lead when new ones were inserted has none any more. To do all of it again
/// mends that.
fn deleted_meanwhile() -> Error {
    Error::Unavailable("a lead of these was being deleted".to_owned())
}

async fn by_phone(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: impl Iterator<Item = &LeadFacts>,
) -> Result<HashMap<Phone, Dialable>> {
    statement!(
        SELECT,
        "SELECT lead_id, phone, time_zone FROM leads WHERE tenant_id = $1 AND phone {any 2 text}"
    );
    let phones: Vec<String> = leads.map(|lead| lead.phone.expose().to_owned()).collect();
    let rows = tx.fetch(&SELECT, args![tenant, phones]).await?;
    let dialable = rows.iter().map(read_dialable).collect::<Result<Vec<_>>>()?;
    Ok(dialable.into_iter().map(|lead| (lead.phone.clone(), lead)).collect())
}

async fn by_id(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: Vec<Uuid>,
) -> Result<HashMap<LeadId, Dialable>> {
    statement!(
        SELECT,
        "SELECT lead_id, phone, time_zone FROM leads WHERE tenant_id = $1 AND lead_id {any 2 uuid}"
    );
    let rows = tx.fetch(&SELECT, args![tenant, leads]).await?;
    let dialable = rows.iter().map(read_dialable).collect::<Result<Vec<_>>>()?;
    Ok(dialable.into_iter().map(|lead| (lead.id, lead)).collect())
}

fn read_dialable(row: &Row) -> Result<Dialable> {
    Ok(Dialable {
        id: LeadId(row.uuid("lead_id")?),
        phone: Phone::from_stored(row.text("phone")?),
        time_zone: row.opt_text("time_zone")?,
    })
}

/// The leads that jobs name, in their order; persons become leads. None for an id that the tenant
/// lacks.
pub async fn resolve(
    tx: &mut Tx,
    tenant: &TenantId,
    whos: impl Iterator<Item = &Who>,
    now: Timestamp,
) -> Result<Vec<Option<Dialable>>> {
    let whos: Vec<&Who> = whos.collect();
    let mut ids = Vec::new();
    let mut persons = Vec::new();
    for who in &whos {
        match who {
            Who::Lead(id) => ids.push(id.0),
            Who::Person(facts) => persons.push(facts),
        }
    }
    let known = if ids.is_empty() { HashMap::new() } else { by_id(tx, tenant, ids).await? };
    let mut phones = HashMap::new();
    if !persons.is_empty() {
        leads::row::insert(tx, tenant, persons.iter().copied(), LeadSource::Run, now).await?;
        phones = by_phone(tx, tenant, persons.into_iter()).await?;
    }
    let found = whos.into_iter().map(|who| match who {
        Who::Lead(id) => Ok(known.get(id).cloned()),
        Who::Person(facts) => {
            phones.get(&facts.phone).cloned().ok_or_else(deleted_meanwhile).map(Some)
        }
    });
    found.collect()
}

impl Store {
    /// The lead.
    pub async fn lead(&self, tenant: &TenantId, lead: LeadId) -> Result<LeadView> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        leads::row::by_ids(&mut tx, tenant, vec![lead.0])
            .await?
            .remove(&lead)
            .ok_or(Error::NotFound("lead"))
    }
}

/// The lead, locked.
pub(in crate::store) async fn lock(
    tx: &mut Tx,
    tenant: &TenantId,
    lead: LeadId,
) -> Result<LeadView> {
    statement!(
        LOCK,
        "SELECT lead_id FROM leads WHERE tenant_id = $1 AND lead_id = $2 {for_update}"
    );
    tx.fetch_optional(&LOCK, args![tenant, lead.0]).await?.ok_or(Error::NotFound("lead"))?;
    leads::row::by_ids(tx, tenant, vec![lead.0]).await?.remove(&lead).ok_or(Error::NotFound("lead"))
}

/// Refuses a change that was decided on what is no longer so.
pub(in crate::store) fn check_seen(lead: &LeadView, seen: Option<i64>) -> Result<()> {
    if seen.is_none_or(|seen| seen == lead.revision) { Ok(()) } else { Err(Error::Changed) }
}

impl Store {
    /// Changes a lead. [`Error::Changed`] if it is not as the client saw it.
    pub async fn update_lead(
        &self,
        tenant: &TenantId,
        id: LeadId,
        patch: LeadPatch,
        key: Option<RequestKey>,
    ) -> Result<LeadView> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if keys::requests::replay::<LeadId>(&mut tx, tenant, key.as_ref()).await?.is_none() {
            let known = lock(&mut tx, tenant, id).await?;
            check_seen(&known, patch.seen)?;
            let next = patched(&known, patch);
            next.facts.check()?;
            let mut fields = known.facts.differing(&next.facts);
            if next.contact.status != known.contact.status {
                fields.push(LeadField::Status);
            }
            let now = tx.now().await?;
            if !fields.is_empty() {
                leads::row::save(&mut tx, tenant, &[&next], now).await?;
                tx.tell(tenant, [Told::lead_updated(id, known.revision + 1, &fields)]);
                let words: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
                let detail = json!({ "fields": words });
                audit::write(&mut tx, &self.actor, tenant, format!("lead {id}"), &detail, now)
                    .await?;
                let actor =
                    self.actor.client().map_or("system", |client| &client.key_id).to_owned();
                let change = LeadChange::Updated { fields, actor };
                let event = NewEvent { lead_id: id, event_id: Uuid::now_v7(), at: now, change };
                leads::row::log(&mut tx, tenant, &[event]).await?;
            }
            keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        }
        let lead = leads::row::by_ids(&mut tx, tenant, vec![id.0]).await?.remove(&id);
        tx.commit(&self.wakes).await?;
        lead.ok_or(Error::NotFound("lead"))
    }
}

fn patched(known: &LeadView, patch: LeadPatch) -> LeadView {
    let mut next = known.clone();
    for field in patch.fields {
        match field {
            LeadField::Name => next.facts.name.clone_from(&patch.facts.name),
            LeadField::TimeZone => next.facts.time_zone.clone_from(&patch.facts.time_zone),
            LeadField::Attributes => next.facts.attributes.clone_from(&patch.facts.attributes),
            LeadField::Tags => next.facts.tags.clone_from(&patch.facts.tags),
            LeadField::Status => next.contact.status = patch.status,
        }
    }
    for (name, value) in patch.attributes {
        match value {
            Some(value) => drop(next.facts.attributes.insert(name, value)),
            None => drop(next.facts.attributes.remove(&name)),
        }
    }
    next
}

impl Store {
    /// The lead's history, oldest first.
    pub async fn lead_events(
        &self,
        tenant: &TenantId,
        id: LeadId,
        page: Page,
    ) -> Result<Paged<LeadEventView>> {
        statement!(SELECT, "SELECT event_id, at, detail FROM lead_events WHERE tenant_id = $1 AND lead_id = $2 AND event_id > $3
             ORDER BY event_id LIMIT $4");
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let lead = leads::row::by_ids(&mut tx, tenant, vec![id.0]).await?.remove(&id);
        let lead = lead.ok_or(Error::NotFound("lead"))?;
        let after = page.after.unwrap_or(Uuid::nil());
        let rows = tx.fetch(&SELECT, args![tenant, id.0, after, page.limit()]).await?;
        let mut items = rows.iter().map(read_event).collect::<Result<Vec<_>>>()?;
        if page.after.is_none() {
            // Told by the lead itself, so that an import of a million leads writes no million
            // entries.
            let change = LeadChange::Created { source: lead.source };
            items.insert(0, LeadEventView { id: Uuid::nil(), at: lead.created_at, change });
        }
        Ok(page.cut(items, |event: &LeadEventView| event.id))
    }
}

fn read_event(row: &Row) -> Result<LeadEventView> {
    Ok(LeadEventView {
        id: row.uuid("event_id")?,
        at: Timestamp(row.int("at")?),
        change: row.json::<lead::LeadChange>("detail")?,
    })
}
