//! `trunkline run`: campaigns.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::{Error, create, display, forecast, maintain, render, watch};
use crate::grpc::pb::dialing_blocked::Reason as Blocked;
use crate::grpc::pb::{self, InFlight, Run, RunState, WatchView};

/// The page size of a listing.
const PAGE_SIZE: u32 = 100;

/// Works with runs.
#[derive(Subcommand)]
pub enum Command {
    /// Creates a run.
    Create(Box<create::Args>),
    /// Says what would become of a run as `run create --from-leads` would make it. Nothing is
    /// created.
    Forecast(Box<create::Args>),
    /// Says what would become of the queued jobs of a run.
    ForecastQueued(Id),
    /// Lets a draft dial.
    Start(Id),
    /// Stops dialing for now; calls in flight go on.
    Pause(Id),
    /// Goes on with a paused run.
    Resume(Id),
    /// Cancels queued jobs; calls in flight finish.
    Cancel(Id),
    /// Cancels queued jobs and hangs up calls in flight.
    Stop(Id),
    /// Says that no more jobs will come, so that the run can complete.
    Seal(Id),
    /// Shows a run.
    Get(Id),
    /// Lists runs, newest first.
    List {
        /// Only runs in this state, for example running; may be given more than once.
        #[arg(long = "state", value_parser = state)]
        states: Vec<RunState>,
        /// At most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Holds runs against their jobs and calls, and puts right what differs. Once a minute.
    Reconcile {
        /// These runs, at most 100 [default: all that have not ended]
        run_ids: Vec<String>,
    },
    /// Ends what is proven stale, now instead of at the next sweep. Once a minute.
    Cleanup,
    /// Makes a new run of an ended run's jobs.
    Retry(maintain::Retry),
    /// Says why a job is where it is.
    Explain {
        /// The job.
        job_id: String,
    },
    /// Follows a run until it ends.
    Watch {
        /// The run.
        run_id: String,
        /// Show each event as well.
        #[arg(long)]
        events: bool,
    },
}

/// Names a run.
#[derive(clap::Args)]
pub struct Id {
    /// The run.
    run_id: String,
}

fn state(text: &str) -> Result<RunState, String> {
    RunState::from_str_name(&format!("RUN_STATE_{}", text.to_ascii_uppercase()))
        .filter(|state| *state != RunState::Unspecified)
        .ok_or_else(|| {
            "must be draft, pending, running, paused, canceling, stopping, completed, canceled, stopped, failed or expired"
                .to_owned()
        })
}

/// Sends one request through a fresh clone of the client, again while the server is away.
macro_rules! ask {
    ($client:expr, $method:ident, $request:expr) => {
        client::call(&$request, |request| {
            let mut queue = $client.queue.clone();
            async move { queue.$method(request).await }
        })
        .await
    };
}
pub(super) use ask;

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Create(args) => create::execute(client, *args, output).await,
        Command::Forecast(args) => forecast::of_new(client, *args, output).await,
        Command::ForecastQueued(Id { run_id }) => forecast::of_queued(client, run_id, output).await,
        Command::Start(id) => show(output, start(client, id.run_id).await?.as_ref(), None),
        Command::Pause(Id { run_id }) => {
            let request = pb::PauseRunRequest { request_id: request_id(), run_id };
            let answer = ask!(client, pause_run, request)?;
            show(output, answer.run.as_ref(), answer.in_flight.as_ref())
        }
        Command::Resume(Id { run_id }) => {
            let request = pb::ResumeRunRequest { request_id: request_id(), run_id };
            let answer = ask!(client, resume_run, request)?;
            show(output, answer.run.as_ref(), None)
        }
        Command::Cancel(Id { run_id }) => {
            let request = pb::CancelRunRequest { request_id: request_id(), run_id };
            let answer = ask!(client, cancel_run, request)?;
            show(output, answer.run.as_ref(), answer.in_flight.as_ref())
        }
        Command::Stop(Id { run_id }) => {
            let request = pb::StopRunRequest { request_id: request_id(), run_id };
            let answer = ask!(client, stop_run, request)?;
            show(output, answer.run.as_ref(), answer.in_flight.as_ref())
        }
        Command::Seal(id) => show(output, seal(client, id.run_id).await?.as_ref(), None),
        Command::Get(Id { run_id }) => {
            let answer = ask!(client, get_run, pb::GetRunRequest { run_id })?;
            show(output, answer.run.as_ref(), None)
        }
        Command::List { states, limit } => list(client, &states, limit, output).await,
        Command::Reconcile { run_ids } => maintain::reconcile(client, run_ids, output).await,
        Command::Cleanup => maintain::cleanup(client, output).await,
        Command::Retry(args) => maintain::retry(client, args, output).await,
        Command::Explain { job_id } => maintain::explain(client, job_id, output).await,
        Command::Watch { run_id, events } => follow(client, &run_id, events, output).await,
    }
}

/// Starts a run.
pub(super) async fn start(client: &Client, run_id: String) -> Result<Option<Run>, Error> {
    let request = pb::StartRunRequest { request_id: request_id(), run_id };
    Ok(ask!(client, start_run, request)?.run)
}

/// Seals a run.
pub(super) async fn seal(client: &Client, run_id: String) -> Result<Option<Run>, Error> {
    let request = pb::SealRunRequest { request_id: request_id(), run_id };
    Ok(ask!(client, seal_run, request)?.run)
}

/// Follows a run until it ends, and says how it ended.
pub(super) async fn follow(
    client: &Client,
    run_id: &str,
    events: bool,
    output: Output,
) -> Result<(), Error> {
    let view = if events { WatchView::Full } else { WatchView::Progress };
    let mut renderer = render::choose(output.json, events);
    let summary = watch::follow(&mut client.queue.clone(), run_id, view, renderer.as_mut()).await?;
    std::io::stdout().flush()?;
    watch::verdict(&summary)
}

/// Shows a run and what of it is in flight.
pub(super) fn show(
    output: Output,
    run: Option<&Run>,
    in_flight: Option<&InFlight>,
) -> Result<(), Error> {
    let run = run.ok_or_else(|| Error::Runtime("the server's answer holds no run".into()))?;
    let mut value = display::run_json(run);
    if let Some(live) = in_flight {
        value["in_flight"] = json!({
            "intent": live.intent, "unknown": live.unknown, "ringing": live.ringing, "answered": live.answered,
        });
    }
    let summary = display::summary(run);
    let name = run.settings.as_ref().map(|settings| settings.name.clone()).unwrap_or_default();
    let sealed = if run.sealed { "yes" } else { "no" };
    let mut rows = vec![
        pair("run", &run.run_id),
        pair("name", &name),
        pair("state", &display::run_state(summary.state)),
        pair("sealed", sealed),
        pair("jobs", &format!("{} ({})", summary.counts.total, display::counts(&summary.counts))),
        pair("outcomes", &display::outcomes(&summary)),
        pair("expires", &display::time(run.expire_time.as_ref())),
        pair("last error", &run.last_error),
    ];
    if let Some(population) = &run.population {
        rows.push(pair("made of leads", &display::population(population)));
    }
    if let Some(worker) = &run.locked_by_worker {
        rows.push(pair("worker", &worker.worker_id));
    }
    if let Some(blocked) = &run.dialing_blocked {
        let what = match blocked.reason() {
            Blocked::CarrierProbed => "the carrier failed; the next call probes it".to_owned(),
            Blocked::CarrierFailing | Blocked::Unspecified => {
                format!(
                    "the carrier fails; not before {}",
                    display::time(blocked.until_time.as_ref())
                )
            }
        };
        rows.push(pair("blocked", &what));
    }
    if let Some(live) = in_flight {
        let text = format!(
            "intent {}, unknown {}, ringing {}, answered {}",
            live.intent, live.unknown, live.ringing, live.answered
        );
        rows.push(pair("in flight", &text));
    }
    rows.retain(|row| row.iter().all(|cell| !cell.is_empty()));
    Ok(output.show(&value, &["", ""], rows)?)
}

pub(super) fn pair(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

async fn list(
    client: &Client,
    states: &[RunState],
    limit: u32,
    output: Output,
) -> Result<(), Error> {
    let states: Vec<i32> = states.iter().map(|state| (*state).into()).collect();
    let mut runs = Vec::new();
    let mut page_token = String::new();
    while runs.len() < limit as usize {
        let page_size = PAGE_SIZE.min(limit - u32::try_from(runs.len()).unwrap_or(limit));
        let request = pb::ListRunsRequest { page_size, page_token, states: states.clone() };
        let answer = ask!(client, list_runs, request)?;
        runs.extend(answer.runs);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let value: Value = runs.iter().map(display::run_json).collect();
    let rows = runs.iter().map(row).collect();
    Ok(output.show(&value, &["run", "name", "state", "jobs", "ended", "created"], rows)?)
}

fn row(run: &Run) -> Vec<String> {
    let summary = display::summary(run);
    vec![
        run.run_id.clone(),
        run.settings.as_ref().map(|settings| settings.name.clone()).unwrap_or_default(),
        display::run_state(summary.state),
        summary.counts.total.to_string(),
        summary.ended_jobs().to_string(),
        display::time(run.create_time.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_by_their_words() {
        assert_eq!(state("running"), Ok(RunState::Running));
        assert!(state("unspecified").is_err() && state("gone").is_err());
    }
}
