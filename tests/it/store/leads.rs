//! What comes in: leads, imports, request ids, pages, and whose they are.

use super::{FAST, assert_nothing_lost, claim_n, status};
use crate::support::{TestStore, job, make_tenant, new_run, on_both_stores, phone, settings};
use trunkline::domain::LeadId;
use trunkline::domain::call::CarrierStatus;
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::run::{Command, RunField};
use trunkline::store::{
    Applied, CallsOf, Error, ImportStep, JobAdded, LeadFilter, NewJob, NewRun, Page, RequestKey,
    RunPatch, Who,
};

on_both_stores!(
    duplicates_are_counted_not_failed,
    an_import_resumes_where_it_was,
    a_request_id_answers_twice_the_same,
    pages_walk_everything_once,
    another_tenant_sees_nothing,
);

async fn duplicates_are_counted_not_failed(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let draft = NewRun { start: false, seal: false, ..new_run(settings(), 0..2) };
    let run = store.create_run(&tenant, draft, None).await.unwrap().run.id;
    let stranger = NewJob { who: Who::Lead(LeadId(uuid::Uuid::now_v7())), ..job(0) };
    let added = store
        .add_jobs(&tenant, run, vec![job(1), job(2), job(2), stranger, job(3)], None)
        .await
        .unwrap();
    let duplicate = |added: &JobAdded| matches!(added, JobAdded::Job { duplicate: true, .. });
    assert_eq!(added.iter().map(duplicate).collect::<Vec<_>>(), [true, false, true, false, false]);
    assert!(matches!(&added[3], JobAdded::Rejected { field, .. } if field == "lead_id"));
    assert_eq!(assert_nothing_lost(store, &tenant, run).await.queued, 4);
}

async fn an_import_resumes_where_it_was(test: TestStore) {
    let store = &test.store;
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
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let key = |hash| {
        Some(RequestKey { method: "CreateRun", request_id: "r1".into(), payload_hash: [hash; 32] })
    };
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
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let leads = (0..25).map(|n| LeadFacts::of(phone(n))).collect();
    store.create_leads(&tenant, leads, None).await.unwrap();
    let mut seen = Vec::new();
    let mut page = Page { size: 10, after: None };
    loop {
        let leads = store.list_leads(&tenant, &LeadFilter::default(), page).await.unwrap();
        seen.extend(leads.items.into_iter().map(|lead| lead.facts.phone));
        page.after = leads.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(phone).collect::<Vec<_>>());
    let seven = LeadFilter { phone: Some(phone(7)), ..LeadFilter::default() };
    let one = store.list_leads(&tenant, &seven, Page { size: 10, after: None }).await.unwrap();
    assert_eq!(one.items.len(), 1);
    let again = store
        .create_leads(&tenant, vec![LeadFacts::of(phone(7)), LeadFacts::of(phone(99))], None)
        .await;
    assert_eq!(again.unwrap().iter().map(|lead| lead.created).collect::<Vec<_>>(), [false, true]);
}

async fn another_tenant_sees_nothing(test: TestStore) {
    let store = &test.store;
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
    assert!(store.list_leads(&b, &LeadFilter::default(), page).await.unwrap().items.is_empty());
    assert_eq!(
        store.apply(&b, &[status(call, CarrierStatus::Busy, 1)]).await.unwrap(),
        [Applied::NoSuchCall]
    );
    let foreign = NewRun { parent: Some(run), ..new_run(settings(), 0..1) };
    assert!(hidden(store.create_run(&b, foreign, None).await));
    let stolen = vec![NewJob { who: Who::Lead(lead_id), ..job(0) }];
    let own = NewRun { jobs: stolen, ..new_run(settings(), 0..0) };
    assert!(matches!(
        store.create_run(&b, own, None).await.unwrap().jobs[0],
        JobAdded::Rejected { .. }
    ));
}
