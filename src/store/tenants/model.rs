//! Who may do what: what the use cases of administration take and give.

use std::fmt;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::tenant::{Tenant, TenantField, TenantState};
use crate::domain::{AccountSid, TenantId, Timestamp};

/// On whose behalf a store acts: what the audit log says of each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Trunkline itself. What it does by itself is told by events and the log, not by the audit
    /// log.
    System,
    /// A client.
    Client(Client),
}

/// A client: a key, from somewhere, with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Whose key.
    pub tenant: TenantId,
    /// The key's id.
    pub key_id: String,
    /// Where the connection comes from, if that is known.
    pub peer: Option<IpAddr>,
    /// The RPC's name, for example `CreateRun`.
    pub method: &'static str,
}

impl Actor {
    /// The client, if it is one.
    pub const fn client(&self) -> Option<&Client> {
        match self {
            Self::System => None,
            Self::Client(client) => Some(client),
        }
    }

    /// For log lines: the key's id, or `system`.
    pub fn name(&self) -> &str {
        self.client().map_or("system", |client| &client.key_id)
    }
}

/// A tenant as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantView {
    /// What it dials under.
    pub tenant: Tenant,
    /// Whether it may do anything.
    pub state: TenantState,
    /// Grows by one with every change.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// New values for some of a tenant's settings.
#[derive(Debug, Clone)]
pub struct TenantPatch {
    /// Holds the new values.
    pub tenant: Tenant,
    /// Which of them to take.
    pub fields: Vec<TenantField>,
    /// Only if the tenant is still at this revision.
    pub revision: Option<i64>,
}

/// An API key, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The part before the dot.
    pub key_id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// SHA-256 of the secret, the part after the dot.
    pub secret_hash: [u8; 32],
    /// What it may do, for example `outbound:write`.
    pub scopes: Vec<String>,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("key_id", &self.key_id)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// A key, and what is to be known of its tenant to let a request in.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// The key.
    pub key: ApiKey,
    /// Whether its tenant may do anything.
    pub tenant_state: TenantState,
    /// What national phones are read with where the client names no region.
    pub region: Option<String>,
    /// The name of the tenant's limits.
    pub plan: String,
    /// Database time of the reading.
    pub read_at: Timestamp,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose.
    pub tenant: TenantId,
    /// For people; up to 200 characters.
    pub name: String,
    /// What it may do; at least one.
    pub scopes: Vec<String>,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
}

/// A key as its administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// The part before the dot.
    pub key_id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<Timestamp>,
}

/// A key that was made.
#[derive(Debug, Clone)]
pub struct KeyCreated {
    /// The key.
    pub key: KeyView,
    /// `<key id>.<secret>`, only now; none where the request is a repetition: nobody keeps it.
    pub whole: Option<SecretString>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Its id; later ones are greater.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The key's id, or `system`.
    pub actor: String,
    /// Whose key.
    pub actor_tenant: Option<TenantId>,
    /// Where the connection came from.
    pub peer: Option<String>,
    /// The RPC's name.
    pub method: String,
    /// Kind and id of what was changed.
    pub subject: String,
    /// What was done; ids and facts only.
    pub detail: Value,
}

/// Which entries of the audit log; what is absent filters nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only by this key.
    pub actor: Option<String>,
    /// Only by this RPC.
    pub method: Option<String>,
    /// Only about this.
    pub subject: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// The credentials of a carrier account. `Debug` redacts them.
#[derive(Debug, Clone)]
pub struct CarrierSecrets {
    /// Checks callbacks, and signs REST requests if there is no API key.
    pub auth_token: SecretString,
    /// The token before a rotation: callbacks signed with it still count.
    pub previous_auth_token: Option<SecretString>,
    /// Signs REST requests.
    pub api_key: Option<CarrierApiKey>,
}

/// A carrier's own API key. `Debug` redacts the secret.
#[derive(Debug, Clone)]
pub struct CarrierApiKey {
    /// Its id: at Twilio `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// Its secret.
    pub secret: SecretString,
}

/// What an administrator is told of credentials, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// The last characters of the auth token; empty for a short one.
    pub auth_token: String,
    /// The same of the token before it, if it still counts.
    pub previous_auth_token: Option<String>,
    /// The API key's SID, if there is one.
    pub api_key_sid: Option<String>,
    /// The last characters of its secret.
    pub api_key_secret: Option<String>,
    /// When the credentials last changed.
    pub set_at: Timestamp,
}

/// Characters told of a secret.
const HINT_CHARS: usize = 4;
/// A shorter secret is told nothing of.
const HINTED_MIN_CHARS: usize = 16;

impl Hints {
    /// What is told of `secrets`.
    pub(in crate::store) fn of(secrets: &CarrierSecrets, set_at: Timestamp) -> Self {
        let hint = |secret: &SecretString| {
            let chars: Vec<char> = secret.expose_secret().chars().collect();
            if chars.len() < HINTED_MIN_CHARS {
                return String::new();
            }
            chars[chars.len() - HINT_CHARS..].iter().collect()
        };
        Self {
            auth_token: hint(&secrets.auth_token),
            previous_auth_token: secrets.previous_auth_token.as_ref().map(hint),
            api_key_sid: secrets.api_key.as_ref().map(|key| key.sid.clone()),
            api_key_secret: secrets.api_key.as_ref().map(|key| hint(&key.secret)),
            set_at,
        }
    }
}

/// A carrier account to be created.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The carrier's name for it.
    pub sid: AccountSid,
    /// Creates a second at most over all its tenants, 1/3600 to 10,000.
    pub calls_per_second: f64,
    /// Where its API is; none for the process's own setting.
    pub base_url: Option<String>,
    /// Its credentials.
    pub secrets: CarrierSecrets,
}

/// New values for some of an account's settings; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct AccountPatch {
    /// Creates a second at most.
    pub calls_per_second: Option<f64>,
    /// Where its API is.
    pub base_url: Option<Option<String>>,
    /// The current token becomes the previous one, unless that is given as well.
    pub auth_token: Option<SecretString>,
    /// The token before a rotation.
    pub previous_auth_token: Option<Option<SecretString>>,
    /// The carrier's API key.
    pub api_key: Option<Option<CarrierApiKey>>,
    /// Only if the account is still at this revision.
    pub revision: Option<i64>,
}

impl AccountPatch {
    /// Whether it changes credentials.
    pub const fn has_secrets(&self) -> bool {
        self.auth_token.is_some() || self.previous_auth_token.is_some() || self.api_key.is_some()
    }
}

/// A carrier account as it stands, without its credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountView {
    /// The carrier's name for it.
    pub sid: AccountSid,
    /// Creates a second at most.
    pub calls_per_second: f64,
    /// Where its API is; none for the process's own setting.
    pub base_url: Option<String>,
    /// The id of the master key that its credentials are sealed with; none if it has none stored.
    pub sealed_with: Option<String>,
    /// What is told of them.
    pub hints: Option<Hints>,
    /// Grows by one with every change.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How to reach a carrier account: for the process that dials and the one that hears callbacks.
#[derive(Debug, Clone)]
pub struct AccountAccess {
    /// Where its API is; none for the process's own setting.
    pub base_url: Option<String>,
    /// Its credentials.
    pub secrets: CarrierSecrets,
}

/// What sealing anew did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resealed {
    /// Accounts sealed with the current master key now.
    pub resealed: u32,
    /// Accounts that were already.
    pub unchanged: u32,
    /// Accounts sealed with a key that this process does not have, or damaged.
    pub unreadable: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_tell_four_characters_and_nothing_of_short_secrets() {
        let secrets = CarrierSecrets {
            auth_token: "0123456789abcdef0123456789abcdef".into(),
            previous_auth_token: Some("simulator".into()),
            api_key: Some(CarrierApiKey { sid: "SK1".into(), secret: "0123456789abcdeé".into() }),
        };
        let hints = Hints::of(&secrets, Timestamp(7));
        assert_eq!(hints.auth_token, "cdef");
        assert_eq!(hints.previous_auth_token.as_deref(), Some(""));
        assert_eq!(hints.api_key_secret.as_deref(), Some("cdeé"));
        let printed = format!("{secrets:?}");
        assert!(!printed.contains("cdef") && !printed.contains("simulator"), "{printed}");
    }
}
