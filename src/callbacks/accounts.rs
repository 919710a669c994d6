//! Whose signature counts for a tenant's callbacks, and whose a called number is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::carrier::callback::StatusCallback;
use crate::domain::script::Script;
use crate::domain::{AccountSid, Phone, TenantId};
use crate::store::{AccountCache, Error, Result, Store};

/// How long a tenant's account is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Tenants remembered; beyond it all are forgotten, which costs a look-up each.
const REMEMBERED_MAX: usize = 10_000;

/// Accounts by tenant, and their tokens.
pub struct Accounts {
    store: Store,
    book: AccountCache,
    remembered: Mutex<HashMap<TenantId, (Instant, AccountSid)>>,
    numbers: Mutex<HashMap<Number, (Instant, Option<Called>)>>,
}

/// A number of an account's.
type Number = (AccountSid, Phone);

/// Whom a call is for.
#[derive(Debug, Clone)]
pub struct Called {
    /// Whose number it is.
    pub tenant: TenantId,
    /// What its callers hear, if it says.
    pub greeting: Option<Script>,
}

impl Accounts {
    /// Looks tenants up in `store`, and their accounts in `book`.
    pub fn new(store: Store, book: AccountCache) -> Self {
        Self { store, book, remembered: Mutex::default(), numbers: Mutex::default() }
    }

    /// The tokens that the tenant's callbacks may be signed with, the current one first; none if
    /// the tenant or its account is not known here. A disabled tenant's calls go on to their end,
    /// so its callbacks count.
    pub async fn tokens_of(&self, tenant: &TenantId) -> Result<Vec<SecretString>> {
        let account = match self.remembered(tenant) {
            Some(account) => account,
            None => match self.store.tenant(tenant).await {
                Ok(found) => self.remember(tenant, found.account_sid),
                Err(Error::NotFound(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        self.tokens(&account).await
    }

    /// The tokens of the account; none if it is not known here.
    pub async fn tokens(&self, account: &AccountSid) -> Result<Vec<SecretString>> {
        let Some(access) = self.book.access(account).await? else { return Ok(Vec::new()) };
        let secrets = &access.secrets;
        Ok(std::iter::once(&secrets.auth_token)
            .chain(&secrets.previous_auth_token)
            .cloned()
            .collect())
    }

    /// Whom the call is for, by the number that was called; none if that is nobody's, or not one's
    /// alone.
    pub async fn called(&self, callback: &StatusCallback) -> Result<Option<Called>> {
        let Some(number) = callback.to.clone() else { return Ok(None) };
        let key = (callback.account_sid.clone(), number);
        {
            let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, called)) = numbers.get(&key)
                && since.elapsed() < REMEMBERED_FOR
            {
                return Ok(called.clone());
            }
        }
        let called = match self.store.tenant_of_number(&key.0, &key.1).await? {
            Some(tenant) => {
                let greeting = self.store.tenant(&tenant).await?.greeting;
                Some(Called { tenant, greeting })
            }
            None => None,
        };
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() >= REMEMBERED_MAX {
            numbers.clear();
        }
        numbers.insert(key, (Instant::now(), called.clone()));
        Ok(called)
    }

    fn remembered(&self, tenant: &TenantId) -> Option<AccountSid> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, account) = remembered.get(tenant)?;
        (since.elapsed() < REMEMBERED_FOR).then(|| account.clone())
    }

    fn remember(&self, tenant: &TenantId, account: AccountSid) -> AccountSid {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(tenant.clone(), (Instant::now(), account.clone()));
        account
    }
}
