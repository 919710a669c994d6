//! Tenants: created, changed, disabled and enabled by an administrator.

pub(super) mod access;
pub(super) mod account_cache;
pub(super) mod accounts;
pub(super) mod model;

use serde_json::json;

use crate::domain::tenant::{Tenant, TenantState};
use crate::domain::{TenantId, Timestamp};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::tenants::access::{lock_dispatch, read_tenant, tenant_columns, tenant_values};
use crate::store::{
    Error, Page, Paged, RequestKey, Result, Store, TenantPatch, TenantView, audit, keys, runs,
    tenants,
};

impl Store {
    /// Creates a tenant. [`Error::Exists`](super::Error::Exists) if there is one of this id.
    pub async fn create_tenant(
        &self,
        tenant: Tenant,
        key: Option<RequestKey>,
    ) -> Result<TenantView> {
        // On a conflict the row is not ours to touch: the tenant exists.
        statement!(INSERT, "INSERT INTO tenants (tenant_id, name, max_concurrent_calls, calls_per_second, account_sid, caller_ids, time_zone,
                 calling_window, region, plan, greeting, managed, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, true, $12, $12) ON CONFLICT (tenant_id) DO NOTHING");
        statement!(DISPATCH, "INSERT INTO tenant_dispatch (tenant_id, ready_at) VALUES ($1, 0)");
        tenant.check()?;
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(id) = keys::requests::replay_own(&mut tx, &self.actor, key.as_ref()).await? {
            return view(&mut tx, &id).await;
        }
        tenants::accounts::must_exist(&mut tx, &tenant.account_sid).await?;
        let now = tx.now().await?;
        let mut values = tenant_values(&tenant)?;
        values.extend(args![now]);
        if tx.execute(&INSERT, values).await? == 0 {
            return Err(Error::Exists("tenant"));
        }
        tx.execute(&DISPATCH, args![&tenant.id]).await?;
        let detail = json!({ "account_sid": tenant.account_sid, "plan": tenant.plan });
        audit::write(
            &mut tx,
            &self.actor,
            &tenant.id,
            format!("tenant {}", tenant.id),
            &detail,
            now,
        )
        .await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), &tenant.id, now).await?;
        let view = view(&mut tx, &tenant.id).await?;
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

/// The tenant, for an administrator.
pub async fn view(tx: &mut Tx, tenant: &TenantId) -> Result<TenantView> {
    crate::store::tenants::access::tenant(tx, tenant).await
}

impl Store {
    /// The tenant.
    pub async fn tenant_view(&self, tenant: &TenantId) -> Result<TenantView> {
        let mut tx = self.db.read(Scope::Owner).await?;
        view(&mut tx, tenant).await
    }
}

impl Store {
    /// By id. Empty `states` means all.
    pub async fn list_tenants(
        &self,
        states: &[TenantState],
        page: Page<String>,
    ) -> Result<Paged<TenantView, String>> {
        statement!(
            SELECT,
            concat!(
                "SELECT ",
                tenant_columns!(),
                " FROM tenants WHERE tenant_id > $1 AND state {any 2 text} ORDER BY tenant_id LIMIT $3"
            )
        );
        let all = if states.is_empty() { TenantState::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let mut tx = self.db.read(Scope::Owner).await?;
        let rows = tx
            .fetch(&SELECT, args![page.after.clone().unwrap_or_default(), states, page.limit()])
            .await?;
        let items = rows.iter().map(read_tenant).collect::<Result<_>>()?;
        Ok(page.cut(items, |view: &TenantView| view.tenant.id.to_string()))
    }
}

impl Store {
    /// Changes settings of a tenant; from then on settings of a process do not replace them.
    pub async fn update_tenant(
        &self,
        id: &TenantId,
        patch: TenantPatch,
        key: Option<RequestKey>,
    ) -> Result<TenantView> {
        statement!(UPDATE, "UPDATE tenants SET name = $2, max_concurrent_calls = $3, calls_per_second = $4, account_sid = $5,
                 caller_ids = $6, time_zone = $7, calling_window = $8, region = $9, plan = $10, greeting = $11,
                 managed = true, revision = revision + 1, updated_at = $12
             WHERE tenant_id = $1");
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(id) = keys::requests::replay_own(&mut tx, &self.actor, key.as_ref()).await? {
            return view(&mut tx, &id).await;
        }
        // A claim under way goes by the old window; what it puts off is looked at after it.
        lock_dispatch(&mut tx, id).await?;
        let before = lock(&mut tx, id).await?;
        if patch.revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed);
        }
        let now = tx.now().await?;
        let tenant = before.tenant.clone().with(&patch.fields, &patch.tenant);
        tenant.check()?;
        if tenant.account_sid != before.tenant.account_sid {
            tenants::accounts::must_exist(&mut tx, &tenant.account_sid).await?;
        }
        let mut values = tenant_values(&tenant)?;
        values.extend(args![now]);
        tx.execute(&UPDATE, values).await?;
        if tenant.hours() != before.tenant.hours() {
            runs::reschedule::all(&mut tx, id, now).await?;
        }
        let fields: Vec<&str> = patch.fields.iter().map(|field| field.as_str()).collect();
        let detail = json!({ "fields": fields });
        audit::write(&mut tx, &self.actor, id, format!("tenant {id}"), &detail, now).await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), id, now).await?;
        let view = view(&mut tx, id).await?;
        // A wider limit may let a call start at once.
        tx.has_work(id, now);
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

/// Locks the tenant's row.
async fn lock(tx: &mut Tx, id: &TenantId) -> Result<TenantView> {
    statement!(
        LOCK,
        concat!("SELECT ", tenant_columns!(), " FROM tenants WHERE tenant_id = $1 {for_update}")
    );
    let row = tx.fetch_optional(&LOCK, args![id]).await?.ok_or(Error::NotFound("tenant"))?;
    read_tenant(&row)
}

impl Store {
    /// Disables or enables a tenant. Once it returns, no claim of a disabled tenant commits.
    pub async fn set_tenant_state(
        &self,
        id: &TenantId,
        state: TenantState,
        key: Option<RequestKey>,
    ) -> Result<TenantView> {
        statement!(
            UPDATE,
            "UPDATE tenants SET state = $2, revision = revision + 1, updated_at = $3 WHERE tenant_id = $1"
        );
        let own = self.actor.client().is_some_and(|client| client.tenant == *id);
        if own && state == TenantState::Disabled {
            return Err(Error::OnOneself(
                "a key cannot disable its own tenant: it would shut itself out",
            ));
        }
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(id) = keys::requests::replay_own(&mut tx, &self.actor, key.as_ref()).await? {
            return view(&mut tx, &id).await;
        }
        // A claim under way is committed before the state changes, and the next one sees it.
        lock_dispatch(&mut tx, id).await?;
        let before = lock(&mut tx, id).await?;
        let now: Timestamp = tx.now().await?;
        if before.state != state {
            tx.execute(&UPDATE, args![id, state.as_str(), now]).await?;
            let detail = json!({ "from": before.state, "to": state });
            audit::write(&mut tx, &self.actor, id, format!("tenant {id}"), &detail, now).await?;
        }
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), id, now).await?;
        let view = view(&mut tx, id).await?;
        tx.has_work(id, now);
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}
