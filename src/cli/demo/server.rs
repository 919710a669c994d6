//! The demo's server: in this process, or in one of its own that can be killed.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::app;
use crate::cli::Error;
use crate::cli::client::Client;
use crate::config::{self, Config, Endpoint};

/// How long a server may take to answer after its start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries to reach it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the server runs.
pub(super) enum Server {
    /// Here.
    Here(JoinHandle<Result<(), app::Error>>),
    /// In a process of its own.
    Child(Box<Process>),
}

/// A server process that is killed with this one.
pub(super) struct Process {
    settings: Vec<(&'static str, OsString)>,
    child: Mutex<Child>,
}

impl Server {
    /// Starts `trunkline serve` with these settings as a process.
    pub(super) fn spawn(config: &Config) -> Result<Self, Error> {
        let text = |setting: &Option<String>| setting.clone().unwrap_or_default().into();
        let token =
            config.twilio.auth_token.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        let settings = vec![
            ("TRUNKLINE_DATABASE_URL", config.database_url.expose_secret().into()),
            ("TRUNKLINE_PUBLIC_URL", text(&config.public_url)),
            ("TRUNKLINE_GRPC__LISTEN", config.grpc.listen.clone().into()),
            ("TRUNKLINE_WEBHOOKS__LISTEN", config.webhooks.listen.clone().into()),
            ("TRUNKLINE_METRICS__LISTEN", text(&config.metrics.listen)),
            ("TRUNKLINE_TWILIO__BASE_URL", config.twilio.base_url.clone().into()),
            ("TRUNKLINE_TWILIO__ACCOUNT_SID", text(&config.twilio.account_sid)),
            ("TRUNKLINE_TWILIO__AUTH_TOKEN", token.into()),
            (
                "TRUNKLINE_TWILIO__CALLS_PER_SECOND",
                config.twilio.calls_per_second.to_string().into(),
            ),
            ("TRUNKLINE_TENANT__ID", config.tenant.id.clone().into()),
            ("TRUNKLINE_TENANT__CALLER_ID", text(&config.tenant.caller_id)),
            (
                "TRUNKLINE_TENANT__MAX_CONCURRENT_CALLS",
                config.tenant.max_concurrent_calls.to_string().into(),
            ),
            (
                "TRUNKLINE_TENANT__CALLS_PER_SECOND",
                config.tenant.calls_per_second.to_string().into(),
            ),
            ("TRUNKLINE_TENANT__WINDOW__OPENS", config.tenant.window.opens.clone().into()),
            ("TRUNKLINE_TENANT__WINDOW__CLOSES", config.tenant.window.closes.clone().into()),
            ("TRUNKLINE_LOG__FILTER", "error".into()),
        ];
        let child = Mutex::new(start(&settings)?);
        Ok(Self::Child(Box::new(Process { settings, child })))
    }

    /// A client of the server, once it answers.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<Client, Error> {
        let patience = tokio::time::Instant::now() + STARTS_WITHIN;
        loop {
            match Client::connect(endpoint).await {
                Ok(client) => return Ok(client),
                Err(error) if tokio::time::Instant::now() > patience => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Nothing but the settings is handed over: a setting in our own environment is not the demo's.
fn start(settings: &[(&'static str, OsString)]) -> Result<Child, Error> {
    let mut command = Command::new(config::this_program()?);
    command.arg("serve").env_clear().envs(settings.iter().cloned());
    // No trunkline.toml of the working directory either.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command.spawn()?)
}

impl Process {
    /// SIGKILL, and another process with the same settings.
    pub(super) async fn kill_and_restart(&self) -> Result<(), Error> {
        let mut child = self.child.lock().await;
        child.kill().await?;
        *child = start(&self.settings)?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    pub(super) async fn stop(self) -> Result<(), Error> {
        let mut child = self.child.into_inner();
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(std::io::Error::from)?;
        }
        let status = child.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Runtime(format!("the server ended with {status}")))
        }
    }
}
