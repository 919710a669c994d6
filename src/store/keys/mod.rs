//! API keys: made, looked up, listed, revoked, given an end.

pub(super) mod requests;
pub(super) mod seal;

use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::domain::tenant::{NAME_MAX_CHARS, TenantState};
use crate::domain::{TenantId, Timestamp, Violation};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{
    ApiKey, Error, KeyCreated, KeyView, KnownKey, NewKey, Page, Paged, RequestKey, Result, Store,
    audit, keys, tenants,
};

/// Characters of a key's secret: 62^43 > 2^256.
const SECRET_CHARS: usize = 43;
/// Characters of a key's id.
const KEY_ID_CHARS: usize = 12;
/// Keys of a tenant, those included that ended: they are kept for the audit log.
const KEYS_MAX: i64 = 1_000;
/// A use is noted once in this time.
const USED_EVERY_US: i64 = 60_000_000;

impl Store {
    /// Keeps a key; only the hash of its secret.
    pub async fn put_key(&self, key: &ApiKey) -> Result<()> {
        let mut tx = self.db.begin(Scope::Owner).await?;
        let now = tx.now().await?;
        insert(&mut tx, key, "", now).await?;
        tx.commit(&self.wakes).await
    }
}

async fn insert(tx: &mut Tx, key: &ApiKey, name: &str, now: Timestamp) -> Result<()> {
    statement!(PUT, "INSERT INTO api_keys (key_id, tenant_id, name, secret_hash, scopes, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
    let values = args![
        key.key_id.as_str(),
        &key.tenant,
        name,
        hex::encode(key.secret_hash),
        key.scopes.join(" "),
        now,
        key.expires_at,
        key.revoked_at,
    ];
    tx.execute(&PUT, values).await?;
    Ok(())
}

/// A key of `new`, and the whole of it; only its hash is kept.
fn mint(new: &NewKey) -> (ApiKey, SecretString) {
    let key_id = Alphanumeric.sample_string(&mut rand::rng(), KEY_ID_CHARS);
    let secret = Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS);
    let whole = SecretString::from(format!("{key_id}.{secret}"));
    let key = ApiKey {
        key_id,
        tenant: new.tenant.clone(),
        secret_hash: Sha256::digest(&secret).into(),
        scopes: new.scopes.clone(),
        expires_at: new.expires_at,
        revoked_at: None,
    };
    (key, whole)
}

impl Store {
    /// The key of this id, whoever's it is: the one look-up before the tenant is known.
    pub async fn key(&self, key_id: &str) -> Result<Option<KnownKey>> {
        statement!(SELECT, "SELECT k.key_id, k.tenant_id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at, t.state, t.region, t.plan,
                 {now} AS now
             FROM api_keys k JOIN tenants t ON t.tenant_id = k.tenant_id WHERE k.key_id = $1");
        let mut tx = self.db.read(Scope::Scheduler).await?;
        tx.fetch_optional(&SELECT, args![key_id]).await?.as_ref().map(read_known).transpose()
    }
}

fn read_known(row: &Row) -> Result<KnownKey> {
    let mut secret_hash = [0; 32];
    hex::decode_to_slice(row.text("secret_hash")?, &mut secret_hash)
        .map_err(|error| Error::Internal(format!("column secret_hash: {error}")))?;
    let key = ApiKey {
        key_id: row.text("key_id")?,
        tenant: row.text("tenant_id")?.parse()?,
        secret_hash,
        scopes: scopes(row)?,
        expires_at: row.opt_int("expires_at")?.map(Timestamp),
        revoked_at: row.opt_int("revoked_at")?.map(Timestamp),
    };
    Ok(KnownKey {
        key,
        tenant_state: row.word("state", TenantState::from_word)?,
        region: row.opt_text("region")?,
        plan: row.text("plan")?,
        read_at: Timestamp(row.int("now")?),
    })
}

fn scopes(row: &Row) -> Result<Vec<String>> {
    Ok(row.text("scopes")?.split_whitespace().map(str::to_owned).collect())
}

impl Store {
    /// Makes a key of a tenant that has none, with these scopes, and with `admin` if nobody has a
    /// key. None if the tenant has one.
    pub async fn first_key(
        &self,
        tenant: &TenantId,
        scopes: &[&str],
        admin: &str,
    ) -> Result<Option<SecretString>> {
        // Processes that start at the same time make one key, not two: the second waits for the
        // first.
        statement!(LOCK, "SELECT tenant_id FROM tenants WHERE tenant_id = $1 {for_update}");
        statement!(
            COUNT,
            "SELECT count(*) AS keys, COALESCE(SUM(CASE WHEN tenant_id = $1 THEN 1 ELSE 0 END), 0) AS own FROM api_keys"
        );
        let mut tx = self.db.begin(Scope::Owner).await?;
        tx.fetch(&LOCK, args![tenant]).await?;
        let row = tx.fetch_one(&COUNT, args![tenant]).await?;
        if row.int("own")? > 0 {
            return Ok(None);
        }
        let nobody_is_admin = (row.int("keys")? == 0).then_some(admin);
        let scopes = scopes.iter().copied().chain(nobody_is_admin).map(str::to_owned).collect();
        let new = NewKey {
            tenant: tenant.clone(),
            name: "first key".to_owned(),
            scopes,
            expires_at: None,
        };
        let (key, whole) = mint(&new);
        let now = tx.now().await?;
        insert(&mut tx, &key, &new.name, now).await?;
        tx.commit(&self.wakes).await?;
        Ok(Some(whole))
    }
}

impl Store {
    /// Makes a key; only the hash of its secret is kept.
    pub async fn create_key(&self, new: NewKey, key: Option<RequestKey>) -> Result<KeyCreated> {
        statement!(COUNT, "SELECT count(*) AS keys FROM api_keys WHERE tenant_id = $1");
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(key_id) =
            keys::requests::replay_own::<String>(&mut tx, &self.actor, key.as_ref()).await?
        {
            return Ok(KeyCreated { key: view(&mut tx, &new.tenant, &key_id).await?, whole: None });
        }
        tenants::view(&mut tx, &new.tenant).await?;
        let now = tx.now().await?;
        check(&new, now)?;
        if tx.fetch_one(&COUNT, args![&new.tenant]).await?.int("keys")? >= KEYS_MAX {
            return Err(Error::Invalid(Violation::new(
                "tenant_id",
                "has 1,000 keys, the most that a tenant may have",
            )));
        }
        let (made, whole) = mint(&new);
        insert(&mut tx, &made, &new.name, now).await?;
        let detail = json!({ "scopes": new.scopes, "expires_at": new.expires_at });
        audit::write(
            &mut tx,
            &self.actor,
            &new.tenant,
            format!("key {}", made.key_id),
            &detail,
            now,
        )
        .await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), &made.key_id, now).await?;
        let view = view(&mut tx, &new.tenant, &made.key_id).await?;
        tx.commit(&self.wakes).await?;
        Ok(KeyCreated { key: view, whole: Some(whole) })
    }
}

fn check(new: &NewKey, now: Timestamp) -> Result<(), Violation> {
    if new.name.chars().count() > NAME_MAX_CHARS || new.name.chars().any(char::is_control) {
        let reason = "must be at most 200 characters, none of them a control character";
        return Err(Violation::new("name", reason));
    }
    if new.scopes.is_empty() {
        return Err(Violation::new("scopes", "must name at least one scope"));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Violation::new("expire_time", "must be in the future"));
    }
    Ok(())
}

macro_rules! key_columns {
    () => {
        "SELECT key_id, tenant_id, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_keys "
    };
}

fn read(row: &Row) -> Result<KeyView> {
    Ok(KeyView {
        key_id: row.text("key_id")?,
        tenant: row.text("tenant_id")?.parse()?,
        name: row.text("name")?,
        scopes: scopes(row)?,
        created_at: Timestamp(row.int("created_at")?),
        expires_at: row.opt_int("expires_at")?.map(Timestamp),
        revoked_at: row.opt_int("revoked_at")?.map(Timestamp),
        last_used_at: row.opt_int("last_used_at")?.map(Timestamp),
    })
}

async fn view(tx: &mut Tx, tenant: &TenantId, key_id: &str) -> Result<KeyView> {
    statement!(SELECT, concat!(key_columns!(), "WHERE tenant_id = $1 AND key_id = $2"));
    let row =
        tx.fetch_optional(&SELECT, args![tenant, key_id]).await?.ok_or(Error::NotFound("key"))?;
    read(&row)
}

impl Store {
    /// By id, those that have ended included.
    pub async fn list_keys(
        &self,
        tenant: &TenantId,
        page: Page<String>,
    ) -> Result<Paged<KeyView, String>> {
        statement!(
            SELECT,
            concat!(
                key_columns!(),
                "WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3"
            )
        );
        let mut tx = self.db.read(Scope::Owner).await?;
        tenants::view(&mut tx, tenant).await?;
        let after = page.after.clone().unwrap_or_default();
        let rows = tx.fetch(&SELECT, args![tenant, after, page.limit()]).await?;
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(page.cut(items, |key: &KeyView| key.key_id.clone()))
    }
}

impl Store {
    /// Lets a key end at `expires_at`, or revokes it now.
    pub async fn end_key(
        &self,
        tenant: &TenantId,
        key_id: &str,
        expires_at: Option<Timestamp>,
        key: Option<RequestKey>,
    ) -> Result<KeyView> {
        statement!(
            REVOKE,
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE tenant_id = $1 AND key_id = $2"
        );
        statement!(
            EXPIRE,
            "UPDATE api_keys SET expires_at = $3 WHERE tenant_id = $1 AND key_id = $2"
        );
        if self.actor.client().is_some_and(|client| client.key_id == key_id) {
            return Err(Error::OnOneself(
                "a key cannot end itself: make another one, and end this one with it",
            ));
        }
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(key_id) =
            keys::requests::replay_own::<String>(&mut tx, &self.actor, key.as_ref()).await?
        {
            return view(&mut tx, tenant, &key_id).await;
        }
        view(&mut tx, tenant, key_id).await?;
        let now = tx.now().await?;
        match expires_at {
            Some(at) if at <= now => {
                return Err(Error::Invalid(Violation::new("expire_time", "must be in the future")));
            }
            Some(at) => tx.execute(&EXPIRE, args![tenant, key_id, at]).await?,
            None => tx.execute(&REVOKE, args![tenant, key_id, now]).await?,
        };
        let detail = json!({ "expires_at": expires_at });
        audit::write(&mut tx, &self.actor, tenant, format!("key {key_id}"), &detail, now).await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), &key_id, now).await?;
        let view = view(&mut tx, tenant, key_id).await?;
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

impl Store {
    /// Notes that these keys were used within the last minute or so.
    pub async fn keys_used(&self, key_ids: Vec<String>) -> Result<()> {
        statement!(
            USED,
            "UPDATE api_keys SET last_used_at = {now}
             WHERE key_id {any 1 text} AND (last_used_at IS NULL OR last_used_at <= {now} - $2)"
        );
        let mut tx = self.db.begin(Scope::Scheduler).await?;
        tx.execute(&USED, args![key_ids, USED_EVERY_US]).await?;
        tx.commit(&self.wakes).await
    }
}
