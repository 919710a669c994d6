//! Servers that are killed in the middle of a transfer: another goes on, there is one ending, and
//! no target is called twice for one intent.

use std::time::Duration;

use tokio::time::timeout;
use trunkline::grpc::pb::transfer_event::Kind as EventKind;
use trunkline::grpc::pb::watch_transfer_response::Kind;
use trunkline::grpc::pb::{self, TransferMethod, TransferOutcome as O};
use trunkline::simulator::{
    self, Asked, Faults, Outcome, Range, RequestFault, RequestKind, Scripted,
};

use super::{Caller, answers, presses, to};
use crate::crash::fleet::Fleet;
use crate::support::{TestDatabase, on_both_databases, phone};
use crate::system::world::{call_id, create, job_to, list_calls, quick_carrier, settings, until};

on_both_databases!(
    killed_while_the_caller_is_being_redirected,
    killed_while_the_caller_is_being_redirected_and_nothing_is_told,
    killed_while_the_target_is_being_called,
    killed_while_the_caller_is_being_moved,
    killed_while_the_caller_is_being_taken_back,
    killed_while_a_responder_is_told,
    killed_after_a_responder_accepted,
);

/// A dead executor's task is taken up half a minute later, and this may happen more than once.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long the carrier holds an answer back, in real milliseconds: long enough to be killed before
/// it.
const SLOW_MS: u32 = 4_000;
/// How long a phone rings while a server dies and comes back: eight real seconds.
const RING_S: f64 = 80.0;
/// Longer than anything here takes, in simulated seconds.
const LONG_S: f64 = 30_000.0;

async fn on_the_line(database: TestDatabase) -> (Fleet, Caller) {
    // Slower than elsewhere: a phone rings for longer than a server takes to come back.
    let carrier = simulator::Config { speed: 10.0, ..quick_carrier() };
    let fleet = Fleet::start(database, 1, carrier, &[], None).await;
    let person = Scripted { talk_s: Some(LONG_S), ..answers(super::CALLER) };
    fleet.carrier.simulator.script(person).unwrap();
    let run =
        create(&fleet.queue(0), settings(), vec![job_to(phone(super::CALLER).expose())]).await;
    let answered = async || {
        let calls = list_calls(&fleet.queue(0), &run).await;
        calls.first().is_some_and(|call| call.state() == pb::CallState::Answered)
    };
    until("the caller's answer", answered).await;
    let call = list_calls(&fleet.queue(0), &run).await.remove(0);
    (fleet, Caller { call_id: call.call_id, sid: call.call_sid })
}

async fn start(fleet: &Fleet, caller: &Caller, warm: bool) -> String {
    let mut client = fleet.client(0).transfers;
    let ring_timeout = Some(prost_types::Duration { seconds: 120, nanos: 0 });
    let settings = Some(pb::TransferSettings { ring_timeout, ..to(&[500]) });
    let call_id = caller.call_id.clone();
    let transfer = if warm {
        let request = pb::OpenIncidentRequest {
            incident_id: uuid::Uuid::new_v4().to_string(),
            caller: Some(pb::open_incident_request::Caller::CallId(call_id)),
            settings,
            ..Default::default()
        };
        client.open_incident(request).await.unwrap().into_inner().transfer
    } else {
        let call = Some(pb::start_transfer_request::Call::CallId(call_id));
        let request = pb::StartTransferRequest { call, settings, ..Default::default() };
        client.start_transfer(request).await.unwrap().into_inner().transfer
    };
    transfer.unwrap().transfer_id
}

async fn get(fleet: &Fleet, id: &str) -> pb::Transfer {
    let request = pb::GetTransferRequest { transfer_id: id.into() };
    fleet.client(0).transfers.get_transfer(request).await.unwrap().into_inner().transfer.unwrap()
}

fn slow(on: RequestKind, contains: Option<&str>) -> RequestFault {
    RequestFault {
        on,
        contains: contains.map(str::to_owned),
        times: 1,
        http_status: None,
        code: None,
        reset: false,
        slow_ms: SLOW_MS,
        after: false,
    }
}

/// Kills the server, and starts it again.
async fn kill(fleet: &mut Fleet) {
    fleet.kill(0).await;
    fleet.restart(0).await;
}

/// Waits for the ending, and judges: it is the log's last word, said once, and no create came
/// twice.
async fn ended(fleet: &Fleet, id: &str) -> pb::Transfer {
    let watching = async {
        let mut endings = 0;
        let request = pb::WatchTransferRequest { transfer_id: id.into(), ..Default::default() };
        let mut stream =
            fleet.client(0).transfers.watch_transfer(request).await.unwrap().into_inner();
        while let Some(update) = stream.message().await.unwrap() {
            if let Some(Kind::Events(events)) = update.kind {
                endings += events
                    .events
                    .iter()
                    .filter(|e| matches!(e.kind, Some(EventKind::Ended(_))))
                    .count();
            }
        }
        endings
    };
    let Ok(endings) = timeout(PATIENCE, watching).await else {
        panic!("did not end: {:?}\n{}", get(fleet, id).await, fleet.server(0).stderr.get());
    };
    assert!(endings <= 1);
    let mut ids: Vec<_> = fleet.carrier.creates().iter().map(call_id).collect();
    let creates = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), creates, "two creates for one intent");
    get(fleet, id).await
}

/// The same, and the two talk.
async fn connected(fleet: &Fleet, id: &str, caller: &Caller) -> pb::Transfer {
    let transfer = ended(fleet, id).await;
    assert_eq!(transfer.outcome(), O::Bridged, "{transfer:?}");
    let talks = async || {
        let bridges = fleet.carrier.simulator.ledger().bridges;
        bridges.iter().any(|bridge| {
            bridge.until_us.is_none() && bridge.legs.iter().any(|leg| leg.as_str() == caller.sid)
        })
    };
    until("the two to talk", talks).await;
    transfer
}

async fn killed_while_the_caller_is_being_redirected(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    // Done at the carrier at once; nobody hears that it was.
    fleet.carrier.simulator.spoil(slow(RequestKind::Redirect, None)).unwrap();
    fleet
        .carrier
        .simulator
        .script(Scripted { talk_s: Some(LONG_S), times: 3, ..answers(500) })
        .unwrap();
    let id = start(&fleet, &caller, false).await;
    until("the redirect", async || !fleet.carrier.simulator.ledger().asked.is_empty()).await;
    kill(&mut fleet).await;
    connected(&fleet, &id, &caller).await;
    assert_eq!(fleet.carrier.simulator.ledger().legs.len(), 1, "the target's phone rang once");
}

/// Nobody is told anything, and still those who talk are not parted.
async fn killed_while_the_caller_is_being_redirected_and_nothing_is_told(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    fleet.carrier.simulator.spoil(slow(RequestKind::Redirect, None)).unwrap();
    fleet.carrier.simulator.set_faults(Faults { callback_lost: 1.0, ..Faults::default() }).unwrap();
    fleet
        .carrier
        .simulator
        .script(Scripted { talk_s: Some(LONG_S), times: 3, ..answers(500) })
        .unwrap();
    let id = start(&fleet, &caller, false).await;
    until("the bridge", async || !fleet.carrier.simulator.ledger().bridges.is_empty()).await;
    kill(&mut fleet).await;
    connected(&fleet, &id, &caller).await;
    let ledger = fleet.carrier.simulator.ledger();
    assert_eq!((ledger.legs.len(), ledger.bridges.len()), (1, 1));
}

/// Updates with this are refused, for good.
fn refuse(fleet: &Fleet, part: &str) {
    let refused = RequestFault {
        times: 1_000,
        http_status: Some(400),
        code: Some(21_218),
        slow_ms: 0,
        ..slow(RequestKind::Redirect, Some(part))
    };
    fleet.carrier.simulator.spoil(refused).unwrap();
}

/// The updates with this that were carried out.
fn done(fleet: &Fleet, part: &str) -> usize {
    let asked = fleet.carrier.simulator.ledger().asked;
    let fits = |asked: &&Asked| {
        asked.done && asked.document.as_ref().is_some_and(|text| text.contains(part))
    };
    asked.iter().filter(fits).count()
}

async fn killed_while_the_caller_is_being_moved(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    refuse(&fleet, "<Number");
    refuse(&fleet, "<Enqueue");
    fleet.carrier.simulator.spoil(slow(RequestKind::Redirect, Some("<Conference"))).unwrap();
    fleet
        .carrier
        .simulator
        .script(Scripted { talk_s: Some(LONG_S), times: 3, ..answers(500) })
        .unwrap();
    let id = start(&fleet, &caller, false).await;
    until("the move", async || done(&fleet, "<Conference") == 1).await;
    kill(&mut fleet).await;
    let transfer = connected(&fleet, &id, &caller).await;
    assert_eq!(transfer.method(), TransferMethod::Conference);
    assert_eq!(
        (done(&fleet, "<Conference"), fleet.carrier.creates().len()),
        (1, 2),
        "nobody parted them"
    );
}

async fn killed_while_the_caller_is_being_taken_back(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    refuse(&fleet, "<Number");
    fleet.carrier.simulator.spoil(slow(RequestKind::Redirect, Some("sorry"))).unwrap();
    fleet
        .carrier
        .simulator
        .script(Scripted { outcome: Some(Outcome::Busy), ..answers(500) })
        .unwrap();
    let id = start(&fleet, &caller, false).await;
    until("the way back", async || done(&fleet, "sorry") == 1).await;
    kill(&mut fleet).await;
    let transfer = ended(&fleet, &id).await;
    assert_eq!(
        (transfer.outcome(), transfer.method()),
        (O::Busy, TransferMethod::Dequeue),
        "{transfer:?}"
    );
    // It may be said twice; nothing else is done to them after it.
    let asked = fleet.carrier.simulator.ledger().asked;
    let last = asked.iter().rfind(|asked| asked.kind == RequestKind::Redirect).unwrap();
    assert!(last.document.as_ref().unwrap().contains("sorry"), "{last:?}");
}

async fn killed_while_the_target_is_being_called(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    refuse(&fleet, "<Number");
    let late = Faults { slow_answer_ms: Range::exactly(f64::from(SLOW_MS)), ..Faults::default() };
    fleet.carrier.simulator.set_faults(late).unwrap();
    let target = Scripted { ring_s: Some(RING_S), talk_s: Some(LONG_S), ..answers(500) };
    fleet.carrier.simulator.script(target).unwrap();
    let id = start(&fleet, &caller, false).await;
    fleet.carrier.accepted(2).await;
    kill(&mut fleet).await;
    let transfer = connected(&fleet, &id, &caller).await;
    assert_eq!(transfer.method(), TransferMethod::Dequeue);
    // The intent that was at the carrier was not sent again: its callbacks told of it.
    assert_eq!(fleet.carrier.creates().len(), 2);
}

async fn killed_while_a_responder_is_told(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    let [mut told, talks] = presses(500, "1");
    told.ring_s = Some(RING_S);
    for person in [told, Scripted { talk_s: Some(LONG_S), times: 3, ..talks }] {
        fleet.carrier.simulator.script(person).unwrap();
    }
    let id = start(&fleet, &caller, true).await;
    fleet.carrier.accepted(2).await;
    kill(&mut fleet).await;
    connected(&fleet, &id, &caller).await;
    assert_eq!(fleet.carrier.creates().len(), 2, "one notification");
}

async fn killed_after_a_responder_accepted(database: TestDatabase) {
    let (mut fleet, caller) = on_the_line(database).await;
    fleet.carrier.simulator.spoil(slow(RequestKind::Redirect, Some("<Number"))).unwrap();
    let [told, talks] = presses(500, "1");
    for person in [told, Scripted { talk_s: Some(LONG_S), times: 3, ..talks }] {
        fleet.carrier.simulator.script(person).unwrap();
    }
    let id = start(&fleet, &caller, true).await;
    let dialed = async || {
        let asked = fleet.carrier.simulator.ledger().asked;
        asked.iter().any(|asked| {
            asked.document.as_ref().is_some_and(|document| document.contains("<Number"))
        })
    };
    until("the redirect", dialed).await;
    kill(&mut fleet).await;
    connected(&fleet, &id, &caller).await;
    assert_eq!(fleet.carrier.creates().len(), 2, "one notification");
}
