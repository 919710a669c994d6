//! An ended run's jobs in a new run: filled page by page, resumed by asking again.

use trunkline::domain::call::CarrierStatus;
use trunkline::domain::job::{JobState, Outcome};
use trunkline::domain::run::{Command, RunField, RunSettings, RunState};
use trunkline::domain::{RunId, TenantId};
use trunkline::store::{Error, NewJob, NewRetry, NewRun, RequestKey, RetryFilled, RunPatch, Store};

use super::{FAST, Open, assert_sound, claim_n, jobs, on_both, status};
use crate::support::{job, make_tenant, new_run, settings};

on_both!(
    failed_jobs_come_again,
    filters_and_overrides,
    a_large_run_is_filled_in_pages_and_resumed,
    what_cannot_be_retried,
    a_half_made_run_that_is_called_off_stays_so,
    the_same_request_is_the_same_run,
);

fn retry(parent: RunId) -> NewRetry {
    NewRetry { parent, states: vec![], outcomes: vec![], patch: None, start: true }
}

async fn fill(store: &Store, tenant: &TenantId, run: RunId) -> RetryFilled {
    loop {
        let filled = store.fill_retry(tenant, run).await.unwrap();
        if filled.done {
            return filled;
        }
    }
}

/// A run of four jobs that ended: busy, answered, busy, no answer.
async fn ended(store: &Store, tenant: &TenantId) -> RunId {
    let metadata = |n: usize| serde_json::json!({ "n": n }).as_object().cloned();
    let new = NewRun {
        jobs: (0..4)
            .map(|n| NewJob { priority: n as u8, metadata: metadata(n), ..job(n) })
            .collect(),
        ..new_run(RunSettings { weight: 7, ..settings() }, 0..0)
    };
    let run = store.create_run(tenant, new, None).await.unwrap().run.id;
    let mut calls = claim_n(store, 4).await;
    calls.sort_by_key(|call| call.to.expose().to_owned());
    use CarrierStatus::{Busy, Completed, NoAnswer};
    let news: Vec<_> = calls
        .iter()
        .zip([Busy, Completed, Busy, NoAnswer])
        .map(|(call, end)| status(call.call_id, end))
        .collect();
    store.apply(tenant, &news).await.unwrap();
    assert_eq!(store.run(tenant, run).await.unwrap().progress.state, RunState::Completed);
    run
}

async fn failed_jobs_come_again(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let parent = ended(store, &tenant).await;
    let before = (store.run(&tenant, parent).await.unwrap(), jobs(store, &tenant, parent).await);
    let run = store.begin_retry(&tenant, retry(parent), None).await.unwrap();
    let made = store.run(&tenant, run).await.unwrap();
    assert_eq!(
        (made.progress.state, made.sealed, made.parent),
        (RunState::Draft, false, Some(parent))
    );
    let filled = fill(store, &tenant, run).await.run;
    assert_eq!((filled.progress.state, filled.sealed), (RunState::Pending, true));
    assert_eq!((filled.settings.weight, filled.progress.counts.queued), (7, 3));
    assert!(filled.expires_at >= before.0.expires_at);
    let new = jobs(store, &tenant, run).await;
    let facts = |job: &trunkline::store::JobView| (job.lead_id, job.priority, job.metadata.clone());
    let failed = before.1.iter().filter(|job| job.state == JobState::Failed);
    assert_eq!(new.iter().map(facts).collect::<Vec<_>>(), failed.map(facts).collect::<Vec<_>>());
    assert!(new.iter().all(|job| (job.attempt, job.outcome) == (0, None)));
    // The ended run stays as it is.
    assert_eq!(
        before,
        (store.run(&tenant, parent).await.unwrap(), jobs(store, &tenant, parent).await)
    );
    assert_eq!(claim_n(store, 3).await.iter().filter(|call| call.run_id == run).count(), 3);
    assert_sound(&test, &tenant, run).await;
    // Asked again, nothing happens any more.
    assert!(store.fill_retry(&tenant, run).await.unwrap().done);
}

async fn filters_and_overrides(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let parent = ended(store, &tenant).await;
    let other = RunSettings { name: "again".into(), weight: 1, ..settings() };
    let busy = NewRetry {
        outcomes: vec![Outcome::Busy],
        patch: Some(RunPatch { settings: other, fields: vec![RunField::Name] }),
        start: false,
        ..retry(parent)
    };
    let run = store.begin_retry(&tenant, busy, None).await.unwrap();
    let run = fill(store, &tenant, run).await.run;
    assert_eq!((run.progress.state, run.progress.counts.queued), (RunState::Draft, 2));
    assert_eq!((run.settings.name.as_str(), run.settings.weight), ("again", 7));
    let everybody =
        NewRetry { states: vec![JobState::Completed, JobState::Failed], ..retry(parent) };
    let run = store.begin_retry(&tenant, everybody, None).await.unwrap();
    assert_eq!(fill(store, &tenant, run).await.run.progress.counts.queued, 4);
    // A retry of a retry.
    store.command_run(&tenant, run, Command::Cancel, None).await.unwrap();
    let canceled = NewRetry { states: vec![JobState::Canceled], ..retry(run) };
    let again = store.begin_retry(&tenant, canceled, None).await.unwrap();
    assert_eq!(fill(store, &tenant, again).await.run.parent, Some(run));
}

async fn a_large_run_is_filled_in_pages_and_resumed(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { seal: false, start: false, ..new_run(settings(), 0..1_000) };
    let parent = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    for more in [1_000..2_000, 2_000..2_300] {
        store.add_jobs(&tenant, parent, more.map(job).collect(), None).await.unwrap();
    }
    store.command_run(&tenant, parent, Command::Cancel, None).await.unwrap();
    while store.sweep().await.unwrap() {}
    let canceled = || NewRetry { states: vec![JobState::Canceled], ..retry(parent) };
    let key =
        || Some(RequestKey { method: "RetryJobs", request_id: "r".into(), payload_hash: [1; 32] });
    let run = store.begin_retry(&tenant, canceled(), key()).await.unwrap();
    let half = store.fill_retry(&tenant, run).await.unwrap();
    assert!(!half.done);
    // What a crash leaves neither dials nor completes.
    assert_eq!((half.run.progress.state, half.run.sealed), (RunState::Draft, false));
    assert_eq!(half.run.progress.counts.queued, 1_000);
    assert_eq!(store.begin_retry(&tenant, canceled(), key()).await.unwrap(), run);
    // Two who go on at once do not get in each other's way.
    let (a, b) = tokio::join!(fill(store, &tenant, run), fill(store, &tenant, run));
    for filled in [a, b] {
        assert_eq!((filled.run.progress.state, filled.run.sealed), (RunState::Pending, true));
        assert_eq!(filled.run.progress.counts.queued, 2_300);
    }
    assert_sound(&test, &tenant, run).await;
}

async fn what_cannot_be_retried(test: Open) {
    let store = &test.store;
    let (tenant, other) =
        (make_tenant(store, "acme", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    let open = store.create_run(&tenant, new_run(settings(), 10..12), None).await.unwrap().run.id;
    let refused = store.begin_retry(&tenant, retry(open), None).await;
    assert!(matches!(refused, Err(Error::NotEnded(RunState::Pending))), "{refused:?}");
    store.command_run(&tenant, open, Command::Cancel, None).await.unwrap();
    assert!(matches!(
        store.begin_retry(&tenant, retry(open), None).await,
        Err(Error::NothingToRetry)
    ));
    let queued = NewRetry { states: vec![JobState::Canceled, JobState::Queued], ..retry(open) };
    let refused = store.begin_retry(&tenant, queued, None).await;
    assert!(matches!(refused, Err(Error::Invalid(violation)) if violation.field == "states[1]"));
    let bad = RunPatch {
        settings: RunSettings { weight: 0, ..settings() },
        fields: vec![RunField::Weight],
    };
    let bad = NewRetry { states: vec![JobState::Canceled], patch: Some(bad), ..retry(open) };
    assert!(matches!(store.begin_retry(&tenant, bad, None).await, Err(Error::Invalid(_))));
    assert!(matches!(
        store.begin_retry(&other, retry(open), None).await,
        Err(Error::NotFound("run"))
    ));
    assert!(matches!(store.fill_retry(&tenant, open).await, Err(Error::NotFound("retry"))));
    let runs = store
        .list_runs(&tenant, &[], trunkline::store::Page { size: 9, after: None })
        .await
        .unwrap();
    assert_eq!(runs.items.len(), 1, "a refusal makes no run");
}

async fn a_half_made_run_that_is_called_off_stays_so(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let parent = ended(store, &tenant).await;
    let run = store.begin_retry(&tenant, retry(parent), None).await.unwrap();
    store.command_run(&tenant, run, Command::Cancel, None).await.unwrap();
    assert!(matches!(store.fill_retry(&tenant, run).await, Err(Error::Closed(_))));
    assert_eq!(store.run(&tenant, run).await.unwrap().progress.counts.total(), 0);
}

async fn the_same_request_is_the_same_run(test: Open) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let parent = ended(store, &tenant).await;
    let key = |hash| {
        Some(RequestKey { method: "RetryJobs", request_id: "r".into(), payload_hash: [hash; 32] })
    };
    let first = store.begin_retry(&tenant, retry(parent), key(1)).await.unwrap();
    fill(store, &tenant, first).await;
    assert_eq!(store.begin_retry(&tenant, retry(parent), key(1)).await.unwrap(), first);
    assert!(matches!(
        store.begin_retry(&tenant, retry(parent), key(2)).await,
        Err(Error::RequestReused)
    ));
    assert_ne!(store.begin_retry(&tenant, retry(parent), None).await.unwrap(), first);
}
