//! Pause, cancel and stop while calls are in the air.

use trunkline::domain::call::CarrierStatus;
use trunkline::grpc::pb::{self, CallState, JobState, RunState};
use trunkline::simulator::{Range, Simulator};

use super::world::{
    Setup, World, by_call_id, counts, create, ended, endless_carrier, jobs, list_calls, list_jobs,
    quick_carrier, run, settings, state, until,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(a_pause_lets_nothing_through, a_cancel_lets_calls_finish, a_stop_hangs_up,);

/// Calls that are all answered and take about half a second.
fn talking() -> trunkline::simulator::Config {
    trunkline::simulator::Config {
        outcomes: trunkline::simulator::Outcomes::ALL_ANSWERED,
        ring_s: Range::exactly(10.0),
        talk_s: Range::exactly(40.0),
        ..quick_carrier()
    }
}

fn creates(simulator: &Simulator) -> usize {
    simulator.ledger().entries.len()
}

async fn a_pause_lets_nothing_through(database: TestDatabase) {
    let world = World::start(database, Setup { carrier: talking(), ..Setup::default() }).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..48)).await;
    for at in [6, 20] {
        world.carrier.accepted(at).await;
        let pause = pb::PauseRunRequest { run_id: run_id.clone(), ..Default::default() };
        let paused = queue.clone().pause_run(pause).await.unwrap().into_inner();
        let at_return = creates(&world.carrier.simulator);
        assert_eq!(state(&paused.run.unwrap()), RunState::Paused);
        assert_eq!(paused.in_flight.unwrap().intent, 0);
        assert!(at_return < 48, "too late to be a test");
        until("calls in flight to end", async || {
            let counts = counts(&run(&queue, &run_id).await);
            counts.dialing + counts.in_call == 0
        })
        .await;
        world.carrier.settled().await;
        assert_eq!(
            creates(&world.carrier.simulator),
            at_return,
            "dialed after the pause had returned"
        );
        assert_eq!(counts(&run(&queue, &run_id).await).completed, at_return as i64);
        let resume = pb::ResumeRunRequest { run_id: run_id.clone(), ..Default::default() };
        queue.clone().resume_run(resume).await.unwrap();
    }
    let run = ended(&queue, &run_id).await;
    assert_eq!((state(&run), counts(&run).completed), (RunState::Completed, 48));
    assert_eq!(by_call_id(world.carrier.creates()).len(), 48);
    world.stop().await;
}

async fn a_cancel_lets_calls_finish(database: TestDatabase) {
    let world = World::start(database, Setup { carrier: talking(), ..Setup::default() }).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..48)).await;
    world.carrier.accepted(10).await;
    let cancel = pb::CancelRunRequest { run_id: run_id.clone(), ..Default::default() };
    let canceled = queue.clone().cancel_run(cancel).await.unwrap().into_inner();
    let at_return = creates(&world.carrier.simulator);
    assert_eq!(canceled.in_flight.unwrap().intent, 0);
    assert_eq!(counts(&canceled.run.unwrap()).queued, 0);
    let run = ended(&queue, &run_id).await;
    world.carrier.settled().await;
    assert_eq!(
        creates(&world.carrier.simulator),
        at_return,
        "dialed after the cancel had returned"
    );
    let found = counts(&run);
    assert_eq!(state(&run), RunState::Canceled);
    assert_eq!((found.completed, found.canceled), (at_return as i64, 48 - at_return as i64));
    assert!(world.carrier.creates().iter().all(|entry| entry.status == CarrierStatus::Completed));
    world.stop().await;
}

async fn a_stop_hangs_up(database: TestDatabase) {
    let world =
        World::start(database, Setup { carrier: endless_carrier(), ..Setup::default() }).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..20)).await;
    world.carrier.accepted(8).await;
    let stop = pb::StopRunRequest { run_id: run_id.clone(), ..Default::default() };
    let stopped = queue.clone().stop_run(stop).await.unwrap().into_inner();
    assert_eq!(state(&stopped.run.unwrap()), RunState::Stopping);
    let run = ended(&queue, &run_id).await;
    assert_eq!(state(&run), RunState::Stopped);
    assert_eq!((world.carrier.simulator.live_calls(), creates(&world.carrier.simulator)), (0, 8));
    let found = counts(&run);
    assert_eq!((found.total, found.completed + found.canceled, found.failed), (20, 20, 0));
    assert!(found.canceled >= 12, "{found:?}");
    let calls = list_calls(&queue, &run_id).await;
    assert!(
        calls.iter().all(|call| matches!(call.state(), CallState::Completed | CallState::Canceled))
    );
    let jobs = list_jobs(&queue, &run_id).await;
    assert!(jobs.iter().all(|job| matches!(job.state(), JobState::Completed | JobState::Canceled)));
    world.stop().await;
}
