//! `trunkline transfer`: live callers, to humans.

use clap::Subcommand;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::Error;
use super::client::{self, Client, request_id};
use super::output::Output;
use crate::grpc::pb::transfer_event::Kind as EventKind;
use crate::grpc::pb::watch_transfer_response::Kind;
use crate::grpc::pb::{self, Transfer, TransferOutcome, TransferState, on_failure};

/// Moves live callers to humans.
#[derive(Subcommand)]
pub enum Command {
    /// Connects a caller to the first of the targets who answers; with --incident, tells them
    /// first.
    Start(Box<Start>),
    /// Shows a transfer.
    Get(Id),
    /// Lists transfers, newest first.
    List {
        /// Only transfers in this state, for example ringing; may be given more than once.
        #[arg(long = "state", value_parser = state)]
        states: Vec<TransferState>,
        /// At most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Cancels a transfer; a caller who was moved is taken back first.
    Cancel(Id),
    /// Follows a transfer until it ends.
    Watch(Id),
}

/// What to start.
#[derive(clap::Args)]
pub struct Start {
    /// The call: our id, or the carrier's (CA…). With --incident also the phone (+…) of a caller
    /// yet to dial in.
    caller: String,
    /// Whom to connect the caller to, E.164, in this order.
    #[arg(required = true)]
    targets: Vec<String>,
    /// Opens an incident of this id (a UUID): each target is told the facts first, and asked.
    #[arg(long)]
    incident: Option<String>,
    /// Said to a target of an incident.
    #[arg(long, requires = "incident", default_value = "", hide_default_value = true)]
    facts: String,
    /// The number that targets see [default: the tenant's first]
    #[arg(long, default_value = "", hide_default_value = true)]
    caller_id: String,
    /// Said to the caller before the target is dialed.
    #[arg(long, default_value = "", hide_default_value = true)]
    announcement: String,
    /// The URL of what a caller hears who waits.
    #[arg(long, default_value = "", hide_default_value = true)]
    hold_audio_url: String,
    /// How long a target's phone rings, in seconds.
    #[arg(long, default_value_t = 25)]
    ring_timeout_s: u32,
    /// Said to the caller if nobody is reached [default: an apology of the server's]
    #[arg(long, conflicts_with_all = ["return_to_queue", "return_to_url"])]
    apology: Option<String>,
    /// Where the caller goes if nobody is reached: a queue at the carrier.
    #[arg(long, conflicts_with = "return_to_url")]
    return_to_queue: Option<String>,
    /// The same: the URL of TwiML.
    #[arg(long)]
    return_to_url: Option<String>,
}

/// Names a transfer.
#[derive(clap::Args)]
pub struct Id {
    /// The transfer.
    transfer_id: String,
}

fn state(text: &str) -> Result<TransferState, String> {
    TransferState::from_str_name(&format!("TRANSFER_STATE_{}", text.to_ascii_uppercase()))
        .filter(|state| *state != TransferState::Unspecified)
        .ok_or_else(|| {
            "must be requested, redirecting, dequeuing, ringing, bridged, returned, failed, caller_gone or canceled"
                .to_owned()
        })
}

/// Sends one request through a fresh clone of the client, again while the server is away.
macro_rules! ask {
    ($client:expr, $method:ident, $request:expr) => {
        client::call(&$request, |request| {
            let mut transfers = $client.transfers.clone();
            async move { transfers.$method(request).await }
        })
        .await
    };
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Start(args) => {
            let transfer = start(client, *args).await?;
            show(output, transfer.as_slice())
        }
        Command::Get(Id { transfer_id }) => {
            let answer = ask!(client, get_transfer, pb::GetTransferRequest { transfer_id })?;
            show(output, answer.transfer.as_slice())
        }
        Command::List { states, limit } => {
            let states = states.into_iter().map(Into::into).collect();
            let request =
                pb::ListTransfersRequest { states, page_size: limit, ..Default::default() };
            let answer = ask!(client, list_transfers, request)?;
            show(output, &answer.transfers)
        }
        Command::Cancel(Id { transfer_id }) => {
            let request = pb::CancelTransferRequest { request_id: request_id(), transfer_id };
            let answer = ask!(client, cancel_transfer, request)?;
            show(output, answer.transfer.as_slice())
        }
        Command::Watch(Id { transfer_id }) => watch(client, transfer_id, output).await,
    }
}

async fn start(client: &Client, args: Start) -> Result<Option<Transfer>, Error> {
    let kind = match (args.apology, args.return_to_queue, args.return_to_url) {
        (_, Some(queue), _) => on_failure::Kind::QueueName(queue),
        (_, _, Some(url)) => on_failure::Kind::TwimlUrl(url),
        (apology, None, None) => on_failure::Kind::Apology(apology.unwrap_or_default()),
    };
    let settings = Some(pb::TransferSettings {
        targets: args.targets,
        caller_id: args.caller_id,
        announcement: args.announcement,
        facts: args.facts,
        hold_audio_url: args.hold_audio_url,
        ring_timeout: Some(prost_types::Duration { seconds: args.ring_timeout_s.into(), nanos: 0 }),
        on_failure: Some(pb::OnFailure { kind: Some(kind) }),
    });
    let (caller, by_sid) = (args.caller, |text: &str| text.starts_with("CA"));
    if let Some(incident_id) = args.incident {
        use pb::open_incident_request::Caller;
        let caller = match caller {
            phone if phone.starts_with('+') => Caller::CallerPhone(phone),
            sid if by_sid(&sid) => Caller::CallSid(sid),
            id => Caller::CallId(id),
        };
        let request = pb::OpenIncidentRequest {
            request_id: request_id(),
            incident_id,
            caller: Some(caller),
            settings,
        };
        return Ok(ask!(client, open_incident, request)?.transfer);
    }
    use pb::start_transfer_request::Call;
    let call = if by_sid(&caller) { Call::CallSid(caller) } else { Call::CallId(caller) };
    let request = pb::StartTransferRequest { request_id: request_id(), call: Some(call), settings };
    Ok(ask!(client, start_transfer, request)?.transfer)
}

/// Follows to the end, through cuts.
async fn watch(client: &Client, transfer_id: String, output: Output) -> Result<(), Error> {
    let mut resume_token = String::new();
    let mut waits = client::backoff();
    loop {
        let request = pb::WatchTransferRequest {
            transfer_id: transfer_id.clone(),
            resume_token: resume_token.clone(),
        };
        let cut = match client.transfers.clone().watch_transfer(request).await {
            Err(status) => Some(status),
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.next().await {
                        None => break None,
                        Some(Err(status)) => break Some(status),
                        Some(Ok(update)) => {
                            waits = client::backoff();
                            resume_token.clone_from(&update.resume_token);
                            tell(output, update.kind.as_ref(), update.revision)?;
                        }
                    }
                }
            }
        };
        let Some(status) = cut else { return Ok(()) };
        if !matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown) {
            return Err(status.into());
        }
        let Some(wait) = waits.next() else { return Err(status.into()) };
        tokio::time::sleep(wait).await;
    }
}

fn tell(output: Output, kind: Option<&Kind>, revision: i64) -> Result<(), Error> {
    match kind {
        None | Some(Kind::Bookmark(_)) => Ok(()),
        Some(Kind::Snapshot(snapshot)) => show(output, snapshot.transfer.as_slice()),
        Some(Kind::Events(events)) => {
            let state = word(events.state().as_str_name(), "TRANSFER_STATE_");
            let names: Vec<String> =
                events.events.iter().filter_map(|event| event.kind.as_ref()).map(name).collect();
            if output.json {
                let value = json!({ "revision": revision, "state": state, "events": names });
                return Ok(output.show(&value, &[], Vec::new())?);
            }
            Ok(output.note(&format!("{revision:>4}  {state:<12} {}", names.join(", ")))?)
        }
    }
}

/// An event in a word or two.
fn name(kind: &EventKind) -> String {
    match kind {
        EventKind::Created(_) => "created".to_owned(),
        EventKind::CallerJoined(_) => "caller joined".to_owned(),
        EventKind::CallerWaiting(_) => "caller waiting".to_owned(),
        EventKind::Moved(moved) => format!("{} (target {})", moved.phase, moved.target),
        EventKind::Redirected(_) => "redirected".to_owned(),
        EventKind::ActionFailed(failed) => format!("{} failed: {}", failed.action, failed.code),
        EventKind::FellBack(back) => {
            format!("falling back to {}", word(back.to().as_str_name(), "TRANSFER_METHOD_"))
        }
        EventKind::TargetCalled(called) => format!("target {} called", called.target),
        EventKind::TargetAnswered(answered) => format!("target {} answered", answered.target),
        EventKind::Accepted(accepted) => format!("target {} accepted", accepted.target),
        EventKind::TargetMissed(missed) => {
            format!(
                "target {} missed: {}",
                missed.target,
                word(missed.miss().as_str_name(), "TARGET_MISS_")
            )
        }
        EventKind::TakingBack(_) => "caller taken back".to_owned(),
        EventKind::Ended(ended) => {
            format!("ended: {}", word(ended.outcome().as_str_name(), "TRANSFER_OUTCOME_"))
        }
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

fn show(output: Output, transfers: &[Transfer]) -> Result<(), Error> {
    let rows = transfers.iter().map(row).collect();
    let value = match transfers {
        [one] => value(one),
        all => all.iter().map(value).collect(),
    };
    Ok(output.show(&value, &["transfer", "state", "outcome", "method", "target", "error"], rows)?)
}

fn row(transfer: &Transfer) -> Vec<String> {
    vec![
        transfer.transfer_id.clone(),
        word(transfer.state().as_str_name(), "TRANSFER_STATE_"),
        match transfer.outcome() {
            TransferOutcome::Unspecified => String::new(),
            outcome => word(outcome.as_str_name(), "TRANSFER_OUTCOME_"),
        },
        word(transfer.method().as_str_name(), "TRANSFER_METHOD_"),
        transfer.target.to_string(),
        transfer.error_code.clone(),
    ]
}

fn value(transfer: &Transfer) -> Value {
    json!({
        "transfer_id": transfer.transfer_id,
        "incident_id": transfer.incident_id,
        "call_id": transfer.call_id,
        "mode": word(transfer.mode().as_str_name(), "TRANSFER_MODE_"),
        "state": word(transfer.state().as_str_name(), "TRANSFER_STATE_"),
        "outcome": word(transfer.outcome().as_str_name(), "TRANSFER_OUTCOME_"),
        "method": word(transfer.method().as_str_name(), "TRANSFER_METHOD_"),
        "target": transfer.target,
        "target_call_id": transfer.target_call_id,
        "caller_waiting": transfer.caller_waiting,
        "error_code": transfer.error_code,
        "revision": transfer.revision,
    })
}
