//! Conflicts, takeovers and who did it, as log events with names for their fields.

use std::time::Duration;

use serde_json::json;
use trunkline::domain::call::News;
use trunkline::store::{Applied, Error, NewRun, RequestKey};

use super::{FAST, LIMITS, claim, claim_n, sid};
use crate::support::logs::Logs;
use crate::support::{TestStore, job, make_tenant, new_run, settings, worker};

#[tokio::test]
async fn conflicts_on_sqlite() {
    conflicts(TestStore::sqlite().await).await;
}

#[tokio::test]
async fn conflicts_on_postgres() {
    conflicts(TestStore::postgres().await).await;
}

#[tokio::test]
async fn takeovers_on_sqlite() {
    takeovers(TestStore::sqlite().await).await;
}

#[tokio::test]
async fn takeovers_on_postgres() {
    takeovers(TestStore::postgres().await).await;
}

async fn conflicts(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let logs = Logs::begin();
    let open = NewRun { seal: false, ..new_run(settings(), 0..1) };
    let run = store.create_run(&tenant, open, None).await.unwrap().run.id;
    let call = claim_n(store, 1).await.remove(0);
    assert_eq!(logs.of("dedup_conflict"), Vec::<serde_json::Value>::new());
    let claimed = logs.of("claimed");
    assert_eq!((&claimed[0]["worker_id"], &claimed[0]["calls"]), (&json!("host:1"), &json!(1)));

    // A lead that has a job in the run.
    store.add_jobs(&tenant, run, vec![job(0), job(1), job(1)], None).await.unwrap();
    let lead = logs.of("dedup_conflict").remove(0);
    assert_eq!(
        (&lead["key"], &lead["jobs"], &lead["tenant"]),
        (&json!("lead"), &json!(2), &json!("acme"))
    );
    assert_eq!(lead["run_id"], json!(run.to_string()));

    // A phone that has a live call.
    let other = store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap().run.id;
    let phone_conflict =
        || logs.of("dedup_conflict").into_iter().find(|conflict| conflict["key"] == "phone");
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while phone_conflict().is_none() && std::time::Instant::now() < end {
        claim(store).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let phone = phone_conflict().expect("the other run's job is put off");
    assert_eq!((&phone["run_id"], &phone["jobs"]), (&json!(other.to_string()), &json!(1)));

    // Two names for one call.
    let name = |sid| (call.call_id, News::Submitted { sid });
    let stranger = format!("CA{:032x}", 7).parse().unwrap();
    let applied = store.apply(&tenant, &[name(sid(call.call_id)), name(stranger)]).await.unwrap();
    assert_eq!(applied[1], Applied::OtherSid);
    let conflict = logs.of("dedup_conflict").pop().unwrap();
    assert_eq!((&conflict["key"], &conflict["tenant"]), (&json!("call_sid"), &json!("acme")));
    assert_eq!(conflict["call_id"], json!(call.call_id.to_string()));
    assert_eq!(conflict["recorded"], json!(sid(call.call_id).as_str()));
    assert_eq!(conflict["given"], json!(format!("CA{:032x}", 7)));

    // One request id for two requests.
    let key =
        |hash| RequestKey { method: "AddJobs", request_id: "r".into(), payload_hash: [hash; 32] };
    store.add_jobs(&tenant, run, vec![job(5)], Some(key(1))).await.unwrap();
    let reused = store.add_jobs(&tenant, run, vec![job(6)], Some(key(2))).await;
    assert!(matches!(reused, Err(Error::RequestReused)));
    let conflict = logs.of("dedup_conflict").pop().unwrap();
    assert_eq!((&conflict["key"], &conflict["method"]), (&json!("request_id"), &json!("AddJobs")));
}

/// Each tenant's calls of each worker that is gone: one line, which names them.
async fn takeovers(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap();
    claim_n(store, 3).await;
    store.create_run(&tenant, new_run(settings(), 3..5), None).await.unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let mut claimed = 0;
    while claimed < 2 && std::time::Instant::now() < end {
        claimed += store.claim(&worker("2"), LIMITS).await.unwrap().calls.len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let logs = Logs::begin();
    store.lose_abandoned_intents(Duration::ZERO).await.unwrap();
    let mut seen: Vec<_> = logs
        .of("takeover")
        .into_iter()
        .map(|line| (line["tenant"].clone(), line["from_worker"].clone(), line["calls"].clone()))
        .collect();
    seen.sort_by_key(|(_, worker, _)| worker.to_string());
    let line = |worker, calls| (json!("acme"), json!(worker), json!(calls));
    assert_eq!(seen, [line("host:1", 3), line("host:2", 2)]);
    store.presume_stale(Duration::ZERO).await.unwrap();
    assert_eq!(logs.of("calls_given_up").len(), 2);
    // Nothing is left to be taken over.
    store.lose_abandoned_intents(Duration::ZERO).await.unwrap();
    assert_eq!(logs.of("takeover").len(), 2);
}
