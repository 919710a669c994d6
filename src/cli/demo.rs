//! `trunkline demo`: the whole of it on one machine, against the simulator.

mod report;
mod server;
mod world;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use super::csv::Leads;
use super::simulate::{rate, speed};
use super::{Error, csv, render, signals, watch};
use crate::config::{Config, Flags};
use crate::domain::run::CONCURRENCY_MAX;
use crate::grpc::pb::WatchView;
use report::Limits;
use world::World;

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
    /// Where GET /metrics is answered, for example 127.0.0.1:9464 [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// A CSV file of leads [default: 500 that come with the program]
    #[arg(long, value_name = "FILE.csv")]
    pub leads: Option<PathBuf>,
    /// Live calls at most, 1 to 10,000.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    pub concurrency: u32,
    /// Creates a second at most.
    #[arg(long, value_name = "RATE", default_value_t = 25.0, value_parser = rate)]
    pub calls_per_second: f64,
    /// How many times faster than life calls ring and last, up to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 20.0, value_parser = speed)]
    pub speed: f64,
    /// Lose answers, lose, repeat and reorder callbacks, and kill the server half-way. Takes some
    /// minutes.
    #[arg(long, conflicts_with = "keep")]
    pub faults: bool,
}

impl Args {
    /// The settings that these flags override.
    pub fn flags(&self, flags: &mut Flags) {
        flags.set("database_url", self.database_url.as_ref());
        flags.set("metrics.listen", self.metrics_listen.as_ref());
        flags.set("tenant.max_concurrent_calls", Some(self.concurrency));
        flags.set("tenant.calls_per_second", Some(self.calls_per_second));
        flags.set("twilio.calls_per_second", Some(self.calls_per_second));
    }

    /// The leads to call, one by one.
    pub fn leads(&self) -> Result<Leads<Box<dyn Read + Send>>, csv::Error> {
        let Some(path) = &self.leads else {
            return Leads::new("leads.csv".into(), Box::new(Cursor::new(LEADS)), &[]);
        };
        let file = path.display().to_string();
        match File::open(path) {
            Ok(inner) => Leads::new(file, Box::new(inner), &[]),
            Err(source) => Err(csv::Error::Io { file, source }),
        }
    }
}

/// Runs the demo; an error if an invariant was broken.
pub async fn execute(args: Args, config: Config) -> Result<(), Error> {
    let signal = signals::shutdown();
    let limits = Limits { concurrent: args.concurrency, calls_per_second: args.calls_per_second };
    let world = World::start(&args, config).await?;
    println!(
        "Trunkline listens on {}, simulated Twilio behind it. At most {} live calls, {} new calls a second.\n",
        world.endpoint, limits.concurrent, limits.calls_per_second
    );
    let run = async {
        let run_id = world.create_run(&args).await?;
        let mut renderer = render::choose(false, false);
        let mut queue = world.client.queue.clone();
        let following = watch::follow(&mut queue, &run_id, WatchView::Progress, &mut *renderer);
        let (summary, ()) = tokio::try_join!(following, world.kill_half_way())?;
        Ok::<_, Error>((run_id, summary))
    };
    let Some(done) = signal.run_until_cancelled(run).await else {
        world.stop().await?;
        return Err(Error::Runtime("interrupted".into()));
    };
    let (run_id, summary) = done?;
    let verdict = world.report(&summary, limits);
    world.tour(&run_id, args.keep);
    if args.keep {
        println!("\nKept running; press Ctrl-C to end it.");
        signal.cancelled().await;
    }
    world.stop().await?;
    verdict
}
