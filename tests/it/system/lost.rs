//! Answers that were lost: what was created is found and followed, what was not is given up, nothing is sent twice.

use std::time::Duration;

use trunkline::domain::call::STALE_NO_CALL_SID;
use trunkline::grpc::pb::{CallState, Outcome, RunState};
use trunkline::simulator::{CreateFault, Faults, Scripted};

use super::world::{
    PATIENCE, Setup, World, create, ended_within, job_to, jobs, list_calls, list_jobs, quick_carrier,
    settings, state, until,
};
use crate::support::{TestDatabase, on_both_databases, phone};

on_both_databases!(lost_answers_are_resolved, a_dead_carrier_is_left_alone);

/// Not a single callback comes, so the list of calls is all there is to go by.
async fn lost_answers_are_resolved(database: TestDatabase) {
    let faults = Faults { callback_lost: 1.0, ..Faults::default() };
    let carrier = trunkline::simulator::Config { faults, ..quick_carrier() };
    let world = World::start(database, Setup { carrier, ..Setup::default() }).await;
    let ways = [
        (CreateFault::Lost, true),
        (CreateFault::Error500After, true),
        (CreateFault::Error500Before, false),
        (CreateFault::ResetBefore, false),
    ];
    for (n, (fault, _)) in ways.into_iter().enumerate() {
        let scripted = Scripted { fault: Some(fault), ..Scripted::new(phone(n)) };
        world.carrier.simulator.script(scripted).unwrap();
    }
    let whom = (0..ways.len()).map(|n| job_to(phone(n).expose())).collect();
    let run_id = create(&world.queue(), settings(), whom).await;
    // Nothing is given up sooner than a minute after its intent.
    let run = ended_within(&world.queue(), &run_id, 3 * PATIENCE).await;
    assert_eq!(state(&run), RunState::Completed);
    let calls = list_calls(&world.queue(), &run_id).await;
    assert_eq!(calls.len(), ways.len(), "none was sent again");
    assert_eq!(world.carrier.creates().len(), 2);
    let jobs = list_jobs(&world.queue(), &run_id).await;
    for (n, (fault, created)) in ways.into_iter().enumerate() {
        let call = calls.iter().find(|call| call.to == phone(n).expose()).unwrap();
        let job = jobs.iter().find(|job| job.job_id == call.job_id).unwrap();
        assert_eq!(call.call_sid.is_empty(), !created, "{fault:?}");
        assert_eq!(job.outcome() == Outcome::Unknown, !created, "{fault:?}");
        if !created {
            assert_eq!((call.state(), call.error_code.as_str()), (CallState::Failed, STALE_NO_CALL_SID));
            assert!(!call.error_message.is_empty());
        }
    }
    world.stop().await;
}

/// The circuit breaker: after a row of failures next to nothing is claimed, and no attempt is used.
async fn a_dead_carrier_is_left_alone(database: TestDatabase) {
    let setup = Setup { carrier_listens: false, ..Setup::default() };
    let mut world = World::start(database, setup).await;
    let run_id = create(&world.queue(), settings(), jobs(0..40)).await;
    let refused = async || list_calls(&world.queue(), &run_id).await.len();
    until("the breaker to open", async || refused().await >= 5).await;
    // What was claimed before it opened comes in.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, since) = (refused().await, tokio::time::Instant::now());
    // Without a breaker, forty jobs would come back every five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let probes = refused().await - before;
    assert!(
        probes <= 1 + since.elapsed().as_secs() as usize / 10,
        "{probes} calls within {:?}",
        since.elapsed()
    );
    world.carrier.listen();
    let run = ended_within(&world.queue(), &run_id, 2 * PATIENCE).await;
    assert_eq!(state(&run), RunState::Completed);
    assert!(list_jobs(&world.queue(), &run_id).await.iter().all(|job| job.attempts_used == 1));
    world.stop().await;
}
