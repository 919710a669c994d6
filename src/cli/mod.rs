//! The command line: parse, configure, dispatch.

pub mod account;
pub mod audit;
pub mod client;
mod create;
pub mod csv;
pub mod demo;
mod display;
mod error;
mod forecast;
mod import;
pub mod key;
pub mod lead;
pub mod logging;
pub mod maintain;
pub mod migrate;
pub mod output;
pub mod render;
pub mod run;
pub mod serve;
mod signals;
pub mod simulate;
pub mod suppression;
pub mod task;
pub mod tenant;
mod transfer;
pub mod watch;
mod webhook;
pub mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use error::{EXIT_RUNTIME, EXIT_USAGE, Error};

use crate::config::{Config, Flags, Source};
use client::Client;
use output::Output;

/// The largest key file, in bytes.
const KEY_FILE_MAX_BYTES: usize = 4_096;

/// A multi-tenant gRPC telephony control plane: paced outbound calling on Twilio, never twice.
// Has no `Debug`: flags may carry secrets.
#[derive(Parser)]
#[command(name = "trunkline", version, propagate_version = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Settings come from flags, then TRUNKLINE_* variables (sections by two underscores, for example
TRUNKLINE_TWILIO__AUTH_TOKEN), then trunkline.toml, then defaults.
Exit codes: 0 done, 1 failed, 2 put wrongly or not configured.";

/// What every command takes.
#[derive(clap::Args)]
pub struct Global {
    /// The settings file [default: trunkline.toml, if there is one]
    #[arg(long, help_heading = "Everywhere", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The gRPC server that client commands talk to [default: http://127.0.0.1:50051]
    #[arg(long, help_heading = "Everywhere", global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// A file that holds the API key; or set TRUNKLINE_CLIENT__API_KEY.
    #[arg(long, help_heading = "Everywhere", global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// What is logged, for example info,trunkline=debug.
    #[arg(long, help_heading = "Everywhere", global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// JSON instead of tables and bars.
    #[arg(long, help_heading = "Everywhere", global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Runs the control plane.
    Serve(serve::Args),
    /// Runs a Twilio-compatible server for tests and rehearsals.
    Simulate(simulate::Args),
    /// Brings the database's schema up to date.
    Migrate(migrate::Args),
    /// Shows it all on this machine, against the simulator.
    Demo(demo::Args),
    /// Works with runs.
    #[command(subcommand)]
    Run(run::Command),
    /// Works with leads.
    #[command(subcommand)]
    Lead(lead::Command),
    /// Works with suppressions: phones that must not be dialed.
    #[command(subcommand)]
    Suppression(suppression::Command),
    /// Works with background tasks.
    #[command(subcommand)]
    Task(task::Command),
    /// Works with transfers of live callers.
    #[command(subcommand)]
    Transfer(transfer::Command),
    /// Works with endpoints for webhooks.
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// Administers tenants.
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Administers API keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Administers carrier accounts.
    #[command(subcommand)]
    Account(account::Command),
    /// Shows who changed what.
    Audit(audit::Args),
}

impl Cli {
    /// The settings: these flags over the environment over the file over the defaults.
    pub fn config(&self) -> Result<Config, Error> {
        let mut flags = Flags::default();
        flags.set("client.endpoint", self.global.endpoint.as_ref());
        flags.set("log.filter", self.global.log.as_ref());
        flags.set("client.api_key", self.global.api_key()?);
        match &self.command {
            Command::Serve(args) => args.flags(&mut flags),
            Command::Migrate(args) => args.flags(&mut flags),
            Command::Demo(args) => args.flags(&mut flags),
            Command::Simulate(_)
            | Command::Run(_)
            | Command::Lead(_)
            | Command::Suppression(_)
            | Command::Task(_)
            | Command::Transfer(_)
            | Command::Webhook(_)
            | Command::Tenant(_)
            | Command::Key(_)
            | Command::Account(_)
            | Command::Audit(_) => {}
        }
        let source = match &self.command {
            // The demo must touch neither the database nor the account that the environment names.
            Command::Demo(_) => Source { flags, ..Source::default() },
            Command::Serve(_)
            | Command::Simulate(_)
            | Command::Migrate(_)
            | Command::Run(_)
            | Command::Lead(_)
            | Command::Suppression(_)
            | Command::Task(_)
            | Command::Transfer(_)
            | Command::Webhook(_)
            | Command::Tenant(_)
            | Command::Key(_)
            | Command::Account(_)
            | Command::Audit(_) => Source::of_process(flags, self.global.config.as_deref())?,
        };
        Ok(Config::load(&source)?)
    }
}

impl Global {
    fn api_key(&self) -> Result<Option<String>, Error> {
        let Some(path) = &self.api_key_file else { return Ok(None) };
        let wrong = |why: String| Error::Usage(format!("--api-key-file {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        if text.len() > KEY_FILE_MAX_BYTES {
            return Err(wrong(format!("is larger than {KEY_FILE_MAX_BYTES} bytes")));
        }
        Ok(Some(text.trim().to_owned()))
    }
}

/// Parses the command line, does what it says, and gives the exit code. Errors go to stderr.
pub fn main() -> ExitCode {
    // Exits with 2 by itself when the command is put wrongly.
    let cli = Cli::parse();
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn carry_out(cli: Cli) -> Result<(), Error> {
    let config = cli.config()?;
    logging::init(&config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(dispatch(cli, config))
}

async fn dispatch(cli: Cli, config: Config) -> Result<(), Error> {
    let output = Output { json: cli.global.json };
    match cli.command {
        Command::Run(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            run::execute(&client, command, output).await
        }
        Command::Lead(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            lead::execute(&client, command, output).await
        }
        Command::Suppression(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            suppression::execute(&client, command, output).await
        }
        Command::Task(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            task::execute(&client, command, output).await
        }
        Command::Transfer(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            transfer::execute(&client, command, output).await
        }
        Command::Webhook(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            webhook::execute(&client, command, output).await
        }
        Command::Tenant(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            tenant::execute(&client, command, output).await
        }
        Command::Key(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            key::execute(&client, command, output).await
        }
        Command::Account(command) => {
            let client = Client::connect(&config.check_client()?).await?;
            account::execute(&client, command, output).await
        }
        Command::Audit(args) => {
            let client = Client::connect(&config.check_client()?).await?;
            audit::execute(&client, args, output).await
        }
        Command::Serve(_) => serve::execute(&config).await,
        Command::Simulate(args) => simulate::execute(args).await,
        Command::Migrate(_) => migrate::execute(&config).await,
        Command::Demo(args) => demo::execute(args, config).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"trunkline").chain(words))
    }

    #[test]
    fn the_parser_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_parses() {
        for line in [
            "serve --database-url sqlite://x.db --grpc-listen 0.0.0.0:1 --webhooks-listen 0.0.0.0:2 --public-url https://x",
            "serve --config x.toml --log debug",
            "simulate --listen 127.0.0.1:1 --calls-per-second 5 --speed 50 --seed 1 --faults lossy",
            "migrate --database-url postgres://x/y",
            "demo --keep --concurrency 10 --calls-per-second 5 --speed 100 --leads x.csv",
            "run create --name n --say hello --leads x.csv --start --watch",
            "run create --name n --say hello --from-leads --tag vip --status new --opt-out --start",
            "run forecast-queued 00000000-0000-0000-0000-000000000000 --json",
            "run forecast --name n --say hello --from-leads --tag vip --max-attempts 3 --cap 1/day",
            "run watch 00000000-0000-0000-0000-000000000000 --events --json",
            "run list --state running --state paused --limit 5",
            "run reconcile a b --json",
            "run reconcile",
            "run cleanup",
            "run retry x --state failed --state expired --outcome busy --name again --start",
            "run explain x",
            "run stop x --endpoint https://x --api-key-file key",
            "lead import x.csv",
            "lead import x.csv --map phone=Mobile --map tags=Labels --region US --tag spring --import-id i",
            "lead export --out y.csv --status new --status lost --source import --tag vip",
            "lead export --phone-prefix +1415 --text ann --created-from 2026-09-01T08:00:00Z",
            "lead list --phone +14155550100",
            "lead events x",
            "lead delete x",
            "suppression add +14155550100 +14155550101 --reason wrong_number --note n --expires 2027-01-01T00:00:00Z",
            "suppression remove 4155550100 --region US",
            "suppression list --source opt_out --reason asked --phone-prefix +1 --expired --limit 5",
            "suppression import x.csv --map phone=Mobile --region US --import-id i",
            "suppression export --out y.csv --source import",
            "task list --dead",
            "task retry x",
            "tenant create acme --account AC1 --caller-id +14155550100 --caller-id +14155550101 --window 09:00-17:30",
            "tenant update acme --max-concurrent-calls 5 --plan high_volume",
            "tenant list --state disabled",
            "tenant disable acme",
            "key create acme --scope outbound:write --scope leads:read --name ci --expires 2027-01-01T00:00:00Z",
            "key expire acme id --at 2027-01-01T00:00:00Z",
            "key revoke acme id",
            "account create AC1 --auth-token-file t --api-key-sid SK1 --api-key-secret-file s",
            "account update AC1 --auth-token-file t",
            "account reseal",
            "audit acme --method CreateRun --limit 5",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            if let Err(error) = parse(&words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_commands_exit_with_2() {
        for line in [
            "",
            "nonsense",
            "run create --name n",
            "run create --name n --say hello --from-leads --leads x.csv",
            "run forecast --name n",
            "simulate --speed 0",
            "demo --concurrency 0",
            "run list --state x",
            "run retry",
            "run retry x --state queued",
            "run explain",
            "lead import x.csv --map shoe=x",
            "lead list --status x",
            "suppression add",
            "suppression add +14155550100 --reason whim",
            "task retry",
            "tenant create acme --account AC1",
            "tenant update acme --window 9-17",
            "key create acme",
            "account create AC1",
            "account create AC1 --auth-token-file t --api-key-sid SK1",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let error = parse(&words).err().unwrap();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line}");
        }
        assert!(parse(&["run", "list", "--api-key", "id.secret"]).is_err());
    }

    #[test]
    fn flags_reach_the_settings() {
        let cli =
            parse(&["demo", "--concurrency", "7", "--calls-per-second", "2.5", "--log", "debug"])
                .unwrap();
        let Command::Demo(args) = &cli.command else { panic!("not demo") };
        let mut flags = Flags::default();
        args.flags(&mut flags);
        flags.set("log.filter", cli.global.log.as_ref());
        let config = Config::load(&Source { flags, ..Source::default() }).unwrap();
        assert_eq!((config.tenant.max_concurrent_calls, config.tenant.calls_per_second), (7, 2.5));
        assert_eq!(config.log.filter, "debug");
        assert_eq!(args.leads().unwrap().count(), 500);
    }

    #[test]
    fn the_key_file_is_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "id.secret\n").unwrap();
        let cli = parse(&["run", "list", "--api-key-file", path.to_str().unwrap()]).unwrap();
        assert_eq!(cli.global.api_key().unwrap().as_deref(), Some("id.secret"));
    }
}
