//! `trunkline simulate`: a Twilio-compatible server.

use std::net::SocketAddr;

use secrecy::SecretString;
use tokio::net::TcpListener;

use super::{Error, signals};
use crate::domain::AccountSid;
use crate::domain::pace::{CALLS_PER_SECOND_MAX, CALLS_PER_SECOND_MIN};
use crate::simulator::{self, Faults, SimAccount};

/// The fastest that simulated calls may go.
const SPEED_MAX: f64 = 1_000.0;

/// Runs a Twilio-compatible server: point `twilio.base_url` at it and no call is paid for.
// Has no `Debug`: someone may try the simulator with a real token.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4010")]
    pub listen: SocketAddr,
    /// The account that may call.
    #[arg(long, value_name = "SID", default_value = "AC00000000000000000000000000004010")]
    pub account_sid: AccountSid,
    /// The account's token: of the simulator, never a real one.
    #[arg(long, value_name = "TOKEN", default_value = "simulator")]
    pub auth_token: String,
    /// Creates a second that are taken before 429.
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = rate)]
    pub calls_per_second: f64,
    /// How many times faster than life calls ring and last, up to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// The same seed gives the same outcomes [default: another each time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Faults to inject: a profile's name, or JSON.
    #[arg(long, value_name = "PROFILE|JSON")]
    pub faults: Option<String>,
}

/// Serves until SIGTERM or SIGINT.
pub async fn execute(args: Args) -> Result<(), Error> {
    let account = SimAccount {
        sid: args.account_sid,
        auth_token: SecretString::from(args.auth_token),
        calls_per_second: Some(args.calls_per_second),
    };
    let config = simulator::Config {
        accounts: vec![account],
        seed: args.seed.unwrap_or_else(rand::random),
        speed: args.speed,
        faults: faults(args.faults.as_deref())?,
        ..simulator::Config::default()
    };
    let cannot = |error| {
        Error::Runtime(format!(
            "cannot listen on {}: {error}; name another with --listen",
            args.listen
        ))
    };
    let listener = TcpListener::bind(args.listen).await.map_err(cannot)?;
    println!("simulating Twilio on http://{} (seed {})", listener.local_addr()?, config.seed);
    simulator::serve(listener, config, signals::shutdown()).await?;
    Ok(())
}

/// Faults by the name of a profile or as JSON.
pub(super) fn faults(given: Option<&str>) -> Result<Faults, Error> {
    let lossy = Faults {
        create_lost: 0.02,
        create_500_after: 0.01,
        create_500_before: 0.01,
        create_429: 0.02,
        callback_lost: 0.02,
        callback_duplicated: 0.1,
        callback_reordered: 0.1,
        ..Faults::default()
    };
    match given {
        None | Some("none") => Ok(Faults::default()),
        Some("lossy") => Ok(lossy),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            Error::Usage(format!(
                "--faults must be none, lossy, or JSON such as {{\"create_lost\": 0.02}}: {error}"
            ))
        }),
    }
}

/// Calls a second, in the range that a tenant can have.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    within(text, CALLS_PER_SECOND_MIN, CALLS_PER_SECOND_MAX)
        .ok_or("must be between 1/3600 and 10000".into())
}

/// A factor for time.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    within(text, 0.001, SPEED_MAX).ok_or("must be between 0.001 and 1000".into())
}

fn within(text: &str, least: f64, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}
