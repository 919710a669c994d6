//! Suppressions: they hold from their commit on, wherever a phone is about to be dialed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline::domain::call::CarrierStatus;
use trunkline::domain::event::Event;
use trunkline::domain::explain::Reason;
use trunkline::domain::job::{JobState, Outcome};
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::retry::RetryPolicy;
use trunkline::domain::run::{RunSettings, RunState};
use trunkline::domain::suppression::{
    NewSuppression, SuppressionChange as Change, SuppressionReason, SuppressionSource,
};
use trunkline::domain::{CallId, JobId, LeadId, Phone, TenantId};
use trunkline::store::{
    CallsOf, Error, ImportStep, JobAdded, NewRetry, NewRun, Page, RequestKey, Store,
    SuppressionAdded, SuppressionFilter, SuppressionView,
};

use super::{FAST, assert_claims_nothing, assert_nothing_lost, claim, claim_n, finish};
use crate::support::{
    TestStore, job, make_tenant, new_run, next_millisecond, on_both_stores, phone, settings,
};

on_both_stores!(
    a_suppressed_phone_is_not_dialed,
    calls_that_had_begun_are_told_and_are_the_last,
    adding_never_shortens,
    an_end_comes,
    a_list_is_filtered_and_walked_once,
    an_import_counts_and_goes_on,
    an_erased_persons_phone_stays_suppressed,
    claims_race_with_suppressions,
);

const PAGE: Page = Page { size: 100, after: None };

fn asked(n: usize) -> NewSuppression {
    NewSuppression::of(phone(n), SuppressionReason::Asked, SuppressionSource::Api)
}

async fn suppress(
    store: &Store,
    tenant: &TenantId,
    new: NewSuppression,
) -> (Change, Option<CallId>) {
    match store.add_suppressions(tenant, vec![new], None).await.unwrap().remove(0) {
        SuppressionAdded::Kept { change, live_call, .. } => (change, live_call),
        SuppressionAdded::Rejected { field, reason } => panic!("{field}: {reason}"),
    }
}

async fn listed(
    store: &Store,
    tenant: &TenantId,
    filter: &SuppressionFilter,
) -> Vec<SuppressionView> {
    store.list_suppressions(tenant, filter, PAGE).await.unwrap().items
}

fn ids(added: &JobAdded) -> (JobId, LeadId, bool) {
    match added {
        JobAdded::Job { job_id, lead_id, suppressed, .. } => (*job_id, *lead_id, *suppressed),
        JobAdded::Rejected { field, reason } => panic!("{field}: {reason}"),
    }
}

async fn a_suppressed_phone_is_not_dialed(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let stranger = make_tenant(store, "other", 9, FAST).await;
    let created = store.create_run(&tenant, new_run(settings(), 0..4), None).await.unwrap();
    let run = created.run.id;
    let (job_1, lead_1, skipped) = ids(&created.jobs[1]);
    assert!(!skipped);
    assert_eq!(suppress(store, &tenant, asked(1)).await, (Change::Added, None));
    let why = store.explain_job(&tenant, job_1).await.unwrap().explanation;
    assert!(matches!(why.reasons[0], Reason::Suppressed { .. }), "{why:?}");
    assert_eq!(why.next_eligible_at, None);
    let calls = claim_n(store, 3).await;
    assert_claims_nothing(store).await;
    let dialed: HashSet<Phone> = calls.iter().map(|call| call.to.clone()).collect();
    assert_eq!(dialed, HashSet::from([phone(0), phone(2), phone(3)]));
    let skipped = store.job(&tenant, job_1).await.unwrap();
    assert_eq!((skipped.state, skipped.outcome), (JobState::Skipped, Some(Outcome::Suppressed)));
    let why = store.explain_job(&tenant, job_1).await.unwrap().explanation;
    assert!(
        matches!(why.reasons[0], Reason::Ended { outcome: Some(Outcome::Suppressed), .. }),
        "{why:?}"
    );
    let told = |event: &Event| {
        matches!(event, Event::JobChanged { job_id, lead_id, state: JobState::Skipped, outcome, .. }
            if *job_id == job_1 && *lead_id == lead_1 && *outcome == Some(Outcome::Suppressed))
    };
    let log = store.commits_after(&tenant, run, 0, 100).await.unwrap().commits;
    assert_eq!(log.iter().flat_map(|commit| &commit.events).filter(|event| told(event)).count(), 1);
    for call in &calls {
        finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    }
    let view = store.run(&tenant, run).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.skipped), (RunState::Completed, 1));
    assert_eq!(view.progress.outcomes.0[&Outcome::Suppressed], 1);
    assert_nothing_lost(store, &tenant, run).await;
    // A job that comes later is skipped at once; to another tenant the phone is any other.
    let later = store.create_run(&tenant, new_run(settings(), 1..2), None).await.unwrap();
    assert!(ids(&later.jobs[0]).2);
    let view = store.run(&tenant, later.run.id).await.unwrap();
    assert_eq!((view.progress.state, view.progress.counts.skipped), (RunState::Completed, 1));
    assert_nothing_lost(store, &tenant, later.run.id).await;
    let others = store.create_run(&stranger, new_run(settings(), 1..2), None).await.unwrap();
    assert!(!ids(&others.jobs[0]).2);
    assert!(listed(store, &stranger, &SuppressionFilter::default()).await.is_empty());
    assert_eq!(store.remove_suppressions(&stranger, vec![phone(1)], None).await.unwrap(), [false]);
    assert_eq!(claim_n(store, 1).await[0].to, phone(1));
    // Removed, it is dialed again.
    let removed = store.remove_suppressions(&tenant, vec![phone(2), phone(1)], None).await.unwrap();
    assert_eq!(removed, [false, true]);
    let again = store.create_run(&tenant, new_run(settings(), 1..2), None).await.unwrap();
    assert_eq!(claim_n(store, 1).await[0].run_id, again.run.id);
}

async fn calls_that_had_begun_are_told_and_are_the_last(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let retry = RetryPolicy { max_attempts: 5, initial_delay_s: 0, ..RetryPolicy::default() };
    let run = new_run(RunSettings { retry, ..settings() }, 0..2);
    let run = store.create_run(&tenant, run, None).await.unwrap().run.id;
    let calls = claim_n(store, 2).await;
    let to_0 = calls.iter().find(|call| call.to == phone(0)).unwrap();
    assert_eq!(suppress(store, &tenant, asked(0)).await, (Change::Added, Some(to_0.call_id)));
    // Both are tried again; one of them is not dialed again.
    for call in &calls {
        finish(store, &tenant, call.call_id, CarrierStatus::Busy).await;
    }
    assert_eq!(claim_n(store, 1).await[0].to, phone(1));
    assert_claims_nothing(store).await;
    let skipped = store.job(&tenant, to_0.job_id).await.unwrap();
    assert_eq!((skipped.state, skipped.attempt, skipped.attempts_used), (JobState::Skipped, 1, 1));
    assert_eq!(suppress(store, &tenant, asked(0)).await, (Change::Unchanged, None));
    assert_nothing_lost(store, &tenant, run).await;
    // A run that tries failed jobs again skips it as well.
    let once = store.create_run(&tenant, new_run(settings(), 5..7), None).await.unwrap().run.id;
    for call in claim_n(store, 2).await {
        finish(store, &tenant, call.call_id, CarrierStatus::Failed).await;
    }
    suppress(store, &tenant, asked(5)).await;
    let retry =
        NewRetry { parent: once, patch: None, states: vec![], outcomes: vec![], start: true };
    let again = store.begin_retry(&tenant, retry, None).await.unwrap();
    assert!(store.fill_retry(&tenant, again).await.unwrap().done);
    let counts = assert_nothing_lost(store, &tenant, again).await;
    assert_eq!((counts.skipped, counts.queued), (1, 1));
    assert_eq!(claim_n(store, 1).await[0].to, phone(6));
}

async fn adding_never_shortens(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let now = store.now().await.unwrap();
    let until = |hours: u64| NewSuppression {
        expires_at: Some(now + Duration::from_secs(hours * 3_600)),
        source: SuppressionSource::OptOut,
        ..asked(1)
    };
    assert_eq!(suppress(store, &tenant, until(2)).await.0, Change::Added);
    assert_eq!(suppress(store, &tenant, until(1)).await.0, Change::Unchanged);
    assert_eq!(suppress(store, &tenant, until(3)).await.0, Change::Extended);
    assert_eq!(suppress(store, &tenant, asked(1)).await.0, Change::Extended);
    assert_eq!(suppress(store, &tenant, until(9)).await.0, Change::Unchanged);
    let kept = listed(store, &tenant, &SuppressionFilter::default()).await;
    assert_eq!(
        (kept.len(), kept[0].expires_at, kept[0].source),
        (1, None, SuppressionSource::OptOut)
    );
    // Twice in one request, and one that is over already: each stands alone.
    let past = NewSuppression { expires_at: Some(now), ..asked(3) };
    let key =
        RequestKey { method: "AddSuppressions", request_id: "r".into(), payload_hash: [1; 32] };
    let batch = vec![asked(2), past, asked(2)];
    let added = store.add_suppressions(&tenant, batch.clone(), Some(key.clone())).await.unwrap();
    let changes: Vec<_> = added
        .iter()
        .map(|item| match item {
            SuppressionAdded::Kept { change, .. } => Ok(*change),
            SuppressionAdded::Rejected { field, .. } => Err(field.as_str()),
        })
        .collect();
    assert_eq!(changes, [Ok(Change::Added), Err("expire_time"), Ok(Change::Unchanged)]);
    assert_eq!(
        store.add_suppressions(&tenant, batch.clone(), Some(key.clone())).await.unwrap(),
        added
    );
    let other = RequestKey { payload_hash: [2; 32], ..key };
    let refused = store.add_suppressions(&tenant, batch, Some(other)).await;
    assert!(matches!(refused, Err(Error::RequestReused)));
}

async fn an_end_comes(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let ends = store.now().await.unwrap() + Duration::from_secs(60);
    suppress(store, &tenant, NewSuppression { expires_at: Some(ends), ..asked(1) }).await;
    let held = store.create_run(&tenant, new_run(settings(), 1..2), None).await.unwrap();
    assert!(ids(&held.jobs[0]).2);
    let now = store.now().await.unwrap();
    test.raw().await.execute(&format!("UPDATE suppressions SET expires_at = {}", now.0)).await;
    assert!(listed(store, &tenant, &SuppressionFilter::default()).await.is_empty());
    let expired = SuppressionFilter { expired: true, ..SuppressionFilter::default() };
    assert_eq!(listed(store, &tenant, &expired).await.len(), 1);
    store.create_run(&tenant, new_run(settings(), 1..2), None).await.unwrap();
    assert_eq!(claim_n(store, 1).await[0].to, phone(1));
    assert_eq!(suppress(store, &tenant, asked(1)).await.0, Change::Added);
    assert_eq!(listed(store, &tenant, &expired).await.len(), 1, "the old one is replaced");
}

async fn a_list_is_filtered_and_walked_once(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let legal = |n| NewSuppression { reason: SuppressionReason::Legal, ..asked(n) };
    let imported = |n| NewSuppression { source: SuppressionSource::Import, ..asked(n) };
    store.add_suppressions(&tenant, (0..20).map(asked).collect(), None).await.unwrap();
    next_millisecond(store).await;
    let middle = store.now().await.unwrap();
    store.add_suppressions(&tenant, (10_000..10_005).map(legal).collect(), None).await.unwrap();
    next_millisecond(store).await;
    store.add_suppressions(&tenant, (20..23).map(imported).collect(), None).await.unwrap();
    let all = SuppressionFilter::default;
    let (mut seen, mut page) = (Vec::new(), Page { size: 7, after: None });
    loop {
        let found = store.list_suppressions(&tenant, &all(), page).await.unwrap();
        seen.extend(found.items.into_iter().map(|view| view.phone));
        page.after = found.next;
        if found.next.is_none() {
            break;
        }
    }
    let order: Vec<Phone> = (0..20).chain(10_000..10_005).chain(20..23).map(phone).collect();
    assert_eq!(seen, order, "in order of creation");
    let count = async |filter: SuppressionFilter| listed(store, &tenant, &filter).await.len();
    assert_eq!(
        count(SuppressionFilter { reasons: vec![SuppressionReason::Legal], ..all() }).await,
        5
    );
    assert_eq!(
        count(SuppressionFilter { sources: vec![SuppressionSource::Import], ..all() }).await,
        3
    );
    assert_eq!(count(SuppressionFilter { phone_prefix: Some("+1202".into()), ..all() }).await, 5);
    assert_eq!(count(SuppressionFilter { created_from: Some(middle), ..all() }).await, 8);
    assert_eq!(count(SuppressionFilter { created_until: Some(middle), ..all() }).await, 20);
    assert_eq!(count(SuppressionFilter { phone: Some(phone(3)), ..all() }).await, 1);
    assert_eq!(count(SuppressionFilter { phone: Some(phone(77)), ..all() }).await, 0);
}

async fn an_import_counts_and_goes_on(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let step = |offset, taken| ImportStep { import_id: "a", offset, taken };
    // The same name is another import of leads.
    store.import_leads(&tenant, step(0, 1), vec![LeadFacts::of(phone(7))]).await.unwrap();
    assert_eq!(store.suppression_import_stand(&tenant, "a").await.unwrap().offset, 0);
    suppress(store, &tenant, asked(1)).await;
    let (told, stand) =
        store.import_suppressions(&tenant, step(0, 4), (0..3).map(asked).collect()).await.unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!((stand.offset, stand.created, stand.unchanged, stand.rejected), (4, 2, 1, 1));
    let again = store.import_suppressions(&tenant, step(0, 3), (0..3).map(asked).collect()).await;
    assert!(matches!(&again, Err(Error::Invalid(v)) if v.field == "batch.offset"), "{again:?}");
    let (_, stand) = store.import_suppressions(&tenant, step(4, 1), vec![asked(9)]).await.unwrap();
    assert_eq!((stand.offset, stand.created), (5, 3));
    assert_eq!(store.suppression_import_stand(&tenant, "a").await.unwrap(), stand);
    assert_eq!(store.lead_import_stand(&tenant, "a").await.unwrap().offset, 1);
}

async fn an_erased_persons_phone_stays_suppressed(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let lead = store
        .create_leads(&tenant, vec![LeadFacts::of(phone(1))], None)
        .await
        .unwrap()
        .remove(0)
        .lead;
    let noted = NewSuppression { note: "Ann's husband called".into(), ..asked(1) };
    suppress(store, &tenant, noted).await;
    store.delete_lead(&tenant, lead.id, None, None).await.unwrap();
    let kept = listed(store, &tenant, &SuppressionFilter::default()).await;
    assert_eq!((kept[0].phone.clone(), kept[0].note.as_str()), (phone(1), ""));
    let run = store.create_run(&tenant, new_run(settings(), 1..2), None).await.unwrap();
    assert!(ids(&run.jobs[0]).2);
    assert_claims_nothing(store).await;
}

/// Whatever calls there are to a suppressed phone, whoever suppressed it was told of, or they had
/// ended.
async fn claims_race_with_suppressions(test: TestStore) {
    const JOBS: usize = 300;
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 1_000, FAST).await;
    let run = NewRun { jobs: (0..JOBS).map(job).collect(), ..new_run(settings(), 0..0) };
    let run = store.create_run(&tenant, run, None).await.unwrap().run.id;
    let over = AtomicBool::new(false);
    let claiming = async {
        while !over.load(Ordering::Relaxed) {
            claim(store).await;
        }
        claim_n(store, 1).await
    };
    let suppressing = async {
        let mut told: HashMap<Phone, Option<CallId>> = HashMap::new();
        // From the end, to meet the claims on their way.
        for n in (0..JOBS).rev().step_by(2) {
            let live = suppress(store, &tenant, asked(n)).await.1;
            told.insert(phone(n), live);
        }
        over.store(true, Ordering::Relaxed);
        told
    };
    let (told, _) = tokio::join!(suppressing, claiming);
    while claim(store).await.tenant.is_some() {}
    let calls = store
        .list_calls(&tenant, CallsOf::Run(run), Page { size: 1_000, after: None })
        .await
        .unwrap();
    for call in &calls.items {
        if let Some(live) = told.get(&call.to) {
            assert_eq!(*live, Some(call.id), "a call that nobody was told of");
        }
    }
    let dialed = told.values().flatten().count();
    let counts = assert_nothing_lost(store, &tenant, run).await;
    assert_eq!(usize::try_from(counts.skipped).unwrap(), told.len() - dialed);
    assert_eq!(usize::try_from(counts.dialing).unwrap(), JOBS - told.len() + dialed);
    assert_eq!(calls.items.len(), JOBS - told.len() + dialed);
}
