//! Calls to us: answered at once with TwiML, and recorded beside that.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backon::{ExponentialBuilder, Retryable};
use tracing::Instrument;

use super::{Shared, callback, transfer};
use crate::carrier;
use crate::carrier::callback::StatusCallback;
use crate::carrier::transfer::Documents;
use crate::carrier::twiml::{self, Verb};
use crate::domain::TenantId;
use crate::domain::call::News;
use crate::domain::script::Script;
use crate::metrics::{self, Heard, HeardOf};
use crate::store::{Applied, Error, InboundCall, Result};

/// What callers hear who called nobody's number, or a tenant's without a greeting.
const APOLOGY: &str = "We are sorry. Nobody can take your call right now. Please try again later.";
/// The longest that a caller waits while the tenant is looked up; then it is an apology.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);
/// How often recording is tried again while the database is away. The call's last callback records
/// it, too.
const RECORD_TRIES: usize = 5;

/// A call comes in. Answers 200 with TwiML, whatever becomes of its record; 403 for a bad
/// signature, 400 for what cannot be read.
pub(super) async fn voice(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let callback = match read(&shared, HeardOf::Voice, &uri, &headers, &body).await {
        Ok(callback) => callback,
        Err(status) => return status.into_response(),
    };
    let found = tokio::time::timeout(LOOK_UP_WITHIN, shared.accounts.called(&callback)).await;
    let called = match found {
        Ok(Ok(called)) => called,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot look up whom a call is for");
            None
        }
        Err(_) => None,
    };
    metrics::callback(HeardOf::Voice, if called.is_some() { Heard::Applied } else { Heard::Stray });
    if let Some(called) = &called {
        match joined(&shared, &called.tenant, &callback).await {
            Ok(Some(hold)) => return hold,
            Ok(None) => {}
            // Whoever is awaited must not be dismissed with a greeting because a commit is slow.
            // Once is enough for all others.
            Err(()) if uri.query().is_none() => {
                let again = format!("{}{}?again=1", shared.public_url, uri.path());
                return transfer::xml(&carrier::transfer::one_moment(again));
            }
            Err(()) => {}
        }
    }
    let greeting = called.as_ref().and_then(|called| called.greeting.clone());
    let span = tracing::info_span!("inbound", call_sid = %callback.call_sid);
    // In its own time: nobody should hear silence because a commit is slow.
    tokio::spawn(
        record_patiently(shared, called.map(|called| called.tenant), callback).instrument(span),
    );
    let xml = document(greeting.as_ref());
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], xml).into_response()
}

/// What the caller hears if an incident waits for them. Their call is recorded with it. An error if
/// that is not known.
async fn joined(
    shared: &Shared,
    tenant: &TenantId,
    callback: &StatusCallback,
) -> std::result::Result<Option<Response>, ()> {
    let Some(call) = inbound(callback) else { return Ok(None) };
    let joined =
        tokio::time::timeout(LOOK_UP_WITHIN, shared.store.join_awaited(tenant, &call)).await;
    let joined = joined
        .map_err(|_| tracing::warn!("looking up whether a caller is awaited takes too long"))?;
    let view = joined
        .map_err(|error| tracing::warn!(%error, "cannot look up whether a caller is awaited"))?;
    Ok(view.map(|view| {
        let documents = Documents::new(&shared.public_url, tenant, view.id);
        transfer::xml(&documents.caller(&view.transfer))
    }))
}

/// The call as it is recorded; none without a number that was called.
fn inbound(callback: &StatusCallback) -> Option<InboundCall> {
    Some(InboundCall {
        sid: callback.call_sid.clone(),
        account: callback.account_sid.clone(),
        from: callback.from.clone(),
        to: callback.to.clone()?,
    })
}

/// A call that came in moved on. Answers as [`callback::status`] does.
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let callback = match read(&shared, HeardOf::VoiceStatus, &uri, &headers, &body).await {
        Ok(callback) => callback,
        Err(status) => return status,
    };
    let span = tracing::info_span!("inbound", call_sid = %callback.call_sid);
    // A task of its own: Twilio hanging up must not stop a commit half-way to its answer.
    let recording = tokio::spawn(
        async move { find_and_record(&shared, None, &callback).await }.instrument(span),
    );
    let (status, heard) = callback::recorded(recording).await;
    metrics::callback(HeardOf::VoiceStatus, heard);
    status
}

/// Whose signature counts is said by the callback's own account, and holds only if it is right.
async fn read(
    shared: &Shared,
    of: HeardOf,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> std::result::Result<StatusCallback, StatusCode> {
    let params: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let account =
        params.iter().find(|(name, _)| name == "AccountSid").and_then(|(_, sid)| sid.parse().ok());
    let tokens = match account {
        None => Vec::new(),
        Some(account) => shared.accounts.tokens(&account).await.map_err(|error| {
            tracing::warn!(%error, "cannot look the account up");
            metrics::callback(of, Heard::Unavailable);
            StatusCode::SERVICE_UNAVAILABLE
        })?,
    };
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if !callback::is_signed_with(shared, &tokens, path, &params, headers) {
        tracing::warn!("refused an inbound call: the signature is missing or wrong");
        metrics::callback(of, Heard::Forged);
        return Err(StatusCode::FORBIDDEN);
    }
    StatusCallback::parse(&params).map_err(|violation| {
        tracing::warn!(%violation, "cannot read an inbound call");
        metrics::callback(of, Heard::Unreadable);
        StatusCode::BAD_REQUEST
    })
}

/// What the caller hears.
fn document(greeting: Option<&Script>) -> String {
    let say = |text: &str| Verb::Say { text: text.to_owned(), voice: None, language: None };
    let verbs = match greeting {
        None => vec![say(APOLOGY), Verb::Hangup],
        Some(Script::FetchTwiml { url, .. }) => vec![Verb::Redirect { url: url.clone() }],
        Some(script @ (Script::Say { .. } | Script::Play { .. } | Script::Stream { .. })) => {
            let mut verbs = twiml::Response::for_script(script).unwrap_or_default().0;
            verbs.push(Verb::Hangup);
            verbs
        }
    };
    twiml::Response(verbs).to_xml().unwrap_or_else(|error| {
        tracing::error!(%error, "a greeting cannot be written as TwiML");
        "<Response><Reject/></Response>".to_owned()
    })
}

async fn record_patiently(shared: Arc<Shared>, tenant: Option<TenantId>, callback: StatusCallback) {
    let patience = ExponentialBuilder::default().with_max_times(RECORD_TRIES).with_jitter();
    let recorded = (|| find_and_record(&shared, tenant.clone(), &callback))
        .retry(patience)
        .when(Error::is_transient)
        .await;
    if let Err(error) = recorded {
        tracing::warn!(%error, "cannot record an inbound call; its last callback will");
    }
}

/// Records the call for whom it is, if it is for anybody.
async fn find_and_record(
    shared: &Shared,
    tenant: Option<TenantId>,
    callback: &StatusCallback,
) -> Result<Option<Applied>> {
    let tenant = match tenant {
        Some(tenant) => tenant,
        None => match shared.accounts.called(callback).await? {
            Some(called) => called.tenant,
            None => {
                tracing::warn!("an inbound call to a number that is no tenant's caller id");
                return Ok(None);
            }
        },
    };
    let Some(call) = inbound(callback) else { return Ok(None) };
    let news = News::Status {
        sid: callback.call_sid.clone(),
        status: callback.status,
        sequence: callback.sequence_number,
        duration_s: callback.call_duration_s.filter(|_| callback.status.is_final()),
        answered_by: callback.answered_by,
        error_code: callback.error_code.map(|code| code.to_string()),
    };
    let (call_id, applied) = shared.store.record_inbound(&tenant, &call, news).await?;
    tracing::debug!(%tenant, %call_id, status = callback.status.as_str(), "inbound call recorded");
    Ok(Some(applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_something() {
        assert!(document(None).contains("sorry") && document(None).contains("<Hangup"));
        let say = Script::Say { text: "A & B".into(), voice: None, language: None };
        let greeted = document(Some(&say));
        assert!(greeted.contains("A &amp; B</Say>") && greeted.contains("<Hangup"), "{greeted}");
        let fetch = Script::FetchTwiml { url: "https://a.test/x".into(), fallback_url: None };
        assert!(document(Some(&fetch)).contains(">https://a.test/x</Redirect>"));
    }
}
