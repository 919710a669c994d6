//! Jobs that a window put off, when the window changes.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan};
use trunkline::domain::event::Event;
use trunkline::domain::job::JobState;
use trunkline::domain::run::{RunField, RunSettings};
use trunkline::domain::task::TaskKind;
use trunkline::domain::tenant::TenantField;
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{RunId, TenantId, Timestamp};
use trunkline::store::{Error, JobView, NewJob, NewRun, Page, RunPatch, Store, TenantPatch};

use super::{
    FAST, PATIENCE, all_jobs, assert_claims_nothing, assert_nothing_lost, claim_n,
    claim_nothing_until, next_task, reschedule_all,
};
use crate::support::{TestStore, job, make_tenant, new_run, on_both_stores, settings};

on_both_stores!(
    who_was_put_off_is_called_once_the_window_opens,
    who_may_still_not_be_called_waits_for_the_new_opening,
    a_tenants_window_is_that_of_its_runs,
    what_says_nothing_of_when_moves_nobody,
);

const DAY: Duration = Duration::from_secs(86_400);

fn today() -> Date {
    Instant::now().to_zoned(TimeZone::UTC).date()
}

/// So many days around one, by any clock: a run that keeps them calls nobody on it.
fn days(today: Date, from: i64, to: i64) -> Vec<Date> {
    (from..=to).map(|n| today.checked_add(n.days()).unwrap()).collect()
}

fn shut(days: Vec<Date>) -> RunSettings {
    RunSettings { holidays: days, ..settings() }
}

/// Claims until every job is as it is expected, and nobody was called.
async fn put_off_all(
    store: &Store,
    tenant: &TenantId,
    run: RunId,
    put_off: impl Fn(&JobView) -> bool,
) {
    claim_nothing_until(store, async || all_jobs(store, tenant, run).await.iter().all(&put_off))
        .await;
}

async fn open(store: &Store, tenant: &TenantId, run: RunId, days: Vec<Date>) {
    let patch = RunPatch { settings: shut(days), fields: vec![RunField::Holidays] };
    store.update_run(tenant, run, patch, None).await.unwrap();
}

async fn who_was_put_off_is_called_once_the_window_opens(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    let tomorrow = Timestamp(store.now().await.unwrap().0 + 86_400_000_000);
    let mut new = new_run(shut(days(today(), -2, 2)), 0..0);
    let later = NewJob { eligible_at: Some(tomorrow), ..job(0) };
    new.jobs = std::iter::once(later).chain((1..1_000).map(job)).collect();
    let run = store.create_run(&tenant, NewRun { seal: false, ..new }, None).await.unwrap().run.id;
    store.add_jobs(&tenant, run, (1_000..1_200).map(job).collect(), None).await.unwrap();
    let put_off = |jobs: &[JobView]| jobs.iter().filter(|job| job.eligible_at > tomorrow).count();
    put_off_all(store, &tenant, run, |job| job.eligible_at >= tomorrow).await;
    // Two executors have the same page: only one of them does it.
    let opened = store.now().await.unwrap();
    open(store, &tenant, run, Vec::new()).await;
    let first = next_task(store, TaskKind::Reschedule, Duration::from_millis(1)).await;
    let second = next_task(store, TaskKind::Reschedule, PATIENCE).await;
    store.reschedule(&second).await.unwrap();
    assert!(matches!(store.reschedule(&first).await, Err(Error::Lapsed)));
    assert_eq!(put_off(&all_jobs(store, &tenant, run).await), 199);
    assert_eq!(reschedule_all(store).await, 2);
    let now = store.now().await.unwrap();
    for job in all_jobs(store, &tenant, run).await {
        let due = job.eligible_at >= opened && job.eligible_at <= now;
        assert!(due || job.eligible_at == tomorrow, "now, and none before it was due: {job:?}");
    }
    assert_eq!(claim_n(store, 100).await.len(), 100);
    let counts = assert_nothing_lost(store, &tenant, run).await;
    assert_eq!((counts.queued, counts.dialing), (1_100, 100));
}

async fn who_may_still_not_be_called_waits_for_the_new_opening(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 10, FAST).await;
    let today = today();
    let created =
        store.create_run(&tenant, new_run(shut(days(today, -2, 9)), 0..150), None).await.unwrap();
    let run = created.run.id;
    put_off_all(store, &tenant, run, |job| job.eligible_at > created.run.created_at + DAY).await;
    let before = all_jobs(store, &tenant, run).await;
    // Shorter, and still on: everybody waits, for an earlier day.
    open(store, &tenant, run, days(today, -2, 4)).await;
    assert_eq!(reschedule_all(store).await, 2);
    let after = all_jobs(store, &tenant, run).await;
    for (before, after) in before.iter().zip(&after) {
        // Five days, and an hour where the clocks change in between.
        let hours = before.eligible_at.since(after.eligible_at).as_secs() / 3_600;
        assert!(after.state == JobState::Queued && (119..=121).contains(&hours), "{hours}");
    }
    assert_claims_nothing(store).await;
    // Longer: later openings are found by the claim, when the time has come.
    open(store, &tenant, run, days(today, -2, 8)).await;
    reschedule_all(store).await;
    assert_eq!(all_jobs(store, &tenant, run).await, after);
    open(store, &tenant, run, Vec::new()).await;
    reschedule_all(store).await;
    assert_eq!(claim_n(store, 10).await.len(), 10);
    let log = store.commits_after(&tenant, run, 0, 1_000).await.unwrap();
    let moved = log.commits.iter().flat_map(|commit| &commit.events);
    let moved =
        moved.filter(|event| matches!(event, Event::JobChanged { state: JobState::Queued, .. }));
    assert_eq!(moved.count(), 3 * 150, "watchers are told: put off, and brought forward twice");
}

async fn a_tenants_window_is_that_of_its_runs(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    // Open in the one minute that is half a day away.
    let now = Instant::now().to_zoned(TimeZone::UTC);
    let minute =
        u16::try_from((i32::from(now.hour()) * 60 + i32::from(now.minute()) + 720) % 1_440)
            .unwrap();
    let never =
        CallingWindow { opens_minute: minute, closes_minute: minute + 1, ..CallingWindow::ALWAYS };
    set_window(store, &tenant, never).await;
    let mut all = Vec::new();
    for n in 0..3 {
        let new = new_run(settings(), n * 10..n * 10 + 10);
        all.push(store.create_run(&tenant, new, None).await.unwrap().run.id);
    }
    for run in &all {
        let soon = store.now().await.unwrap() + Duration::from_secs(3_600);
        put_off_all(store, &tenant, *run, |job| job.eligible_at > soon).await;
    }
    set_window(store, &tenant, CallingWindow::ALWAYS).await;
    // A page for each run, and one that finds no more.
    assert_eq!(reschedule_all(store).await, 4);
    let calls = claim_n(store, 30).await;
    for run in all {
        assert_eq!(calls.iter().filter(|call| call.run_id == run).count(), 10);
    }
}

async fn set_window(store: &Store, tenant: &TenantId, window: CallingWindow) {
    let view = store.tenant_view(tenant).await.unwrap();
    let tenant_with = trunkline::domain::tenant::Tenant { window, ..view.tenant };
    let patch =
        TenantPatch { tenant: tenant_with, fields: vec![TenantField::Window], revision: None };
    store.update_tenant(tenant, patch, None).await.unwrap();
}

async fn what_says_nothing_of_when_moves_nobody(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 10, FAST).await;
    let kept = shut(days(today(), -2, 2));
    let run = store.create_run(&tenant, new_run(kept.clone(), 0..3), None).await.unwrap().run.id;
    let patch = RunPatch {
        settings: RunSettings { concurrency: 7, ..kept },
        fields: vec![RunField::Concurrency, RunField::Holidays],
    };
    store.update_run(&tenant, run, patch, None).await.unwrap();
    let tasks = store.list_tasks(&tenant, &[], Page { size: 10, after: None }).await.unwrap();
    assert_eq!(tasks.items, []);
}
