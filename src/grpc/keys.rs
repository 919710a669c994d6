//! Keys as authentication knows them: believed for a moment, their uses noted in batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::tenant::TenantState;
use crate::store::{self, KnownKey, Store};

/// How long a key is believed without asking the store: a revoked key, or one of a disabled tenant,
/// works at most this much longer.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// The most keys believed at once.
const CACHE_MAX: usize = 10_000;
/// How often uses are noted: no request waits for a write.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// The most keys whose use waits to be noted; uses of others are noted with their next one.
const USED_MAX: usize = 10_000;

/// A key, and when it was read.
#[derive(Clone)]
pub(super) struct Known {
    /// The key and its tenant.
    pub known: KnownKey,
    read_at: Instant,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < CACHE_TTL
    }

    /// SHA-256 of the secret.
    pub(super) const fn secret_hash(&self) -> [u8; 32] {
        self.known.key.secret_hash
    }

    /// Neither revoked nor expired, nor its tenant disabled.
    pub(super) fn is_valid(&self) -> bool {
        let KnownKey { key, tenant_state, read_at, .. } = &self.known;
        let now = *read_at + self.read_at.elapsed();
        key.revoked_at.is_none()
            && key.expires_at.is_none_or(|ends| now < ends)
            && *tenant_state == TenantState::Active
    }
}

/// The keys.
pub(super) struct Keys {
    store: Store,
    /// Keys that exist; ids that do not would let anybody fill it.
    cache: Mutex<HashMap<String, Known>>,
    /// Used since the last noting.
    used: Mutex<BTreeSet<String>>,
}

impl Keys {
    /// As `store` has them.
    pub(super) fn new(store: Store) -> Self {
        Self { store, cache: Mutex::default(), used: Mutex::default() }
    }

    /// The key of this id, if there is one.
    pub(super) async fn find(&self, key_id: &str) -> store::Result<Option<Known>> {
        let cached = lock(&self.cache).get(key_id).filter(|known| known.is_fresh()).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let read_at = Instant::now();
        let Some(known) = self.store.key(key_id).await? else { return Ok(None) };
        let known = Known { known, read_at };
        insert(&mut lock(&self.cache), key_id, known.clone());
        Ok(Some(known))
    }

    /// The key was used.
    pub(super) fn used(&self, key_id: &str) {
        let mut used = lock(&self.used);
        if used.len() < USED_MAX && !used.contains(key_id) {
            used.insert(key_id.to_owned());
        }
    }

    /// Notes uses until `shutdown`, and a last time then.
    pub(super) async fn note_uses(&self, shutdown: CancellationToken) {
        // The first uses are noted soon: whoever looks at a new key wants to see whether it works.
        let mut wait = CACHE_TTL;
        while shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            let noted = self.note().await;
            wait = if noted { NOTED_EVERY } else { CACHE_TTL };
        }
        self.note().await;
    }

    /// Whether there was anything to note.
    async fn note(&self) -> bool {
        let used: Vec<String> = std::mem::take(&mut *lock(&self.used)).into_iter().collect();
        if used.is_empty() {
            return false;
        }
        // What is lost is an instant to the minute.
        if let Err(error) = self.store.keys_used(used).await {
            tracing::warn!(%error, "cannot note which keys were used");
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert(cache: &mut HashMap<String, Known>, key_id: &str, known: Known) {
    if cache.len() >= CACHE_MAX {
        cache.retain(|_, known| known.is_fresh());
    }
    if cache.len() < CACHE_MAX {
        cache.insert(key_id.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::store::ApiKey;

    fn known(revoked_at: Option<i64>, expires_at: Option<i64>) -> Known {
        let key = ApiKey {
            key_id: "k".into(),
            tenant: "acme".parse().unwrap(),
            secret_hash: [0; 32],
            scopes: Vec::new(),
            expires_at: expires_at.map(Timestamp::from_secs),
            revoked_at: revoked_at.map(Timestamp::from_secs),
        };
        let known = KnownKey {
            key,
            tenant_state: TenantState::Active,
            region: None,
            plan: "standard".into(),
            read_at: Timestamp::from_secs(100),
        };
        Known { known, read_at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn revoked_expired_and_disabled_keys_are_refused() {
        assert!(known(None, None).is_valid());
        assert!(!known(Some(1), None).is_valid());
        assert!(!known(None, Some(100)).is_valid());
        let mut of_disabled = known(None, None);
        of_disabled.known.tenant_state = TenantState::Disabled;
        assert!(!of_disabled.is_valid());
        let soon = known(None, Some(102));
        assert!(soon.is_valid());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!soon.is_valid() && soon.is_fresh());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!soon.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded() {
        let mut cache = HashMap::new();
        for i in 0..CACHE_MAX + 10 {
            insert(&mut cache, &i.to_string(), known(None, None));
        }
        assert_eq!(cache.len(), CACHE_MAX);
        tokio::time::advance(CACHE_TTL).await;
        insert(&mut cache, "new", known(None, None));
        assert_eq!(cache.len(), 1);
    }
}
