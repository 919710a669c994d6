//! Leads as rows.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::domain::call::{CallState, Direction};
use crate::domain::lead::{Contact, LastCall, LeadChange, LeadFacts, LeadSource, LeadStatus};
use crate::domain::webhook::Told;
use crate::domain::{CallId, LeadId, Phone, TenantId, Timestamp};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, Rows, args, statement, to_json};
use crate::store::{LeadView, Result};

macro_rules! lead_columns {
    () => {
        "l.lead_id, l.phone, l.name, l.time_zone, l.attributes, l.tags, l.status, l.source, l.revision, \
         l.last_call_id, l.last_call_direction, l.last_call_state, l.last_call_at, l.created_at, l.updated_at"
    };
}
pub(in crate::store) use lead_columns;

/// Reads [`lead_columns`].
pub fn read(row: &Row) -> Result<LeadView> {
    let last_call = match row.opt_uuid("last_call_id")? {
        None => None,
        Some(call_id) => Some(LastCall {
            call_id: CallId(call_id),
            direction: row.word("last_call_direction", Direction::from_word)?,
            state: row.word("last_call_state", CallState::from_word)?,
            at: Timestamp(row.int("last_call_at")?),
        }),
    };
    Ok(LeadView {
        id: LeadId(row.uuid("lead_id")?),
        facts: LeadFacts {
            phone: Phone::from_stored(row.text("phone")?),
            name: row.text("name")?,
            time_zone: row.opt_text("time_zone")?,
            attributes: row.json("attributes")?,
            tags: row.json("tags")?,
        },
        contact: Contact { status: row.word("status", LeadStatus::from_word)?, last_call },
        source: row.word("source", LeadSource::from_word)?,
        revision: row.int("revision")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

/// The id of the `n`th lead, or suppression, created in a transaction whose time is `now`. Both are
/// listed by their ids: that is the order of creation, because database time stands first in them
/// (UUID version 7).
pub fn new_id(now: Timestamp, n: usize) -> Uuid {
    let mut rest = [0; 10];
    rest[2..].copy_from_slice(&Uuid::new_v4().as_bytes()[8..]);
    // 12 bits of it are kept: a batch is smaller than that.
    rest[..2].copy_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(millis(now), &rest).into_uuid()
}

/// The first id that a lead created at `at` can have.
pub fn first_id(at: Timestamp) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis(at).to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.micros() / 1_000).unwrap_or(0)
}

/// Inserts those whose phone is new; returns their ids by phone. Of two with one phone the first
/// counts.
pub async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: impl IntoIterator<Item = &LeadFacts>,
    source: LeadSource,
    now: Timestamp,
) -> Result<HashMap<LeadId, Phone>> {
    statement!(INSERT, "INSERT INTO leads (tenant_id, lead_id, phone, name, time_zone, attributes, tags, source, created_at, updated_at)
         SELECT $1, r.lead_id, r.phone, r.name, r.time_zone, r.attributes, r.tags, $2, $3, $3
         FROM {rows 4 r: lead_id uuid, phone text, name text, time_zone text, attributes text, tags text}
         WHERE true
         ON CONFLICT (tenant_id, phone) DO NOTHING RETURNING lead_id");
    // Sorted, so that two batches with common phones wait for each other instead of deadlocking;
    // the ids are drawn in the order given, because leads are listed by them.
    let mut unique: BTreeMap<&Phone, (Uuid, &LeadFacts)> = BTreeMap::new();
    for (n, lead) in leads.into_iter().enumerate() {
        unique.entry(&lead.phone).or_insert_with(|| (new_id(now, n), lead));
    }
    if unique.is_empty() {
        return Ok(HashMap::new());
    }
    let facts = || unique.values().map(|(_, lead)| *lead);
    let rows = Rows::new()
        .uuids(unique.values().map(|(id, _)| *id))
        .texts(facts().map(|lead| lead.phone.expose().to_owned()))
        .texts(facts().map(|lead| lead.name.clone()))
        .texts(facts().map(|lead| lead.time_zone.clone()))
        .texts(facts().map(|lead| to_json(&lead.attributes)).collect::<Result<Vec<_>>>()?)
        .texts(facts().map(|lead| to_json(&lead.tags)).collect::<Result<Vec<_>>>()?);
    let inserted = tx.fetch(&INSERT, args![tenant, source.as_str(), now, rows]).await?;
    let ids =
        inserted.iter().map(|row| row.uuid("lead_id").map(LeadId)).collect::<Result<Vec<_>>>()?;
    tx.tell(tenant, ids.into_iter().map(|id| Told::lead_created(id, source)));
    if inserted.len() == unique.len() {
        return Ok(unique.values().map(|(id, lead)| (LeadId(*id), lead.phone.clone())).collect());
    }
    let phones: HashMap<Uuid, &Phone> =
        unique.values().map(|(id, lead)| (*id, &lead.phone)).collect();
    inserted
        .iter()
        .map(|row| {
            let id = row.uuid("lead_id")?;
            Ok((LeadId(id), phones[&id].clone()))
        })
        .collect()
}

/// Leads by id.
pub async fn by_ids(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: Vec<Uuid>,
) -> Result<HashMap<LeadId, LeadView>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            lead_columns!(),
            " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id {any 2 uuid}"
        )
    );
    let rows = tx.fetch(&SELECT, args![tenant, leads]).await?;
    let views = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(views.into_iter().map(|lead| (lead.id, lead)).collect())
}

/// Leads by phone, locked in the order of their phones.
pub async fn lock_by_phone(
    tx: &mut Tx,
    tenant: &TenantId,
    phones: Vec<String>,
) -> Result<HashMap<Phone, LeadView>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            lead_columns!(),
            " FROM leads l WHERE l.tenant_id = $1 AND l.phone {any 2 text} ORDER BY l.phone {for_update}"
        )
    );
    if phones.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.fetch(&SELECT, args![tenant, phones]).await?;
    let views = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(views.into_iter().map(|lead| (lead.facts.phone.clone(), lead)).collect())
}

/// Saves what a client may change, of locked leads. The revision grows.
pub async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: &[&LeadView],
    now: Timestamp,
) -> Result<()> {
    statement!(UPDATE, "UPDATE leads SET name = r.name, time_zone = r.time_zone, attributes = r.attributes, tags = r.tags,
             status = r.status, revision = leads.revision + 1, updated_at = $2
         FROM {rows 3 r: lead_id uuid, name text, time_zone text, attributes text, tags text, status text}
         WHERE leads.tenant_id = $1 AND leads.lead_id = r.lead_id");
    if leads.is_empty() {
        return Ok(());
    }
    let json = |of: &dyn Fn(&LeadView) -> Result<String>| {
        leads.iter().map(|lead| of(lead)).collect::<Result<Vec<_>>>()
    };
    let rows = Rows::new()
        .uuids(leads.iter().map(|lead| lead.id.0))
        .texts(leads.iter().map(|lead| lead.facts.name.clone()))
        .texts(leads.iter().map(|lead| lead.facts.time_zone.clone()))
        .texts(json(&|lead| to_json(&lead.facts.attributes))?)
        .texts(json(&|lead| to_json(&lead.facts.tags))?)
        .texts(leads.iter().map(|lead| lead.contact.status.as_str().to_owned()));
    tx.execute(&UPDATE, args![tenant, now, rows]).await?;
    Ok(())
}

/// Saves what calls made of locked leads. The revision stays, unless the status changed with it.
pub async fn save_contacts(
    tx: &mut Tx,
    tenant: &TenantId,
    leads: &[(LeadId, Contact)],
    now: Timestamp,
) -> Result<()> {
    statement!(UPDATE, "UPDATE leads SET revision = CASE WHEN leads.status = r.status THEN leads.revision ELSE leads.revision + 1 END,
             status = r.status, last_call_id = r.last_call_id, last_call_direction = r.last_call_direction,
             last_call_state = r.last_call_state, last_call_at = r.last_call_at, updated_at = $2
         FROM {rows 3 r: lead_id uuid, status text, last_call_id uuid, last_call_direction text, last_call_state text, last_call_at bigint}
         WHERE leads.tenant_id = $1 AND leads.lead_id = r.lead_id");
    if leads.is_empty() {
        return Ok(());
    }
    let last = || leads.iter().map(|(_, contact)| contact.last_call);
    let rows = Rows::new()
        .uuids(leads.iter().map(|(id, _)| id.0))
        .texts(leads.iter().map(|(_, contact)| contact.status.as_str().to_owned()))
        .uuids(last().map(|call| call.map(|call| call.call_id.0)))
        .texts(last().map(|call| call.map(|call| call.direction.as_str().to_owned())))
        .texts(last().map(|call| call.map(|call| call.state.as_str().to_owned())))
        .ints(last().map(|call| call.map(|call| call.at.0)));
    tx.execute(&UPDATE, args![tenant, now, rows]).await?;
    Ok(())
}

/// One entry of a lead's history.
pub struct NewEvent {
    /// Whose.
    pub lead_id: LeadId,
    /// Known beforehand where the same may be told twice: then the later telling holds.
    pub event_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: LeadChange,
}

/// Writes entries of histories.
pub async fn log(tx: &mut Tx, tenant: &TenantId, events: &[NewEvent]) -> Result<()> {
    statement!(
        INSERT,
        "INSERT INTO lead_events (tenant_id, lead_id, event_id, at, detail)
         SELECT $1, r.lead_id, r.event_id, r.at, r.detail
         FROM {rows 2 r: lead_id uuid, event_id uuid, at bigint, detail text}
         WHERE true
         ON CONFLICT (tenant_id, lead_id, event_id) DO UPDATE SET detail = excluded.detail"
    );
    if events.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuids(events.iter().map(|event| event.lead_id.0))
        .uuids(events.iter().map(|event| event.event_id))
        .ints(events.iter().map(|event| event.at.0))
        .texts(events.iter().map(|event| to_json(&event.change)).collect::<Result<Vec<_>>>()?);
    tx.execute(&INSERT, args![tenant, rows]).await?;
    Ok(())
}
