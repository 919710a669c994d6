//! A run from start to end, judged from the carrier's side, call by call.

use std::collections::HashMap;

use trunkline::domain::call::CarrierStatus;
use trunkline::grpc::pb::{self, CallState, JobState, RunState};
use trunkline::simulator::{Entry, Faults, Range, ledger};

use super::world::{
    PACE_TOLERANCE, PATIENCE, Setup, World, by_call_id, call_id, counts, create, ended,
    ended_within, jobs, list_calls, list_jobs, quick_carrier, retrying, settings, state,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(
    two_runs_dial_through_everything,
    callbacks_overtake_the_answer,
    callbacks_come_twice_and_out_of_order,
    lost_callbacks_are_made_up_for,
);

/// What the carrier's status makes of a call and of a job whose last attempt it was.
fn expected(status: CarrierStatus) -> (CallState, JobState) {
    match status {
        CarrierStatus::Completed => (CallState::Completed, JobState::Completed),
        CarrierStatus::Busy => (CallState::Busy, JobState::Failed),
        CarrierStatus::NoAnswer => (CallState::NoAnswer, JobState::Failed),
        CarrierStatus::Failed => (CallState::Failed, JobState::Failed),
        CarrierStatus::Queued
        | CarrierStatus::Initiated
        | CarrierStatus::Ringing
        | CarrierStatus::InProgress
        | CarrierStatus::Canceled => panic!("not an ending here: {status:?}"),
    }
}

/// Every call and job of an ended run is as the carrier's ledger says.
pub async fn assert_as_in_ledger(world: &World, run_id: &str) {
    world.carrier.settled().await;
    let calls = list_calls(&world.queue(), run_id).await;
    let ledger = by_call_id(world.carrier.creates());
    let mut last: HashMap<&str, &pb::Call> = HashMap::new();
    for call in &calls {
        let entry = &ledger[&call.call_id];
        assert_eq!(call.state(), expected(entry.status).0, "call {}", call.call_id);
        assert_eq!(
            (call.call_sid.as_str(), call.to.as_str()),
            (entry.sid.as_str(), entry.to.expose())
        );
        let duration = call.duration.map(|duration| duration.seconds);
        assert_eq!(
            duration.unwrap_or(0),
            i64::from(entry.duration_s.unwrap_or(0)),
            "call {}",
            call.call_id
        );
        assert_eq!(call.answer_time.is_some(), call.state() == CallState::Completed);
        let newest = last.entry(&call.job_id).or_insert(call);
        if newest.attempt < call.attempt {
            *newest = call;
        }
    }
    let jobs = list_jobs(&world.queue(), run_id).await;
    let mut found = pb::JobCounts { total: jobs.len() as i64, ..Default::default() };
    for job in &jobs {
        let call = last[job.job_id.as_str()];
        let (_, job_state) = expected(ledger[&call.call_id].status);
        assert_eq!((job.state(), job.attempt), (job_state, call.attempt), "job {}", job.job_id);
        assert_eq!(
            calls.iter().filter(|call| call.job_id == job.job_id).count(),
            job.attempts_used as usize
        );
        *if job_state == JobState::Completed { &mut found.completed } else { &mut found.failed } +=
            1;
    }
    assert_eq!(counts(&super::world::run(&world.queue(), run_id).await), found);
}

fn peak_of(entries: &[Entry], calls: &[pb::Call]) -> usize {
    let of_run = |entry: &&Entry| calls.iter().any(|call| call.call_id == call_id(entry));
    let span = |entry: &Entry| (entry.arrived_monotonic_us, entry.ended_monotonic_us);
    ledger::peak_concurrency(entries.iter().filter(of_run).map(span))
}

async fn two_runs_dial_through_everything(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let queue = world.queue();
    let narrow = pb::RunSettings { concurrency: 4, ..retrying() };
    let narrow = create(&queue, narrow, jobs(0..40)).await;
    let wide = create(&queue, retrying(), jobs(40..64)).await;
    for run_id in [&narrow, &wide] {
        assert_eq!(state(&ended(&queue, run_id).await), RunState::Completed);
        assert_as_in_ledger(&world, run_id).await;
    }
    let ledger = world.carrier.simulator.ledger();
    let calls = [list_calls(&queue, &narrow).await, list_calls(&queue, &wide).await];
    assert_eq!(
        ledger.entries.len(),
        calls[0].len() + calls[1].len(),
        "each create is a call of ours"
    );
    assert!(ledger.entries.len() > 64, "nothing was tried again");
    assert_eq!(ledger.duplicates_by(|entry| Some(entry.sid.clone())).len(), 0);
    assert!(ledger.peak_concurrency() <= 8, "{}", ledger.peak_concurrency());
    assert!(peak_of(&ledger.entries, &calls[0]) <= 4);
    assert_eq!(ledger.pace_violations(40.0, PACE_TOLERANCE), []);
    assert!(ledger.refused.is_empty() && ledger.callbacks_failed == 0, "{:?}", ledger.refused);
    world.stop().await;
}

async fn callbacks_overtake_the_answer(database: TestDatabase) {
    // A whole call takes 30 ms here.
    let faults = Faults { slow_answer_ms: Range::exactly(300.0), ..Faults::default() };
    let carrier = trunkline::simulator::Config { faults, speed: 900.0, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, ..Setup::default() }).await;
    let run_id = create(&world.queue(), settings(), jobs(0..24)).await;
    assert_eq!(state(&ended(&world.queue(), &run_id).await), RunState::Completed);
    assert_as_in_ledger(&world, &run_id).await;
    assert_eq!(world.carrier.creates().len(), 24);
    world.stop().await;
}

async fn callbacks_come_twice_and_out_of_order(database: TestDatabase) {
    let faults = Faults {
        callback_duplicated: 0.5,
        callback_reordered: 0.5,
        callback_delay_ms: Range { min: 0.0, max: 30.0 },
        ..Faults::default()
    };
    let carrier = trunkline::simulator::Config { faults, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, ..Setup::default() }).await;
    let run_id = create(&world.queue(), retrying(), jobs(0..24)).await;
    assert_eq!(state(&ended(&world.queue(), &run_id).await), RunState::Completed);
    assert_as_in_ledger(&world, &run_id).await;
    world.stop().await;
}

/// Lost callbacks are normal: fetching the call is the repair. Those that come are late, twice, out
/// of order, and many of them before the answer to the create.
async fn lost_callbacks_are_made_up_for(database: TestDatabase) {
    let faults = Faults {
        callback_lost: 0.3,
        callback_duplicated: 0.3,
        callback_reordered: 0.3,
        callback_delay_ms: Range { min: 0.0, max: 400.0 },
        slow_answer_ms: Range { min: 0.0, max: 600.0 },
        ..Faults::default()
    };
    let carrier = trunkline::simulator::Config { faults, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, concurrent: 24, ..Setup::default() }).await;
    let run_id = create(&world.queue(), settings(), jobs(0..24)).await;
    // The carrier is asked 30 s to 60 s after the last news, so this takes longer than other runs.
    assert_eq!(
        state(&ended_within(&world.queue(), &run_id, 3 * PATIENCE).await),
        RunState::Completed
    );
    assert_as_in_ledger(&world, &run_id).await;
    world.stop().await;
}
