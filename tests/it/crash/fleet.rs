//! One carrier, one database, and as many servers as the test wants.

use std::sync::Arc;

use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};
use trunkline::cli::client::{Client, Queue};
use trunkline::simulator;

use super::probe::Probe;
use crate::support::TestDatabase;
use crate::system::child::{Server, Site};
use crate::system::world::Carrier;

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
                // As with a load balancer in front of all of them, callbacks do not depend on who dialed.
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
            let client = fleet.sites[process].client(&fleet.key).await;
            fleet.clients.push(client);
        }
        fleet
    }

    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// A client of one of the servers.
    pub fn queue(&self, process: usize) -> Queue {
        self.clients[process].queue.clone()
    }

    /// A connection to one of the servers.
    pub async fn channel(&self, process: usize) -> Channel {
        let endpoint = Endpoint::new(format!("http://{}", self.sites[process].grpc.address())).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub fn server(&self, process: usize) -> &Server {
        self.servers[process].as_ref().expect("it runs")
    }

    /// Which of the servers has this process id, if it runs.
    pub fn with_pid(&self, pid: u32) -> Option<usize> {
        self.servers.iter().position(|server| server.as_ref().is_some_and(|server| server.pid() == pid))
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

    /// Starts a killed server again; returns once it listens.
    pub async fn restart(&mut self, process: usize) {
        self.servers[process] = Some(self.sites[process].serve());
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
