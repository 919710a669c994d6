//! Answers that were lost: what was created is found and followed, what was not is given up,
//! nothing is sent twice.

use trunkline::domain::call::STALE_NO_CALL_SID;
use trunkline::grpc::pb::dialing_blocked::Reason;
use trunkline::grpc::pb::{self, CallState, Outcome, RunState};
use trunkline::simulator::{CreateFault, Faults, Scripted};

use super::world::{
    PATIENCE, Setup, World, create, ended_within, job_to, jobs, list_calls, list_jobs,
    quick_carrier, run, settings, state, until,
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
            assert_eq!(
                (call.state(), call.error_code.as_str()),
                (CallState::Failed, STALE_NO_CALL_SID)
            );
            assert!(!call.error_message.is_empty());
        }
    }
    world.stop().await;
}

/// The circuit breaker: after a row of failures nothing is claimed but a probe now and then, and no
/// attempt is used. Without a breaker, all jobs would come back every five seconds.
async fn a_dead_carrier_is_left_alone(database: TestDatabase) {
    let setup = Setup { carrier_listens: false, ..Setup::default() };
    let mut world = World::start(database, setup).await;
    let run_id = create(&world.queue(), settings(), jobs(0..200)).await;
    // Between two probes it is open.
    until("everybody to see it", async || {
        run(&world.queue(), &run_id).await.dialing_blocked.is_some()
    })
    .await;
    let blocked =
        run(&world.queue(), &run_id).await.dialing_blocked.expect("the carrier is still not there");
    assert!(blocked.reason() != Reason::Unspecified && blocked.until_time.is_some(), "{blocked:?}");
    until("the breaker to open, and two probes", async || {
        pauses(&list_calls(&world.queue(), &run_id).await).len() >= 2
    })
    .await;
    let calls = list_calls(&world.queue(), &run_id).await;
    assert!(calls.len() < 200, "{} calls before the breaker opened", calls.len());
    // From the first pause on there is one call at a time, each after a pause of its own.
    let first = pauses(&calls)[0];
    assert_eq!(pauses(&calls).len(), calls.len() - first, "more than probes");
    assert!(list_jobs(&world.queue(), &run_id).await.iter().all(|job| job.attempts_used == 0));
    world.carrier.listen();
    let run = ended_within(&world.queue(), &run_id, 2 * PATIENCE).await;
    assert_eq!((state(&run), run.dialing_blocked), (RunState::Completed, None));
    assert!(list_jobs(&world.queue(), &run_id).await.iter().all(|job| job.attempts_used == 1));
    world.stop().await;
}

/// Which of the calls, in the order of their claims, came later after the one before than a breaker
/// is open, but for a second: its claim was under way when it opened.
fn pauses(calls: &[pb::Call]) -> Vec<usize> {
    let micros = |call: &pb::Call| {
        let at = call.create_time.as_ref().expect("every call has one");
        at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000
    };
    let mut claimed: Vec<i64> = calls.iter().map(micros).collect();
    claimed.sort_unstable();
    (1..claimed.len()).filter(|n| claimed[*n] - claimed[n - 1] >= 9_000_000).collect()
}
