//! `trunkline simulate`: a Twilio-compatible server.

use std::net::SocketAddr;

use crate::domain::AccountSid;
use crate::domain::pace::{CALLS_PER_SECOND_MAX, CALLS_PER_SECOND_MIN};

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

/// Calls a second, in the range that a tenant can have.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    within(text, CALLS_PER_SECOND_MIN, CALLS_PER_SECOND_MAX).ok_or("must be between 1/3600 and 10000".into())
}

/// A factor for time.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    within(text, 0.001, SPEED_MAX).ok_or("must be between 0.001 and 1000".into())
}

fn within(text: &str, least: f64, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}
