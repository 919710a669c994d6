//! Settings: flags over `TRUNKLINE_*` variables over `trunkline.toml` over defaults.
//!
//! [`Config::load`] reads them from an injected [`Source`] and refuses what it does not know.
//! [`Config::check_serve`] and [`Config::check_client`] turn them into checked values, or say
//! everything that is wrong at once. No other module reads the environment.

mod check;
mod parse;
mod protection;
mod sections;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;

pub use check::{Account, ApiKey, Endpoint, Pool, Roles, Serve};
pub use protection::{ClientTls, ServerTls};
pub use sections::{
    Client, Dialer, Grpc, Hooks, Limits, Log, LogFormat, Metrics, PlanLimits, Retention, Sealing,
    Tenant, Tls, Twilio, Webhooks, Window,
};
pub use source::{File, Flags, Source, this_program};

use sections::secret;

/// The file that is read from the working directory if no other is named.
pub const DEFAULT_FILE: &str = "trunkline.toml";
/// Twilio's own API.
pub const TWILIO_BASE_URL: &str = "https://api.twilio.com";

/// Every setting as it was given; not yet checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `sqlite://FILE` or `postgres://…`. Secret, because a PostgreSQL URL may carry a password.
    #[serde(deserialize_with = "secret")]
    pub database_url: SecretString,
    /// Where Twilio reaches the webhooks, for example `https://calls.example.com`.
    pub public_url: Option<String>,
    /// How long calls in hand may take to finish at shutdown, in milliseconds, 0 to 600,000.
    pub drain_timeout_ms: u64,
    /// What this process does: any of `api`, `webhooks`, `dialer`, separated by commas.
    pub roles: String,
    /// The gRPC server.
    pub grpc: Grpc,
    /// TLS of the gRPC server.
    pub tls: Tls,
    /// How much may come in.
    pub limits: Limits,
    /// The webhook server.
    pub webhooks: Webhooks,
    /// Where metrics are told.
    pub metrics: Metrics,
    /// Webhooks that go out to tenants.
    pub hooks: Hooks,
    /// The carrier account.
    pub twilio: Twilio,
    /// The tenant that `serve` makes sure exists.
    pub tenant: Tenant,
    /// How secrets in the store are sealed.
    pub sealing: Sealing,
    /// The dialer's worker.
    pub dialer: Dialer,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Log output.
    pub log: Log,
    /// The client commands (`run`, `lead`).
    pub client: Client,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: SecretString::from("sqlite://trunkline.db"),
            public_url: None,
            drain_timeout_ms: 25_000,
            roles: "api,webhooks,dialer".into(),
            grpc: Grpc::default(),
            tls: Tls::default(),
            limits: Limits::default(),
            webhooks: Webhooks::default(),
            metrics: Metrics::default(),
            hooks: Hooks::default(),
            twilio: Twilio::default(),
            tenant: Tenant::default(),
            sealing: Sealing::default(),
            dialer: Dialer::default(),
            retention: Retention::default(),
            log: Log::default(),
            client: Client::default(),
        }
    }
}

/// One thing that is wrong, and the way out. Never contains a value that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's key, for example `twilio.auth_token`, or the file or variable that cannot be
    /// read.
    pub setting: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: setting.into(), message: message.into() }
    }

    /// A problem with a known setting: says where it can be set.
    pub(crate) fn of(key: &str, message: impl fmt::Display) -> Self {
        Self::new(key, format!("{message} (set {})", source::ways(key)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Error {}
