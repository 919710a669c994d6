//! Leads: created, resolved for jobs, read.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{audit, requests};
use crate::domain::lead::LeadFacts;
use crate::domain::{LeadId, Phone, TenantId, Timestamp, Violation};
use crate::store::database::{Scope, Tx};
use crate::store::engine::Engine;
use crate::store::sql::{Row, Rows, Sql, args, to_json};
use crate::store::{BATCH_MAX, Error, LeadCreated, LeadView, Page, Paged, RequestKey, Result, Who};

macro_rules! lead_columns {
    () => {
        "l.lead_id, l.phone, l.name, l.time_zone, l.attributes, l.created_at, l.updated_at"
    };
}

fn read(row: &Row) -> Result<LeadView> {
    Ok(LeadView {
        id: LeadId(row.uuid("lead_id")?),
        facts: LeadFacts {
            phone: Phone::from_stored(row.text("phone")?),
            name: row.text("name")?,
            time_zone: row.opt_text("time_zone")?,
            attributes: row.json("attributes")?,
        },
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

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

/// See [`crate::store::Store::create_leads`].
pub async fn create(
    engine: &Engine,
    tenant: &TenantId,
    leads: Vec<LeadFacts>,
    key: Option<RequestKey>,
) -> Result<Vec<LeadCreated>> {
    if leads.len() > BATCH_MAX {
        return Err(Error::Invalid(Violation::new("leads", "has more than 1,000 items")));
    }
    let mut tx = engine.db.begin(Scope::Tenant(tenant)).await?;
    let answer = match requests::replay::<Vec<Created>>(&mut tx, tenant, key.as_ref()).await? {
        Some(answer) => answer,
        None => {
            let now = tx.now().await?;
            let facts: Vec<&LeadFacts> = leads.iter().collect();
            let mut new = insert(&mut tx, tenant, &facts, now).await?;
            let known = by_phone(&mut tx, tenant, &facts).await?;
            // Of two items with one phone, the first creates the lead.
            let answer = leads.iter().map(|lead| known[&lead.phone].id);
            let answer = answer.map(|id| Created { id, created: new.remove(&id) }).collect::<Vec<_>>();
            let created = answer.iter().filter(|lead| lead.created).count();
            let subject = match answer.as_slice() {
                [one] => format!("lead {}", one.id),
                _ => "leads".to_owned(),
            };
            let detail = json!({ "leads": answer.len(), "created": created });
            audit::write(&mut tx, &engine.actor, tenant, subject, &detail, now).await?;
            requests::keep(&mut tx, tenant, key.as_ref(), &answer, now).await?;
            answer
        }
    };
    let views = views(&mut tx, tenant, answer.iter().map(|lead| lead.id.0).collect()).await?;
    tx.commit(&engine.wakes).await?;
    answer
        .iter()
        .map(|Created { id, created }| {
            let lead = views.get(id).cloned().ok_or(Error::NotFound("lead"))?;
            Ok(LeadCreated { lead, created: *created })
        })
        .collect()
}

/// Inserts those whose phone is new; returns the ids that are new.
async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: &[&LeadFacts],
    now: Timestamp,
) -> Result<HashSet<LeadId>> {
    static INSERT: Sql = Sql::new(
        "INSERT INTO leads (tenant_id, lead_id, phone, name, time_zone, attributes, created_at, updated_at)
         SELECT $1, r.lead_id, r.phone, r.name, r.time_zone, r.attributes, $2, $2
         FROM {rows 3 r: lead_id uuid, phone text, name text, time_zone text, attributes text}
         WHERE true
         ON CONFLICT (tenant_id, phone) DO NOTHING RETURNING lead_id",
    );
    // Sorted, so that two batches with common phones wait for each other instead of deadlocking; the ids
    // are drawn in the order given, because leads are listed by them.
    let mut unique: BTreeMap<&Phone, (Uuid, &LeadFacts)> = BTreeMap::new();
    for lead in leads {
        unique.entry(&lead.phone).or_insert_with(|| (Uuid::now_v7(), lead));
    }
    let attributes: Vec<String> =
        unique.values().map(|(_, lead)| to_json(&lead.attributes)).collect::<Result<_>>()?;
    let rows = Rows::new()
        .uuids(unique.values().map(|(id, _)| *id))
        .texts(unique.keys().map(|phone| phone.expose().to_owned()))
        .texts(unique.values().map(|(_, lead)| lead.name.clone()))
        .texts(unique.values().map(|(_, lead)| lead.time_zone.clone()))
        .texts(attributes);
    let inserted = tx.fetch(&INSERT, args![tenant, now, rows]).await?;
    inserted.iter().map(|row| row.uuid("lead_id").map(LeadId)).collect()
}

async fn by_phone(tx: &mut Tx, tenant: &TenantId, leads: &[&LeadFacts]) -> Result<HashMap<Phone, Dialable>> {
    static SELECT: Sql =
        Sql::new("SELECT lead_id, phone, time_zone FROM leads WHERE tenant_id = $1 AND phone {any 2 text}");
    let phones: Vec<String> = leads.iter().map(|lead| lead.phone.expose().to_owned()).collect();
    let rows = tx.fetch(&SELECT, args![tenant, phones]).await?;
    let dialable = rows.iter().map(read_dialable).collect::<Result<Vec<_>>>()?;
    Ok(dialable.into_iter().map(|lead| (lead.phone.clone(), lead)).collect())
}

async fn by_id(tx: &mut Tx, tenant: &TenantId, leads: Vec<Uuid>) -> Result<HashMap<LeadId, Dialable>> {
    static SELECT: Sql =
        Sql::new("SELECT lead_id, phone, time_zone FROM leads WHERE tenant_id = $1 AND lead_id {any 2 uuid}");
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

/// The leads that jobs name, in their order; persons become leads. None for an id that the tenant lacks.
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
        insert(tx, tenant, &persons, now).await?;
        phones = by_phone(tx, tenant, &persons).await?;
    }
    let found = whos.into_iter().map(|who| match who {
        Who::Lead(id) => known.get(id).cloned(),
        Who::Person(facts) => phones.get(&facts.phone).cloned(),
    });
    Ok(found.collect())
}

async fn views(tx: &mut Tx, tenant: &TenantId, leads: Vec<Uuid>) -> Result<HashMap<LeadId, LeadView>> {
    static SELECT: Sql = Sql::new(concat!(
        "SELECT ",
        lead_columns!(),
        " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id {any 2 uuid}"
    ));
    let rows = tx.fetch(&SELECT, args![tenant, leads]).await?;
    let views = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(views.into_iter().map(|lead| (lead.id, lead)).collect())
}

/// See [`crate::store::Store::lead`].
pub async fn get(engine: &Engine, tenant: &TenantId, lead: LeadId) -> Result<LeadView> {
    let mut tx = engine.db.read(Scope::Tenant(tenant)).await?;
    views(&mut tx, tenant, vec![lead.0]).await?.remove(&lead).ok_or(Error::NotFound("lead"))
}

/// See [`crate::store::Store::list_leads`].
pub async fn list(
    engine: &Engine,
    tenant: &TenantId,
    phone: Option<&Phone>,
    page: Page,
) -> Result<Paged<LeadView>> {
    static ALL: Sql = Sql::new(concat!(
        "SELECT ",
        lead_columns!(),
        " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id > $2 ORDER BY l.lead_id LIMIT $3"
    ));
    static ONE: Sql = Sql::new(concat!(
        "SELECT ",
        lead_columns!(),
        " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id > $2 AND l.phone = $4 ORDER BY l.lead_id LIMIT $3"
    ));
    let after = page.after.unwrap_or(Uuid::nil());
    let mut tx = engine.db.read(Scope::Tenant(tenant)).await?;
    let rows = match phone {
        None => tx.fetch(&ALL, args![tenant, after, page.limit()]).await?,
        Some(phone) => tx.fetch(&ONE, args![tenant, after, page.limit(), phone.expose()]).await?,
    };
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(page.cut(items, |lead: &LeadView| lead.id.0))
}
