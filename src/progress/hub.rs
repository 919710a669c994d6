//! Wakes the watchers of a run when its log grows. It carries no events: a watcher that missed a
//! wake reads the log anyway, a little later.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::follow::{Follower, Message};
use super::transfer::{self, TransferWatch, TransferWatcher};
use super::{Error, Update, Watch};
use crate::domain::{RunId, TenantId};
use crate::store::{Store, Wake};

/// The most watchers of one process.
pub const WATCHERS_MAX: usize = 10_000;
/// The most updates that wait for one slow client.
pub(super) const CHANNEL_LEN: usize = 16;

/// Where watchers come from; cheap to clone. Its task ends with the last clone.
#[derive(Clone)]
pub struct Hub {
    store: Store,
    wakers: Arc<Wakers>,
    free: Arc<Semaphore>,
    _task: Arc<DropGuard>,
}

impl Hub {
    /// A hub over `store`. Spawns a task: call it inside a runtime.
    pub fn new(store: Store) -> Self {
        let wakers = Arc::new(Wakers::default());
        let end = CancellationToken::new();
        tokio::spawn(listen(store.wakes(), Arc::downgrade(&wakers), end.clone()));
        Self {
            store,
            wakers,
            free: Arc::new(Semaphore::new(WATCHERS_MAX)),
            _task: Arc::new(end.drop_guard()),
        }
    }

    /// Follows a run until it ends, the watcher is dropped, or `shutdown`.
    pub fn watch(&self, watch: Watch, shutdown: CancellationToken) -> Result<Watcher, Error> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| Error::TooMany)?;
        let (updates, receiver) = mpsc::channel(CHANNEL_LEN);
        // Subscribed before the first read, so that nothing falls between the two.
        let wakes = self.wakers.subscribe((watch.tenant.clone(), watch.run));
        let follower = Follower::new(self.store.clone(), watch, wakes, updates);
        tokio::spawn(hold(permit, follower.run(shutdown)).in_current_span());
        Ok(Watcher { receiver, ended: false })
    }

    /// Follows a transfer in the same way.
    pub fn watch_transfer(
        &self,
        watch: TransferWatch,
        shutdown: CancellationToken,
    ) -> Result<TransferWatcher, Error> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| Error::TooMany)?;
        let wakes = self.wakers.subscribe((watch.tenant.clone(), RunId(watch.transfer.0)));
        Ok(transfer::follow(self.store.clone(), watch, wakes, permit, shutdown))
    }
}

async fn hold(permit: OwnedSemaphorePermit, follower: impl Future<Output = ()>) {
    follower.await;
    drop(permit);
}

/// The updates of one watch. Ends after the run's last event; an error is its last item.
#[derive(Debug)]
pub struct Watcher {
    receiver: mpsc::Receiver<Message>,
    ended: bool,
}

impl Stream for Watcher {
    type Item = Result<Update, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = std::task::ready!(self.receiver.poll_recv(cx));
        self.ended = !matches!(message, Some(Message::Update(_)));
        Poll::Ready(match message {
            Some(Message::Update(update)) => Some(Ok(update)),
            Some(Message::End(Ok(()))) => None,
            Some(Message::End(Err(error))) => Some(Err(error)),
            // The follower is gone without a word: told to drain, or it panicked. Never an OK that
            // a client would take for the run's end.
            None => Some(Err(Error::Draining)),
        })
    }
}

/// Whose log: a run's, or a transfer's under the same kind of id; no two things have the same.
type Key = (TenantId, RunId);

/// One sender per watched run; gone with its last watcher.
#[derive(Default)]
struct Wakers(Mutex<HashMap<Key, watch::Sender<()>>>);

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        // Nothing under this lock can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(self: &Arc<Self>, key: Key) -> Subscription {
        let receiver =
            self.lock().entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Subscription { receiver: Some(receiver), key, wakers: Arc::clone(self) }
    }

    fn wake(&self, key: &Key) {
        if let Some(sender) = self.lock().get(key) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }
}

/// A watcher's place among those that are woken.
pub(super) struct Subscription {
    /// `None` only while dropping.
    receiver: Option<watch::Receiver<()>>,
    key: Key,
    wakers: Arc<Wakers>,
}

impl Subscription {
    /// Forgets wakes up to now: what they announced is about to be read.
    pub(super) fn clear(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.mark_unchanged();
        }
    }

    /// Returns once woken, at once if that happened since [`Self::clear`].
    pub(super) async fn woken(&mut self) {
        let Some(receiver) = &mut self.receiver else { return };
        if receiver.changed().await.is_err() {
            // The sender lives in the map as long as this subscription does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut wakers = self.wakers.lock();
        self.receiver = None;
        if wakers.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            wakers.remove(&self.key);
        }
    }
}

async fn listen(
    mut wakes: broadcast::Receiver<Wake>,
    wakers: Weak<Wakers>,
    end: CancellationToken,
) {
    loop {
        let wake = tokio::select! {
            () = end.cancelled() => return,
            wake = wakes.recv() => wake,
        };
        let Some(wakers) = wakers.upgrade() else { return };
        if let Ok(Wake::Run(tenant, run)) = wake {
            wakers.wake(&(tenant, run));
        } else if let Ok(Wake::Transfer(tenant, transfer)) = wake {
            wakers.wake(&(tenant, RunId(transfer.0)));
        } else if wake == Err(RecvError::Closed) {
            // The store is gone; watchers go on with their poll until it tells them so.
            return;
        } else if !matches!(wake, Ok(Wake::Work | Wake::Tasks)) {
            // Wakes were lost; whose is not known.
            wakers.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str) -> Key {
        (tenant.parse().unwrap(), RunId(uuid::Uuid::nil()))
    }

    #[tokio::test]
    async fn wakes_whom_it_names_and_forgets_the_last() {
        let wakers = Arc::new(Wakers::default());
        let mut one = wakers.subscribe(key("one"));
        let two = wakers.subscribe(key("one"));
        let mut other = wakers.subscribe(key("other"));
        one.clear();
        other.clear();
        wakers.wake(&key("one"));
        one.woken().await;
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(20), other.woken()).await;
        assert!(quiet.is_err());
        drop(one);
        assert_eq!(wakers.lock().len(), 2);
        drop(two);
        assert_eq!(wakers.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_lagging_listener_wakes_everybody() {
        let (sender, receiver) = broadcast::channel(1);
        let wakers = Arc::new(Wakers::default());
        let mut mine = wakers.subscribe(key("mine"));
        for _ in 0..3 {
            sender.send(Wake::Work).unwrap();
        }
        let task =
            tokio::spawn(listen(receiver, Arc::downgrade(&wakers), CancellationToken::new()));
        mine.woken().await;
        drop(sender);
        task.await.unwrap();
    }
}
