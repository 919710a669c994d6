//! The way to the server: one channel, the API key on every request, retries where they are safe.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use secrecy::ExposeSecret;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::Error;
use crate::config::Endpoint;
use crate::grpc::pb::leads_client::LeadsClient;
use crate::grpc::pb::outbound_queue_client::OutboundQueueClient;
use crate::grpc::pb::tenants_client::TenantsClient;
use crate::grpc::pb::transfers_client::TransfersClient;
use crate::grpc::pb::webhooks_client::WebhooksClient;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is probed, and how long the answer to that may
/// take: a watch that hears nothing must learn that its server is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long an ordinary request may take. `PauseRun` and its kin may take 20 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried again when the server is away.
const RETRIES: usize = 5;
/// The first wait between two tries.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(200);
/// The longest wait between two tries.
pub(super) const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// A channel that sends the API key along.
pub type Service = InterceptedService<Channel, Bearer>;
/// The outbound queue's client.
pub type Queue = OutboundQueueClient<Service>;

/// Clients of every service, on one connection; cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// Runs, jobs and calls.
    pub queue: Queue,
    /// People.
    pub leads: LeadsClient<Service>,
    /// Tenants, carrier accounts, keys.
    pub tenants: TenantsClient<Service>,
    /// Live callers, to humans.
    pub transfers: TransfersClient<Service>,
    /// Endpoints for webhooks.
    pub webhooks: WebhooksClient<Service>,
}

impl Client {
    /// Connects to the server.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let bearer = Bearer::new(endpoint)?;
        let mut builder = Channel::from_shared(endpoint.url.to_string())
            .map_err(|error| Error::Usage(format!("client.endpoint: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .user_agent(concat!("trunkline-cli/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Error::Runtime(error.to_string()))?;
        if endpoint.url.scheme() == "https" {
            let tls = tls(endpoint)?;
            builder = builder.tls_config(tls).map_err(|error| Error::Runtime(causes(&error)))?;
        }
        let channel = builder.connect().await.map_err(|error| {
            Error::Runtime(format!(
                "cannot connect to {}: {}; is the server running?",
                endpoint.url,
                causes(&error)
            ))
        })?;
        Ok(Self::over(channel, bearer))
    }

    fn over(channel: Channel, bearer: Bearer) -> Self {
        let service = InterceptedService::new(channel, bearer);
        let gzip = CompressionEncoding::Gzip;
        Self {
            queue: OutboundQueueClient::new(service.clone())
                .send_compressed(gzip)
                .accept_compressed(gzip),
            leads: LeadsClient::new(service.clone()).send_compressed(gzip).accept_compressed(gzip),
            transfers: TransfersClient::new(service.clone())
                .send_compressed(gzip)
                .accept_compressed(gzip),
            webhooks: WebhooksClient::new(service.clone())
                .send_compressed(gzip)
                .accept_compressed(gzip),
            tenants: TenantsClient::new(service).send_compressed(gzip).accept_compressed(gzip),
        }
    }
}

/// The server is checked against the system's authorities, or those of `client.ca_file` alone.
fn tls(endpoint: &Endpoint) -> Result<ClientTlsConfig, Error> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &endpoint.tls.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_enabled_roots(),
    };
    if let Some((cert, key)) = &endpoint.tls.identity {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

/// An error with what caused it: tonic's own says only "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Adds the API key to each request, if there is one.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        let Some(key) = &endpoint.api_key else { return Ok(Self(None)) };
        let text = format!("Bearer {}", key.expose_secret());
        let mut value = MetadataValue::try_from(text)
            .map_err(|_| Error::Usage("client.api_key has characters that no key has".into()))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A new id for a mutating request: with it the request may be repeated.
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// Waits between tries; without an end.
pub(super) fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_DELAY_MIN)
        .with_max_delay(RETRY_DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

/// How long the server asks to wait, if that is short: a quota that is used up fills again within
/// seconds.
fn short_wait(status: &Status) -> Option<Duration> {
    let wait = status.get_details_retry_info()?.retry_delay?;
    (status.code() == Code::ResourceExhausted && wait <= RETRY_DELAY_MAX).then_some(wait)
}

/// Sends `message` with `send`, again while the server is away or asks to wait a little. `message`
/// must be safe to repeat: a read, or a write with a `request_id`.
pub async fn call<M: Clone, T, F, Fut>(message: &M, send: F) -> Result<T, Error>
where
    F: Fn(Request<M>) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let attempt = || async {
        let mut request = Request::new(message.clone());
        request.set_timeout(REQUEST_TIMEOUT);
        send(request).await
    };
    let tries = ExponentialBuilder::default()
        .with_min_delay(RETRY_DELAY_MIN)
        .with_max_delay(RETRY_DELAY_MAX)
        .with_max_times(RETRIES)
        .with_jitter();
    let answer = attempt
        .retry(tries)
        .when(|status| is_away(status) || short_wait(status).is_some())
        .adjust(|status, wait| wait.map(|wait| short_wait(status).unwrap_or(wait)))
        .await;
    Ok(answer?.into_inner())
}

/// Whether the server could not be reached, went away in the middle, or drains: another try may
/// succeed.
pub fn is_away(status: &Status) -> bool {
    // A status that carries a source was made here out of a transport error; the server's own have
    // none.
    let made_here = std::error::Error::source(status).is_some();
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => made_here,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn endpoint() -> Endpoint {
        let mut config = Config::default();
        config.client.endpoint = "http://127.0.0.1:1".into();
        config.client.api_key = Some("id.hunter2".into());
        config.check_client().unwrap()
    }

    #[test]
    fn the_key_rides_along_and_does_not_print() {
        let request = Bearer::new(&endpoint()).unwrap().call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer id.hunter2");
        assert!(!format!("{request:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let error = Client::connect(&endpoint()).await.err().unwrap().to_string();
        assert!(error.starts_with("cannot connect to http://127.0.0.1:1/: "), "{error}");
        assert!(error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn repeats_only_while_the_server_is_away() {
        let tries = std::cell::Cell::new(0);
        let answer = call(&7, |request| {
            tries.set(tries.get() + 1);
            let tries = tries.get();
            async move {
                if tries < 3 {
                    Err(Status::unavailable("draining"))
                } else {
                    Ok(Response::new(request.into_inner()))
                }
            }
        });
        assert_eq!(answer.await.unwrap(), 7);
        assert_eq!(tries.get(), 3);
        let refused = call(&7, |_| async { Err::<Response<()>, _>(Status::not_found("no")) }).await;
        assert!(matches!(refused, Err(Error::Status(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_it_is_asked_to_if_that_is_short() {
        let over = |seconds| {
            let mut details = tonic_types::ErrorDetails::new();
            details.set_retry_info(Some(Duration::from_secs(seconds)));
            Status::with_error_details(Code::ResourceExhausted, "over", details)
        };
        let (started, tries) = (tokio::time::Instant::now(), std::cell::Cell::new(0));
        let answer = call(&7, |request| {
            let first = tries.replace(1) == 0;
            async move { if first { Err(over(3)) } else { Ok(Response::new(request.into_inner())) } }
        });
        assert_eq!(answer.await.unwrap(), 7);
        assert_eq!(started.elapsed().as_secs(), 3);
        let refused = call(&7, |_| async { Err::<Response<()>, _>(over(41)) }).await;
        assert!(matches!(refused, Err(Error::Status(_))));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[test]
    fn tells_transport_errors_from_the_servers() {
        assert!(is_away(&Status::unavailable("x")));
        assert!(!is_away(&Status::unknown("x")));
        assert!(is_away(&Status::from_error(Box::new(std::io::Error::other("reset")))));
        assert!(!is_away(&Status::out_of_range("x")));
    }
}
