//! Answering machines: hung up on, left a message, or taken for people.

use trunkline::grpc::pb::answering_machine_detection::OnMachine;
use trunkline::grpc::pb::{
    AnsweredBy, AnsweringMachineDetection, JobState, Outcome, RunSettings, RunState,
};
use trunkline::simulator::{Outcomes, Range};

use super::world::{
    Setup, World, create, ended, endless_carrier, jobs, list_calls, list_jobs, quick_carrier,
    settings, state,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(
    machines_are_hung_up_on,
    machines_are_left_a_message,
    machines_are_taken_for_people
);

fn everything_is_a_machine(config: trunkline::simulator::Config) -> Setup {
    let machines = Outcomes { answered: 0.0, machine: 1.0, busy: 0.0, no_answer: 0.0, failed: 0.0 };
    Setup {
        carrier: trunkline::simulator::Config { outcomes: machines, ..config },
        ..Setup::default()
    }
}

fn on_machine(on_machine: OnMachine) -> RunSettings {
    let message = (on_machine == OnMachine::LeaveMessage).then(|| settings().script.unwrap());
    let amd =
        AnsweringMachineDetection { on_machine: on_machine.into(), message, ..Default::default() };
    RunSettings { amd: Some(amd), ..settings() }
}

async fn assert_outcome(world: &World, run_id: &str, state_of_jobs: JobState, outcome: Outcome) {
    assert_eq!(state(&ended(&world.queue(), run_id).await), RunState::Completed);
    for job in list_jobs(&world.queue(), run_id).await {
        assert_eq!((job.state(), job.outcome()), (state_of_jobs, outcome));
    }
    for call in list_calls(&world.queue(), run_id).await {
        assert_ne!(call.answered_by(), AnsweredBy::Unspecified);
        assert_ne!(call.answered_by(), AnsweredBy::Human);
    }
}

/// They would talk for ever, so it is we who hang up.
async fn machines_are_hung_up_on(database: TestDatabase) {
    let world = World::start(database, everything_is_a_machine(endless_carrier())).await;
    let run_id = create(&world.queue(), on_machine(OnMachine::HangUp), jobs(0..6)).await;
    assert_outcome(&world, &run_id, JobState::Failed, Outcome::Machine).await;
    world.stop().await;
}

async fn machines_are_left_a_message(database: TestDatabase) {
    let carrier = trunkline::simulator::Config { talk_s: Range::exactly(500.0), ..quick_carrier() };
    let world = World::start(database, everything_is_a_machine(carrier)).await;
    let run_id = create(&world.queue(), on_machine(OnMachine::LeaveMessage), jobs(0..4)).await;
    assert_outcome(&world, &run_id, JobState::Completed, Outcome::Machine).await;
    world.stop().await;
}

async fn machines_are_taken_for_people(database: TestDatabase) {
    // Longer than a detection takes, whatever the machine is busy with.
    let carrier = trunkline::simulator::Config { talk_s: Range::exactly(200.0), ..quick_carrier() };
    let world = World::start(database, everything_is_a_machine(carrier)).await;
    let run_id = create(&world.queue(), on_machine(OnMachine::TreatAsAnswered), jobs(0..4)).await;
    assert_outcome(&world, &run_id, JobState::Completed, Outcome::Answered).await;
    world.stop().await;
}
