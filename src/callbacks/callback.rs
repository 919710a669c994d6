//! Callbacks about a call: it moved, or it is known who answered.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::{ANSWER_WITHIN, Shared};
use crate::carrier::callback::{AmdCallback, StatusCallback};
use crate::carrier::signature::{self, Body};
use crate::domain::call::News;
use crate::domain::{CallId, TenantId, Violation};
use crate::metrics::{self, Heard, HeardOf};
use crate::store::Applied;

/// The header that carries the signature.
const SIGNATURE: &str = "x-twilio-signature";

/// What identifies the call, and what came.
type Incoming = (State<Arc<Shared>>, Path<(String, String)>, OriginalUri, HeaderMap, Bytes);

/// A status callback. Answers 204 once the news is committed, and also when it changes nothing: a
/// repetition would not either. 403 for a bad signature, 400 for what cannot be read, 503 to be
/// tried again.
pub(super) async fn status(
    state: State<Arc<Shared>>,
    path: Path<(String, String)>,
    uri: OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    receive(HeardOf::Status, (state, path, uri, headers, body), |params| {
        let callback = StatusCallback::parse(params)?;
        Ok(News::Status {
            sid: callback.call_sid,
            status: callback.status,
            sequence: callback.sequence_number,
            duration_s: callback.call_duration_s,
            answered_by: callback.answered_by,
            error_code: callback.error_code.map(|code| code.to_string()),
        })
    })
    .await
}

/// Who answered, found out while the call goes on; answers as [`status`] does.
pub(super) async fn amd(
    state: State<Arc<Shared>>,
    path: Path<(String, String)>,
    uri: OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    receive(HeardOf::Amd, (state, path, uri, headers, body), |params| {
        let callback = AmdCallback::parse(params)?;
        Ok(News::AnsweredBy { sid: callback.call_sid, answered_by: callback.answered_by })
    })
    .await
}

async fn receive(
    of: HeardOf,
    (State(shared), Path((tenant, call_id)), OriginalUri(uri), headers, body): Incoming,
    parse: impl FnOnce(&[(String, String)]) -> Result<News, Violation>,
) -> StatusCode {
    // A tenant or call id that is none was never in a URL of ours; to a stranger that is a bad
    // signature.
    let (Ok(tenant), Ok(call_id)) = (tenant.parse::<TenantId>(), call_id.parse::<CallId>()) else {
        metrics::callback(of, Heard::Forged);
        return StatusCode::FORBIDDEN;
    };
    let span = tracing::info_span!("callback", %tenant, %call_id);
    let (status, heard) = async {
        let params: Vec<(String, String)> =
            url::form_urlencoded::parse(&body).into_owned().collect();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        match is_signed(&shared, &tenant, path, &params, &headers).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    event = "callback_refused",
                    reason = "signature",
                    "missing or wrong"
                );
                return (StatusCode::FORBIDDEN, Heard::Forged);
            }
            Err(status) => return (status, Heard::Unavailable),
        }
        match parse(&params) {
            Ok(news) => record(shared, tenant, call_id, news).await,
            Err(violation) => {
                tracing::warn!(event = "callback_refused", reason = "unreadable", %violation);
                (StatusCode::BAD_REQUEST, Heard::Unreadable)
            }
        }
    }
    .instrument(span)
    .await;
    metrics::callback(of, heard);
    status
}

pub(super) async fn is_signed(
    shared: &Shared,
    tenant: &TenantId,
    path: &str,
    params: &[(String, String)],
    headers: &HeaderMap,
) -> Result<bool, StatusCode> {
    let tokens = shared.accounts.tokens_of(tenant).await.map_err(|error| {
        tracing::warn!(%error, "cannot look the tenant up");
        StatusCode::SERVICE_UNAVAILABLE
    })?;
    Ok(is_signed_with(shared, &tokens, path, params, headers))
}

/// Whether one of `tokens` signed the form that came to `path`.
pub(super) fn is_signed_with(
    shared: &Shared,
    tokens: &[SecretString],
    path: &str,
    params: &[(String, String)],
    headers: &HeaderMap,
) -> bool {
    let given = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = format!("{}{path}", shared.public_url);
    let tokens: Vec<_> = tokens.iter().collect();
    signature::verify(&tokens, &url, Body::Form(params), given)
}

async fn record(
    shared: Arc<Shared>,
    tenant: TenantId,
    call_id: CallId,
    news: News,
) -> (StatusCode, Heard) {
    // A task of its own: Twilio hanging up must not stop a commit half-way to its answer.
    let recording = tokio::spawn(
        async move { shared.recorder.record(&tenant, call_id, news).await }.in_current_span(),
    );
    recorded(recording).await
}

/// What is answered once the news is stored, for somebody or for nobody.
pub(super) async fn recorded<A: Into<Option<Applied>>>(
    recording: JoinHandle<crate::store::Result<A>>,
) -> (StatusCode, Heard) {
    match tokio::time::timeout(ANSWER_WITHIN, recording).await {
        Ok(Ok(Ok(applied))) => (StatusCode::NO_CONTENT, applied.into().map_or(Heard::Stray, heard)),
        Ok(Ok(Err(error))) => {
            tracing::warn!(%error, "cannot store the callback");
            (StatusCode::SERVICE_UNAVAILABLE, Heard::Unavailable)
        }
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, Heard::Unavailable),
    }
}

/// What the news came to; told in the log, too.
fn heard(applied: Applied) -> Heard {
    match applied {
        Applied::Changed(state) => {
            tracing::debug!(state = state.as_str(), "call moved");
            Heard::Applied
        }
        Applied::Unchanged(state) => {
            tracing::debug!(
                event = "callback_ignored",
                state = state.as_str(),
                "it says nothing new"
            );
            Heard::Unchanged
        }
        Applied::NoSuchCall => {
            tracing::warn!(
                event = "callback_refused",
                reason = "no_such_call",
                "not a call of the tenant"
            );
            Heard::Stray
        }
        Applied::OtherSid => {
            tracing::warn!(
                event = "callback_refused",
                reason = "other_sid",
                "another SID is on record"
            );
            Heard::Stray
        }
    }
}
