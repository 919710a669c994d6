//! The real binary as a process of its own.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use trunkline::cli::client::Client;
use trunkline::config::{Config, Source};

use super::world::{Carrier, PATIENCE, Port, TENANT, TOKEN, until};
use crate::support::{ACCOUNT, TestDatabase};

/// Where one server after the other listens.
pub struct Site {
    pub database: Arc<TestDatabase>,
    /// Has no `trunkline.toml` of anybody's.
    pub folder: tempfile::TempDir,
    pub grpc: Port,
    /// Held for as long as its number is in `env`.
    webhooks: Port,
    /// Settings as they reach the server: in its environment.
    pub env: Vec<(String, String)>,
}

impl Site {
    pub fn new(database: impl Into<Arc<TestDatabase>>, carrier: &Carrier) -> Self {
        let database = database.into();
        let (grpc, webhooks) = (Port::reserve(), Port::reserve());
        let env = [
            ("DATABASE_URL", database.url.clone()),
            ("GRPC__LISTEN", grpc.address()),
            ("WEBHOOKS__LISTEN", webhooks.address()),
            ("PUBLIC_URL", format!("http://{}", webhooks.address())),
            ("TWILIO__BASE_URL", carrier.origin.clone()),
            ("TWILIO__ACCOUNT_SID", ACCOUNT.into()),
            ("TWILIO__AUTH_TOKEN", TOKEN.into()),
            ("TWILIO__CALLS_PER_SECOND", "40".into()),
            ("TENANT__ID", TENANT.into()),
            ("TENANT__CALLER_ID", "+15005550006".into()),
            ("TENANT__CALLS_PER_SECOND", "40".into()),
            ("TENANT__MAX_CONCURRENT_CALLS", "12".into()),
            ("TENANT__WINDOW__OPENS", "00:00".into()),
            ("TENANT__WINDOW__CLOSES", "24:00".into()),
        ];
        let env = env.map(|(name, value)| (format!("TRUNKLINE_{name}"), value)).into();
        Self { database, folder: tempfile::tempdir().unwrap(), grpc, webhooks, env }
    }

    /// Sets a setting by its variable, without the prefix.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((format!("TRUNKLINE_{name}"), value.into()));
    }

    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| *known != format!("TRUNKLINE_{name}"));
    }

    /// Where the carrier reaches its webhooks.
    pub fn public_url(&self) -> String {
        format!("http://{}", self.webhooks.address())
    }

    pub fn serve(&self) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_trunkline"))
            .arg("serve")
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Text::default(), Text::default());
        let reading = [
            stdout.collect(process.stdout.take().unwrap()),
            stderr.collect(process.stderr.take().unwrap()),
        ];
        Server { process, stdout, stderr, reading }
    }

    /// A client, once the server listens.
    pub async fn client(&self, key: &str) -> Client {
        let mut config = Config::load(&Source::default()).unwrap();
        config.client.endpoint = format!("http://{}", self.grpc.address());
        config.client.api_key = Some(SecretString::from(key));
        let endpoint = config.check_client().unwrap();
        let client = OnceCell::new();
        until("the server to listen", async || {
            client.get_or_try_init(|| Client::connect(&endpoint)).await.is_ok()
        })
        .await;
        client.into_inner().expect("it listens")
    }
}

/// What a process has written so far.
#[derive(Clone, Default)]
pub struct Text(Arc<Mutex<String>>);

impl Text {
    pub fn get(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn collect(&self, from: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let text = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = text.0.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        })
    }
}

/// A running server; killed when dropped.
pub struct Server {
    process: tokio::process::Child,
    pub stdout: Text,
    pub stderr: Text,
    reading: [JoinHandle<()>; 2],
}

impl Server {
    /// The key that a new tenant's server shows once.
    pub async fn first_key(&self) -> String {
        let key = || self.stdout.get().lines().nth(1).map(str::to_owned);
        until("the first API key", async || key().is_some()).await;
        key().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process of ours");
        kill_process(pid, signal).unwrap();
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// How it ended, and everything it had written to stderr.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let waited = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let Ok(status) = waited else { panic!("did not end:\n{}", self.stderr.get()) };
        for reading in self.reading {
            reading.await.unwrap();
        }
        (status.unwrap(), self.stderr.get())
    }
}
