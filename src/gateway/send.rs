//! One intent: sent once, and what became of it.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::{BootInstant, Error, Gateway};
use crate::carrier::{Account, Client, CreateCall, Created};
use crate::domain::call::{NOT_SENT, News, RejectClass, WITHDRAWN};
use crate::domain::{AccountSid, CallId, TenantId};
use crate::metrics::{self, Submitted};
use crate::store::{self, Applied, Recorder, Store};

/// How long recording an answer is tried while the database is away. After that the intent is found
/// abandoned and resolved as unknown.
const RECORD_FOR: Duration = Duration::from_secs(60);

/// An account and its client, if it can be used.
pub type Reached = Result<Option<(Client, Account)>, Error>;

/// A committed intent.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// Which call.
    pub call_id: CallId,
    /// Through which account.
    pub account: &'a AccountSid,
    /// Whether it probes an account whose circuit breaker is half open.
    pub probe: bool,
    /// From before its claim began.
    pub began: BootInstant,
}

fn not_sent(message: &str) -> News {
    metrics::submitted(Submitted::NotSent, None);
    News::NotSent { code: NOT_SENT, message: message.to_owned() }
}

fn withdrawn() -> News {
    metrics::submitted(Submitted::NotSent, None);
    tracing::warn!("claimed too long ago; not sent");
    News::NotSent { code: WITHDRAWN, message: "claimed too long before its turn".to_owned() }
}

/// Sends the request for an intent, once, if it may be sent still. `request` is what to send, or
/// why there is nothing.
pub async fn send(
    gateway: &Gateway,
    store: &Store,
    intent: Intent<'_>,
    reached: Reached,
    request: Result<CreateCall, String>,
) -> News {
    // First of all: to a process that slept, nothing else that is wrong now matters.
    if !intent.began.may_send() {
        return withdrawn();
    }
    let configuration = |code: &str, message| News::Rejected {
        class: RejectClass::Configuration,
        code: code.to_owned(),
        message,
    };
    let (client, account) = match reached {
        Ok(Some(reached)) => reached,
        Ok(None) => {
            let message = "there are no credentials for the carrier account".to_owned();
            return configuration("no_credentials", message);
        }
        Err(error) => {
            tracing::error!(account = %intent.account, %error, "cannot use the carrier account");
            return not_sent("the carrier account's credentials cannot be read now");
        }
    };
    let request = match request {
        Ok(request) => request,
        Err(why) => return configuration("bad_script", why),
    };
    if !intent.began.may_send() {
        return withdrawn();
    }
    if !gateway.breakers.may_send(intent.account) {
        return not_sent("the carrier account's circuit breaker is open");
    }
    let asked = Instant::now();
    let created = client.create_call(&account, &request).await;
    let result = match created {
        Created::Submitted { .. } => Submitted::Created,
        Created::Rejected { .. } => Submitted::Rejected,
        Created::NotSent { .. } => Submitted::NotSent,
        Created::Unknown { .. } => Submitted::Lost,
    };
    metrics::submitted(result, Some(asked.elapsed()));
    // A refusal is an answer, too.
    let answered = matches!(created, Created::Submitted { .. } | Created::Rejected { .. });
    gateway.breakers.report(store, intent, answered).await;
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
            News::NotSent { code: NOT_SENT, message: reason }
        }
        Created::Unknown { reason } => {
            tracing::warn!(reason, "the answer was lost; the call may exist");
            News::Lost { message: reason }
        }
    }
}

/// Records what became of an intent, for as long as the database may be away.
pub async fn record(recorder: &Recorder, tenant: &TenantId, call_id: CallId, news: News) {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .with_total_delay(Some(RECORD_FOR))
        .with_jitter();
    let recorded = (|| recorder.record(tenant, call_id, news.clone()))
        .retry(patience)
        .when(store::Error::is_transient)
        .await;
    match recorded {
        Ok(Applied::Changed(_) | Applied::Unchanged(_)) => {}
        Ok(Applied::OtherSid) => tracing::error!("a second call SID for one call"),
        Ok(Applied::NoSuchCall) => tracing::error!("the intent is gone"),
        Err(error) => tracing::error!(%error, "cannot record what became of the call"),
    }
}
