//! Suppressions: added, removed, listed.

use crate::domain::Violation;
use crate::grpc::batch::{self, Batch};
use crate::grpc::page::Pager;
use crate::grpc::pb::SuppressionChange as Change;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, idempotency, pb};
use crate::store::SuppressionAdded;

pub(super) async fn add(
    call: Call,
    request: pb::AddSuppressionsRequest,
) -> Result<pb::AddSuppressionsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    batch::check_len("suppressions", request.suppressions.len())?;
    let _turn = call.rows.take(request.suppressions.len()).await?;
    let source = convert::suppression::clients_source(request.source)?;
    let Batch { good, places } = Batch::read(request.suppressions, |new| {
        convert::suppression::read(new, source, call.region.as_deref())
    });
    let added = call.store.add_suppressions(&call.tenant, good, key).await?;
    let mut answer = pb::AddSuppressionsResponse::default();
    for (i, item) in batch::join(places, added)?.into_iter().enumerate() {
        let item = item.unwrap_or_else(SuppressionAdded::from);
        let result = convert::suppression::added(&format!("suppressions[{i}]"), item);
        *match result.change() {
            Change::Unspecified => &mut answer.rejected_count,
            Change::Added => &mut answer.added_count,
            Change::Extended => &mut answer.extended_count,
            Change::Unchanged => &mut answer.unchanged_count,
        } += 1;
        answer.results.push(result);
    }
    Ok(answer)
}

pub(super) async fn remove(
    call: Call,
    request: pb::RemoveSuppressionsRequest,
) -> Result<pb::RemoveSuppressionsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    batch::check_len("phones", request.phones.len())?;
    let _turn = call.rows.take(request.phones.len()).await?;
    let own = convert::non_empty(request.default_region);
    let region = own.as_deref().or(call.region.as_deref());
    let phone = |(i, text): (usize, &String)| {
        convert::lead::phone(text, region).map_err(|violation| match violation.field.as_str() {
            "phone" => Violation::new(format!("phones[{i}]"), violation.reason),
            _ => violation,
        })
    };
    let phones = request.phones.iter().enumerate().map(phone).collect::<Result<_, _>>()?;
    let removed = call.store.remove_suppressions(&call.tenant, phones, key).await?;
    let removed_count =
        u32::try_from(removed.iter().filter(|removed| **removed).count()).unwrap_or(u32::MAX);
    Ok(pb::RemoveSuppressionsResponse { removed, removed_count })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListSuppressionsRequest,
) -> Result<pb::ListSuppressionsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let filter = convert::suppression::filter(request)?;
    let found = call.store.list_suppressions(&call.tenant, &filter, page).await?;
    let write =
        |view: crate::store::SuppressionView| (view.id.0, convert::suppression::write(view));
    let (suppressions, next_page_token) = pager.answer(found, write);
    Ok(pb::ListSuppressionsResponse { suppressions, next_page_token })
}
