//! Sends signed webhooks as Twilio does. The simulator is its user.

use std::time::Duration;

use super::http::{self, Roots};

/// Twilio's own connect timeout for webhooks.
/// <https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Twilio's own total timeout for webhooks.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Idle connections kept for each host that is called back.
const POOL_MAX_IDLE: usize = 256;
/// TwiML is at most 64 kB at Twilio; a status callback's answer is not read at all.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// Why a webhook got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection was made.
    #[error("not connected: {0}")]
    Connect(String),
    /// Connected, but no whole answer came in time.
    #[error("not answered: {0}")]
    Answer(String),
}

/// A pooled client for webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Poster {
    http: reqwest::Client,
}

impl Poster {
    /// A poster with Twilio's timeouts. Where the system has no certificates, webhooks over TLS
    /// fail as not connected and plain ones work.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        let build = |roots| http::build(CONNECT_TIMEOUT, REQUEST_TIMEOUT, POOL_MAX_IDLE, roots);
        let http = build(Roots::System)
            .or_else(|reason| {
                tracing::warn!(%reason, "webhooks over TLS will fail");
                build(Roots::None)
            })
            .map_err(Error::Connect)?;
        Ok(Self { http })
    }

    /// Posts `params` as a form with `X-Twilio-Signature: signature`; gives the HTTP status and the
    /// body.
    ///
    /// # Errors
    /// [`Error::Connect`] when no connection was made, [`Error::Answer`] for everything after it.
    pub async fn post_form(
        &self,
        url: &str,
        params: &[(String, String)],
        signature: &str,
    ) -> Result<(u16, String), Error> {
        self.send(self.http.post(url).form(params), signature).await
    }

    /// Gets `url`, whose query holds the parameters, with `X-Twilio-Signature: signature`; gives
    /// the HTTP status and the body.
    ///
    /// # Errors
    /// As [`Poster::post_form`].
    pub async fn get(&self, url: &str, signature: &str) -> Result<(u16, String), Error> {
        self.send(self.http.get(url), signature).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        signature: &str,
    ) -> Result<(u16, String), Error> {
        let request = request.header("X-Twilio-Signature", signature);
        let response = request.send().await.map_err(|error| {
            let refused = error.is_connect() || error.is_builder();
            let reason = http::describe(error);
            if refused { Error::Connect(reason) } else { Error::Answer(reason) }
        })?;
        let status = response.status().as_u16();
        let body = http::read_body(response, BODY_MAX_BYTES).await.map_err(Error::Answer)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
