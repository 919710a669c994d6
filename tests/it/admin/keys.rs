//! Keys: what lets nobody in says nothing, and what was taken back holds within seconds.

use std::time::{Duration, SystemTime};

use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use trunkline::grpc::pb;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::store::{NewKey, Store};

use super::{client, make_key, make_tenant, sealing, tenant_settings};
use crate::support::{TestDatabase, by, on_both_databases, tenant_id};
use crate::system::world::{World, until};

on_both_databases!(
    whoever_is_not_let_in_learns_nothing,
    a_request_made_twice_makes_one_key,
    the_first_key_is_made_once,
    uses_are_noted,
);

async fn list(channel: &Channel, authorization: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(pb::ListRunsRequest::default());
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    OutboundQueueClient::new(channel.clone()).list_runs(request).await.map(drop)
}

async fn until_refused(channel: &Channel, key: &str) -> Status {
    until("the key to be refused", async || list(channel, Some(key)).await.is_err()).await;
    list(channel, Some(key)).await.unwrap_err()
}

async fn whoever_is_not_let_in_learns_nothing(database: TestDatabase) {
    let world = World::start(database, sealing()).await;
    let mut admin = world.client.tenants.clone();
    for id in ["other", "disabled"] {
        make_tenant(&world, id, tenant_settings()).await;
    }
    let bearer = |whole: &str| format!("Bearer {whole}");
    let (good, whole) = make_key(&world, "other", &["outbound:read"]).await;
    let (revoked, revoked_whole) = make_key(&world, "other", &["outbound:read"]).await;
    let (expired, expired_whole) = make_key(&world, "other", &["outbound:read"]).await;
    let (_, of_disabled) = make_key(&world, "disabled", &["outbound:read"]).await;
    let (_, leads_only) = make_key(&world, "other", &["leads:write"]).await;
    let channel = Channel::from_shared(world.endpoint.clone()).unwrap().connect().await.unwrap();
    // All of them work, and are believed for a moment.
    for key in [&whole, &revoked_whole, &expired_whole, &of_disabled] {
        list(&channel, Some(&bearer(key))).await.unwrap();
    }
    let (tenant_id, request_id) = (String::from("other"), String::new());
    let revoke = pb::RevokeApiKeyRequest { key_id: revoked.key_id, tenant_id, request_id };
    let ended = admin.revoke_api_key(revoke).await.unwrap().into_inner().key.unwrap();
    assert!(ended.revoke_time.is_some());
    let soon = SystemTime::now() + Duration::from_secs(2);
    let expire = pb::ExpireApiKeyRequest {
        tenant_id: "other".into(),
        key_id: expired.key_id,
        expire_time: Some(soon.into()),
        ..Default::default()
    };
    admin.expire_api_key(expire).await.unwrap();
    let disable = pb::DisableTenantRequest { tenant_id: "disabled".into(), ..Default::default() };
    admin.disable_tenant(disable).await.unwrap();
    let started = std::time::Instant::now();
    let mut refusals = Vec::new();
    for key in [&revoked_whole, &expired_whole, &of_disabled] {
        refusals.push(until_refused(&channel, &bearer(key)).await);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "within seconds: {:?}", started.elapsed());
    let wrong = format!("Bearer {}.{}", good.key_id, "x".repeat(43));
    let long = format!("Bearer {}.x", "k".repeat(100));
    for bad in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Basic YTpi"),
        Some("Bearer nobody.x"),
        Some(&wrong),
        Some(&long),
    ] {
        refusals.push(list(&channel, bad).await.unwrap_err());
    }
    let said =
        |status: &Status| (status.code(), status.message().to_owned(), status.details().to_vec());
    for refusal in &refusals {
        assert_eq!(refusal.code(), Code::Unauthenticated);
        assert_eq!(said(refusal), said(&refusals[0]), "reasons are not told apart");
    }
    let scope = list(&channel, Some(&bearer(&leads_only))).await.unwrap_err();
    assert_eq!(scope.code(), Code::PermissionDenied);
    assert!(scope.message().contains("outbound:read"), "{scope}");
    // The other keys go on, also when a neighbor is disabled.
    list(&channel, Some(&bearer(&whole))).await.unwrap();
    let enable = pb::EnableTenantRequest { tenant_id: "disabled".into(), ..Default::default() };
    admin.enable_tenant(enable).await.unwrap();
    until("the key to work again", async || {
        list(&channel, Some(&bearer(&of_disabled))).await.is_ok()
    })
    .await;
    shut_out(&world).await;
    world.stop().await;
}

/// A key cannot shut itself out: there is always one that works.
async fn shut_out(world: &World) {
    let mut admin = world.client.tenants.clone();
    let (tenant_id, request_id, key_id) = (String::from("acme"), String::new(), world.key_id());
    let revoke = pb::RevokeApiKeyRequest { request_id, tenant_id: tenant_id.clone(), key_id };
    let refused = admin.revoke_api_key(revoke).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "ON_ONESELF");
    let disable = pb::DisableTenantRequest { tenant_id, ..Default::default() };
    assert_eq!(admin.disable_tenant(disable).await.unwrap_err().code(), Code::FailedPrecondition);
    let bad = pb::CreateApiKeyRequest {
        tenant_id: "acme".into(),
        scopes: vec!["root".into()],
        ..Default::default()
    };
    let bad = admin.create_api_key(bad).await.unwrap_err();
    assert_eq!(bad.get_details_bad_request().unwrap().field_violations[0].field, "scopes[0]");
}

async fn a_request_made_twice_makes_one_key(database: TestDatabase) {
    let world = World::start(database, sealing()).await;
    let request = pb::CreateApiKeyRequest {
        request_id: "once".into(),
        tenant_id: "acme".into(),
        name: "ci".into(),
        scopes: vec!["leads:read".into()],
        expire_time: None,
    };
    let mut admin = world.client.tenants.clone();
    let first = admin.create_api_key(request.clone()).await.unwrap().into_inner();
    let again = admin.create_api_key(request.clone()).await.unwrap().into_inner();
    assert!(!first.secret_key.is_empty() && again.secret_key.is_empty(), "a secret is shown once");
    assert_eq!(first.key, again.key);
    let other = pb::CreateApiKeyRequest { name: "another".into(), ..request };
    assert_eq!(admin.create_api_key(other).await.unwrap_err().code(), Code::InvalidArgument);
    // Its client works; the list holds it, without anything of the secret.
    let mut leads = client(&world, &first.secret_key).await.leads;
    leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap();
    let list =
        pb::ListApiKeysRequest { tenant_id: "acme".into(), page_size: 1, ..Default::default() };
    let page = admin.list_api_keys(list.clone()).await.unwrap().into_inner();
    let rest = pb::ListApiKeysRequest { page_token: page.next_page_token, ..list };
    let rest = admin.list_api_keys(rest).await.unwrap().into_inner();
    assert_eq!((page.keys.len(), rest.keys.len(), rest.next_page_token.as_str()), (1, 1, ""));
    let secret = first.secret_key.split_once('.').unwrap().1;
    assert!(!format!("{:?}{:?}", page.keys, rest.keys).contains(secret));
    world.stop().await;
}

async fn the_first_key_is_made_once(database: TestDatabase) {
    let store = &Store::open(&database.url).await.unwrap();
    for id in ["one", "two"] {
        crate::support::make_tenant(store, id, 1, 1.0).await;
    }
    let (one, two) = (tenant_id("one"), tenant_id("two"));
    let first = |tenant| store.first_key(tenant, &["leads:read"], "admin");
    let made = tokio::join!(first(&one), first(&one));
    let keys = [made.0.unwrap(), made.1.unwrap()];
    assert_eq!(keys.iter().flatten().count(), 1, "one of two that start at once");
    assert!(first(&one).await.unwrap().is_none());
    assert!(first(&two).await.unwrap().is_some());
    let scopes = async |tenant| {
        let page = trunkline::store::Page { size: 9, after: None };
        store.list_keys(tenant, page).await.unwrap().items.remove(0).scopes.join(" ")
    };
    // Only the very first of the database administers.
    assert_eq!(
        (scopes(&one).await, scopes(&two).await),
        ("leads:read admin".into(), "leads:read".into())
    );
}

async fn uses_are_noted(database: TestDatabase) {
    let store = &Store::open(&database.url).await.unwrap();
    crate::support::make_tenant(store, "one", 1, 1.0).await;
    let tenant = tenant_id("one");
    let new = NewKey {
        tenant: tenant.clone(),
        name: "n".into(),
        scopes: vec!["admin".into()],
        expires_at: None,
    };
    let made = by(store, "k", "CreateApiKey").create_key(new, None).await.unwrap();
    let key_id = made.key.key_id;
    let last_used = async || {
        let page = trunkline::store::Page { size: 9, after: None };
        store.list_keys(&tenant, page).await.unwrap().items[0].last_used_at
    };
    assert_eq!(last_used().await, None);
    let before = store.now().await.unwrap();
    store.keys_used(vec![key_id.clone(), "nobody".into()]).await.unwrap();
    let noted = last_used().await.unwrap();
    assert!(noted >= before);
    // Coarse: a second use within the minute writes nothing.
    store.keys_used(vec![key_id]).await.unwrap();
    assert_eq!(last_used().await, Some(noted));
}
