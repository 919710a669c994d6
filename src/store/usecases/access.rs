//! Tenants, carrier accounts and keys.

use std::time::Duration;

use crate::domain::tenant::Tenant;
use crate::domain::{AccountSid, Phone, TenantId, Timestamp, pace};
use crate::store::database::{Scope, Tx};
use crate::store::engine::Engine;
use crate::store::sql::{Row, Sql, args, to_json};
use crate::store::{ApiKey, Error, Result};

/// See [`crate::store::Store::put_account`].
pub async fn put_account(engine: &Engine, account: &AccountSid, calls_per_second: f64) -> Result<()> {
    static PUT: Sql = Sql::new(
        "INSERT INTO carrier_accounts (account_sid, calls_per_second, created_at, updated_at)
         VALUES ($1, $2, {now}, {now})
         ON CONFLICT (account_sid) DO UPDATE SET calls_per_second = excluded.calls_per_second,
             updated_at = excluded.updated_at",
    );
    pace::Meter::new(calls_per_second, Timestamp(0))?;
    let mut tx = engine.db.begin(Scope::Owner).await?;
    tx.execute(&PUT, args![account.as_str(), calls_per_second]).await?;
    tx.commit(&engine.wakes).await
}

/// See [`crate::store::Store::open_breaker`] and [`crate::store::Store::close_breaker`].
pub async fn set_breaker(engine: &Engine, account: &AccountSid, open_for: Option<Duration>) -> Result<()> {
    static SET: Sql =
        Sql::new("UPDATE carrier_accounts SET breaker_open_until = {now} + $2 WHERE account_sid = $1");
    let open_for = open_for.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    let mut tx = engine.db.begin(Scope::Scheduler).await?;
    tx.execute(&SET, args![account.as_str(), open_for]).await?;
    tx.commit(&engine.wakes).await
}

/// See [`crate::store::Store::put_tenant`].
pub async fn put_tenant(engine: &Engine, tenant: &Tenant) -> Result<()> {
    static PUT: Sql = Sql::new(
        "INSERT INTO tenants (tenant_id, max_concurrent_calls, calls_per_second, account_sid, caller_id, time_zone,
             calling_window, default_region, greeting, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, {now}, {now})
         ON CONFLICT (tenant_id) DO UPDATE SET max_concurrent_calls = excluded.max_concurrent_calls,
             calls_per_second = excluded.calls_per_second, account_sid = excluded.account_sid,
             caller_id = excluded.caller_id, time_zone = excluded.time_zone,
             calling_window = excluded.calling_window, default_region = excluded.default_region,
             greeting = excluded.greeting, updated_at = excluded.updated_at",
    );
    static DISPATCH: Sql = Sql::new(
        "INSERT INTO tenant_dispatch (tenant_id, ready_at) VALUES ($1, 0)
         ON CONFLICT (tenant_id) DO UPDATE SET ready_at = 0",
    );
    tenant.check()?;
    let mut tx = engine.db.begin(Scope::Owner).await?;
    let values = args![
        &tenant.id,
        i64::from(tenant.max_concurrent_calls),
        tenant.calls_per_second,
        tenant.account_sid.as_str(),
        tenant.caller_id.expose(),
        tenant.time_zone.as_str(),
        to_json(&tenant.window)?,
        tenant.default_region.clone(),
        tenant.greeting.as_ref().map(to_json).transpose()?,
    ];
    tx.execute(&PUT, values).await?;
    tx.execute(&DISPATCH, args![&tenant.id]).await?;
    tx.commit(&engine.wakes).await
}

/// The tenant's settings, inside a transaction.
pub async fn tenant(tx: &mut Tx, tenant: &TenantId) -> Result<Tenant> {
    static SELECT: Sql = Sql::new(
        "SELECT max_concurrent_calls, calls_per_second, account_sid, caller_id, time_zone, calling_window,
             default_region, greeting
         FROM tenants WHERE tenant_id = $1",
    );
    let row = tx.fetch_optional(&SELECT, args![tenant]).await?.ok_or(Error::NotFound("tenant"))?;
    Ok(Tenant {
        id: tenant.clone(),
        max_concurrent_calls: row.narrow("max_concurrent_calls")?,
        calls_per_second: row.float("calls_per_second")?,
        account_sid: row.text("account_sid")?.parse()?,
        caller_id: Phone::from_stored(row.text("caller_id")?),
        time_zone: row.text("time_zone")?,
        window: row.json("calling_window")?,
        default_region: row.opt_text("default_region")?,
        greeting: if row.opt_text("greeting")?.is_some() { Some(row.json("greeting")?) } else { None },
    })
}

/// See [`crate::store::Store::tenant`].
pub async fn get_tenant(engine: &Engine, id: &TenantId) -> Result<Tenant> {
    let mut tx = engine.db.read(Scope::Tenant(id)).await?;
    tenant(&mut tx, id).await
}

/// See [`crate::store::Store::put_key`].
pub async fn put_key(engine: &Engine, key: &ApiKey) -> Result<()> {
    static PUT: Sql = Sql::new(
        "INSERT INTO api_keys (key_id, tenant_id, secret_hash, scopes, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, {now}, $5, $6)",
    );
    let mut tx = engine.db.begin(Scope::Owner).await?;
    let values = args![
        key.key_id.as_str(),
        &key.tenant,
        hex::encode(key.secret_hash),
        key.scopes.join(" "),
        key.expires_at,
        key.revoked_at,
    ];
    tx.execute(&PUT, values).await?;
    tx.commit(&engine.wakes).await
}

/// See [`crate::store::Store::key`].
pub async fn key(engine: &Engine, key_id: &str) -> Result<Option<ApiKey>> {
    static SELECT: Sql = Sql::new(
        "SELECT key_id, tenant_id, secret_hash, scopes, expires_at, revoked_at FROM api_keys WHERE key_id = $1",
    );
    let mut tx = engine.db.read(Scope::Scheduler).await?;
    tx.fetch_optional(&SELECT, args![key_id]).await?.as_ref().map(read_key).transpose()
}

fn read_key(row: &Row) -> Result<ApiKey> {
    let mut secret_hash = [0; 32];
    hex::decode_to_slice(row.text("secret_hash")?, &mut secret_hash)
        .map_err(|error| Error::Internal(format!("column secret_hash: {error}")))?;
    Ok(ApiKey {
        key_id: row.text("key_id")?,
        tenant: row.text("tenant_id")?.parse()?,
        secret_hash,
        scopes: row.text("scopes")?.split_whitespace().map(str::to_owned).collect(),
        expires_at: row.opt_int("expires_at")?.map(Timestamp),
        revoked_at: row.opt_int("revoked_at")?.map(Timestamp),
    })
}

/// See [`crate::store::Store::count_keys`].
pub async fn count_keys(engine: &Engine, tenant: &TenantId) -> Result<u64> {
    static COUNT: Sql = Sql::new("SELECT count(*) AS keys FROM api_keys WHERE tenant_id = $1");
    let mut tx = engine.db.read(Scope::Tenant(tenant)).await?;
    tx.fetch_one(&COUNT, args![tenant]).await?.narrow("keys")
}
