//! `trunkline demo`: the whole of it on one machine, against the simulator.

mod report;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{self, Client};
use super::csv::Leads;
use super::import::Pages;
use super::simulate::{rate, speed};
use super::watch::{self, Summary};
use super::{Error, csv, render, signals};
use crate::app::{App, Listeners};
use crate::config::{Config, Flags};
use crate::domain::run::CONCURRENCY_MAX;
use crate::grpc::pb::new_job::Who;
use crate::grpc::pb::{
    AddJobsRequest, CreateRunRequest, NewJob, RetryPolicy, RunSettings, Script, SealRunRequest,
    StartRunRequest, WatchView, script,
};
use crate::simulator::{self, SimAccount, Simulator};
use report::{Limits, Report};

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
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    pub concurrency: u32,
    /// Creates a second at most.
    #[arg(long, value_name = "RATE", default_value_t = 25.0, value_parser = rate)]
    pub calls_per_second: f64,
    /// How many times faster than life calls ring and last, up to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 20.0, value_parser = speed)]
    pub speed: f64,
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
    pub fn leads(&self) -> Result<Leads<Box<dyn Read + Send>>, csv::Error> {
        let Some(path) = &self.leads else {
            return Leads::new("leads.csv".into(), Box::new(Cursor::new(LEADS)));
        };
        let file = path.display().to_string();
        match File::open(path) {
            Ok(inner) => Leads::new(file, Box::new(inner)),
            Err(source) => Err(csv::Error::Io { file, source }),
        }
    }
}

/// The simulated account; nobody else's.
const ACCOUNT_SID: &str = "AC000000000000000000000000000de300";
/// Twilio's magic number for a caller id that works.
const CALLER_ID: &str = "+15005550006";

/// Everything that the demo runs, on ports that were free.
struct World {
    simulator: Simulator,
    endpoint: String,
    key: SecretString,
    client: Client,
    stop: CancellationToken,
    server: JoinHandle<Result<(), crate::app::Error>>,
    simulating: JoinHandle<std::io::Result<()>>,
    /// The database, if it is to be deleted.
    _scratch: Option<TempDir>,
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
        let summary = watch::follow(&mut queue, &run_id, WatchView::Progress, &mut *renderer).await?;
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

impl World {
    async fn start(args: &Args, mut config: Config) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let token: String = hex::encode(rand::random::<[u8; 16]>());
        let simulator = Simulator::new(simulator::Config {
            accounts: vec![SimAccount {
                sid: ACCOUNT_SID.parse().map_err(|error| Error::Runtime(format!("{error}")))?,
                auth_token: token.clone().into(),
                calls_per_second: None,
            }],
            speed: args.speed,
            ..simulator::Config::default()
        })?;
        let carrier = TcpListener::bind("127.0.0.1:0").await?;
        let carrier_url = format!("http://{}", carrier.local_addr()?);
        let simulating = tokio::spawn({
            let (simulator, stop) = (simulator.clone(), stop.clone());
            async move { simulator.serve(carrier, stop).await }
        });
        let (grpc, webhooks) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let scratch = if args.database_url.is_none() { Some(scratch(args.keep)?) } else { None };
        if let Some((url, _)) = &scratch {
            config.database_url = SecretString::from(url.clone());
        }
        let endpoint = format!("http://{}", grpc.local_addr()?);
        config.public_url = Some(format!("http://{}", webhooks.local_addr()?));
        config.twilio.base_url = carrier_url;
        config.twilio.account_sid = Some(ACCOUNT_SID.into());
        config.twilio.auth_token = Some(SecretString::from(token));
        config.tenant.id = format!("demo-{}", hex::encode(rand::random::<[u8; 4]>()));
        config.tenant.caller_id = Some(CALLER_ID.into());
        // Invented people may be called at any hour.
        config.tenant.window.opens = "00:00".into();
        config.tenant.window.closes = "24:00".into();
        let app = App::prepare(config.check_serve()?).await?;
        let key = app
            .first_key
            .clone()
            .ok_or_else(|| Error::Runtime("the demo tenant has a key already".into()))?;
        let listeners = Listeners { grpc: Some(grpc), webhooks: Some(webhooks) };
        let server = tokio::spawn(app.serve(listeners, stop.clone()));
        config.client.endpoint.clone_from(&endpoint);
        config.client.api_key = Some(key.clone());
        let client = Client::connect(&config.check_client()?).await?;
        let _scratch = scratch.and_then(|(_, dir)| dir);
        Ok(Self { simulator, endpoint, key, client, stop, server, simulating, _scratch })
    }

    /// Over gRPC, as any client would.
    async fn create_run(&self, args: &Args) -> Result<String, Error> {
        let say = script::Say {
            text: "Hello, this is a reminder of your appointment.".into(),
            ..Default::default()
        };
        let settings = RunSettings {
            name: "Demo".into(),
            script: Some(Script { kind: Some(script::Kind::Say(say)) }),
            retry: Some(RetryPolicy {
                max_attempts: 2,
                initial_delay: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
                ..RetryPolicy::default()
            }),
            ..RunSettings::default()
        };
        let create = CreateRunRequest { settings: Some(settings), ..CreateRunRequest::default() };
        let mut queue = self.client.queue.clone();
        let run = queue.create_run(create).await?.into_inner().run.unwrap_or_default();
        for page in Pages::new(args.leads()?) {
            let jobs =
                page?.into_iter().map(|row| NewJob { who: Some(Who::Lead(row.facts)), ..NewJob::default() });
            let add = AddJobsRequest {
                request_id: client::request_id(),
                run_id: run.run_id.clone(),
                jobs: jobs.collect(),
            };
            let added = queue.add_jobs(add).await?.into_inner();
            println!("{} leads queued, {} rejected", added.added_count, added.rejected_count);
        }
        let (request_id, run_id) = (String::new(), run.run_id.clone());
        queue.seal_run(SealRunRequest { request_id: request_id.clone(), run_id: run_id.clone() }).await?;
        queue.start_run(StartRunRequest { request_id, run_id }).await?;
        Ok(run.run_id)
    }

    /// What the carrier saw, beside what was allowed.
    fn report(&self, summary: &Summary, limits: Limits) -> Result<(), Error> {
        let report = Report::new(summary, &self.simulator.ledger(), limits);
        println!("\n{report}");
        match report.broken() {
            broken if broken.is_empty() => Ok(()),
            broken => Err(Error::Runtime(format!("broken: {}", broken.join("; ")))),
        }
    }

    fn tour(&self, run_id: &str, kept: bool) {
        let address = self.endpoint.trim_start_matches("http://");
        println!("\nLook around{}:", if kept { "" } else { " (with --keep the servers stay up)" });
        println!("  export TOKEN={}", self.key.expose_secret());
        for (method, body) in [
            ("GetRun", format!("{{\"run_id\": \"{run_id}\"}}")),
            ("ListJobs", format!("{{\"run_id\": \"{run_id}\", \"page_size\": 3}}")),
            ("ListCalls", format!("{{\"run_id\": \"{run_id}\", \"page_size\": 3}}")),
            ("WatchRun", format!("{{\"run_id\": \"{run_id}\"}}")),
        ] {
            println!(
                "  grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" -d '{body}' {address} \
                 trunkline.v1.OutboundQueue/{method}"
            );
        }
    }

    async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        let ended = |panic| Error::Runtime(format!("a server ended badly: {panic}"));
        self.server.await.map_err(ended)??;
        self.simulating.await.map_err(ended)??;
        Ok(())
    }
}

/// A database of its own, deleted afterwards unless it is kept.
fn scratch(keep: bool) -> Result<(String, Option<TempDir>), Error> {
    let dir = tempfile::Builder::new().prefix("trunkline-demo-").tempdir()?;
    let url = format!("sqlite://{}", dir.path().join("trunkline.db").display());
    if keep {
        println!("The database is {}", dir.keep().join("trunkline.db").display());
        return Ok((url, None));
    }
    Ok((url, Some(dir)))
}
