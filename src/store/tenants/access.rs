//! Tenants and carrier accounts as settings make them, and as other use cases read them.

use std::time::Duration;

use crate::domain::run::RunSettings;
use crate::domain::tenant::{Tenant, TenantState};
use crate::domain::time::micros;
use crate::domain::{AccountSid, Phone, TenantId, Timestamp, pace};
use crate::store::db::sql::{Row, Value, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::{Error, Result, Store, TenantView, runs};

impl Store {
    /// Creates or replaces a carrier account's pace. False if an administrator changed the account:
    /// it stays.
    pub async fn put_account(&self, account: &AccountSid, calls_per_second: f64) -> Result<bool> {
        statement!(
            PUT,
            "INSERT INTO carrier_accounts (account_sid, calls_per_second, created_at, updated_at)
             VALUES ($1, $2, {now}, {now})
             ON CONFLICT (account_sid) DO UPDATE SET calls_per_second = excluded.calls_per_second,
                 updated_at = excluded.updated_at
             WHERE NOT carrier_accounts.managed"
        );
        pace::Meter::new(calls_per_second, Timestamp(0))?;
        let mut tx = self.db.begin(Scope::Owner).await?;
        let taken = tx.execute(&PUT, args![account.as_str(), calls_per_second]).await? > 0;
        tx.commit(&self.wakes).await?;
        Ok(taken)
    }
}

/// Opens the account's circuit breaker for so long, or closes it.
async fn set_breaker(
    store: &Store,
    account: &AccountSid,
    open_for: Option<Duration>,
) -> Result<()> {
    statement!(
        SET,
        "UPDATE carrier_accounts SET breaker_open_until = {now} + $2 WHERE account_sid = $1"
    );
    let open_for = open_for.map(micros);
    let mut tx = store.db.begin(Scope::Scheduler).await?;
    tx.execute(&SET, args![account.as_str(), open_for]).await?;
    tx.commit(&store.wakes).await
}

impl Store {
    /// Creates a tenant or replaces its settings. False if an administrator changed the tenant: it
    /// stays.
    pub async fn put_tenant(&self, tenant: &Tenant) -> Result<bool> {
        statement!(PUT, "INSERT INTO tenants (tenant_id, name, max_concurrent_calls, calls_per_second, account_sid, caller_ids, time_zone,
                 calling_window, region, plan, greeting, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, {now}, {now})
             ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name,
                 max_concurrent_calls = excluded.max_concurrent_calls, calls_per_second = excluded.calls_per_second,
                 account_sid = excluded.account_sid, caller_ids = excluded.caller_ids, time_zone = excluded.time_zone,
                 calling_window = excluded.calling_window, region = excluded.region, plan = excluded.plan,
                 greeting = excluded.greeting, updated_at = excluded.updated_at
             WHERE NOT tenants.managed");
        statement!(
            DISPATCH,
            "INSERT INTO tenant_dispatch (tenant_id, ready_at) VALUES ($1, 0)
             ON CONFLICT (tenant_id) DO UPDATE SET ready_at = 0"
        );
        tenant.check()?;
        let mut tx = self.db.begin(Scope::Owner).await?;
        // First in the lock order.
        lock_dispatch(&mut tx, &tenant.id).await?;
        let before = match self::tenant(&mut tx, &tenant.id).await {
            Ok(before) => Some(before.tenant),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let taken = tx.execute(&PUT, tenant_values(tenant)?).await? > 0;
        if taken && before.is_some_and(|before| before.hours() != tenant.hours()) {
            let now = tx.now().await?;
            runs::reschedule::all(&mut tx, &tenant.id, now).await?;
        }
        tx.execute(&DISPATCH, args![&tenant.id]).await?;
        tx.commit(&self.wakes).await?;
        Ok(taken)
    }
}

/// Takes the dispatch lock of the tenant, if there is such a tenant.
pub(in crate::store) async fn lock_dispatch(tx: &mut Tx, id: &TenantId) -> Result<()> {
    statement!(LOCK, "SELECT tenant_id FROM tenant_dispatch WHERE tenant_id = $1 {for_update}");
    tx.fetch(&LOCK, args![id]).await.map(drop)
}

/// The columns of a tenant's settings, in the order of [`tenant_columns`].
pub(in crate::store) fn tenant_values(tenant: &Tenant) -> Result<Vec<Value>> {
    let caller_ids: Vec<&str> = tenant.caller_ids.iter().map(Phone::expose).collect();
    Ok(args![
        &tenant.id,
        tenant.name.as_str(),
        i64::from(tenant.max_concurrent_calls),
        tenant.calls_per_second,
        tenant.account_sid.as_str(),
        to_json(&caller_ids)?,
        tenant.time_zone.as_str(),
        to_json(&tenant.window)?,
        tenant.region.clone(),
        tenant.plan.as_str(),
        tenant.greeting.as_ref().map(to_json).transpose()?,
    ])
}

macro_rules! tenant_columns {
    () => {
        "tenant_id, name, max_concurrent_calls, calls_per_second, account_sid, caller_ids, time_zone, calling_window, \
         region, plan, greeting, state, revision, created_at, updated_at"
    };
}
pub(in crate::store) use tenant_columns;

/// Reads [`tenant_columns`].
pub(in crate::store) fn read_tenant(row: &Row) -> Result<TenantView> {
    let caller_ids: Vec<String> = row.json("caller_ids")?;
    Ok(TenantView {
        tenant: Tenant {
            id: row.text("tenant_id")?.parse()?,
            name: row.text("name")?,
            max_concurrent_calls: row.narrow("max_concurrent_calls")?,
            calls_per_second: row.float("calls_per_second")?,
            account_sid: row.text("account_sid")?.parse()?,
            caller_ids: caller_ids.into_iter().map(Phone::from_stored).collect(),
            time_zone: row.text("time_zone")?,
            window: row.json("calling_window")?,
            region: row.opt_text("region")?,
            plan: row.text("plan")?,
            greeting: if row.opt_text("greeting")?.is_some() {
                Some(row.json("greeting")?)
            } else {
                None
            },
        },
        state: row.word("state", TenantState::from_word)?,
        revision: row.int("revision")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

/// The tenant as it stands, inside a transaction.
pub async fn tenant(tx: &mut Tx, tenant: &TenantId) -> Result<TenantView> {
    statement!(SELECT, concat!("SELECT ", tenant_columns!(), " FROM tenants WHERE tenant_id = $1"));
    let row = tx.fetch_optional(&SELECT, args![tenant]).await?.ok_or(Error::NotFound("tenant"))?;
    read_tenant(&row)
}

/// Refuses a caller id that is none of the tenant's.
pub async fn check_caller_id(tx: &mut Tx, id: &TenantId, settings: &RunSettings) -> Result<()> {
    if settings.caller_id.is_some() {
        tenant(tx, id).await?.tenant.check_caller_id(settings.caller_id.as_ref())?;
    }
    Ok(())
}

impl Store {
    /// The tenant's settings.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        let mut tx = self.db.read(Scope::Tenant(id)).await?;
        Ok(tenant(&mut tx, id).await?.tenant)
    }
}

impl Store {
    /// Opens the account's circuit breaker: claims through it take nothing for this long, then one
    /// probe at a time.
    pub async fn open_breaker(&self, account: &AccountSid, open_for: Duration) -> Result<()> {
        set_breaker(self, account, Some(open_for)).await
    }
}

impl Store {
    /// Closes the account's circuit breaker.
    pub async fn close_breaker(&self, account: &AccountSid) -> Result<()> {
        set_breaker(self, account, None).await
    }
}
