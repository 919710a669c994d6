//! One intent: wait for its turn, send it once, record what became of it.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

use super::lease::BootInstant;
use super::{Shared, carriers};
use crate::carrier::twiml::Response;
use crate::carrier::{self, Account, Amd, Answer, Client, CreateCall, Created};
use crate::domain::TenantId;
use crate::domain::amd::AmdMode;
use crate::domain::call::{NOT_SENT, News, RejectClass, WITHDRAWN};
use crate::domain::script::Script;
use crate::store::{Applied, ClaimedCall, Error};

/// Twilio's connection override: up to five retries of a callback after a failed connection, a timeout or a 5xx.
/// <https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>
const CALLBACK_RETRIES: &str = "rc=5&rp=ct,rt,5xx";
/// How long recording an answer is tried while the database is away. After that the intent is found abandoned
/// and resolved as unknown.
const RECORD_FOR: Duration = Duration::from_secs(60);

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
        let account = shared.carriers.get(&call.account).await;
        tokio::time::sleep_until(turn).await;
        let news = send(&shared, &tenant, &call, account, began).await;
        // The request is answered: its place belongs to the next one, whatever the database does.
        drop(permit);
        record(&shared, &tenant, &call, news).await;
    }
    .instrument(span)
    .await;
}

fn withdrawn() -> News {
    tracing::warn!("claimed too long ago; not sent");
    News::NotSent { code: WITHDRAWN, message: "claimed too long before its turn".to_owned() }
}

async fn send(
    shared: &Shared,
    tenant: &TenantId,
    call: &ClaimedCall,
    account: Result<Option<(Client, Account)>, carriers::Error>,
    began: BootInstant,
) -> News {
    let not_sent = |message: &str| News::NotSent { code: NOT_SENT, message: message.to_owned() };
    // First of all: to a process that slept, nothing else that is wrong now matters.
    if !began.may_send() {
        return withdrawn();
    }
    let (client, account) = match account {
        Ok(Some(account)) => account,
        Ok(None) => {
            let message = "there are no credentials for the carrier account".to_owned();
            let (class, code) = (RejectClass::Configuration, "no_credentials".to_owned());
            return News::Rejected { class, code, message };
        }
        Err(error) => {
            tracing::error!(account = %call.account, %error, "cannot use the carrier account");
            return not_sent("the carrier account's credentials cannot be read now");
        }
    };
    let request = match request(shared, tenant, call) {
        Ok(request) => request,
        Err(why) => {
            return News::Rejected {
                class: RejectClass::Configuration,
                code: "bad_script".to_owned(),
                message: why,
            };
        }
    };
    if !began.may_send() {
        return withdrawn();
    }
    if !shared.breakers.may_send(&call.account) {
        return News::NotSent {
            code: NOT_SENT,
            message: "the carrier account's circuit breaker is open".to_owned(),
        };
    }
    let created = client.create_call(&account, &request).await;
    // A refusal is an answer, too.
    let answered = matches!(created, Created::Submitted { .. } | Created::Rejected { .. });
    shared.breakers.report(&*shared.store, call, answered).await;
    match created {
        Created::Submitted { sid, .. } => {
            tracing::debug!(call_sid = %sid, "submitted");
            News::Submitted { sid }
        }
        Created::Rejected { class, code, http_status, message } => {
            tracing::info!(?class, code, http_status, "rejected");
            let code = code.map_or_else(|| format!("http_{http_status}"), |code| code.to_string());
            News::Rejected { class, code, message }
        }
        Created::NotSent { reason } => {
            tracing::warn!(reason, "not sent");
            not_sent(&reason)
        }
        Created::Unknown { reason } => {
            tracing::warn!(reason, "the answer was lost; the call may exist");
            News::Lost { message: reason }
        }
    }
}

fn request(shared: &Shared, tenant: &TenantId, call: &ClaimedCall) -> Result<CreateCall, String> {
    let answer = match &*call.script {
        Script::FetchTwiml { url, fallback_url } => {
            Answer::Url { url: url.clone(), fallback_url: fallback_url.clone() }
        }
        script @ (Script::Say { .. } | Script::Play { .. } | Script::Stream { .. }) => {
            Answer::Twiml(twiml(script)?)
        }
    };
    let base = shared.config.public_url.as_str().trim_end_matches('/');
    Ok(CreateCall {
        to: call.to.clone(),
        from: call.from.clone(),
        answer,
        status_callback: format!("{base}/twilio/status/{tenant}/{}#{CALLBACK_RETRIES}", call.call_id),
        ring_timeout_s: call.ring_timeout_s,
        time_limit_s: call.time_limit_s,
        amd: call.amd.map(|mode| Amd {
            mode: match mode {
                AmdMode::Enable => carrier::AmdMode::Enable,
                AmdMode::DetectMessageEnd => carrier::AmdMode::DetectMessageEnd,
            },
            callback_url: format!("{base}/twilio/amd/{tenant}/{}#{CALLBACK_RETRIES}", call.call_id),
        }),
    })
}

/// The TwiML of a script that is not fetched.
pub(super) fn twiml(script: &Script) -> Result<String, String> {
    let response = Response::for_script(script).ok_or("the script has no TwiML of ours")?;
    response.to_xml().map_err(|error| error.to_string())
}

async fn record(shared: &Shared, tenant: &TenantId, call: &ClaimedCall, news: News) {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .with_total_delay(Some(RECORD_FOR))
        .with_jitter();
    let recorded = (|| shared.recorder.record(tenant, call.call_id, news.clone()))
        .retry(patience)
        .when(Error::is_transient)
        .await;
    match recorded {
        Ok(Applied::Changed(_) | Applied::Unchanged(_)) => {}
        Ok(Applied::OtherSid) => tracing::error!("a second call SID for one call"),
        Ok(Applied::NoSuchCall) => tracing::error!("the intent is gone"),
        Err(error) => tracing::error!(%error, "cannot record what became of the call"),
    }
}
