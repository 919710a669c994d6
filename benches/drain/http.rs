//! Calls a second end to end: server and simulated carrier in this process, HTTP between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trunkline::app::{App, Listeners};
use trunkline::carrier::callback_client::Poster;
use trunkline::config::{Config, Serve};
use trunkline::simulator::{self, Outcomes, SimAccount, Simulator};

use super::Options;
use super::backend::Backend;
use super::world::{self, World};

/// A create and the callbacks for initiated, ringing, answered and completed.
const REQUESTS_PER_CALL: usize = 5;
/// Requests under way at once in the floor.
const AT_ONCE: usize = 64;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Measures and prints.
pub async fn measure(backend: &Backend, options: &Options) {
    println!(
        "{}: calls a second end to end, {} calls of {REQUESTS_PER_CALL} requests; best of {}",
        backend.name(),
        options.calls,
        options.repeat
    );
    println!("{:<58} {:>8} {:>8} {:>6}", "", "calls/s", "floor", "ratio");
    for permits in [32, 256] {
        let mut best = (0.0f64, 0.0f64);
        for _ in 0..options.repeat {
            best.0 = best.0.max(end_to_end(backend, options.calls, permits).await);
            best.1 = best.1.max(bare(options.calls).await);
        }
        let label = format!("{permits} permits");
        println!("{label:<58} {:>8.0} {:>8.0} {:>6.2}", best.0, best.1, best.0 / best.1);
    }
    println!();
}

fn config(world: &World, permits: u32, carrier: &TcpListener, listeners: &Listeners) -> Serve {
    let url =
        |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
    let mut config = Config::default();
    let tenant = world::tenant(0);
    config.database_url = SecretString::from(world.url.clone());
    config.public_url = listeners.webhooks.as_ref().map(&url);
    config.twilio.base_url = url(carrier);
    config.twilio.account_sid = Some(tenant.account_sid.as_str().to_owned());
    config.twilio.auth_token = Some(SecretString::from(TOKEN));
    config.twilio.calls_per_second = world::CALLS_PER_SECOND;
    config.tenant.id = tenant.id.to_string();
    config.tenant.caller_id = tenant.caller_ids.first().map(|phone| phone.expose().to_owned());
    config.tenant.max_concurrent_calls = tenant.max_concurrent_calls;
    config.tenant.calls_per_second = world::CALLS_PER_SECOND;
    config.tenant.window.opens = "00:00".into();
    config.tenant.window.closes = "24:00".into();
    config.dialer.permits = permits;
    config.check_serve().expect("settings that pass")
}

/// From the first create that the carrier accepts to the run's end.
async fn end_to_end(backend: &Backend, calls: usize, permits: u32) -> f64 {
    let (world, engine) = World::new(backend).await;
    let tenant = world::make_tenant(&engine, 0).await;
    world::make_run(&engine, &tenant, 0..calls).await;
    drop(engine);
    let running = Running::start(&world, permits).await;
    let ended_at = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(at) = world.number("SELECT max(ended_at) FROM runs").await {
            break at;
        }
    };
    let ledger = running.stop().await;
    assert_eq!(ledger.entries.len(), calls, "each lead was called once");
    let done = world.number("SELECT CAST(sum(completed) AS BIGINT) FROM runs").await;
    assert_eq!(done, i64::try_from(calls).ok(), "every job completed");
    let began = ledger.entries.iter().map(|entry| entry.arrived_at_us.0).min().expect("a call");
    calls as f64 / ((ended_at - began) as f64 / 1e6)
}

/// A server over a database, and a simulated carrier that answers at once.
pub struct Running {
    simulator: Simulator,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    simulating: JoinHandle<()>,
}

impl Running {
    /// Begins to dial what the database holds.
    pub async fn start(world: &World, permits: u32) -> Self {
        let stop = CancellationToken::new();
        let simulator = Simulator::new(simulator::Config {
            accounts: vec![SimAccount {
                sid: world::account(0),
                auth_token: SecretString::from(TOKEN),
                calls_per_second: None,
            }],
            instant: true,
            outcomes: Outcomes::ALL_ANSWERED,
            ring_s: simulator::Range::exactly(1.0),
            ..simulator::Config::default()
        })
        .expect("a simulator");
        let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a port") };
        let carrier = bind().await;
        let listeners =
            Listeners { grpc: Some(bind().await), webhooks: Some(bind().await), metrics: None };
        let config = config(world, permits, &carrier, &listeners);
        let simulating = tokio::spawn({
            let (simulator, stop) = (simulator.clone(), stop.clone());
            async move { simulator.serve(carrier, stop).await.expect("an orderly end") }
        });
        let app = App::prepare(config).await.expect("a server");
        let serving = {
            let stop = stop.clone();
            tokio::spawn(async move { app.serve(listeners, stop).await.expect("an orderly end") })
        };
        Self { simulator, stop, serving, simulating }
    }

    /// Ends both. Returns what the carrier was asked for.
    pub async fn stop(self) -> simulator::Ledger {
        let ledger = self.simulator.ledger();
        self.stop.cancel();
        self.serving.await.expect("no panic");
        self.simulating.await.expect("no panic");
        ledger
    }
}

/// As many requests of the same size, answered with nothing, by the same client and server
/// libraries.
async fn bare(calls: usize) -> f64 {
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/echo", listener.local_addr().expect("an address"));
    let app = Router::new().route("/echo", post(|body: axum::body::Bytes| async move { body }));
    let server = tokio::spawn({
        let stop = stop.clone();
        async move { axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await }
    });
    // Names and sizes as in a status callback.
    let sizes = HashMap::from([
        ("CallSid", 34),
        ("AccountSid", 34),
        ("From", 12),
        ("To", 12),
        ("Caller", 12),
        ("Called", 12),
        ("CallStatus", 11),
        ("Direction", 12),
        ("ApiVersion", 10),
        ("Timestamp", 31),
        ("CallbackSource", 20),
        ("SequenceNumber", 1),
    ]);
    let params: Vec<(String, String)> =
        sizes.into_iter().map(|(name, size)| (name.to_owned(), "x".repeat(size))).collect();
    let (poster, params) = (Poster::new().expect("a client"), Arc::new(params));
    let left = Arc::new(AtomicUsize::new(calls * REQUESTS_PER_CALL));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (poster, params, left, url) =
            (poster.clone(), params.clone(), left.clone(), url.clone());
        tasks.spawn(async move {
            let one_less = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                poster
                    .post_form(&url, &params, "0123456789012345678901234567")
                    .await
                    .expect("an answer");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a task that ends");
    }
    let rate = calls as f64 / began.elapsed().as_secs_f64();
    stop.cancel();
    drop(poster);
    server.await.expect("no panic").expect("an orderly end");
    rate
}
