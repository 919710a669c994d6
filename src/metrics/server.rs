//! `GET /metrics` on an address of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;

use super::Recorded;

/// Scrapes answered at a time; further ones wait in the listener.
const IN_HAND_MAX: usize = 4;
/// Gauges are counted at most this often, whoever asks how often.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Histograms are folded this often, so that they do not grow while nobody asks.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counts what is told in gauges.
type Count = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct Shared {
    recorded: Recorded,
    count: Count,
    counted_at: Mutex<Option<Instant>>,
}

/// Serves until `shutdown`. `count` sets the gauges, before an answer that needs them anew; it must
/// end by itself.
pub async fn serve(
    listener: TcpListener,
    recorded: Recorded,
    count: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        recorded: recorded.clone(),
        count: Box::new(count),
        counted_at: Mutex::default(),
    });
    let app = Router::new()
        .route("/metrics", get(metrics))
        .layer(GlobalConcurrencyLimitLayer::new(IN_HAND_MAX))
        .with_state(shared);
    let folding = async {
        let mut ticks = interval(FOLD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            recorded.0.run_upkeep();
        }
    };
    let stop = shutdown.clone().cancelled_owned();
    tokio::select! {
        served = async { axum::serve(listener, app).with_graceful_shutdown(stop).await } => served,
        () = folding => Ok(()),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    {
        let mut counted_at = shared.counted_at.lock().await;
        if counted_at.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            (shared.count)().await;
            *counted_at = Some(Instant::now());
        }
    }
    ([(header::CONTENT_TYPE, TEXT)], shared.recorded.render())
}
