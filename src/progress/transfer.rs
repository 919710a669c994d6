//! Following a transfer: as a run is followed, with one view, and few events.

use backon::Retryable as _;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::follow::{PAGE_LEN, POLL_MAX, POLL_MIN, backoff, jittered};
use super::hub::{CHANNEL_LEN, Subscription};
use super::page::{Then, judge};
use super::{BOOKMARK_DEFAULT, Cursor, Error, OutOfRange};
use crate::domain::{RunId, TenantId, TransferId};
use crate::store::{self, LogPage, Store, TransferCommit, TransferView};

/// What is watched, and from where.
#[derive(Debug, Clone)]
pub struct TransferWatch {
    /// Whose transfer.
    pub tenant: TenantId,
    /// Which.
    pub transfer: TransferId,
    /// After what the client saw last; none for a snapshot first.
    pub after: Option<Cursor>,
}

/// One thing a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferUpdate {
    /// Where to continue after it.
    pub cursor: Cursor,
    /// What it says.
    pub kind: TransferNews,
}

/// What an update says.
#[derive(Debug, Clone, PartialEq)]
pub enum TransferNews {
    /// The transfer as a whole.
    Snapshot(Box<TransferView>),
    /// What one transaction did.
    Events(TransferCommit),
    /// Nothing happened.
    Bookmark,
}

/// The updates of one watch. Ends after the transfer's ending; an error is its last item.
pub type TransferWatcher =
    std::pin::Pin<Box<dyn Stream<Item = Result<TransferUpdate, Error>> + Send>>;

type Updates = mpsc::Sender<Result<TransferUpdate, Error>>;

/// Why a follower stops before the ending.
enum Stop {
    /// Nobody listens any more.
    Gone,
    /// For the client.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Follows until the transfer ends, the client goes, or `shutdown`, of which the client is told.
pub(super) fn follow(
    store: Store,
    watch: TransferWatch,
    wakes: Subscription,
    permit: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) -> TransferWatcher {
    let (updates, receiver) = mpsc::channel(CHANNEL_LEN);
    let mut follower =
        Follower { store, watch, wakes, updates: updates.clone(), bookmark_at: Instant::now() };
    tokio::spawn(async move {
        let _permit = permit;
        let stop = tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Stop::Failed(Error::Draining)),
            () = updates.closed() => Err(Stop::Gone),
            stop = follower.follow() => stop,
        };
        if let Err(Stop::Failed(error)) = stop {
            // An error means that nobody listens any more.
            let _ = updates.send(Err(error)).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

struct Follower {
    store: Store,
    watch: TransferWatch,
    wakes: Subscription,
    updates: Updates,
    bookmark_at: Instant,
}

impl Follower {
    async fn follow(&mut self) -> Result<(), Stop> {
        let mut at = self.begin().await?;
        let mut silent = self.watch.after.is_some();
        let mut poll = POLL_MIN;
        loop {
            self.wakes.clear();
            let page = self.after(at).await?;
            let oldest = page.oldest;
            let judged = judge(at, page).map_err(|reason| self.out_of_range(reason, oldest))?;
            if !judged.commits.is_empty() {
                (silent, poll) = (false, POLL_MIN);
            }
            for commit in judged.commits {
                at = commit.revision;
                self.send(at, TransferNews::Events(commit)).await?;
            }
            match judged.then {
                Then::Read => {}
                // The first answer to a token comes at once, even where nothing else follows.
                Then::End | Then::Wait if std::mem::take(&mut silent) => {
                    self.send(at, TransferNews::Bookmark).await?;
                }
                Then::End => return Ok(()),
                Then::Wait => {
                    self.wait(at, poll).await?;
                    poll = (poll * 2).min(POLL_MAX);
                }
            }
        }
    }

    /// The revision to go on after; sends the snapshot, unless there is a token.
    async fn begin(&mut self) -> Result<i64, Stop> {
        let view = (|| self.store.transfer(&self.watch.tenant, self.watch.transfer))
            .retry(backoff())
            .when(store::Error::is_transient)
            .await?;
        let Some(cursor) = &self.watch.after else {
            let at = view.revision;
            self.send(at, TransferNews::Snapshot(Box::new(view))).await?;
            return Ok(at);
        };
        let reason = if cursor.run.0 != self.watch.transfer.0 {
            OutOfRange::OtherRun
        } else if cursor.epoch != self.store.epoch() {
            OutOfRange::ForeignEpoch
        } else {
            return Ok(cursor.revision);
        };
        let oldest = self.after(view.revision).await?.oldest;
        Err(self.out_of_range(reason, oldest).into())
    }

    async fn after(&self, revision: i64) -> Result<LogPage<TransferCommit>, Error> {
        let read = || {
            self.store.transfer_commits_after(
                &self.watch.tenant,
                self.watch.transfer,
                revision,
                PAGE_LEN,
            )
        };
        Ok(read.retry(backoff()).when(store::Error::is_transient).await?)
    }

    fn cursor(&self, revision: i64) -> Cursor {
        // Ids are unique, whatever they are of.
        Cursor { epoch: self.store.epoch().to_owned(), run: RunId(self.watch.transfer.0), revision }
    }

    fn out_of_range(&self, reason: OutOfRange, oldest: i64) -> Error {
        Error::TokenOutOfRange { reason, oldest: Some(self.cursor((oldest - 1).max(0))) }
    }

    /// Returns when the log may have grown; sends bookmarks meanwhile.
    async fn wait(&mut self, at: i64, poll: std::time::Duration) -> Result<(), Stop> {
        let poll_at = Instant::now() + jittered(poll);
        loop {
            tokio::select! {
                () = self.wakes.woken() => return Ok(()),
                () = sleep_until(poll_at) => return Ok(()),
                () = sleep_until(self.bookmark_at) => self.send(at, TransferNews::Bookmark).await?,
            }
        }
    }

    async fn send(&mut self, revision: i64, kind: TransferNews) -> Result<(), Stop> {
        let update = TransferUpdate { cursor: self.cursor(revision), kind };
        self.updates.send(Ok(update)).await.map_err(|_| Stop::Gone)?;
        self.bookmark_at = Instant::now() + jittered(BOOKMARK_DEFAULT);
        Ok(())
    }
}
