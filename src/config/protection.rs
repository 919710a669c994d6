//! Checks of what stands at the door: limits, TLS.

use std::path::PathBuf;

use super::check::Problems;
use super::{Config, PlanLimits, Problem};
use crate::domain::access::ClientAuth;
use crate::domain::plan::{Limits, Plan, Plans, Rate};

/// Streams open at once.
const STREAMS_MAX: std::ops::RangeInclusive<u32> = 1..=100_000;
/// Jobs queued at once.
const QUEUED_JOBS_MAX: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;
/// The largest batch of rows; a smaller burst could never take one.
const ROWS_BURST_MIN: u32 = 1_000;

/// TLS of the gRPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The server's certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Who signs client certificates; there if any are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// What a client certificate may do; none for the default.
    pub client_scopes: Option<Vec<String>>,
}

/// TLS of the client commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs the server's certificate; none for the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Config {
    pub(super) fn server_tls(&self, problems: &mut Problems) -> Option<ServerTls> {
        let tls = &self.tls;
        let both =
            pair(problems, ("tls.cert_file", &tls.cert_file), ("tls.key_file", &tls.key_file));
        let client_ca_file = tls.client_ca_file.as_ref().map(PathBuf::from);
        match (&client_ca_file, tls.client_auth) {
            (None, ClientAuth::Optional | ClientAuth::Required) => {
                let what =
                    "is missing: who signs the client certificates that tls.client_auth asks for";
                problems.0.push(Problem::of("tls.client_ca_file", what));
            }
            (Some(_), ClientAuth::None) => {
                let what = "must be optional or required, because tls.client_ca_file is set";
                problems.0.push(Problem::of("tls.client_auth", what));
            }
            (None, ClientAuth::None) | (Some(_), ClientAuth::Optional | ClientAuth::Required) => {}
        }
        if tls.client_auth != ClientAuth::None && tls.cert_file.is_none() {
            problems.0.push(Problem::of("tls.cert_file", "is missing: tls.client_auth needs it"));
        }
        let words = |text: &String| -> Vec<String> {
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let (cert_file, key_file) = both?;
        Some(ServerTls {
            cert_file,
            key_file,
            client_ca_file,
            client_auth: tls.client_auth,
            client_scopes: tls.client_scopes.as_ref().map(words),
        })
    }

    pub(super) fn client_tls(&self, problems: &mut Problems) -> ClientTls {
        let client = &self.client;
        let cert = ("client.cert_file", &client.cert_file);
        ClientTls {
            ca_file: client.ca_file.as_ref().map(PathBuf::from),
            identity: pair(problems, cert, ("client.key_file", &client.key_file)),
        }
    }

    pub(super) fn checked_limits(&self, problems: &mut Problems) -> Limits {
        let given = &self.limits;
        let mut limits = Limits::default();
        rate(problems, "limits.peer", given.peer.as_ref(), &mut limits.peer);
        limits.plans = Plans {
            standard: plan(problems, "limits.standard", &given.standard, Plan::STANDARD),
            high_volume: plan(
                problems,
                "limits.high_volume",
                &given.high_volume,
                Plan::HIGH_VOLUME,
            ),
        };
        limits
    }
}

/// Two files that are of use only together.
fn pair(
    problems: &mut Problems,
    (cert_key, cert): (&str, &Option<String>),
    (key_key, key): (&str, &Option<String>),
) -> Option<(PathBuf, PathBuf)> {
    let missing = |key: &str, other: &str| {
        Problem::of(key, format!("is missing: {other} is set, and each needs the other"))
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => {
            problems.0.push(missing(key_key, cert_key));
            None
        }
        (None, Some(_)) => {
            problems.0.push(missing(cert_key, key_key));
            None
        }
    }
}

fn rate(problems: &mut Problems, key: &str, given: Option<&String>, rate: &mut Rate) {
    if let Some(given) = given
        && let Some(given) = problems.take(key, given.parse())
    {
        *rate = given;
    }
}

fn plan(problems: &mut Problems, section: &str, given: &PlanLimits, mut plan: Plan) -> Plan {
    let key = |name: &str| format!("{section}.{name}");
    rate(problems, &key("read"), given.read.as_ref(), &mut plan.read);
    rate(problems, &key("write"), given.write.as_ref(), &mut plan.write);
    rate(problems, &key("stream"), given.stream.as_ref(), &mut plan.stream);
    rate(problems, &key("maintenance"), given.maintenance.as_ref(), &mut plan.maintenance);
    rate(problems, &key("rows"), given.rows.as_ref(), &mut plan.rows);
    if plan.rows.burst() < ROWS_BURST_MIN {
        let what = "must have a burst of at least 1000: a request may hold as many rows";
        problems.0.push(Problem::of(&key("rows"), what));
    }
    if let Some(max) = given.streams_max {
        problems.within(&key("streams_max"), max, &STREAMS_MAX);
        plan.streams_max = max;
    }
    if let Some(max) = given.queued_jobs_max {
        problems.within(&key("queued_jobs_max"), max, &QUEUED_JOBS_MAX);
        plan.queued_jobs_max = max;
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::HIGH_VOLUME;

    fn wrong(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        let mut problems = Problems::default();
        config.server_tls(&mut problems);
        config.client_tls(&mut problems);
        config.checked_limits(&mut problems);
        problems.0.into_iter().map(|problem| problem.setting).collect()
    }

    #[test]
    fn what_is_set_replaces_the_plans_own() {
        let mut config = Config::default();
        config.limits.high_volume.read = Some("7/s burst 9".into());
        config.limits.high_volume.queued_jobs_max = Some(12);
        let limits = config.checked_limits(&mut Problems::default());
        let plan = limits.plans.of(HIGH_VOLUME);
        assert_eq!((plan.read.to_string().as_str(), plan.queued_jobs_max), ("7/s burst 9", 12));
        assert_eq!(plan.write, Plan::HIGH_VOLUME.write);
        assert_eq!(limits.plans.standard, Plan::STANDARD);
    }

    #[test]
    fn each_bad_value_is_named() {
        assert_eq!(wrong(|_| ()), [""; 0]);
        assert_eq!(wrong(|c| c.limits.peer = Some("fast".into())), ["limits.peer"]);
        assert_eq!(
            wrong(|c| c.limits.standard.rows = Some("9/s burst 999".into())),
            ["limits.standard.rows"]
        );
        let zero = |c: &mut Config| c.limits.high_volume.streams_max = Some(0);
        assert_eq!(wrong(zero), ["limits.high_volume.streams_max"]);
        let zero = |c: &mut Config| c.limits.standard.queued_jobs_max = Some(0);
        assert_eq!(wrong(zero), ["limits.standard.queued_jobs_max"]);
        assert_eq!(wrong(|c| c.tls.cert_file = Some("a".into())), ["tls.key_file"]);
        assert_eq!(wrong(|c| c.tls.key_file = Some("a".into())), ["tls.cert_file"]);
        assert_eq!(wrong(|c| c.client.key_file = Some("a".into())), ["client.cert_file"]);
        assert_eq!(wrong(|c| c.tls.client_ca_file = Some("a".into())), ["tls.client_auth"]);
        let alone = |c: &mut Config| c.tls.client_auth = ClientAuth::Required;
        assert_eq!(wrong(alone), ["tls.client_ca_file", "tls.cert_file"]);
    }
}
