//! What the carrier asks in bad moments: while the database is away, while we do something else to
//! the call.

use trunkline::grpc::pb::{self, TransferMethod, TransferOutcome as O, TransferState};
use trunkline::simulator::Asked;

use super::*;
use crate::support::raw::Raw;
use crate::support::{ACCOUNT, on_both_databases};
use crate::system::world::TOKEN;

on_both_databases!(
    while_the_database_is_away_it_takes_a_moment,
    the_end_of_the_conference_is_no_dead_end,
    an_update_of_ours_is_not_the_end_of_another,
);

/// What the carrier is answered that asks `what` about a caller who is still there.
async fn ask(world: &World, caller: &Caller, path: &str, what: &[(&str, &str)]) -> String {
    let mut params = vec![
        ("CallSid", caller.sid.as_str()),
        ("AccountSid", ACCOUNT),
        ("CallStatus", "in-progress"),
    ];
    params.extend(what);
    let (status, answer) = post(world, path, &params, Some(TOKEN)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

async fn asked_to(world: &World, part: &str) {
    let asked = async || {
        let asked = world.carrier.simulator.ledger().asked;
        asked
            .iter()
            .any(|asked| asked.document.as_ref().is_some_and(|document| document.contains(part)))
    };
    until("an update", asked).await;
}

async fn while_the_database_is_away_it_takes_a_moment(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    people(&world, [endless(500)]);
    let id = start(&world, &caller, patient(&[500, 501])).await.transfer_id;
    reaches(&world, &id, "ringing", |transfer| transfer.state() == TransferState::Ringing).await;
    let path = format!("/twilio/transfers/acme/{id}/dial/0");
    let mut lock = Raw::connect(&world.database.url).await;
    let begin = if world.database.url.starts_with("sqlite") {
        "BEGIN IMMEDIATE"
    } else {
        "BEGIN; LOCK TABLE transfers"
    };
    lock.execute(begin).await;
    let mut answer = ask(&world, &caller, &path, &[("DialCallStatus", "busy")]).await;
    // Said again while it lasts, and what was told goes along.
    for moment in 1..=2 {
        assert!(answer.contains("One moment") && answer.contains("<Redirect"), "{answer}");
        let query = format!("?moment={moment}&amp;DialCallStatus=busy");
        assert!(answer.contains(&query), "{answer}");
        if moment == 2 {
            lock.execute("ROLLBACK").await;
        }
        answer = ask(&world, &caller, &format!("{path}{}", query.replace("&amp;", "&")), &[]).await;
    }
    assert!(
        answer.contains(phone(501).expose()),
        "the next target, as if nothing had been: {answer}"
    );
    assert_eq!(get(&world, &id).await.target, 1);
    // Not for ever.
    lock.execute(begin).await;
    let last =
        ask(&world, &caller, &format!("{path}?moment=5"), &[("DialCallStatus", "busy")]).await;
    assert!(last.contains("sorry") && last.contains("<Hangup"), "{last}");
    lock.execute("ROLLBACK").await;
    world.stop().await;
}

async fn the_end_of_the_conference_is_no_dead_end(database: TestDatabase) {
    let (world, first) = slowly_on_the_line(database).await;
    refuse(&world, Some("<Number"));
    refuse(&world, Some("<Enqueue"));
    // The carrier's answer to the move comes late: the conference is over before it is known to
    // have begun.
    slow(&world, "<Conference", 5_000);
    people(&world, [answers(500), answers(500)]);
    let id = start(&world, &first, patient(&[500])).await.transfer_id;
    asked_to(&world, "<Conference").await;
    let goodbye = ask(&world, &first, &format!("/twilio/transfers/acme/{id}/over"), &[]).await;
    assert!(goodbye.contains("<Hangup") && !goodbye.contains("sorry"), "{goodbye}");
    let (talked, _) = ended(&world, &id).await;
    assert_eq!((talked.outcome(), talked.method()), (O::Bridged, TransferMethod::Conference));
    world.stop().await;
}

async fn an_update_of_ours_is_not_the_end_of_another(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    refuse(&world, Some("<Number"));
    slow(&world, "sorry", 10_000);
    people(&world, [endless(500)]);
    let id = start(&world, &caller, patient(&[500])).await.transfer_id;
    let called = |transfer: &pb::Transfer| !transfer.target_call_id.is_empty();
    reaches(&world, &id, "a call to the target", called).await;
    let request = pb::CancelTransferRequest { transfer_id: id.clone(), ..Default::default() };
    world.client.transfers.clone().cancel_transfer(request).await.unwrap();
    // Late news of an update before that one took the caller out of the queue: it is not said of
    // which.
    let redirected = [("QueueResult", "redirected")];
    let silence =
        ask(&world, &caller, &format!("/twilio/transfers/acme/{id}/queue"), &redirected).await;
    assert!(!silence.contains("<Hangup") && !silence.contains("<Say"), "{silence}");
    assert_eq!(get(&world, &id).await.outcome(), O::Unspecified, "they are not back yet");
    assert_eq!(ended(&world, &id).await.0.outcome(), O::Canceled);
    let asked = world.carrier.simulator.ledger().asked;
    let back =
        |asked: &&Asked| asked.document.as_ref().is_some_and(|document| document.contains("sorry"));
    assert_eq!(asked.iter().filter(back).map(|asked| asked.done).collect::<Vec<_>>(), [true]);
    world.stop().await;
}
