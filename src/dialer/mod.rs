//! The worker: claims what may be dialed now, sends each intent once, records what became of it.

mod follow_up;
mod pool;
mod submit;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use url::Url;
use uuid::Uuid;

use crate::carrier::{self, Account, Client};
use crate::domain::{AccountSid, WorkerId};
use crate::gateway::Gateway;
use crate::store::{AccountCache, Recorder, Store};

/// What the worker runs on.
pub struct Config {
    /// Requests to the carrier at a time; also the most calls that one claim takes.
    pub permits: usize,
    /// How far ahead of its turn a call may be claimed.
    pub horizon: Duration,
    /// Where the carrier reaches our webhooks.
    pub public_url: Url,
    /// The accounts dialed through.
    pub accounts: AccountCache,
    /// How they are reached.
    pub carrier: carrier::Config,
    /// How long the log of a run or transfer is kept after its end.
    pub keep_logs: Duration,
}

/// What the worker's tasks share.
struct Shared {
    store: Store,
    recorder: Recorder,
    worker: WorkerId,
    gateway: Gateway,
    config: Config,
}

impl Shared {
    /// The account and its client, for what may as well be done later; the log says why there is
    /// none.
    async fn account_access(&self, sid: &AccountSid) -> Option<(Client, Account)> {
        match self.gateway.carriers.get(sid).await {
            Ok(reached) => reached,
            Err(error) => {
                tracing::warn!(account = %sid, %error, "cannot use the carrier account");
                None
            }
        }
    }
}

/// Dials until `shutdown`; returns when every call claimed before it was sent and its answer
/// recorded.
pub async fn run(store: Store, recorder: Recorder, config: Config, shutdown: CancellationToken) {
    let worker = worker_id();
    // Everything that this worker logs names it.
    let span = tracing::info_span!("worker", worker_id = %worker);
    tracing::info!(parent: &span, permits = config.permits, "dialing");
    let gateway = Gateway::new(config.accounts.clone(), config.carrier.clone());
    let shared = Arc::new(Shared { store, recorder, worker, gateway, config });
    let upkeep =
        tokio::spawn(upkeep::run(shared.clone(), shutdown.clone()).instrument(span.clone()));
    pool::run(shared, shutdown).instrument(span).await;
    // It has nothing to finish; an error would be its panic, which is logged where it happens.
    let _ = upkeep.await;
}

/// `hostname:pid:boot-uuid`.
fn worker_id() -> WorkerId {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    WorkerId(format!("{host}:{}:{}", std::process::id(), Uuid::new_v4()))
}
