//! What is stale is ended for the tenant that asks, and for nobody else.

use std::time::Duration;

use trunkline::domain::call::{CallState, News, STALE_NO_CALL_SID};
use trunkline::domain::run::RunState;
use trunkline::store::{CleanedUp, Error, NewRun};

use super::{FAST, Open, assert_sound, claim_n, on_both};
use crate::support::{by, job, make_tenant, new_run, settings, worker};

on_both!(
    stale_calls_are_ended,
    expired_runs_are_ended,
    nothing_stale_is_nothing_done,
    only_the_tenants_own
);

const MINUTE: i64 = 60_000_000;

async fn stale_calls_are_ended(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.heartbeat(&worker("1"), Duration::from_secs(60)).await.unwrap();
    let run = store.create_run(&tenant, new_run(settings(), 0..4), None).await.unwrap().run.id;
    let calls = claim_n(store, 4).await;
    let lost = |i: usize| (calls[i].call_id, News::Lost { message: "timeout".into() });
    store.apply(&tenant, &[lost(0), lost(1)]).await.unwrap();
    let age = async |i: usize, by: i64| {
        let id = calls[i].call_id;
        test.sql(&format!(
            "UPDATE call_log SET created_at = created_at - {by} WHERE call_id = '{id}'"
        ))
        .await
        .unwrap();
    };
    age(0, 16 * MINUTE).await;
    age(1, 14 * MINUTE).await;
    age(2, MINUTE).await;
    let done = by(store, "k", "CleanupStaleCalls").cleanup_stale_calls(&tenant).await.unwrap();
    assert_eq!(done, CleanedUp { stale_calls: 1, abandoned_intents: 1, ..CleanedUp::default() });
    let call = async |i: usize| store.call(&tenant, calls[i].call_id).await.unwrap().call;
    assert_eq!(
        (call(0).await.state, call(0).await.error_code.as_deref()),
        (CallState::Failed, Some(STALE_NO_CALL_SID))
    );
    assert_eq!(call(1).await.state, CallState::Unknown, "not yet a quarter of an hour");
    assert_eq!(call(2).await.state, CallState::Unknown, "looked up before it is given up");
    assert_eq!(call(3).await.state, CallState::Intent);
    assert_eq!(assert_sound(&test, &tenant, run).await.failed, 1);
    let entry = test.texts("SELECT actor || ' ' || method || ' ' || subject FROM audit_log").await;
    assert_eq!(entry, ["k CleanupStaleCalls tenant acme"]);
    let again = store.cleanup_stale_calls(&tenant).await;
    assert!(
        matches!(again, Err(Error::TooSoon { retry_after }) if retry_after <= Duration::from_secs(60))
    );
    // A worker that is gone: its intents are taken over as soon as it cannot send them any more.
    test.a_minute_passes().await;
    age(3, MINUTE).await;
    store.heartbeat(&worker("1"), Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(store.cleanup_stale_calls(&tenant).await.unwrap().abandoned_intents, 1);
}

async fn expired_runs_are_ended(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let unsealed = NewRun { seal: false, ..new_run(settings(), 0..1_000) };
    let run = store.create_run(&tenant, unsealed, None).await.unwrap().run.id;
    for more in [1_000..2_000, 2_000..2_500] {
        store.add_jobs(&tenant, run, more.map(job).collect(), None).await.unwrap();
    }
    test.sql("UPDATE runs SET expires_at = 1").await.unwrap();
    let done = store.cleanup_stale_calls(&tenant).await.unwrap();
    assert_eq!((done.ended_jobs, done.ended_runs), (2_500, 1));
    assert_eq!(store.run(&tenant, run).await.unwrap().progress.state, RunState::Expired);
    assert_eq!(assert_sound(&test, &tenant, run).await.expired, 2_500);
}

async fn nothing_stale_is_nothing_done(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap();
    claim_n(store, 2).await;
    assert_eq!(store.cleanup_stale_calls(&tenant).await.unwrap(), CleanedUp::default());
    assert!(
        test.texts("SELECT actor FROM audit_log").await.is_empty(),
        "what the system does is not audited"
    );
}

async fn only_the_tenants_own(test: Open) {
    let store = &test.store;
    let (a, b) = (make_tenant(store, "a", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    store.create_run(&a, new_run(settings(), 0..1), None).await.unwrap();
    let call = claim_n(store, 1).await[0].call_id;
    test.sql(&format!("UPDATE call_log SET created_at = created_at - {MINUTE}")).await.unwrap();
    assert_eq!(store.cleanup_stale_calls(&b).await.unwrap(), CleanedUp::default());
    assert_eq!(store.call(&a, call).await.unwrap().call.state, CallState::Intent);
    assert_eq!(store.cleanup_stale_calls(&a).await.unwrap().abandoned_intents, 1);
}
