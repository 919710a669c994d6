//! Group commit: many tasks each bring one piece of news, one transaction per tenant takes them
//! all.
//!
//! News that arrives while a tenant's transaction is under way waits for the next one, so batches
//! grow with the load and nobody waits for a timer. A batch that fails is split until the bad piece
//! stands alone.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::domain::call::News;
use crate::domain::{CallId, TenantId};
use crate::store::{Applied, BATCH_MAX, Error, Result, Store};

/// Pieces of news that may wait for the dispatcher; beyond it, whoever brings more waits.
const WAITING_MAX: usize = 8_192;
/// A batch of this many keeps the run's row locked for a few milliseconds only.
const BATCH: usize = if BATCH_MAX < 500 { BATCH_MAX } else { 500 };

/// Records news of calls in batches; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    waiting: mpsc::Sender<Item>,
}

struct Item {
    tenant: TenantId,
    news: (CallId, News),
    answer: oneshot::Sender<Result<Applied>>,
}

impl Recorder {
    /// A recorder over `store`; its dispatcher lives as long as a clone of it does.
    pub fn new(store: Store) -> Self {
        let (waiting, items) = mpsc::channel(WAITING_MAX);
        tokio::spawn(dispatch(store, items));
        Self { waiting }
    }

    /// Returns once the news is committed.
    pub async fn record(&self, tenant: &TenantId, call: CallId, news: News) -> Result<Applied> {
        let (answer, answered) = oneshot::channel();
        let item = Item { tenant: tenant.clone(), news: (call, news), answer };
        let gone = || Error::Unavailable("the recorder has stopped".to_owned());
        self.waiting.send(item).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// One transaction at a time for each tenant, as many tenants at a time as bring news.
async fn dispatch(store: Store, mut items: mpsc::Receiver<Item>) {
    let mut waiting: HashMap<TenantId, VecDeque<Item>> = HashMap::new();
    let mut under_way: JoinSet<TenantId> = JoinSet::new();
    loop {
        tokio::select! {
            item = items.recv() => {
                let Some(item) = item else { break };
                match waiting.get_mut(&item.tenant) {
                    // A transaction is under way; the next one takes it.
                    Some(queue) => queue.push_back(item),
                    None => {
                        waiting.insert(item.tenant.clone(), VecDeque::new());
                        under_way.spawn(commit(store.clone(), vec![item]));
                    }
                }
            }
            Some(done) = under_way.join_next() => {
                // A panic in `commit` drops its answers, so their owners hear of it; the tenant is
                // found by nobody then, which `catch` in `commit` rules out.
                let Ok(tenant) = done else { continue };
                let Some(queue) = waiting.get_mut(&tenant) else { continue };
                if queue.is_empty() {
                    waiting.remove(&tenant);
                } else {
                    let batch = queue.drain(..queue.len().min(BATCH)).collect();
                    under_way.spawn(commit(store.clone(), batch));
                }
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Commits a batch of one tenant and answers its owners.
async fn commit(store: Store, batch: Vec<Item>) -> TenantId {
    let tenant = batch[0].tenant.clone();
    let (news, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|item| (item.news, item.answer)).unzip();
    let applying = {
        let (tenant, store) = (tenant.clone(), store.clone());
        // A task of its own, so that a panic ends the batch and not the tenant's turn.
        tokio::spawn(async move { apply(&store, &tenant, &news).await })
    };
    let results = applying.await.unwrap_or_default();
    for (answer, result) in answers.into_iter().zip(results) {
        // An error means that the owner went away.
        let _ = answer.send(result);
    }
    tenant
}

/// One result for each piece of news.
fn apply<'a>(
    store: &'a Store,
    tenant: &'a TenantId,
    news: &'a [(CallId, News)],
) -> BoxFuture<'a, Vec<Result<Applied>>> {
    Box::pin(async move {
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(5)
            .with_jitter();
        let applied =
            (|| store.apply(tenant, news)).retry(patience).when(Error::is_transient).await;
        match applied {
            Ok(applied) => applied.into_iter().map(Ok).collect(),
            Err(error) if news.len() == 1 || error.is_transient() => {
                let why = error.to_string();
                let again = |transient| {
                    if transient {
                        Error::Unavailable(why.clone())
                    } else {
                        Error::Internal(why.clone())
                    }
                };
                let transient = error.is_transient();
                news.iter().map(|_| Err(again(transient))).collect()
            }
            Err(error) => {
                tracing::error!(%tenant, pieces = news.len(), %error, "a batch of news failed; splitting it");
                let (left, right) = news.split_at(news.len() / 2);
                let mut results = apply(store, tenant, left).await;
                results.extend(apply(store, tenant, right).await);
                results
            }
        }
    })
}
