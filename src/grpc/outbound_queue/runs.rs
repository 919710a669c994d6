//! Runs: create, change, start, resume, seal, read.

use super::jobs;
use crate::domain::run::{Command, RunField, RunSettings};
use crate::domain::{RunId, Timestamp, Violation};
use crate::grpc::batch::{self, Batch};
use crate::grpc::idempotency::{self, Keyed};
use crate::grpc::page::Pager;
use crate::grpc::service::Call;
use crate::grpc::status::Refusal;
use crate::grpc::{convert, pb};
use crate::store::{self, NewRun, RunView};

pub(super) async fn create(
    call: Call,
    request: pb::CreateRunRequest,
) -> Result<pb::CreateRunResponse, Refusal> {
    let key = idempotency::key(&request)?;
    batch::check_max("jobs", request.jobs.len())?;
    let _turn = call.rows.take(request.jobs.len()).await?;
    let settings = convert::run::read(request.settings)?;
    check_ranges(&settings)?;
    let Batch { good, places } =
        Batch::read(request.jobs, |job| convert::job::read(job, call.region.as_deref()));
    let new =
        NewRun { settings, jobs: good, start: request.start, seal: request.seal, parent: None };
    let created = match request.from_leads.map(convert::lead::filter).transpose() {
        Ok(None) => call.store.create_run(&call.tenant, new, key).await,
        Ok(Some(filter)) => call.store.create_run_from_leads(&call.tenant, new, filter, key).await,
        Err(violation) => return Err(violation.under("from_leads").into()),
    };
    let created = created.map_err(in_settings)?;
    let (results, _) = jobs::results(batch::join(places, created.jobs)?);
    Ok(pb::CreateRunResponse { run: Some(convert::run::write(created.run)), results })
}

pub(super) async fn update(
    call: Call,
    request: pb::UpdateRunRequest,
) -> Result<pb::UpdateRunResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let run: RunId = request.run_id.parse()?;
    let patch = convert::run::patch(request.settings, request.update_mask)?;
    check_ranges(&patch.settings)?;
    let view = call.store.update_run(&call.tenant, run, patch, key).await.map_err(in_settings)?;
    Ok(pb::UpdateRunResponse { run: Some(convert::run::write(view)) })
}

/// Checks all that does not depend on the time. The store judges the two instants, with a change
/// against the run's own, and only after it has looked for the answer to a repeated request: what
/// was in the future when the request was first made may have passed since.
pub(super) fn check_ranges(settings: &RunSettings) -> Result<(), Violation> {
    let timeless = RunSettings { starts_at: None, expires_at: None, ..settings.clone() };
    timeless.check(Timestamp::default()).map_err(|violation| violation.under("settings"))
}

/// What the store refuses of a setting, named as in the request.
pub(super) fn in_settings(error: store::Error) -> store::Error {
    match error {
        store::Error::Invalid(violation) if is_setting(&violation) => {
            store::Error::Invalid(violation.under("settings"))
        }
        store::Error::NotFound(_)
        | store::Error::Exists(_)
        | store::Error::Changed
        | store::Error::OnOneself(_)
        | store::Error::NoMasterKey
        | store::Error::Invalid(_)
        | store::Error::WrongState(_)
        | store::Error::Transfer(_)
        | store::Error::Closed(_)
        | store::Error::Over(_)
        | store::Error::NotEnded(_)
        | store::Error::NothingToRetry
        | store::Error::TooSoon { .. }
        | store::Error::Lapsed
        | store::Error::QueueFull { .. }
        | store::Error::RequestReused
        | store::Error::Unavailable(_)
        | store::Error::Locked(_)
        | store::Error::Internal(_) => error,
    }
}

fn is_setting(violation: &Violation) -> bool {
    let head = violation.field.split('.').next().unwrap_or_default();
    RunField::from_word(head).is_some()
}

/// Gives the run of `request` a command.
pub(super) async fn command<R: Keyed>(
    call: &Call,
    request: &R,
    run_id: &str,
    command: Command,
) -> Result<RunView, Refusal> {
    let key = idempotency::key(request)?;
    let run: RunId = run_id.parse()?;
    Ok(call.store.command_run(&call.tenant, run, command, key).await?)
}

pub(super) async fn start(
    call: Call,
    request: pb::StartRunRequest,
) -> Result<pb::StartRunResponse, Refusal> {
    let view = command(&call, &request, &request.run_id, Command::Start).await?;
    Ok(pb::StartRunResponse { run: Some(convert::run::write(view)) })
}

pub(super) async fn resume(
    call: Call,
    request: pb::ResumeRunRequest,
) -> Result<pb::ResumeRunResponse, Refusal> {
    let view = command(&call, &request, &request.run_id, Command::Resume).await?;
    Ok(pb::ResumeRunResponse { run: Some(convert::run::write(view)) })
}

pub(super) async fn seal(
    call: Call,
    request: pb::SealRunRequest,
) -> Result<pb::SealRunResponse, Refusal> {
    let view = command(&call, &request, &request.run_id, Command::Seal).await?;
    Ok(pb::SealRunResponse { run: Some(convert::run::write(view)) })
}

pub(super) async fn get(
    call: Call,
    request: pb::GetRunRequest,
) -> Result<pb::GetRunResponse, Refusal> {
    let view = call.store.run(&call.tenant, request.run_id.parse()?).await?;
    Ok(pb::GetRunResponse { run: Some(convert::run::write(view)) })
}

pub(super) async fn list(
    call: Call,
    request: pb::ListRunsRequest,
) -> Result<pb::ListRunsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let states = convert::each("states", &request.states, convert::run::state_of)?;
    let found = call.store.list_runs(&call.tenant, &states, page).await?;
    let (runs, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::run::write(view)));
    Ok(pb::ListRunsResponse { runs, next_page_token })
}
