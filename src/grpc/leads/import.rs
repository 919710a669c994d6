//! Imports of any size, resumable: the store keeps how far an import got, in the transaction of
//! each batch.
//!
//! Reading phones costs about as much as storing them, so the next batches are read while one is
//! stored.

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::domain::lead::{LeadFacts, tags};
use crate::domain::{Violation, phone};
use crate::grpc::batch::{self, Batch};
use crate::grpc::pb::import_leads_request as wire;
use crate::grpc::pb::import_leads_response::Rejection;
use crate::grpc::service::{Call, Shared};
use crate::grpc::status::{self, Refusal};
use crate::grpc::{convert, imports, pb};
use crate::store::{ImportStand, ImportStep, LeadImported};

/// The most rejections told one by one.
const REJECTIONS_MAX: usize = 100;
/// Batches read at the same time, before their turn to be stored: bounds what one stream holds in
/// memory.
const READ_AHEAD: usize = 2;

/// What a row of the import takes from its header.
#[derive(Clone)]
struct Common {
    region: Option<String>,
    tags: Vec<String>,
}

/// An import under way on one stream.
struct Import {
    call: Call,
    id: String,
    stand: ImportStand,
}

/// A batch to be stored: what is not stored yet of one that came.
struct Rows {
    offset: u64,
    batch: Batch<LeadFacts>,
}

pub(super) async fn import(
    shared: &Shared,
    request: Request<Streaming<pb::ImportLeadsRequest>>,
) -> Result<Response<pb::ImportLeadsResponse>, Status> {
    let call = shared.call(&request)?;
    let mut messages = request.into_inner();
    let (mut import, common) =
        match imports::next(shared, &mut messages, |message: pb::ImportLeadsRequest| message.part)
            .await?
        {
            Some(wire::Part::Header(header)) => shared.detached(begin(call, header)).await?,
            Some(wire::Part::Batch(_)) | None => {
                return Err(status::of_violation(&imports::no_header()));
            }
        };
    let mut rejections = Vec::new();
    let mut batches = std::pin::pin!(batches(shared, messages, import.stand.offset, common));
    let mut ready = batches.next().await.transpose()?;
    while let Some(rows) = ready {
        let turn = imports::turn(shared, &import.call, rows.batch.places.len()).await?;
        // A batch that has begun is stored even where the client goes away in the middle of it.
        let storing = turn.hold(import.store(rows));
        let (stored, following) = tokio::join!(shared.detached(storing), batches.next());
        let refused;
        (import, refused) = stored?;
        let room = REJECTIONS_MAX - rejections.len();
        rejections.extend(refused.into_iter().take(room));
        ready = following.transpose()?;
    }
    let ImportStand { offset, created, updated, unchanged, rejected } = import.stand;
    Ok(Response::new(pb::ImportLeadsResponse {
        offset,
        created_count: created,
        updated_count: updated,
        unchanged_count: unchanged,
        rejected_count: rejected,
        rejections,
    }))
}

async fn begin(call: Call, header: wire::Header) -> Result<(Import, Common), Refusal> {
    imports::check_id(&header.import_id)?;
    let region = region(header.default_region, &call)?;
    let tags = tags(header.tags).map_err(|violation| violation.under("header"))?;
    let stand = call.store.lead_import_stand(&call.tenant, &header.import_id).await?;
    Ok((Import { call, id: header.import_id, stand }, Common { region, tags }))
}

/// What national phones of an import are read with: what its header says, or else the tenant's.
pub(super) fn region(given: String, call: &Call) -> Result<Option<String>, Violation> {
    let Some(region) = convert::non_empty(given) else { return Ok(call.region.clone()) };
    phone::check_region(&region)
        .map_err(|violation| Violation::new("header.default_region", violation.reason))?;
    Ok(Some(region))
}

/// The batches of the stream in order, read ahead.
fn batches(
    shared: &Shared,
    messages: Streaming<pb::ImportLeadsRequest>,
    offset: u64,
    common: Common,
) -> impl Stream<Item = Result<Rows, Status>> {
    let raw = stream::try_unfold((messages, offset), move |(mut messages, mut at)| async move {
        loop {
            let Some(part) =
                imports::next(shared, &mut messages, |message: pb::ImportLeadsRequest| {
                    message.part
                })
                .await?
            else {
                return Ok(None);
            };
            let (offset, leads) =
                fresh(at, part).map_err(|violation| status::of_violation(&violation))?;
            if !leads.is_empty() {
                at += leads.len() as u64;
                return Ok(Some(((offset, leads), (messages, at))));
            }
        }
    });
    raw.map(move |raw: Result<_, Status>| {
        let common = common.clone();
        async move {
            let (offset, leads) = raw?;
            // A thousand phones take milliseconds, which no other request should wait for.
            let reading = tokio::task::spawn_blocking(move || read(leads, &common));
            let batch = reading.await.map_err(|error| status::internal(&error))?;
            Ok(Rows { offset, batch })
        }
    })
    .buffered(READ_AHEAD)
}

/// What of a message is not stored yet by an import that stands `at`, and where it begins.
fn fresh(at: u64, part: wire::Part) -> Result<(u64, Vec<pb::LeadFacts>), Violation> {
    let wire::Part::Batch(mut batch) = part else {
        return Err(imports::second_header());
    };
    batch::check_len("batch.leads", batch.leads.len())?;
    let known = imports::already_stored(at, batch.offset, batch.leads.len())?;
    batch.leads.drain(..known);
    Ok((at, batch.leads))
}

fn read(leads: Vec<pb::LeadFacts>, common: &Common) -> Batch<LeadFacts> {
    Batch::read(leads, |lead| {
        let facts = convert::lead::read(lead, common.region.as_deref())?;
        if common.tags.is_empty() {
            return Ok(facts);
        }
        let tags = tags(facts.tags.into_iter().chain(common.tags.iter().cloned()).collect())?;
        Ok(LeadFacts { tags, ..facts })
    })
}

impl Import {
    /// Stores a batch; returns what of it was refused.
    async fn store(mut self, rows: Rows) -> Result<(Self, Vec<Rejection>), Refusal> {
        let Batch { good, places } = rows.batch;
        let step =
            ImportStep { import_id: &self.id, offset: rows.offset, taken: places.len() as u64 };
        let (told, stand) = self.call.store.import_leads(&self.call.tenant, step, good).await?;
        self.stand = stand;
        let mut refused = Vec::new();
        for (offset, row) in (rows.offset..).zip(batch::join(places, told)?) {
            match row {
                Err(violation) | Ok(LeadImported::Rejected(violation)) => {
                    refused.push(Rejection { offset, error: violation.to_string() });
                }
                Ok(LeadImported::Created | LeadImported::Updated | LeadImported::Unchanged) => {}
            }
        }
        Ok((self, refused))
    }
}
