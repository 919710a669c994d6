//! Whose signature counts for a tenant's callbacks, and whose a called number is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::carrier::callback::StatusCallback;
use crate::domain::script::Script;
use crate::domain::{AccountSid, Phone, TenantId};
use crate::store::{Error, Result, Store};

/// How long a tenant's account is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Tenants remembered; beyond it all are forgotten, which costs a look-up each.
const REMEMBERED_MAX: usize = 10_000;

/// The auth tokens that an account's callbacks may be signed with.
pub struct Tokens {
    /// Whose.
    pub account: AccountSid,
    /// The current one first, then the one before a rotation.
    pub tokens: Vec<SecretString>,
}

/// Tokens by account, and accounts by tenant.
pub struct Accounts {
    store: Arc<dyn Store>,
    tokens: HashMap<AccountSid, Vec<SecretString>>,
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
    /// Knows these tokens; looks tenants up in `store`.
    pub fn new(store: Arc<dyn Store>, tokens: Vec<Tokens>) -> Self {
        let tokens = tokens.into_iter().map(|known| (known.account, known.tokens)).collect();
        Self { store, tokens, remembered: Mutex::default(), numbers: Mutex::default() }
    }

    /// The tokens of the tenant's account; none if the tenant or its account is not known here.
    pub async fn tokens_of(&self, tenant: &TenantId) -> Result<&[SecretString]> {
        let account = match self.remembered(tenant) {
            Some(account) => account,
            None => match self.store.tenant(tenant).await {
                Ok(found) => self.remember(tenant, found.account_sid),
                Err(Error::NotFound(_)) => return Ok(&[]),
                Err(error) => return Err(error),
            },
        };
        Ok(self.tokens.get(&account).map_or(&[], Vec::as_slice))
    }

    /// The tokens of the account; none if it is not known here.
    pub fn tokens(&self, account: &AccountSid) -> &[SecretString] {
        self.tokens.get(account).map_or(&[], Vec::as_slice)
    }

    /// Whom the call is for, by the number that was called; none if that is nobody's, or not one's alone.
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
