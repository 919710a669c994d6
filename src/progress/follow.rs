//! One watcher's task: read what comes after the cursor, send it, wait.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::hub::Subscription;
use super::page::{Then, judge};
use super::{
    BOOKMARK_MAX, BOOKMARK_MIN, Cursor, Error, Kind, OutOfRange, Start, Update, View, Watch,
};
use crate::domain::{RunId, TenantId};
use crate::store::{self, LogPage, RunView, Store};

/// Commits read at once.
pub(super) const PAGE_LEN: u32 = 64;
/// A watcher that was not woken reads the log after this long; longer each time nothing came …
pub(super) const POLL_MIN: Duration = Duration::from_secs(1);
/// … up to this long.
pub(super) const POLL_MAX: Duration = Duration::from_secs(5);
/// The least time between two snapshots of the progress view.
const COALESCE: Duration = Duration::from_millis(100);
/// Timers are spread by up to this share, either way, so that watchers do not march in step.
const JITTER: f64 = 0.2;
/// A database that does not answer is asked again after this long …
const RETRY_MIN: Duration = Duration::from_millis(50);
/// … growing to this long …
const RETRY_MAX: Duration = Duration::from_secs(2);
/// … and given up on after waiting this long in all.
const RETRY_TOTAL: Duration = Duration::from_secs(30);

/// What a follower tells its [`super::Watcher`].
#[derive(Debug)]
pub(super) enum Message {
    /// Something to pass on.
    Update(Update),
    /// The last word.
    End(Result<(), Error>),
}

/// Reads for one watcher.
pub(super) struct Follower {
    log: Log,
    start: Start,
    view: View,
    bookmark_every: Duration,
    wakes: Subscription,
    updates: mpsc::Sender<Message>,
    bookmark_at: Instant,
    poll: Duration,
}

/// Why a follower stops.
enum Stop {
    /// The run is over and all of it was sent.
    Ended,
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

impl Follower {
    pub(super) fn new(
        store: Store,
        watch: Watch,
        wakes: Subscription,
        updates: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            log: Log { store, tenant: watch.tenant, run: watch.run },
            start: watch.start,
            view: watch.view,
            bookmark_every: watch.bookmark_every.clamp(BOOKMARK_MIN, BOOKMARK_MAX),
            wakes,
            updates,
            bookmark_at: Instant::now(),
            poll: POLL_MIN,
        }
    }

    /// Runs until the run ends, the client goes, or `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let updates = self.updates.clone();
        // Dropping `follow` in the middle loses nothing: it only reads, and what was not sent is in
        // the log.
        let stop = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = updates.closed() => return,
            stop = self.follow() => stop,
        };
        let end = match stop {
            Stop::Ended => Ok(()),
            Stop::Gone => return,
            Stop::Failed(error) => Err(error),
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = updates.send(Message::End(end)) => {}
        }
    }

    async fn follow(&mut self) -> Stop {
        let stopped = match self.view {
            View::Full => self.follow_log().await,
            View::Progress => self.follow_state().await,
        };
        match stopped {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    /// Every commit, in order, once.
    async fn follow_log(&mut self) -> Result<std::convert::Infallible, Stop> {
        let (mut at, mut silent) = match self.start.clone() {
            Start::After(cursor) => (self.log.accept(&cursor).await?, true),
            Start::Snapshot => {
                let view = self.log.view().await?;
                let at = view.revision;
                self.send(at, Kind::Snapshot(Box::new(view))).await?;
                (at, false)
            }
        };
        loop {
            self.wakes.clear();
            let page = self.log.after(at).await?;
            let oldest = page.oldest;
            let judged = match judge(at, page) {
                Ok(judged) => judged,
                Err(reason) => return Err(self.log.out_of_range(reason, oldest).into()),
            };
            if !judged.commits.is_empty() {
                (silent, self.poll) = (false, POLL_MIN);
            }
            for commit in judged.commits {
                at = commit.revision;
                self.send(at, Kind::Events(commit)).await?;
            }
            match judged.then {
                Then::Read => {}
                // The first answer to a token comes at once, even where nothing else follows.
                Then::End | Then::Wait if std::mem::take(&mut silent) => {
                    self.send(at, Kind::Bookmark).await?;
                }
                Then::End => return Err(Stop::Ended),
                Then::Wait => self.wait(at).await?,
            }
        }
    }

    /// The latest state whenever the revision moved, but not more often than [`COALESCE`] allows.
    async fn follow_state(&mut self) -> Result<std::convert::Infallible, Stop> {
        let mut at = match self.start.clone() {
            Start::After(cursor) => Some(self.log.accept(&cursor).await?),
            Start::Snapshot => None,
        };
        let mut first = true;
        loop {
            self.wakes.clear();
            let view = self.log.view().await?;
            let (revision, ended) = (view.revision, view.progress.state.is_ended());
            if at.is_some_and(|at| at > revision) {
                let oldest = self.log.after(revision).await?.oldest;
                return Err(self.log.out_of_range(OutOfRange::Future, oldest).into());
            }
            let moved = at != Some(revision);
            if moved {
                self.poll = POLL_MIN;
                self.send(revision, Kind::Snapshot(Box::new(view))).await?;
            } else if first {
                self.send(revision, Kind::Bookmark).await?;
            }
            (at, first) = (Some(revision), false);
            if ended {
                return Err(Stop::Ended);
            }
            if moved {
                tokio::time::sleep(COALESCE).await;
            }
            self.wait(revision).await?;
        }
    }

    /// Returns when the log may have grown; sends bookmarks meanwhile.
    async fn wait(&mut self, at: i64) -> Result<(), Stop> {
        let poll_at = Instant::now() + jittered(self.poll);
        loop {
            tokio::select! {
                () = self.wakes.woken() => {
                    self.poll = POLL_MIN;
                    return Ok(());
                }
                () = sleep_until(poll_at) => {
                    self.poll = (self.poll * 2).min(POLL_MAX);
                    return Ok(());
                }
                () = sleep_until(self.bookmark_at) => self.send(at, Kind::Bookmark).await?,
            }
        }
    }

    /// Waits until the client has room: a slow one slows only itself.
    async fn send(&mut self, revision: i64, kind: Kind) -> Result<(), Stop> {
        let update = Update { cursor: self.log.cursor(revision), kind };
        self.updates.send(Message::Update(update)).await.map_err(|_| Stop::Gone)?;
        self.bookmark_at = Instant::now() + jittered(self.bookmark_every);
        Ok(())
    }
}

pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0))
}

/// One run's log, read through hiccups of the database.
struct Log {
    store: Store,
    tenant: TenantId,
    run: RunId,
}

impl Log {
    fn cursor(&self, revision: i64) -> Cursor {
        Cursor { epoch: self.store.epoch().to_owned(), run: self.run, revision }
    }

    fn out_of_range(&self, reason: OutOfRange, oldest: i64) -> Error {
        // Everything from `oldest` on can be had: continue after the one before it.
        Error::TokenOutOfRange { reason, oldest: Some(self.cursor((oldest - 1).max(0))) }
    }

    /// The revision to continue after, if the token is of this log and run.
    async fn accept(&self, cursor: &Cursor) -> Result<i64, Error> {
        let reason = if cursor.run != self.run {
            OutOfRange::OtherRun
        } else if cursor.epoch != self.store.epoch() {
            OutOfRange::ForeignEpoch
        } else {
            return Ok(cursor.revision);
        };
        // Also says NOT_FOUND where the tenant has no such run.
        let latest = self.view().await?.revision;
        let oldest = self.after(latest).await?.oldest;
        Err(self.out_of_range(reason, oldest))
    }

    async fn view(&self) -> Result<RunView, Error> {
        Ok((|| self.store.run(&self.tenant, self.run))
            .retry(backoff())
            .when(store::Error::is_transient)
            .await?)
    }

    async fn after(&self, revision: i64) -> Result<LogPage, Error> {
        Ok((|| self.store.commits_after(&self.tenant, self.run, revision, PAGE_LEN))
            .retry(backoff())
            .when(store::Error::is_transient)
            .await?)
    }
}

pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(RETRY_MIN)
        .with_max_delay(RETRY_MAX)
        .without_max_times()
        .with_total_delay(Some(RETRY_TOTAL))
        .with_jitter()
}
