//! The limits of one tenant: after authentication, by plan and class of method.

use std::sync::Arc;
use std::task::{Context, Poll};

use governor::DefaultKeyedRateLimiter;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tower_governor::GovernorError;
use tower_governor::key_extractor::KeyExtractor;

use super::{Answer, Gate, Limits, Open};
use crate::domain::TenantId;
use crate::domain::plan::{Class, Plan};
use crate::grpc::auth::Caller;
use crate::grpc::methods::{self, Route};
use crate::grpc::status::{self, OverQuota};

#[derive(Debug, Clone, Copy)]
struct TenantKey;

impl KeyExtractor for TenantKey {
    type Key = TenantId;

    fn extract<T>(&self, request: &Request<T>) -> Result<TenantId, GovernorError> {
        let caller =
            request.extensions().get::<Caller>().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(caller.tenant.clone())
    }
}

/// What each tenant of one plan may do.
pub(super) struct Limit {
    plan: Plan,
    read: Gate<TenantKey>,
    write: Gate<TenantKey>,
    stream: Gate<TenantKey>,
    maintenance: Gate<TenantKey>,
    streams: Open<TenantId>,
    /// One token a row.
    pub(super) rows: DefaultKeyedRateLimiter<TenantId>,
}

impl Limit {
    pub(super) fn new(plan: &Plan) -> Self {
        let gate = |class: Class| {
            let rate = plan.rate(class);
            let quota = OverQuota {
                reason: "RATE_LIMIT",
                subject: format!("tenant:requests:{}", class.as_str()),
                description: format!(
                    "{} requests of the plan {}: {rate}",
                    class.as_str(),
                    plan.name
                ),
            };
            Gate::new(rate, TenantKey, quota)
        };
        Self {
            read: gate(Class::Read),
            write: gate(Class::Write),
            stream: gate(Class::Stream),
            maintenance: gate(Class::Maintenance),
            streams: Open::default(),
            rows: super::limiter(plan.rows),
            plan: plan.clone(),
        }
    }

    const fn gate(&self, class: Class) -> &Gate<TenantKey> {
        match class {
            Class::Read => &self.read,
            Class::Write => &self.write,
            Class::Stream => &self.stream,
            Class::Maintenance => &self.maintenance,
        }
    }

    pub(super) fn prune(&self, more_than: usize) {
        for gate in [&self.read, &self.write, &self.stream, &self.maintenance] {
            gate.prune(more_than);
        }
        super::prune(&self.rows, more_than);
    }

    pub(super) const fn rows_burst(&self) -> u32 {
        self.plan.rows.burst()
    }

    /// What is told to whoever asks for more rows than are left.
    pub(super) fn rows_quota(&self) -> OverQuota {
        OverQuota {
            reason: "ROWS_RATE_LIMIT",
            subject: "tenant:rows".to_owned(),
            description: format!(
                "jobs and leads of the plan {}: {}",
                self.plan.name, self.plan.rows
            ),
        }
    }

    fn too_many_streams(&self) -> Status {
        let quota = OverQuota {
            reason: "STREAMS_LIMIT",
            subject: "tenant:streams".to_owned(),
            description: format!(
                "streams open at once of the plan {}: {}",
                self.plan.name, self.plan.streams_max
            ),
        };
        status::over_quota(&quota, status::RETRY_AFTER_LIMIT)
    }
}

/// The layer; inside of authentication.
#[derive(Clone)]
pub struct TenantLimit(Arc<Limits>);

impl TenantLimit {
    /// With the limiters of this process.
    pub const fn new(limits: Arc<Limits>) -> Self {
        Self(limits)
    }
}

impl<S> Layer<S> for TenantLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limits: Arc::clone(&self.0) }
    }
}

/// A service under [`TenantLimit`].
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S, B> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready goes with the request; its clone waits for the next
        // one.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        // Nobody's requests have their own limit, by address.
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Box::pin(ready.call(request));
        };
        let limit = self.limits.of(&caller.plan);
        let class = match methods::route(request.uri().path()) {
            Route::Keyed(method) => method.class,
            Route::System(_) => Class::Stream,
            Route::None => Class::Read,
        };
        let guard = if class == Class::Stream {
            match limit.streams.enter(&caller.tenant, limit.plan.streams_max) {
                Some(guard) => Some(guard),
                None => {
                    return Box::pin(std::future::ready(Ok(limit.too_many_streams().into_http())));
                }
            }
        } else {
            None
        };
        limit.gate(class).pass(ready, request, guard)
    }
}
