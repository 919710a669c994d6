//! One carrier, one database, and as many servers as the test wants.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use trunkline::cli::client::{Client, Queue};
use trunkline::simulator;

use super::probe::Probe;
use crate::support::TestDatabase;
use crate::system::child::{Server, Site};
use crate::system::world::{Carrier, PATIENCE};

/// Settings by their variables, without the prefix.
pub type Settings = [(&'static str, &'static str)];

pub struct Fleet {
    pub carrier: Carrier,
    pub probe: Probe,
    sites: Vec<Site>,
    servers: Vec<Option<Server>>,
    /// One of each server, made when it listens.
    clients: Vec<Client>,
    /// Of the tenant.
    key: String,
}

impl Fleet {
    /// Starts `size` servers; each is told where the database is by `url`, if not where it is.
    pub async fn start(
        database: TestDatabase,
        size: usize,
        carrier: simulator::Config,
        settings: &Settings,
        url: Option<&str>,
    ) -> Self {
        let mut carrier = Carrier::new(carrier);
        carrier.listen();
        let probe = Probe::open(&database.url).await;
        let database = Arc::new(database);
        let mut fleet = Self {
            carrier,
            probe,
            sites: Vec::new(),
            servers: Vec::new(),
            clients: Vec::new(),
            key: String::new(),
        };
        for process in 0..size {
            let mut site = Site::new(database.clone(), &fleet.carrier);
            if let Some(front) = fleet.sites.first() {
                // As with a load balancer in front of all of them, callbacks do not depend on who
                // dialed.
                site.set("PUBLIC_URL", &front.public_url());
            }
            let url = fleet.probe.login(url.unwrap_or(&database.url), process).await;
            site.set("DATABASE_URL", &url);
            settings.iter().for_each(|(name, value)| site.set(name, value));
            let server = site.serve();
            if process == 0 {
                fleet.key = server.first_key().await;
            }
            fleet.sites.push(site);
            fleet.servers.push(Some(server));
            fleet.until_serving(process).await;
            let client = fleet.sites[process].client(&fleet.key).await;
            fleet.clients.push(client);
        }
        fleet
    }

    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Clients of all services of one of the servers.
    pub fn client(&self, process: usize) -> Client {
        self.clients[process].clone()
    }

    /// A client of one of the servers.
    pub fn queue(&self, process: usize) -> Queue {
        self.clients[process].queue.clone()
    }

    /// What one of the servers says of itself; none if it does not answer.
    pub async fn health(&self, process: usize) -> Option<ServingStatus> {
        let endpoint =
            Endpoint::new(format!("http://{}", self.sites[process].grpc.address())).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.ok()?);
        let answer = client.check(HealthCheckRequest { service: String::new() }).await.ok()?;
        Some(answer.into_inner().status())
    }

    /// A server takes connections before it is ready: what it did with its database shows in its
    /// health only.
    async fn until_serving(&self, process: usize) {
        let serving = async {
            while self.health(process).await != Some(ServingStatus::Serving) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, serving).await.is_err() {
            panic!("server {process} does not serve:\n{}", self.server(process).stderr.get());
        }
    }

    pub fn server(&self, process: usize) -> &Server {
        self.servers[process].as_ref().expect("it runs")
    }

    /// Which of the servers has this process id, if it runs.
    pub fn with_pid(&self, pid: u32) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.as_ref().is_some_and(|server| server.pid() == pid))
    }

    pub fn signal(&self, process: usize, signal: Signal) {
        self.server(process).signal(signal);
    }

    /// SIGKILL; returns once the process is gone.
    pub async fn kill(&mut self, process: usize) {
        let server = self.servers[process].take().expect("it runs");
        assert_no_panic(&server);
        server.kill().await;
    }

    /// Starts a killed server again; returns once it serves.
    pub async fn restart(&mut self, process: usize) {
        self.servers[process] = Some(self.sites[process].serve());
        self.until_serving(process).await;
        self.clients[process] = self.sites[process].client(&self.key).await;
    }

    /// SIGTERM to all; fails if one did not end well or had panicked.
    pub async fn stop(self) {
        let servers: Vec<Server> = self.servers.into_iter().flatten().collect();
        servers.iter().for_each(Server::terminate);
        for server in servers {
            assert_no_panic(&server);
            let (status, log) = server.ended().await;
            assert_eq!(status.code(), Some(0), "{log}");
        }
    }
}

fn assert_no_panic(server: &Server) {
    let log = server.stderr.get();
    assert!(!log.contains("panicked"), "{log}");
}
