//! What every service is made of: the store, the caller, and a task of its own for each use case.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::auth::Caller;
use super::limits::{Limits, Rows};
use super::status::{self, Refusal};
use crate::domain::TenantId;
use crate::progress::Hub;
use crate::store::{Actor, Client, Store};

/// Shared by all services; cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    /// Where everything durable lives.
    pub store: Store,
    /// Where watchers come from.
    pub hub: Hub,
    /// Canceled when this process goes away.
    pub draining: CancellationToken,
    /// Use cases under way; a drain waits for them.
    pub tasks: TaskTracker,
    /// How much may come in.
    pub limits: Arc<Limits>,
}

/// One request's side of a use case.
#[derive(Clone)]
pub(super) struct Call {
    /// Where everything durable lives, on behalf of the key that asks.
    pub store: Store,
    /// Whose request it is.
    pub tenant: TenantId,
    /// What national phones are read with where the client names no region.
    pub region: Option<String>,
    /// How many jobs and leads may still come in.
    pub rows: Rows,
}

impl Shared {
    /// The caller's side of `request`.
    pub(super) fn call<Q>(&self, request: &Request<Q>) -> Result<Call, Status> {
        // The layer in front puts it there; without that layer nobody is anybody.
        let caller = request.extensions().get::<Caller>();
        let caller =
            caller.ok_or_else(|| status::internal(&"a request came past authentication"))?;
        let client = Client {
            tenant: caller.tenant.clone(),
            key_id: caller.key_id.clone(),
            peer: request.remote_addr().map(|address| address.ip().to_canonical()),
            method: caller.method,
        };
        let store = self.store.acting(Actor::Client(client));
        let rows = Rows::of(&self.limits, caller);
        Ok(Call { store, tenant: caller.tenant.clone(), region: caller.region.clone(), rows })
    }

    /// Carries a unary request out in a task of its own: a client that goes away cancels nothing
    /// half-done, and a panic is INTERNAL.
    pub(super) async fn unary<Q, A, F>(
        &self,
        request: Request<Q>,
        use_case: impl FnOnce(Call, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        let call = self.call(&request)?;
        self.detached(use_case(call, request.into_inner())).await.map(Response::new)
    }

    /// Carries `work` out in a task of its own.
    pub(super) async fn detached<A, F>(&self, work: F) -> Result<A, Status>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        carry_out(&self.tasks, work).await
    }
}

async fn carry_out<A, F>(tasks: &TaskTracker, work: F) -> Result<A, Status>
where
    A: Send + 'static,
    F: Future<Output = Result<A, Refusal>> + Send + 'static,
{
    match tasks.spawn(work.in_current_span()).await {
        Ok(answer) => answer.map_err(Status::from),
        // The panic's message may hold anything; the hook has printed where it was.
        Err(error) if error.is_panic() => Err(status::internal(&"a use case panicked")),
        Err(_) => Err(status::draining()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_internal_and_says_nothing() {
        let tasks = TaskTracker::new();
        let status =
            carry_out::<(), _>(&tasks, async { panic!("of +14155550123") }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("1415"), "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_cancels_nothing() {
        let (tasks, done) = (TaskTracker::new(), CancellationToken::new());
        let finished = done.clone();
        let work = async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            finished.cancel();
            Ok(())
        };
        let gone = tokio::time::timeout(Duration::from_secs(1), carry_out(&tasks, work)).await;
        assert!(gone.is_err() && !done.is_cancelled());
        tasks.close();
        tasks.wait().await;
        assert!(done.is_cancelled());
    }
}
