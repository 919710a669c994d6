//! `trunkline demo`: the whole of it on one machine, against the simulator.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use super::csv::{Error, Leads};
use super::simulate::{rate, speed};
use crate::config::Flags;
use crate::domain::run::CONCURRENCY_MAX;

/// The leads that come with the program: people who do not exist.
pub const LEADS: &str = include_str!("../../examples/leads.csv");

/// Calls 500 invented people through the simulator and shows the run live. Needs no account.
// Has no `Debug`: the database URL may carry a password.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the database and the servers running afterwards.
    #[arg(long)]
    pub keep: bool,
    /// sqlite://FILE or postgres://… [default: a database that is deleted afterwards]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// A CSV file of leads [default: 500 that come with the program]
    #[arg(long, value_name = "FILE.csv")]
    pub leads: Option<PathBuf>,
    /// Live calls at most, 1 to 10,000.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    pub concurrency: u32,
    /// Creates a second at most.
    #[arg(long, value_name = "RATE", default_value_t = 25.0, value_parser = rate)]
    pub calls_per_second: f64,
    /// How many times faster than life calls ring and last, up to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 20.0, value_parser = speed)]
    pub speed: f64,
    /// Faults to inject: a profile's name, or JSON.
    #[arg(long, value_name = "PROFILE|JSON")]
    pub faults: Option<String>,
}

impl Args {
    /// The settings that these flags override.
    pub fn flags(&self, flags: &mut Flags) {
        flags.set("database_url", self.database_url.as_ref());
        flags.set("tenant.max_concurrent_calls", Some(self.concurrency));
        flags.set("tenant.calls_per_second", Some(self.calls_per_second));
        flags.set("twilio.calls_per_second", Some(self.calls_per_second));
    }

    /// The leads to call, one by one.
    pub fn leads(&self) -> Result<Leads<Box<dyn Read + Send>>, Error> {
        let Some(path) = &self.leads else {
            return Leads::new("leads.csv".into(), Box::new(Cursor::new(LEADS)));
        };
        let file = path.display().to_string();
        match File::open(path) {
            Ok(inner) => Leads::new(file, Box::new(inner)),
            Err(source) => Err(Error::Io { file, source }),
        }
    }
}
