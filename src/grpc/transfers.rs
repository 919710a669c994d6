//! The `Transfers` service.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::page::Pager;
use super::pb::transfers_server::Transfers;
use super::service::{Call, Shared};
use super::status::{self, Refusal};
use super::{convert, idempotency, pb};
use crate::domain::transfer::Mode;
use crate::domain::{TransferId, Violation};
use crate::progress::transfer::TransferWatch;
use crate::store::{self, Caller, NewTransfer};

/// The service.
pub(super) struct Service(pub Shared);

type Answer<A> = Result<Response<A>, Status>;
/// What a watcher is sent.
type Updates = Pin<Box<dyn Stream<Item = Result<pb::WatchTransferResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Transfers for Service {
    async fn start_transfer(
        &self,
        request: Request<pb::StartTransferRequest>,
    ) -> Answer<pb::StartTransferResponse> {
        self.0.unary(request, start).await
    }

    async fn open_incident(
        &self,
        request: Request<pb::OpenIncidentRequest>,
    ) -> Answer<pb::OpenIncidentResponse> {
        self.0.unary(request, open).await
    }

    async fn get_transfer(
        &self,
        request: Request<pb::GetTransferRequest>,
    ) -> Answer<pb::GetTransferResponse> {
        self.0.unary(request, get).await
    }

    async fn list_transfers(
        &self,
        request: Request<pb::ListTransfersRequest>,
    ) -> Answer<pb::ListTransfersResponse> {
        self.0.unary(request, list).await
    }

    async fn cancel_transfer(
        &self,
        request: Request<pb::CancelTransferRequest>,
    ) -> Answer<pb::CancelTransferResponse> {
        self.0.unary(request, cancel).await
    }

    type WatchTransferStream = Updates;

    async fn watch_transfer(&self, request: Request<pb::WatchTransferRequest>) -> Answer<Updates> {
        let call = self.0.call(&request)?;
        let watch = read_watch(call, request.get_ref())
            .map_err(|violation| status::of_violation(&violation))?;
        let updates = self.0.hub.watch_transfer(watch, self.0.draining.clone());
        let updates = updates.map_err(|error| status::of_progress(&error))?.map(|update| {
            update.map(convert::transfer::update).map_err(|error| status::of_progress(&error))
        });
        Ok(Response::new(Box::pin(updates)))
    }
}

async fn start(
    call: Call,
    request: pb::StartTransferRequest,
) -> Result<pb::StartTransferResponse, Refusal> {
    use pb::start_transfer_request::Call as Of;
    let key = idempotency::key(&request)?;
    let caller = match convert::required("call", request.call)? {
        Of::CallId(id) => Caller::Call(id.parse()?),
        Of::CallSid(sid) => Caller::Sid(sid.parse()?),
    };
    let settings = convert::transfer::read(request.settings)?;
    if settings.facts.is_some() {
        return Err(Violation::new("settings.facts", "is for incidents only").into());
    }
    let new = NewTransfer { mode: Mode::Direct, incident: None, caller, settings };
    let view = call.store.start_transfer(&call.tenant, new, key).await.map_err(in_settings)?;
    Ok(pb::StartTransferResponse { transfer: Some(convert::transfer::write(view)) })
}

async fn open(
    call: Call,
    request: pb::OpenIncidentRequest,
) -> Result<pb::OpenIncidentResponse, Refusal> {
    use pb::open_incident_request::Caller as Of;
    let key = idempotency::key(&request)?;
    let incident = Some(request.incident_id.parse()?);
    let caller = match convert::required("caller", request.caller)? {
        Of::CallId(id) => Caller::Call(id.parse()?),
        Of::CallSid(sid) => Caller::Sid(sid.parse()?),
        Of::CallerPhone(text) => Caller::Awaited(convert::transfer::phone("caller_phone", &text)?),
    };
    let settings = convert::transfer::read(request.settings)?;
    let new = NewTransfer { mode: Mode::Warm, incident, caller, settings };
    let view = call.store.start_transfer(&call.tenant, new, key).await.map_err(in_settings)?;
    Ok(pb::OpenIncidentResponse { transfer: Some(convert::transfer::write(view)) })
}

/// What the store refuses is a setting, named as in the request.
fn in_settings(error: store::Error) -> store::Error {
    if let store::Error::Invalid(violation) = error {
        return store::Error::Invalid(violation.under("settings"));
    }
    error
}

async fn get(
    call: Call,
    request: pb::GetTransferRequest,
) -> Result<pb::GetTransferResponse, Refusal> {
    let view = call.store.transfer(&call.tenant, request.transfer_id.parse()?).await?;
    Ok(pb::GetTransferResponse { transfer: Some(convert::transfer::write(view)) })
}

async fn list(
    call: Call,
    request: pb::ListTransfersRequest,
) -> Result<pb::ListTransfersResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::transfer::state_of)?;
    let found = call.store.list_transfers(&call.tenant, &states, page).await?;
    let (transfers, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::transfer::write(view)));
    Ok(pb::ListTransfersResponse { transfers, next_page_token })
}

async fn cancel(
    call: Call,
    request: pb::CancelTransferRequest,
) -> Result<pb::CancelTransferResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let id: TransferId = request.transfer_id.parse()?;
    let view = call.store.cancel_transfer(&call.tenant, id, key).await?;
    Ok(pb::CancelTransferResponse { transfer: Some(convert::transfer::write(view)) })
}

fn read_watch(call: Call, request: &pb::WatchTransferRequest) -> Result<TransferWatch, Violation> {
    let transfer = request.transfer_id.parse()?;
    let after = match request.resume_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|error: crate::progress::cursor::Error| {
            Violation::new("resume_token", error.to_string())
        })?),
    };
    Ok(TransferWatch { tenant: call.tenant, transfer, after })
}
