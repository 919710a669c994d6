//! Calls: read.

use crate::domain::{CallId, CallSid};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, pb};
use crate::store::CallsOf;

pub(super) async fn list(
    call: Call,
    request: pb::ListCallsRequest,
) -> Result<pb::ListCallsResponse, Refusal> {
    use pb::list_calls_request::Of;
    let (pager, page) = Pager::read(&request)?;
    let of = match convert::required("of", request.of)? {
        Of::RunId(run) => CallsOf::Run(run.parse()?),
        Of::JobId(job) => CallsOf::Job(job.parse()?),
    };
    let found = call.store.list_calls(&call.tenant, of, page).await?;
    let (calls, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::call::write(view)));
    Ok(pb::ListCallsResponse { calls, next_page_token })
}

pub(super) async fn get(
    call: Call,
    request: pb::GetCallRequest,
) -> Result<pb::GetCallResponse, Refusal> {
    use pb::get_call_request::By;
    let view = match convert::required("by", request.by)? {
        By::CallId(id) => call.store.call(&call.tenant, id.parse::<CallId>()?).await?,
        By::CallSid(sid) => call.store.call_by_sid(&call.tenant, &sid.parse::<CallSid>()?).await?,
    };
    Ok(pb::GetCallResponse { call: Some(convert::call::write(view)) })
}
