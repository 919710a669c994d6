//! Suppressions: added, removed, imported, and asked for by whoever is about to dial.
//!
//! Whoever changes them holds the tenant's dispatch lock, as a claim does. So a claim under way is
//! committed before, and its calls are seen and told; and every later claim sees the change.

pub(super) mod list;
pub(super) mod model;
pub(super) mod opt_out;

use std::collections::{HashMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use crate::domain::suppression::{self, NewSuppression, SuppressionChange};
use crate::domain::{CallId, Phone, SuppressionId, TenantId, Timestamp, Violation};
use crate::store::db::sql::{Rows, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::new_id;
use crate::store::suppressions::list::{read, suppression_columns};
use crate::store::{
    BATCH_MAX, Error, ImportStand, ImportStep, RequestKey, Result, Store, SuppressionAdded,
    SuppressionView, audit, keys, leads, tenants,
};

/// What an import of suppressions has in place of a run: see the table.
const IMPORTS: Uuid = Uuid::max();

impl Store {
    /// Suppresses up to [`BATCH_MAX`](super::BATCH_MAX) phones; the answer is in their order. It
    /// holds from its commit on: no claim that commits later dials them, and calls that were
    /// committed before are told.
    pub async fn add_suppressions(
        &self,
        tenant: &TenantId,
        new: Vec<NewSuppression>,
        key: Option<RequestKey>,
    ) -> Result<Vec<SuppressionAdded>> {
        check_len(new.len())?;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(answer) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(answer);
        }
        let added = add_in(&mut tx, self, tenant, &new).await?;
        let now = tx.now().await?;
        audit::write(&mut tx, &self.actor, tenant, "suppressions".to_owned(), &counts(&added), now)
            .await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &added, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(added)
    }
}

fn check_len(len: usize) -> Result<()> {
    if len <= BATCH_MAX {
        return Ok(());
    }
    Err(Error::Invalid(Violation::new("suppressions", "has more than 1,000 items")))
}

/// Ids of the calls that go on, and numbers: nothing that names a person.
fn counts(added: &[SuppressionAdded]) -> serde_json::Value {
    let of = |wanted: SuppressionChange| {
        let is = |item: &&SuppressionAdded| matches!(item, SuppressionAdded::Kept { change, .. } if *change == wanted);
        added.iter().filter(is).count()
    };
    json!({ "added": of(SuppressionChange::Added), "extended": of(SuppressionChange::Extended) })
}

/// Suppresses phones, under the dispatch lock, which it takes: nothing may be locked before.
pub async fn add_in(
    tx: &mut Tx,
    store: &Store,
    tenant: &TenantId,
    new: &[NewSuppression],
) -> Result<Vec<SuppressionAdded>> {
    tenants::access::lock_dispatch(tx, tenant).await?;
    let now = tx.now().await?;
    let phones: Vec<String> = new.iter().map(|item| item.phone.expose().to_owned()).collect();
    let mut known = by_phone(tx, tenant, phones.clone()).await?;
    let live = live_calls(tx, tenant, phones).await?;
    let created_by = store.actor.client().map_or("system", |client| &client.key_id);
    let mut changed = HashSet::new();
    let mut answer = Vec::with_capacity(new.len());
    for (n, item) in new.iter().enumerate() {
        let before = known.get(&item.phone).map(|view| view.expires_at);
        let change = match suppression::decide(before, item.expires_at, now) {
            Ok(change) => change,
            Err(violation) => {
                answer.push(violation.into());
                continue;
            }
        };
        if change != SuppressionChange::Unchanged {
            changed.insert(item.phone.clone());
        }
        match (change, known.get_mut(&item.phone)) {
            (SuppressionChange::Extended, Some(view)) => view.expires_at = item.expires_at,
            (SuppressionChange::Unchanged, _) => {}
            (SuppressionChange::Added | SuppressionChange::Extended, _) => {
                let id = SuppressionId(new_id(now, n));
                known.insert(item.phone.clone(), view_of(id, item, created_by, now));
            }
        }
        let id = known[&item.phone].id;
        answer.push(SuppressionAdded::Kept {
            id,
            change,
            live_call: live.get(&item.phone).copied(),
        });
    }
    put(tx, tenant, &changed.iter().map(|phone| &known[phone]).collect::<Vec<_>>()).await?;
    Ok(answer)
}

fn view_of(
    id: SuppressionId,
    item: &NewSuppression,
    created_by: &str,
    now: Timestamp,
) -> SuppressionView {
    SuppressionView {
        id,
        phone: item.phone.clone(),
        reason: item.reason,
        source: item.source,
        note: item.note.clone(),
        call: item.call,
        expires_at: item.expires_at,
        created_at: now,
        created_by: created_by.to_owned(),
    }
}

async fn by_phone(
    tx: &mut Tx,
    tenant: &TenantId,
    phones: Vec<String>,
) -> Result<HashMap<Phone, SuppressionView>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            suppression_columns!(),
            " FROM suppressions s WHERE s.tenant_id = $1 AND s.phone {any 2 text}"
        )
    );
    let rows = tx.fetch(&SELECT, args![tenant, phones]).await?;
    let views = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(views.into_iter().map(|view| (view.phone.clone(), view)).collect())
}

/// Calls to these phones that go on.
async fn live_calls(
    tx: &mut Tx,
    tenant: &TenantId,
    phones: Vec<String>,
) -> Result<HashMap<Phone, CallId>> {
    statement!(LIVE, "SELECT phone_to, call_id FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound' AND phone_to {any 2 text}");
    let rows = tx.fetch(&LIVE, args![tenant, phones]).await?;
    rows.iter()
        .map(|row| Ok((Phone::from_stored(row.text("phone_to")?), CallId(row.uuid("call_id")?))))
        .collect()
}

async fn put(tx: &mut Tx, tenant: &TenantId, views: &[&SuppressionView]) -> Result<()> {
    statement!(PUT, "INSERT INTO suppressions (tenant_id, phone, suppression_id, reason, source, note, call_id, expires_at,
             created_at, created_by)
         SELECT $1, r.phone, r.suppression_id, r.reason, r.source, r.note, r.call_id, r.expires_at, r.created_at,
             r.created_by
         FROM {rows 2 r: phone text, suppression_id uuid, reason text, source text, note text, call_id uuid, expires_at bigint, created_at bigint, created_by text}
         WHERE true
         ON CONFLICT (tenant_id, phone) DO UPDATE SET suppression_id = excluded.suppression_id,
             reason = excluded.reason, source = excluded.source, note = excluded.note, call_id = excluded.call_id,
             expires_at = excluded.expires_at, created_at = excluded.created_at, created_by = excluded.created_by");
    if views.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .texts(views.iter().map(|view| view.phone.expose().to_owned()))
        .uuids(views.iter().map(|view| view.id.0))
        .texts(views.iter().map(|view| view.reason.as_str().to_owned()))
        .texts(views.iter().map(|view| view.source.as_str().to_owned()))
        .texts(views.iter().map(|view| view.note.clone()))
        .uuids(views.iter().map(|view| view.call.map(|call| call.0)))
        .ints(views.iter().map(|view| view.expires_at.map(|at| at.0)))
        .ints(views.iter().map(|view| view.created_at.0))
        .texts(views.iter().map(|view| view.created_by.clone()));
    tx.execute(&PUT, args![tenant, rows]).await?;
    Ok(())
}

impl Store {
    /// Lets up to [`BATCH_MAX`](super::BATCH_MAX) phones be dialed again. Tells of each whether it
    /// was suppressed.
    pub async fn remove_suppressions(
        &self,
        tenant: &TenantId,
        phones: Vec<Phone>,
        key: Option<RequestKey>,
    ) -> Result<Vec<bool>> {
        statement!(
            DELETE,
            "DELETE FROM suppressions WHERE tenant_id = $1 AND phone {any 2 text} RETURNING phone"
        );
        check_len(phones.len())?;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(answer) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return Ok(answer);
        }
        // Whoever adds one has read what there is under this lock, and must find it there when it
        // writes.
        tenants::access::lock_dispatch(&mut tx, tenant).await?;
        let now = tx.now().await?;
        let texts: Vec<String> = phones.iter().map(|phone| phone.expose().to_owned()).collect();
        let rows = tx.fetch(&DELETE, args![tenant, texts]).await?;
        let gone = rows
            .iter()
            .map(|row| row.text("phone").map(Phone::from_stored))
            .collect::<Result<HashSet<Phone>>>()?;
        let answer: Vec<bool> = phones.iter().map(|phone| gone.contains(phone)).collect();
        let detail = json!({ "removed": gone.len() });
        audit::write(&mut tx, &self.actor, tenant, "suppressions".to_owned(), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &answer, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(answer)
    }
}

impl Store {
    /// How far an import of suppressions got; nowhere if it is new.
    pub async fn suppression_import_stand(
        &self,
        tenant: &TenantId,
        import_id: &str,
    ) -> Result<ImportStand> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        leads::import::read(&mut tx, tenant, IMPORTS, import_id).await
    }
}

impl Store {
    /// Stores a batch of an import of suppressions (at most [`BATCH_MAX`](super::BATCH_MAX)) and
    /// moves the import on by `taken`, in one transaction. The answer is in the order of `new`.
    pub async fn import_suppressions(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        new: Vec<NewSuppression>,
    ) -> Result<(Vec<SuppressionAdded>, ImportStand)> {
        check_len(new.len())?;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let added = add_in(&mut tx, self, tenant, &new).await?;
        let now = tx.now().await?;
        let mut stand = leads::import::take_turn(&mut tx, tenant, IMPORTS, step, now).await?;
        stand.offset = step.offset.saturating_add(step.taken);
        stand.rejected += step.taken.saturating_sub(new.len() as u64);
        for item in &added {
            *match item {
                SuppressionAdded::Kept { change: SuppressionChange::Added, .. } => {
                    &mut stand.created
                }
                SuppressionAdded::Kept { change: SuppressionChange::Extended, .. } => {
                    &mut stand.updated
                }
                SuppressionAdded::Kept { change: SuppressionChange::Unchanged, .. } => {
                    &mut stand.unchanged
                }
                SuppressionAdded::Rejected { .. } => &mut stand.rejected,
            } += 1;
        }
        leads::import::save(&mut tx, tenant, IMPORTS, step.import_id, stand, now).await?;
        audit::write(&mut tx, &self.actor, tenant, "suppressions".to_owned(), &counts(&added), now)
            .await?;
        tx.commit(&self.wakes).await?;
        Ok((added, stand))
    }
}

/// Which of these phones are suppressed. Exact for whoever holds the dispatch lock; for others a
/// first look, because the claim looks again.
pub async fn among(
    tx: &mut Tx,
    tenant: &TenantId,
    phones: Vec<String>,
    now: Timestamp,
) -> Result<HashMap<Phone, Timestamp>> {
    statement!(
        SELECT,
        "SELECT phone, created_at FROM suppressions
         WHERE tenant_id = $1 AND phone {any 2 text} AND (expires_at IS NULL OR expires_at > $3)"
    );
    if phones.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.fetch(&SELECT, args![tenant, phones, now]).await?;
    rows.iter()
        .map(|row| Ok((Phone::from_stored(row.text("phone")?), Timestamp(row.int("created_at")?))))
        .collect()
}

/// Forgets what people wrote about a phone whose lead is erased. The phone stays suppressed: that
/// is what its owner asked for, and without the number nobody could obey.
pub async fn forget_note(tx: &mut Tx, tenant: &TenantId, phone: &str) -> Result<()> {
    statement!(
        FORGET,
        "UPDATE suppressions SET note = '' WHERE tenant_id = $1 AND phone = $2 AND note <> ''"
    );
    tx.execute(&FORGET, args![tenant, phone]).await.map(drop)
}
