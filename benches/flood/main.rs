//! What tenant B notices while tenant A floods: `cargo bench --bench flood [-- OPTIONS]`; see
//! `docs/security.md`.
//!
//! Prints B's latency alone and during each kind of flood, and asserts nothing about time. Server,
//! flood and B share this process and its cores, so a part of what B notices is the flood being
//! made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use trunkline::domain::tenant::Tenant;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::{Config, pb, serve};
use trunkline::progress::Hub;
use trunkline::store::{ApiKey, Store};

/// The secret of every key here.
const SECRET: &str = "bench";
/// Jobs in one of A's writes.
const JOBS: usize = 100;
/// Where B comes from; A comes from another loopback address.
const B_ADDRESS: [u8; 4] = [127, 0, 0, 3];
const A_ADDRESS: [u8; 4] = [127, 0, 0, 2];

const USAGE: &str = "\
cargo bench --bench flood -- [OPTIONS]
  --requests N   requests of B in each measurement [1000]
  --every MS     milliseconds between two of them [5]
  --clients N    requests that A keeps in flight [64]";

struct Options {
    requests: usize,
    every: Duration,
    clients: usize,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, &'static str> {
        let mut options = Self { requests: 1_000, every: Duration::from_millis(5), clients: 64 };
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let value: u32 = args.next().and_then(|value| value.parse().ok()).ok_or(USAGE)?;
            match arg.as_str() {
                "--requests" => options.requests = value.max(1) as usize,
                "--every" => options.every = Duration::from_millis(value.into()),
                "--clients" => options.clients = value as usize,
                _ => return Err(USAGE),
            }
        }
        Ok(options)
    }
}

/// What A does, as fast as it can.
#[derive(Clone, Copy)]
enum Flood {
    /// Lists runs.
    Reads,
    /// Creates runs of [`JOBS`] jobs.
    Writes,
    /// Comes with keys that there are not.
    WrongKeys,
}

impl Flood {
    const fn name(self) -> &'static str {
        match self {
            Self::Reads => "A reads",
            Self::Writes => "A writes",
            Self::WrongKeys => "wrong keys",
        }
    }
}

#[derive(Default)]
struct Told {
    served: AtomicU64,
    refused: AtomicU64,
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {key}.{SECRET}")).expect("a key is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

async fn tenant(store: &Store, name: &str) {
    let account = format!("AC{:032x}", 1).parse().expect("an account SID");
    store.put_account(&account, 1.0).await.expect("an account");
    let (id, caller_id) =
        (name.parse().expect("a tenant id"), "+15005550006".parse().expect("a phone"));
    let tenant = Tenant::new(id, account, caller_id);
    store.put_tenant(&tenant).await.expect("a tenant");
    let key = ApiKey {
        key_id: name.into(),
        tenant: tenant.id,
        secret_hash: Sha256::digest(SECRET).into(),
        scopes: vec!["admin".into()],
        expires_at: None,
        revoked_at: None,
    };
    store.put_key(&key).await.expect("a key");
}

async fn connect(server: SocketAddr, from: [u8; 4]) -> OutboundQueueClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{server}")).expect("a URL");
    OutboundQueueClient::new(
        endpoint.local_address(Some(from.into())).connect().await.expect("a connection"),
    )
}

fn new_run(jobs: usize) -> pb::CreateRunRequest {
    let say = pb::script::Say { text: "Hello".into(), ..Default::default() };
    let script = Some(pb::Script { kind: Some(pb::script::Kind::Say(say)) });
    let job = |n: usize| {
        let lead = pb::LeadFacts { phone: format!("+1201555{n:04}"), ..Default::default() };
        pb::NewJob { who: Some(pb::new_job::Who::Lead(lead)), ..Default::default() }
    };
    let settings = Some(pb::RunSettings { name: "bench".into(), script, ..Default::default() });
    pb::CreateRunRequest { settings, jobs: (0..jobs).map(job).collect(), ..Default::default() }
}

async fn one(queue: &mut OutboundQueueClient<Channel>, flood: Flood, n: u64) -> Result<(), Status> {
    let list = pb::ListRunsRequest { page_size: 100, ..Default::default() };
    match flood {
        Flood::Reads => queue.list_runs(with("a", list)).await.map(drop),
        Flood::Writes => queue.create_run(with("a", new_run(JOBS))).await.map(drop),
        Flood::WrongKeys => queue.list_runs(with(&format!("key{n}"), list)).await.map(drop),
    }
}

/// Keeps `clients` requests in flight until the answer is dropped.
async fn flood(server: SocketAddr, flood: Flood, clients: usize, told: &Arc<Told>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (mut queue, told) = (connect(server, A_ADDRESS).await, Arc::clone(told));
        tasks.spawn(async move {
            for n in 0.. {
                let count = match one(&mut queue, flood, n * 1_000 + client as u64).await {
                    Err(status) if status.code() == Code::ResourceExhausted => &told.refused,
                    Ok(()) | Err(_) => &told.served,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks
}

/// B's latencies, sorted: half reads, half writes, at a pace of its own.
async fn measure(server: SocketAddr, options: &Options) -> Vec<Duration> {
    let mut queue = connect(server, B_ADDRESS).await;
    let (mut took, mut pace) =
        (Vec::with_capacity(options.requests), tokio::time::interval(options.every));
    for n in 0..options.requests {
        pace.tick().await;
        let started = Instant::now();
        let answered = if n % 2 == 0 {
            queue
                .list_runs(with("b", pb::ListRunsRequest { page_size: 10, ..Default::default() }))
                .await
                .map(drop)
        } else {
            queue.create_run(with("b", new_run(1))).await.map(drop)
        };
        answered.expect("B keeps to its limits");
        took.push(started.elapsed());
    }
    took.sort_unstable();
    took
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn print(name: &str, took: &[Duration], alone: Option<&[Duration]>, told: &Told) {
    let ratio = |percent: usize| {
        alone
            .map_or(1.0, |alone| at(took, percent).as_secs_f64() / at(alone, percent).as_secs_f64())
    };
    println!(
        "{name:<12} B p50 {:>9.2?} ({:>5.2}x)  p99 {:>9.2?} ({:>5.2}x)   of A served {:>7}, refused {:>8}",
        at(took, 50),
        ratio(50),
        at(took, 99),
        ratio(99),
        told.served.load(Ordering::Relaxed),
        told.refused.load(Ordering::Relaxed),
    );
}

async fn run(options: &Options) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let url = format!("sqlite://{}", dir.path().join("bench.db").display());
    let store: Store = Store::open(&url).await.expect("a store");
    tenant(&store, "a").await;
    tenant(&store, "b").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (server, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
    let (hub, shutdown) = (Hub::new(store.clone()), stop.clone());
    let serving = tokio::spawn(serve(listener, store, hub, Config::default(), shutdown));
    measure(server, options).await; // warm
    let alone = measure(server, options).await;
    print("alone", &alone, None, &Told::default());
    for kind in [Flood::Reads, Flood::Writes, Flood::WrongKeys] {
        let told = Arc::new(Told::default());
        let flooding = flood(server, kind, options.clients, &told).await;
        let took = measure(server, options).await;
        drop(flooding);
        print(kind.name(), &took, Some(&alone), &told);
    }
    stop.cancel();
    serving.await.expect("no panic").expect("a drain");
}

fn main() {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) => tokio::runtime::Runtime::new().expect("a runtime").block_on(run(&options)),
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    }
}
