//! A tenant's large writes go a few at a time: on a store with one writer, everybody else's next
//! write would wait for all that stand before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::TenantId;

/// Large writes of one tenant that are under way at a time in this process.
pub(super) const AT_ONCE: usize = 4;
/// A write of so many rows takes no longer than any other.
const SMALL_MAX_ROWS: usize = 10;

/// Who is at it, by tenant; tenants of whom nobody is are pruned.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<TenantId, Weak<Semaphore>>>);

/// Held while a write is under way.
#[must_use]
pub(in crate::grpc) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// `write`, which ends with its turn: not with whoever waits for it, and no later.
    pub async fn hold<T>(self, write: impl Future<Output = T>) -> T {
        let done = write.await;
        drop(self);
        done
    }
}

impl Turns {
    /// A turn for a write of `rows` rows; those that ask first have theirs first.
    pub async fn next(&self, tenant: &TenantId, rows: usize) -> Turn {
        if rows <= SMALL_MAX_ROWS {
            return Turn { _permit: None };
        }
        // Nothing closes it.
        Turn { _permit: self.of(tenant).acquire_owned().await.ok() }
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = turns.get(tenant).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Semaphore::new(AT_ONCE));
        turns.insert(tenant.clone(), Arc::downgrade(&new));
        new
    }

    pub fn prune(&self, more_than: usize) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > more_than {
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenants_large_writes_wait_for_each_other_and_for_nobody_else() {
        let turns = Turns::default();
        let (one, two): (TenantId, TenantId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.next(&one, 1_000).await);
        }
        let mut fifth = std::pin::pin!(turns.next(&one, 11));
        assert!(futures_util::poll!(&mut fifth).is_pending());
        drop(turns.next(&one, SMALL_MAX_ROWS).await);
        drop(turns.next(&two, 1_000).await);
        turns.prune(0);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "whoever is at it is not forgotten");
        held.pop();
        held.push(fifth.await);
        held.clear();
        turns.prune(0);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
