//! Jobs: add, cancel, read.

use crate::domain::{JobId, RunId, Violation};
use crate::grpc::batch::{self, Batch};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, idempotency, pb};
use crate::store::JobAdded;

/// How many jobs of a batch came out how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub added: u32,
    pub duplicate: u32,
    pub rejected: u32,
    /// Of those added.
    pub suppressed: u32,
}

impl Tally {
    /// Counts one.
    pub(super) fn count(&mut self, job: &JobAdded) {
        match job {
            JobAdded::Job { duplicate: false, suppressed, .. } => {
                self.added += 1;
                self.suppressed += u32::from(*suppressed);
            }
            JobAdded::Job { duplicate: true, .. } => self.duplicate += 1,
            JobAdded::Rejected { .. } => self.rejected += 1,
        }
    }
}

/// What became of each job of a request, for the wire.
pub(super) fn results(jobs: Vec<Result<JobAdded, Violation>>) -> (Vec<pb::NewJobResult>, Tally) {
    let mut tally = Tally::default();
    let result = |(i, job): (usize, Result<JobAdded, Violation>)| {
        let job = job.unwrap_or_else(JobAdded::from);
        tally.count(&job);
        convert::job::added(&format!("jobs[{i}]"), job)
    };
    (jobs.into_iter().enumerate().map(result).collect(), tally)
}

pub(super) async fn add(
    call: Call,
    request: pb::AddJobsRequest,
) -> Result<pb::AddJobsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let run: RunId = request.run_id.parse()?;
    batch::check_len("jobs", request.jobs.len())?;
    let _turn = call.rows.take(request.jobs.len()).await?;
    let Batch { good, places } =
        Batch::read(request.jobs, |job| convert::job::read(job, call.region.as_deref()));
    let added = call.store.add_jobs(&call.tenant, run, good, key).await?;
    let (results, tally) = results(batch::join(places, added)?);
    Ok(pb::AddJobsResponse {
        results,
        added_count: tally.added,
        duplicate_count: tally.duplicate,
        rejected_count: tally.rejected,
        suppressed_count: tally.suppressed,
    })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListJobsRequest,
) -> Result<pb::ListJobsResponse, Refusal> {
    let run: RunId = request.run_id.parse()?;
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::job::state_of)?;
    let found = call.store.list_jobs(&call.tenant, run, &states, page).await?;
    let (jobs, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::job::write(view)));
    Ok(pb::ListJobsResponse { jobs, next_page_token })
}

pub(super) async fn get(
    call: Call,
    request: pb::GetJobRequest,
) -> Result<pb::GetJobResponse, Refusal> {
    let view = call.store.job(&call.tenant, request.job_id.parse()?).await?;
    Ok(pb::GetJobResponse { job: Some(convert::job::write(view)) })
}

pub(super) async fn cancel(
    call: Call,
    request: pb::CancelJobsRequest,
) -> Result<pb::CancelJobsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let run: RunId = request.run_id.parse()?;
    batch::check_len("job_ids", request.job_ids.len())?;
    let _turn = call.rows.take(request.job_ids.len()).await?;
    let id = |(i, text): (usize, &String)| convert::id::<JobId>(&format!("job_ids[{i}]"), text);
    let jobs = request.job_ids.iter().enumerate().map(id).collect::<Result<_, _>>()?;
    let canceled = call.store.cancel_jobs(&call.tenant, run, jobs, key).await?;
    Ok(convert::job::canceled(&canceled))
}
