//! Administration: tenants, keys, carrier accounts, the audit log; and that nobody sees another's.

mod accounts;
mod keys;
mod suppressions;
mod tenants;
mod walk;
mod walk_transfers;

use secrecy::SecretString;
use trunkline::cli::client::Client;
use trunkline::config::{Config, Source};
use trunkline::grpc::pb;

use crate::support::ACCOUNT;
use crate::system::world::{Setup, World};

/// A master key for tests.
pub const MASTER_KEY: &str =
    "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The usual world, with a master key.
pub fn sealing() -> Setup {
    Setup { tweak: |config| config.sealing.keys = Some(MASTER_KEY.into()), ..Setup::default() }
}

/// Another client of the world's server.
pub async fn client(world: &World, key: &str) -> Client {
    let mut config = Config::load(&Source::default()).unwrap();
    config.client.endpoint.clone_from(&world.endpoint);
    config.client.api_key = Some(SecretString::from(key));
    Client::connect(&config.check_client().unwrap()).await.unwrap()
}

/// Settings of a tenant that dials through the world's account at any hour.
pub fn tenant_settings() -> pb::TenantSettings {
    pb::TenantSettings {
        account_sid: ACCOUNT.into(),
        caller_ids: vec!["+15005550006".into()],
        max_concurrent_calls: 8,
        calls_per_second: 40.0,
        window: Some(pb::CallingWindow {
            opens_minute: 0,
            closes_minute: 1_440,
            weekdays: Vec::new(),
        }),
        ..Default::default()
    }
}

pub async fn make_tenant(world: &World, id: &str, settings: pb::TenantSettings) -> pb::Tenant {
    let request = pb::CreateTenantRequest {
        tenant_id: id.into(),
        settings: Some(settings),
        ..Default::default()
    };
    world.client.tenants.clone().create_tenant(request).await.unwrap().into_inner().tenant.unwrap()
}

/// A new key of the tenant: its view, and the whole of it.
pub async fn make_key(world: &World, tenant: &str, scopes: &[&str]) -> (pb::ApiKey, String) {
    let request = pb::CreateApiKeyRequest {
        tenant_id: tenant.into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    };
    let made = world.client.tenants.clone().create_api_key(request).await.unwrap().into_inner();
    (made.key.unwrap(), made.secret_key)
}

/// What the audit log says of `tenant` by `method`.
pub async fn audited(world: &World, tenant: &str, method: &str) -> Vec<pb::AuditEvent> {
    let request = pb::ListAuditEventsRequest {
        tenant_id: tenant.into(),
        method: method.into(),
        page_size: 1_000,
        ..Default::default()
    };
    world.client.tenants.clone().list_audit_events(request).await.unwrap().into_inner().events
}
