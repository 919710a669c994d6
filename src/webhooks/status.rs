//! Status callbacks: a call moved.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use tracing::Instrument;

use super::{ANSWER_WITHIN, Shared};
use crate::carrier::callback::StatusCallback;
use crate::carrier::signature::{self, Body};
use crate::domain::call::News;
use crate::domain::{CallId, TenantId};
use crate::store::Applied;

/// The header that carries the signature.
const SIGNATURE: &str = "x-twilio-signature";

/// Answers 204 once the news is committed, and also when it changes nothing: a repetition would not either.
/// 403 for a bad signature, 400 for what cannot be read, 503 to be tried again.
pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    Path((tenant, call_id)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    // A tenant or call id that is none was never in a URL of ours; to a stranger that is a bad signature.
    let (Ok(tenant), Ok(call_id)) = (tenant.parse::<TenantId>(), call_id.parse::<CallId>()) else {
        return StatusCode::FORBIDDEN;
    };
    let span = tracing::info_span!("status_callback", %tenant, %call_id);
    async {
        let params: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        match is_signed(&shared, &tenant, path, &params, &headers).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("refused: the signature is missing or wrong");
                return StatusCode::FORBIDDEN;
            }
            Err(status) => return status,
        }
        take(shared, tenant, call_id, &params).await
    }
    .instrument(span)
    .await
}

async fn is_signed(
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
    let given = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = format!("{}{path}", shared.public_url);
    let tokens: Vec<_> = tokens.iter().collect();
    Ok(signature::verify(&tokens, &url, Body::Form(params), given))
}

async fn take(
    shared: Arc<Shared>,
    tenant: TenantId,
    call_id: CallId,
    params: &[(String, String)],
) -> StatusCode {
    let callback = match StatusCallback::parse(params) {
        Ok(callback) => callback,
        Err(violation) => {
            tracing::warn!(%violation, "cannot read the callback");
            return StatusCode::BAD_REQUEST;
        }
    };
    let news = News::Status {
        sid: callback.call_sid,
        status: callback.status,
        sequence: callback.sequence_number,
        duration_s: callback.call_duration_s,
        answered_by: callback.answered_by,
        error_code: callback.error_code.map(|code| code.to_string()),
    };
    // A task of its own: Twilio hanging up must not stop a commit half-way to its answer.
    let recording =
        tokio::spawn(async move { shared.recorder.record(&tenant, call_id, news).await }.in_current_span());
    match tokio::time::timeout(ANSWER_WITHIN, recording).await {
        Ok(Ok(Ok(applied))) => answer(applied),
        Ok(Ok(Err(error))) => {
            tracing::warn!(%error, "cannot store the callback");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn answer(applied: Applied) -> StatusCode {
    match applied {
        Applied::Changed(state) => tracing::debug!(state = state.as_str(), "call moved"),
        Applied::Unchanged(state) => tracing::debug!(state = state.as_str(), "nothing new"),
        Applied::NoSuchCall => tracing::warn!("a callback for a call that the tenant does not have"),
        Applied::OtherSid => tracing::warn!("a callback with another call SID than the one on record"),
    }
    StatusCode::NO_CONTENT
}
