//! A key pressed during a call: whoever pressed the run's opt-out key is suppressed, and told so
//! once that is committed.
//!
//! While the database is away the call is kept waiting: it comes back here every few seconds.
//! Beside that each key press is tried again for as long as this process lives, so that it is not
//! lost when the callee hangs up.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backon::{ExponentialBuilder, Retryable};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{Shared, callback};
use crate::carrier::{connection_override, twiml};
use crate::domain::opt_out::OptOut;
use crate::domain::{CallId, TenantId};
use crate::store::{Error, Result};

/// A callee hears nothing for no longer than this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// After so many rounds of waiting the callee is let go; the key press is tried further without it.
const ROUNDS_MAX: u32 = 8;
/// Key presses tried at a time. More are refused, and Twilio asks again: its requests carry our
/// override for retries.
const IN_HAND_MAX: usize = 1_000;
/// The longest pause between two tries.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Calls whose key press is being stored.
#[derive(Default)]
pub(super) struct InHand(Mutex<HashSet<CallId>>);

impl InHand {
    /// False if the call is in hand already; none if there is no room.
    fn take(&self, call: CallId) -> Option<bool> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.contains(&call) {
            return Some(false);
        }
        (calls.len() < IN_HAND_MAX).then(|| calls.insert(call))
    }

    fn done(&self, call: CallId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
    }
}

/// A request as it came: whose it is may have to wait for the database, too.
struct Press {
    tenant: TenantId,
    call: CallId,
    path: String,
    params: Vec<(String, String)>,
    headers: HeaderMap,
    /// The key that is asked for, and what was pressed.
    key: String,
    digits: String,
}

impl Press {
    fn is_meant(&self) -> bool {
        !self.key.is_empty() && self.digits == self.key
    }
}

/// What became of it.
enum Done {
    Taken(OptOut),
    Forged,
    NoSuchCall,
}

/// A key was pressed, or the call comes back to hear what became of that. Answers 200 with TwiML;
/// 403 for a bad signature.
pub(super) async fn opt_out(
    State(shared): State<Arc<Shared>>,
    Path((tenant, call_id)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (Ok(tenant), Ok(call)) = (tenant.parse::<TenantId>(), call_id.parse::<CallId>()) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let params: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let path = uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let of = |pairs: &[(String, String)], name: &str| {
        pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    // The key is what the callee was told, whatever the run's settings are by now. The signature
    // covers the address.
    let key = of(&query, "key").unwrap_or_default();
    let digits = of(&query, "digits").or_else(|| of(&params, "Digits")).unwrap_or_default();
    let round = of(&query, "round").and_then(|round| round.parse().ok()).unwrap_or(0_u32);
    let span = tracing::info_span!("opt_out", %tenant, call_id = %call);
    let press = Press { tenant, call, path, params, headers, key, digits };
    take(shared, press, round).instrument(span).await
}

async fn take(shared: Arc<Shared>, press: Press, round: u32) -> Response {
    let action = address(&shared, &press);
    let again =
        format!("{action}&digits={}&round={}", encoded(&press.digits), round.saturating_add(1));
    let (action, again) = (connection_override(&action), connection_override(&again));
    let meant = press.is_meant();
    let (sender, answer) = oneshot::channel();
    match shared.opt_outs.take(press.call) {
        None => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(false) => drop(sender),
        Some(true) => {
            tokio::spawn(patiently(shared.clone(), press, sender).in_current_span());
        }
    }
    let document = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(Done::Taken(opt_out))) if meant => twiml::Response::opted_out(&opt_out),
        Ok(Ok(Done::Taken(opt_out))) => twiml::Response::opt_out_again(&opt_out, &action),
        Ok(Ok(Done::Forged)) => {
            tracing::warn!("refused: the signature is missing or wrong");
            return StatusCode::FORBIDDEN.into_response();
        }
        Ok(Ok(Done::NoSuchCall)) => twiml::Response::goodbye("Goodbye."),
        // Not yet: the database is away, or this call's key press is in hand already.
        Ok(Err(_)) | Err(_) if round < ROUNDS_MAX => twiml::Response::opt_out_in_a_moment(again),
        Ok(Err(_)) | Err(_) if meant => {
            twiml::Response::goodbye("We are removing you from our list. Goodbye.")
        }
        Ok(Err(_)) | Err(_) => twiml::Response::goodbye("Goodbye."),
    };
    match document.to_xml() {
        Ok(xml) => ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], xml).into_response(),
        Err(error) => {
            tracing::error!(%error, "an opt-out's answer cannot be written as TwiML");
            "<Response><Hangup/></Response>".into_response()
        }
    }
}

fn address(shared: &Shared, press: &Press) -> String {
    format!(
        "{}/twilio/opt-out/{}/{}?key={}",
        shared.public_url,
        press.tenant,
        press.call,
        encoded(&press.key)
    )
}

fn encoded(digits: &str) -> String {
    url::form_urlencoded::byte_serialize(digits.as_bytes()).collect()
}

/// Tries until it is decided, whatever becomes of the request that brought it.
async fn patiently(shared: Arc<Shared>, press: Press, answer: oneshot::Sender<Done>) {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(TRY_EVERY)
        .without_max_times()
        .with_jitter();
    let done = (|| once(&shared, &press))
        .retry(patience)
        .when(Error::is_transient)
        .notify(|error, _| tracing::warn!(%error, "cannot store an opt-out; it is tried again"))
        .await;
    shared.opt_outs.done(press.call);
    match done {
        // Nobody waits any more: the call comes back for it, or is over.
        Ok(done) => drop(answer.send(done)),
        Err(error) => tracing::error!(%error, "an opt-out cannot be stored"),
    }
}

async fn once(shared: &Shared, press: &Press) -> Result<Done> {
    let tokens = shared.accounts.tokens_of(&press.tenant).await?;
    if !callback::is_signed_with(shared, &tokens, &press.path, &press.params, &press.headers) {
        return Ok(Done::Forged);
    }
    match shared.store.opt_out(&press.tenant, press.call, press.is_meant()).await {
        Ok(taken) => Ok(Done::Taken(taken)),
        Err(Error::NotFound(what)) => {
            tracing::warn!(what, "a key press of a call that has no opt-out");
            Ok(Done::NoSuchCall)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_in_hand_once_and_there_is_an_end() {
        let in_hand = InHand::default();
        let call = |n: u128| CallId(uuid::Uuid::from_u128(n));
        assert_eq!(in_hand.take(call(0)), Some(true));
        assert_eq!(in_hand.take(call(0)), Some(false));
        for n in 1..IN_HAND_MAX {
            assert_eq!(in_hand.take(call(n as u128)), Some(true));
        }
        assert_eq!(in_hand.take(call(5_000)), None);
        in_hand.done(call(0));
        assert_eq!(in_hand.take(call(5_000)), Some(true));
    }

    #[test]
    fn keys_survive_the_address() {
        assert_eq!(
            (encoded("#"), encoded("*"), encoded("9")),
            ("%23".to_owned(), "*".to_owned(), "9".to_owned())
        );
    }
}
