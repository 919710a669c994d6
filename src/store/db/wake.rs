//! Short wake-ups: who hears of a commit, in this process and in others. Nothing is decided from a
//! wake-up; it only makes somebody look sooner than the poll would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, broadcast};

use crate::domain::call::{CallState, Direction};
use crate::domain::webhook::Told;
use crate::domain::{RunId, TenantId, Timestamp, TransferId};
use crate::store::Wake;

/// Wake-ups that a slow listener may fall behind by before it is told to look at everything.
const CAPACITY: usize = 4_096;

/// What a transaction changed, as far as others care.
#[derive(Debug, Default)]
pub struct Changes {
    /// Runs with a new revision.
    pub runs: BTreeSet<(TenantId, RunId)>,
    /// Transfers with a new revision.
    pub transfers: BTreeSet<(TenantId, TransferId)>,
    /// Tenants with work, from when on.
    pub ready: BTreeMap<TenantId, Timestamp>,
    /// Calls that ended, for the metrics: they count once committed.
    pub calls_ended: Vec<(Direction, CallState)>,
    /// What is to be told to the tenant's endpoints, written with the rest.
    pub told: Option<(TenantId, Vec<Told>)>,
    /// Whether there are new tasks. Other processes find them by their poll: one executor is
    /// enough.
    pub tasks: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.transfers.is_empty() && self.ready.is_empty()
    }

    fn merge(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.transfers.extend(other.transfers);
        for (tenant, at) in other.ready {
            let earliest = self.ready.entry(tenant).or_insert(at);
            *earliest = at.min(*earliest);
        }
    }
}

/// Collects changes and tells listeners.
pub struct Wakes {
    sender: broadcast::Sender<Wake>,
    pending: Mutex<Changes>,
    flush: Notify,
}

impl Wakes {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(CAPACITY),
            pending: Mutex::default(),
            flush: Notify::new(),
        }
    }

    /// A new listener.
    pub fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.sender.subscribe()
    }

    /// Tells this process's listeners.
    pub fn tell(&self, wake: Wake) {
        // An error means that nobody listens.
        let _ = self.sender.send(wake);
    }

    /// What only this process is told of.
    fn tell_here(&self, changes: &Changes) {
        if changes.tasks {
            self.tell(Wake::Tasks);
        }
        for (tenant, transfer) in &changes.transfers {
            self.tell(Wake::Transfer(tenant.clone(), *transfer));
        }
    }

    /// A commit that lowered `ready_at` itself: everybody can be told at once.
    pub fn committed_with_ready(&self, changes: Changes) {
        self.tell_here(&changes);
        if !changes.ready.is_empty() {
            self.tell(Wake::Work);
        }
        for (tenant, run) in changes.runs {
            self.tell(Wake::Run(tenant, run));
        }
    }

    /// A commit whose `ready_at` and whose other processes are still to be told: see
    /// [`Wakes::next_flush`].
    pub fn committed(&self, changes: Changes) {
        self.tell_here(&changes);
        if changes.is_empty() {
            return;
        }
        for (tenant, run) in &changes.runs {
            self.tell(Wake::Run(tenant.clone(), *run));
        }
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).merge(changes);
        self.flush.notify_one();
    }

    /// Puts back what could not be flushed.
    pub fn put_back(&self, changes: Changes) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).merge(changes);
    }

    /// Waits for changes and takes them all.
    pub async fn next_flush(&self) -> Changes {
        loop {
            let taken =
                std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.flush.notified().await;
        }
    }
}
