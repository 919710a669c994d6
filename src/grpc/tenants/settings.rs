//! Tenants: create, read, change, disable and enable.

use crate::domain::TenantId;
use crate::domain::tenant::TenantState;
use crate::grpc::idempotency::{self, Keyed};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, pb};
use crate::store;

pub(super) async fn create(
    call: Call,
    request: pb::CreateTenantRequest,
) -> Result<pb::CreateTenantResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let id: TenantId = request.tenant_id.parse()?;
    let tenant = convert::tenant::read(id, request.settings)?;
    let view = call.store.create_tenant(tenant, key).await.map_err(in_settings)?;
    Ok(pb::CreateTenantResponse { tenant: Some(convert::tenant::write(view)) })
}

pub(super) async fn get(
    call: Call,
    request: pb::GetTenantRequest,
) -> Result<pb::GetTenantResponse, Refusal> {
    let view = call.store.tenant_view(&request.tenant_id.parse()?).await?;
    Ok(pb::GetTenantResponse { tenant: Some(convert::tenant::write(view)) })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListTenantsRequest,
) -> Result<pb::ListTenantsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::tenant::state_of)?;
    let found = call.store.list_tenants(&states, page).await?;
    let (tenants, next_page_token) =
        pager.answer(found, |view| (view.tenant.id.to_string(), convert::tenant::write(view)));
    Ok(pb::ListTenantsResponse { tenants, next_page_token })
}

pub(super) async fn update(
    call: Call,
    request: pb::UpdateTenantRequest,
) -> Result<pb::UpdateTenantResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let id: TenantId = request.tenant_id.parse()?;
    let patch = convert::tenant::patch(&id, request.settings, request.update_mask, &request.etag)?;
    let view = call.store.update_tenant(&id, patch, key).await.map_err(in_settings)?;
    Ok(pb::UpdateTenantResponse { tenant: Some(convert::tenant::write(view)) })
}

pub(super) async fn disable(
    call: Call,
    request: pb::DisableTenantRequest,
) -> Result<pb::DisableTenantResponse, Refusal> {
    let tenant = set(&call, &request, &request.tenant_id, TenantState::Disabled).await?;
    Ok(pb::DisableTenantResponse { tenant: Some(tenant) })
}

pub(super) async fn enable(
    call: Call,
    request: pb::EnableTenantRequest,
) -> Result<pb::EnableTenantResponse, Refusal> {
    let tenant = set(&call, &request, &request.tenant_id, TenantState::Active).await?;
    Ok(pb::EnableTenantResponse { tenant: Some(tenant) })
}

async fn set<R: Keyed>(
    call: &Call,
    request: &R,
    tenant_id: &str,
    state: TenantState,
) -> Result<pb::Tenant, Refusal> {
    let key = idempotency::key(request)?;
    let view = call.store.set_tenant_state(&tenant_id.parse()?, state, key).await?;
    Ok(convert::tenant::write(view))
}

/// What the store refuses of a setting, named as in the request.
fn in_settings(error: store::Error) -> store::Error {
    match error {
        store::Error::Invalid(violation) if violation.field != "request_id" => {
            store::Error::Invalid(violation.under("settings"))
        }
        other => other,
    }
}
