//! Why a job is where it is, read from real rows.

use std::time::Duration;

use trunkline::domain::call::{CallState, CarrierStatus, News};
use trunkline::domain::explain::Reason;
use trunkline::domain::job::Outcome;
use trunkline::domain::retry::RetryPolicy;
use trunkline::domain::run::{Command, RunSettings};
use trunkline::domain::unknown::STALE_AFTER;
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{JobId, TenantId};
use trunkline::store::{Error, JobAdded, JobExplained, NewJob, NewRun, Store};

use super::{FAST, Open, claim_n, on_both, sid, status};
use crate::support::{job, make_tenant, new_run, settings};

on_both!(
    from_draft_to_ended,
    full_paced_and_behind,
    between_two_attempts,
    closed_and_busy,
    lost_and_strange
);

async fn why(store: &Store, tenant: &TenantId, job: JobId) -> JobExplained {
    store.explain_job(tenant, job).await.unwrap()
}

async fn reasons(store: &Store, tenant: &TenantId, job: JobId) -> Vec<Reason> {
    why(store, tenant, job).await.explanation.reasons
}

async fn create(
    store: &Store,
    tenant: &TenantId,
    run: NewRun,
) -> (trunkline::domain::RunId, Vec<JobId>) {
    let created = store.create_run(tenant, run, None).await.unwrap();
    let id = |job| match job {
        JobAdded::Job { job_id, .. } => job_id,
        JobAdded::Rejected { .. } => panic!("rejected"),
    };
    (created.run.id, created.jobs.into_iter().map(id).collect())
}

async fn from_draft_to_ended(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let (run, jobs) =
        create(store, &tenant, NewRun { start: false, ..new_run(settings(), 0..1) }).await;
    let id = jobs[0];
    let first = why(store, &tenant, id).await;
    assert_eq!(first.explanation.reasons, [Reason::RunNotStarted]);
    assert!(first.explanation.next_eligible_at.is_some() && first.explanation.expires_at.is_some());
    assert!(first.calls.is_empty());
    store.command_run(&tenant, run, Command::Start, None).await.unwrap();
    assert_eq!(reasons(store, &tenant, id).await, [Reason::Ready]);
    store.command_run(&tenant, run, Command::Pause, None).await.unwrap();
    assert_eq!(reasons(store, &tenant, id).await, [Reason::RunPaused { last_error: None }]);
    store.command_run(&tenant, run, Command::Resume, None).await.unwrap();
    let call = claim_n(store, 1).await[0].call_id;
    let flying = reasons(store, &tenant, id).await;
    assert!(
        matches!(flying[..], [Reason::CallInFlight { call_id, state: CallState::Intent, .. }] if call_id == call)
    );
    store.apply(&tenant, &[(call, News::Lost { message: "timeout".into() })]).await.unwrap();
    let created_at = store.call(&tenant, call).await.unwrap().created_at;
    let lost = Reason::CallUnknown {
        call_id: call,
        empty_lookups: 0,
        gives_up_at: created_at + STALE_AFTER,
    };
    assert_eq!(reasons(store, &tenant, id).await, [lost]);
    store.apply(&tenant, &[status(call, CarrierStatus::Busy)]).await.unwrap();
    let ended = why(store, &tenant, id).await;
    let at = ended.job.updated_at;
    assert_eq!(
        ended.explanation.reasons,
        [Reason::Ended { outcome: Some(Outcome::Busy), at, error_code: None }]
    );
    assert_eq!((ended.explanation.next_eligible_at, ended.explanation.expires_at), (None, None));
    assert_eq!(ended.calls, [call]);
}

async fn full_paced_and_behind(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 3, FAST).await;
    let run = RunSettings { concurrency: 2, ..settings() };
    let (_, jobs) = create(store, &tenant, new_run(run, 0..6)).await;
    let calls = claim_n(store, 2).await;
    let last = *jobs.iter().rfind(|job| calls.iter().all(|call| call.job_id != **job)).unwrap();
    let full = Reason::RunAtConcurrency { live: 2, limit: 2 };
    assert_eq!(reasons(store, &tenant, last).await, [full, Reason::BehindOthers { ahead: 3 }]);
    let (_, others) = create(store, &tenant, new_run(settings(), 10..12)).await;
    claim_n(store, 1).await;
    let found = reasons(store, &tenant, last).await;
    assert!(found.contains(&Reason::TenantAtConcurrency { live: 3, limit: 3 }), "{found:?}");
    // The other run's jobs count for themselves.
    let found = reasons(store, &tenant, others[1]).await;
    assert_eq!(found[0], Reason::TenantAtConcurrency { live: 3, limit: 3 });
    let slow = make_tenant(store, "slow", 9, 0.01).await;
    let (_, jobs) = create(store, &slow, new_run(settings(), 20..22)).await;
    claim_n(store, 1).await;
    let waits = why(store, &slow, jobs[1]).await.explanation;
    let [Reason::Pace { at }] = waits.reasons[..] else { panic!("{waits:?}") };
    assert_eq!(waits.next_eligible_at, Some(at));
}

async fn between_two_attempts(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let now = store.now().await.unwrap();
    let later = now + Duration::from_secs(3_600);
    let new = NewRun {
        jobs: vec![job(0), NewJob { eligible_at: Some(later), ..job(1) }],
        ..new_run(RunSettings { retry, ..settings() }, 0..0)
    };
    let (_, jobs) = create(store, &tenant, new).await;
    let call = claim_n(store, 1).await.remove(0);
    store
        .apply(&tenant, &[(call.call_id, News::Submitted { sid: sid(call.call_id) })])
        .await
        .unwrap();
    store.apply(&tenant, &[status(call.call_id, CarrierStatus::Busy)]).await.unwrap();
    let waits = why(store, &tenant, jobs[0]).await;
    let at = waits.job.eligible_at;
    assert_eq!(waits.explanation.reasons, [Reason::WaitingForRetry { at }]);
    assert_eq!((waits.explanation.next_eligible_at, waits.calls), (Some(at), vec![call.call_id]));
    // Behind the first by then.
    let put_off = [Reason::NotYetEligible { at: later }, Reason::BehindOthers { ahead: 1 }];
    assert_eq!(reasons(store, &tenant, jobs[1]).await, put_off);
    let starts_at = Some(later);
    let (_, jobs) =
        create(store, &tenant, new_run(RunSettings { starts_at, ..settings() }, 5..6)).await;
    assert_eq!(reasons(store, &tenant, jobs[0]).await, [Reason::RunStartsLater { at: later }]);
}

async fn closed_and_busy(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    // A window of the one minute that began two hours ago, in UTC.
    let minutes = store.now().await.unwrap().0 / 60_000_000;
    let opens_minute = u16::try_from((minutes - 120).rem_euclid(1_440)).unwrap();
    let window =
        CallingWindow { opens_minute, closes_minute: opens_minute + 1, ..CallingWindow::ALWAYS };
    let (_, jobs) =
        create(store, &tenant, new_run(RunSettings { windows: vec![window], ..settings() }, 0..1))
            .await;
    let closed = why(store, &tenant, jobs[0]).await.explanation;
    let [Reason::OutsideWindow { opens_at }] = closed.reasons[..] else { panic!("{closed:?}") };
    assert_eq!(closed.next_eligible_at, Some(opens_at));
    // The same after a claim has moved it to the opening.
    let none = trunkline::store::ClaimLimits { max_calls: 1, horizon: Duration::from_millis(250) };
    while store.claim(&crate::support::worker("1"), none).await.unwrap().tenant.is_some() {}
    assert_eq!(reasons(store, &tenant, jobs[0]).await, [Reason::OutsideWindow { opens_at }]);
    let (_, first) = create(store, &tenant, new_run(settings(), 7..8)).await;
    let call = claim_n(store, 1).await[0].call_id;
    let (_, second) = create(store, &tenant, new_run(settings(), 7..8)).await;
    assert!(matches!(reasons(store, &tenant, first[0]).await[..], [Reason::CallInFlight { .. }]));
    assert_eq!(
        reasons(store, &tenant, second[0]).await,
        [Reason::PhoneHasLiveCall { call_id: call }]
    );
}

async fn lost_and_strange(test: Open) {
    let store = &test.store;
    let (tenant, other) =
        (make_tenant(store, "a", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    let (run, jobs) = create(store, &tenant, new_run(settings(), 0..2)).await;
    assert!(matches!(store.explain_job(&other, jobs[0]).await, Err(Error::NotFound("job"))));
    claim_n(store, 2).await;
    test.sql("DELETE FROM call_log").await.unwrap();
    assert_eq!(reasons(store, &tenant, jobs[0]).await, [Reason::NoLiveCall]);
    store.command_run(&tenant, run, Command::Stop, None).await.unwrap();
    let (run, jobs) = create(store, &tenant, new_run(settings(), 5..6)).await;
    test.sql(&format!("UPDATE runs SET expires_at = 1 WHERE run_id = '{run}'")).await.unwrap();
    assert_eq!(reasons(store, &tenant, jobs[0]).await, [Reason::RunExpired]);
}
