//! Durable tasks, and what calls make of leads through them.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use trunkline::domain::call::{CallState, CarrierStatus, Direction, News};
use trunkline::domain::lead::{LeadChange, LeadSource, LeadStatus};
use trunkline::domain::task::{ATTEMPTS_MAX, TaskKind, TaskState};
use trunkline::domain::{CallSid, Phone, TenantId};
use trunkline::store::{
    Error, InboundCall, LeadFilter, LeadView, Page, Store, Task, TaskFate, TasksClaimed,
};
use trunkline::tasks;

use super::{FAST, claim_n, finish, sid, status};
use crate::support::raw::Raw;
use crate::support::{
    ACCOUNT, TestDatabase, TestStore, make_tenant, new_run, on_both_stores, phone, settings, worker,
};

on_both_stores!(
    a_dead_executors_task_is_done_by_another,
    what_fails_comes_back_later_and_dies_in_the_end,
    a_task_whose_executors_die_is_buried,
    nobody_is_given_what_another_has,
    a_call_that_ends_becomes_its_leads,
    a_call_makes_its_lead_by_its_sid_alone,
    a_live_call_makes_its_lead_and_no_history,
    calls_to_us_become_leads,
);

const PAGE: Page = Page { size: 100, after: None };
const LONG: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

/// A tenant with one call that has ended, and so with one task.
async fn with_task(store: &Store) -> TenantId {
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..1), None).await.unwrap();
    let call = claim_n(store, 1).await.remove(0).call_id;
    finish(store, &tenant, call, CarrierStatus::Completed).await;
    tenant
}

async fn claim(store: &Store, name: &str, holds: Duration) -> TasksClaimed {
    store
        .claim_tasks(&worker(name), trunkline::domain::task::Lane::Inside, 10, holds)
        .await
        .unwrap()
}

/// The one due task, as soon as it is due.
async fn claim_one(store: &Store, holds: Duration) -> Task {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut claimed = claim(store, "a", holds).await;
        if let Some(task) = claimed.tasks.pop() {
            return task;
        }
        assert!(Instant::now() < end, "no task became due");
        tokio::time::sleep(claimed.next_in.unwrap_or_default().min(Duration::from_millis(20)))
            .await;
    }
}

async fn lead_of(store: &Store, tenant: &TenantId, phone: &Phone) -> LeadView {
    let filter = LeadFilter { phone: Some(phone.clone()), ..LeadFilter::default() };
    store.list_leads(tenant, &filter, PAGE).await.unwrap().items.pop().expect("a lead")
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn left(store: &Store, tenant: &TenantId) -> usize {
    store.list_tasks(tenant, &[], PAGE).await.unwrap().items.len()
}

async fn a_dead_executors_task_is_done_by_another(test: TestStore) {
    let store = &test.store;
    let tenant = with_task(store).await;
    // One executor takes it, and is killed in the middle of it: it never says another word.
    let held = claim_one(store, Duration::from_millis(300)).await;
    let (shutdown, other) = (CancellationToken::new(), test.store.clone());
    let running = tokio::spawn(tasks::run(other, tasks::Config::default(), shutdown.clone()));
    until("the other executor", async || left(store, &tenant).await == 0).await;
    let lead = lead_of(store, &tenant, &phone(0)).await;
    assert_eq!(lead.contact.status, LeadStatus::Contacted);
    // Should it wake up after all, it is told.
    assert!(matches!(store.leads_from_calls(&held).await, Err(Error::Lapsed)));
    assert_eq!(store.fail_task(&held, "late", 0.5).await.unwrap(), TaskFate::Lapsed);
    assert_eq!(lead_of(store, &tenant, &phone(0)).await, lead);
    shutdown.cancel();
    running.await.unwrap();
}

async fn what_fails_comes_back_later_and_dies_in_the_end(test: TestStore) {
    let store = &test.store;
    let tenant = with_task(store).await;
    let mut task = claim_one(store, LONG).await;
    assert_eq!((task.kind, task.attempt), (TaskKind::LeadsFromCalls, 1));
    let before = store.now().await.unwrap();
    let TaskFate::Again(at) = store.fail_task(&task, "the moon", 0.0).await.unwrap() else {
        panic!()
    };
    let after = store.now().await.unwrap();
    assert!(at.since(before) > Duration::from_millis(300), "{before:?} {at:?}");
    assert!(at.since(after) <= Duration::from_millis(800), "{after:?} {at:?}");
    let view = store.list_tasks(&tenant, &[TaskState::Queued], PAGE).await.unwrap().items.remove(0);
    assert_eq!((view.attempts, view.last_error.as_deref()), (1, Some("the moon")));
    task = claim_one(store, LONG).await;
    assert_eq!(task.attempt, 2);
    assert!(store.now().await.unwrap() >= at, "not before its time");
    // The last attempt's failure is the last.
    let last = Task { attempt: ATTEMPTS_MAX, ..task };
    assert_eq!(store.fail_task(&last, &"x".repeat(1_000), 0.5).await.unwrap(), TaskFate::Dead);
    assert!(claim(store, "a", LONG).await.tasks.is_empty());
    let dead = store.list_tasks(&tenant, &[TaskState::Dead], PAGE).await.unwrap().items.remove(0);
    assert_eq!((dead.id, dead.last_error.map(|error| error.len())), (last.id, Some(300)));
    // Kept, until somebody has it done after all.
    let stranger = make_tenant(store, "other", 9, FAST).await;
    assert!(matches!(store.retry_task(&stranger, last.id).await, Err(Error::NotFound(_))));
    assert_eq!(left(store, &stranger).await, 0);
    store.retry_task(&tenant, last.id).await.unwrap();
    let again = claim_one(store, LONG).await;
    assert_eq!((again.id, again.attempt), (last.id, 1));
    assert!(again.claim > last.claim, "an old claim never fits a new one");
    store.leads_from_calls(&again).await.unwrap();
    assert_eq!(left(store, &tenant).await, 0);
}

async fn a_task_whose_executors_die_is_buried(test: TestStore) {
    let store = &test.store;
    let tenant = with_task(store).await;
    for n in 1..=ATTEMPTS_MAX {
        assert_eq!(claim_one(store, Duration::ZERO).await.attempt, n);
    }
    until("the burial", async || !claim(store, "a", Duration::ZERO).await.buried.is_empty()).await;
    assert_eq!(store.list_tasks(&tenant, &[TaskState::Dead], PAGE).await.unwrap().items.len(), 1);
    assert!(claim(store, "a", LONG).await.tasks.is_empty());
}

async fn nobody_is_given_what_another_has(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 100, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..40), None).await.unwrap();
    for call in claim_n(store, 40).await {
        finish(store, &tenant, call.call_id, CarrierStatus::Busy).await;
    }
    let claims = (0..8).map(|n| {
        let store = test.store.clone();
        tokio::spawn(async move {
            let name = format!("w{n}");
            store
                .claim_tasks(&worker(&name), trunkline::domain::task::Lane::Inside, 5, LONG)
                .await
                .unwrap()
                .tasks
        })
    });
    let mut taken = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        taken.extend(claim.await.unwrap().into_iter().map(|task| task.id));
    }
    taken.extend(
        store
            .claim_tasks(&worker("z"), trunkline::domain::task::Lane::Inside, 100, LONG)
            .await
            .unwrap()
            .tasks
            .into_iter()
            .map(|t| t.id),
    );
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((count, taken.len()), (40, 40));
}

async fn a_call_that_ends_becomes_its_leads(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap();
    let calls = claim_n(store, 3).await;
    let news: Vec<_> = calls
        .iter()
        .zip([CarrierStatus::Completed, CarrierStatus::NoAnswer])
        .map(|(call, end)| status(call.call_id, end, 3))
        // Never known to the carrier: nothing of it concerns the lead.
        .chain([(calls[2].call_id, News::NotSent { code: "not_sent", message: String::new() })])
        .collect();
    store.apply(&tenant, &news).await.unwrap();
    assert_eq!(left(store, &tenant).await, 1, "one task for the whole batch");
    let task = claim_one(store, LONG).await;
    store.leads_from_calls(&task).await.unwrap();
    for (call, expected) in
        calls.iter().zip([LeadStatus::Contacted, LeadStatus::Attempted, LeadStatus::New])
    {
        let lead = lead_of(store, &tenant, &call.to).await;
        assert_eq!((lead.contact.status, lead.source), (expected, LeadSource::Run));
        assert_eq!(lead.contact.last_call.is_some(), expected != LeadStatus::New);
        let history = store.lead_events(&tenant, lead.id, PAGE).await.unwrap().items;
        assert!(matches!(history[0].change, LeadChange::Created { source: LeadSource::Run }));
        assert_eq!(history.len(), 1 + usize::from(expected != LeadStatus::New));
    }
    // The carrier corrects an ending: the same entry, told anew.
    store.apply(&tenant, &[status(calls[1].call_id, CarrierStatus::Completed, 4)]).await.unwrap();
    let task = claim_one(store, LONG).await;
    store.leads_from_calls(&task).await.unwrap();
    let lead = lead_of(store, &tenant, &calls[1].to).await;
    assert_eq!(lead.contact.status, LeadStatus::Contacted);
    let history = store.lead_events(&tenant, lead.id, PAGE).await.unwrap().items;
    let LeadChange::Called { call_id, state, duration_s, .. } = history[1].change else { panic!() };
    assert_eq!(
        (history.len(), call_id, state, duration_s),
        (2, calls[1].call_id, CallState::Completed, Some(7))
    );
}

async fn a_call_makes_its_lead_by_its_sid_alone(test: TestStore) {
    let store = &test.store;
    let tenant = with_task(store).await;
    let stranger = make_tenant(store, "other", 9, FAST).await;
    let known = lead_of(store, &tenant, &phone(0)).await;
    let task = claim_one(store, LONG).await;
    let call: CallSid = sid(trunkline::domain::CallId(serde_json_ids(&task)));
    let first = store.lead_from_call(&tenant, &call).await.unwrap();
    assert_eq!((first.lead.id, first.created), (known.id, false));
    assert_eq!(first.lead.contact.status, LeadStatus::Contacted);
    let second = store.lead_from_call(&tenant, &call).await.unwrap();
    assert_eq!(
        (&second.lead.contact, second.lead.revision),
        (&first.lead.contact, first.lead.revision)
    );
    let nobody: CallSid = format!("CA{:032}", 7).parse().unwrap();
    assert!(matches!(store.lead_from_call(&tenant, &nobody).await, Err(Error::NotFound("call"))));
    assert!(matches!(store.lead_from_call(&stranger, &call).await, Err(Error::NotFound("call"))));
    assert!(
        store.list_leads(&stranger, &LeadFilter::default(), PAGE).await.unwrap().items.is_empty()
    );
}

async fn a_live_call_makes_its_lead_and_no_history(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let call = InboundCall {
        sid: format!("CA{:032}", 1).parse().unwrap(),
        account: ACCOUNT.parse().unwrap(),
        from: Some(phone(5)),
        to: "+15005550006".parse().unwrap(),
    };
    let answered = News::Status {
        sid: call.sid.clone(),
        status: CarrierStatus::InProgress,
        sequence: None,
        duration_s: None,
        answered_by: None,
        error_code: None,
    };
    store.record_inbound(&tenant, &call, answered).await.unwrap();
    let made = store.lead_from_call(&tenant, &call.sid).await.unwrap();
    assert_eq!(
        (made.created, made.lead.facts.phone, made.lead.source),
        (true, phone(5), LeadSource::Call)
    );
    assert_eq!((made.lead.contact.status, made.lead.contact.last_call), (LeadStatus::New, None));
    let history = store.lead_events(&tenant, made.lead.id, PAGE).await.unwrap().items;
    assert_eq!(history.len(), 1, "{history:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_erased_while_their_call_ends_stays_so_on_postgres() {
    let database = TestDatabase::postgres().await;
    let store = Store::open(&database.url).await.unwrap();
    let tenant = with_task(&store).await;
    let task = claim_one(&store, LONG).await;
    let mut other = Raw::connect(&database.url).await;
    other.execute("BEGIN").await;
    other.execute("UPDATE jobs SET phone = ''").await;
    other.execute("UPDATE call_log SET phone_to = ''").await;
    other.execute("DELETE FROM leads").await;
    let (ours, theirs) = (store.clone(), task.clone());
    let ending = tokio::spawn(async move { ours.leads_from_calls(&theirs).await });
    let mut watch = Raw::connect(&database.url).await;
    let end = Instant::now() + PATIENCE;
    // Other tests have databases, and waiting locks, of their own in the same server.
    let waiting = "SELECT pid::text FROM pg_locks WHERE NOT granted AND pid IN
        (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    while watch.rows(waiting).await.is_empty() {
        assert!(Instant::now() < end, "nobody waits for the erased lead");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.execute("COMMIT").await;
    let refused = ending.await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    // The task is done again, and finds nobody.
    store.leads_from_calls(&task).await.unwrap();
    assert!(
        store.list_leads(&tenant, &LeadFilter::default(), PAGE).await.unwrap().items.is_empty()
    );
}

/// The first of a task's ids.
fn serde_json_ids(task: &Task) -> uuid::Uuid {
    task.payload.trim_matches(['[', ']', '"']).parse().unwrap()
}

async fn calls_to_us_become_leads(test: TestStore) {
    let store: Store = test.store.clone();
    let tenant = make_tenant(&store, "acme", 9, FAST).await;
    let call = InboundCall {
        sid: format!("CA{:032}", 1).parse().unwrap(),
        account: ACCOUNT.parse().unwrap(),
        from: Some(phone(5)),
        to: "+15005550006".parse().unwrap(),
    };
    let news = |status: CarrierStatus, sequence| News::Status {
        sid: call.sid.clone(),
        status,
        sequence,
        duration_s: status.is_final().then_some(9),
        answered_by: None,
        error_code: None,
    };
    let found = store.tenant_of_number(&call.account, &call.to).await.unwrap();
    assert_eq!(found.as_ref(), Some(&tenant));
    assert_eq!(store.tenant_of_number(&call.account, &phone(9)).await.unwrap(), None);
    let (first, _) =
        store.record_inbound(&tenant, &call, news(CarrierStatus::Ringing, None)).await.unwrap();
    let view = store.call(&tenant, first).await.unwrap();
    assert_eq!((view.direction, view.call.state), (Direction::Inbound, CallState::Ringing));
    assert_eq!((view.from, view.run_id), (phone(5), None));
    assert_eq!(left(&store, &tenant).await, 0);
    let end = news(CarrierStatus::Completed, Some(1));
    let (again, _) = store.record_inbound(&tenant, &call, end.clone()).await.unwrap();
    assert_eq!(again, first, "one row a call");
    store.record_inbound(&tenant, &call, end).await.unwrap();
    assert_eq!(left(&store, &tenant).await, 1, "an ending that is told twice causes one task");
    // An inbound call is no live call of ours: it takes no slot, and does not keep its caller from
    // being called.
    let other = InboundCall { sid: format!("CA{:032}", 2).parse().unwrap(), ..call.clone() };
    let answered = News::Status {
        sid: other.sid.clone(),
        status: CarrierStatus::InProgress,
        sequence: None,
        duration_s: None,
        answered_by: None,
        error_code: None,
    };
    store.record_inbound(&tenant, &other, answered).await.unwrap();
    store.create_run(&tenant, new_run(settings(), 5..6), None).await.unwrap();
    assert_eq!(claim_n(&store, 1).await.len(), 1);
    let task = claim_one(&store, LONG).await;
    store.leads_from_calls(&task).await.unwrap();
    let lead = lead_of(&store, &tenant, &phone(5)).await;
    assert_eq!(lead.contact.status, LeadStatus::Contacted);
    assert_eq!(lead.contact.last_call.unwrap().direction, Direction::Inbound);
    // The other tenant with the same caller id makes it nobody's.
    make_tenant(&store, "other", 9, FAST).await;
    assert_eq!(store.tenant_of_number(&call.account, &call.to).await.unwrap(), None);
}
