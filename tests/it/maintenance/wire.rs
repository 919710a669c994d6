//! The same over a socket: scopes, errors with their details, the words of the wire.

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use trunkline::domain::run::Command;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::{Config, pb, serve};
use trunkline::progress::Hub;
use trunkline::store::{ApiKey, JobAdded, Store};

use super::{FAST, Open};
use crate::support::{make_tenant, new_run, settings};

const SECRET: &str = "s3cret";

async fn queue(store: Store) -> OutboundQueueClient<Channel> {
    for (id, scope) in [("writer", "outbound:write"), ("reader", "outbound:read")] {
        let key = ApiKey {
            key_id: id.into(),
            tenant: "acme".parse().unwrap(),
            secret_hash: Sha256::digest(SECRET).into(),
            scopes: vec![scope.into()],
            expires_at: None,
            revoked_at: None,
        };
        store.put_key(&key).await.unwrap();
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Hub::new(store.clone());
    tokio::spawn(serve(listener, store, hub, Config::default(), CancellationToken::new()));
    let channel =
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    OutboundQueueClient::new(channel)
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {key}.{SECRET}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn repairs_limits_and_who_did_it() {
    let test = Open::sqlite().await;
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    test.sql("DELETE FROM ready_jobs").await.unwrap();
    let mut queue = queue(test.store.clone()).await;
    let all = pb::ReconcileRunsRequest::default;
    assert_eq!(
        queue.reconcile_runs(with("reader", all())).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let wrong = pb::ReconcileRunsRequest { run_ids: vec![run.to_string(), "x".into()] };
    let refused = queue.reconcile_runs(with("writer", wrong)).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "run_ids[1]");
    let done = queue.reconcile_runs(with("writer", all())).await.unwrap().into_inner();
    let repaired = &done.repaired_runs[0];
    assert_eq!(
        (repaired.run_id.as_str(), repaired.reasons[0].kind()),
        (run.to_string().as_str(), pb::RepairKind::QueueMissing)
    );
    assert_eq!(
        (repaired.old_state(), repaired.new_state()),
        (pb::RunState::Pending, pb::RunState::Pending)
    );
    assert_eq!(repaired.counts_after.unwrap().total, 2);
    assert_eq!(
        test.texts("SELECT actor || ' ' || peer FROM audit_log").await,
        ["writer 127.0.0.1"; 2]
    );
    let soon = queue.reconcile_runs(with("writer", all())).await.unwrap_err();
    assert_eq!(soon.code(), Code::ResourceExhausted);
    assert!(soon.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs() >= 50);
    let cleanup = pb::CleanupStaleCallsRequest {};
    let done = queue.cleanup_stale_calls(with("writer", cleanup)).await.unwrap().into_inner();
    assert_eq!(done, pb::CleanupStaleCallsResponse::default());
}

#[tokio::test]
async fn retries_and_explanations() {
    let test = Open::sqlite().await;
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let created = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap();
    let JobAdded::Job { job_id, .. } = created.jobs[0] else { panic!() };
    let mut queue = queue(test.store.clone()).await;
    let explain = || pb::ExplainJobRequest { job_id: job_id.to_string() };
    let why = queue.explain_job(with("reader", explain())).await.unwrap().into_inner();
    assert_eq!((why.rule(), why.reasons.len()), (pb::JobReasonKind::Ready, 1));
    assert!(why.next_eligible_time.is_some() && why.expire_time.is_some());
    let retry = || pb::RetryJobsRequest {
        request_id: "once".into(),
        run_id: created.run.id.to_string(),
        states: vec![pb::JobState::Canceled.into()],
        settings: Some(pb::RunSettings { name: "again".into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".into()] }),
        ..Default::default()
    };
    let open = queue.retry_jobs(with("writer", retry())).await.unwrap_err();
    assert_eq!(open.code(), Code::FailedPrecondition);
    assert_eq!(open.get_details_error_info().unwrap().reason, "RUN_NOT_ENDED");
    store.command_run(&tenant, created.run.id, Command::Cancel, None).await.unwrap();
    let failed = pb::RetryJobsRequest { states: vec![], request_id: String::new(), ..retry() };
    let none = queue.retry_jobs(with("writer", failed)).await.unwrap_err();
    assert_eq!(none.get_details_error_info().unwrap().reason, "NOTHING_TO_RETRY");
    let made = queue.retry_jobs(with("writer", retry())).await.unwrap().into_inner().run.unwrap();
    assert_eq!(made.parent_run_id, created.run.id.to_string());
    assert_eq!((made.settings.clone().unwrap().name.as_str(), made.sealed), ("again", true));
    assert_eq!(made.progress.clone().unwrap().counts.unwrap().queued, 2);
    let again = queue.retry_jobs(with("writer", retry())).await.unwrap().into_inner().run.unwrap();
    assert_eq!(again, made);
    let bad = pb::RetryJobsRequest { outcomes: vec![99], request_id: String::new(), ..retry() };
    let bad = queue.retry_jobs(with("writer", bad)).await.unwrap_err();
    assert_eq!(bad.get_details_bad_request().unwrap().field_violations[0].field, "outcomes[0]");
    let why = queue.explain_job(with("reader", explain())).await.unwrap().into_inner();
    assert_eq!(
        (why.rule(), why.reasons[0].outcome()),
        (pb::JobReasonKind::Ended, pb::Outcome::Canceled)
    );
}
