//! Leads: changed, listed, imported, erased.

use serde_json::json;
use trunkline::domain::call::CarrierStatus;
use trunkline::domain::job::JobState;
use trunkline::domain::lead::{LeadChange, LeadFacts, LeadField, LeadSource, LeadStatus};
use trunkline::domain::run::Command;
use trunkline::domain::{LeadId, TenantId};
use trunkline::store::{
    CallsOf, Error, ImportStep, JobAdded, LeadFilter, LeadImported, LeadPatch, LeadView, NewJob,
    NewRun, Page, Store, Who,
};

use super::{FAST, assert_nothing_lost, claim_n, finish, status};
use crate::support::{
    TestStore, job, make_tenant, new_run, next_millisecond, on_both_stores, phone, settings, worker,
};

on_both_stores!(
    a_patch_changes_what_it_names,
    filters_hold_and_walk_everything_once,
    an_import_tells_new_from_known,
    an_import_goes_on_where_it_was_cut,
    a_deleted_lead_leaves_no_phone,
    a_lead_deleted_while_it_is_called_is_called_no_more,
);

const PAGE: Page = Page { size: 100, after: None };

fn named(n: usize, name: &str) -> LeadFacts {
    LeadFacts { name: name.into(), ..LeadFacts::of(phone(n)) }
}

async fn create(store: &Store, tenant: &TenantId, facts: Vec<LeadFacts>) -> Vec<LeadView> {
    store
        .create_leads(tenant, facts, None)
        .await
        .unwrap()
        .into_iter()
        .map(|created| created.lead)
        .collect()
}

async fn all(store: &Store, tenant: &TenantId) -> Vec<LeadView> {
    store.list_leads(tenant, &LeadFilter::default(), PAGE).await.unwrap().items
}

fn patch(fields: &[LeadField], facts: LeadFacts) -> LeadPatch {
    let (fields, attributes) = (fields.to_vec(), Vec::new());
    LeadPatch { facts, status: LeadStatus::Lost, fields, attributes, seen: None }
}

async fn a_patch_changes_what_it_names(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let stranger = make_tenant(store, "other", 9, FAST).await;
    let attributes = json!({"plan": "gold", "age": 7}).as_object().unwrap().clone();
    let lead =
        create(store, &tenant, vec![LeadFacts { attributes, ..named(1, "Ann") }]).await.remove(0);
    let facts =
        LeadFacts { tags: vec!["vip".into()], time_zone: Some("UTC".into()), ..named(2, "Bea") };
    let change = LeadPatch {
        attributes: vec![("plan".into(), Some(json!("tin"))), ("age".into(), None)],
        seen: Some(lead.revision),
        ..patch(&[LeadField::Name, LeadField::Tags], facts.clone())
    };
    let changed = store.update_lead(&tenant, lead.id, change.clone(), None).await.unwrap();
    assert_eq!(
        (changed.facts.name.as_str(), changed.facts.tags.join(" ").as_str()),
        ("Bea", "vip")
    );
    assert_eq!((&changed.facts.time_zone, &changed.facts.phone), (&None, &phone(1)));
    assert_eq!(json!(changed.facts.attributes), json!({"plan": "tin"}));
    assert_eq!((changed.contact.status, changed.revision), (LeadStatus::New, lead.revision + 1));
    // Decided on what is no longer so: nothing of it is written.
    let stale = store.update_lead(&tenant, lead.id, change.clone(), None).await;
    assert!(matches!(stale, Err(Error::Changed)), "{stale:?}");
    let stale = store.delete_lead(&tenant, lead.id, Some(lead.revision), None).await;
    assert!(matches!(stale, Err(Error::Changed)), "{stale:?}");
    assert_eq!(store.lead(&tenant, lead.id).await.unwrap(), changed);
    // What is the same already is no change.
    let same = LeadPatch { seen: None, ..change };
    assert_eq!(store.update_lead(&tenant, lead.id, same.clone(), None).await.unwrap(), changed);
    let hidden = store.update_lead(&stranger, lead.id, same, None).await;
    assert!(matches!(hidden, Err(Error::NotFound(_))));
    assert!(matches!(
        store.delete_lead(&stranger, lead.id, None, None).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(store.lead_events(&stranger, lead.id, PAGE).await, Err(Error::NotFound(_))));
    // Attributes that outgrow their bound together.
    let big = (0..9).map(|n| (n.to_string(), Some(json!("x".repeat(1_000))))).collect();
    let big = LeadPatch { attributes: big, ..patch(&[LeadField::Name], named(1, "Eve")) };
    let refused = store.update_lead(&tenant, lead.id, big, None).await;
    assert!(matches!(&refused, Err(Error::Invalid(v)) if v.field == "attributes"), "{refused:?}");
    assert_eq!(store.lead(&tenant, lead.id).await.unwrap(), changed);
    let lost = patch(&[LeadField::Status], facts);
    assert_eq!(
        store.update_lead(&tenant, lead.id, lost, None).await.unwrap().contact.status,
        LeadStatus::Lost
    );
    let history = store.lead_events(&tenant, lead.id, PAGE).await.unwrap().items;
    let history: Vec<_> = history.into_iter().map(|event| event.change).collect();
    let fields = vec![LeadField::Name, LeadField::Attributes, LeadField::Tags];
    assert_eq!(
        history,
        [
            LeadChange::Created { source: LeadSource::Api },
            LeadChange::Updated { fields, actor: "system".into() },
            LeadChange::Updated { fields: vec![LeadField::Status], actor: "system".into() },
        ]
    );
    let first = store.lead_events(&tenant, lead.id, Page { size: 2, after: None }).await.unwrap();
    let rest =
        store.lead_events(&tenant, lead.id, Page { size: 2, after: first.next }).await.unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (2, 1, None));
}

async fn filters_hold_and_walk_everything_once(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let tagged = |n: usize, tags: &[&str]| LeadFacts {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..named(n, &format!("Person {n}%"))
    };
    let first = create(store, &tenant, (0..20).map(|n| tagged(n, &["a_b"])).collect()).await;
    next_millisecond(store).await;
    let second = create(store, &tenant, (20..30).map(|n| tagged(n, &["axb", "c"])).collect()).await;
    let lost = patch(&[LeadField::Status], LeadFacts::of(phone(0)));
    store.update_lead(&tenant, first[3].id, lost, None).await.unwrap();
    let attributes = json!({"City": "Zürich"}).as_object().unwrap().clone();
    let moved = LeadFacts { attributes, ..LeadFacts::of(phone(0)) };
    store
        .update_lead(&tenant, first[4].id, patch(&[LeadField::Attributes], moved), None)
        .await
        .unwrap();
    let numbers = async |filter: LeadFilter| {
        let (mut seen, mut page) = (Vec::new(), Page { size: 7, after: None });
        loop {
            let found = store.list_leads(&tenant, &filter, page).await.unwrap();
            seen.extend(found.items.iter().map(|lead| lead.id));
            page.after = found.next;
            if found.next.is_none() {
                break seen;
            }
        }
    };
    let ids = |leads: &[LeadView]| leads.iter().map(|lead| lead.id).collect::<Vec<LeadId>>();
    let none = LeadFilter::default;
    assert_eq!(numbers(none()).await, [ids(&first), ids(&second)].concat(), "in order of creation");
    // A tag is a whole tag, and _ stands for itself.
    assert_eq!(numbers(LeadFilter { tag: Some("a_b".into()), ..none() }).await, ids(&first));
    assert_eq!(numbers(LeadFilter { tag: Some("c".into()), ..none() }).await, ids(&second));
    assert!(numbers(LeadFilter { tag: Some("a".into()), ..none() }).await.is_empty());
    assert_eq!(
        numbers(LeadFilter { statuses: vec![LeadStatus::Lost], ..none() }).await,
        ids(&first[3..4])
    );
    assert!(numbers(LeadFilter { sources: vec![LeadSource::Call], ..none() }).await.is_empty());
    assert_eq!(numbers(LeadFilter { sources: vec![LeadSource::Api], ..none() }).await.len(), 30);
    assert_eq!(
        numbers(LeadFilter { text: Some("person 1%".into()), ..none() }).await,
        ids(&first[1..2]),
        "% stands for itself"
    );
    assert_eq!(
        numbers(LeadFilter { text: Some("zürich".into()), ..none() }).await,
        ids(&first[4..5])
    );
    let prefix = phone(25).expose()[..11].to_owned();
    assert_eq!(numbers(LeadFilter { phone_prefix: Some(prefix), ..none() }).await, ids(&second));
    let between = second[0].created_at;
    assert_eq!(numbers(LeadFilter { created_from: Some(between), ..none() }).await, ids(&second));
    assert_eq!(numbers(LeadFilter { created_until: Some(between), ..none() }).await, ids(&first));
    let both = LeadFilter { phone: Some(phone(1)), tag: Some("c".into()), ..none() };
    assert!(numbers(both).await.is_empty());
    let both = LeadFilter { phone: Some(phone(21)), tag: Some("c".into()), ..none() };
    assert_eq!(numbers(both).await, ids(&second[1..2]));
}

fn step(offset: u64, taken: u64) -> ImportStep<'static> {
    ImportStep { import_id: "a", offset, taken }
}

async fn an_import_tells_new_from_known(test: TestStore) {
    use LeadImported::{Created, Unchanged, Updated};
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    create(store, &tenant, vec![named(1, "Ann"), named(2, "Bea")]).await;
    let rows = vec![
        named(1, ""),
        LeadFacts { tags: vec!["new".into()], ..named(2, "") },
        named(3, "Cid"),
        named(3, "Cid"),
        named(3, "Cyd"),
        named(2, "Bee"),
    ];
    // Two rows more were refused before they came here.
    let (told, stand) = store.import_leads(&tenant, step(0, 8), rows).await.unwrap();
    assert_eq!(told, [Unchanged, Updated, Created, Unchanged, Updated, Updated]);
    assert_eq!(
        (stand.offset, stand.created, stand.updated, stand.unchanged, stand.rejected),
        (8, 1, 3, 2, 2)
    );
    let names: Vec<String> =
        all(store, &tenant).await.into_iter().map(|lead| lead.facts.name).collect();
    assert_eq!(names, ["Ann", "Bee", "Cyd"]);
    let leads = all(store, &tenant).await;
    assert_eq!(
        (leads[2].source, leads[1].facts.tags.join(" ").as_str()),
        (LeadSource::Import, "new")
    );
    let history = store.lead_events(&tenant, leads[1].id, PAGE).await.unwrap().items;
    assert_eq!(history.len(), 2, "one entry a transaction");
    let big = json!({"a": "x".repeat(8_000)}).as_object().unwrap().clone();
    let more = json!({"b": "x".repeat(8_000)}).as_object().unwrap().clone();
    let with = |attributes| LeadFacts { attributes, ..named(4, "") };
    let (told, stand) =
        store.import_leads(&tenant, step(8, 2), vec![with(big), with(more)]).await.unwrap();
    assert!(matches!(&told[1], LeadImported::Rejected(v) if v.field == "attributes"), "{told:?}");
    assert_eq!((stand.created, stand.rejected), (2, 3));
}

async fn an_import_goes_on_where_it_was_cut(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let stranger = make_tenant(store, "other", 9, FAST).await;
    let rows = |from: usize| (from..from + 10).map(|n| named(n, "x")).collect::<Vec<_>>();
    store.import_leads(&tenant, step(0, 10), rows(0)).await.unwrap();
    for wrong in [0, 5, 11] {
        let refused = store.import_leads(&tenant, step(wrong, 10), rows(50)).await;
        assert!(
            matches!(&refused, Err(Error::Invalid(v)) if v.field == "batch.offset"),
            "{refused:?}"
        );
    }
    assert_eq!(all(store, &tenant).await.len(), 10, "nothing of what was refused is there");
    assert_eq!(store.lead_import_stand(&tenant, "a").await.unwrap().offset, 10);
    assert_eq!(store.lead_import_stand(&tenant, "b").await.unwrap().offset, 0);
    assert_eq!(store.lead_import_stand(&stranger, "a").await.unwrap().offset, 0);
    let (_, stand) = store.import_leads(&tenant, step(10, 10), rows(10)).await.unwrap();
    assert_eq!((stand.offset, stand.created), (20, 20));
    // Two streams of one import at the same time: one of them is told.
    let both = tokio::join!(
        store.import_leads(&tenant, step(20, 10), rows(20)),
        store.import_leads(&tenant, step(20, 10), rows(20))
    );
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    assert_eq!(all(store, &tenant).await.len(), 30);
}

async fn a_deleted_lead_leaves_no_phone(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let metadata = json!({"order": 7}).as_object().unwrap().clone();
    let with = |n| NewJob { metadata: Some(metadata.clone()), ..job(n) };
    let called = NewRun { jobs: vec![with(0)], ..new_run(settings(), 0..0) };
    let ended = store.create_run(&tenant, called, None).await.unwrap();
    let call = claim_n(store, 1).await.remove(0);
    finish(store, &tenant, call.call_id, CarrierStatus::Completed).await;
    let waiting =
        NewRun { jobs: vec![with(0), with(1)], start: false, ..new_run(settings(), 0..0) };
    let waiting = store.create_run(&tenant, waiting, None).await.unwrap();
    let JobAdded::Job { lead_id, job_id, .. } = waiting.jobs[0] else { panic!() };
    let erased = store.delete_lead(&tenant, lead_id, None, None).await.unwrap();
    assert_eq!((erased.jobs_skipped, erased.jobs_erased, erased.calls_erased), (1, 2, 1));
    assert!(matches!(store.lead(&tenant, lead_id).await, Err(Error::NotFound(_))));
    assert!(matches!(store.lead_events(&tenant, lead_id, PAGE).await, Err(Error::NotFound(_))));
    let job = store.job(&tenant, job_id).await.unwrap();
    assert_eq!((job.state, job.metadata), (JobState::Skipped, None));
    // What happened stays, about nobody.
    let calls = store.list_calls(&tenant, CallsOf::Run(ended.run.id), PAGE).await.unwrap().items;
    assert_eq!((calls[0].to.expose(), calls[0].call.duration_s), ("", Some(7)));
    assert_nothing_lost(store, &tenant, ended.run.id).await;
    let counts = assert_nothing_lost(store, &tenant, waiting.run.id).await;
    assert_eq!((counts.queued, counts.skipped), (1, 1));
    // The task of the call that ended before makes no lead of nobody.
    let holds = std::time::Duration::from_secs(60);
    let due = store
        .claim_tasks(&worker("a"), trunkline::domain::task::Lane::Inside, 10, holds)
        .await
        .unwrap()
        .tasks;
    assert_eq!(due.len(), 1, "the look once more comes later");
    store.leads_from_calls(&due[0]).await.unwrap();
    assert_eq!(all(store, &tenant).await.len(), 1);
    let again = vec![NewJob { who: Who::Lead(lead_id), ..with(0) }];
    let again = NewRun { jobs: again, ..new_run(settings(), 0..0) };
    let again = store.create_run(&tenant, again, None).await.unwrap();
    assert!(matches!(again.jobs[0], JobAdded::Rejected { .. }));
    // The same person may come back as somebody new.
    let anew = create(store, &tenant, vec![named(0, "Ann")]).await.remove(0);
    assert_ne!(anew.id, lead_id);
}

async fn a_lead_deleted_while_it_is_called_is_called_no_more(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let mut again = settings();
    again.retry.max_attempts = 3;
    again.retry.initial_delay_s = 0;
    let created = store.create_run(&tenant, new_run(again, 0..1), None).await.unwrap();
    let JobAdded::Job { lead_id, job_id, .. } = created.jobs[0] else { panic!() };
    let call = claim_n(store, 1).await.remove(0);
    store.apply(&tenant, &[status(call.call_id, CarrierStatus::Ringing, 1)]).await.unwrap();
    let erased = store.delete_lead(&tenant, lead_id, None, None).await.unwrap();
    assert_eq!((erased.jobs_skipped, erased.calls_erased), (0, 0), "the call goes on");
    assert_eq!(store.call(&tenant, call.call_id).await.unwrap().to, phone(0));
    store.apply(&tenant, &[status(call.call_id, CarrierStatus::Busy, 2)]).await.unwrap();
    assert_eq!(store.job(&tenant, job_id).await.unwrap().state, JobState::Queued, "a retry is due");
    let skipped = async || store.job(&tenant, job_id).await.unwrap().state == JobState::Skipped;
    super::claim_nothing_until(store, skipped).await;
    let run = store.run(&tenant, created.run.id).await.unwrap();
    assert!(run.ended_at.is_some(), "{:?}", run.progress);
    assert_nothing_lost(store, &tenant, created.run.id).await;
    assert!(store.command_run(&tenant, created.run.id, Command::Pause, None).await.is_err());
    // The look that comes later erases what went on. Nothing here waits a minute for it: it is done
    // as it will be.
    let holds = std::time::Duration::from_secs(60);
    for task in store
        .claim_tasks(&worker("a"), trunkline::domain::task::Lane::Inside, 10, holds)
        .await
        .unwrap()
        .tasks
    {
        store.leads_from_calls(&task).await.unwrap();
    }
    assert!(all(store, &tenant).await.is_empty());
    let look = store.list_tasks(&tenant, &[], PAGE).await.unwrap().items.remove(0);
    let look = trunkline::store::Task {
        tenant: tenant.clone(),
        id: look.id,
        kind: trunkline::domain::task::TaskKind::EraseLead,
        subject: look.subject,
        payload: format!("[\"{lead_id}\"]"),
        attempt: 1,
        claim: 0,
    };
    store.erase_lead_again(&look).await.unwrap();
    assert_eq!(store.call(&tenant, call.call_id).await.unwrap().to.expose(), "");
    assert!(store.list_tasks(&tenant, &[], PAGE).await.unwrap().items.is_empty());
}
