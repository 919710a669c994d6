//! Transfers over the wire: clients over gRPC, the simulated carrier over HTTP, its ledger as the
//! judge.

mod asked;
mod cli;
mod crash;
mod direct;
mod lost;
mod page;
mod refusals;
mod warm;

use reqwest::StatusCode;
use trunkline::carrier::signature;
use trunkline::grpc::pb::transfer_event::Kind as EventKind;
use trunkline::grpc::pb::watch_transfer_response::Kind;
use trunkline::grpc::pb::{self, CallState, Transfer, TransferOutcome};
use trunkline::progress::Cursor;
use trunkline::simulator::{self, Bridge, Outcome, Press, RequestFault, RequestKind, Scripted};

use crate::support::{ACCOUNT, TestDatabase, phone};
use crate::system::world::{
    PATIENCE, Setup, TOKEN, World, create, job_to, list_calls, quick_carrier, settings, until,
};

/// The phone of the caller; targets have others.
const CALLER: usize = 1;
/// How long the caller's script lasts, in simulated seconds: half a minute.
const SCRIPT_S: f64 = 3_000.0;

/// A caller on the line.
struct Caller {
    call_id: String,
    sid: String,
}

/// A server, a carrier, and somebody on the line.
async fn on_the_line(database: TestDatabase) -> (World, Caller) {
    let world = World::start(database, Setup::default()).await;
    let caller = caller(&world, SCRIPT_S).await;
    (world, caller)
}

/// The same where everything takes longer: a phone rings for seconds in which a test does
/// something.
async fn slowly_on_the_line(database: TestDatabase) -> (World, Caller) {
    let carrier = simulator::Config { speed: 10.0, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, ..Setup::default() }).await;
    let caller = caller(&world, SCRIPT_S).await;
    (world, caller)
}

/// Rings for longer than anything here takes.
fn endless(n: usize) -> Scripted {
    Scripted { ring_s: Some(11_000.0), ..answers(n) }
}

/// Posts to a webhook of ours, signed with `token`: what is answered.
async fn post(
    world: &World,
    path: &str,
    params: &[(&str, &str)],
    token: Option<&str>,
) -> (StatusCode, String) {
    let params: Vec<(String, String)> =
        params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let url = format!("{}{path}", world.webhooks);
    let signature = token.map(|token| signature::sign(token, &url, &params)).unwrap_or_default();
    let request =
        reqwest::Client::new().post(&url).header("x-twilio-signature", signature).form(&params);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// These, each of whom may ring for two minutes.
fn patient(targets: &[usize]) -> pb::TransferSettings {
    let ring_timeout = Some(prost_types::Duration { seconds: 120, nanos: 0 });
    pb::TransferSettings { ring_timeout, ..to(targets) }
}

/// A callee of a run of ours who answered, and listens for this long.
async fn caller(world: &World, script_s: f64) -> Caller {
    let person = Scripted { talk_s: Some(script_s), ..answers(CALLER) };
    world.carrier.simulator.script(person).unwrap();
    let run = create(&world.queue(), settings(), vec![job_to(phone(CALLER).expose())]).await;
    let answered = async || {
        let calls = list_calls(&world.queue(), &run).await;
        calls.first().is_some_and(|call| call.state() == CallState::Answered)
    };
    until("the caller's answer", answered).await;
    let call = list_calls(&world.queue(), &run).await.remove(0);
    Caller { call_id: call.call_id, sid: call.call_sid }
}

/// Somebody who answers after a second and talks for twenty.
fn answers(n: usize) -> Scripted {
    Scripted {
        to: phone(n),
        outcome: Some(Outcome::Answered),
        fault: None,
        ring_s: Some(1.0),
        talk_s: Some(20.0),
        hang_up_after_s: None,
        presses: Vec::new(),
        times: 1,
    }
}

fn comes_to(n: usize, outcome: Outcome) -> Scripted {
    Scripted { outcome: Some(outcome), ..answers(n) }
}

/// Somebody who presses a key when asked, and talks when called again.
fn presses(n: usize, digits: &str) -> [Scripted; 2] {
    let press = Press { digits: digits.into(), after_s: 1.0 };
    [Scripted { presses: vec![press], talk_s: Some(2.0), ..answers(n) }, answers(n)]
}

fn people(world: &World, people: impl IntoIterator<Item = Scripted>) {
    people.into_iter().for_each(|person| world.carrier.simulator.script(person).unwrap());
}

/// Requests to move a caller whose document contains `part` are refused, for good.
fn refuse(world: &World, part: Option<&str>) {
    spoil(world, part, 1_000, Some(400), Some(21_218));
}

fn spoil(
    world: &World,
    part: Option<&str>,
    times: u32,
    http_status: Option<u16>,
    code: Option<u32>,
) {
    let fault = RequestFault {
        on: RequestKind::Redirect,
        contains: part.map(str::to_owned),
        times,
        http_status,
        code,
        reset: http_status.is_none(),
        slow_ms: 0,
        after: false,
    };
    world.carrier.simulator.spoil(fault).unwrap();
}

/// The next update with `part` is carried out at once, and answered later.
fn slow(world: &World, part: &str, slow_ms: u32) {
    let fault = RequestFault {
        contains: Some(part.into()),
        slow_ms,
        ..RequestFault::new(RequestKind::Redirect)
    };
    world.carrier.simulator.spoil(fault).unwrap();
}

fn to(targets: &[usize]) -> pb::TransferSettings {
    let targets = targets.iter().map(|n| phone(*n).expose().to_owned()).collect();
    pb::TransferSettings { targets, ..Default::default() }
}

async fn start(world: &World, caller: &Caller, settings: pb::TransferSettings) -> Transfer {
    let call = Some(pb::start_transfer_request::Call::CallId(caller.call_id.clone()));
    let request = pb::StartTransferRequest { call, settings: Some(settings), ..Default::default() };
    world
        .client
        .transfers
        .clone()
        .start_transfer(request)
        .await
        .unwrap()
        .into_inner()
        .transfer
        .unwrap()
}

async fn open(
    world: &World,
    caller: pb::open_incident_request::Caller,
    settings: pb::TransferSettings,
) -> Transfer {
    let request = pb::OpenIncidentRequest {
        incident_id: uuid::Uuid::new_v4().to_string(),
        caller: Some(caller),
        settings: Some(pb::TransferSettings {
            facts: "A pipe burst & water runs.".into(),
            ..settings
        }),
        ..Default::default()
    };
    world
        .client
        .transfers
        .clone()
        .open_incident(request)
        .await
        .unwrap()
        .into_inner()
        .transfer
        .unwrap()
}

async fn get(world: &World, id: &str) -> Transfer {
    let request = pb::GetTransferRequest { transfer_id: id.into() };
    world
        .client
        .transfers
        .clone()
        .get_transfer(request)
        .await
        .unwrap()
        .into_inner()
        .transfer
        .unwrap()
}

/// Watches a transfer to its end: as it stands then, and all its events.
async fn ended(world: &World, id: &str) -> (Transfer, Vec<EventKind>) {
    // From its first event on: with a token like those that the server gives.
    let mut request = pb::WatchTransferRequest { transfer_id: id.into(), ..Default::default() };
    let mut client = world.client.transfers.clone();
    let first =
        client.watch_transfer(request.clone()).await.unwrap().into_inner().message().await.unwrap();
    let mut cursor: Cursor = first.unwrap().resume_token.parse().unwrap();
    cursor.revision = 0;
    request.resume_token = cursor.to_string();
    let mut stream = client.watch_transfer(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut last = 0;
    let watching = async {
        while let Some(update) = stream.message().await.unwrap() {
            match update.kind.unwrap() {
                Kind::Snapshot(_) => panic!("a snapshot after a token"),
                Kind::Bookmark(_) => continue,
                Kind::Events(events) => {
                    assert_eq!(update.revision, last + 1, "a gap");
                    seen.extend(events.events.into_iter().filter_map(|event| event.kind));
                }
            }
            last = update.revision;
        }
    };
    if tokio::time::timeout(PATIENCE, watching).await.is_err() {
        panic!("did not end: {:?}", get(world, id).await);
    }
    let transfer = get(world, id).await;
    assert_ne!(transfer.outcome(), TransferOutcome::Unspecified);
    assert_eq!(transfer.revision, last, "something came after the ending");
    (transfer, seen)
}

/// Those who talked with the caller, as the carrier saw it.
fn bridges(world: &World, caller: &Caller) -> Vec<Bridge> {
    let mut bridges = world.carrier.simulator.ledger().bridges;
    bridges.retain(|bridge| bridge.legs.iter().any(|leg| leg.as_str() == caller.sid));
    bridges
}

/// The state of a call at the carrier.
fn status(world: &World, sid: &str) -> trunkline::domain::call::CarrierStatus {
    let entries = world.carrier.creates();
    entries.iter().find(|entry| entry.sid.as_str() == sid).expect("a call").status
}

async fn hung_up(world: &World, sid: &str) {
    until("the end of a call", async || status(world, sid).is_final()).await;
}

async fn reaches(
    world: &World,
    id: &str,
    what: &str,
    holds: impl Fn(&Transfer) -> bool,
) -> Transfer {
    until(what, async || holds(&get(world, id).await)).await;
    get(world, id).await
}

/// The carrier's queues: their names, and how many wait.
async fn queues(world: &World) -> Vec<(String, i64)> {
    let url = format!("{}/2010-04-01/Accounts/{ACCOUNT}/Queues.json", world.carrier.origin);
    let answer =
        reqwest::Client::new().get(url).basic_auth(ACCOUNT, Some(TOKEN)).send().await.unwrap();
    let page: serde_json::Value = answer.json().await.unwrap();
    let queue = |queue: &serde_json::Value| {
        let name = queue["friendly_name"].as_str().unwrap().to_owned();
        (name, queue["current_size"].as_i64().unwrap())
    };
    page["queues"].as_array().unwrap().iter().map(queue).collect()
}

/// No step was given up, and no queue is left at the carrier.
async fn assert_tidy(world: &World) {
    let request =
        pb::ListTasksRequest { states: vec![pb::TaskState::Dead.into()], ..Default::default() };
    let dead = world.queue().list_tasks(request).await.unwrap().into_inner().tasks;
    assert!(dead.is_empty(), "{dead:?}");
    let ours = async || queues(world).await.iter().all(|(name, _)| !name.starts_with("transfer-"));
    until("the queue's deletion", ours).await;
}
