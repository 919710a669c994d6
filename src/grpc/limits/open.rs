//! What is open at once, by key: counted in, and out again by the drop of a guard.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts. Cheap to clone; holds only keys that have something open.
#[derive(Debug)]
pub struct Open<K: Eq + Hash> {
    counts: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Eq + Hash> Default for Open<K> {
    fn default() -> Self {
        Self { counts: Arc::default() }
    }
}

impl<K: Eq + Hash> Clone for Open<K> {
    fn clone(&self) -> Self {
        Self { counts: Arc::clone(&self.counts) }
    }
}

impl<K: Eq + Hash + Clone> Open<K> {
    /// One more, unless `key` has `max` open already.
    pub fn enter(&self, key: &K, max: u32) -> Option<Guard<K>> {
        let mut counts = self.lock();
        let count = counts.get(key).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        counts.insert(key.clone(), count + 1);
        Some(Guard { open: self.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Open<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is open; not any more when dropped.
#[derive(Debug)]
pub struct Guard<K: Eq + Hash> {
    open: Open<K>,
    key: K,
}

impl<K: Eq + Hash> Drop for Guard<K> {
    fn drop(&mut self) {
        let mut counts = self.open.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_and_out_and_forgets() {
        let open = Open::default();
        let (first, _second) = (open.enter(&"a", 2).unwrap(), open.enter(&"a", 2).unwrap());
        assert!(open.enter(&"a", 2).is_none());
        let other = open.enter(&"b", 2).unwrap();
        drop(first);
        assert!(open.enter(&"a", 2).is_some());
        assert_eq!(open.lock().len(), 2);
        drop(other);
        assert_eq!(open.lock().len(), 1);
        assert!(open.enter(&"c", 0).is_none());
        assert_eq!(open.lock().len(), 1);
    }
}
