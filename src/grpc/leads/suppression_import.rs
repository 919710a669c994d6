//! Imports of suppressions: like those of leads, one batch at a time.

use tonic::{Request, Response, Status, Streaming};

use crate::domain::Violation;
use crate::domain::suppression::SuppressionSource;
use crate::grpc::batch::{self, Batch};
use crate::grpc::pb::import_suppressions_request as wire;
use crate::grpc::pb::import_suppressions_response::Rejection;
use crate::grpc::service::{Call, Shared};
use crate::grpc::status::{self, Refusal};
use crate::grpc::{convert, imports, pb};
use crate::store::{ImportStand, ImportStep, SuppressionAdded};

/// The most rejections, and the most live calls, told one by one.
const TOLD_MAX: usize = 100;

/// An import under way on one stream.
struct Import {
    call: Call,
    id: String,
    region: Option<String>,
    stand: ImportStand,
    rejections: Vec<Rejection>,
    live_calls: Vec<String>,
}

pub(super) async fn import(
    shared: &Shared,
    request: Request<Streaming<pb::ImportSuppressionsRequest>>,
) -> Result<Response<pb::ImportSuppressionsResponse>, Status> {
    let call = shared.call(&request)?;
    let mut messages = request.into_inner();
    let mut import =
        match imports::next(shared, &mut messages, |message: pb::ImportSuppressionsRequest| {
            message.part
        })
        .await?
        {
            Some(wire::Part::Header(header)) => shared.detached(begin(call, header)).await?,
            Some(wire::Part::Batch(_)) | None => {
                return Err(status::of_violation(&imports::no_header()));
            }
        };
    while let Some(part) =
        imports::next(shared, &mut messages, |message: pb::ImportSuppressionsRequest| message.part)
            .await?
    {
        let wire::Part::Batch(batch) = part else {
            return Err(status::of_violation(&imports::second_header()));
        };
        batch::check_len("batch.suppressions", batch.suppressions.len())
            .map_err(|violation| status::of_violation(&violation))?;
        let turn = imports::turn(shared, &import.call, batch.suppressions.len()).await?;
        // A batch that has begun is stored even where the client goes away in the middle of it.
        import = shared.detached(turn.hold(import.take(batch))).await?;
    }
    let ImportStand { offset, created, updated, unchanged, rejected } = import.stand;
    Ok(Response::new(pb::ImportSuppressionsResponse {
        offset,
        added_count: created,
        extended_count: updated,
        unchanged_count: unchanged,
        rejected_count: rejected,
        rejections: import.rejections,
        live_call_ids: import.live_calls,
    }))
}

async fn begin(call: Call, header: wire::Header) -> Result<Import, Refusal> {
    imports::check_id(&header.import_id)?;
    let region = super::import::region(header.default_region, &call)?;
    let stand = call.store.suppression_import_stand(&call.tenant, &header.import_id).await?;
    let (rejections, live_calls) = (Vec::new(), Vec::new());
    Ok(Import { call, id: header.import_id, region, stand, rejections, live_calls })
}

impl Import {
    /// Stores what of `batch` is not stored yet.
    async fn take(mut self, mut batch: wire::Batch) -> Result<Self, Refusal> {
        let known =
            imports::already_stored(self.stand.offset, batch.offset, batch.suppressions.len())?;
        batch.suppressions.drain(..known);
        if batch.suppressions.is_empty() {
            return Ok(self);
        }
        let offset = self.stand.offset;
        let Batch { good, places } = Batch::read(batch.suppressions, |new| {
            convert::suppression::read(new, SuppressionSource::Import, self.region.as_deref())
        });
        let step = ImportStep { import_id: &self.id, offset, taken: places.len() as u64 };
        let (added, stand) =
            self.call.store.import_suppressions(&self.call.tenant, step, good).await?;
        self.stand = stand;
        for (offset, item) in (offset..).zip(batch::join(places, added)?) {
            match item.unwrap_or_else(SuppressionAdded::from) {
                SuppressionAdded::Rejected { field, reason }
                    if self.rejections.len() < TOLD_MAX =>
                {
                    let error = Violation { field, reason }.to_string();
                    self.rejections.push(Rejection { offset, error });
                }
                SuppressionAdded::Kept { live_call: Some(call), .. }
                    if self.live_calls.len() < TOLD_MAX =>
                {
                    self.live_calls.push(call.to_string());
                }
                SuppressionAdded::Rejected { .. } | SuppressionAdded::Kept { .. } => {}
            }
        }
        Ok(self)
    }
}
