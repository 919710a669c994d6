//! API keys, and the log of what was done with them.

use secrecy::ExposeSecret as _;

use crate::domain::{TenantId, Violation};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, idempotency, pb};

pub(super) async fn create(
    call: Call,
    request: pb::CreateApiKeyRequest,
) -> Result<pb::CreateApiKeyResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let created = call.store.create_key(convert::key::read(request)?, key).await?;
    Ok(pb::CreateApiKeyResponse {
        key: Some(convert::key::write(created.key)),
        secret_key: created.whole.map(|whole| whole.expose_secret().to_owned()).unwrap_or_default(),
    })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListApiKeysRequest,
) -> Result<pb::ListApiKeysResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let found = call.store.list_keys(&request.tenant_id.parse()?, page).await?;
    let (keys, next_page_token) =
        pager.answer(found, |view| (view.key_id.clone(), convert::key::write(view)));
    Ok(pb::ListApiKeysResponse { keys, next_page_token })
}

pub(super) async fn revoke(
    call: Call,
    request: pb::RevokeApiKeyRequest,
) -> Result<pb::RevokeApiKeyResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let tenant: TenantId = request.tenant_id.parse()?;
    let view = call.store.end_key(&tenant, named(&request.key_id)?, None, key).await?;
    Ok(pb::RevokeApiKeyResponse { key: Some(convert::key::write(view)) })
}

pub(super) async fn expire(
    call: Call,
    request: pb::ExpireApiKeyRequest,
) -> Result<pb::ExpireApiKeyResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let tenant: TenantId = request.tenant_id.parse()?;
    let at = convert::required("expire_time", request.expire_time)?;
    let at = convert::time::read("expire_time", at)?;
    let view = call.store.end_key(&tenant, named(&request.key_id)?, Some(at), key).await?;
    Ok(pb::ExpireApiKeyResponse { key: Some(convert::key::write(view)) })
}

fn named(key_id: &str) -> Result<&str, Violation> {
    if key_id.is_empty() { Err(Violation::new("key_id", "is required")) } else { Ok(key_id) }
}

pub(super) async fn audit(
    call: Call,
    request: pb::ListAuditEventsRequest,
) -> Result<pb::ListAuditEventsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let tenant = match request.tenant_id.as_str() {
        "" => call.tenant.clone(),
        text => text.parse()?,
    };
    let filter = convert::key::audit_filter(request)?;
    let found = call.store.list_audit_events(&tenant, &filter, page).await?;
    let (events, next_page_token) =
        pager.answer(found, |event| (event.id, convert::key::audit_event(event)));
    Ok(pb::ListAuditEventsResponse { events, next_page_token })
}
