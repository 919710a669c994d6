//! Carrier accounts. Credentials go in and never come out.

use crate::domain::AccountSid;
use crate::grpc::idempotency;
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, pb};

pub(super) async fn create(
    call: Call,
    request: pb::CreateCarrierAccountRequest,
) -> Result<pb::CreateCarrierAccountResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let view = call.store.create_account(convert::account::read(request)?, key).await?;
    Ok(pb::CreateCarrierAccountResponse { account: Some(convert::account::write(view)) })
}

pub(super) async fn get(
    call: Call,
    request: pb::GetCarrierAccountRequest,
) -> Result<pb::GetCarrierAccountResponse, Refusal> {
    let view = call.store.account(&request.account_sid.parse()?).await?;
    Ok(pb::GetCarrierAccountResponse { account: Some(convert::account::write(view)) })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListCarrierAccountsRequest,
) -> Result<pb::ListCarrierAccountsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let found = call.store.list_accounts(page).await?;
    let (accounts, next_page_token) =
        pager.answer(found, |view| (view.sid.to_string(), convert::account::write(view)));
    Ok(pb::ListCarrierAccountsResponse { accounts, next_page_token })
}

pub(super) async fn update(
    call: Call,
    request: pb::UpdateCarrierAccountRequest,
) -> Result<pb::UpdateCarrierAccountResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let sid: AccountSid = request.account_sid.parse()?;
    let view = call.store.update_account(&sid, convert::account::patch(request)?, key).await?;
    Ok(pb::UpdateCarrierAccountResponse { account: Some(convert::account::write(view)) })
}

pub(super) async fn reseal(
    call: Call,
    _request: pb::ResealCarrierAccountsRequest,
) -> Result<pb::ResealCarrierAccountsResponse, Refusal> {
    let done = call.store.reseal_accounts().await?;
    Ok(pb::ResealCarrierAccountsResponse {
        resealed_count: done.resealed,
        unchanged_count: done.unchanged,
        unreadable_count: done.unreadable,
    })
}
