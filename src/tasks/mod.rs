//! The one executor of durable tasks: claims what is due, over all tenants, and does it.
//!
//! A task is put in by the transaction that causes it and taken off by the one that does it, so it
//! is done whatever dies in between: then its claim lapses, and whoever polls next is given it.
//! What fails is tried again, later each time, and given up in the end; see
//! [`domain::task`](crate::domain::task).

mod transfer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::domain::WorkerId;
use crate::domain::task::{Lane, TaskKind};
use crate::metrics::{self, TaskEnd};
use crate::store::{Error, Result, Store, Task, TaskFate, Wake};

pub use transfer::Saga;

/// Tasks inside that are under way at a time: they wait for the database, of which others want to
/// have something, too.
const INSIDE_AT_ONCE: usize = 4;
/// Tasks outside that are under way at a time: they wait for tenants' servers. A tenant has at most
/// ten, one for each of its endpoints; one that fails is left alone for longer each time, so the
/// slow leave room for the others.
const OUTSIDE_AT_ONCE: usize = 64;
/// Steps of transfers that are under way at a time: they wait for the carrier, and somebody waits
/// for them.
const TRANSFERS_AT_ONCE: usize = 32;
/// Tasks taken in one claim.
const CLAIM_MAX: u32 = 8;

/// How the executor keeps time.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long a claim holds: what a dead executor had is done by another after this.
    pub holds: Duration,
    /// How long a task may take; shorter than a claim holds.
    pub task_max: Duration,
    /// The longest pause between two looks: other processes' tasks come without a nudge, but for
    /// transfers.
    pub poll: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            holds: Duration::from_secs(30),
            task_max: Duration::from_secs(25),
            poll: Duration::from_secs(1),
        }
    }
}

/// Delivers what is due to one endpoint: the work of webhooks, which this module does not know.
pub type Deliver = Arc<dyn Fn(Task) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Does tasks inside until `shutdown`, then finishes those under way.
pub async fn run(store: Store, config: Config, shutdown: CancellationToken) {
    work(store, With::Nothing, config, shutdown).await;
}

/// The same for tasks outside.
pub async fn run_outside(
    store: Store,
    deliver: Deliver,
    config: Config,
    shutdown: CancellationToken,
) {
    work(store, With::Endpoints(deliver), config, shutdown).await;
}

/// The same for steps of transfers.
pub async fn run_transfers(saga: Saga, config: Config, shutdown: CancellationToken) {
    work(saga.store.clone(), With::Carrier(saga.clone()), config, shutdown).await;
    saga.sent().await;
}

/// What else it takes to do the tasks of a lane.
#[derive(Clone)]
enum With {
    Nothing,
    Endpoints(Deliver),
    Carrier(Saga),
}

async fn work(store: Store, with: With, config: Config, shutdown: CancellationToken) {
    let (lane, at_once) = match with {
        With::Nothing => (Lane::Inside, INSIDE_AT_ONCE),
        With::Endpoints(_) => (Lane::Outside, OUTSIDE_AT_ONCE),
        With::Carrier(_) => (Lane::Transfers, TRANSFERS_AT_ONCE),
    };
    let worker = WorkerId(format!("tasks:{}:{}", std::process::id(), Uuid::new_v4()));
    let mut wakes = store.wakes();
    let mut under_way = JoinSet::new();
    while !shutdown.is_cancelled() {
        while under_way.try_join_next().is_some() {}
        while under_way.len() >= at_once {
            // A panic was logged where it happened; the claim lapses, and the attempt counts.
            let _ = under_way.join_next().await;
        }
        let free = u32::try_from(at_once - under_way.len()).unwrap_or(CLAIM_MAX).min(CLAIM_MAX);
        let pause = match store.claim_tasks(&worker, lane, free, config.holds).await {
            Ok(claimed) => {
                for task in &claimed.buried {
                    metrics::task(task.kind, TaskEnd::Dead, Duration::ZERO);
                    tell_dead(task, "its executor died, every time");
                }
                let pause = claimed.next_in.map(|next_in| next_in.min(config.poll));
                for task in claimed.tasks {
                    under_way.spawn(attempt(store.clone(), with.clone(), task, config.task_max));
                }
                pause
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim tasks; they are claimed later");
                Some(config.poll)
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = nudged(&mut wakes, lane) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Returns when there may be a task.
async fn nudged(wakes: &mut broadcast::Receiver<Wake>, lane: Lane) {
    loop {
        match wakes.recv().await {
            Ok(Wake::Tasks | Wake::Everything) | Err(RecvError::Lagged(_)) => return,
            // Another process's, too: somebody is on the line.
            Ok(Wake::Transfer(..)) if lane == Lane::Transfers => return,
            Ok(Wake::Run(..) | Wake::Transfer(..) | Wake::Work) => {}
            // The store is gone; the poll says so.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn attempt(store: Store, with: With, task: Task, at_most: Duration) {
    let span = tracing::info_span!("task", tenant = %task.tenant, task_id = %task.id, kind = task.kind.as_str());
    async {
        let began = Instant::now();
        let done = tokio::time::timeout(at_most, carry_out(&store, &with, &task));
        let done =
            done.await.unwrap_or_else(|_| Err(Error::Unavailable("took too long".to_owned())));
        let took = began.elapsed();
        let end = match done {
            Ok(()) => {
                tracing::debug!(attempt = task.attempt, "done");
                TaskEnd::Done
            }
            Err(Error::Lapsed) => {
                tracing::warn!("its claim had lapsed; whoever has it now does it");
                TaskEnd::Lapsed
            }
            Err(error) => fail(&store, &task, &error).await,
        };
        metrics::task(task.kind, end, took);
    }
    .instrument(span)
    .await;
}

/// Each kind's work. All of it may be done twice with the same result.
async fn carry_out(store: &Store, with: &With, task: &Task) -> Result<()> {
    // Only its own lane claims it.
    let other_lane = || Err(Error::Internal("a task of another lane".to_owned()));
    match task.kind {
        TaskKind::DeliverWebhooks => match with {
            With::Endpoints(deliver) => deliver(task.clone()).await,
            With::Nothing | With::Carrier(_) => other_lane(),
        },
        TaskKind::TransferStep => match with {
            With::Carrier(saga) => saga.step(task).await,
            With::Nothing | With::Endpoints(_) => other_lane(),
        },
        TaskKind::CloseQueue => match with {
            With::Carrier(saga) => saga.close_queue(task).await,
            With::Nothing | With::Endpoints(_) => other_lane(),
        },
        TaskKind::LeadsFromCalls => store.leads_from_calls(task).await,
        TaskKind::EraseLead => store.erase_lead_again(task).await,
        TaskKind::PopulateRun => store.populate_run(task).await,
        TaskKind::Reschedule => store.reschedule(task).await,
    }
}

async fn fail(store: &Store, task: &Task, error: &Error) -> TaskEnd {
    match store.fail_task(task, &error.to_string(), rand::random()).await {
        Ok(TaskFate::Again(_)) => {
            tracing::warn!(attempt = task.attempt, %error, "failed; it is tried again");
            TaskEnd::Failed
        }
        Ok(TaskFate::Dead) => {
            tell_dead(task, &error.to_string());
            TaskEnd::Dead
        }
        Ok(TaskFate::Lapsed) => TaskEnd::Lapsed,
        Err(why) => {
            // Its claim lapses, and it is tried again all the same.
            tracing::warn!(%error, %why, "failed, and so did writing that down");
            TaskEnd::Failed
        }
    }
}

fn tell_dead(task: &Task, error: &str) {
    tracing::error!(
        event = "task_dead", tenant = %task.tenant, task_id = %task.id, kind = task.kind.as_str(),
        subject = task.subject, attempts = task.attempt, error, "given up; it is kept, and can be retried"
    );
}
