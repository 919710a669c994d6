//! Answers of the carrier that come late or never: what was done is found out, and not done again.

use trunkline::domain::call::CarrierStatus;
use trunkline::grpc::pb::{TransferMethod, TransferOutcome as O};
use trunkline::simulator::{Ledger, RequestFault, RequestKind, Scripted, Via};

use super::*;
use crate::support::on_both_databases;

on_both_databases!(
    a_slow_refusal_is_followed_by_the_next_way_at_once,
    a_redirect_whose_answer_was_lost_is_not_repeated,
    a_move_whose_answer_was_lost_is_not_repeated,
    a_move_whose_answer_hangs_is_looked_for,
);

/// The next update with `part` is carried out, and nobody hears of it.
fn lose(world: &World, part: &str) {
    let fault = RequestFault {
        contains: Some(part.into()),
        reset: true,
        after: true,
        ..RequestFault::new(RequestKind::Redirect)
    };
    world.carrier.simulator.spoil(fault).unwrap();
}

/// How many updates of the caller's call were carried out.
fn moved(ledger: &Ledger) -> usize {
    ledger.asked.iter().filter(|asked| asked.kind == RequestKind::Redirect && asked.done).count()
}

/// Somebody who talks for longer than anything here takes.
fn talks(n: usize) -> Scripted {
    Scripted { talk_s: Some(80_000.0), ..answers(n) }
}

async fn a_slow_refusal_is_followed_by_the_next_way_at_once(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    let fault = RequestFault {
        contains: Some("<Number".into()),
        http_status: Some(400),
        code: Some(21_218),
        slow_ms: 6_000,
        ..RequestFault::new(RequestKind::Redirect)
    };
    world.carrier.simulator.spoil(fault).unwrap();
    people(&world, [talks(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Dequeue));
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    world.stop().await;
}

async fn a_redirect_whose_answer_was_lost_is_not_repeated(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    lose(&world, "<Number");
    // It rings for two seconds: a repetition would come in the midst of that.
    let target = || Scripted { ring_s: Some(20.0), ..talks(500) };
    people(&world, [target(), target()]);
    let started = start(&world, &caller, patient(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Redirect));
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    let ledger = world.carrier.simulator.ledger();
    assert_eq!((ledger.legs.len(), moved(&ledger)), (1, 1), "the target's phone rang once");
    assert_eq!(bridges(&world, &caller)[0].until_us, None, "and nobody parted them");
    world.stop().await;
}

async fn a_move_whose_answer_was_lost_is_not_repeated(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, Some("<Number"));
    refuse(&world, Some("<Enqueue"));
    lose(&world, "<Conference");
    people(&world, [talks(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Conference));
    until("the bridge", async || bridges(&world, &caller).len() == 1).await;
    assert_eq!(moved(&world.carrier.simulator.ledger()), 1);
    let bridge = bridges(&world, &caller).remove(0);
    assert_eq!((bridge.via, bridge.until_us), (Via::Conference, None));
    assert_eq!(status(&world, &caller.sid), CarrierStatus::InProgress);
    world.stop().await;
}

/// Longer than the saga waits for an answer: what it would do next would part the two.
async fn a_move_whose_answer_hangs_is_looked_for(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    refuse(&world, Some("<Number"));
    refuse(&world, Some("<Enqueue"));
    slow(&world, "<Conference", 20_000);
    people(&world, [talks(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::Bridged, TransferMethod::Conference));
    assert_eq!(moved(&world.carrier.simulator.ledger()), 1);
    assert_eq!(bridges(&world, &caller)[0].until_us, None);
    world.stop().await;
}
