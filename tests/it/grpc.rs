//! The wire over a real socket and a real store.

mod leads;
mod suppressions;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use trunkline::domain::call::{News, WITHDRAWN};
use trunkline::grpc::pb::leads_client::LeadsClient;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::pb::{self, import_jobs_request as import, watch_run_response::Kind};
use trunkline::grpc::{Config, serve};
use trunkline::progress::{Cursor, Hub};
use trunkline::store::{ApiKey, ClaimLimits, Store};

use crate::support::{self, TestStore, on_both_stores};

on_both_stores!(
    keys_scopes_and_tenants,
    request_ids_repeat_and_refuse,
    pages_jobs_and_leads,
    imports_resume,
    watches_to_the_end_and_resumes_anywhere,
    deadlines_are_ours,
    unary_deadlines_beat_tonics,
    drains,
);

struct Server {
    channel: Channel,
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    test: TestStore,
}

const SECRET: &str = "s3cret";

async fn key(store: &Store, id: &str, tenant: &str, scopes: &[&str]) {
    let key = ApiKey {
        key_id: id.into(),
        tenant: tenant.parse().unwrap(),
        secret_hash: Sha256::digest(SECRET).into(),
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        expires_at: None,
        revoked_at: None,
    };
    store.put_key(&key).await.unwrap();
}

async fn server(test: TestStore) -> Server {
    let store: Store = test.store.clone();
    for tenant in ["one", "two"] {
        support::make_tenant(&store, tenant, 3, 10.0).await;
    }
    key(&store, "one", "one", &["admin"]).await;
    key(&store, "two", "two", &["outbound:write", "leads:write"]).await;
    key(&store, "reader", "one", &["outbound:read"]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let hub = Hub::new(store.clone());
    let token = shutdown.clone();
    let task = tokio::spawn(async move {
        serve(listener, store, hub, Config::default(), token).await.unwrap();
    });
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    Server { channel, addr, shutdown, task, test }
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {key}.{SECRET}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

fn settings() -> pb::RunSettings {
    let say = pb::script::Say { text: "Hello".into(), ..Default::default() };
    let script = Some(pb::Script { kind: Some(pb::script::Kind::Say(say)) });
    pb::RunSettings { name: "test".into(), script, ..Default::default() }
}

fn job(n: usize) -> pb::NewJob {
    let phone = support::phone(n).expose().to_owned();
    let lead = pb::LeadFacts { phone, ..Default::default() };
    pb::NewJob { who: Some(pb::new_job::Who::Lead(lead)), ..Default::default() }
}

impl Server {
    fn queue(&self) -> OutboundQueueClient<Channel> {
        OutboundQueueClient::new(self.channel.clone())
    }

    async fn run(&self, jobs: usize) -> String {
        let request = pb::CreateRunRequest {
            settings: Some(settings()),
            jobs: (0..jobs).map(job).collect(),
            ..Default::default()
        };
        self.queue()
            .create_run(with("one", request))
            .await
            .unwrap()
            .into_inner()
            .run
            .unwrap()
            .run_id
    }
}

fn field(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

async fn keys_scopes_and_tenants(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(1).await;
    let get = || pb::GetRunRequest { run_id: run_id.clone() };
    let mut queue = server.queue();
    assert_eq!(queue.get_run(Request::new(get())).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        queue.get_run(with("nobody", get())).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(queue.get_run(with("two", get())).await.unwrap_err().code(), Code::NotFound);
    let response = queue.get_run(with("reader", get())).await.unwrap();
    assert!(response.metadata().contains_key("x-request-id"));
    let pause = pb::StartRunRequest { run_id: run_id.clone(), ..Default::default() };
    let denied = queue.start_run(with("reader", pause)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("outbound:write"));
}

async fn request_ids_repeat_and_refuse(test: TestStore) {
    let server = server(test).await;
    let mut queue = server.queue();
    let request = |n: usize| pb::CreateRunRequest {
        request_id: "once".into(),
        settings: Some(settings()),
        jobs: vec![job(n), pb::NewJob::default()],
        ..Default::default()
    };
    let first = queue.create_run(with("one", request(1))).await.unwrap().into_inner();
    assert_eq!(first.results[1].error, "jobs[1].who: is required");
    let again = queue.create_run(with("one", request(1))).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = queue.create_run(with("one", request(2))).await.unwrap_err();
    assert_eq!((other.code(), field(&other)), (Code::InvalidArgument, "request_id".into()));
    let past =
        pb::RunSettings { expires_at: Some(prost_types::Timestamp::default()), ..settings() };
    let request = pb::CreateRunRequest { settings: Some(past), ..Default::default() };
    let past = queue.create_run(with("one", request)).await.unwrap_err();
    assert_eq!(field(&past), "settings.expires_at");
}

async fn pages_jobs_and_leads(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(25).await;
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = pb::ListJobsRequest {
            run_id: run_id.clone(),
            page_size: 10,
            page_token: token,
            states: vec![],
        };
        let page = server.queue().list_jobs(with("one", request)).await.unwrap().into_inner();
        seen.extend(page.jobs.into_iter().map(|job| job.job_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 25);
    let mut leads = LeadsClient::new(server.channel.clone());
    let all =
        leads.list_leads(with("one", pb::ListLeadsRequest::default())).await.unwrap().into_inner();
    assert_eq!(all.leads.len(), 25);
    let lead = pb::LeadFacts { phone: support::phone(3).expose().into(), ..Default::default() };
    let create = pb::CreateLeadRequest { lead: Some(lead), ..Default::default() };
    assert!(!leads.create_lead(with("one", create)).await.unwrap().into_inner().created);
}

async fn imports_resume(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(0).await;
    let header = |seal| import::Header { run_id: run_id.clone(), import_id: "a".into(), seal };
    let part = |part| pb::ImportJobsRequest { part: Some(part) };
    let batch = |offset: u64, n: u64| {
        let jobs = (offset..offset + n).map(|n| job(n as usize)).collect();
        part(import::Part::Batch(import::Batch { offset, jobs }))
    };
    let send = |parts: Vec<pb::ImportJobsRequest>| {
        let mut queue = server.queue();
        async move {
            queue.import_jobs(with("one", tokio_stream::iter(parts))).await.map(|r| r.into_inner())
        }
    };
    let headed =
        |seal, batches: Vec<_>| [vec![part(import::Part::Header(header(seal)))], batches].concat();
    let first = send(headed(false, vec![batch(0, 10), batch(10, 10)])).await.unwrap();
    assert_eq!((first.offset, first.added_count), (20, 20));
    let gap = send(headed(false, vec![batch(21, 1)])).await.unwrap_err();
    assert_eq!(field(&gap), "batch.offset");
    assert_eq!(field(&send(vec![batch(0, 1)]).await.unwrap_err()), "header");
    let again = send(headed(true, vec![batch(0, 15), batch(15, 15)])).await.unwrap();
    assert_eq!((again.offset, again.added_count, again.duplicate_count), (30, 10, 0));
    let run = server
        .queue()
        .get_run(with("one", pb::GetRunRequest { run_id }))
        .await
        .unwrap()
        .into_inner();
    let run = run.run.unwrap();
    assert!(run.sealed);
    assert_eq!(run.progress.unwrap().counts.unwrap().total, 30);
}

async fn watch(
    server: &Server,
    run_id: &str,
    resume_token: &str,
    view: pb::WatchView,
) -> tonic::Streaming<pb::WatchRunResponse> {
    let request = pb::WatchRunRequest {
        run_id: run_id.into(),
        resume_token: resume_token.into(),
        view: view.into(),
        bookmark_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    server.queue().watch_run(with("one", request)).await.unwrap().into_inner()
}

async fn watches_to_the_end_and_resumes_anywhere(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(5).await;
    let mut full = watch(&server, &run_id, "", pb::WatchView::Full).await;
    let first = full.message().await.unwrap().unwrap();
    assert!(matches!(first.kind, Some(Kind::Snapshot(_))));
    let mut progress = watch(&server, &run_id, "", pb::WatchView::Progress).await;
    progress.message().await.unwrap().unwrap();
    assert!(matches!(full.message().await.unwrap().unwrap().kind, Some(Kind::Bookmark(_))));
    let start = pb::StartRunRequest { run_id: run_id.clone(), ..Default::default() };
    let asked = Instant::now();
    server.queue().start_run(with("one", start)).await.unwrap();
    let next = loop {
        let next = full.message().await.unwrap().unwrap();
        if !matches!(next.kind, Some(Kind::Bookmark(_))) {
            break next;
        }
    };
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(next.revision, first.revision + 1);
    let cancel = pb::CancelRunRequest { run_id: run_id.clone(), ..Default::default() };
    let canceled = server.queue().cancel_run(with("one", cancel)).await.unwrap().into_inner();
    assert_eq!(canceled.in_flight, Some(pb::InFlight::default()));
    let (mut revisions, mut last) = (vec![next.revision], None);
    while let Some(update) = full.message().await.unwrap() {
        if let Some(Kind::Events(events)) = update.kind {
            revisions.push(update.revision);
            last = events.progress;
        }
    }
    let total = *revisions.last().unwrap();
    assert_eq!(revisions, (first.revision + 1..=total).collect::<Vec<_>>());
    assert_eq!(last.unwrap().state, pb::RunState::Canceled as i32);
    let mut ended = false;
    while let Some(update) = progress.message().await.unwrap() {
        if let Some(Kind::Snapshot(snapshot)) = update.kind {
            ended = snapshot.run.unwrap().end_time.is_some();
        }
    }
    assert!(ended);
    let epoch = server.test.store.epoch().to_owned();
    let run = run_id.parse().unwrap();
    let cursor = |revision| Cursor { epoch: epoch.clone(), run, revision };
    for at in 0..=total {
        let mut stream =
            watch(&server, &run_id, &cursor(at).to_string(), pb::WatchView::Full).await;
        let mut got = Vec::new();
        while let Some(update) = stream.message().await.unwrap() {
            if let Some(Kind::Events(_)) = update.kind {
                got.push(update.revision);
            }
        }
        assert_eq!(got, (at + 1..=total).collect::<Vec<_>>());
    }
    for (cursor, reason) in [
        (cursor(total + 1), "future"),
        (Cursor { epoch: "other".into(), ..cursor(1) }, "foreign_epoch"),
        (
            Cursor { run: "00000000-0000-0000-0000-000000000000".parse().unwrap(), ..cursor(1) },
            "other_run",
        ),
    ] {
        for view in [pb::WatchView::Full, pb::WatchView::Progress] {
            let mut stream = watch(&server, &run_id, &cursor.to_string(), view).await;
            let status = stream.message().await.unwrap_err();
            assert_eq!(status.code(), Code::OutOfRange);
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.metadata["reason"], reason);
            assert!(info.metadata["oldest_resume_token"].parse::<Cursor>().is_ok());
        }
    }
    // Long after the end its log is deleted: what was missed cannot be had, the run can.
    server.test.store.trim_logs(Duration::ZERO).await.unwrap();
    let mut late = watch(&server, &run_id, &cursor(1).to_string(), pb::WatchView::Full).await;
    let status = late.message().await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.metadata["reason"].as_str()), (Code::OutOfRange, "trimmed"));
    for (token, updates) in [(info.metadata["oldest_resume_token"].as_str(), 0), ("", 1)] {
        let mut stream = watch(&server, &run_id, token, pb::WatchView::Full).await;
        let mut snapshots = 0;
        while let Some(update) = stream.message().await.unwrap() {
            snapshots += usize::from(matches!(update.kind, Some(Kind::Snapshot(_))));
        }
        assert_eq!(snapshots, updates, "{token}");
    }
}

async fn deadlines_are_ours(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(1).await;
    // Long enough for the answer's beginning: until then tonic's client has a timer of its own.
    for _ in 0..3 {
        let mut request =
            with("one", pb::WatchRunRequest { run_id: run_id.clone(), ..Default::default() });
        request.metadata_mut().insert("grpc-timeout", "1500m".parse().unwrap());
        let mut stream = server.queue().watch_run(request).await.unwrap().into_inner();
        let end = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended with OK"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::DeadlineExceeded);
    }
}

/// Without tonic's client, which has a timer of its own for the same header.
async fn unary_deadlines_beat_tonics(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(1).await;
    let start = pb::StartRunRequest { run_id: run_id.clone(), ..Default::default() };
    server.queue().start_run(with("one", start)).await.unwrap();
    let worker = support::worker("w");
    server.test.store.heartbeat(&worker, Duration::from_secs(60)).await.unwrap();
    let limits = ClaimLimits { max_calls: 1, horizon: Duration::from_secs(1) };
    let claim = server.test.store.claim(&worker, limits).await.unwrap();
    assert_eq!(claim.calls.len(), 1);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let message =
        pb::PauseRunRequest { run_id: run_id.clone(), ..Default::default() }.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    for _ in 0..20 {
        let response = http
            .post(format!("http://{}/trunkline.v1.OutboundQueue/PauseRun", server.addr))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer one.{SECRET}"))
            .header("grpc-timeout", "50m")
            .body(body.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["grpc-status"], "4", "{response:?}");
    }
    // The intent is withdrawn: the pause returns, long before the 20 s that it may wait.
    let pause = pb::PauseRunRequest { run_id: run_id.clone(), ..Default::default() };
    let mut queue = server.queue();
    let waiting = tokio::spawn(async move { queue.pause_run(with("one", pause)).await });
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(!waiting.is_finished());
    let news = News::NotSent { code: WITHDRAWN, message: "paused".into() };
    let told = Instant::now();
    let tenant = support::tenant_id("one");
    server.test.store.apply(&tenant, &[(claim.calls[0].call_id, news)]).await.unwrap();
    let paused = waiting.await.unwrap().unwrap().into_inner();
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(paused.in_flight, Some(pb::InFlight::default()));
    assert_eq!(paused.run.unwrap().progress.unwrap().state, pb::RunState::Paused as i32);
}

async fn drains(test: TestStore) {
    let server = server(test).await;
    let run_id = server.run(1).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    let check = |service: &str| tonic_health::pb::HealthCheckRequest { service: service.into() };
    for service in ["", "trunkline.v1.OutboundQueue", "trunkline.v1.Leads"] {
        let end = Instant::now() + Duration::from_secs(20);
        while health.check(check(service)).await.unwrap().into_inner().status != 1 {
            assert!(Instant::now() < end, "never SERVING");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut watched = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    let mut stream = watch(&server, &run_id, "", pb::WatchView::Full).await;
    stream.message().await.unwrap().unwrap();
    let asked = Instant::now();
    server.shutdown.cancel();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(watched.message().await.unwrap().unwrap().status, 2);
    assert_eq!(watched.message().await.unwrap_err().code(), Code::Unavailable);
    server.task.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}
