//! A run from claim to its end, and what moves it.

use super::{FAST, assert_claims_nothing, assert_nothing_lost, claim_n, finish, sid, status};
use crate::support::{TestStore, job, make_tenant, new_run, on_both_stores, settings, tenant_id};
use trunkline::domain::call::{CallState, CarrierStatus, News};
use trunkline::domain::event::Event;
use trunkline::domain::job::Outcome;
use trunkline::domain::run::{Command, RunField, RunSettings, RunState};
use trunkline::domain::{JobId, RunId};
use trunkline::store::{Error, NewRun, Page, RunPatch, Wake};

on_both_stores!(
    a_run_goes_from_claim_to_completed,
    commands_move_runs,
    canceling_ends_what_is_queued,
    expiry_ends_every_job,
    stopping_asks_for_hangups,
    settings_change_by_mask,
    the_log_has_every_revision,
    bad_input_names_its_field,
);

async fn a_run_goes_from_claim_to_completed(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 10, FAST).await;
    let mut wakes = store.wakes();
    let run = store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap();
    assert_eq!(run.run.progress.state, RunState::Pending);
    assert_eq!(run.run.revision, 1);
    assert!(matches!(wakes.recv().await.unwrap(), Wake::Run(..) | Wake::Work | Wake::Everything));
    let calls = claim_n(store, 3).await;
    assert_eq!(calls.len(), 3);
    let view = store.run(&tenant, run.run.id).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.dialing), (RunState::Running, 3));
    for call in &calls {
        assert_eq!(store.call(&tenant, call.call_id).await.unwrap().call.state, CallState::Intent);
        finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    }
    let view = store.run(&tenant, run.run.id).await.unwrap();
    assert_eq!(view.progress.state, RunState::Completed);
    assert!(view.ended_at.is_some() && view.started_at.is_some());
    assert_eq!(view.progress.outcomes.0[&Outcome::Answered], 3);
    let call = store.call_by_sid(&tenant, &sid(calls[0].call_id)).await.unwrap();
    assert_eq!((call.call.state, call.call.duration_s), (CallState::Completed, Some(7)));
    assert!(call.call.answered_at.is_some() && call.ended_at.is_some());
    assert_nothing_lost(store, &tenant, run.run.id).await;
}

async fn commands_move_runs(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { start: false, seal: false, ..new_run(settings(), 0..5) };
    let run = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    assert_claims_nothing(store).await;
    let command = async |command| store.command_run(&tenant, run, command, None).await;
    assert!(matches!(command(Command::Pause).await, Err(Error::WrongState(_))));
    assert_eq!(command(Command::Start).await.unwrap().progress.state, RunState::Pending);
    assert_eq!(command(Command::Pause).await.unwrap().progress.state, RunState::Paused);
    assert_claims_nothing(store).await;
    assert_eq!(command(Command::Resume).await.unwrap().progress.state, RunState::Pending);
    let calls = claim_n(store, 5).await;
    for call in calls {
        finish(store, &tenant, call.call_id, CarrierStatus::NoAnswer).await;
    }
    assert_eq!(
        store.run(&tenant, run).await.unwrap().progress.state,
        RunState::Running,
        "not sealed"
    );
    let sealed = command(Command::Seal).await.unwrap();
    assert_eq!((sealed.progress.state, sealed.sealed), (RunState::Completed, true));
    assert!(matches!(command(Command::Pause).await, Err(Error::WrongState(_))));
    assert!(matches!(
        store.add_jobs(&tenant, run, vec![job(9)], None).await,
        Err(Error::Closed(_))
    ));
}

async fn canceling_ends_what_is_queued(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 2, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..20), None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    let view = store.command_run(&tenant, run, Command::Cancel, None).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.canceled), (RunState::Canceling, 18));
    assert_claims_nothing(store).await;
    for call in calls {
        finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    }
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.completed), (RunState::Canceled, 2));
    let last = store.commits_after(&tenant, run, view.revision - 1, 10).await.unwrap();
    assert!(matches!(
        last.commits[0].events.last(),
        Some(Event::RunStateChanged { to: RunState::Canceled, .. })
    ));
}

async fn expiry_ends_every_job(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 1, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..10), None).await.unwrap().run.id;
    let call = claim_n(store, 1).await[0].call_id;
    let now = store.now().await.unwrap();
    test.raw().await.execute(&format!("UPDATE runs SET expires_at = {}", now.0)).await;
    store.sweep().await.unwrap();
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.expired, 9);
    finish(store, &tenant, call, CarrierStatus::Completed).await;
    assert_eq!(store.run(&tenant, run).await.unwrap().progress.state, RunState::Expired);
}

async fn stopping_asks_for_hangups(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 2, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..5), None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    store
        .apply(&tenant, &[(calls[0].call_id, News::Submitted { sid: sid(calls[0].call_id) })])
        .await
        .unwrap();
    store.command_run(&tenant, run, Command::Stop, None).await.unwrap();
    let asked = store.take_hangups(10).await.unwrap();
    assert_eq!(asked.iter().map(|hangup| hangup.call_id).collect::<Vec<_>>(), [calls[0].call_id]);
    assert!(store.take_hangups(10).await.unwrap().is_empty(), "asked once");
    // A SID learned later is hung up as well.
    store
        .apply(&tenant, &[(calls[1].call_id, News::Submitted { sid: sid(calls[1].call_id) })])
        .await
        .unwrap();
    assert_eq!(store.take_hangups(10).await.unwrap()[0].call_id, calls[1].call_id);
    for call in calls {
        store.apply(&tenant, &[status(call.call_id, CarrierStatus::Canceled, 3)]).await.unwrap();
    }
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.canceled), (RunState::Stopped, 5));
}

async fn settings_change_by_mask(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    let run = RunSettings { concurrency: 1, ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..30), None).await.unwrap().run.id;
    assert_eq!(claim_n(store, 1).await.len(), 1);
    let new = RunSettings { concurrency: 20, weight: 7, name: "ignored".into(), ..settings() };
    let patch = RunPatch { settings: new, fields: vec![RunField::Concurrency, RunField::Weight] };
    let view = store.update_run(&tenant, run, patch, None).await.unwrap();
    assert_eq!(
        (view.settings.concurrency, view.settings.weight, view.settings.name.as_str()),
        (20, 7, "test")
    );
    assert_eq!(claim_n(store, 19).await.len(), 19);
}

async fn the_log_has_every_revision(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 5, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..20), None).await.unwrap().run.id;
    while !store.run(&tenant, run).await.unwrap().progress.state.is_ended() {
        for call in claim_n(store, 5).await {
            finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
        }
    }
    let view = store.run(&tenant, run).await.unwrap();
    let mut at = 0;
    loop {
        let page = store.commits_after(&tenant, run, at, 7).await.unwrap();
        assert!(page.ended && page.latest == view.revision && page.oldest == 1);
        if page.commits.is_empty() {
            break;
        }
        for commit in page.commits {
            at += 1;
            assert_eq!(commit.revision, at);
            assert_eq!(commit.progress.counts.total(), 20);
            assert!(!commit.events.is_empty());
            assert_eq!(commit.progress.state.is_ended(), at == view.revision);
        }
    }
    assert_eq!(at, view.revision);
}

async fn bad_input_names_its_field(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let field = |error: Error| match error {
        Error::Invalid(violation) => violation.field,
        other => panic!("{other}"),
    };
    let bad = RunSettings { weight: 0, ..settings() };
    let error = store.create_run(&tenant, new_run(bad, 0..1), None).await.unwrap_err();
    assert_eq!(field(error), "weight");
    let many = NewRun { jobs: (0..1_001).map(job).collect(), ..new_run(settings(), 0..0) };
    assert_eq!(field(store.create_run(&tenant, many, None).await.unwrap_err()), "jobs");
    assert!(
        store
            .list_runs(&tenant, &[], Page { size: 9, after: None })
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(matches!(
        store.run(&tenant, RunId(uuid::Uuid::nil())).await,
        Err(Error::NotFound("run"))
    ));
    assert!(matches!(
        store.job(&tenant, JobId(uuid::Uuid::nil())).await,
        Err(Error::NotFound("job"))
    ));
    assert!(matches!(store.tenant(&tenant_id("nobody")).await, Err(Error::NotFound("tenant"))));
}
