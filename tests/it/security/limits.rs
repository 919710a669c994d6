//! Limits of tenants and addresses.

use std::time::{Duration, Instant};

use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trunkline::domain::access::Exposure;
use trunkline::domain::plan::{HIGH_VOLUME, Limits, Rate};
use trunkline::domain::tenant::Tenant;
use trunkline::grpc::auth::Rules;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::{Config, pb, pb::import_jobs_request as import};

use super::{jobs, limited, list, new_run, over, server, standard, until, with};
use crate::support::{TestStore, on_both_stores};

on_both_stores!(queued_jobs_are_bounded);

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// Asks until there is nothing left of a quota of one a second that was used up but for what came
/// back since `began`.
async fn exhausted<T>(began: Instant, mut ask: impl AsyncFnMut() -> Result<T, Status>) -> Status {
    let mut let_in = 0;
    loop {
        match ask().await {
            Err(status) if status.code() == Code::ResourceExhausted => return status,
            Ok(_) | Err(_) => let_in += 1,
        }
        assert!(let_in <= began.elapsed().as_secs(), "{let_in} more than the quota");
    }
}

#[tokio::test]
async fn a_used_up_quota_says_when_to_come_again() {
    let limits = standard(|plan| plan.read = rate("1/s burst 5"));
    let server = limited(TestStore::sqlite().await, limits).await;
    let began = Instant::now();
    let mut queue = server.queue().await;
    for _ in 0..5 {
        queue.list_runs(with("one", list())).await.unwrap();
    }
    let refused = exhausted(began, async || queue.list_runs(with("one", list())).await).await;
    let wait = over(&refused, "RATE_LIMIT", "tenant:requests:read");
    // Less than a second is left; it is rounded up.
    assert_eq!(wait, Duration::from_secs(1));
    // Neither another class nor another tenant notices.
    queue.create_run(with("one", new_run(vec![]))).await.unwrap();
    queue.list_runs(with("two", list())).await.unwrap();
    tokio::time::sleep(wait).await;
    queue.list_runs(with("one", list())).await.unwrap();
}

#[tokio::test]
async fn each_plan_has_its_own_numbers() {
    let limits = standard(|plan| plan.read = rate("1/s burst 1"));
    let server = limited(TestStore::sqlite().await, limits).await;
    let began = Instant::now();
    let store = &server.test.store;
    let two = store.tenant(&"two".parse().unwrap()).await.unwrap();
    store.put_tenant(&Tenant { plan: HIGH_VOLUME.into(), ..two }).await.unwrap();
    let mut queue = server.queue().await;
    for _ in 0..3 {
        queue.list_runs(with("two", list())).await.unwrap();
    }
    queue.list_runs(with("one", list())).await.unwrap();
    let refused = exhausted(began, async || queue.list_runs(with("one", list())).await).await;
    over(&refused, "RATE_LIMIT", "tenant:requests:read");
}

#[tokio::test]
async fn maintenance_has_its_own_quota() {
    let limits = standard(|plan| plan.maintenance = rate("1/s burst 1"));
    let server = limited(TestStore::sqlite().await, limits).await;
    let began = Instant::now();
    let mut queue = server.queue().await;
    queue.reconcile_runs(with("one", pb::ReconcileRunsRequest::default())).await.unwrap();
    let cleanup = async || {
        queue.cleanup_stale_calls(with("one", pb::CleanupStaleCallsRequest::default())).await
    };
    over(&exhausted(began, cleanup).await, "RATE_LIMIT", "tenant:requests:maintenance");
}

#[tokio::test]
async fn rows_are_metered() {
    let limits = standard(|plan| plan.rows = rate("1/s burst 1000"));
    let server = limited(TestStore::sqlite().await, limits).await;
    let (mut queue, mut leads) = (server.queue().await, server.leads().await);
    let created = queue.create_run(with("one", new_run(jobs(0..700)))).await.unwrap().into_inner();
    let run_id = created.run.unwrap().run_id;
    let add = |jobs| pb::AddJobsRequest { run_id: run_id.clone(), jobs, ..Default::default() };
    let refused = queue.add_jobs(with("one", add(jobs(700..1_100)))).await.unwrap_err();
    let wait = over(&refused, "ROWS_RATE_LIMIT", "tenant:rows");
    assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(100), "{wait:?}");
    // All or none: there are still 300.
    queue.add_jobs(with("one", add(jobs(700..1_000)))).await.unwrap();
    let facts = |n: usize| pb::LeadFacts {
        phone: crate::support::phone(n).expose().into(),
        ..Default::default()
    };
    let batch =
        pb::BatchCreateLeadsRequest { leads: (0..50).map(facts).collect(), ..Default::default() };
    let refused = leads.batch_create_leads(with("one", batch.clone())).await.unwrap_err();
    over(&refused, "ROWS_RATE_LIMIT", "tenant:rows");
    leads.batch_create_leads(with("two", batch)).await.unwrap();
}

/// One stream is one request, but not one row.
#[tokio::test]
async fn an_import_is_slowed_down_and_not_refused() {
    let limits = standard(|plan| plan.rows = rate("400/s burst 1000"));
    let server = limited(TestStore::sqlite().await, limits).await;
    let mut queue = server.queue().await;
    let run_id = queue
        .create_run(with("one", new_run(vec![])))
        .await
        .unwrap()
        .into_inner()
        .run
        .unwrap()
        .run_id;
    let header = import::Header { run_id, import_id: "a".into(), seal: false };
    let batch = |offset: usize| {
        import::Part::Batch(import::Batch {
            offset: offset as u64,
            jobs: jobs(offset..offset + 1_000),
        })
    };
    let parts = [import::Part::Header(header), batch(0), batch(1_000)];
    let messages = parts.map(|part| pb::ImportJobsRequest { part: Some(part) });
    let started = Instant::now();
    let answer =
        queue.import_jobs(with("one", tokio_stream::iter(messages))).await.unwrap().into_inner();
    assert_eq!(answer.added_count, 2_000);
    // The second thousand comes at 400 a second.
    assert!(started.elapsed() >= Duration::from_millis(2_400), "{:?}", started.elapsed());
}

async fn queued_jobs_are_bounded(test: TestStore) {
    let server = limited(test, standard(|plan| plan.queued_jobs_max = 10)).await;
    let mut queue = server.queue().await;
    let run =
        queue.create_run(with("one", new_run(jobs(0..8)))).await.unwrap().into_inner().run.unwrap();
    let add = |jobs| pb::AddJobsRequest { run_id: run.run_id.clone(), jobs, ..Default::default() };
    let refused = queue.add_jobs(with("one", add(jobs(8..11)))).await.unwrap_err();
    over(&refused, "QUEUED_JOBS_LIMIT", "tenant:queued_jobs");
    let refused = queue.create_run(with("one", new_run(jobs(0..3)))).await.unwrap_err();
    over(&refused, "QUEUED_JOBS_LIMIT", "tenant:queued_jobs");
    // Nothing of what was refused is there; what is there already takes no more room.
    let two = queue.add_jobs(with("one", add(jobs(6..10)))).await.unwrap().into_inner();
    assert_eq!((two.added_count, two.duplicate_count), (2, 2));
    queue.create_run(with("two", new_run(jobs(0..10)))).await.unwrap();
    // An ended job makes room.
    let job_id = two.results[3].job_id.clone();
    let cancel = pb::CancelJobsRequest {
        run_id: run.run_id.clone(),
        job_ids: vec![job_id],
        ..Default::default()
    };
    queue.cancel_jobs(with("one", cancel)).await.unwrap();
    queue.add_jobs(with("one", add(jobs(20..21)))).await.unwrap();
    let refused = queue.add_jobs(with("one", add(jobs(21..22)))).await.unwrap_err();
    over(&refused, "QUEUED_JOBS_LIMIT", "tenant:queued_jobs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_bounded_and_come_back() {
    let server = limited(TestStore::sqlite().await, standard(|plan| plan.streams_max = 2)).await;
    let mut queue = server.queue().await;
    let run =
        queue.create_run(with("one", new_run(vec![]))).await.unwrap().into_inner().run.unwrap();
    let other =
        queue.create_run(with("two", new_run(vec![]))).await.unwrap().into_inner().run.unwrap();
    let watch =
        |run_id: &str| pb::WatchRunRequest { run_id: run_id.to_owned(), ..Default::default() };
    let first = queue.watch_run(with("one", watch(&run.run_id))).await.unwrap().into_inner();
    let mut second = queue.watch_run(with("one", watch(&run.run_id))).await.unwrap().into_inner();
    let refused = queue.watch_run(with("one", watch(&run.run_id))).await.unwrap_err();
    over(&refused, "STREAMS_LIMIT", "tenant:streams");
    queue.watch_run(with("two", watch(&other.run_id))).await.unwrap();
    // A client that leaves makes room,
    drop(first);
    let third = until(|| {
        let mut queue = queue.clone();
        let request = with("one", watch(&run.run_id));
        async move { queue.watch_run(request).await }
    })
    .await;
    // and so does a stream that ends by itself.
    let cancel = pb::CancelRunRequest { run_id: run.run_id.clone(), ..Default::default() };
    queue.cancel_run(with("one", cancel)).await.unwrap();
    while second.message().await.unwrap().is_some() {}
    until(|| {
        let mut queue = queue.clone();
        let request = with("one", watch(&run.run_id));
        async move { queue.watch_run(request).await }
    })
    .await;
    drop(third);
}

#[tokio::test]
async fn an_address_is_limited_before_its_key_is_looked_at() {
    let limits = Limits { peer: rate("1/s burst 3"), ..Limits::default() };
    let server = limited(TestStore::sqlite().await, limits).await;
    let began = Instant::now();
    let mut queue = OutboundQueueClient::new(server.connect_from(2).await);
    for _ in 0..3 {
        let refused = queue.list_runs(Request::new(list())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let refused = exhausted(began, async || queue.list_runs(Request::new(list())).await).await;
    assert_eq!(over(&refused, "PEER_RATE_LIMIT", "peer:requests"), Duration::from_secs(1));
    // Another connection from there has no quota of its own, and a right key makes no difference.
    let mut queue = OutboundQueueClient::new(server.connect_from(2).await);
    exhausted(began, async || queue.list_runs(with("one", list())).await).await;
    let mut health = HealthClient::new(server.connect_from(2).await);
    exhausted(began, async || health.check(HealthCheckRequest::default()).await).await;
    let mut queue = OutboundQueueClient::new(server.connect_from(3).await);
    queue.list_runs(with("one", list())).await.unwrap();
}

async fn exposed(health: Exposure, reflection: Exposure) -> (Code, Code, Code, Code) {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let rules = Rules { health, reflection, ..Rules::default() };
    let server = server(TestStore::sqlite().await, Config { rules, ..Config::default() }).await;
    let channel = server.connect_from(1).await;
    let mut health = HealthClient::new(channel.clone());
    let mut reflection = ServerReflectionClient::new(channel);
    let code = |result: Result<(), tonic::Status>| {
        result.map_or_else(|status| status.code(), |()| Code::Ok)
    };
    let ask = || {
        let list = MessageRequest::ListServices(String::new());
        tokio_stream::iter([ServerReflectionRequest {
            host: String::new(),
            message_request: Some(list),
        }])
    };
    (
        code(health.check(HealthCheckRequest::default()).await.map(drop)),
        code(health.check(with("one", HealthCheckRequest::default())).await.map(drop)),
        code(reflection.server_reflection_info(Request::new(ask())).await.map(drop)),
        code(reflection.server_reflection_info(with("one", ask())).await.map(drop)),
    )
}

#[tokio::test]
async fn health_and_reflection_are_as_open_as_settings_say() {
    let (ok, shut, gone) = (Code::Ok, Code::Unauthenticated, Code::Unimplemented);
    assert_eq!(exposed(Exposure::Open, Exposure::Open).await, (ok, ok, ok, ok));
    assert_eq!(exposed(Exposure::Keyed, Exposure::Off).await, (shut, ok, gone, gone));
    assert_eq!(exposed(Exposure::Off, Exposure::Keyed).await, (gone, gone, shut, ok));
}

/// Health streams need no key, so no tenant's limit holds them.
#[tokio::test]
async fn streams_without_a_key_are_bounded_by_address() {
    let server = limited(TestStore::sqlite().await, Limits::default()).await;
    let mut health = HealthClient::new(server.connect_from(2).await);
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(health.watch(HealthCheckRequest::default()).await.unwrap());
    }
    let refused = health.watch(HealthCheckRequest::default()).await.unwrap_err();
    over(&refused, "PEER_STREAMS_LIMIT", "peer:streams");
    let mut health = HealthClient::new(server.connect_from(3).await);
    health.watch(HealthCheckRequest::default()).await.unwrap();
}
