//! Lifecycles a second through the store: claim, submitted, ringing, in progress, completed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::run::RunState;
use trunkline::domain::{CallId, CallSid, RunId, TenantId, WorkerId};
use trunkline::store::{Claim, ClaimLimits, ClaimedCall, Recorder, Store};
use uuid::Uuid;

use super::backend::Backend;
use super::world::{self, World};
use super::{Options, floor};

/// How far ahead of its turn a call may be claimed.
const HORIZON: Duration = Duration::from_millis(250);
/// Runs of each tenant.
pub const RUNS: usize = 2;
/// Looks again this long after finding nothing to claim.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures and prints.
pub async fn measure(backend: &Backend, options: &Options) {
    let name = backend.name();
    println!(
        "{name}: lifecycles a second through the store, {} jobs, {} tenants of {RUNS} runs; best of {}",
        options.jobs, options.tenants, options.repeat
    );
    println!("{:<58} {:>8} {:>8} {:>6}", "", "store", "floor", "ratio");
    for batch in &options.batches {
        let label = format!("batches of {batch}, {} tasks", options.tasks);
        let mut best = (0.0f64, 0.0f64);
        for _ in 0..options.repeat {
            best.0 = best.0.max(batches(backend, options, *batch).await);
            best.1 = best.1.max(floor::run(backend, options, *batch).await);
        }
        println!("{label:<58} {:>8.0} {:>8.0} {:>6.2}", best.0, best.1, best.0 / best.1);
    }
    for permits in &options.batches {
        let label = format!("group commit, one claimer of {permits} permits, a task a call");
        let mut best = 0.0f64;
        for _ in 0..options.repeat {
            best = best.max(grouped(backend, options, *permits).await);
        }
        println!("{label:<58} {best:>8.0}");
    }
    println!();
}

/// A store with its jobs queued.
struct Queue {
    store: Store,
    runs: Vec<(TenantId, RunId)>,
    _world: World,
}

impl Queue {
    async fn new(backend: &Backend, options: &Options) -> Self {
        let (world, store) = World::new(backend).await;
        let mut runs = Vec::new();
        let share = options.jobs / options.tenants / RUNS;
        for n in 0..options.tenants {
            let tenant = world::make_tenant(&store, n).await;
            for run in 0..RUNS {
                let jobs = run * share..(run + 1) * share;
                runs.push((tenant.clone(), world::make_run(&store, &tenant, jobs).await));
            }
        }
        Self { store, runs, _world: world }
    }

    fn jobs(&self, options: &Options) -> usize {
        options.jobs / options.tenants / RUNS * self.runs.len()
    }

    /// Whatever was measured, nothing may be lost.
    async fn assert_completed(&self) {
        for (tenant, run) in &self.runs {
            let run = self.store.run(tenant, *run).await.expect("the run");
            assert_eq!(run.progress.state, RunState::Completed, "{:?}", run.progress);
            assert_eq!(run.progress.counts.completed, run.progress.counts.total());
        }
    }
}

/// What comes of a call, in order.
pub fn story(sid: &CallSid) -> [News; 4] {
    let status = |status, sequence, duration_s| News::Status {
        sid: sid.clone(),
        status,
        sequence: Some(sequence),
        duration_s,
        answered_by: None,
        error_code: None,
    };
    [
        News::Submitted { sid: sid.clone() },
        status(CarrierStatus::Ringing, 1, None),
        status(CarrierStatus::InProgress, 2, None),
        status(CarrierStatus::Completed, 3, Some(30)),
    ]
}

pub fn new_sid() -> CallSid {
    format!("CA{}", Uuid::new_v4().simple()).parse().expect("a call SID")
}

/// Claims what there is, until `left` calls were claimed; none when all were.
async fn claim(
    store: &Store,
    worker: &WorkerId,
    max_calls: usize,
    left: &AtomicUsize,
) -> Option<Claim> {
    while left.load(Ordering::Relaxed) > 0 {
        let limits = ClaimLimits { max_calls, horizon: HORIZON };
        let claim = store.claim(worker, limits).await.expect("a claim");
        if !claim.calls.is_empty() {
            left.fetch_sub(claim.calls.len(), Ordering::Relaxed);
            return Some(claim);
        }
        if claim.tenant.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    None
}

/// Tasks that each claim a batch and bring each piece of its news in one transaction.
async fn batches(backend: &Backend, options: &Options, batch: usize) -> f64 {
    let queue = Queue::new(backend, options).await;
    let jobs = queue.jobs(options);
    let left = Arc::new(AtomicUsize::new(jobs));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..options.tasks {
        let (store, left) = (queue.store.clone(), left.clone());
        tasks.spawn(async move {
            let worker = WorkerId(format!("bench:{n}"));
            while let Some(Claim { tenant: Some(tenant), calls, .. }) =
                claim(&store, &worker, batch, &left).await
            {
                let stories: Vec<(CallId, [News; 4])> =
                    calls.iter().map(|call| (call.call_id, story(&new_sid()))).collect();
                for step in 0..4 {
                    let news: Vec<_> =
                        stories.iter().map(|(call, story)| (*call, story[step].clone())).collect();
                    store.apply(&tenant, &news).await.expect("news that is stored");
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a task that ends");
    }
    let rate = jobs as f64 / began.elapsed().as_secs_f64();
    queue.assert_completed().await;
    rate
}

/// As a server does it: one claimer, a task for each call, news grouped by the recorder.
async fn grouped(backend: &Backend, options: &Options, permits: usize) -> f64 {
    let queue = Queue::new(backend, options).await;
    let jobs = queue.jobs(options);
    let left = AtomicUsize::new(jobs);
    let store: Store = queue.store.clone();
    let recorder = Recorder::new(store);
    let worker = WorkerId("bench:0".into());
    let free = Arc::new(Semaphore::new(permits));
    let began = Instant::now();
    let mut calls = JoinSet::new();
    loop {
        let one = free.clone().acquire_owned().await.expect("an open semaphore");
        let mut taken = vec![one];
        while let Ok(permit) = free.clone().try_acquire_owned() {
            taken.push(permit);
        }
        let Some(claim) = claim(&queue.store, &worker, taken.len(), &left).await else { break };
        let Some(tenant) = claim.tenant else { continue };
        for (call, permit) in claim.calls.into_iter().zip(taken) {
            calls.spawn(live(recorder.clone(), tenant.clone(), call, permit));
        }
    }
    while let Some(done) = calls.join_next().await {
        done.expect("a call that ends");
    }
    let rate = jobs as f64 / began.elapsed().as_secs_f64();
    queue.assert_completed().await;
    rate
}

async fn live(
    recorder: Recorder,
    tenant: TenantId,
    call: ClaimedCall,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let mut permit = Some(permit);
    for news in story(&new_sid()) {
        recorder.record(&tenant, call.call_id, news).await.expect("news that is stored");
        // As after the carrier's answer: the place belongs to the next call.
        permit.take();
    }
}
