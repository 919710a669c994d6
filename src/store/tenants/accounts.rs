//! Carrier accounts: created, changed, their credentials sealed, opened and sealed anew.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::{AccountSid, Timestamp, Violation, pace};
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::keys::seal::{Keyring, Sealed};
use crate::store::{
    AccountAccess, AccountPatch, AccountView, CarrierApiKey, CarrierSecrets, Error, Hints,
    NewAccount, Page, Paged, RequestKey, Resealed, Result, Store, audit, keys, webhooks,
};

/// Accounts sealed anew in one transaction.
const RESEALED_PER_PAGE: i64 = 100;

/// What is sealed: the credentials as JSON.
#[derive(Serialize, Deserialize)]
struct Plain {
    auth_token: String,
    previous_auth_token: Option<String>,
    api_key: Option<(String, String)>,
}

/// What a sealed row opens for: itself and no other.
fn context(account: &AccountSid) -> String {
    format!("carrier account {account}")
}

fn seal(keyring: &Keyring, account: &AccountSid, secrets: &CarrierSecrets) -> Result<Sealed> {
    let text = |secret: &SecretString| secret.expose_secret().to_owned();
    let plain = Plain {
        auth_token: text(&secrets.auth_token),
        previous_auth_token: secrets.previous_auth_token.as_ref().map(text),
        api_key: secrets.api_key.as_ref().map(|key| (key.sid.clone(), text(&key.secret))),
    };
    let json = Zeroizing::new(to_json(&plain)?);
    keyring.seal(&context(account), json.as_bytes())
}

fn open(keyring: &Keyring, account: &AccountSid, row: &Row) -> Result<Option<CarrierSecrets>> {
    let Some(bytes) = row.opt_bytes("secrets_sealed")? else { return Ok(None) };
    let opened = keyring.open(&context(account), &row.text("sealed_with")?, &bytes)?;
    // The error would quote what it could not read.
    let plain: Plain = serde_json::from_slice(&opened)
        .map_err(|_| Error::Internal(format!("{}: not what was sealed", context(account))))?;
    Ok(Some(CarrierSecrets {
        auth_token: plain.auth_token.into(),
        previous_auth_token: plain.previous_auth_token.map(SecretString::from),
        api_key: plain.api_key.map(|(sid, secret)| CarrierApiKey { sid, secret: secret.into() }),
    }))
}

macro_rules! account_columns {
    () => {
        "SELECT account_sid, calls_per_second, base_url, secrets_sealed, sealed_with, hints, revision, created_at, \
         updated_at FROM carrier_accounts "
    };
}

fn read(row: &Row) -> Result<AccountView> {
    Ok(AccountView {
        sid: row.text("account_sid")?.parse()?,
        calls_per_second: row.float("calls_per_second")?,
        base_url: row.opt_text("base_url")?,
        sealed_with: row.opt_text("sealed_with")?,
        hints: if row.opt_text("hints")?.is_some() { Some(row.json("hints")?) } else { None },
        revision: row.int("revision")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

async fn row(tx: &mut Tx, account: &AccountSid) -> Result<Row> {
    statement!(SELECT, concat!(account_columns!(), "WHERE account_sid = $1"));
    tx.fetch_optional(&SELECT, args![account.as_str()])
        .await?
        .ok_or(Error::NotFound("carrier account"))
}

async fn view(tx: &mut Tx, account: &AccountSid) -> Result<AccountView> {
    read(&row(tx, account).await?)
}

/// Refuses an account that there is not, as a setting of a tenant.
pub async fn must_exist(tx: &mut Tx, account: &AccountSid) -> Result<()> {
    match row(tx, account).await {
        Ok(_) => Ok(()),
        Err(Error::NotFound(_)) => {
            Err(Error::Invalid(Violation::new("account_sid", "there is no such carrier account")))
        }
        Err(error) => Err(error),
    }
}

impl Store {
    /// Creates a carrier account, its credentials sealed.
    /// [`Error::NoMasterKey`](super::Error::NoMasterKey) without a key to seal them with.
    pub async fn create_account(
        &self,
        new: NewAccount,
        key: Option<RequestKey>,
    ) -> Result<AccountView> {
        statement!(INSERT, "INSERT INTO carrier_accounts (account_sid, calls_per_second, base_url, managed, secrets_sealed, sealed_with,
                 hints, created_at, updated_at)
             VALUES ($1, $2, $3, true, $4, $5, $6, $7, $7) ON CONFLICT (account_sid) DO NOTHING");
        pace::Meter::new(new.calls_per_second, Timestamp(0))?;
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(sid) = keys::requests::replay_own(&mut tx, &self.actor, key.as_ref()).await? {
            return view(&mut tx, &sid).await;
        }
        let now = tx.now().await?;
        let sealed = seal(&self.keyring, &new.sid, &new.secrets)?;
        let values = args![
            new.sid.as_str(),
            new.calls_per_second,
            new.base_url.clone(),
            Some(sealed.bytes),
            sealed.key_id.as_str(),
            to_json(&Hints::of(&new.secrets, now))?,
            now,
        ];
        if tx.execute(&INSERT, values).await? == 0 {
            return Err(Error::Exists("carrier account"));
        }
        let detail =
            json!({ "calls_per_second": new.calls_per_second, "sealed_with": sealed.key_id });
        audit::write_own(&mut tx, &self.actor, format!("account {}", new.sid), &detail, now)
            .await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), &new.sid, now).await?;
        let view = view(&mut tx, &new.sid).await?;
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

impl Store {
    /// The account, without its credentials.
    pub async fn account(&self, account: &AccountSid) -> Result<AccountView> {
        let mut tx = self.db.read(Scope::Owner).await?;
        view(&mut tx, account).await
    }
}

impl Store {
    /// By SID.
    pub async fn list_accounts(&self, page: Page<String>) -> Result<Paged<AccountView, String>> {
        statement!(
            SELECT,
            concat!(account_columns!(), "WHERE account_sid > $1 ORDER BY account_sid LIMIT $2")
        );
        let mut tx = self.db.read(Scope::Owner).await?;
        let after = page.after.clone().unwrap_or_default();
        let rows = tx.fetch(&SELECT, args![after, page.limit()]).await?;
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(page.cut(items, |account: &AccountView| account.sid.to_string()))
    }
}

async fn lock(tx: &mut Tx, account: &AccountSid) -> Result<Row> {
    statement!(LOCK, concat!(account_columns!(), "WHERE account_sid = $1 {for_update}"));
    tx.fetch_optional(&LOCK, args![account.as_str()])
        .await?
        .ok_or(Error::NotFound("carrier account"))
}

impl Store {
    /// Changes an account; from then on settings of a process do not replace its pace.
    pub async fn update_account(
        &self,
        sid: &AccountSid,
        patch: AccountPatch,
        key: Option<RequestKey>,
    ) -> Result<AccountView> {
        statement!(UPDATE, "UPDATE carrier_accounts SET calls_per_second = $2, base_url = $3, managed = true, revision = revision + 1,
                 updated_at = $4
             WHERE account_sid = $1");
        let mut tx = self.db.begin(Scope::Owner).await?;
        if let Some(sid) = keys::requests::replay_own(&mut tx, &self.actor, key.as_ref()).await? {
            return view(&mut tx, &sid).await;
        }
        let row = lock(&mut tx, sid).await?;
        let before = read(&row)?;
        if patch.revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed);
        }
        let now = tx.now().await?;
        let calls_per_second = patch.calls_per_second.unwrap_or(before.calls_per_second);
        pace::Meter::new(calls_per_second, Timestamp(0))?;
        let base_url = patch.base_url.clone().unwrap_or(before.base_url);
        tx.execute(&UPDATE, args![sid.as_str(), calls_per_second, base_url, now]).await?;
        if patch.has_secrets() {
            let secrets = changed(open(&self.keyring, sid, &row)?, &patch)?;
            let hints = Hints::of(&secrets, now);
            put_sealed(&mut tx, sid, &seal(&self.keyring, sid, &secrets)?, &hints).await?;
        }
        let detail = json!({
            "calls_per_second": patch.calls_per_second,
            "base_url": patch.base_url.is_some(),
            "auth_token": patch.auth_token.is_some(),
            "previous_auth_token": patch.previous_auth_token.is_some(),
            "api_key": patch.api_key.is_some(),
        });
        audit::write_own(&mut tx, &self.actor, format!("account {sid}"), &detail, now).await?;
        keys::requests::keep_own(&mut tx, &self.actor, key.as_ref(), sid, now).await?;
        let view = view(&mut tx, sid).await?;
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

/// The credentials after a change. A new token makes the old one the previous one, which goes on to
/// count for callbacks that the carrier signed before it learned of the new one.
fn changed(
    before: Option<CarrierSecrets>,
    patch: &AccountPatch,
) -> Result<CarrierSecrets, Violation> {
    let current = before.as_ref().map(|secrets| secrets.auth_token.clone());
    let missing = || Violation::new("auth_token", "is required: the account has none stored yet");
    let auth_token = patch.auth_token.clone().or(current.clone()).ok_or_else(missing)?;
    let kept = before.as_ref().and_then(|secrets| secrets.previous_auth_token.clone());
    let previous = if patch.auth_token.is_some() { current.or(kept) } else { kept };
    Ok(CarrierSecrets {
        auth_token,
        previous_auth_token: patch.previous_auth_token.clone().unwrap_or(previous),
        api_key: patch
            .api_key
            .clone()
            .unwrap_or_else(|| before.and_then(|secrets| secrets.api_key)),
    })
}

async fn put_sealed(tx: &mut Tx, sid: &AccountSid, sealed: &Sealed, hints: &Hints) -> Result<()> {
    statement!(
        PUT,
        "UPDATE carrier_accounts SET secrets_sealed = $2, sealed_with = $3, hints = $4 WHERE account_sid = $1"
    );
    let bytes = Some(sealed.bytes.clone());
    tx.execute(&PUT, args![sid.as_str(), bytes, sealed.key_id.as_str(), to_json(hints)?]).await?;
    Ok(())
}

impl Store {
    /// How to reach the account; none if the store has no credentials of it. For this process only:
    /// no answer of the API holds it.
    pub async fn account_access(&self, sid: &AccountSid) -> Result<Option<AccountAccess>> {
        let mut tx = self.db.read(Scope::Owner).await?;
        let row = match row(&mut tx, sid).await {
            Ok(row) => row,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let base_url = row.opt_text("base_url")?;
        Ok(open(&self.keyring, sid, &row)?.map(|secrets| AccountAccess { base_url, secrets }))
    }
}

impl Store {
    /// Seals what other master keys sealed with the current one.
    pub async fn reseal_accounts(&self) -> Result<Resealed> {
        statement!(
            PAGE,
            concat!(
                account_columns!(),
                "WHERE account_sid > $1 AND secrets_sealed IS NOT NULL ORDER BY account_sid LIMIT $2 {for_update}"
            )
        );
        let current = self.keyring.current().ok_or(Error::NoMasterKey)?;
        let (mut done, mut after) = (Resealed::default(), String::new());
        loop {
            let mut tx = self.db.begin(Scope::Owner).await?;
            let rows = tx.fetch(&PAGE, args![after.as_str(), RESEALED_PER_PAGE]).await?;
            let now = tx.now().await?;
            let Some(last) = rows.last() else { break };
            after = last.text("account_sid")?;
            for row in &rows {
                let account = read(row)?;
                if account.sealed_with.as_deref() == Some(current) {
                    done.unchanged += 1;
                    continue;
                }
                match (open(&self.keyring, &account.sid, row), account.hints) {
                    (Ok(Some(secrets)), Some(hints)) => {
                        let sealed = seal(&self.keyring, &account.sid, &secrets)?;
                        put_sealed(&mut tx, &account.sid, &sealed, &hints).await?;
                        let detail = json!({ "from": account.sealed_with, "to": current });
                        let subject = format!("account {}", account.sid);
                        audit::write_own(&mut tx, &self.actor, subject, &detail, now).await?;
                        done.resealed += 1;
                    }
                    (opened, _) => {
                        let error = opened.err().map(|error| error.to_string());
                        tracing::error!(account = %account.sid, error, "cannot be sealed anew");
                        done.unreadable += 1;
                    }
                }
            }
            tx.commit(&self.wakes).await?;
        }
        webhooks::reseal(self, &mut done).await?;
        Ok(done)
    }
}
