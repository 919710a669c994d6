//! Everything at once: the server as `serve` composes it, the simulated carrier, a client over
//! gRPC.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trunkline::app::{self, App, Listeners};
use trunkline::cli::client::{Client, Queue};
use trunkline::config::{Config, Source};
use trunkline::grpc::pb;
use trunkline::simulator::{self, Entry, Range, SimAccount, Simulator};

use crate::support::{ACCOUNT, TestDatabase, phone};

pub const TENANT: &str = "acme";
pub const TOKEN: &str = "5eed5eed5eed5eed5eed5eed5eed5eed";
/// Longer than anything here takes, short enough to notice.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How much earlier than its turn a create may arrive: threads and sockets bunch what was sent on
/// time.
pub const PACE_TOLERANCE: Duration = Duration::from_millis(250);

/// How a world differs from the usual one.
pub struct Setup {
    /// The tenant's live calls at most.
    pub concurrent: u32,
    /// The tenant's, and its account's, creates a second.
    pub per_second: f64,
    /// The carrier.
    pub carrier: simulator::Config,
    /// A last word on the server's settings.
    pub tweak: fn(&mut Config),
    /// Whether the carrier listens from the start.
    pub carrier_listens: bool,
    /// Where the server is told that the carrier is, if not where it is.
    pub carrier_at: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            concurrent: 8,
            per_second: 40.0,
            carrier: quick_carrier(),
            tweak: |_| {},
            carrier_listens: true,
            carrier_at: None,
        }
    }
}

/// Calls of every outcome that take a tenth of a second or so.
pub fn quick_carrier() -> simulator::Config {
    simulator::Config {
        accounts: vec![SimAccount {
            sid: ACCOUNT.parse().unwrap(),
            auth_token: TOKEN.into(),
            calls_per_second: None,
        }],
        seed: 7,
        speed: 100.0,
        ring_s: Range { min: 1.0, max: 5.0 },
        talk_s: Range { min: 2.0, max: 20.0 },
        ..simulator::Config::default()
    }
}

/// Calls that are answered at once and last until somebody hangs up.
pub fn endless_carrier() -> simulator::Config {
    simulator::Config {
        outcomes: simulator::Outcomes::ALL_ANSWERED,
        ring_s: Range::exactly(1.0),
        talk_s: Range::exactly(80_000.0),
        ..quick_carrier()
    }
}

/// A port that nobody else is given, and that refuses connections until somebody listens.
pub struct Port {
    socket: TcpSocket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Lets a process of ours listen on it while it is held here.
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { socket }
    }

    pub fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    pub fn listen(self) -> TcpListener {
        self.socket.listen(1_024).unwrap()
    }
}

/// A simulated carrier on a port of its own; gone when dropped.
pub struct Carrier {
    pub simulator: Simulator,
    pub origin: String,
    port: Option<Port>,
    stop: CancellationToken,
}

impl Carrier {
    pub fn new(config: simulator::Config) -> Self {
        let port = Port::reserve();
        let origin = format!("http://{}", port.address());
        let simulator = Simulator::new(config).unwrap();
        Self { simulator, origin, port: Some(port), stop: CancellationToken::new() }
    }

    pub fn listen(&mut self) {
        let listener = self.port.take().expect("listens once").listen();
        let (simulator, stop) = (self.simulator.clone(), self.stop.clone());
        tokio::spawn(async move { simulator.serve(listener, stop).await.unwrap() });
    }

    /// Creates accepted so far.
    pub fn creates(&self) -> Vec<Entry> {
        self.simulator.ledger().entries
    }

    /// Waits until that many creates were accepted.
    pub async fn accepted(&self, n: usize) {
        until("creates at the carrier", async || self.creates().len() >= n).await;
    }

    /// Waits until no call is live and every callback was sent.
    pub async fn settled(&self) {
        tokio::time::timeout(PATIENCE, self.simulator.settled())
            .await
            .expect("calls that end in time");
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Looks until `holds`; fails the test if it never does.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The settings of a server on `database`, before any change.
pub fn settings_of(database: &TestDatabase, setup: &Setup, carrier: &Carrier) -> Config {
    let mut config = Config::load(&Source::default()).unwrap();
    config.database_url = SecretString::from(database.url.clone());
    config.twilio.base_url.clone_from(setup.carrier_at.as_ref().unwrap_or(&carrier.origin));
    config.twilio.account_sid = Some(ACCOUNT.into());
    config.twilio.auth_token = Some(TOKEN.into());
    config.twilio.calls_per_second = setup.per_second;
    config.tenant.id = TENANT.into();
    config.tenant.caller_id = Some("+15005550006".into());
    config.tenant.max_concurrent_calls = setup.concurrent;
    config.tenant.calls_per_second = setup.per_second;
    config.tenant.window.opens = "00:00".into();
    config.tenant.window.closes = "24:00".into();
    config
}

pub struct World {
    pub carrier: Carrier,
    pub client: Client,
    /// Where gRPC is served.
    pub endpoint: String,
    /// The first key, which administers as well.
    pub key: SecretString,
    /// Where webhooks are to be sent.
    pub webhooks: String,
    pub database: TestDatabase,
    stop: CancellationToken,
    server: JoinHandle<Result<(), app::Error>>,
}

impl World {
    pub async fn start(database: TestDatabase, setup: Setup) -> Self {
        let mut carrier = Carrier::new(setup.carrier.clone());
        if setup.carrier_listens {
            carrier.listen();
        }
        let listeners = Listeners {
            grpc: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            webhooks: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            metrics: None,
        };
        let webhooks =
            format!("http://{}", listeners.webhooks.as_ref().unwrap().local_addr().unwrap());
        let mut config = settings_of(&database, &setup, &carrier);
        config.client.endpoint =
            format!("http://{}", listeners.grpc.as_ref().unwrap().local_addr().unwrap());
        config.public_url = Some(webhooks.clone());
        (setup.tweak)(&mut config);
        let app = App::prepare(config.check_serve().unwrap()).await.unwrap();
        let key = app.first_key.clone().expect("a new tenant");
        config.client.api_key = Some(key.clone());
        let stop = CancellationToken::new();
        let server = tokio::spawn(app.serve(listeners, stop.clone()));
        let client = Client::connect(&config.check_client().unwrap()).await.unwrap();
        let endpoint = config.client.endpoint;
        Self { carrier, client, endpoint, key, webhooks, database, stop, server }
    }

    /// Drains the server; gives the database back.
    pub async fn stop(self) -> TestDatabase {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.server)
            .await
            .expect("a drain in time")
            .unwrap()
            .unwrap();
        self.database
    }

    /// The part of the first key before the dot.
    pub fn key_id(&self) -> String {
        self.key.expose_secret().split_once('.').unwrap().0.to_owned()
    }

    pub fn queue(&self) -> Queue {
        self.client.queue.clone()
    }
}

/// A run that says hello.
pub fn settings() -> pb::RunSettings {
    let say = pb::script::Say { text: "Hello".into(), ..Default::default() };
    let script = Some(pb::Script { kind: Some(pb::script::Kind::Say(say)) });
    pb::RunSettings { name: "test".into(), script, ..Default::default() }
}

pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Up to three attempts, a second apart.
pub fn retrying() -> pb::RunSettings {
    let retry = pb::RetryPolicy {
        max_attempts: 3,
        initial_delay: Some(seconds(1)),
        multiplier: 1.0,
        ..Default::default()
    };
    pb::RunSettings { retry: Some(retry), ..settings() }
}

/// A job that calls `phone`.
pub fn job_to(phone: &str) -> pb::NewJob {
    let lead = pb::LeadFacts { phone: phone.into(), ..Default::default() };
    pb::NewJob { who: Some(pb::new_job::Who::Lead(lead)), ..Default::default() }
}

pub fn jobs(numbers: std::ops::Range<usize>) -> Vec<pb::NewJob> {
    numbers.map(|n| job_to(phone(n).expose())).collect()
}

/// Creates a run, started and sealed.
pub async fn create(queue: &Queue, settings: pb::RunSettings, jobs: Vec<pb::NewJob>) -> String {
    let count = jobs.len();
    let request = pb::CreateRunRequest {
        settings: Some(settings),
        jobs,
        start: true,
        seal: true,
        ..Default::default()
    };
    let created = queue.clone().create_run(request).await.unwrap().into_inner();
    assert_eq!(created.results.iter().filter(|result| result.error.is_empty()).count(), count);
    created.run.unwrap().run_id
}

pub async fn run(queue: &Queue, run_id: &str) -> pb::Run {
    let get = pb::GetRunRequest { run_id: run_id.into() };
    queue.clone().get_run(get).await.unwrap().into_inner().run.unwrap()
}

pub fn state(run: &pb::Run) -> pb::RunState {
    run.progress.as_ref().unwrap().state()
}

pub fn counts(run: &pb::Run) -> pb::JobCounts {
    *run.progress.as_ref().unwrap().counts.as_ref().unwrap()
}

pub async fn watch(
    queue: &Queue,
    run_id: &str,
    resume_token: &str,
    view: pb::WatchView,
) -> tonic::Streaming<pb::WatchRunResponse> {
    let request = pb::WatchRunRequest {
        run_id: run_id.into(),
        resume_token: resume_token.into(),
        view: view.into(),
        bookmark_interval: None,
        ..Default::default()
    };
    queue.clone().watch_run(request).await.unwrap().into_inner()
}

/// Waits for the run's end, as a watcher does, and gives it.
pub async fn ended(queue: &Queue, run_id: &str) -> pb::Run {
    ended_within(queue, run_id, PATIENCE).await
}

/// The same for a run that takes longer than others.
pub async fn ended_within(queue: &Queue, run_id: &str, patience: Duration) -> pb::Run {
    let mut stream = watch(queue, run_id, "", pb::WatchView::Progress).await;
    let end = async { while stream.message().await.unwrap().is_some() {} };
    if tokio::time::timeout(patience, end).await.is_err() {
        panic!("did not end: {:?}", run(queue, run_id).await.progress);
    }
    run(queue, run_id).await
}

pub async fn list_jobs(queue: &Queue, run_id: &str) -> Vec<pb::Job> {
    let request =
        pb::ListJobsRequest { run_id: run_id.into(), page_size: 1_000, ..Default::default() };
    let page = queue.clone().list_jobs(request).await.unwrap().into_inner();
    assert!(page.next_page_token.is_empty(), "one page is enough here");
    page.jobs
}

pub async fn list_calls(queue: &Queue, run_id: &str) -> Vec<pb::Call> {
    let of = Some(pb::list_calls_request::Of::RunId(run_id.into()));
    let request = pb::ListCallsRequest { of, page_size: 1_000, ..Default::default() };
    let page = queue.clone().list_calls(request).await.unwrap().into_inner();
    assert!(page.next_page_token.is_empty(), "one page is enough here");
    page.calls
}

/// Our call id, from the callback's URL.
pub fn call_id(entry: &Entry) -> String {
    let url = entry.status_callback.as_ref().expect("a callback URL");
    let path = url.split('#').next().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

/// The carrier's entries by our call ids; fails if two creates carry one id.
pub fn by_call_id(entries: Vec<Entry>) -> HashMap<String, Entry> {
    let count = entries.len();
    let map: HashMap<_, _> = entries.into_iter().map(|entry| (call_id(&entry), entry)).collect();
    assert_eq!(map.len(), count, "two creates for one attempt");
    map
}
