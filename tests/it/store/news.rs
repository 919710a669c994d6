//! What news of a call makes of it and its job.

use std::time::Duration;

use super::{FAST, assert_nothing_lost, claim_n, finish, sid, status};
use crate::support::{TestStore, make_tenant, new_run, on_both_stores, settings};
use trunkline::domain::CallId;
use trunkline::domain::call::{CallState, CarrierStatus, NOT_SENT, News, RejectClass};
use trunkline::domain::job::{JobState, Outcome};
use trunkline::domain::retry::{RetryOn, RetryPolicy};
use trunkline::domain::run::{Command, RunSettings, RunState};
use trunkline::store::{Applied, CallsOf, Page};

on_both_stores!(
    a_callback_before_the_answer_is_enough,
    a_retry_goes_back_to_the_queue,
    what_was_not_sent_goes_back,
    a_configuration_error_pauses_the_run,
    abandoned_intents_become_unknown_and_stale,
);

async fn a_callback_before_the_answer_is_enough(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap();
    let call = claim_n(store, 1).await[0].call_id;
    let applied = store.apply(&tenant, &[status(call, CarrierStatus::Ringing, 1)]).await.unwrap();
    assert_eq!(applied, [Applied::Changed(CallState::Ringing)]);
    let applied =
        store.apply(&tenant, &[(call, News::Submitted { sid: sid(call) })]).await.unwrap();
    assert_eq!(applied, [Applied::Unchanged(CallState::Ringing)]);
    let other = News::Submitted { sid: format!("CA{:032x}", 7).parse().unwrap() };
    assert_eq!(store.apply(&tenant, &[(call, other)]).await.unwrap(), [Applied::OtherSid]);
    let nobody = CallId(uuid::Uuid::now_v7());
    assert_eq!(
        store.apply(&tenant, &[status(nobody, CarrierStatus::Busy, 1)]).await.unwrap(),
        [Applied::NoSuchCall]
    );
}

async fn a_retry_goes_back_to_the_queue(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let retry = RetryPolicy {
        max_attempts: 2,
        initial_delay_s: 0,
        on: vec![RetryOn::Busy],
        ..RetryPolicy::default()
    };
    let run = RunSettings { retry, ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..1), None).await.unwrap().run.id;
    let first = claim_n(store, 1).await.remove(0);
    finish(store, &tenant, first.call_id, CarrierStatus::Busy).await;
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.queued, 1);
    let second = claim_n(store, 1).await.remove(0);
    assert_eq!((second.job_id, second.attempt), (first.job_id, 2));
    finish(store, &tenant, second.call_id, CarrierStatus::Busy).await;
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.failed), (RunState::Completed, 1));
    let calls = store
        .list_calls(&tenant, CallsOf::Job(first.job_id), Page { size: 10, after: None })
        .await
        .unwrap();
    assert_eq!(calls.items.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
}

async fn what_was_not_sent_goes_back(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    let news = [
        (calls[0].call_id, News::NotSent { code: NOT_SENT, message: "connection refused".into() }),
        (
            calls[1].call_id,
            News::Rejected {
                class: RejectClass::Defer,
                code: "20429".into(),
                message: "too many".into(),
            },
        ),
    ];
    store.apply(&tenant, &news).await.unwrap();
    let jobs = store
        .list_jobs(&tenant, run, &[JobState::Queued], Page { size: 10, after: None })
        .await
        .unwrap();
    assert_eq!(jobs.items.len(), 2);
    assert!(jobs.items.iter().all(|job| job.attempts_used == 0 && job.attempt == 1));
    let call = store.call(&tenant, calls[1].call_id).await.unwrap().call;
    assert_eq!((call.state, call.error_code.as_deref()), (CallState::Failed, Some("20429")));
    assert_nothing_lost(store, &tenant, run).await;
}

async fn a_configuration_error_pauses_the_run(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..5), None).await.unwrap().run.id;
    let calls = claim_n(store, 5).await;
    let news = News::Rejected {
        class: RejectClass::Configuration,
        code: "20003".into(),
        message: "no access".into(),
    };
    store.apply(&tenant, &[(calls[0].call_id, news)]).await.unwrap();
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!(view.progress.state, RunState::Paused);
    assert_eq!(view.last_error.as_deref(), Some("20003: no access"));
    store.command_run(&tenant, run, Command::Resume, None).await.unwrap();
    assert_eq!(store.run(&tenant, run).await.unwrap().last_error, None);
}

async fn abandoned_intents_become_unknown_and_stale(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 5, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap().run.id;
    claim_n(store, 3).await;
    assert_eq!(store.lose_abandoned_intents(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(store.lose_abandoned_intents(Duration::ZERO).await.unwrap(), 3);
    assert_eq!(store.in_flight(&tenant, run).await.unwrap().unknown, 3);
    assert_eq!(store.presume_stale(Duration::ZERO).await.unwrap(), 3);
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!(view.progress.outcomes.0[&Outcome::Unknown], 3);
    assert_eq!(view.progress.state, RunState::Completed);
}
