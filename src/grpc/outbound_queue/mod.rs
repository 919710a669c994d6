//! The `OutboundQueue` service: one line per RPC; the work is in the modules below.

mod calls;
mod forecast;
mod halt;
mod import;
mod jobs;
mod maintain;
mod runs;

use tonic::{Request, Response, Status, Streaming};

use super::pb;
use super::pb::outbound_queue_server::OutboundQueue;
use super::service::Shared;
use super::watch;

/// The service.
pub(super) struct Service(pub Shared);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl OutboundQueue for Service {
    async fn create_run(
        &self,
        request: Request<pb::CreateRunRequest>,
    ) -> Answer<pb::CreateRunResponse> {
        self.0.unary(request, runs::create).await
    }

    async fn forecast_run(
        &self,
        request: Request<pb::ForecastRunRequest>,
    ) -> Answer<pb::ForecastRunResponse> {
        self.0.unary(request, forecast::forecast).await
    }

    async fn update_run(
        &self,
        request: Request<pb::UpdateRunRequest>,
    ) -> Answer<pb::UpdateRunResponse> {
        self.0.unary(request, runs::update).await
    }

    async fn start_run(
        &self,
        request: Request<pb::StartRunRequest>,
    ) -> Answer<pb::StartRunResponse> {
        self.0.unary(request, runs::start).await
    }

    async fn pause_run(
        &self,
        request: Request<pb::PauseRunRequest>,
    ) -> Answer<pb::PauseRunResponse> {
        self.0.unary(request, halt::pause).await
    }

    async fn resume_run(
        &self,
        request: Request<pb::ResumeRunRequest>,
    ) -> Answer<pb::ResumeRunResponse> {
        self.0.unary(request, runs::resume).await
    }

    async fn cancel_run(
        &self,
        request: Request<pb::CancelRunRequest>,
    ) -> Answer<pb::CancelRunResponse> {
        self.0.unary(request, halt::cancel).await
    }

    async fn stop_run(&self, request: Request<pb::StopRunRequest>) -> Answer<pb::StopRunResponse> {
        self.0.unary(request, halt::stop).await
    }

    async fn seal_run(&self, request: Request<pb::SealRunRequest>) -> Answer<pb::SealRunResponse> {
        self.0.unary(request, runs::seal).await
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Answer<pb::GetRunResponse> {
        self.0.unary(request, runs::get).await
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Answer<pb::ListRunsResponse> {
        self.0.unary(request, runs::list).await
    }

    async fn add_jobs(&self, request: Request<pb::AddJobsRequest>) -> Answer<pb::AddJobsResponse> {
        self.0.unary(request, jobs::add).await
    }

    async fn import_jobs(
        &self,
        request: Request<Streaming<pb::ImportJobsRequest>>,
    ) -> Answer<pb::ImportJobsResponse> {
        import::import(&self.0, request).await
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Answer<pb::ListJobsResponse> {
        self.0.unary(request, jobs::list).await
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Answer<pb::GetJobResponse> {
        self.0.unary(request, jobs::get).await
    }

    async fn cancel_jobs(
        &self,
        request: Request<pb::CancelJobsRequest>,
    ) -> Answer<pb::CancelJobsResponse> {
        self.0.unary(request, jobs::cancel).await
    }

    async fn list_calls(
        &self,
        request: Request<pb::ListCallsRequest>,
    ) -> Answer<pb::ListCallsResponse> {
        self.0.unary(request, calls::list).await
    }

    async fn get_call(&self, request: Request<pb::GetCallRequest>) -> Answer<pb::GetCallResponse> {
        self.0.unary(request, calls::get).await
    }

    async fn reconcile_runs(
        &self,
        request: Request<pb::ReconcileRunsRequest>,
    ) -> Answer<pb::ReconcileRunsResponse> {
        self.0.unary(request, maintain::reconcile).await
    }

    async fn cleanup_stale_calls(
        &self,
        request: Request<pb::CleanupStaleCallsRequest>,
    ) -> Answer<pb::CleanupStaleCallsResponse> {
        self.0.unary(request, maintain::cleanup).await
    }

    async fn retry_jobs(
        &self,
        request: Request<pb::RetryJobsRequest>,
    ) -> Answer<pb::RetryJobsResponse> {
        self.0.unary(request, maintain::retry).await
    }

    async fn explain_job(
        &self,
        request: Request<pb::ExplainJobRequest>,
    ) -> Answer<pb::ExplainJobResponse> {
        self.0.unary(request, maintain::explain).await
    }

    async fn list_tasks(
        &self,
        request: Request<pb::ListTasksRequest>,
    ) -> Answer<pb::ListTasksResponse> {
        self.0.unary(request, maintain::list_tasks).await
    }

    async fn retry_task(
        &self,
        request: Request<pb::RetryTaskRequest>,
    ) -> Answer<pb::RetryTaskResponse> {
        self.0.unary(request, maintain::retry_task).await
    }

    type WatchRunStream = watch::Updates;

    async fn watch_run(&self, request: Request<pb::WatchRunRequest>) -> Answer<watch::Updates> {
        watch::watch(&self.0, &request)
    }
}
