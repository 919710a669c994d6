//! Runs made of leads, and what is counted for a forecast.

use std::time::Duration;

use trunkline::domain::call::CarrierStatus;
use trunkline::domain::cap::{FrequencyCap, Span};
use trunkline::domain::forecast::{self, Observed};
use trunkline::domain::job::JobState;
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::plan::{Plan, Plans};
use trunkline::domain::run::{Command, RunSettings, RunState};
use trunkline::domain::suppression::{NewSuppression, SuppressionReason, SuppressionSource};
use trunkline::domain::task::TaskKind;
use trunkline::domain::{RunId, TenantId};
use trunkline::store::{
    Error, ForecastOf, LeadFilter, LeadView, NewRun, Page, PopulationView, Store, Task,
};

use super::{FAST, PATIENCE, all_jobs, assert_nothing_lost, claim_n, finish, next_task};
use crate::support::{
    TestStore, make_tenant, new_run, next_millisecond, on_both_stores, phone, settings,
};

on_both_stores!(
    a_run_takes_the_leads_that_there_are,
    a_page_is_added_once,
    a_full_queue_is_waited_for,
    a_run_that_takes_no_jobs_is_left_alone,
    a_forecast_counts_people_by_what_holds_them,
    a_forecast_learns_from_calls,
);

async fn people(
    store: &Store,
    tenant: &TenantId,
    range: std::ops::Range<usize>,
    tag: &str,
) -> Vec<LeadView> {
    let mut all = Vec::new();
    let facts: Vec<LeadFacts> =
        range.map(|n| LeadFacts { tags: vec![tag.into()], ..LeadFacts::of(phone(n)) }).collect();
    for batch in facts.chunks(1_000) {
        let created = store.create_leads(tenant, batch.to_vec(), None).await.unwrap();
        all.extend(created.into_iter().map(|created| created.lead));
    }
    all
}

fn tagged(tag: &str) -> LeadFilter {
    LeadFilter { tag: Some(tag.into()), ..LeadFilter::default() }
}

async fn suppress(store: &Store, tenant: &TenantId, n: usize) {
    let new = NewSuppression::of(phone(n), SuppressionReason::Asked, SuppressionSource::Api);
    store.add_suppressions(tenant, vec![new], None).await.unwrap();
}

async fn begin(store: &Store, tenant: &TenantId, new: NewRun, tag: &str) -> RunId {
    let created = store.create_run_from_leads(tenant, new, tagged(tag), None).await.unwrap().run;
    assert_eq!((created.sealed, created.population.unwrap().done), (false, false));
    created.id
}

async fn next_page(store: &Store, holds: Duration) -> Task {
    next_task(store, TaskKind::PopulateRun, holds).await
}

async fn page(store: &Store) {
    let task = next_page(store, PATIENCE).await;
    store.populate_run(&task).await.unwrap();
}

async fn population(store: &Store, tenant: &TenantId, run: RunId) -> PopulationView {
    store.run(tenant, run).await.unwrap().population.unwrap()
}

async fn a_run_takes_the_leads_that_there_are(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let leads = people(store, &tenant, 0..2_300, "a").await;
    people(store, &tenant, 3_000..3_010, "b").await;
    suppress(store, &tenant, 7).await;
    // One of them by hand as well.
    let new = NewRun { start: false, ..new_run(settings(), 5..6) };
    let run = begin(store, &tenant, new, "a").await;
    next_millisecond(store).await;
    people(store, &tenant, 5_000..5_003, "a").await;
    page(store).await;
    let known = store.run(&tenant, run).await.unwrap();
    let told = known.population.clone().unwrap();
    assert_eq!((told.done, told.added, told.duplicates, told.suppressed), (false, 999, 1, 1));
    assert_eq!((known.sealed, known.progress.counts.queued), (false, 999));
    page(store).await;
    page(store).await;
    let known = store.run(&tenant, run).await.unwrap();
    let told = known.population.clone().unwrap();
    assert_eq!((told.done, told.added, told.duplicates, told.last_error), (true, 2_299, 1, None));
    assert_eq!((known.sealed, known.progress.state), (true, RunState::Draft));
    let counts = assert_nothing_lost(store, &tenant, run).await;
    assert_eq!((counts.total(), counts.queued, counts.skipped), (2_300, 2_299, 1));
    let mut called: Vec<_> =
        all_jobs(store, &tenant, run).await.iter().map(|job| job.lead_id).collect();
    called.sort_unstable();
    let mut all: Vec<_> = leads.iter().map(|lead| lead.id).collect();
    all.sort_unstable();
    assert_eq!(called, all, "those that there were, each once");
    // A filter that nobody passes makes a run of nobody, which is over at once.
    let empty = begin(store, &tenant, new_run(settings(), 0..0), "nobody").await;
    page(store).await;
    assert_eq!(store.run(&tenant, empty).await.unwrap().progress.state, RunState::Completed);
    assert!(
        store
            .list_tasks(&tenant, &[], Page { size: 100, after: None })
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn a_page_is_added_once(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    people(store, &tenant, 0..1_200, "a").await;
    let run = begin(store, &tenant, new_run(settings(), 0..0), "a").await;
    // Two executors have the same task: the claim of the first has lapsed.
    let first = next_page(store, Duration::from_millis(1)).await;
    let second = next_page(store, PATIENCE).await;
    assert_eq!(first.id, second.id);
    assert!(matches!(store.populate_run(&first).await, Err(Error::Lapsed)));
    assert_eq!(population(store, &tenant, run).await.added, 0);
    store.populate_run(&second).await.unwrap();
    assert_eq!(population(store, &tenant, run).await.added, 1_000);
    // Whoever is given it next goes on where it stands.
    page(store).await;
    let told = population(store, &tenant, run).await;
    assert_eq!((told.done, told.added, told.duplicates), (true, 1_200, 0));
    assert!(matches!(store.populate_run(&second).await, Err(Error::Lapsed)));
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.total(), 1_200);
}

async fn a_full_queue_is_waited_for(test: TestStore) {
    let plan = Plan { queued_jobs_max: 1_100, ..Plan::STANDARD };
    let test = test.with_plans(Plans { standard: plan, ..Plans::default() });
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    people(store, &tenant, 0..1_300, "a").await;
    let run = begin(store, &tenant, new_run(settings(), 0..0), "a").await;
    page(store).await;
    page(store).await;
    page(store).await;
    let told = population(store, &tenant, run).await;
    assert_eq!((told.done, told.added), (false, 1_100));
    assert!(told.last_error.unwrap().contains("1100"));
    let queued = store
        .list_jobs(&tenant, run, &[JobState::Queued], Page { size: 500, after: None })
        .await
        .unwrap();
    let jobs = queued.items.iter().map(|job| job.id).collect();
    store.cancel_jobs(&tenant, run, jobs, None).await.unwrap();
    page(store).await;
    let told = population(store, &tenant, run).await;
    assert_eq!((told.done, told.added, told.last_error), (true, 1_300, None));
    assert!(store.run(&tenant, run).await.unwrap().sealed);
}

async fn a_run_that_takes_no_jobs_is_left_alone(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    people(store, &tenant, 0..1_200, "a").await;
    for command in [Command::Seal, Command::Cancel] {
        let run = begin(store, &tenant, new_run(settings(), 0..0), "a").await;
        page(store).await;
        store.command_run(&tenant, run, command, None).await.unwrap();
        page(store).await;
        let told = population(store, &tenant, run).await;
        assert_eq!((told.done, told.added), (true, 1_000), "{command:?}");
        assert!(told.last_error.is_some());
        assert_eq!(assert_nothing_lost(store, &tenant, run).await.total(), 1_000);
    }
    let tasks = store.list_tasks(&tenant, &[], Page { size: 10, after: None }).await.unwrap();
    assert!(tasks.items.is_empty(), "{:?}", tasks.items);
}

async fn a_forecast_counts_people_by_what_holds_them(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 4, FAST).await;
    let zoned = |n: usize, zone: &str| LeadFacts {
        time_zone: Some(zone.into()),
        ..LeadFacts::of(phone(n))
    };
    let leads: Vec<_> =
        (0..30).map(|n| zoned(n, "Asia/Tokyo")).chain((30..50).map(|n| zoned(n, "UTC"))).collect();
    let leads = store.create_leads(&tenant, leads, None).await.unwrap();
    suppress(store, &tenant, 0).await;
    suppress(store, &tenant, 31).await;
    // Somebody was called once today.
    let run = store.create_run(&tenant, new_run(settings(), 40..42), None).await.unwrap().run.id;
    for call in claim_n(store, 2).await {
        finish(store, &tenant, call.call_id, CarrierStatus::Busy).await;
    }
    let all = || ForecastOf::Leads(LeadFilter::default());
    let plain = store.forecast_facts(&tenant, all(), Some(settings())).await.unwrap();
    assert_eq!((plain.total, plain.suppressed, plain.capped, plain.invalid), (50, 2, 0, 0));
    let mut zones: Vec<_> = plain
        .facts
        .groups
        .iter()
        .map(|group| (group.zone.iana_name().unwrap().to_owned(), group.people))
        .collect();
    zones.sort();
    assert_eq!(zones, [("Asia/Tokyo".to_owned(), 29), ("UTC".to_owned(), 19)]);
    assert_eq!((plain.facts.concurrency, plain.facts.observed), (4, Observed::ASSUMED));
    // A cap that holds for longer than the run lives, and one that holds for an hour.
    let capped = |seconds| RunSettings {
        frequency_caps: vec![FrequencyCap { max_attempts: 1, span: Span::RollingSeconds(seconds) }],
        ..settings()
    };
    let told = store.forecast_facts(&tenant, all(), Some(capped(30 * 86_400))).await.unwrap();
    assert_eq!((told.total, told.suppressed, told.capped), (50, 2, 2));
    let told = store.forecast_facts(&tenant, all(), Some(capped(7_200))).await.unwrap();
    assert_eq!(
        (told.capped, told.facts.groups.len()),
        (0, 3),
        "held for a while, they are a group of their own"
    );
    let ids = leads[..3].iter().map(|lead| lead.lead.id).collect();
    let told =
        store.forecast_facts(&tenant, ForecastOf::Ids(ids), Some(capped(7_200))).await.unwrap();
    assert_eq!((told.total, told.suppressed), (3, 1));
    // Of a run: its queued jobs.
    let queued = store
        .create_run(&tenant, NewRun { start: false, ..new_run(settings(), 5..9) }, None)
        .await
        .unwrap();
    suppress(store, &tenant, 6).await;
    let told = store.forecast_facts(&tenant, ForecastOf::Run(queued.run.id), None).await.unwrap();
    assert_eq!((told.total, told.suppressed), (4, 1));
    assert_eq!(forecast::forecast(&told.facts).dialed, 3);
    let over = store.forecast_facts(&tenant, ForecastOf::Run(run), None).await;
    assert!(matches!(over, Err(Error::Over(_))), "{over:?}");
    let stranger = make_tenant(store, "other", 4, FAST).await;
    let hidden = store.forecast_facts(&stranger, ForecastOf::Run(queued.run.id), None).await;
    assert!(matches!(hidden, Err(Error::NotFound(_))));
    assert_eq!(store.forecast_facts(&stranger, all(), Some(settings())).await.unwrap().total, 0);
}

async fn a_forecast_learns_from_calls(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..40), None).await.unwrap();
    for (n, call) in claim_n(store, 40).await.into_iter().enumerate() {
        let end = if n % 4 == 0 { CarrierStatus::NoAnswer } else { CarrierStatus::Completed };
        finish(store, &tenant, call.call_id, end).await;
    }
    let all = ForecastOf::Leads(LeadFilter::default());
    let observed =
        store.forecast_facts(&tenant, all, Some(settings())).await.unwrap().facts.observed;
    assert_eq!(
        (observed.calls, observed.completed.of_calls, observed.no_answer.of_calls),
        (40, 0.75, 0.25)
    );
    assert!(observed.completed.takes < Duration::from_secs(60));
}
