//! Imports of any size, resumable: the store keeps how far an import got, in the transaction of each batch.

use tonic::{Request, Response, Status, Streaming};

use super::jobs::Tally;
use crate::domain::run::Command;
use crate::domain::{RunId, Violation};
use crate::grpc::batch::{self, Batch};
use crate::grpc::pb::import_jobs_request as wire;
use crate::grpc::pb::import_jobs_response::Rejection;
use crate::grpc::service::{Call, Shared};
use crate::grpc::status::{self, Refusal};
use crate::grpc::{convert, pb};
use crate::store::{ImportStep, JobAdded};

/// The most rejections told one by one.
const REJECTIONS_MAX: usize = 100;
/// The longest import id, in characters.
const IMPORT_ID_MAX_CHARS: usize = 100;

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
    let mut import = match next(shared, &mut messages).await? {
        Some(wire::Part::Header(header)) => shared.detached(begin(call, header)).await?,
        Some(wire::Part::Batch(_)) | None => {
            return Err(status::of_violation(&Violation::new("header", "must be the first message")));
        }
    };
    let mut answer = pb::ImportJobsResponse::default();
    while let Some(part) = next(shared, &mut messages).await? {
        let wire::Part::Batch(batch) = part else {
            return Err(status::of_violation(&Violation::new("header", "must be the first message only")));
        };
        batch::check_len("batch.jobs", batch.jobs.len())
            .map_err(|violation| status::of_violation(&violation))?;
        // Nothing more is read meanwhile, so the client is slowed down.
        tokio::select! {
            () = import.call.rows.wait(batch.jobs.len()) => {}
            () = shared.draining.cancelled() => return Err(status::draining()),
        }
        let stored;
        // A batch that has begun is stored even where the client goes away in the middle of it.
        (import, stored) = shared.detached(import.take(batch)).await?;
        stored.add_to(&mut answer);
    }
    let offset = shared.detached(import.finish()).await?;
    Ok(Response::new(pb::ImportJobsResponse { offset, ..answer }))
}

/// The next message; none after the last.
async fn next(
    shared: &Shared,
    messages: &mut Streaming<pb::ImportJobsRequest>,
) -> Result<Option<wire::Part>, Status> {
    let message = tokio::select! {
        message = messages.message() => message?,
        () = shared.draining.cancelled() => return Err(status::draining()),
    };
    let part = |message: pb::ImportJobsRequest| convert::required("part", message.part);
    message.map(part).transpose().map_err(|violation| status::of_violation(&violation))
}

async fn begin(call: Call, header: wire::Header) -> Result<Import, Refusal> {
    let run: RunId = convert::id("header.run_id", &header.run_id)?;
    check_import_id(&header.import_id)?;
    let offset = call.store.import_offset(&call.tenant, run, &header.import_id).await?;
    Ok(Import { call, run, id: header.import_id, seal: header.seal, offset })
}

/// Refuses what is no name for an import.
pub(in crate::grpc) fn check_import_id(import_id: &str) -> Result<(), Violation> {
    let fits = (1..=IMPORT_ID_MAX_CHARS).contains(&import_id.chars().count());
    if fits && !import_id.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Violation::new("header.import_id", "must be 1 to 100 characters, none of them a control character"))
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
        let known = already_stored(self.offset, batch.offset, batch.jobs.len())?;
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

/// How many jobs of a batch at `offset`, of `len`, are among the first `stored` of the import.
pub(in crate::grpc) fn already_stored(stored: u64, offset: u64, len: usize) -> Result<usize, Violation> {
    let known = stored.checked_sub(offset).ok_or_else(|| {
        Violation::new("batch.offset", format!("leaves a gap: the import stands at {stored}"))
    })?;
    Ok(usize::try_from(known).map_or(len, |known| known.min(len)))
}

fn told(offset: u64, jobs: Vec<Result<JobAdded, Violation>>) -> Stored {
    let mut stored = Stored::default();
    for (offset, job) in (offset..).zip(jobs) {
        let job = job.unwrap_or_else(JobAdded::from);
        stored.tally.count(&job);
        if let JobAdded::Rejected { field, reason } = job
            && stored.rejections.len() < REJECTIONS_MAX
        {
            stored.rejections.push(Rejection { offset, error: Violation { field, reason }.to_string() });
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn skips_cuts_and_refuses_gaps() {
        assert_eq!(already_stored(10, 0, 10), Ok(10));
        assert_eq!(already_stored(10, 0, 4), Ok(4));
        assert_eq!(already_stored(10, 8, 5), Ok(2));
        assert_eq!(already_stored(10, 10, 5), Ok(0));
        assert_eq!(already_stored(10, 11, 5).unwrap_err().field, "batch.offset");
        assert_eq!(already_stored(u64::MAX, 0, 5), Ok(5));
        assert_eq!(already_stored(0, u64::MAX, 5).unwrap_err().field, "batch.offset");
    }

    proptest! {
        /// However often an import is cut, and whatever batches it is resumed with, each job is stored once.
        #[test]
        fn each_job_once(
            total in 1u64..200,
            streams in prop::collection::vec((1u64..40, 0usize..10), 1..6),
        ) {
            let mut stored = Vec::new();
            for (size, cut_after) in streams.into_iter().chain([(7, usize::MAX)]) {
                for offset in (0..total).step_by(size as usize).take(cut_after) {
                    let jobs: Vec<_> = (offset..total.min(offset + size)).collect();
                    let known = already_stored(stored.len() as u64, offset, jobs.len()).unwrap();
                    stored.extend_from_slice(&jobs[known..]);
                }
            }
            prop_assert_eq!(stored, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keeps_the_first_rejections_and_counts_all() {
        let rejected = |n| (0..n).map(|_| Err(Violation::new("lead.phone", "is required"))).collect();
        let mut answer = pb::ImportJobsResponse::default();
        told(1_000, rejected(60)).add_to(&mut answer);
        told(1_060, rejected(600)).add_to(&mut answer);
        assert_eq!((answer.rejected_count, answer.rejections.len()), (660, REJECTIONS_MAX));
        assert_eq!((answer.rejections[0].offset, answer.rejections[99].offset), (1_000, 1_099));
        assert_eq!(answer.rejections[0].error, "lead.phone: is required");
    }
}
