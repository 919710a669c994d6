//! What a claim may take, and in what order.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{
    FAST, LIMITS, assert_claims_nothing, assert_nothing_lost, claim, claim_n, claim_nothing_until,
    finish,
};
use crate::support::{
    TestStore, job, make_tenant, new_run, on_both_stores, phone, settings, worker,
};
use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::job::JobState;
use trunkline::domain::run::{Command, RunSettings};
use trunkline::domain::window::CallingWindow;
use trunkline::store::{ClaimLimits, NewJob, NewRun, Page};

on_both_stores!(
    claims_stay_under_every_cap,
    pace_is_exact_over_claims,
    one_live_call_per_phone,
    outside_the_window_a_job_moves_once,
    jobs_of_a_higher_priority_go_first,
    weights_share_the_slots,
    weights_hold_over_single_slots,
    tenants_take_turns,
    a_long_queue_delays_nobody,
);

async fn claims_stay_under_every_cap(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 7, FAST).await;
    let run = RunSettings { concurrency: 5, ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..50), None).await.unwrap().run.id;
    let first = claim_n(store, 5).await;
    assert_eq!(first.len(), 5);
    assert_claims_nothing(store).await;
    let other =
        store.create_run(&tenant, new_run(settings(), 100..150), None).await.unwrap().run.id;
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
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 1_000, 50.0).await;
    store.create_run(&tenant, new_run(settings(), 0..60), None).await.unwrap();
    let calls = claim_n(store, 40).await;
    assert!(calls.len() >= 40);
    for pair in calls.windows(2) {
        assert!(
            pair[1].send_at.0 - pair[0].send_at.0 >= 20_000,
            "{:?}",
            (pair[0].send_at, pair[1].send_at)
        );
    }
}

async fn one_live_call_per_phone(test: TestStore) {
    let store = &test.store;
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

async fn outside_the_window_a_job_moves_once(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let now = store.now().await.unwrap();
    let minute = u16::try_from(now.0 / 60_000_000 % 1_440).unwrap();
    // Opens in about six hours, UTC.
    let opens = (minute + 360) % 1_439;
    let window =
        CallingWindow { opens_minute: opens, closes_minute: opens + 1, weekdays: 0b111_1111 };
    let run = RunSettings { windows: vec![window], ..settings() };
    let run = store.create_run(&tenant, new_run(run, 0..40), None).await.unwrap().run.id;
    let page = Page { size: 100, after: None };
    let jobs = async || store.list_jobs(&tenant, run, &[], page).await.unwrap();
    claim_nothing_until(store, async || {
        jobs().await.items.iter().all(|job| job.eligible_at > now + Duration::from_secs(3_600))
    })
    .await;
    let before = store.run(&tenant, run).await.unwrap();
    assert!(jobs().await.items.iter().all(|job| {
        window.contains(job.eligible_at, &trunkline::domain::window::zone("UTC").unwrap())
    }));
    store.sweep().await.unwrap();
    assert_claims_nothing(store).await;
    assert_eq!(
        store.run(&tenant, run).await.unwrap().revision,
        before.revision,
        "nothing moves twice"
    );
}

async fn jobs_of_a_higher_priority_go_first(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 2, FAST).await;
    let jobs = [(0, 1), (1, 9), (2, 5), (3, 9)].map(|(n, priority)| NewJob { priority, ..job(n) });
    let run = NewRun { jobs: jobs.into(), ..new_run(settings(), 0..0) };
    store.create_run(&tenant, run, None).await.unwrap();
    let dialed: HashSet<_> = claim_n(store, 2).await.into_iter().map(|call| call.to).collect();
    assert_eq!(dialed, HashSet::from([phone(1), phone(3)]));
}

async fn weights_share_the_slots(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 40, FAST).await;
    let heavy = RunSettings { weight: 3, ..settings() };
    let heavy = store.create_run(&tenant, new_run(heavy, 0..100), None).await.unwrap().run.id;
    store.create_run(&tenant, new_run(settings(), 100..200), None).await.unwrap();
    let calls = claim_n(store, 40).await;
    assert_eq!(calls.len(), 40);
    let share = calls.iter().filter(|call| call.run_id == heavy).count();
    assert!((28..=32).contains(&share), "{share}");
}

/// One slot at a time, so that every claim decides anew.
async fn weights_hold_over_single_slots(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 1, FAST).await;
    let of_weight = |weight| RunSettings { weight, ..settings() };
    let heavy = store.create_run(&tenant, new_run(of_weight(3), 0..40), None).await.unwrap().run.id;
    let light =
        store.create_run(&tenant, new_run(of_weight(1), 100..140), None).await.unwrap().run.id;
    let mut of = [0, 0];
    for _ in 0..24 {
        let call = claim_n(store, 1).await.remove(0);
        of[usize::from(call.run_id == light)] += 1;
        finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    }
    assert_eq!(of, [18, 6], "three to one");
    // The heavy run alone gets everything.
    store.command_run(&tenant, light, Command::Pause, None).await.unwrap();
    for _ in 0..3 {
        let call = claim_n(store, 1).await.remove(0);
        assert_eq!(call.run_id, heavy);
        finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    }
}

async fn tenants_take_turns(test: TestStore) {
    let store = &test.store;
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

/// Told by the number of claims, not by time: while nine tenants get what they want in five claims
/// each, the tenant with the long queue gets no more claims than anybody.
async fn a_long_queue_delays_nobody(test: TestStore) {
    const ROUNDS: usize = 5;
    let store = &test.store;
    // First by name, by age and by need.
    let large = make_tenant(store, "a-large", 1_000, FAST).await;
    for page in 0..4 {
        store
            .create_run(&large, new_run(settings(), page * 500..(page + 1) * 500), None)
            .await
            .unwrap();
    }
    for n in 1..10 {
        let small = make_tenant(store, &format!("small-{n}"), 1_000, FAST).await;
        store.create_run(&small, new_run(settings(), 0..20), None).await.unwrap();
    }
    let limits = ClaimLimits { max_calls: 20 / ROUNDS, ..LIMITS };
    let end = Instant::now() + Duration::from_secs(20);
    let (mut claims_of_large, mut dialed) = (0, 0);
    while dialed < 9 * 20 && Instant::now() < end {
        let claim = store.claim(&worker("1"), limits).await.unwrap();
        match claim.tenant {
            Some(tenant) if tenant == large => claims_of_large += 1,
            Some(_) => dialed += claim.calls.len(),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    assert_eq!(dialed, 9 * 20);
    // Twice its share leaves room for two claims within one tick of the clock.
    assert!(claims_of_large <= 2 * ROUNDS, "{claims_of_large} claims");
}
