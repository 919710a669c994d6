//! The `Tenants` service: one line per RPC; the work is in the modules below.

mod accounts;
mod keys;
mod settings;

use tonic::{Request, Response, Status};

use super::pb;
use super::pb::tenants_server::Tenants;
use super::service::Shared;

/// The service.
pub(super) struct Service(pub Shared);

type Answer<A> = Result<Response<A>, Status>;

/// Writes the trait's methods: each carries one request out by one function.
macro_rules! service {
    ($($method:ident: $request:ident => $answer:ident by $function:path;)+) => {
        #[tonic::async_trait]
        impl Tenants for Service {$(
            async fn $method(&self, request: Request<pb::$request>) -> Answer<pb::$answer> {
                self.0.unary(request, $function).await
            }
        )+}
    };
}

service! {
    create_tenant: CreateTenantRequest => CreateTenantResponse by settings::create;
    get_tenant: GetTenantRequest => GetTenantResponse by settings::get;
    list_tenants: ListTenantsRequest => ListTenantsResponse by settings::list;
    update_tenant: UpdateTenantRequest => UpdateTenantResponse by settings::update;
    disable_tenant: DisableTenantRequest => DisableTenantResponse by settings::disable;
    enable_tenant: EnableTenantRequest => EnableTenantResponse by settings::enable;
    create_carrier_account: CreateCarrierAccountRequest => CreateCarrierAccountResponse by accounts::create;
    get_carrier_account: GetCarrierAccountRequest => GetCarrierAccountResponse by accounts::get;
    list_carrier_accounts: ListCarrierAccountsRequest => ListCarrierAccountsResponse by accounts::list;
    update_carrier_account: UpdateCarrierAccountRequest => UpdateCarrierAccountResponse by accounts::update;
    reseal_carrier_accounts: ResealCarrierAccountsRequest => ResealCarrierAccountsResponse by accounts::reseal;
    create_api_key: CreateApiKeyRequest => CreateApiKeyResponse by keys::create;
    list_api_keys: ListApiKeysRequest => ListApiKeysResponse by keys::list;
    revoke_api_key: RevokeApiKeyRequest => RevokeApiKeyResponse by keys::revoke;
    expire_api_key: ExpireApiKeyRequest => ExpireApiKeyResponse by keys::expire;
    list_audit_events: ListAuditEventsRequest => ListAuditEventsResponse by keys::audit;
}
