//! Everything that the demo runs, on ports that were free.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Args;
use super::report::{Limits, Report};
use super::server::Server;
use crate::app::{App, Listeners};
use crate::cli::client::{self, Client};
use crate::cli::import::Pages;
use crate::cli::watch::Summary;
use crate::cli::{Error, simulate};
use crate::config::Config;
use crate::grpc::pb::new_job::Who;
use crate::grpc::pb::{
    AddJobsRequest, CreateRunRequest, NewJob, RetryPolicy, RunSettings, Script, SealRunRequest,
    StartRunRequest, script,
};
use crate::simulator::{self, SimAccount, Simulator};

/// The simulated account; nobody else's.
const ACCOUNT_SID: &str = "AC000000000000000000000000000de300";
/// Twilio's magic number for a caller id that works.
const CALLER_ID: &str = "+15005550006";

/// Calls made before the server is killed.
const KILL_AFTER_CALLS: usize = 250;

/// Everything that the demo runs.
pub(super) struct World {
    simulator: Simulator,
    /// Where gRPC is served.
    pub(super) endpoint: String,
    key: SecretString,
    /// A client of it.
    pub(super) client: Client,
    stop: CancellationToken,
    server: Server,
    simulating: JoinHandle<std::io::Result<()>>,
    /// The database, if it is to be deleted.
    _scratch: Option<TempDir>,
}

impl World {
    /// Starts it all.
    pub(super) async fn start(args: &Args, mut config: Config) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let token: String = hex::encode(rand::random::<[u8; 16]>());
        let simulator = Simulator::new(simulator::Config {
            accounts: vec![SimAccount {
                sid: ACCOUNT_SID.parse().map_err(|error| Error::Runtime(format!("{error}")))?,
                auth_token: token.clone().into(),
                calls_per_second: None,
            }],
            speed: args.speed,
            faults: simulate::faults(args.faults.then_some("lossy"))?,
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
        let (grpc_listen, webhooks_listen) = (grpc.local_addr()?, webhooks.local_addr()?);
        let scratch = if args.database_url.is_none() { Some(scratch(args.keep)?) } else { None };
        if let Some((url, _)) = &scratch {
            config.database_url = SecretString::from(url.clone());
        }
        let endpoint = format!("http://{grpc_listen}");
        config.grpc.listen = grpc_listen.to_string();
        config.webhooks.listen = webhooks_listen.to_string();
        config.public_url = Some(format!("http://{webhooks_listen}"));
        config.twilio.base_url = carrier_url;
        config.twilio.account_sid = Some(ACCOUNT_SID.into());
        config.twilio.auth_token = Some(SecretString::from(token));
        config.tenant.id = format!("demo-{}", hex::encode(rand::random::<[u8; 4]>()));
        config.tenant.caller_id = Some(CALLER_ID.into());
        // Invented people may be called at any hour.
        config.tenant.window.opens = "00:00".into();
        config.tenant.window.closes = "24:00".into();
        let checked = config.check_serve()?;
        let metrics = match checked.metrics_listen {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let app = App::prepare(checked).await?;
        let key = app
            .first_key
            .clone()
            .ok_or_else(|| Error::Runtime("the demo tenant has a key already".into()))?;
        let server = if args.faults {
            // Its own process, which can be killed; it binds the ports and opens the database
            // itself.
            drop((app, grpc, webhooks, metrics));
            Server::spawn(&config)?
        } else {
            let listeners = Listeners { grpc: Some(grpc), webhooks: Some(webhooks), metrics };
            Server::Here(tokio::spawn(app.serve(listeners, stop.clone())))
        };
        config.client.endpoint.clone_from(&endpoint);
        config.client.api_key = Some(key.clone());
        let client = server.connect(&config.check_client()?).await?;
        let _scratch = scratch.and_then(|(_, dir)| dir);
        Ok(Self { simulator, endpoint, key, client, stop, server, simulating, _scratch })
    }

    /// Creates, fills, seals and starts the run over gRPC, as any client would.
    pub(super) async fn create_run(&self, args: &Args) -> Result<String, Error> {
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
            let jobs = page?
                .into_iter()
                .map(|row| NewJob { who: Some(Who::Lead(row.facts)), ..NewJob::default() });
            let add = AddJobsRequest {
                request_id: client::request_id(),
                run_id: run.run_id.clone(),
                jobs: jobs.collect(),
            };
            let added = queue.add_jobs(add).await?.into_inner();
            println!("{} leads queued, {} rejected", added.added_count, added.rejected_count);
        }
        let (request_id, run_id) = (String::new(), run.run_id.clone());
        queue
            .seal_run(SealRunRequest { request_id: request_id.clone(), run_id: run_id.clone() })
            .await?;
        queue.start_run(StartRunRequest { request_id, run_id }).await?;
        Ok(run.run_id)
    }

    /// With faults: kills the server once half of the calls were made, and starts it again.
    pub(super) async fn kill_half_way(&self) -> Result<(), Error> {
        if let Server::Child(child) = &self.server {
            while self.simulator.ledger().entries.len() < KILL_AFTER_CALLS {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            println!("killing the server and starting it again");
            child.kill_and_restart().await?;
        }
        Ok(())
    }

    /// What the carrier saw, beside what was allowed.
    pub(super) fn report(&self, summary: &Summary, limits: Limits) -> Result<(), Error> {
        let report = Report::new(summary, &self.simulator.ledger(), limits);
        println!("\n{report}");
        match report.broken() {
            broken if broken.is_empty() => Ok(()),
            broken => Err(Error::Runtime(format!("broken: {}", broken.join("; ")))),
        }
    }

    /// How to look around.
    pub(super) fn tour(&self, run_id: &str, kept: bool) {
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

    /// Stops it all.
    pub(super) async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        let ended = |panic| Error::Runtime(format!("a server ended badly: {panic}"));
        match self.server {
            Server::Here(server) => server.await.map_err(ended)??,
            Server::Child(child) => child.stop().await?,
        }
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
