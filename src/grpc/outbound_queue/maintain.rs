//! Putting right, cleaning up, retrying, explaining.

use crate::domain::{RunId, Violation};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, idempotency, pb};
use crate::store::{BATCH_MAX, NewRetry, RECONCILE_RUNS_MAX};

pub(super) async fn reconcile(
    call: Call,
    request: pb::ReconcileRunsRequest,
) -> Result<pb::ReconcileRunsResponse, Refusal> {
    if request.run_ids.len() > RECONCILE_RUNS_MAX {
        return Err(Violation::new("run_ids", "must hold at most 100 items").into());
    }
    let id = |(i, text): (usize, &String)| convert::id::<RunId>(&format!("run_ids[{i}]"), text);
    let runs = request.run_ids.iter().enumerate().map(id).collect::<Result<Vec<_>, _>>()?;
    let done = call.store.reconcile_runs(&call.tenant, &runs).await?;
    Ok(convert::maintain::reconciled(done))
}

pub(super) async fn cleanup(
    call: Call,
    _request: pb::CleanupStaleCallsRequest,
) -> Result<pb::CleanupStaleCallsResponse, Refusal> {
    let done = call.store.cleanup_stale_calls(&call.tenant).await?;
    Ok(convert::maintain::cleaned_up(done))
}

/// Fills the new run page by page. A client that goes away ends nothing: the work goes on in its
/// own task, and after a crash the same request goes on where it was.
pub(super) async fn retry(
    call: Call,
    request: pb::RetryJobsRequest,
) -> Result<pb::RetryJobsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let parent: RunId = request.run_id.parse()?;
    let states = convert::each("states", &request.states, convert::job::state_of)?;
    let outcomes = convert::each("outcomes", &request.outcomes, convert::job::outcome_of)?;
    let named = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
    let patch = if named {
        let patch = convert::run::patch(request.settings, request.update_mask)?;
        super::runs::check_ranges(&patch.settings)?;
        Some(patch)
    } else {
        None
    };
    let retry = NewRetry { parent, states, outcomes, patch, start: request.start };
    let run =
        call.store.begin_retry(&call.tenant, retry, key).await.map_err(super::runs::in_settings)?;
    loop {
        // A page at most; how many jobs it holds is known only afterwards.
        let _turn = call.rows.wait(BATCH_MAX).await;
        let filled = call.store.fill_retry(&call.tenant, run).await?;
        if filled.done {
            return Ok(pb::RetryJobsResponse { run: Some(convert::run::write(filled.run)) });
        }
    }
}

pub(super) async fn explain(
    call: Call,
    request: pb::ExplainJobRequest,
) -> Result<pb::ExplainJobResponse, Refusal> {
    let explained = call.store.explain_job(&call.tenant, request.job_id.parse()?).await?;
    Ok(convert::maintain::explained(explained))
}

pub(super) async fn list_tasks(
    call: Call,
    request: pb::ListTasksRequest,
) -> Result<pb::ListTasksResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::maintain::task_state_of)?;
    let found = call.store.list_tasks(&call.tenant, &states, page).await?;
    let (tasks, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::maintain::task(view)));
    Ok(pb::ListTasksResponse { tasks, next_page_token })
}

pub(super) async fn retry_task(
    call: Call,
    request: pb::RetryTaskRequest,
) -> Result<pb::RetryTaskResponse, Refusal> {
    call.store.retry_task(&call.tenant, request.task_id.parse()?).await?;
    Ok(pb::RetryTaskResponse {})
}
