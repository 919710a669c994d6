//! From settings as they were given to values that can be used, or everything that is wrong with
//! them.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::parse::{address, api_key_sid, base_url, http_url, minute, token_like};
use super::protection::{ClientTls, ServerTls};
use super::{Config, Error, Problem};
use crate::domain::access::Exposure;
use crate::domain::script::Script;
use crate::domain::window::{ALL_DAYS, CallingWindow};
use crate::domain::{AccountSid, Phone, TenantId, Timestamp, pace, plan, tenant};

/// Requests to the carrier at a time.
const PERMITS: RangeInclusive<u32> = 1..=1_000;
/// Milliseconds; the upper end is what the dialer's 20 s bound on a claim's age leaves room for.
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 100..=15_000;
/// Up to ten years.
const LOGS_DAYS: RangeInclusive<u32> = 1..=3_650;
/// Milliseconds.
const HORIZON_MS: RangeInclusive<u64> = 0..=1_000;
/// Milliseconds; the upper end is what a claim of a task leaves room for.
const HOOK_TIMEOUT_MS: RangeInclusive<u64> = 100..=20_000;
/// Seconds, up to 30 days.
const DISABLE_AFTER_S: RangeInclusive<u64> = 1..=2_592_000;
/// Milliseconds.
const DRAIN_TIMEOUT_MS: RangeInclusive<u64> = 0..=600_000;
/// The longest API key, in bytes.
const API_KEY_MAX_BYTES: usize = 500;

/// What `serve` runs on: every value checked.
#[derive(Debug, Clone)]
pub struct Serve {
    /// `sqlite:` or `postgres:`.
    pub database_url: SecretString,
    /// Where the gRPC server listens.
    pub grpc_listen: SocketAddr,
    /// Who may call health.
    pub health: Exposure,
    /// Who may ask for the protos.
    pub reflection: Exposure,
    /// The gRPC server's certificate; none serves plain text.
    pub tls: Option<ServerTls>,
    /// How much may come in.
    pub limits: plan::Limits,
    /// Where the webhook server listens.
    pub webhooks_listen: SocketAddr,
    /// Where metrics are told; nowhere without it.
    pub metrics_listen: Option<SocketAddr>,
    /// Webhooks that go out to tenants.
    pub hooks: Hooks,
    /// Where Twilio reaches the webhooks; `https` unless the host is loopback; no query, no
    /// fragment.
    pub public_url: Url,
    /// The carrier account.
    pub account: Account,
    /// The tenant that must exist; dials through the account.
    pub tenant: tenant::Tenant,
    /// Master keys as they were given; whoever builds the key ring checks them. Empty without any.
    pub sealing_keys: SecretString,
    /// The dialer's worker.
    pub dialer: Pool,
    /// How long calls in hand may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// How long the log of a run or transfer is kept after its end.
    pub keep_logs: Duration,
    /// What this process does.
    pub roles: Roles,
}

/// What a process does; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Serves gRPC.
    pub api: bool,
    /// Hears the carrier's callbacks.
    pub webhooks: bool,
    /// Dials.
    pub dialer: bool,
}

impl Roles {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut roles = Self { api: false, webhooks: false, dialer: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "api" => roles.api = true,
                "webhooks" => roles.webhooks = true,
                "dialer" => roles.dialer = true,
                _ => return Err("must be any of api, webhooks and dialer, separated by commas"),
            }
        }
        if roles.api || roles.webhooks || roles.dialer {
            Ok(roles)
        } else {
            Err("must name at least one role")
        }
    }
}

/// A carrier account.
#[derive(Debug, Clone)]
pub struct Account {
    /// The API; `https` unless the host is loopback.
    pub base_url: Url,
    /// Whose account.
    pub sid: AccountSid,
    /// Signs webhooks, and REST requests if there is no API key.
    pub auth_token: SecretString,
    /// Webhooks signed with it are accepted as well.
    pub previous_auth_token: Option<SecretString>,
    /// Signs REST requests.
    pub api_key: Option<ApiKey>,
    /// Creates a second at most.
    pub calls_per_second: f64,
}

/// An API key of the carrier's.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its id: at Twilio `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// Its secret.
    pub secret: SecretString,
}

/// The dialer's worker.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Requests to the carrier at a time, 1 to 1,000.
    pub permits: usize,
    /// How long one request may take, up to 15 s.
    pub request_timeout: Duration,
    /// How far ahead of its time a call may be claimed, up to 1 s.
    pub horizon: Duration,
}

/// Webhooks that go out to tenants.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// Exceptions as they were given; whoever builds the guard checks them.
    pub allow: String,
    /// How long a receiver may take to answer, up to 20 s.
    pub timeout: Duration,
    /// An endpoint to which nothing could be delivered for so long is disabled.
    pub disable_after: Duration,
}

/// A server and the key to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http` or `https`.
    pub url: Url,
    /// `<key id>.<secret>`: printable ASCII. None where a client certificate stands for it.
    pub api_key: Option<SecretString>,
    /// Certificates, beside the system's authorities.
    pub tls: ClientTls,
}

#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn take<T>(&mut self, key: &str, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.0.push(Problem::of(key, error))).ok()
    }

    fn required<'a, T: ?Sized>(
        &mut self,
        key: &str,
        value: Option<&'a T>,
        what: &str,
    ) -> Option<&'a T> {
        self.take(key, value.ok_or(format!("is missing: {what}")))
    }

    pub(super) fn within<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.0.push(Problem::of(key, format!("must be {} to {}", range.start(), range.end())));
        }
    }
}

impl Config {
    /// What `serve` runs on, or every reason why it cannot.
    pub fn check_serve(&self) -> Result<Serve, Error> {
        let mut problems = Problems::default();
        let database_url = problems.take("database_url", self.checked_database_url());
        let roles = problems.take("roles", Roles::parse(&self.roles));
        let grpc_listen = problems.take("grpc.listen", address(&self.grpc.listen));
        let webhooks_listen = problems.take("webhooks.listen", address(&self.webhooks.listen));
        let metrics_listen = self.metrics.listen.as_deref();
        let metrics_listen =
            metrics_listen.and_then(|text| problems.take("metrics.listen", address(text)));
        let what =
            "the URL at which Twilio reaches the webhooks, for example https://calls.example.com";
        let public_url = problems
            .required("public_url", self.public_url.as_deref(), what)
            .and_then(|text| problems.take("public_url", base_url(text)));
        let tls = self.server_tls(&mut problems);
        let limits = self.checked_limits(&mut problems);
        let account = self.account(&mut problems);
        let tenant =
            self.checked_tenant(account.as_ref().map(|account| &account.sid), &mut problems);
        problems.within("dialer.permits", self.dialer.permits, &PERMITS);
        problems.within(
            "dialer.request_timeout_ms",
            self.dialer.request_timeout_ms,
            &REQUEST_TIMEOUT_MS,
        );
        problems.within("dialer.horizon_ms", self.dialer.horizon_ms, &HORIZON_MS);
        problems.within("retention.logs_days", self.retention.logs_days, &LOGS_DAYS);
        problems.within("hooks.timeout_ms", self.hooks.timeout_ms, &HOOK_TIMEOUT_MS);
        problems.within("hooks.disable_after_s", self.hooks.disable_after_s, &DISABLE_AFTER_S);
        problems.within("drain_timeout_ms", self.drain_timeout_ms, &DRAIN_TIMEOUT_MS);
        let all = (database_url, roles, grpc_listen, webhooks_listen, public_url, account, tenant);
        let (
            Some(database_url),
            Some(roles),
            Some(grpc_listen),
            Some(webhooks_listen),
            Some(public_url),
            Some(account),
            Some(tenant),
        ) = all
        else {
            return Err(Error { problems: problems.0 });
        };
        if !problems.0.is_empty() {
            return Err(Error { problems: problems.0 });
        }
        Ok(Serve {
            database_url,
            grpc_listen,
            health: self.grpc.health,
            reflection: self.grpc.reflection,
            tls,
            limits,
            webhooks_listen,
            metrics_listen,
            hooks: Hooks {
                allow: self.hooks.allow.clone(),
                timeout: Duration::from_millis(self.hooks.timeout_ms),
                disable_after: Duration::from_secs(self.hooks.disable_after_s),
            },
            public_url,
            account,
            tenant,
            sealing_keys: self.sealing.keys.clone().unwrap_or_default(),
            dialer: Pool {
                permits: self.dialer.permits as usize,
                request_timeout: Duration::from_millis(self.dialer.request_timeout_ms),
                horizon: Duration::from_millis(self.dialer.horizon_ms),
            },
            keep_logs: Duration::from_secs(u64::from(self.retention.logs_days) * 86_400),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
            roles,
        })
    }

    /// The database alone, for `migrate`.
    pub fn check_database(&self) -> Result<SecretString, Error> {
        self.checked_database_url().map_err(|error| Problem::of("database_url", error).into())
    }

    /// What the client commands need, or every reason why it is not there.
    pub fn check_client(&self) -> Result<Endpoint, Error> {
        let mut problems = Problems::default();
        let url = problems.take("client.endpoint", http_url(&self.client.endpoint));
        let tls = self.client_tls(&mut problems);
        let api_key = self.client.api_key.as_ref().and_then(|key| {
            let text = key.expose_secret();
            let fits = text.len() <= API_KEY_MAX_BYTES
                && text.bytes().all(|byte| byte.is_ascii_graphic())
                && text
                    .split_once('.')
                    .is_some_and(|(id, secret)| !id.is_empty() && !secret.is_empty());
            problems.take(
                "client.api_key",
                if fits { Ok(key.clone()) } else { Err("must be <key id>.<secret>") },
            )
        });
        if self.client.api_key.is_none() && tls.identity.is_none() {
            problems.0.push(Problem::of("client.api_key", "is missing: an API key of the tenant"));
        }
        match url {
            Some(url) if problems.0.is_empty() => Ok(Endpoint { url, api_key, tls }),
            _ => Err(Error { problems: problems.0 }),
        }
    }

    fn checked_database_url(&self) -> Result<SecretString, &'static str> {
        let scheme =
            self.database_url.expose_secret().split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "sqlite" | "postgres" | "postgresql" => Ok(self.database_url.clone()),
            _ => Err("must begin with sqlite: or postgres:"),
        }
    }

    fn account(&self, problems: &mut Problems) -> Option<Account> {
        let twilio = &self.twilio;
        let base_url = problems.take("twilio.base_url", base_url(&twilio.base_url));
        let what = "the account's SID, from the Twilio console";
        let sid = problems
            .required("twilio.account_sid", twilio.account_sid.as_deref(), what)
            .and_then(|sid| {
                problems.take("twilio.account_sid", sid.parse::<AccountSid>().map_err(|v| v.reason))
            });
        let what = "the account's auth token, from the Twilio console";
        let auth_token = problems
            .required("twilio.auth_token", twilio.auth_token.as_ref(), what)
            .and_then(|token| problems.take("twilio.auth_token", token_like(token)));
        let previous = twilio.previous_auth_token.as_ref();
        let previous = previous
            .and_then(|token| problems.take("twilio.previous_auth_token", token_like(token)));
        let api_key = match (&twilio.api_key_sid, &twilio.api_key_secret) {
            (Some(sid), Some(secret)) => {
                let sid = problems.take("twilio.api_key_sid", api_key_sid(sid));
                let secret = problems.take("twilio.api_key_secret", token_like(secret));
                sid.zip(secret).map(|(sid, secret)| ApiKey { sid, secret })
            }
            (None, None) => None,
            (Some(_), None) => problems.take(
                "twilio.api_key_secret",
                Err("is missing: twilio.api_key_sid is set, and each needs the other"),
            ),
            (None, Some(_)) => problems.take(
                "twilio.api_key_sid",
                Err("is missing: twilio.api_key_secret is set, and each needs the other"),
            ),
        };
        let paced = pace::Meter::new(twilio.calls_per_second, Timestamp(0));
        problems.take("twilio.calls_per_second", paced.map_err(|violation| violation.reason))?;
        Some(Account {
            base_url: base_url?,
            sid: sid?,
            auth_token: auth_token?,
            previous_auth_token: previous,
            api_key,
            calls_per_second: twilio.calls_per_second,
        })
    }

    fn checked_tenant(
        &self,
        account: Option<&AccountSid>,
        problems: &mut Problems,
    ) -> Option<tenant::Tenant> {
        let given = &self.tenant;
        let id = problems
            .take("tenant.id", given.id.parse::<TenantId>().map_err(|violation| violation.reason));
        let what = "the number shown to callees, one that the Twilio account may call from";
        let caller_id = problems
            .required("tenant.caller_id", given.caller_id.as_deref(), what)
            .and_then(|phone| {
                problems.take("tenant.caller_id", phone.parse::<Phone>().map_err(|v| v.reason))
            });
        let opens = problems.take("tenant.window.opens", minute(&given.window.opens));
        let closes = problems.take("tenant.window.closes", minute(&given.window.closes));
        let window = opens.zip(closes).and_then(|(opens_minute, closes_minute)| {
            let window = CallingWindow { opens_minute, closes_minute, weekdays: ALL_DAYS };
            let ordered = window.check().map_err(|_| "must be after tenant.window.opens");
            problems.take("tenant.window.closes", ordered).map(|()| window)
        });
        // Checked even if something above is missing, so that all problems show at once.
        let probe = tenant::Tenant {
            max_concurrent_calls: given.max_concurrent_calls,
            calls_per_second: given.calls_per_second,
            time_zone: given.time_zone.clone(),
            window: window.unwrap_or_default(),
            region: given.region.clone().filter(|region| !region.is_empty()),
            greeting: given.greeting.clone().map(|text| Script::Say {
                text,
                voice: None,
                language: None,
            }),
            ..tenant::Tenant::new(
                id.clone().or_else(|| "x".parse().ok())?,
                account.cloned().or_else(|| format!("AC{:032}", 0).parse().ok())?,
                caller_id.clone().unwrap_or_else(|| Phone::from_stored(String::new())),
            )
        };
        if let Err(violation) = probe.check() {
            problems.0.push(Problem::of(&format!("tenant.{}", violation.field), violation.reason));
            return None;
        }
        (id.is_some() && caller_id.is_some() && window.is_some() && account.is_some())
            .then_some(probe)
    }
}
