//! What a worker does besides dialing: heartbeat, hang-ups, questions to the carrier, sweeps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{LEASE, Shared, follow_up};
use crate::carrier::{CodeClass, Error, UpdateCall};
use crate::store::{Hangup, Result};

/// How often hang-ups and overdue calls are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the rest is done.
const SLOW_TICK: Duration = Duration::from_secs(5);
/// A worker that was not heard of for this long counts as dead.
const LIVES_FOR: Duration = Duration::from_secs(15);
/// After the lease and the longest request no request for an intent can be under way; a little more for commits.
const ABANDONED_AFTER: Duration = LEASE.saturating_add(Duration::from_secs(25));
/// An unknown call of which nothing was heard for this long is given up.
const STALE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Hang-ups taken, and sent, at a time.
const HANGUPS_MAX: u32 = 64;
const HANGUPS_AT_ONCE: usize = 8;

/// Keeps up until `shutdown`.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slow = None;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = hang_up(&shared).await {
            tracing::warn!(%error, "cannot look for calls to hang up");
        }
        if let Err(error) = follow_up::run(&shared).await {
            tracing::warn!(%error, "cannot look for calls to ask about");
        }
        if slow.is_none_or(|last: Instant| last.elapsed() >= SLOW_TICK) {
            slow = Some(Instant::now());
            if let Err(error) = slow_upkeep(&shared, &shutdown).await {
                tracing::warn!(%error, "upkeep failed; it is tried again");
            }
        }
    }
}

async fn slow_upkeep(shared: &Shared, shutdown: &CancellationToken) -> Result<()> {
    let store = &shared.store;
    store.heartbeat(&shared.worker, LIVES_FOR).await?;
    let lost = store.lose_abandoned_intents(ABANDONED_AFTER).await?;
    if lost > 0 {
        tracing::warn!(calls = lost, "intents of a worker that is gone are unknown now");
    }
    let stale = store.presume_stale(STALE_AFTER).await?;
    if stale > 0 {
        tracing::warn!(calls = stale, "unknown calls were given up");
    }
    while store.sweep().await? && !shutdown.is_cancelled() {}
    Ok(())
}

/// Hangs up live calls of runs that are stopping. One that fails is asked for again by the store.
async fn hang_up(shared: &Shared) -> Result<()> {
    let hangups = shared.store.take_hangups(HANGUPS_MAX).await?;
    futures_util::stream::iter(hangups)
        .for_each_concurrent(HANGUPS_AT_ONCE, |hangup| async move { hang_up_one(shared, &hangup).await })
        .await;
    Ok(())
}

async fn hang_up_one(shared: &Shared, hangup: &Hangup) {
    let Some(account) = shared.config.accounts.get(&hangup.account) else { return };
    let Hangup { tenant, call_id, .. } = hangup;
    match shared.client.update_call(account, &hangup.sid, &UpdateCall::Hangup).await {
        Ok(_) => tracing::info!(%tenant, %call_id, "hung up"),
        // It ended by itself; its callback says how.
        Err(Error::NotFound | Error::Rejected { class: CodeClass::Race, .. }) => {
            tracing::debug!(%tenant, %call_id, "nothing to hang up");
        }
        Err(error) => tracing::warn!(%tenant, %call_id, %error, "cannot hang up"),
    }
}
