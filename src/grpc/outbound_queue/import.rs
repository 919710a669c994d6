//! Imports of any size, resumable: the store keeps how far an import got, in the transaction of
//! each batch.

use tonic::{Request, Response, Status, Streaming};

use super::jobs::Tally;
use crate::domain::run::Command;
use crate::domain::{RunId, Violation};
use crate::grpc::batch::{self, Batch};
use crate::grpc::pb::import_jobs_request as wire;
use crate::grpc::pb::import_jobs_response::Rejection;
use crate::grpc::service::{Call, Shared};
use crate::grpc::status::{self, Refusal};
use crate::grpc::{convert, imports, pb};
use crate::store::{ImportStep, JobAdded};

/// The most rejections told one by one.
const REJECTIONS_MAX: usize = 100;

/// An import under way on one stream.
struct Import {
    call: Call,
    run: RunId,
    id: String,
    seal: bool,
    /// How many jobs of the import are stored.
    offset: u64,
}

pub(super) async fn import(
    shared: &Shared,
    request: Request<Streaming<pb::ImportJobsRequest>>,
) -> Result<Response<pb::ImportJobsResponse>, Status> {
    let call = shared.call(&request)?;
    let mut messages = request.into_inner();
    let mut import =
        match imports::next(shared, &mut messages, |message: pb::ImportJobsRequest| message.part)
            .await?
        {
            Some(wire::Part::Header(header)) => shared.detached(begin(call, header)).await?,
            Some(wire::Part::Batch(_)) | None => {
                return Err(status::of_violation(&imports::no_header()));
            }
        };
    let mut answer = pb::ImportJobsResponse::default();
    while let Some(part) =
        imports::next(shared, &mut messages, |message: pb::ImportJobsRequest| message.part).await?
    {
        let wire::Part::Batch(batch) = part else {
            return Err(status::of_violation(&imports::second_header()));
        };
        batch::check_len("batch.jobs", batch.jobs.len())
            .map_err(|violation| status::of_violation(&violation))?;
        let turn = imports::turn(shared, &import.call, batch.jobs.len()).await?;
        let stored;
        // A batch that has begun is stored even where the client goes away in the middle of it.
        (import, stored) = shared.detached(turn.hold(import.take(batch))).await?;
        stored.add_to(&mut answer);
    }
    let offset = shared.detached(import.finish()).await?;
    Ok(Response::new(pb::ImportJobsResponse { offset, ..answer }))
}

async fn begin(call: Call, header: wire::Header) -> Result<Import, Refusal> {
    let run: RunId = convert::id("header.run_id", &header.run_id)?;
    imports::check_id(&header.import_id)?;
    let offset = call.store.import_offset(&call.tenant, run, &header.import_id).await?;
    Ok(Import { call, run, id: header.import_id, seal: header.seal, offset })
}

/// What became of one batch.
#[derive(Default)]
struct Stored {
    tally: Tally,
    rejections: Vec<Rejection>,
}

impl Stored {
    fn add_to(self, answer: &mut pb::ImportJobsResponse) {
        answer.added_count += u64::from(self.tally.added);
        answer.duplicate_count += u64::from(self.tally.duplicate);
        answer.rejected_count += u64::from(self.tally.rejected);
        answer.suppressed_count += u64::from(self.tally.suppressed);
        let room = REJECTIONS_MAX - answer.rejections.len().min(REJECTIONS_MAX);
        answer.rejections.extend(self.rejections.into_iter().take(room));
    }
}

impl Import {
    /// Stores what of `batch` is not stored yet.
    async fn take(mut self, mut batch: wire::Batch) -> Result<(Self, Stored), Refusal> {
        let known = imports::already_stored(self.offset, batch.offset, batch.jobs.len())?;
        batch.jobs.drain(..known);
        if batch.jobs.is_empty() {
            return Ok((self, Stored::default()));
        }
        let taken = batch.jobs.len() as u64;
        let Batch { good, places } =
            Batch::read(batch.jobs, |job| convert::job::read(job, self.call.region.as_deref()));
        let step = ImportStep { import_id: &self.id, offset: self.offset, taken };
        let added = self.call.store.import_jobs(&self.call.tenant, self.run, step, good).await?;
        let stored = told(self.offset, batch::join(places, added)?);
        self.offset += taken;
        Ok((self, stored))
    }

    /// Seals the run if asked to. Returns how far the import got.
    async fn finish(self) -> Result<u64, Refusal> {
        if self.seal {
            self.call.store.command_run(&self.call.tenant, self.run, Command::Seal, None).await?;
        }
        Ok(self.offset)
    }
}

fn told(offset: u64, jobs: Vec<Result<JobAdded, Violation>>) -> Stored {
    let mut stored = Stored::default();
    for (offset, job) in (offset..).zip(jobs) {
        let job = job.unwrap_or_else(JobAdded::from);
        stored.tally.count(&job);
        if let JobAdded::Rejected { field, reason } = job
            && stored.rejections.len() < REJECTIONS_MAX
        {
            stored
                .rejections
                .push(Rejection { offset, error: Violation { field, reason }.to_string() });
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_rejections_and_counts_all() {
        let rejected =
            |n| (0..n).map(|_| Err(Violation::new("lead.phone", "is required"))).collect();
        let mut answer = pb::ImportJobsResponse::default();
        told(1_000, rejected(60)).add_to(&mut answer);
        told(1_060, rejected(600)).add_to(&mut answer);
        assert_eq!((answer.rejected_count, answer.rejections.len()), (660, REJECTIONS_MAX));
        assert_eq!((answer.rejections[0].offset, answer.rejections[99].offset), (1_000, 1_099));
        assert_eq!(answer.rejections[0].error, "lead.phone: is required");
    }
}
