//! What no use case breaks is broken by hand, and put right.

use std::time::Duration;

use trunkline::domain::RunId;
use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::job::{JobState, Outcome};
use trunkline::domain::run::{Command, RunState};
use trunkline::store::{Error, NewRun, Reconciled, RunRepaired, Store};

use super::{FAST, Open, assert_sound, claim_n, jobs, logged_repairs, on_both, sid, status};
use crate::support::{by, make_tenant, new_run, settings};

on_both!(
    sound_runs_are_only_counted,
    counters_are_recounted,
    the_queue_is_rebuilt,
    hints_that_hide_jobs_are_corrected,
    jobs_follow_their_ended_call,
    jobs_without_a_call_go_back_for_nothing,
    a_run_that_is_over_ends,
    more_than_a_page_is_put_right,
    an_ended_run_is_left_alone,
    once_a_minute_per_tenant_whoever_asks,
    another_tenants_run_is_not_found,
    every_repair_is_in_the_audit_log,
);

fn repairs(run: &RunRepaired) -> Vec<(&'static str, u32)> {
    run.repairs.iter().map(|repair| (repair.kind.as_str(), repair.count)).collect()
}

/// The one run that needed something.
fn only(done: &Reconciled) -> &RunRepaired {
    assert_eq!((done.repaired_count, done.repaired.len()), (1, 1), "{done:?}");
    &done.repaired[0]
}

async fn sound_runs_are_only_counted(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let mut runs = Vec::new();
    // More than a page of runs.
    for n in 0..103 {
        let run = NewRun { start: n % 2 == 0, ..new_run(settings(), n * 3..n * 3 + 3) };
        runs.push(store.create_run(&tenant, run, None).await.unwrap().run);
    }
    let calls = claim_n(store, 5).await;
    store.apply(&tenant, &[status(calls[0].call_id, CarrierStatus::InProgress)]).await.unwrap();
    store.apply(&tenant, &[status(calls[1].call_id, CarrierStatus::Busy)]).await.unwrap();
    store.apply(&tenant, &[(calls[2].call_id, News::Lost { message: "x".into() })]).await.unwrap();
    let before = store.run(&tenant, calls[0].run_id).await.unwrap().revision;
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!((done.repaired_count, done.unchanged_count), (0, 103), "{done:?}");
    assert_eq!(store.run(&tenant, calls[0].run_id).await.unwrap().revision, before);
    test.a_minute_passes().await;
    let (a, b) = (runs[0].id, runs[1].id);
    let done = store.reconcile_runs(&tenant, &[a, b, a]).await.unwrap();
    assert_eq!((done.repaired_count, done.unchanged_count), (0, 2));
}

async fn counters_are_recounted(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..5), None).await.unwrap().run.id;
    let call = claim_n(store, 1).await[0].call_id;
    store.apply(&tenant, &[status(call, CarrierStatus::Busy)]).await.unwrap();
    let broken =
        "UPDATE runs SET queued = 9, completed = 1, jobs_total = 11, outcomes = '{\"answered\":1}'";
    test.sql(broken).await.unwrap();
    let done = store.reconcile_runs(&tenant, &[run]).await.unwrap();
    let repaired = only(&done);
    assert_eq!(repairs(repaired), [("counts", 2), ("outcomes", 2)]);
    assert_eq!((repaired.counts_before.queued, repaired.counts_after.queued), (9, 4));
    assert_eq!((repaired.old_state, repaired.new_state), (RunState::Running, RunState::Running));
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!(view.progress.outcomes.0.into_iter().collect::<Vec<_>>(), [(Outcome::Busy, 1)]);
    assert_eq!(assert_sound(&test, &tenant, run).await.failed, 1);
    assert_eq!(logged_repairs(store, &tenant, run).await.len(), 2);
}

async fn the_queue_is_rebuilt(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..6), None).await.unwrap().run.id;
    let call = claim_n(store, 1).await.remove(0);
    let lost: Vec<_> = jobs(store, &tenant, run)
        .await
        .into_iter()
        .filter(|job| job.state == JobState::Queued)
        .collect();
    for job in &lost[..2] {
        test.sql(&format!("DELETE FROM ready_jobs WHERE job_id = '{}'", job.id)).await.unwrap();
    }
    // A job in flight, and one that is queued for another time.
    let stray = |job: &str, at: i64| {
        format!(
            "INSERT INTO ready_jobs (tenant_id, run_id, priority, eligible_at, job_id) VALUES ('acme', '{run}', 5, {at}, '{job}')"
        )
    };
    test.sql(&stray(&call.job_id.to_string(), 1)).await.unwrap();
    test.sql(&stray(&lost[3].id.to_string(), 2)).await.unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("queue_stray", 2), ("queue_missing", 2)]);
    assert_eq!(assert_sound(&test, &tenant, run).await.queued, 5);
    // And it is dialed as ever.
    let rest = claim_n(store, 5).await;
    assert!(rest.iter().all(|other| other.job_id != call.job_id && other.attempt == 1));
}

async fn hints_that_hide_jobs_are_corrected(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let hide = format!("UPDATE runs SET claimable_at = {}, job_priorities = 0", i64::MAX);
    test.sql(&hide).await.unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("hints", 2)]);
    assert_eq!(logged_repairs(store, &tenant, run).await, [("hints".to_owned(), 2)]);
    claim_n(store, 2).await;
}

async fn jobs_follow_their_ended_call(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..4), None).await.unwrap().run.id;
    let calls = claim_n(store, 4).await;
    let news: Vec<_> = calls[1..]
        .iter()
        .map(|call| (call.call_id, News::Submitted { sid: sid(call.call_id) }))
        .collect();
    store.apply(&tenant, &news).await.unwrap();
    let now = store.now().await.unwrap().0;
    for (call, how) in calls.iter().zip([
        "state = 'failed', error_code = 'not_sent'",
        "state = 'busy'",
        "state = 'completed', answered_by = 'human'",
    ]) {
        let sql = format!(
            "UPDATE call_log SET {how}, ended_at = {now} WHERE call_id = '{}'",
            call.call_id
        );
        assert_eq!(test.sql(&sql).await.unwrap(), 1);
    }
    let done = store.reconcile_runs(&tenant, &[run]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("call_ended", 3)]);
    let state = async |call: usize| {
        let job = store.job(&tenant, calls[call].job_id).await.unwrap();
        (job.state, job.outcome, job.attempts_used)
    };
    assert_eq!(state(0).await, (JobState::Queued, None, 0));
    assert_eq!(state(1).await, (JobState::Failed, Some(Outcome::Busy), 1));
    assert_eq!(state(2).await, (JobState::Completed, Some(Outcome::Answered), 1));
    assert_eq!(state(3).await.0, JobState::Dialing);
    assert_sound(&test, &tenant, run).await;
}

async fn jobs_without_a_call_go_back_for_nothing(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    test.sql(&format!("DELETE FROM call_log WHERE call_id = '{}'", calls[0].call_id))
        .await
        .unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("call_missing", 1)]);
    let job = store.job(&tenant, calls[0].job_id).await.unwrap();
    assert_eq!((job.state, job.attempt, job.attempts_used), (JobState::Queued, 1, 0));
    assert_sound(&test, &tenant, run).await;
    // The same where the run was called off: nothing goes back to be dialed.
    test.a_minute_passes().await;
    store.command_run(&tenant, run, Command::Cancel, None).await.unwrap();
    test.sql(&format!("DELETE FROM call_log WHERE call_id = '{}'", calls[1].call_id))
        .await
        .unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("call_missing", 1), ("settled", 1)]);
    assert_eq!(only(&done).new_state, RunState::Canceled);
    assert_eq!(assert_sound(&test, &tenant, run).await.canceled, 2);
}

async fn a_run_that_is_over_ends(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let unsealed = NewRun { seal: false, ..new_run(settings(), 0..1) };
    let run = store.create_run(&tenant, unsealed, None).await.unwrap().run.id;
    let call = claim_n(store, 1).await[0].call_id;
    store.apply(&tenant, &[status(call, CarrierStatus::Busy)]).await.unwrap();
    let sealed = if test.url.starts_with("sqlite") { "1" } else { "true" };
    test.sql(&format!("UPDATE runs SET sealed = {sealed}")).await.unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("settled", 1)]);
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!(view.progress.state, RunState::Completed);
    // The terminal event is the last.
    let log = store.commits_after(&tenant, run, view.revision - 1, 1).await.unwrap();
    let last = log.commits[0].events.last().unwrap();
    assert!(matches!(last, trunkline::domain::event::Event::RunStateChanged { .. }), "{last:?}");
}

async fn more_than_a_page_is_put_right(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { start: false, seal: false, ..new_run(settings(), 0..1_000) };
    let run = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    for from in [1_000, 2_000] {
        let more = (from..from + 1_000).map(crate::support::job).collect();
        store.add_jobs(&tenant, run, more, None).await.unwrap();
    }
    test.sql("DELETE FROM ready_jobs").await.unwrap();
    let done = store.reconcile_runs(&tenant, &[]).await.unwrap();
    assert_eq!(repairs(only(&done)), [("queue_missing", 3_000)]);
    assert_eq!(assert_sound(&test, &tenant, run).await.queued, 3_000);
    assert_eq!(logged_repairs(store, &tenant, run).await.len(), 3, "one commit a page");
}

async fn an_ended_run_is_left_alone(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let view = store.command_run(&tenant, run, Command::Cancel, None).await.unwrap();
    test.sql("UPDATE runs SET completed = 1, canceled = 1").await.unwrap();
    let done = store.reconcile_runs(&tenant, &[run]).await.unwrap();
    assert_eq!((done.repaired_count, done.unchanged_count), (0, 1));
    assert_eq!(store.run(&tenant, run).await.unwrap().revision, view.revision);
}

async fn once_a_minute_per_tenant_whoever_asks(test: Open) {
    let store = &test.store;
    let (a, b) = (make_tenant(store, "a", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    let beside = test.beside().await;
    let other: &Store = beside.as_ref().map_or(store, |engine| engine);
    let both = tokio::join!(store.reconcile_runs(&a, &[]), other.reconcile_runs(&a, &[]));
    let refused: Vec<Error> = [both.0, both.1].into_iter().filter_map(Result::err).collect();
    let [Error::TooSoon { retry_after }] = refused[..] else { panic!("{refused:?}") };
    assert!(
        retry_after > Duration::from_secs(50) && retry_after <= Duration::from_secs(60),
        "{retry_after:?}"
    );
    other.reconcile_runs(&b, &[]).await.unwrap();
    // Cleaning up has a minute of its own.
    other.cleanup_stale_calls(&a).await.unwrap();
    test.a_minute_passes().await;
    store.reconcile_runs(&a, &[]).await.unwrap();
}

async fn another_tenants_run_is_not_found(test: Open) {
    let store = &test.store;
    let (a, b) = (make_tenant(store, "a", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    let of_a = store.create_run(&a, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let of_b = store.create_run(&b, new_run(settings(), 0..2), None).await.unwrap().run.id;
    test.sql("DELETE FROM ready_jobs").await.unwrap();
    let refused = store.reconcile_runs(&b, &[of_b, of_a]).await;
    assert!(matches!(refused, Err(Error::NotFound("run"))));
    // A refusal is not the minute's one; and what is the other tenant's stays as it is.
    let done = store.reconcile_runs(&b, &[]).await.unwrap();
    assert_eq!(only(&done).id, of_b);
    assert!(
        test.texts(&format!("SELECT CAST(job_id AS TEXT) FROM ready_jobs WHERE run_id = '{of_a}'"))
            .await
            .is_empty()
    );
    let many = vec![RunId(uuid::Uuid::nil()); 101];
    assert!(matches!(store.reconcile_runs(&b, &many).await, Err(Error::Invalid(_))));
}

async fn every_repair_is_in_the_audit_log(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    test.sql("DELETE FROM ready_jobs").await.unwrap();
    by(store, "key-1", "ReconcileRuns").reconcile_runs(&tenant, &[]).await.unwrap();
    let entries =
        test.texts("SELECT tenant_id || ' ' || actor || ' ' || method || ' ' || subject || ' ' || detail FROM audit_log ORDER BY audit_id").await;
    let detail = r#"{"old_state":"pending","new_state":"pending","repairs":[{"kind":"queue_missing","count":2}]}"#;
    let asked = r#"acme key-1 ReconcileRuns tenant acme {"runs":[]}"#;
    assert_eq!(entries, [asked.to_owned(), format!("acme key-1 ReconcileRuns run {run} {detail}")]);
    // Append-only: for the application's role where there are roles, else for everybody.
    for forbidden in ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"] {
        let role = if test.url.starts_with("sqlite") {
            ""
        } else {
            "SET ROLE trunkline_app; SET trunkline.tenant = 'acme'; "
        };
        assert!(test.sql(&format!("{role}{forbidden}")).await.is_err(), "{forbidden}");
    }
    if !test.url.starts_with("sqlite") {
        // And another tenant's transaction sees none of it.
        let sql = "BEGIN; SET LOCAL ROLE trunkline_app; SET LOCAL trunkline.tenant = 'other'; UPDATE maintenance SET last_at = 0";
        assert_eq!(test.sql(sql).await.unwrap(), 0);
    }
}
