//! The conformance suite: every use case, the same on both stores.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use trunkline::domain::call::{CallState, CarrierStatus, NOT_SENT, News, RejectClass};
use trunkline::domain::event::Event;
use trunkline::domain::job::{JobState, Outcome};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::retry::{RetryOn, RetryPolicy};
use trunkline::domain::run::{Command, JobCounts, RunField, RunSettings, RunState};
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{CallId, CallSid, JobId, LeadId, RunId, TenantId};
use trunkline::store::{
    Applied, CallsOf, Claim, ClaimLimits, Engine, Error, ImportStep, JobAdded, NewJob, NewRun, Page,
    RequestKey, RunPatch, Store, Wake, Who,
};

use crate::support::{
    TestStore, job, make_tenant, new_run, on_both_stores, phone, settings, tenant_id, worker,
};

on_both_stores!(
    a_run_goes_from_claim_to_completed,
    claims_stay_under_every_cap,
    pace_is_exact_over_claims,
    one_live_call_per_phone,
    a_callback_before_the_answer_is_enough,
    a_retry_goes_back_to_the_queue,
    what_was_not_sent_goes_back,
    a_configuration_error_pauses_the_run,
    outside_the_window_a_job_moves_once,
    jobs_of_a_higher_priority_go_first,
    weights_share_the_slots,
    tenants_take_turns,
    commands_move_runs,
    canceling_ends_what_is_queued,
    expiry_ends_every_job,
    stopping_asks_for_hangups,
    duplicates_are_counted_not_failed,
    an_import_resumes_where_it_was,
    a_request_id_answers_twice_the_same,
    pages_walk_everything_once,
    another_tenant_sees_nothing,
    the_log_has_every_revision,
    abandoned_intents_become_unknown_and_stale,
    settings_change_by_mask,
    bad_input_names_its_field,
);

const LIMITS: ClaimLimits = ClaimLimits { max_calls: 32, horizon: Duration::from_millis(250) };
const FAST: f64 = 10_000.0;

fn sid(call: CallId) -> CallSid {
    format!("CA{}", call.0.simple()).parse().unwrap()
}

fn status(call: CallId, status: CarrierStatus, sequence: u32) -> (CallId, News) {
    let news = News::Status {
        sid: sid(call),
        status,
        sequence: Some(sequence),
        duration_s: status.is_final().then_some(7),
        answered_by: None,
        error_code: None,
    };
    (call, news)
}

async fn claim(store: &Engine) -> Claim {
    store.claim(&worker("1"), LIMITS).await.unwrap()
}

/// Claims until there are `n` calls; pace and wake-ups are real, so it may take a moment.
async fn claim_n(store: &Engine, n: usize) -> Vec<trunkline::store::ClaimedCall> {
    let mut calls = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    while calls.len() < n && Instant::now() < end {
        calls.extend(claim(store).await.calls);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls
}

/// Claims until long after every wake-up was passed on, and gets nothing.
async fn assert_claims_nothing(store: &Engine) {
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert!(claim(store).await.calls.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn finish(store: &Engine, tenant: &TenantId, call: CallId, end: CarrierStatus) {
    let news = [
        (call, News::Submitted { sid: sid(call) }),
        status(call, CarrierStatus::Ringing, 1),
        status(call, CarrierStatus::InProgress, 2),
        status(call, end, 3),
    ];
    let skip = usize::from(end != CarrierStatus::Completed);
    let news: Vec<_> =
        news.into_iter().enumerate().filter(|(i, _)| skip == 0 || *i != 2).map(|(_, n)| n).collect();
    store.apply(tenant, &news).await.unwrap();
}

/// Invariant 5, from the rows themselves.
async fn assert_nothing_lost(store: &Engine, tenant: &TenantId, run: RunId) -> JobCounts {
    let view = store.run(tenant, run).await.unwrap();
    let mut counts = JobCounts::default();
    let mut page = Page { size: 1_000, after: None };
    loop {
        let jobs = store.list_jobs(tenant, run, &[], page).await.unwrap();
        jobs.items.iter().for_each(|job| *counts.of_mut(job.state) += 1);
        page.after = jobs.next;
        if jobs.next.is_none() {
            break;
        }
    }
    assert_eq!(counts, view.progress.counts);
    counts
}

async fn a_run_goes_from_claim_to_completed(test: TestStore) {
    let store = &*test.store;
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

async fn claims_stay_under_every_cap(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 7, FAST).await;
    let run = RunSettings { concurrency: 5, ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..50), None).await.unwrap().run.id;
    let first = claim_n(store, 5).await;
    assert_eq!(first.len(), 5);
    assert_claims_nothing(store).await;
    let other = store.create_run(&tenant, new_run(settings(), 100..150), None).await.unwrap().run.id;
    assert_eq!(claim_n(store, 2).await.iter().filter(|call| call.run_id == other).count(), 2);
    assert_claims_nothing(store).await;
    finish(store, &tenant, first[0].call_id, CarrierStatus::Busy).await;
    let next = claim_n(store, 1).await;
    assert_eq!(next.len(), 1);
    let lost = (first[1].call_id, News::Lost { message: "timeout".into() });
    store.apply(&tenant, &[lost]).await.unwrap();
    assert_claims_nothing(store).await;
    let in_flight = store.in_flight(&tenant, run).await.unwrap();
    assert_eq!(in_flight.unknown, 1);
    assert_nothing_lost(store, &tenant, run).await;
}

async fn pace_is_exact_over_claims(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 1_000, 50.0).await;
    store.create_run(&tenant, new_run(settings(), 0..60), None).await.unwrap();
    let calls = claim_n(store, 40).await;
    assert!(calls.len() >= 40);
    for pair in calls.windows(2) {
        assert!(pair[1].send_at.0 - pair[0].send_at.0 >= 20_000, "{:?}", (pair[0].send_at, pair[1].send_at));
    }
}

async fn one_live_call_per_phone(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    let a = store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap().run.id;
    let b = store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap().run.id;
    let calls = claim_n(store, 1).await;
    assert_eq!(calls.len(), 1);
    // The other run's job was looked at, and waits for the phone.
    while claim(store).await.tenant.is_some() {}
    let waiting = if calls[0].run_id == a { b } else { a };
    let jobs = store.list_jobs(&tenant, waiting, &[], Page { size: 1, after: None }).await.unwrap();
    assert_eq!(jobs.items[0].state, JobState::Queued);
    assert!(jobs.items[0].eligible_at > store.now().await.unwrap());
}

async fn a_callback_before_the_answer_is_enough(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap();
    let call = claim_n(store, 1).await[0].call_id;
    let applied = store.apply(&tenant, &[status(call, CarrierStatus::Ringing, 1)]).await.unwrap();
    assert_eq!(applied, [Applied::Changed(CallState::Ringing)]);
    let applied = store.apply(&tenant, &[(call, News::Submitted { sid: sid(call) })]).await.unwrap();
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
    let store = &*test.store;
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
    let calls =
        store.list_calls(&tenant, CallsOf::Job(first.job_id), Page { size: 10, after: None }).await.unwrap();
    assert_eq!(calls.items.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
}

async fn what_was_not_sent_goes_back(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..2), None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    let news = [
        (calls[0].call_id, News::NotSent { code: NOT_SENT, message: "connection refused".into() }),
        (
            calls[1].call_id,
            News::Rejected { class: RejectClass::Defer, code: "20429".into(), message: "too many".into() },
        ),
    ];
    store.apply(&tenant, &news).await.unwrap();
    let jobs =
        store.list_jobs(&tenant, run, &[JobState::Queued], Page { size: 10, after: None }).await.unwrap();
    assert_eq!(jobs.items.len(), 2);
    assert!(jobs.items.iter().all(|job| job.attempts_used == 0 && job.attempt == 1));
    let call = store.call(&tenant, calls[1].call_id).await.unwrap().call;
    assert_eq!((call.state, call.error_code.as_deref()), (CallState::Failed, Some("20429")));
    assert_nothing_lost(store, &tenant, run).await;
}

async fn a_configuration_error_pauses_the_run(test: TestStore) {
    let store = &*test.store;
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

async fn outside_the_window_a_job_moves_once(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let now = store.now().await.unwrap();
    let minute = u16::try_from(now.0 / 60_000_000 % 1_440).unwrap();
    // Opens in about six hours, UTC.
    let opens = (minute + 360) % 1_439;
    let window = CallingWindow { opens_minute: opens, closes_minute: opens + 1, weekdays: 0b111_1111 };
    let run = RunSettings { window: Some(window), ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..40), None).await.unwrap().run.id;
    assert_claims_nothing(store).await;
    let before = store.run(&tenant, run).await.unwrap();
    let jobs = store.list_jobs(&tenant, run, &[], Page { size: 100, after: None }).await.unwrap();
    assert!(
        jobs.items
            .iter()
            .all(|job| window.contains(job.eligible_at, &trunkline::domain::window::zone("UTC").unwrap()))
    );
    store.sweep().await.unwrap();
    assert_claims_nothing(store).await;
    assert_eq!(store.run(&tenant, run).await.unwrap().revision, before.revision, "nothing moves twice");
}

async fn jobs_of_a_higher_priority_go_first(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 2, FAST).await;
    let jobs = [(0, 1), (1, 9), (2, 5), (3, 9)].map(|(n, priority)| NewJob { priority, ..job(n) });
    let run = NewRun { jobs: jobs.into(), ..new_run(settings(), 0..0) };
    store.create_run(&tenant, run, None).await.unwrap();
    let dialed: HashSet<_> = claim_n(store, 2).await.into_iter().map(|call| call.to).collect();
    assert_eq!(dialed, HashSet::from([phone(1), phone(3)]));
}

async fn weights_share_the_slots(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 40, FAST).await;
    let heavy = RunSettings { weight: 3, ..settings() };
    let heavy = store.create_run(&tenant, new_run(heavy, 0..100), None).await.unwrap().run.id;
    store.create_run(&tenant, new_run(settings(), 100..200), None).await.unwrap();
    let calls = claim_n(store, 40).await;
    assert_eq!(calls.len(), 40);
    let share = calls.iter().filter(|call| call.run_id == heavy).count();
    assert!((28..=32).contains(&share), "{share}");
}

async fn tenants_take_turns(test: TestStore) {
    let store = &*test.store;
    let big = make_tenant(store, "big", 1_000, FAST).await;
    let small = make_tenant(store, "small", 1_000, FAST).await;
    store.create_run(&big, new_run(settings(), 0..1_000), None).await.unwrap();
    store.create_run(&small, new_run(settings(), 0..10), None).await.unwrap();
    let mut turns = Vec::new();
    while turns.iter().filter(|tenant| **tenant == small).count() == 0 {
        if let Some(tenant) = claim(store).await.tenant {
            turns.push(tenant);
        }
    }
    assert!(turns.len() <= 3, "{turns:?}");
}

async fn commands_move_runs(test: TestStore) {
    let store = &*test.store;
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
    assert_eq!(store.run(&tenant, run).await.unwrap().progress.state, RunState::Running, "not sealed");
    let sealed = command(Command::Seal).await.unwrap();
    assert_eq!((sealed.progress.state, sealed.sealed), (RunState::Completed, true));
    assert!(matches!(command(Command::Pause).await, Err(Error::WrongState(_))));
    assert!(matches!(store.add_jobs(&tenant, run, vec![job(9)], None).await, Err(Error::Closed(_))));
}

async fn canceling_ends_what_is_queued(test: TestStore) {
    let store = &*test.store;
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
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 1, FAST).await;
    let now = store.now().await.unwrap();
    let run = RunSettings { expires_at: Some(now + Duration::from_millis(600)), ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..10), None).await.unwrap().run.id;
    let call = claim_n(store, 1).await[0].call_id;
    while store.now().await.unwrap() < now + Duration::from_millis(600) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.sweep().await.unwrap();
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.expired, 9);
    finish(store, &tenant, call, CarrierStatus::Completed).await;
    assert_eq!(store.run(&tenant, run).await.unwrap().progress.state, RunState::Expired);
}

async fn stopping_asks_for_hangups(test: TestStore) {
    let store = &*test.store;
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

async fn duplicates_are_counted_not_failed(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { start: false, seal: false, ..new_run(settings(), 0..2) };
    let run = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    let stranger = NewJob { who: Who::Lead(LeadId(uuid::Uuid::now_v7())), ..job(0) };
    let added =
        store.add_jobs(&tenant, run, vec![job(1), job(2), job(2), stranger, job(3)], None).await.unwrap();
    let duplicate = |added: &JobAdded| matches!(added, JobAdded::Job { duplicate: true, .. });
    assert_eq!(added.iter().map(duplicate).collect::<Vec<_>>(), [true, false, true, false, false]);
    assert!(matches!(&added[3], JobAdded::Rejected { field, .. } if field == "lead_id"));
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.queued, 4);
}

async fn an_import_resumes_where_it_was(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { start: false, seal: false, ..new_run(settings(), 0..0) };
    let run = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    assert_eq!(store.import_offset(&tenant, run, "a").await.unwrap(), 0);
    let step = |offset| ImportStep { import_id: "a", offset, taken: 10 };
    store.import_jobs(&tenant, run, step(0), (0..10).map(job).collect()).await.unwrap();
    assert!(store.import_jobs(&tenant, run, step(0), (0..10).map(job).collect()).await.is_err());
    assert_eq!(store.import_offset(&tenant, run, "a").await.unwrap(), 10);
    store.import_jobs(&tenant, run, step(10), (10..20).map(job).collect()).await.unwrap();
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.queued, 20);
}

async fn a_request_id_answers_twice_the_same(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let key =
        |hash| Some(RequestKey { method: "CreateRun", request_id: "r1".into(), payload_hash: [hash; 32] });
    let first = store.create_run(&tenant, new_run(settings(), 0..3), key(1)).await.unwrap();
    let again = store.create_run(&tenant, new_run(settings(), 0..3), key(1)).await.unwrap();
    assert_eq!((first.run.id, &first.jobs), (again.run.id, &again.jobs));
    let other = store.create_run(&tenant, new_run(settings(), 0..4), key(2)).await;
    assert!(matches!(other, Err(Error::RequestReused)));
    let runs = store.list_runs(&tenant, &[], Page { size: 10, after: None }).await.unwrap();
    assert_eq!(runs.items.len(), 1);
    // The same id under another tenant is another request.
    let stranger = make_tenant(store, "other", 9, FAST).await;
    assert_ne!(
        store.create_run(&stranger, new_run(settings(), 0..3), key(1)).await.unwrap().run.id,
        first.run.id
    );
}

async fn pages_walk_everything_once(test: TestStore) {
    let store = &*test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let leads = (0..25).map(|n| LeadFacts::of(phone(n))).collect();
    store.create_leads(&tenant, leads, None).await.unwrap();
    let mut seen = Vec::new();
    let mut page = Page { size: 10, after: None };
    loop {
        let leads = store.list_leads(&tenant, None, page).await.unwrap();
        seen.extend(leads.items.into_iter().map(|lead| lead.facts.phone));
        page.after = leads.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(phone).collect::<Vec<_>>());
    let one = store.list_leads(&tenant, Some(&phone(7)), Page { size: 10, after: None }).await.unwrap();
    assert_eq!(one.items.len(), 1);
    let again =
        store.create_leads(&tenant, vec![LeadFacts::of(phone(7)), LeadFacts::of(phone(99))], None).await;
    assert_eq!(again.unwrap().iter().map(|lead| lead.created).collect::<Vec<_>>(), [false, true]);
}

async fn another_tenant_sees_nothing(test: TestStore) {
    let store = &*test.store;
    let a = make_tenant(store, "a", 9, FAST).await;
    let b = make_tenant(store, "b", 9, FAST).await;
    let created = store.create_run(&a, new_run(settings(), 0..3), None).await.unwrap();
    let run = created.run.id;
    let JobAdded::Job { job_id, lead_id, .. } = created.jobs[0] else { panic!() };
    let call = claim_n(store, 1).await[0].call_id;
    let page = Page { size: 10, after: None };
    fn hidden<T>(result: Result<T, Error>) -> bool {
        matches!(result, Err(Error::NotFound(_)))
    }
    assert!(hidden(store.run(&b, run).await));
    assert!(hidden(store.job(&b, job_id).await));
    assert!(hidden(store.lead(&b, lead_id).await));
    assert!(hidden(store.call(&b, call).await));
    assert!(hidden(store.list_jobs(&b, run, &[], page).await));
    assert!(hidden(store.list_calls(&b, CallsOf::Run(run), page).await));
    assert!(hidden(store.list_calls(&b, CallsOf::Job(job_id), page).await));
    assert!(hidden(store.commits_after(&b, run, 0, 10).await));
    assert!(hidden(store.command_run(&b, run, Command::Stop, None).await));
    assert!(hidden(store.add_jobs(&b, run, vec![job(50)], None).await));
    assert!(hidden(store.import_offset(&b, run, "x").await));
    assert!(hidden(store.cancel_jobs(&b, run, vec![job_id], None).await));
    let patch = RunPatch { settings: settings(), fields: vec![RunField::Name] };
    assert!(hidden(store.update_run(&b, run, patch, None).await));
    assert!(store.list_runs(&b, &[], page).await.unwrap().items.is_empty());
    assert!(store.list_leads(&b, None, page).await.unwrap().items.is_empty());
    assert_eq!(
        store.apply(&b, &[status(call, CarrierStatus::Busy, 1)]).await.unwrap(),
        [Applied::NoSuchCall]
    );
    let foreign = NewRun { parent: Some(run), ..new_run(settings(), 0..1) };
    assert!(hidden(store.create_run(&b, foreign, None).await));
    let stolen = vec![NewJob { who: Who::Lead(lead_id), ..job(0) }];
    let own = NewRun { jobs: stolen, ..new_run(settings(), 0..0) };
    assert!(matches!(store.create_run(&b, own, None).await.unwrap().jobs[0], JobAdded::Rejected { .. }));
}

async fn the_log_has_every_revision(test: TestStore) {
    let store = &*test.store;
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

async fn abandoned_intents_become_unknown_and_stale(test: TestStore) {
    let store = &*test.store;
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

async fn settings_change_by_mask(test: TestStore) {
    let store = &*test.store;
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

async fn bad_input_names_its_field(test: TestStore) {
    let store = &*test.store;
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
    assert!(store.list_runs(&tenant, &[], Page { size: 9, after: None }).await.unwrap().items.is_empty());
    assert!(matches!(store.run(&tenant, RunId(uuid::Uuid::nil())).await, Err(Error::NotFound("run"))));
    assert!(matches!(store.job(&tenant, JobId(uuid::Uuid::nil())).await, Err(Error::NotFound("job"))));
    assert!(matches!(store.tenant(&tenant_id("nobody")).await, Err(Error::NotFound("tenant"))));
}
