//! One struct per subsystem, with its defaults.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::TWILIO_BASE_URL;
use crate::domain::access::{ClientAuth, Exposure};
use crate::domain::tenant::{DEFAULT_CALLS_PER_SECOND, DEFAULT_MAX_CONCURRENT_CALLS};

/// The gRPC server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Grpc {
    /// Address and port to listen on.
    pub listen: String,
    /// Who may call `grpc.health.v1.Health`.
    pub health: Exposure,
    /// Who may ask for the protos.
    pub reflection: Exposure,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50051".into(),
            health: Exposure::Open,
            reflection: Exposure::Open,
        }
    }
}

/// TLS of the gRPC server; plain text without a certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// PEM: the server's certificate, then those that signed it. Read again when it changes.
    pub cert_file: Option<String>,
    /// PEM: its private key. Read again when it changes.
    pub key_file: Option<String>,
    /// PEM: who signs client certificates. Read again when it changes.
    pub client_ca_file: Option<String>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// What a client certificate may do: scopes, separated by commas; all but `admin` unless set.
    pub client_scopes: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            client_auth: ClientAuth::None,
            client_scopes: None,
        }
    }
}

/// How much may come in, in each process. Rates are like `200/s burst 1000`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Requests from one address, IPv6 by /64, before it is known whose they are.
    pub peer: Option<String>,
    /// What tenants of the plan `standard` may use.
    pub standard: PlanLimits,
    /// What tenants of the plan `high_volume` may use.
    pub high_volume: PlanLimits,
}

/// What a tenant may use; what is not set is as the plan has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PlanLimits {
    /// Requests that read.
    pub read: Option<String>,
    /// Requests that write.
    pub write: Option<String>,
    /// Streams opened.
    pub stream: Option<String>,
    /// Maintenance requests.
    pub maintenance: Option<String>,
    /// Jobs and leads; the burst is at least 1,000.
    pub rows: Option<String>,
    /// Streams open at once, 1 to 100,000.
    pub streams_max: Option<u32>,
    /// Jobs queued at once over all processes, 1 to 1,000,000,000.
    pub queued_jobs_max: Option<u64>,
}

/// The webhook server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Webhooks {
    /// Address and port to listen on.
    pub listen: String,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".into() }
    }
}

/// The carrier account.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Twilio {
    /// Twilio's API, an edge of it, a compatible carrier, or the simulator; may have a path.
    pub base_url: String,
    /// The account's id at the carrier: at Twilio `AC` and 32 hexadecimal digits.
    pub account_sid: Option<String>,
    /// The account's auth token; signs webhooks, and REST requests unless an API key is given.
    #[serde(deserialize_with = "optional_secret")]
    pub auth_token: Option<SecretString>,
    /// The auth token before a rotation; webhooks signed with it are still accepted.
    #[serde(deserialize_with = "optional_secret")]
    pub previous_auth_token: Option<SecretString>,
    /// A REST API key: at Twilio `SK` and 32 hexadecimal digits.
    pub api_key_sid: Option<String>,
    /// The API key's secret.
    #[serde(deserialize_with = "optional_secret")]
    pub api_key_secret: Option<SecretString>,
    /// Creates a second at most over all tenants of the account, 1/3600 to 10,000.
    pub calls_per_second: f64,
}

impl Default for Twilio {
    fn default() -> Self {
        Self {
            base_url: TWILIO_BASE_URL.into(),
            account_sid: None,
            auth_token: None,
            previous_auth_token: None,
            api_key_sid: None,
            api_key_secret: None,
            calls_per_second: DEFAULT_CALLS_PER_SECOND,
        }
    }
}

/// The tenant that `serve` makes sure exists.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub struct Tenant {
    /// 1 to 40 characters of `a-z`, `0-9` and inner `-`.
    pub id: String,
    /// The number shown to callees, E.164.
    pub caller_id: Option<String>,
    /// Live calls at most, 1 to 10,000.
    pub max_concurrent_calls: u32,
    /// Creates a second at most, 1/3600 to 10,000.
    pub calls_per_second: f64,
    /// IANA name; for leads that name none and whose number has none.
    pub time_zone: String,
    /// When callees may be called, for runs that name no window.
    pub window: Window,
    /// ISO 3166-1 alpha-2 code that national phones are read with when nobody names another.
    pub region: Option<String>,
    /// What is said to those who call the caller id; without it, an apology.
    pub greeting: Option<String>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            id: "default".into(),
            caller_id: None,
            max_concurrent_calls: DEFAULT_MAX_CONCURRENT_CALLS,
            calls_per_second: DEFAULT_CALLS_PER_SECOND,
            time_zone: "UTC".into(),
            window: Window::default(),
            region: None,
            greeting: None,
        }
    }
}

/// Leaves the caller id out: it is a phone number, and still plain text here.
impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("id", &self.id)
            .field("max_concurrent_calls", &self.max_concurrent_calls)
            .field("calls_per_second", &self.calls_per_second)
            .field("time_zone", &self.time_zone)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// A daily calling window by the callee's clock.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Window {
    /// `HH:MM`, 00:00 to 23:59: from here calls may start.
    pub opens: String,
    /// `HH:MM`, after `opens`, up to 24:00: from here none may start.
    pub closes: String,
}

impl Default for Window {
    fn default() -> Self {
        Self { opens: "08:00".into(), closes: "21:00".into() }
    }
}

/// Where metrics are told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Address and port of `GET /metrics`; without it nothing is recorded.
    pub listen: Option<String>,
}

/// Webhooks that go out to tenants.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Targets beside the public internet: addresses, networks in CIDR notation and host names,
    /// separated by commas.
    pub allow: String,
    /// How long a receiver may take to answer, in milliseconds, 100 to 20,000.
    pub timeout_ms: u64,
    /// An endpoint to which nothing could be delivered for so long is disabled, in seconds, 1 to
    /// 2,592,000.
    pub disable_after_s: u64,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { allow: String::new(), timeout_ms: 10_000, disable_after_s: 3 * 24 * 3_600 }
    }
}

/// How secrets in the store are sealed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sealing {
    /// Master keys: `<id>:<64 hexadecimal digits>`, separated by commas. The first seals, all open.
    #[serde(deserialize_with = "optional_secret")]
    pub keys: Option<SecretString>,
}

/// The dialer's worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Dialer {
    /// Calls of runs that are being sent at a time, 1 to 1,000; also how many intents of theirs a
    /// crash can leave open.
    pub permits: u32,
    /// How long one request to the carrier may take, in milliseconds, 100 to 15,000.
    pub request_timeout_ms: u64,
    /// How far ahead of its time a call may be claimed, in milliseconds, 0 to 1,000.
    pub horizon_ms: u64,
}

impl Default for Dialer {
    fn default() -> Self {
        Self { permits: 32, request_timeout_ms: 15_000, horizon_ms: 250 }
    }
}

/// How long what is over is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// The log of a run or transfer, from its end on, in days, 1 to 3,650. A watch cannot be
    /// resumed after that.
    pub logs_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { logs_days: 90 }
    }
}

/// Log output, on stderr.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// What is logged, in the syntax of tracing's `EnvFilter`, for example `info,trunkline=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, filter: "warn,trunkline=info".into() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The client commands.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Client {
    /// The gRPC server, `http://` or `https://`.
    pub endpoint: String,
    /// `<key id>.<secret>`.
    #[serde(deserialize_with = "optional_secret")]
    pub api_key: Option<SecretString>,
    /// PEM: who signs the server's certificate, instead of the system's authorities.
    pub ca_file: Option<String>,
    /// PEM: a client certificate; stands for a key if there is none.
    pub cert_file: Option<String>,
    /// PEM: its private key.
    pub key_file: Option<String>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:50051".into(),
            api_key: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
