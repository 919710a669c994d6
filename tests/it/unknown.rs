//! Calls whose creation went unanswered: adopted, waited for, hung up; on both stores.

use std::time::Duration;

use trunkline::domain::call::{CallState, CarrierStatus, News, SEND_WITHIN};
use trunkline::domain::unknown::{Candidate, Verdict};
use trunkline::domain::{CallId, CallSid, TenantId, Timestamp};
use trunkline::store::{ClaimLimits, DueCall, NewRun, Store};

use crate::support::{TestStore, make_tenant, new_run, on_both_stores, settings, worker};

on_both_stores!(
    exactly_one_call_of_the_list_is_adopted,
    a_call_on_record_is_no_candidate,
    another_tenants_unknown_call_stands_in_the_way,
    an_empty_look_up_is_counted,
    an_orphan_is_hung_up_until_its_end_is_known,
    a_dead_workers_intents_become_unknown,
    a_worker_that_comes_back_withdraws,
);

fn sid(n: u32) -> CallSid {
    format!("CA{n:032x}").parse().unwrap()
}

fn candidate(n: u32, at: Timestamp) -> Candidate {
    Candidate { sid: sid(n), status: CarrierStatus::Ringing, created_at: Some(at) }
}

/// A run of one job per phone, all its calls claimed by a worker that lives.
async fn claimed(store: &Store, tenant: &TenantId, run: NewRun) -> Vec<CallId> {
    let wanted = run.jobs.len();
    store.create_run(tenant, run, None).await.unwrap();
    let mut calls = Vec::new();
    while calls.len() < wanted {
        let limits = ClaimLimits { max_calls: 32, horizon: Duration::from_millis(250) };
        let claim = store.claim(&worker("1"), limits).await.unwrap();
        calls.extend(claim.calls.iter().map(|call| call.call_id));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls
}

async fn lose(store: &Store, tenant: &TenantId, call: CallId) {
    store.apply(tenant, &[(call, News::Lost { message: "timeout".into() })]).await.unwrap();
}

/// The call as a look-up sees it.
async fn due(store: &Store, tenant: &TenantId, call: CallId) -> DueCall {
    let view = store.call(tenant, call).await.unwrap();
    DueCall {
        tenant: tenant.clone(),
        call_id: call,
        sid: None,
        account: crate::support::ACCOUNT.parse().unwrap(),
        from: view.from,
        to: view.to,
        answered_at: None,
        time_limit_s: 60,
    }
}

async fn exactly_one_call_of_the_list_is_adopted(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    let call = claimed(store, &tenant, new_run(settings(), 0..1)).await[0];
    lose(store, &tenant, call).await;
    let due = due(store, &tenant, call).await;
    let now = store.now().await.unwrap();
    let two = vec![candidate(1, now), candidate(2, now)];
    assert_eq!(store.resolve_unknown(&due, two).await.unwrap(), Verdict::Wait { empty: false });
    let old = candidate(3, now - Duration::from_secs(600));
    let found = vec![old, candidate(1, now)];
    assert_eq!(
        store.resolve_unknown(&due, found).await.unwrap(),
        Verdict::Adopt(candidate(1, now))
    );
    let adopted = store.call(&tenant, call).await.unwrap().call;
    assert_eq!((adopted.state, adopted.sid), (CallState::Ringing, Some(sid(1))));
    // It is unknown no longer: nothing is left to decide.
    let again = store.resolve_unknown(&due, vec![candidate(9, now)]).await.unwrap();
    assert_eq!(again, Verdict::Wait { empty: false });
}

async fn a_call_on_record_is_no_candidate(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    let calls = claimed(store, &tenant, new_run(settings(), 0..2)).await;
    store.apply(&tenant, &[(calls[0], News::Submitted { sid: sid(1) })]).await.unwrap();
    lose(store, &tenant, calls[1]).await;
    let due = due(store, &tenant, calls[1]).await;
    let now = store.now().await.unwrap();
    let verdict = store.resolve_unknown(&due, vec![candidate(1, now)]).await.unwrap();
    assert_eq!(verdict, Verdict::Wait { empty: true });
}

async fn another_tenants_unknown_call_stands_in_the_way(test: TestStore) {
    let store = &test.store;
    let a = make_tenant(store, "a", 9, 1_000.0).await;
    let b = make_tenant(store, "b", 9, 1_000.0).await;
    let of_a = claimed(store, &a, new_run(settings(), 0..1)).await[0];
    let of_b = claimed(store, &b, new_run(settings(), 0..1)).await[0];
    lose(store, &a, of_a).await;
    lose(store, &b, of_b).await;
    let now = store.now().await.unwrap();
    let due = due(store, &a, of_a).await;
    let verdict = store.resolve_unknown(&due, vec![candidate(1, now)]).await.unwrap();
    assert_eq!(verdict, Verdict::Wait { empty: false });
    store.apply(&b, &[(of_b, News::Submitted { sid: sid(2) })]).await.unwrap();
    let found = vec![candidate(1, now), candidate(2, now)];
    assert_eq!(
        store.resolve_unknown(&due, found).await.unwrap(),
        Verdict::Adopt(candidate(1, now))
    );
}

async fn an_empty_look_up_is_counted(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    let call = claimed(store, &tenant, new_run(settings(), 0..1)).await[0];
    lose(store, &tenant, call).await;
    let due = due(store, &tenant, call).await;
    for _ in 0..3 {
        // A minute has not passed, so however many are empty, nothing is given up.
        assert_eq!(
            store.resolve_unknown(&due, vec![]).await.unwrap(),
            Verdict::Wait { empty: true }
        );
    }
    assert!(
        store.take_due_calls(10).await.unwrap().is_empty(),
        "ten seconds have not passed either"
    );
    assert_eq!(store.call(&tenant, call).await.unwrap().call.state, CallState::Unknown);
}

async fn an_orphan_is_hung_up_until_its_end_is_known(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    let call = claimed(store, &tenant, new_run(settings(), 0..1)).await[0];
    lose(store, &tenant, call).await;
    assert_eq!(store.presume_stale(Duration::ZERO).await.unwrap(), 1);
    assert!(store.take_hangups(9).await.unwrap().is_empty());
    let news = |status| News::Status {
        sid: sid(1),
        status,
        sequence: None,
        duration_s: None,
        answered_by: None,
        error_code: None,
    };
    store.apply(&tenant, &[(call, news(CarrierStatus::InProgress))]).await.unwrap();
    assert_eq!(
        store.take_hangups(9).await.unwrap().iter().map(|h| h.call_id).collect::<Vec<_>>(),
        [call]
    );
    store.apply(&tenant, &[(call, news(CarrierStatus::Completed))]).await.unwrap();
    let view = store.call(&tenant, call).await.unwrap();
    assert_eq!((view.call.state, view.call.presumed), (CallState::Completed, false));
    let run = store.run(&tenant, view.run_id.unwrap()).await.unwrap();
    assert!(
        run.progress.state.is_ended() && run.progress.counts.failed == 1,
        "the job stays ended"
    );
}

async fn a_dead_workers_intents_become_unknown(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    store.heartbeat(&worker("1"), Duration::from_secs(60)).await.unwrap();
    let call = claimed(store, &tenant, new_run(settings(), 0..1)).await[0];
    let long = Duration::from_secs(3_600);
    assert_eq!(store.lose_abandoned_intents(long).await.unwrap(), 0, "the worker lives");
    store.heartbeat(&worker("1"), Duration::ZERO).await.unwrap();
    let claimed_at = store.call(&tenant, call).await.unwrap().created_at;
    // It may be suspended only, and send what it claimed less than a lease ago.
    while store.lose_abandoned_intents(long).await.unwrap() == 0 {
        assert!(store.now().await.unwrap() < claimed_at + SEND_WITHIN + Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(store.now().await.unwrap() >= claimed_at + SEND_WITHIN);
    assert_eq!(store.call(&tenant, call).await.unwrap().call.state, CallState::Unknown);
}

async fn a_worker_that_comes_back_withdraws(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, 1_000.0).await;
    let call = claimed(store, &tenant, new_run(settings(), 0..1)).await[0];
    lose(store, &tenant, call).await;
    let news =
        News::NotSent { code: trunkline::domain::call::WITHDRAWN, message: "too old".into() };
    store.apply(&tenant, &[(call, news)]).await.unwrap();
    let view = store.call(&tenant, call).await.unwrap();
    assert_eq!(view.call.state, CallState::Failed);
    let job = store.job(&tenant, view.job_id.unwrap()).await.unwrap();
    assert_eq!((job.state, job.attempts_used), (trunkline::domain::job::JobState::Queued, 0));
}
