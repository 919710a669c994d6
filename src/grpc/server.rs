//! The gRPC server: settings, layers, health, reflection, and a drain under a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;
use tower::layer::util::{Identity, Stack};

use super::auth::{Auth, Rules};
use super::deadline::Deadline;
use super::limits::{Limits, PeerLimit, TenantLimit};
use super::pb::leads_server::{LeadsServer, SERVICE_NAME as LEADS};
use super::pb::outbound_queue_server::{OutboundQueueServer, SERVICE_NAME as OUTBOUND_QUEUE};
use super::pb::tenants_server::{SERVICE_NAME as TENANTS, TenantsServer};
use super::pb::transfers_server::{SERVICE_NAME as TRANSFERS, TransfersServer};
use super::pb::webhooks_server::{SERVICE_NAME as WEBHOOKS, WebhooksServer};
use super::service::Shared;
use super::tls::Tls;
use super::trace::Trace;
use super::{leads, outbound_queue, pb, tenants, transfers, webhooks};
use crate::domain::access::Exposure;
use crate::domain::plan;
use crate::progress::Hub;
use crate::store::Store;

/// How often the store is asked whether it answers.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A store that takes longer does not serve.
const PING_MAX: Duration = Duration::from_secs(3);
/// What health is told of: the server as a whole, and each service.
const HEALTH_NAMES: [&str; 6] = ["", OUTBOUND_QUEUE, LEADS, TENANTS, TRANSFERS, WEBHOOKS];

/// How the server listens.
#[derive(Clone)]
pub struct Config {
    /// The largest request taken, decompressed, in bytes.
    pub max_message_bytes: usize,
    /// How often an idle connection is pinged.
    pub keepalive_interval: Duration,
    /// How long the answer to a ping may take before the connection is closed.
    pub keepalive_timeout: Duration,
    /// Requests at once on one connection, watches included.
    pub max_concurrent_streams: u32,
    /// The largest set of request headers, in bytes.
    pub max_header_bytes: u32,
    /// Streams that a client may open and reset before they are accepted; more close the connection
    /// (CVE-2023-44487).
    pub max_pending_resets: usize,
    /// The longest that a unary call may take, whatever the client's deadline.
    pub unary_max: Duration,
    /// How long a drain waits for calls under way: longer than PauseRun takes.
    pub drain_max: Duration,
    /// Who may ask for the protos, who may ask for health, and what a client certificate may do.
    pub rules: Rules,
    /// How much may come in.
    pub limits: plan::Limits,
    /// None serves plain text.
    pub tls: Option<Tls>,
    /// How tenants' endpoints for webhooks are reached; none leaves the service out.
    pub hooks: Option<crate::webhooks::Client>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            max_concurrent_streams: 1_000,
            max_header_bytes: 16 * 1024,
            max_pending_resets: 20,
            unary_max: Duration::from_secs(60),
            drain_max: Duration::from_secs(25),
            rules: Rules::default(),
            limits: plan::Limits::default(),
            tls: None,
            hooks: None,
        }
    }
}

/// Why the server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener or the transport failed.
    #[error("gRPC transport: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors compiled into this binary are damaged.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves on `listener` until `shutdown`; then says NOT_SERVING, ends watches with UNAVAILABLE,
/// refuses new calls and waits up to [`Config::drain_max`] for those under way.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    hub: Hub,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let draining = CancellationToken::new();
    let (tasks, limits) = (TaskTracker::new(), Limits::new(&config.limits));
    let shared = Shared {
        store: store.clone(),
        hub,
        draining: draining.clone(),
        tasks: tasks.clone(),
        limits: Arc::clone(&limits),
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    tell(&reporter, ServingStatus::NotServing).await;
    let auth = Auth::new(store.clone(), config.rules.clone());
    let noting = tokio::spawn(auth.clone().note_uses(shutdown.clone()));
    let mut router = router(&config, shared, auth)?;
    if config.rules.health != Exposure::Off {
        router = router.add_service(health);
    }
    let serving = serve_router(router, listener, config.tls.clone(), draining.clone());
    let reporting = async {
        watch_health(&reporter, &store, &shutdown).await;
        tell(&reporter, ServingStatus::NotServing).await;
        // Only now: whoever asks for health while we drain is told the truth.
        draining.cancel();
        sleep(config.drain_max).await;
    };
    tokio::select! {
        served = serving => served?,
        () = limits.prune() => {}
        () = reporting => tracing::warn!("the drain took too long; connections are cut"),
    }
    // Its panic, if any, was logged where it happened.
    let _ = noting.await;
    // Use cases whose clients went away finish as well.
    tasks.close();
    if timeout(config.drain_max, tasks.wait()).await.is_err() {
        tracing::warn!(
            left = tasks.len(),
            "use cases were still under way at the end of the drain"
        );
    }
    Ok(())
}

async fn serve_router(
    router: Router<Layers>,
    listener: TcpListener,
    tls: Option<Tls>,
    draining: CancellationToken,
) -> Result<(), Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stop = draining.cancelled_owned();
    match tls {
        None => router.serve_with_incoming_shutdown(incoming, stop).await?,
        Some(tls) => {
            let serving = router.serve_with_incoming_shutdown(tls.accept(incoming), stop);
            tokio::select! {
                served = serving => served?,
                () = tls.reload() => {}
            }
        }
    }
    Ok(())
}

type Outer = Stack<Deadline, Stack<PeerLimit, Stack<Trace, Identity>>>;
type Layers = Stack<Stack<TenantLimit, Stack<Auth, Outer>>, Identity>;

fn router(config: &Config, shared: Shared, auth: Auth) -> Result<Router<Layers>, Error> {
    // The deadline stands before authentication: looking up a key takes time, too (ADR 9).
    let layers = ServiceBuilder::new()
        .layer(Trace)
        .layer(PeerLimit::new(Arc::clone(&shared.limits)))
        .layer(Deadline::new(config.unary_max, shared.draining.clone()))
        .layer(auth)
        .layer(TenantLimit::new(Arc::clone(&shared.limits)))
        .into_inner();
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .max_concurrent_streams(config.max_concurrent_streams)
        .http2_max_header_list_size(config.max_header_bytes)
        .http2_max_pending_accept_reset_streams(Some(config.max_pending_resets))
        .layer(layers);
    let outbound_queue = OutboundQueueServer::new(outbound_queue::Service(shared.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.max_message_bytes);
    let leads = LeadsServer::new(leads::Service(shared.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.max_message_bytes);
    let transfers = TransfersServer::new(transfers::Service(shared.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.max_message_bytes);
    let tenants = TenantsServer::new(tenants::Service(shared.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.max_message_bytes);
    let router = server.add_service(outbound_queue).add_service(leads).add_service(transfers);
    let router = router.add_service(tenants);
    let router = match &config.hooks {
        None => router,
        Some(client) => router.add_service(
            WebhooksServer::new(webhooks::Service { shared, client: client.clone() })
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(config.max_message_bytes),
        ),
    };
    if config.rules.reflection == Exposure::Off {
        return Ok(router);
    }
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router =
        router.add_service(descriptors().build_v1()?).add_service(descriptors().build_v1alpha()?);
    Ok(router)
}

/// Reports whether the store answers, until `shutdown`.
async fn watch_health(reporter: &HealthReporter, store: &Store, shutdown: &CancellationToken) {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was = None;
    loop {
        let answered = tokio::select! {
            () = shutdown.cancelled() => return,
            answered = async {
                ticks.tick().await;
                matches!(timeout(PING_MAX, store.ping()).await, Ok(Ok(())))
            } => answered,
        };
        if was == Some(answered) {
            continue;
        }
        was = Some(answered);
        let status = if answered { ServingStatus::Serving } else { ServingStatus::NotServing };
        tracing::info!(%status, "health");
        tell(reporter, status).await;
    }
}

async fn tell(reporter: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}
