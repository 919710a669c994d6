//! How much may come in: from one address before it is known whose it is, of one tenant after that.
//!
//! A limiter of `tower_governor` holds one quota, so there is one for each plan and class of
//! method, and a small router before them. The limits hold in this process; what must hold over all
//! of them is in the store.

mod open;
mod peer;
mod rows;
mod tenant;
mod turns;

use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use http::{Request, Response};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer as _, Service};
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::body;
use super::status::{self, OverQuota};
use crate::domain::plan::{self, Rate};

pub use open::{Guard, Open};
pub use peer::{Peer, PeerLimit};
pub(super) use rows::Rows;
pub use tenant::TenantLimit;
pub(super) use turns::Turn;

/// How often it is looked whether limiters have grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Limiters are pruned every so many looks,
const PRUNE_EVERY_LOOKS: u32 = 60;
/// and at every look at which one has more keys than this. A key that was not used for as long as
/// its quota takes to fill up is pruned: what is left is at most who was active in the last
/// seconds.
const KEYS_MAX: usize = 10_000;

/// Every limiter of this process.
pub struct Limits {
    peer: peer::Limit,
    standard: tenant::Limit,
    high_volume: tenant::Limit,
    turns: turns::Turns,
}

impl Limits {
    /// Full quotas.
    pub fn new(limits: &plan::Limits) -> Arc<Self> {
        Arc::new(Self {
            peer: peer::Limit::new(limits.peer),
            standard: tenant::Limit::new(&limits.plans.standard),
            high_volume: tenant::Limit::new(&limits.plans.high_volume),
            turns: turns::Turns::default(),
        })
    }

    /// The limits of a plan.
    fn of(&self, plan: &str) -> &tenant::Limit {
        if plan == plan::HIGH_VOLUME { &self.high_volume } else { &self.standard }
    }

    /// Forgets keys that have not been heard of, for ever.
    pub async fn prune(&self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in (0..PRUNE_EVERY_LOOKS).cycle() {
            looks.tick().await;
            let more_than = if look == 0 { 0 } else { KEYS_MAX };
            self.peer.prune(more_than);
            self.standard.prune(more_than);
            self.high_volume.prune(more_than);
            self.turns.prune(more_than);
        }
    }
}

/// One quota in front of a service, by key.
struct Gate<K: KeyExtractor> {
    config: Arc<GovernorConfig<K, NoOpMiddleware>>,
    layer: GovernorLayer<K, NoOpMiddleware, Body>,
}

/// What comes out of a gate.
type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<K> Gate<K>
where
    K: KeyExtractor + Send + Sync + 'static,
    K::Key: Send + Sync + 'static,
{
    fn new(rate: Rate, key: K, quota: OverQuota) -> Self {
        let config = GovernorConfigBuilder::default()
            .key_extractor(key)
            .period(rate.period())
            .burst_size(rate.burst())
            .finish()
            // None only for a zero, and a Rate has none.
            .expect("a rate has neither a period nor a burst of zero");
        let config = Arc::new(config);
        let refuse = move |error| refusal(&error, &quota).into_http();
        Self { layer: GovernorLayer::new(Arc::clone(&config)).error_handler(refuse), config }
    }

    /// Calls `ready` if the quota of the request's key allows it. `guard` lives as long as the
    /// answer's body.
    fn pass<S, B, G>(&self, ready: S, request: Request<B>, guard: Option<G>) -> Answer<S::Error>
    where
        S: Service<Request<B>, Response = Response<Body>>,
        S::Future: Send + 'static,
        S::Error: 'static,
        G: Send + Unpin + 'static,
    {
        let answer = self.layer.layer(ready).call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(match guard {
                Some(guard) => response.map(|inner| body::hold(inner, guard)),
                None => response,
            })
        })
    }

    fn prune(&self, more_than: usize) {
        prune(self.config.limiter(), more_than);
    }
}

fn prune<K: Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>, more_than: usize) {
    if limiter.len() > more_than {
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

/// A limiter outside of any layer.
fn limiter<K: Hash + Eq + Clone>(rate: Rate) -> DefaultKeyedRateLimiter<K> {
    let quota = Quota::with_period(rate.period())
        // None only for zero, and a Rate has none.
        .expect("a rate has no period of zero")
        // The same.
        .allow_burst(std::num::NonZeroU32::new(rate.burst()).expect("a rate has no burst of zero"));
    RateLimiter::keyed(quota)
}

/// How long until `not_until` is over, rounded up to milliseconds.
fn wait_of<P: governor::clock::Reference>(not_until: &NotUntil<P>, now: P) -> Duration {
    let wait = not_until.wait_time_from(now);
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn now() -> governor::clock::QuantaInstant {
    DefaultClock::default().now()
}

fn refusal(error: &GovernorError, quota: &OverQuota) -> Status {
    match error {
        // The wait is cut to whole seconds, and a client that comes too early is refused again.
        GovernorError::TooManyRequests { wait_time, .. } => {
            status::over_quota(quota, Duration::from_secs(wait_time.saturating_add(1)))
        }
        GovernorError::UnableToExtractKey => {
            status::internal(&"a request came to a limit without a key")
        }
        GovernorError::Other { code, .. } => {
            status::internal(&format!("a limit failed with {code}"))
        }
    }
}
