//! Pause, cancel and stop: they answer once no request of the run can still be sent.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout_at};

use super::runs::command;
use crate::domain::run::Command;
use crate::domain::{RunId, TenantId};
use crate::grpc::idempotency::Keyed;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, pb};
use crate::store::{InFlight, RunView, Wake};

/// An intent that is older is not sent any more: the dialer checks its age before each send.
const SEND_WINDOW: Duration = Duration::from_secs(20);
/// Asks again after this long where no wake came.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn pause(
    call: Call,
    request: pb::PauseRunRequest,
) -> Result<pb::PauseRunResponse, Refusal> {
    let (run, in_flight) = halt(&call, &request, &request.run_id, Command::Pause).await?;
    Ok(pb::PauseRunResponse { run, in_flight })
}

pub(super) async fn cancel(
    call: Call,
    request: pb::CancelRunRequest,
) -> Result<pb::CancelRunResponse, Refusal> {
    let (run, in_flight) = halt(&call, &request, &request.run_id, Command::Cancel).await?;
    Ok(pb::CancelRunResponse { run, in_flight })
}

pub(super) async fn stop(
    call: Call,
    request: pb::StopRunRequest,
) -> Result<pb::StopRunResponse, Refusal> {
    let (run, in_flight) = halt(&call, &request, &request.run_id, Command::Stop).await?;
    Ok(pb::StopRunResponse { run, in_flight })
}

async fn halt<R: Keyed>(
    call: &Call,
    request: &R,
    run_id: &str,
    what: Command,
) -> Result<(Option<pb::Run>, Option<pb::InFlight>), Refusal> {
    let mut wakes = call.store.wakes();
    let commanded = command(call, request, run_id, what).await?;
    let in_flight = settled(call, commanded.id, &mut wakes).await?;
    let view: RunView = call.store.run(&call.tenant, commanded.id).await?;
    Ok((Some(convert::run::write(view)), Some(convert::call::in_flight(in_flight))))
}

/// The run's live calls once none of them is an intent, or once no intent may be sent any more.
async fn settled(
    call: &Call,
    run: RunId,
    wakes: &mut broadcast::Receiver<Wake>,
) -> Result<InFlight, Refusal> {
    // The command committed before this instant, and no claim takes the run's jobs since: every
    // intent there is was claimed earlier, and its time to be sent ends earlier than ours.
    let ends = Instant::now() + SEND_WINDOW;
    loop {
        match call.store.in_flight(&call.tenant, run).await {
            Ok(calls) if calls.intent == 0 || Instant::now() >= ends => return Ok(calls),
            Ok(_) => {}
            // The command is done; what it has to wait for is only not known at the moment.
            Err(error) if error.is_transient() && Instant::now() < ends => {}
            Err(error) => return Err(error.into()),
        }
        let _ = timeout_at(ends, change(call, run, wakes)).await;
    }
}

/// Returns when the run may have changed.
async fn change(call: &Call, run: RunId, wakes: &mut broadcast::Receiver<Wake>) {
    let woken = async {
        loop {
            let wake = wakes.recv().await;
            if wake == Err(RecvError::Closed) {
                return std::future::pending().await;
            }
            // What is about work or about another run does not concern us; anything else might.
            let mine = |tenant: &TenantId, woken: &RunId| *woken == run && *tenant == call.tenant;
            if !matches!(&wake, Ok(Wake::Work | Wake::Tasks | Wake::Transfer(..)))
                && !matches!(&wake, Ok(Wake::Run(t, r)) if !mine(t, r))
            {
                return;
            }
        }
    };
    tokio::select! {
        () = woken => {}
        () = sleep(POLL) => {}
    }
}
