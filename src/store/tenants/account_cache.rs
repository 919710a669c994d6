//! Carrier accounts as a process uses them: from the store, remembered for a moment, with one that
//! settings gave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::AccountSid;
use crate::store::{AccountAccess, Result, Store};

/// How long an account is remembered: a changed credential is used at most this much later.
const REMEMBERED_FOR: Duration = Duration::from_secs(2);
/// Accounts remembered; beyond it all are forgotten, which costs a look-up each.
const REMEMBERED_MAX: usize = 10_000;

/// An account's access, if anybody has its credentials.
type Found = Option<Arc<AccountAccess>>;

/// The accounts; cheap to clone.
#[derive(Clone)]
pub struct AccountCache {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Counts for its account until the store has credentials of it.
    of_settings: (AccountSid, Arc<AccountAccess>),
    remembered: Mutex<HashMap<AccountSid, (Instant, Found)>>,
}

impl AccountCache {
    /// The accounts of `store`, and the one that settings name.
    pub fn new(store: Store, sid: AccountSid, access: AccountAccess) -> Self {
        let of_settings = (sid, Arc::new(access));
        Self { inner: Arc::new(Inner { store, of_settings, remembered: Mutex::default() }) }
    }

    /// How to reach the account; none if neither the store nor the settings have its credentials.
    ///
    /// # Errors
    /// When the store does not answer, or its credentials cannot be opened.
    pub async fn access(&self, sid: &AccountSid) -> Result<Found> {
        if let Some(known) = self.inner.remembered(sid) {
            return Ok(known);
        }
        let (own, of_settings) = &self.inner.of_settings;
        let stored = self.inner.store.account_access(sid).await?.map(Arc::new);
        let access = stored.or_else(|| (own == sid).then(|| of_settings.clone()));
        self.inner.remember(sid, access.clone());
        Ok(access)
    }
}

impl Inner {
    fn remembered(&self, sid: &AccountSid) -> Option<Found> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, access) = remembered.get(sid)?;
        (since.elapsed() < REMEMBERED_FOR).then(|| access.clone())
    }

    fn remember(&self, sid: &AccountSid, access: Found) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(sid.clone(), (Instant::now(), access));
    }
}
