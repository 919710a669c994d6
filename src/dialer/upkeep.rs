//! What a worker does besides dialing: heartbeat, hang-ups, questions to the carrier, sweeps.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Shared, follow_up, submit};
use crate::carrier::{CodeClass, Error, UpdateCall};
use crate::domain::unknown::{ABANDONED_AFTER, STALE_AFTER};
use crate::store::{Hangup, Result};

/// How often hang-ups and overdue calls are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the worker says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How often what a crash or an expiry left is looked for.
const SLOW_TICK: Duration = Duration::from_secs(5);
/// A worker that was not heard of for this long counts as dead.
const LIVES_FOR: Duration = Duration::from_secs(15);
/// Hang-ups taken, and sent, at a time.
const HANGUPS_MAX: u32 = 64;
const HANGUPS_AT_ONCE: usize = 8;

/// Keeps up until `shutdown`. The three go on side by side: a slow carrier must not make a living
/// worker look dead.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let shared = &*shared;
    tokio::join!(
        every(BEAT, &shutdown, || async {
            shared.store.heartbeat(&shared.worker, LIVES_FOR).await
        }),
        every(TICK, &shutdown, || async {
            hang_up(shared).await?;
            follow_up::run(shared).await
        }),
        every(SLOW_TICK, &shutdown, || sweep(shared, &shutdown)),
    );
}

/// Does `work` at once and then every `period`; a failure is logged, and the next turn comes all
/// the same.
async fn every<F: Future<Output = Result<()>>>(
    period: Duration,
    shutdown: &CancellationToken,
    work: impl Fn() -> F,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = work().await {
            tracing::warn!(%error, "upkeep failed; it is tried again");
        }
    }
}

async fn sweep(shared: &Shared, shutdown: &CancellationToken) -> Result<()> {
    let store = &shared.store;
    store.lose_abandoned_intents(ABANDONED_AFTER).await?;
    store.presume_stale(STALE_AFTER).await?;
    while store.sweep().await? && !shutdown.is_cancelled() {}
    let trimmed = store.trim_logs(shared.config.keep_logs).await?;
    if trimmed > 0 {
        tracing::debug!(event = "logs_trimmed", commits = trimmed);
    }
    Ok(())
}

/// Hangs up what is to be hung up: calls of runs that are stopping, orphans, machines (after a
/// message, if there is one). An update may be repeated; one that fails for longer is asked for
/// again by the store.
async fn hang_up(shared: &Shared) -> Result<()> {
    let hangups = shared.store.take_hangups(HANGUPS_MAX).await?;
    futures_util::stream::iter(hangups)
        .for_each_concurrent(
            HANGUPS_AT_ONCE,
            |hangup| async move { hang_up_one(shared, &hangup).await },
        )
        .await;
    Ok(())
}

async fn hang_up_one(shared: &Shared, hangup: &Hangup) {
    let Some((client, account)) = shared.account_access(&hangup.account).await else { return };
    let Hangup { tenant, call_id, .. } = hangup;
    let message = hangup.message.as_ref().and_then(|script| submit::twiml(script).ok());
    // TwiML that ends ends the call.
    let update = message.map_or(UpdateCall::Hangup, UpdateCall::Twiml);
    let patience =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(200)).with_max_times(2);
    let updated = (|| client.update_call(&account, &hangup.sid, &update))
        .retry(patience)
        .when(|error| matches!(error, Error::Unavailable { .. }))
        .await;
    match updated {
        Ok(_) => tracing::info!(%tenant, %call_id, message = hangup.message.is_some(), "hung up"),
        // It ended by itself. Its callback says how, unless that was lost.
        Err(Error::NotFound | Error::Rejected { class: CodeClass::Race, .. }) => {
            follow_up::fetch(shared, &(client, account), (tenant, *call_id), &hangup.sid).await;
        }
        Err(error) => tracing::warn!(%tenant, %call_id, %error, "cannot hang up"),
    }
}
