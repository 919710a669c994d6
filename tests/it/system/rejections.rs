//! What the carrier refuses, and a carrier that is not there.

use std::time::Duration;

use trunkline::grpc::pb::{CallState, JobState, Outcome, ResumeRunRequest, RunState};
use trunkline::simulator::{CreateFault, Scripted};

use super::world::{
    Setup, World, counts, create, ended, job_to, jobs, list_calls, list_jobs, retrying, run,
    settings, state, until,
};
use crate::support::{TestDatabase, on_both_databases, phone};

on_both_databases!(
    magic_numbers_end_as_what_they_are,
    wrong_credentials_pause_the_run,
    nobody_at_the_carrier_costs_no_attempt,
    too_many_requests_cost_no_attempt,
);

async fn magic_numbers_end_as_what_they_are(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let queue = world.queue();
    let magic = [
        ("+15005550001", "21217", Outcome::LeadDead),
        ("+15005550002", "21214", Outcome::LeadDead),
        ("+15005550003", "21215", Outcome::PolicyBlock),
        ("+15005550004", "21216", Outcome::PolicyBlock),
    ];
    // Even a policy that tries everything again does not try these again.
    let run_id = create(&queue, retrying(), magic.map(|(phone, ..)| job_to(phone)).into()).await;
    let run = ended(&queue, &run_id).await;
    assert_eq!((state(&run), counts(&run).failed), (RunState::Completed, 4));
    let jobs = list_jobs(&queue, &run_id).await;
    let calls = list_calls(&queue, &run_id).await;
    assert_eq!(calls.len(), 4, "one attempt each");
    for (phone, code, outcome) in magic {
        let call = calls.iter().find(|call| call.to == phone).unwrap();
        assert_eq!((call.state(), call.error_code.as_str()), (CallState::Failed, code));
        assert!(
            call.call_sid.is_empty() && !call.error_message.contains(phone),
            "{}",
            call.error_message
        );
        let job = jobs.iter().find(|job| job.job_id == call.job_id).unwrap();
        assert_eq!((job.state(), job.outcome(), job.attempts_used), (JobState::Failed, outcome, 1));
    }
    assert!(world.carrier.creates().is_empty());
    world.stop().await;
}

async fn wrong_credentials_pause_the_run(database: TestDatabase) {
    let setup = Setup {
        tweak: |config| config.twilio.auth_token = Some("0ff0ff0ff0ff0ff0ff0ff0ff0ff0ff0f".into()),
        ..Setup::default()
    };
    let world = World::start(database, setup).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..12)).await;
    for _ in 0..2 {
        until("the run to pause", async || {
            let run = run(&queue, &run_id).await;
            state(&run) == RunState::Paused && counts(&run).dialing == 0
        })
        .await;
        let paused = run(&queue, &run_id).await;
        assert!(paused.last_error.contains("20003"), "{}", paused.last_error);
        assert!(!paused.last_error.contains("0ff0ff"));
        assert_eq!(counts(&paused).queued, 12, "nothing is lost");
        assert!(list_jobs(&queue, &run_id).await.iter().all(|job| job.attempts_used == 0));
        let resume = ResumeRunRequest { run_id: run_id.clone(), ..Default::default() };
        let resumed = queue.clone().resume_run(resume).await.unwrap().into_inner().run.unwrap();
        assert_eq!(resumed.last_error, "");
    }
    assert!(world.carrier.creates().is_empty());
    world.stop().await;
}

async fn nobody_at_the_carrier_costs_no_attempt(database: TestDatabase) {
    let mut world =
        World::start(database, Setup { carrier_listens: false, ..Setup::default() }).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..10)).await;
    // Everybody was tried, nobody was reached.
    until("every job to be tried and to be back", async || {
        let back = |job: &_| -> bool {
            let job: &trunkline::grpc::pb::Job = job;
            job.attempt > 0 && job.state() == JobState::Queued
        };
        list_jobs(&queue, &run_id).await.iter().all(back)
    })
    .await;
    let jobs = list_jobs(&queue, &run_id).await;
    assert!(jobs.iter().all(|job| job.attempts_used == 0));
    for call in list_calls(&queue, &run_id).await {
        assert_eq!((call.state(), call.error_code.as_str()), (CallState::Failed, "not_sent"));
    }
    assert_eq!(state(&run(&queue, &run_id).await), RunState::Running);
    world.carrier.listen();
    let run = ended(&queue, &run_id).await;
    assert_eq!(
        (state(&run), counts(&run).completed + counts(&run).failed),
        (RunState::Completed, 10)
    );
    assert!(list_jobs(&queue, &run_id).await.iter().all(|job| job.attempts_used == 1));
    assert_eq!(world.carrier.creates().len(), 10);
    tokio::time::timeout(Duration::from_secs(60), world.stop()).await.unwrap();
}

/// The carrier says "too many requests" once to each; the run allows a single attempt.
async fn too_many_requests_cost_no_attempt(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let queue = world.queue();
    for n in 0..6 {
        let refused = Scripted { fault: Some(CreateFault::TooMany), ..Scripted::new(phone(n)) };
        world.carrier.simulator.script(refused).unwrap();
    }
    let run_id = create(&queue, settings(), jobs(0..6)).await;
    let run = ended(&queue, &run_id).await;
    assert_eq!((state(&run), run.last_error.as_str()), (RunState::Completed, ""));
    for job in list_jobs(&queue, &run_id).await {
        assert_eq!((job.attempt, job.attempts_used), (2, 1), "{:?}", job.outcome());
    }
    let calls = list_calls(&queue, &run_id).await;
    let refused: Vec<_> = calls.iter().filter(|call| call.call_sid.is_empty()).collect();
    assert_eq!((calls.len(), refused.len(), world.carrier.creates().len()), (12, 6, 6));
    assert!(refused.iter().all(|call| call.error_code == "20429"));
    world.stop().await;
}
