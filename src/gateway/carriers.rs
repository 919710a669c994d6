//! The carrier accounts as the dialer uses them: a login, and a client for where the account's API
//! is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use url::Url;

use crate::carrier::{self, Account, Client, Credential};
use crate::domain::AccountSid;
use crate::store::{self, AccountAccess, AccountCache};

/// Clients kept, one for each base URL; beyond it all are dropped, which costs new connections.
const CLIENTS_MAX: usize = 64;

/// Why an account cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its client.
    #[error(transparent)]
    Carrier(#[from] carrier::Error),
    /// Its base URL; what was stored was checked.
    #[error("the carrier account's base URL is none")]
    BaseUrl,
}

/// Accounts, and clients to reach them with.
pub struct Carriers {
    accounts: AccountCache,
    /// For accounts that name no base URL; how the others are reached besides.
    config: carrier::Config,
    clients: Mutex<HashMap<Url, Client>>,
}

impl Carriers {
    /// Reaches these accounts, those without a base URL of their own as `config` says.
    pub fn new(accounts: AccountCache, config: carrier::Config) -> Self {
        Self { accounts, config, clients: Mutex::default() }
    }

    /// The account and its client; none if nobody has its credentials.
    pub async fn get(&self, sid: &AccountSid) -> Result<Option<(Client, Account)>, Error> {
        let Some(access) = self.accounts.access(sid).await? else { return Ok(None) };
        let base_url = match &access.base_url {
            Some(text) => Url::parse(text).map_err(|_| Error::BaseUrl)?,
            None => self.config.base_url.clone(),
        };
        let account = Account { sid: sid.clone(), credential: credential(sid, &access) };
        Ok(Some((self.client(base_url)?, account)))
    }

    fn client(&self, base_url: Url) -> Result<Client, carrier::Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&base_url) {
            return Ok(client.clone());
        }
        let client =
            Client::new(carrier::Config { base_url: base_url.clone(), ..self.config.clone() })?;
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(base_url, client.clone());
        Ok(client)
    }
}

/// The API key, if there is one: it can be revoked alone.
fn credential(sid: &AccountSid, access: &AccountAccess) -> Credential {
    match &access.secrets.api_key {
        Some(key) => Credential { username: key.sid.clone(), password: key.secret.clone() },
        None => Credential {
            username: sid.as_str().to_owned(),
            password: access.secrets.auth_token.clone(),
        },
    }
}
