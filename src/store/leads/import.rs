//! Imports of leads: a batch and how far it got in one transaction.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use crate::domain::lead::{LeadChange, LeadFacts, LeadSource};
use crate::domain::webhook::Told;
use crate::domain::{LeadId, Phone, TenantId, Timestamp, Violation};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::NewEvent;
use crate::store::{
    BATCH_MAX, Error, ImportStand, ImportStep, LeadImported, LeadView, Result, Store, audit, leads,
};

/// The history's word for an import.
const ACTOR: &str = "import";
/// What an import of leads has in place of a run: see the table.
const IMPORTS: Uuid = Uuid::nil();

impl Store {
    /// How far an import of leads got; nowhere if it is new.
    pub async fn lead_import_stand(
        &self,
        tenant: &TenantId,
        import_id: &str,
    ) -> Result<ImportStand> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        read(&mut tx, tenant, IMPORTS, import_id).await
    }
}

/// How far an import got; `of` is what it has in place of a run.
pub(in crate::store) async fn read(
    tx: &mut Tx,
    tenant: &TenantId,
    of: Uuid,
    import_id: &str,
) -> Result<ImportStand> {
    statement!(
        SELECT,
        "SELECT next_offset, created, updated, unchanged, rejected FROM imports
         WHERE tenant_id = $1 AND run_id = $2 AND import_id = $3"
    );
    let Some(row) = tx.fetch_optional(&SELECT, args![tenant, of, import_id]).await? else {
        return Ok(ImportStand::default());
    };
    Ok(ImportStand {
        offset: row.narrow("next_offset")?,
        created: row.narrow("created")?,
        updated: row.narrow("updated")?,
        unchanged: row.narrow("unchanged")?,
        rejected: row.narrow("rejected")?,
    })
}

impl Store {
    /// Stores a batch of an import of leads (at most [`BATCH_MAX`]) and moves the import on by
    /// `taken`, in one transaction. A phone that has a lead adds to it. The answer is in the order
    /// of `leads`.
    pub async fn import_leads(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        leads: Vec<LeadFacts>,
    ) -> Result<(Vec<LeadImported>, ImportStand)> {
        if leads.len() > BATCH_MAX {
            return Err(Error::Invalid(Violation::new("leads", "has more than 1,000 items")));
        }
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let now = tx.now().await?;
        let mut stand = take_turn(&mut tx, tenant, IMPORTS, step, now).await?;
        let told = store(&mut tx, tenant, &leads, now).await?;
        stand.offset = step.offset.saturating_add(step.taken);
        stand.rejected += step.taken.saturating_sub(leads.len() as u64);
        for row in &told {
            *match row {
                LeadImported::Created => &mut stand.created,
                LeadImported::Updated => &mut stand.updated,
                LeadImported::Unchanged => &mut stand.unchanged,
                LeadImported::Rejected(_) => &mut stand.rejected,
            } += 1;
        }
        save(&mut tx, tenant, IMPORTS, step.import_id, stand, now).await?;
        let detail = json!({ "leads": step.taken, "offset": stand.offset });
        audit::write(&mut tx, &self.actor, tenant, "leads".to_owned(), &detail, now).await?;
        tx.commit(&self.wakes).await?;
        Ok((told, stand))
    }
}

/// Locks the import's row, so that two streams of one import take turns; the one that is late
/// learns so.
pub(in crate::store) async fn take_turn(
    tx: &mut Tx,
    tenant: &TenantId,
    of: Uuid,
    step: ImportStep<'_>,
    now: Timestamp,
) -> Result<ImportStand> {
    statement!(LOCK, "INSERT INTO imports (tenant_id, run_id, import_id, next_offset, updated_at) VALUES ($1, $2, $3, 0, $4)
         ON CONFLICT (tenant_id, run_id, import_id) DO UPDATE SET updated_at = excluded.updated_at");
    tx.execute(&LOCK, args![tenant, of, step.import_id, now]).await?;
    let stand = read(tx, tenant, of, step.import_id).await?;
    if stand.offset != step.offset {
        return Err(Error::Invalid(Violation::new(
            "batch.offset",
            "does not follow what is stored; send the header again to learn where to go on",
        )));
    }
    Ok(stand)
}

/// Saves how far an import got whose turn it is.
pub(in crate::store) async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    of: Uuid,
    import_id: &str,
    stand: ImportStand,
    now: Timestamp,
) -> Result<()> {
    statement!(UPDATE, "UPDATE imports SET next_offset = $4, created = $5, updated = $6, unchanged = $7, rejected = $8, updated_at = $9
         WHERE tenant_id = $1 AND run_id = $2 AND import_id = $3");
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let ImportStand { offset, created, updated, unchanged, rejected } = stand;
    let values = args![
        tenant,
        of,
        import_id,
        number(offset),
        number(created),
        number(updated),
        number(unchanged),
        number(rejected),
        now,
    ];
    tx.execute(&UPDATE, values).await?;
    Ok(())
}

/// Inserts what is new and adds the rest to the leads that have the phones. The answer is in the
/// order of `rows`.
async fn store(
    tx: &mut Tx,
    tenant: &TenantId,
    rows: &[LeadFacts],
    now: Timestamp,
) -> Result<Vec<LeadImported>> {
    let new = leads::row::insert(tx, tenant, rows, LeadSource::Import, now).await?;
    if new.len() == rows.len() {
        return Ok(vec![LeadImported::Created; rows.len()]);
    }
    let mut new: std::collections::HashSet<Phone> = new.into_values().collect();
    // All but the first row of each new phone.
    let mut first_seen = new.clone();
    let others: Vec<&LeadFacts> =
        rows.iter().filter(|row| !first_seen.remove(&row.phone)).collect();
    let mut phones: Vec<String> = others.iter().map(|row| row.phone.expose().to_owned()).collect();
    phones.sort_unstable();
    phones.dedup();
    let before = leads::row::lock_by_phone(tx, tenant, phones).await?;
    let mut after = before.clone();
    let mut told = Vec::with_capacity(rows.len());
    for row in rows {
        told.push(if new.remove(&row.phone) {
            LeadImported::Created
        } else {
            let gone = || Error::Unavailable("a lead was deleted at the same time".to_owned());
            add(after.get_mut(&row.phone).ok_or_else(gone)?, row)
        });
    }
    save_changed(tx, tenant, &before, &after, now).await?;
    Ok(told)
}

/// Adds what `row` says to the lead.
fn add(lead: &mut LeadView, row: &LeadFacts) -> LeadImported {
    let next = lead.facts.with(row);
    if next == lead.facts {
        return LeadImported::Unchanged;
    }
    if let Err(violation) = next.check() {
        return LeadImported::Rejected(violation);
    }
    lead.facts = next;
    LeadImported::Updated
}

async fn save_changed(
    tx: &mut Tx,
    tenant: &TenantId,
    before: &HashMap<Phone, LeadView>,
    after: &HashMap<Phone, LeadView>,
    now: Timestamp,
) -> Result<()> {
    let changed: Vec<&LeadView> =
        after.values().filter(|lead| before[&lead.facts.phone].facts != lead.facts).collect();
    let event = |lead: &&LeadView| {
        let fields = before[&lead.facts.phone].facts.differing(&lead.facts);
        let change = LeadChange::Updated { fields, actor: ACTOR.to_owned() };
        NewEvent { lead_id: LeadId(lead.id.0), event_id: Uuid::now_v7(), at: now, change }
    };
    let events: Vec<NewEvent> = changed.iter().map(event).collect();
    leads::row::save(tx, tenant, &changed, now).await?;
    tx.tell(
        tenant,
        changed.iter().map(|lead| {
            let before = &before[&lead.facts.phone];
            Told::lead_updated(lead.id, before.revision + 1, &before.facts.differing(&lead.facts))
        }),
    );
    leads::row::log(tx, tenant, &events).await
}
