//! The composition root: build, spawn, drain. The only file that joins the parts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::callbacks;
use crate::carrier::{self, Client};
use crate::config::{self, Account, Problem, Serve};
use crate::dialer;
use crate::gateway::Gateway;
use crate::grpc;
use crate::grpc::auth::Rules;
use crate::grpc::methods::Scope;
use crate::grpc::tls::Tls;
use crate::metrics;
use crate::progress::Hub;
use crate::store::{
    self, AccountAccess, AccountCache, CarrierApiKey, CarrierSecrets, Keyring, Recorder, Store,
};
use crate::tasks;
use crate::webhooks;
use crate::webhooks::destinations::Destinations;

/// What a tenant's first key may do.
const FIRST_KEY_SCOPES: [&str; 8] = [
    "outbound:read",
    "outbound:write",
    "leads:read",
    "leads:write",
    "transfers:read",
    "transfers:write",
    "webhooks:read",
    "webhooks:write",
];
/// What the very first key may do as well: without it nobody could let anybody in.
const ADMIN: &str = "admin";

/// How often it is looked whether certificates have changed: tools that renew them do so days
/// ahead.
const CERTIFICATES_RELOAD_EVERY: Duration = Duration::from_secs(10);

/// A scrape waits this long for the store; Prometheus' own default is 10 s.
const TOTALS_MAX: Duration = Duration::from_secs(3);

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The carrier client.
    #[error("cannot set up the carrier client: {0}")]
    Carrier(#[from] carrier::Error),
    /// A setting that only shows to be wrong when it is used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A listener.
    #[error("{0}")]
    Listen(String),
    /// Another recorder of metrics in this process.
    #[error("cannot record metrics: {0}")]
    Metrics(String),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] grpc::tls::Error),
    /// Scopes that no key can have.
    #[error("tls.client_scopes names a scope that there is not: there are {0}")]
    Scopes(String),
    /// A server ended before it was told to.
    #[error("{0} failed: {1}")]
    Failed(&'static str, String),
    /// Work was left when the drain deadline passed.
    #[error(
        "not everything was finished within {0:?}; what was left is taken up at the next start"
    )]
    DrainTimeout(Duration),
}

/// Brings the schema of the database up to date; [`App::prepare`] does so as well.
pub async fn migrate(database_url: &str) -> Result<(), Error> {
    Store::open(database_url).await?;
    Ok(())
}

/// The sockets that the server listens on; bound by the caller, so that a port in use is an early
/// error.
pub struct Listeners {
    /// For gRPC; none without the role `api`.
    pub grpc: Option<TcpListener>,
    /// For the carrier; none without the role `webhooks`.
    pub webhooks: Option<TcpListener>,
    /// For metrics; none without `metrics.listen`.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the settings name.
    pub async fn bind(config: &Serve) -> Result<Self, Error> {
        let bind = async |wanted: bool, what, setting, address| {
            if !wanted {
                return Ok(None);
            }
            TcpListener::bind(address).await.map(Some).map_err(|error| {
                let way_out = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        format!("; stop what uses it or set {setting} to another address")
                    }
                    _ => String::new(),
                };
                Error::Listen(format!("cannot listen on {address} for {what}: {error}{way_out}"))
            })
        };
        Ok(Self {
            grpc: bind(config.roles.api, "gRPC", "grpc.listen", config.grpc_listen).await?,
            webhooks: bind(
                config.roles.webhooks,
                "webhooks",
                "webhooks.listen",
                config.webhooks_listen,
            )
            .await?,
            metrics: match config.metrics_listen {
                Some(address) => bind(true, "metrics", "metrics.listen", address).await?,
                None => None,
            },
        })
    }
}

/// A server whose store is open and whose tenant exists.
pub struct App {
    config: Serve,
    store: Store,
    carrier: carrier::Config,
    grpc: grpc::Config,
    hooks: webhooks::Client,
    recorded: Option<metrics::Recorded>,
    /// Printed once: the first API key of a tenant that had none, `<key id>.<secret>`.
    pub first_key: Option<SecretString>,
}

impl App {
    /// Opens the store, brings its schema up to date and makes sure that the tenant exists and has
    /// a key.
    pub async fn prepare(config: Serve) -> Result<Self, Error> {
        let carrier = carrier::Config {
            base_url: config.account.base_url.clone(),
            request_timeout: config.dialer.request_timeout,
            ..carrier::Config::default()
        };
        // What is wrong with it should show now, not at the first call.
        Client::new(carrier.clone())?;
        let recorded = config
            .metrics_listen
            .map(|_| metrics::install())
            .transpose()
            .map_err(Error::Metrics)?;
        let keyring = Keyring::parse(&config.sealing_keys).map_err(|violation| {
            config::Error::from(Problem::of(&violation.field, violation.reason))
        })?;
        let destinations = Destinations::parse(&config.hooks.allow).map_err(|violation| {
            config::Error::from(Problem::of(&violation.field, violation.reason))
        })?;
        let hooks = webhooks::Client::new(webhooks::Config {
            destinations,
            timeout: config.hooks.timeout,
        })?;
        let grpc = grpc::Config { hooks: Some(hooks.clone()), ..grpc_config(&config).await? };
        let store = Store::open_with(config.database_url.expose_secret(), keyring).await?;
        let store = store.with_plans(config.limits.plans.clone());
        let tenant = &config.tenant.id;
        if !store.put_account(&config.account.sid, config.account.calls_per_second).await? {
            tracing::info!(account = %config.account.sid, "changed over the API: twilio.calls_per_second is not used");
        }
        if !store.put_tenant(&config.tenant).await? {
            tracing::info!(%tenant, "changed over the API: the settings under [tenant] are not used");
        }
        let first_key = store.first_key(tenant, &FIRST_KEY_SCOPES, ADMIN).await?;
        Ok(Self { config, store, carrier, grpc, hooks, recorded, first_key })
    }

    /// Serves until `shutdown`, then drains: no claim after the signal, what is under way is
    /// finished and recorded, streams are told, all within the drain timeout.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let Self { config, store, carrier, grpc: grpc_config, hooks, recorded, .. } = self;
        let accounts =
            AccountCache::new(store.clone(), config.account.sid.clone(), access(&config.account));
        let recorder = Recorder::new(store.clone());
        let dialing = shutdown.child_token();
        // Callbacks and answers are taken until the last call under way is recorded.
        let hearing = CancellationToken::new();
        let dialer_config = dialer::Config {
            permits: config.dialer.permits,
            horizon: config.dialer.horizon,
            public_url: config.public_url.clone(),
            accounts: accounts.clone(),
            carrier: carrier.clone(),
            keep_logs: config.keep_logs,
        };
        let mut servers: JoinSet<Result<(), Error>> = JoinSet::new();
        let working = shutdown.child_token();
        let (dialer, tasks, outside) = if config.roles.dialer {
            let dialer = dialer::run(store.clone(), recorder.clone(), dialer_config, dialing);
            let (disable_after, public_url) =
                (config.hooks.disable_after, config.public_url.clone());
            let timing = tasks::Config::default;
            let inside = tasks::run(store.clone(), timing(), working.clone());
            let sender = Arc::new(webhooks::Sender { client: hooks, disable_after });
            let deliver = deliver_with(sender, store.clone());
            let outside = tasks::run_outside(store.clone(), deliver, timing(), working.clone());
            let gateway = Gateway::new(accounts.clone(), carrier);
            let saga = tasks::Saga::new(store.clone(), recorder.clone(), gateway, &public_url);
            let transfers = tasks::run_transfers(saga, timing(), working);
            let tasks = async {
                tokio::join!(inside, transfers);
            };
            (Some(tokio::spawn(dialer)), Some(tokio::spawn(tasks)), Some(tokio::spawn(outside)))
        } else {
            (None, None, None)
        };
        if let Some(listener) = listeners.grpc {
            let (store, stop) = (store.clone(), shutdown.child_token());
            servers.spawn(async move {
                let hub = Hub::new(store.clone());
                let served = grpc::serve(listener, store, hub, grpc_config, stop).await;
                served.map_err(|error| Error::Failed("the gRPC server", error.to_string()))
            });
        }
        if let Some((listener, recorded)) = listeners.metrics.zip(recorded) {
            let (store, stop) = (store.clone(), hearing.clone());
            servers.spawn(async move {
                let served =
                    metrics::serve(listener, recorded, move || count(store.clone()), stop).await;
                served.map_err(|error| Error::Failed("the metrics server", error.to_string()))
            });
        }
        if let Some(listener) = listeners.webhooks {
            let (stop, public_url) = (hearing.clone(), config.public_url.clone());
            servers.spawn(async move {
                let served =
                    callbacks::serve(listener, store, recorder, accounts, &public_url, stop).await;
                served.map_err(|error| Error::Failed("the webhook server", error.to_string()))
            });
        }
        // A server that ends before it is told to takes everything down, orderly.
        let early = tokio::select! {
            () = shutdown.cancelled() => None,
            Some(ended) = servers.join_next() => Some(ended),
        };
        tracing::info!("draining");
        shutdown.cancel();
        let drained = tokio::time::timeout(config.drain_timeout, async {
            // A panic of either was logged where it happened; draining goes on.
            for worker in [dialer, tasks, outside].into_iter().flatten() {
                let _ = worker.await;
            }
            hearing.cancel();
            let mut result = early.map_or(Ok(()), flatten);
            while let Some(ended) = servers.join_next().await {
                result = result.and(flatten(ended));
            }
            result
        });
        drained.await.unwrap_or(Err(Error::DrainTimeout(config.drain_timeout)))
    }
}

/// The gRPC server's settings; its certificate is read now.
async fn grpc_config(config: &Serve) -> Result<grpc::Config, Error> {
    let mut rules =
        Rules { health: config.health, reflection: config.reflection, ..Rules::default() };
    let tls = if let Some(given) = &config.tls {
        if let Some(scopes) = &given.client_scopes {
            let known = Scope::ALL.map(Scope::as_str);
            if scopes.iter().any(|scope| !known.contains(&scope.as_str())) {
                return Err(Error::Scopes(known.join(", ")));
            }
            rules.certificate_scopes.clone_from(scopes);
        }
        let files = grpc::tls::Config {
            cert_file: given.cert_file.clone(),
            key_file: given.key_file.clone(),
            client_ca_file: given.client_ca_file.clone(),
            client_auth: given.client_auth,
            reload_every: CERTIFICATES_RELOAD_EVERY,
        };
        Some(Tls::new(files).await?)
    } else {
        None
    };
    Ok(grpc::Config { rules, tls, limits: config.limits.clone(), ..grpc::Config::default() })
}

/// Sets the gauges to what there is.
fn count(store: Store) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        match tokio::time::timeout(TOTALS_MAX, store.totals()).await {
            Ok(Ok(totals)) => metrics::set_totals(&totals),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot count what there is");
                metrics::store_is_down();
            }
            Err(_) => metrics::store_is_down(),
        }
    })
}

/// Joins the executor of tasks to webhooks, which do not know each other.
fn deliver_with(sender: Arc<webhooks::Sender>, store: Store) -> tasks::Deliver {
    Arc::new(move |task| {
        let (sender, store) = (sender.clone(), store.clone());
        Box::pin(async move { sender.deliver(&store, &task).await })
    })
}

fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|panic| Err(Error::Failed("a server", panic.to_string())))
}

/// The account that settings name; counts until the store has credentials of it.
fn access(account: &Account) -> AccountAccess {
    let api_key = account.api_key.as_ref();
    AccountAccess {
        base_url: None,
        secrets: CarrierSecrets {
            auth_token: account.auth_token.clone(),
            previous_auth_token: account.previous_auth_token.clone(),
            api_key: api_key
                .map(|key| CarrierApiKey { sid: key.sid.clone(), secret: key.secret.clone() }),
        },
    }
}
