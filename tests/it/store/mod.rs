//! The conformance suite: every use case, the same on both stores.

mod audience;
mod breaker;
mod claims;
mod leads;
mod logs;
mod news;
mod people;
mod reschedule;
mod runs;
mod statements;
mod suppressions;
mod tasks;
mod transfers;
mod trim;

use std::time::{Duration, Instant};

use crate::support::worker;
use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::run::JobCounts;
use trunkline::domain::task::{Lane, TaskKind};
use trunkline::domain::{CallId, CallSid, RunId, TenantId};
use trunkline::store::{Claim, ClaimLimits, JobView, Page, Store, Task};

pub const LIMITS: ClaimLimits = ClaimLimits { max_calls: 32, horizon: Duration::from_millis(250) };
pub const FAST: f64 = 10_000.0;
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn sid(call: CallId) -> CallSid {
    format!("CA{}", call.0.simple()).parse().unwrap()
}

pub fn status(call: CallId, status: CarrierStatus, sequence: u32) -> (CallId, News) {
    let news = News::Status {
        sid: sid(call),
        status,
        sequence: Some(sequence),
        duration_s: status.is_final().then_some(7),
        answered_by: None,
        error_code: None,
    };
    (call, news)
}

pub async fn claim(store: &Store) -> Claim {
    store.claim(&worker("1"), LIMITS).await.unwrap()
}

/// Claims until there are `n` calls; pace and wake-ups are real, so it may take a moment.
pub async fn claim_n(store: &Store, n: usize) -> Vec<trunkline::store::ClaimedCall> {
    let mut calls = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    while calls.len() < n && Instant::now() < end {
        calls.extend(claim(store).await.calls);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls
}

/// Claims until long after every wake-up was passed on, and gets nothing.
pub async fn assert_claims_nothing(store: &Store) {
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert!(claim(store).await.calls.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Claims, and gets nothing, until that has done what is waited for; wake-ups are passed on in
/// their own time.
pub async fn claim_nothing_until(store: &Store, done: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done().await {
        assert!(claim(store).await.calls.is_empty());
        assert!(Instant::now() < end, "nothing became of it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_claims_nothing(store).await;
}

pub async fn finish(store: &Store, tenant: &TenantId, call: CallId, end: CarrierStatus) {
    let news = [
        (call, News::Submitted { sid: sid(call) }),
        status(call, CarrierStatus::Ringing, 1),
        status(call, CarrierStatus::InProgress, 2),
        status(call, end, 3),
    ];
    let skip = usize::from(end != CarrierStatus::Completed);
    let news: Vec<_> = news
        .into_iter()
        .enumerate()
        .filter(|(i, _)| skip == 0 || *i != 2)
        .map(|(_, n)| n)
        .collect();
    store.apply(tenant, &news).await.unwrap();
}

/// The next task of this kind, as soon as it is due.
pub async fn next_task(store: &Store, kind: TaskKind, holds: Duration) -> Task {
    let end = Instant::now() + PATIENCE;
    loop {
        let claimed = store.claim_tasks(&worker("a"), Lane::Inside, 10, holds).await.unwrap();
        if let Some(task) = claimed.tasks.into_iter().find(|task| task.kind == kind) {
            return task;
        }
        assert!(Instant::now() < end, "none became due");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Does what changes of windows put in, as it is due; how many pages there were, those that found
/// nothing included.
pub async fn reschedule_all(store: &Store) -> usize {
    for pages in 0..20 {
        let due = store.claim_tasks(&worker("b"), Lane::Inside, 1_000, PATIENCE).await.unwrap();
        let Some(task) = due.tasks.iter().find(|task| task.kind == TaskKind::Reschedule) else {
            return pages;
        };
        store.reschedule(task).await.unwrap();
    }
    panic!("it goes on and on");
}

/// All jobs of a run.
pub async fn all_jobs(store: &Store, tenant: &TenantId, run: RunId) -> Vec<JobView> {
    let (mut all, mut page) = (Vec::new(), Page { size: 1_000, after: None });
    loop {
        let jobs = store.list_jobs(tenant, run, &[], page).await.unwrap();
        all.extend(jobs.items);
        page.after = jobs.next;
        if jobs.next.is_none() {
            return all;
        }
    }
}

/// Invariant 5, from the rows themselves.
pub async fn assert_nothing_lost(store: &Store, tenant: &TenantId, run: RunId) -> JobCounts {
    let view = store.run(tenant, run).await.unwrap();
    let mut counts = JobCounts::default();
    all_jobs(store, tenant, run).await.iter().for_each(|job| *counts.of_mut(job.state) += 1);
    assert_eq!(counts, view.progress.counts);
    counts
}
