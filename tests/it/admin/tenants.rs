//! Tenants: created, changed, disabled; and the numbers that they show.

use std::collections::HashMap;

use trunkline::domain::tenant::{Tenant, TenantField, TenantState};
use trunkline::domain::window::CallingWindow;
use trunkline::domain::{Phone, TenantId};
use trunkline::store::{
    AuditFilter, Error, NewRun, Page, RequestKey, RunPatch, Store, TenantPatch,
};

use crate::store::{FAST, assert_claims_nothing, claim_n};
use crate::support::{
    ACCOUNT, TestStore, by, make_tenant, new_run, on_both_stores, settings, tenant_id,
};

on_both_stores!(
    changes_count_and_keep_their_order,
    a_disabled_tenant_is_not_dialed,
    caller_ids_are_shown_in_turn,
    a_run_fixes_one_of_the_tenants_numbers,
    settings_yield_to_an_administrator,
    the_audit_log_is_filtered_and_paged,
);

const POOL: [&str; 3] = ["+12125550100", "+12125550101", "+12125550102"];

fn pool() -> Vec<Phone> {
    POOL.map(|phone| phone.parse().unwrap()).into()
}

/// A tenant of an administrator's making that may call at any hour and pace.
async fn create(store: &Store, id: &str) -> TenantId {
    store.put_account(&ACCOUNT.parse().unwrap(), FAST).await.unwrap();
    let tenant = Tenant {
        max_concurrent_calls: 100,
        calls_per_second: FAST,
        caller_ids: pool(),
        window: CallingWindow::ALWAYS,
        ..Tenant::new(tenant_id(id), ACCOUNT.parse().unwrap(), POOL[0].parse().unwrap())
    };
    store.create_tenant(tenant, None).await.unwrap().tenant.id
}

async fn changes_count_and_keep_their_order(test: TestStore) {
    let store = &test.store;
    let operator = make_tenant(store, "operator", 1, 1.0).await;
    let id = create(store, "acme").await;
    let before = store.tenant_view(&id).await.unwrap();
    assert!(matches!(
        store.create_tenant(before.tenant.clone(), None).await,
        Err(Error::Exists("tenant"))
    ));
    let nowhere = Tenant {
        id: tenant_id("x"),
        account_sid: format!("AC{:032}", 9).parse().unwrap(),
        ..before.tenant.clone()
    };
    let refused = store.create_tenant(nowhere, None).await;
    assert!(matches!(refused, Err(Error::Invalid(violation)) if violation.field == "account_sid"));
    let patch = |name: &str, revision| TenantPatch {
        tenant: Tenant { name: name.into(), ..before.tenant.clone() },
        fields: vec![TenantField::Name],
        revision,
    };
    let key = RequestKey { method: "UpdateTenant", request_id: "a".into(), payload_hash: [1; 32] };
    let admin = by(store, "k", "UpdateTenant");
    let first = admin
        .update_tenant(&id, patch("first", Some(before.revision)), Some(key.clone()))
        .await
        .unwrap();
    assert_eq!((first.tenant.name.as_str(), first.revision), ("first", before.revision + 1));
    // A repetition changes nothing; another request under the id is refused; an old etag as well.
    let again = admin
        .update_tenant(&id, patch("first", Some(before.revision)), Some(key.clone()))
        .await
        .unwrap();
    assert_eq!(again, first);
    let other = RequestKey { payload_hash: [2; 32], ..key };
    assert!(matches!(
        admin.update_tenant(&id, patch("x", None), Some(other)).await,
        Err(Error::RequestReused)
    ));
    let stale = admin.update_tenant(&id, patch("late", Some(before.revision)), None).await;
    assert!(matches!(stale, Err(Error::Changed)));
    let missing = admin.update_tenant(&tenant_id("nobody"), patch("x", None), None).await;
    assert!(matches!(missing, Err(Error::NotFound("tenant"))));
    let page = |size, after| Page { size, after };
    let one = store.list_tenants(&[], page(1, None)).await.unwrap();
    let rest = store.list_tenants(&[], page(1, one.next.clone())).await.unwrap();
    assert_eq!(
        (one.items[0].tenant.id.as_str(), rest.items[0].tenant.id.clone()),
        ("acme", operator)
    );
    assert!(
        store.list_tenants(&[TenantState::Disabled], page(9, None)).await.unwrap().items.is_empty()
    );
}

async fn a_disabled_tenant_is_not_dialed(test: TestStore) {
    let store = &test.store;
    let id = create(store, "acme").await;
    store.create_run(&id, new_run(settings(), 0..9), None).await.unwrap();
    assert!(!claim_n(store, 1).await.is_empty());
    let view = store.set_tenant_state(&id, TenantState::Disabled, None).await.unwrap();
    assert_eq!(view.state, TenantState::Disabled);
    // Neither new work nor the sweep wakes it.
    store.create_run(&id, new_run(settings(), 20..29), None).await.unwrap();
    store.sweep().await.unwrap();
    assert_claims_nothing(store).await;
    store.set_tenant_state(&id, TenantState::Active, None).await.unwrap();
    assert_eq!(claim_n(store, 9).await.len(), 9);
}

async fn caller_ids_are_shown_in_turn(test: TestStore) {
    let store = &test.store;
    let id = create(store, "acme").await;
    let fixed = NewRun {
        settings: trunkline::domain::run::RunSettings {
            caller_id: Some(POOL[1].parse().unwrap()),
            ..settings()
        },
        ..new_run(settings(), 100..104)
    };
    let fixed = store.create_run(&id, fixed, None).await.unwrap().run.id;
    store.create_run(&id, new_run(settings(), 0..10), None).await.unwrap();
    let calls = claim_n(store, 14).await;
    let (own, rest): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.run_id == fixed);
    assert!(own.iter().all(|call| call.from.expose() == POOL[1]) && own.len() == 4);
    let mut shown: HashMap<&str, usize> = HashMap::new();
    rest.iter().for_each(|call| *shown.entry(call.from.expose()).or_default() += 1);
    let mut counts: Vec<usize> = shown.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [3, 3, 4], "each as often as the others, over several claims");
    let order: Vec<&str> = rest.iter().map(|call| call.from.expose()).collect();
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {order:?}");
}

async fn a_run_fixes_one_of_the_tenants_numbers(test: TestStore) {
    let store = &test.store;
    let id = create(store, "acme").await;
    let with = |phone: &str| {
        let caller_id = Some(phone.parse().unwrap());
        trunkline::domain::run::RunSettings { caller_id, ..settings() }
    };
    let refused =
        |error: Error| matches!(error, Error::Invalid(violation) if violation.field == "caller_id");
    let foreign = new_run(with("+15005550006"), 0..1);
    assert!(refused(store.create_run(&id, foreign, None).await.unwrap_err()));
    let draft = NewRun { start: false, ..new_run(with(POOL[2]), 0..1) };
    let run = store.create_run(&id, draft, None).await.unwrap().run.id;
    let patch = |phone| RunPatch {
        settings: with(phone),
        fields: vec![trunkline::domain::run::RunField::CallerId],
    };
    assert!(refused(store.update_run(&id, run, patch("+15005550006"), None).await.unwrap_err()));
    store.update_run(&id, run, patch(POOL[0]), None).await.unwrap();
}

async fn settings_yield_to_an_administrator(test: TestStore) {
    let store = &test.store;
    let id = make_tenant(store, "acme", 3, 1.0).await;
    let of_settings = store.tenant(&id).await.unwrap();
    let wider = Tenant { max_concurrent_calls: 5, ..of_settings.clone() };
    assert!(store.put_tenant(&wider).await.unwrap(), "settings of a process count as before");
    let tenant = Tenant { max_concurrent_calls: 7, ..wider.clone() };
    let fields = vec![TenantField::MaxConcurrentCalls];
    store.update_tenant(&id, TenantPatch { tenant, fields, revision: None }, None).await.unwrap();
    assert!(!store.put_tenant(&of_settings).await.unwrap());
    assert_eq!(store.tenant(&id).await.unwrap().max_concurrent_calls, 7);
}

async fn the_audit_log_is_filtered_and_paged(test: TestStore) {
    let store = &test.store;
    let id = create(store, "acme").await;
    let run = by(store, "one", "CreateRun")
        .create_run(&id, new_run(settings(), 0..2), None)
        .await
        .unwrap()
        .run
        .id;
    for _ in 0..3 {
        by(store, "two", "AddJobs").create_leads(&id, vec![], None).await.unwrap();
    }
    let events = async |filter: AuditFilter| {
        store.list_audit_events(&id, &filter, Page { size: 2, after: None }).await.unwrap()
    };
    let all = events(AuditFilter::default()).await;
    assert_eq!(
        (all.items.len(), all.items[0].actor.as_str(), all.next.is_some()),
        (2, "two", true)
    );
    let rest = Page { size: 9, after: all.next };
    let rest = store.list_audit_events(&id, &AuditFilter::default(), rest).await.unwrap();
    assert_eq!(rest.items.len(), 2);
    let first = &rest.items[1];
    assert_eq!((first.actor.as_str(), first.peer.as_deref()), ("one", Some("192.0.2.7")));
    assert_eq!((first.method.as_str(), first.subject.clone()), ("CreateRun", format!("run {run}")));
    let by_actor = AuditFilter { actor: Some("one".into()), ..Default::default() };
    assert_eq!(events(by_actor).await.items.len(), 1);
    let by_subject = AuditFilter { subject: Some(format!("run {run}")), ..Default::default() };
    assert_eq!(events(by_subject).await.items.len(), 1);
    let before = AuditFilter { until: Some(first.at), ..Default::default() };
    assert!(events(before).await.items.is_empty());
    let (nobody, page) = (tenant_id("nobody"), Page { size: 1, after: None });
    let nobody = store.list_audit_events(&nobody, &AuditFilter::default(), page).await;
    assert!(matches!(nobody, Err(Error::NotFound("tenant"))));
}
