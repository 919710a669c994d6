//! The server is told to end in the middle of dialing, and another takes over. For ends that nobody
//! is told of see `crash`.

use std::time::Duration;

use tonic::Code;
use trunkline::carrier::{self, Account, Client, Credential, UpdateCall};
use trunkline::domain::call::{CallState, CarrierStatus};
use trunkline::domain::{RunId, Timestamp};
use trunkline::grpc::pb::{RunState, WatchView};
use trunkline::simulator::{Config, Faults, Range};
use trunkline::store::{CallView, CallsOf, Page, Store};

use super::child::Site;
use super::world::{
    Carrier, TENANT, TOKEN, by_call_id, counts, create, ended, endless_carrier, jobs, settings,
    state, watch,
};
use crate::support::{ACCOUNT, TestDatabase, on_both_databases, tenant_id};

on_both_databases!(a_drain_finishes_what_it_began);

const LEADS: usize = 36;

/// Calls last until we hang up, so that none ends while no server hears of it; answers take their
/// time, so that there are always some outstanding.
fn carrier() -> Carrier {
    let faults = Faults { slow_answer_ms: Range { min: 50.0, max: 250.0 }, ..Faults::default() };
    let mut carrier = Carrier::new(Config { faults, ..endless_carrier() });
    carrier.listen();
    carrier
}

/// Hangs up whoever talks, until dropped.
async fn hang_up_all(carrier: &Carrier) {
    let config =
        carrier::Config { base_url: carrier.origin.parse().unwrap(), ..carrier::Config::default() };
    let client = Client::new(config).unwrap();
    let credential = Credential { username: ACCOUNT.into(), password: TOKEN.into() };
    let account = Account { sid: ACCOUNT.parse().unwrap(), credential };
    loop {
        for entry in
            carrier.creates().iter().filter(|entry| entry.status == CarrierStatus::InProgress)
        {
            client.update_call(&account, &entry.sid, &UpdateCall::Hangup).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The calls as they are on disk, while no server runs.
async fn calls_at_rest(database: &TestDatabase, run_id: &str) -> Vec<CallView> {
    let engine = Store::open(&database.url).await.unwrap();
    let run_id: RunId = run_id.parse().unwrap();
    let page = Page { size: 1_000, after: None };
    engine.list_calls(&tenant_id(TENANT), CallsOf::Run(run_id), page).await.unwrap().items
}

async fn a_drain_finishes_what_it_began(database: TestDatabase) {
    let carrier = carrier();
    let site = Site::new(database, &carrier);
    let server = site.serve();
    let key = server.first_key().await;
    let client = site.client(&key).await;
    let run_id = create(&client.queue, settings(), jobs(0..LEADS)).await;
    let mut watching = watch(&client.queue, &run_id, "", WatchView::Full).await;
    carrier.accepted(5).await;
    let told = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    server.terminate();
    let cut = loop {
        match watching.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a watch of a live run ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unavailable, "{cut}");
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let at_exit = carrier.creates();
    assert!(at_exit.len() < LEADS, "too late to be a test");
    // Only what was claimed before the signal, which is a quarter of a second ahead at most.
    let last = at_exit.iter().map(|entry| entry.arrived_at_us).max().unwrap();
    assert!(
        last < told + Duration::from_secs(5),
        "{} µs after the signal",
        last.micros() - told.micros()
    );
    let calls = calls_at_rest(&site.database, &run_id).await;
    assert_eq!(calls.len(), at_exit.len(), "what was claimed was sent, and nothing else");
    let ledger = by_call_id(at_exit.clone());
    for call in calls {
        assert!(
            !matches!(call.call.state, CallState::Intent | CallState::Unknown),
            "{:?}",
            call.call
        );
        assert_eq!(call.call.sid.as_ref(), Some(&ledger[&call.id.to_string()].sid));
    }
    assert_eq!(carrier.creates().len(), at_exit.len(), "a create from beyond the grave");

    let server = site.serve();
    let client = site.client(&key).await;
    let run = tokio::select! {
        run = ended(&client.queue, &run_id) => run,
        () = hang_up_all(&carrier) => unreachable!(),
    };
    assert_eq!((state(&run), counts(&run).completed), (RunState::Completed, LEADS as i64));
    assert_eq!(by_call_id(carrier.creates()).len(), LEADS);
    assert!(carrier.simulator.ledger().peak_concurrency() <= 12);
    assert_eq!(server.stdout.get(), "", "a key is shown once");
    server.terminate();
    assert_eq!(server.ended().await.0.code(), Some(0));
}
