//! One intent: wait for its turn, send it once, record what became of it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

use super::Shared;
use crate::carrier::twiml::Response;
use crate::carrier::{self, Amd, Answer, CreateCall, connection_override};
use crate::domain::TenantId;
use crate::domain::amd::AmdMode;
use crate::domain::opt_out::OptOut;
use crate::domain::script::Script;
use crate::gateway::{self, BootInstant, Intent};
use crate::store::ClaimedCall;

/// Carries out one claimed call. The permit comes back when it is done, however it ends.
pub async fn submit(
    shared: Arc<Shared>,
    tenant: TenantId,
    call: ClaimedCall,
    turn: Instant,
    began: BootInstant,
    permit: OwnedSemaphorePermit,
) {
    let span = tracing::info_span!(
        "submit", %tenant, run_id = %call.run_id, job_id = %call.job_id, call_id = %call.call_id,
        attempt = call.attempt
    );
    async {
        // Before the turn, so that looking the account up delays nothing.
        let reached = shared.gateway.carriers.get(&call.account).await;
        tokio::time::sleep_until(turn).await;
        let intent =
            Intent { call_id: call.call_id, account: &call.account, probe: call.probe, began };
        let request = request(&shared, &tenant, &call);
        let news = gateway::send(&shared.gateway, &shared.store, intent, reached, request).await;
        // The request is answered: its place belongs to the next one, whatever the database does.
        drop(permit);
        gateway::record(&shared.recorder, &tenant, call.call_id, news).await;
    }
    .instrument(span)
    .await;
}

fn request(shared: &Shared, tenant: &TenantId, call: &ClaimedCall) -> Result<CreateCall, String> {
    let base = shared.config.public_url.as_str().trim_end_matches('/');
    let answer = match &*call.script {
        Script::FetchTwiml { url, fallback_url } => {
            Answer::Url { url: url.clone(), fallback_url: fallback_url.clone() }
        }
        script @ (Script::Say { .. } | Script::Play { .. } | Script::Stream { .. }) => {
            Answer::Twiml(match &call.opt_out {
                None => twiml(script)?,
                Some(opt_out) => listening(
                    script,
                    opt_out,
                    &format!("{base}/twilio/opt-out/{tenant}/{}", call.call_id),
                )?,
            })
        }
    };
    Ok(CreateCall {
        to: call.to.clone(),
        from: call.from.clone(),
        answer,
        status_callback: connection_override(&format!(
            "{base}/twilio/status/{tenant}/{}",
            call.call_id
        )),
        ring_timeout_s: call.ring_timeout_s,
        time_limit_s: call.time_limit_s,
        amd: call.amd.map(|mode| Amd {
            mode: match mode {
                AmdMode::Enable => carrier::AmdMode::Enable,
                AmdMode::DetectMessageEnd => carrier::AmdMode::DetectMessageEnd,
            },
            callback_url: connection_override(&format!(
                "{base}/twilio/amd/{tenant}/{}",
                call.call_id
            )),
        }),
    })
}

/// The TwiML of a script that is not fetched.
pub(super) fn twiml(script: &Script) -> Result<String, String> {
    let response = Response::for_script(script).ok_or("the script has no TwiML of ours")?;
    response.to_xml().map_err(|error| error.to_string())
}

/// The TwiML of a script during which the callee can press a key. The address says which: what was
/// promised holds, whatever the run's settings are by then.
fn listening(script: &Script, opt_out: &OptOut, address: &str) -> Result<String, String> {
    let key: String =
        url::form_urlencoded::byte_serialize(opt_out.digit.to_string().as_bytes()).collect();
    let action = connection_override(&format!("{address}?key={key}"));
    let response = Response::for_script_with_opt_out(script, opt_out, &action);
    response.ok_or("the script cannot be listened to")?.to_xml().map_err(|error| error.to_string())
}
