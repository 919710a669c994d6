//! What the carrier tells us: verify the signature, parse, store, and only then answer.
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>

mod accounts;
mod callback;
mod opt_out;
mod transfer;
mod voice;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use url::Url;

pub use accounts::Accounts;

use crate::store::{AccountCache, Recorder, Store};

/// The largest callback: Twilio's have about 2 KiB.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Callbacks in hand at a time; further ones wait in the listener.
const IN_HAND_MAX: usize = 2_048;
/// Twilio gives a webhook 15 s; an answer after that is of no use.
const ANSWER_WITHIN: Duration = Duration::from_secs(14);

/// What handlers share.
struct Shared {
    store: Store,
    recorder: Recorder,
    accounts: Accounts,
    /// Without a slash at the end. Signatures are checked against it, never against the Host
    /// header.
    public_url: String,
    /// Key presses that are being stored.
    opt_outs: opt_out::InHand,
}

/// Serves callbacks until `shutdown`, then finishes those in hand.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    recorder: Recorder,
    book: AccountCache,
    public_url: &Url,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        recorder,
        accounts: Accounts::new(store.clone(), book),
        store,
        public_url: public_url.as_str().trim_end_matches('/').to_owned(),
        opt_outs: opt_out::InHand::default(),
    });
    let app = Router::new()
        .route("/twilio/status/{tenant}/{call_id}", post(callback::status))
        .route("/twilio/amd/{tenant}/{call_id}", post(callback::amd))
        .route("/twilio/opt-out/{tenant}/{call_id}", post(opt_out::opt_out))
        // Calls to us: what every number of every account is set to, once, in Twilio's console.
        .route("/twilio/voice", post(voice::voice))
        .route("/twilio/voice/status", post(voice::status))
        .route("/twilio/transfers/{tenant}/{transfer}/{*ask}", post(transfer::ask))
        .layer(ServiceBuilder::new().layer(GlobalConcurrencyLimitLayer::new(IN_HAND_MAX)))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .route("/healthz", get(|| async { StatusCode::NO_CONTENT }))
        .with_state(shared);
    axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
