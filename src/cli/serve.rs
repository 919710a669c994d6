//! `trunkline serve`: the control plane.

use std::net::SocketAddr;

use secrecy::ExposeSecret;
use tokio::net::TcpListener;

use super::{Error, signals};
use crate::app::{App, Listeners};
use crate::config::{Config, Flags};

/// Runs the control plane; everything else comes from the environment and `trunkline.toml`.
// Has no `Debug`: the database URL may carry a password.
#[derive(clap::Args)]
pub struct Args {
    /// sqlite://FILE or postgres://… [default: sqlite://trunkline.db]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the gRPC server listens [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub grpc_listen: Option<String>,
    /// Where the webhook server listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub webhooks_listen: Option<String>,
    /// Where GET /metrics is answered, for example 127.0.0.1:9464 [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// What this process does: any of api, webhooks, dialer, separated by commas [default: all]
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
    /// Where Twilio reaches the webhooks; https unless the host is this machine.
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
}

impl Args {
    /// The settings that these flags override.
    pub fn flags(&self, flags: &mut Flags) {
        flags.set("database_url", self.database_url.as_ref());
        flags.set("grpc.listen", self.grpc_listen.as_ref());
        flags.set("webhooks.listen", self.webhooks_listen.as_ref());
        flags.set("metrics.listen", self.metrics_listen.as_ref());
        flags.set("roles", self.roles.as_ref());
        flags.set("public_url", self.public_url.as_ref());
    }
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn execute(config: &Config) -> Result<(), Error> {
    let config = config.check_serve()?;
    let listeners = Listeners::bind(&config).await?;
    // The real ports, also where port 0 was asked for; none for a role that this process does not
    // have.
    let port =
        |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
    let address =
        |address: Option<SocketAddr>| address.map_or("-".to_owned(), |address| address.to_string());
    let (grpc, webhooks) = (address(port(&listeners.grpc)?), address(port(&listeners.webhooks)?));
    let metrics = address(port(&listeners.metrics)?);
    let tenant = config.tenant.id.clone();
    let app = App::prepare(config).await?;
    if let Some(key) = &app.first_key {
        // To stdout, where it can be kept apart from the log, and only this once.
        println!("The first API key of tenant {tenant}, shown only now:\n{}", key.expose_secret());
    }
    tracing::info!(grpc, webhooks, metrics, "listening");
    app.serve(listeners, signals::shutdown()).await?;
    Ok(())
}
