//! The pooled HTTP client under [`Client`](super::Client) and the simulator's webhooks.

use std::error::Error as _;
use std::time::Duration;

use super::error::redact;

/// A connection idle for this long is closed. Shorter than a load balancer's own limit (60 s is
/// common), so that a request seldom meets a connection that the far side is closing: such a
/// request is lost ambiguously.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Twilio's answers are a few kilobytes, a page of 1,000 calls about one megabyte.
pub(crate) const BODY_MAX_BYTES: usize = 4 << 20;

/// Makes *ring* the process's TLS provider, unless one is installed already. Idempotent.
pub fn install_tls_provider() {
    // The error says only that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whose certificates are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Those of the system; there must be some.
    System,
    /// Nobody's: only plain HTTP can connect. A bare container has no certificates, and needs none
    /// to simulate.
    None,
}

/// A client that does exactly what it is told: no redirects, no retries, no proxy from the
/// environment.
pub(crate) fn build(
    connect_timeout: Duration,
    request_timeout: Duration,
    pool_max_idle_per_host: usize,
    roots: Roots,
) -> Result<reqwest::Client, String> {
    builder(connect_timeout, request_timeout, pool_max_idle_per_host, roots)
        .build()
        .map_err(describe)
}

/// The same, to be added to.
pub(crate) fn builder(
    connect_timeout: Duration,
    request_timeout: Duration,
    pool_max_idle_per_host: usize,
    roots: Roots,
) -> reqwest::ClientBuilder {
    install_tls_provider();
    let builder = match roots {
        Roots::System => reqwest::Client::builder(),
        Roots::None => reqwest::Client::builder().tls_certs_only([]),
    };
    builder
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .timeout(request_timeout)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(pool_max_idle_per_host)
        .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
}

/// The body, unless it is longer than `max` bytes or breaks off.
pub(crate) async fn read_body(
    mut response: reqwest::Response,
    max: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > max {
            return Err(format!("the answer is longer than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error and its causes, without the URL (its query may hold a phone number), numbers masked.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    redact(&text)
}
