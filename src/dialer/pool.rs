//! The claim loop: never more intents than there are free permits to send them.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{Shared, submit};
use crate::domain::Timestamp;
use crate::gateway::BootInstant;
use crate::metrics;
use crate::store::{Claim, ClaimLimits, Wake};

/// The floor: without any wake-up the worker looks this often.
const POLL: Duration = Duration::from_secs(1);
/// When somebody else holds the ready tenant, wait at least this long before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Claims until `shutdown`, then waits for what is under way.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(shared.config.permits));
    let submits = TaskTracker::new();
    let mut wakes = shared.store.wakes();
    let mut errors = None;
    while let Some(Some(free)) = shutdown.run_until_cancelled(take_permits(&permits)).await {
        let began = BootInstant::now();
        let limits = ClaimLimits { max_calls: free.len(), horizon: shared.config.horizon };
        // Not under `run_until_cancelled`: a claim that is committing must be carried out.
        let asked = Instant::now();
        match shared.store.claim(&shared.worker, limits).await {
            Ok(claim) => {
                errors = None;
                if claim.tenant.is_some() {
                    metrics::calls_claimed(claim.calls.len(), asked.elapsed());
                }
                let wait = wait_after(&claim);
                start(&shared, &submits, claim, began, free);
                if let Some(wait) = wait {
                    shutdown.run_until_cancelled(sleep_or_wake(wait, &mut wakes)).await;
                }
            }
            Err(error) => {
                let delays = errors.get_or_insert_with(patience);
                let delay = delays.next().unwrap_or(POLL);
                tracing::warn!(%error, retry_in_ms = delay.as_millis(), "cannot claim");
                drop(free);
                shutdown.run_until_cancelled(tokio::time::sleep(delay)).await;
            }
        }
    }
    submits.close();
    submits.wait().await;
}

/// At least one permit, and all that are free. None when the semaphore is closed, which nobody
/// does.
async fn take_permits(permits: &Arc<Semaphore>) -> Option<Vec<OwnedSemaphorePermit>> {
    let mut taken = vec![permits.clone().acquire_owned().await.ok()?];
    while let Ok(permit) = permits.clone().try_acquire_owned() {
        taken.push(permit);
    }
    Some(taken)
}

/// Each call gets a task and a permit that it owns, so that a panic returns the permit.
fn start(
    shared: &Arc<Shared>,
    submits: &TaskTracker,
    claim: Claim,
    began: BootInstant,
    permits: Vec<OwnedSemaphorePermit>,
) {
    let Some(tenant) = claim.tenant else { return };
    let claimed_at = Instant::now();
    for (call, permit) in claim.calls.into_iter().zip(permits) {
        let turn = claimed_at + call.send_at.since(claim.now);
        let submit = submit::submit(shared.clone(), tenant.clone(), call, turn, began, permit);
        submits.spawn(submit.in_current_span());
    }
}

/// None: look again at once, other tenants may be ready.
fn wait_after(claim: &Claim) -> Option<Duration> {
    if claim.tenant.is_some() {
        return None;
    }
    if claim.next_ready_at == Timestamp::NEVER {
        return Some(POLL);
    }
    Some(claim.next_ready_at.since(claim.now).clamp(LOOK_AGAIN, POLL))
}

async fn sleep_or_wake(wait: Duration, wakes: &mut broadcast::Receiver<Wake>) {
    let woken = async {
        loop {
            match wakes.recv().await {
                Ok(Wake::Work | Wake::Everything) | Err(RecvError::Lagged(_)) => return,
                Ok(Wake::Run(..) | Wake::Transfer(..) | Wake::Tasks) => {}
                // The store is gone, and with it the reason to hurry.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Either way it is time to look.
    let _ = tokio::time::timeout(wait, woken).await;
}

fn patience() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}
