//! Exports: the list once more, page by page, at the client's pace.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::grpc::page::Pager;
use crate::grpc::service::{Call, Shared};
use crate::grpc::status;
use crate::grpc::{convert, pb};
use crate::store::{LeadFilter, Page};

/// Leads in one message.
const PAGE_SIZE: u32 = 500;

/// What a client is sent.
pub(super) type Pages = Pin<Box<dyn Stream<Item = Result<pb::ExportLeadsResponse, Status>> + Send>>;

/// An export under way.
struct Export {
    shared: Shared,
    call: Call,
    filter: LeadFilter,
    pager: Pager,
    /// Where to go on; none before the first page.
    after: Option<Uuid>,
}

pub(super) fn export(
    shared: &Shared,
    request: Request<pb::ExportLeadsRequest>,
) -> Result<Response<Pages>, Status> {
    let call = shared.call(&request)?;
    let request = request.into_inner();
    let (pager, after) =
        Pager::read_stream("ExportLeads", request.filter.as_ref(), &request.page_token)
            .map_err(|violation| status::of_violation(&violation))?;
    let filter = super::filter(request.filter)?;
    let export = Export { shared: shared.clone(), call, filter, pager, after };
    // One page is read ahead of the client at most: the stream is polled when the connection takes
    // more.
    let pages = stream::try_unfold(Some(export), |export| async move {
        match export {
            None => Ok(None),
            Some(export) => export.page().await.map(Some),
        }
    });
    Ok(Response::new(Box::pin(pages)))
}

impl Export {
    /// The next page, and the export after it unless that was the last.
    async fn page(mut self) -> Result<(pb::ExportLeadsResponse, Option<Self>), Status> {
        if self.shared.draining.is_cancelled() {
            return Err(status::draining());
        }
        let page = Page { size: PAGE_SIZE, after: self.after };
        let found = self.call.store.list_leads(&self.call.tenant, &self.filter, page).await;
        let found = found.map_err(|error| status::of_store(&error))?;
        let write = |view: crate::store::LeadView| (view.id.0, convert::lead::write(view));
        let (leads, next_page_token, next) = self.pager.answer_with_next(found, write);
        self.after = next;
        Ok((pb::ExportLeadsResponse { leads, next_page_token }, next.is_some().then_some(self)))
    }
}
