//! Callers who are gone, callbacks that are forged or come again, and input that is wrong.

use reqwest::StatusCode;
use tonic::Code;
use trunkline::grpc::pb::{self, TransferMethod, TransferOutcome as O, TransferState};

use super::*;
use crate::support::{ACCOUNT, on_both_databases};
use crate::system::world::TOKEN;

on_both_databases!(
    a_caller_who_is_gone_is_not_transferred,
    a_caller_who_hangs_up_while_it_rings_ends_it,
    a_caller_who_hangs_up_on_the_other_ways_ends_it,
    a_race_with_the_caller_is_resolved_by_asking,
    forged_callbacks_are_refused_and_replayed_ones_change_nothing,
    wrong_input_is_named,
);

async fn refused(world: &World, caller: &Caller, settings: pb::TransferSettings) -> tonic::Status {
    let call = Some(pb::start_transfer_request::Call::CallSid(caller.sid.clone()));
    let request = pb::StartTransferRequest { call, settings: Some(settings), ..Default::default() };
    world.client.transfers.clone().start_transfer(request).await.unwrap_err()
}

async fn a_caller_who_is_gone_is_not_transferred(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    assert!(world.carrier.simulator.hang_up(&caller.sid.parse().unwrap()));
    let over = async || {
        let by = Some(pb::get_call_request::By::CallSid(caller.sid.clone()));
        let call = world
            .queue()
            .get_call(pb::GetCallRequest { by })
            .await
            .unwrap()
            .into_inner()
            .call
            .unwrap();
        call.end_time.is_some()
    };
    until("the end of the call", over).await;
    let status = refused(&world, &caller, to(&[500])).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(world.carrier.simulator.ledger().asked.len(), 0);
    world.stop().await;
}

async fn a_caller_who_hangs_up_while_it_rings_ends_it(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    people(&world, [endless(500)]);
    let started = start(&world, &caller, patient(&[500])).await;
    let ringing = |transfer: &pb::Transfer| transfer.state() == TransferState::Ringing;
    reaches(&world, &started.transfer_id, "ringing", ringing).await;
    world.carrier.simulator.hang_up(&caller.sid.parse().unwrap());
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!((transfer.outcome(), transfer.method()), (O::CallerGone, TransferMethod::Redirect));
    world.carrier.settled().await;
    assert!(bridges(&world, &caller).is_empty());
    world.stop().await;
}

/// The other ways: the target is called by us, and is not left ringing for nobody.
async fn a_caller_who_hangs_up_on_the_other_ways_ends_it(database: TestDatabase) {
    let (world, first) = slowly_on_the_line(database).await;
    refuse(&world, Some("<Number"));
    for method in [TransferMethod::Dequeue, TransferMethod::Conference] {
        let caller = match method {
            TransferMethod::Dequeue => {
                Caller { call_id: first.call_id.clone(), sid: first.sid.clone() }
            }
            _ => {
                refuse(&world, Some("<Enqueue"));
                caller(&world, SCRIPT_S).await
            }
        };
        people(&world, [endless(500)]);
        let started = start(&world, &caller, patient(&[500])).await;
        let called = |transfer: &pb::Transfer| !transfer.target_call_id.is_empty();
        let called = reaches(&world, &started.transfer_id, "a call to the target", called).await;
        world.carrier.simulator.hang_up(&caller.sid.parse().unwrap());
        let (transfer, _) = ended(&world, &started.transfer_id).await;
        assert_eq!((transfer.outcome(), transfer.method()), (O::CallerGone, method));
        world.carrier.settled().await;
        let by = Some(pb::get_call_request::By::CallId(called.target_call_id));
        let leg = world
            .queue()
            .get_call(pb::GetCallRequest { by })
            .await
            .unwrap()
            .into_inner()
            .call
            .unwrap();
        assert!(leg.end_time.is_some() && leg.answer_time.is_none(), "{leg:?}");
        assert!(bridges(&world, &caller).is_empty());
    }
    world.stop().await;
}

async fn a_race_with_the_caller_is_resolved_by_asking(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    // The carrier says that the call is not in progress, and it is.
    spoil(&world, None, 1, Some(400), Some(21_220));
    people(&world, [answers(500)]);
    let started = start(&world, &caller, to(&[500])).await;
    let (transfer, _) = ended(&world, &started.transfer_id).await;
    assert_eq!(transfer.outcome(), O::Bridged);
    world.stop().await;
}

async fn forged_callbacks_are_refused_and_replayed_ones_change_nothing(database: TestDatabase) {
    let (world, caller) = slowly_on_the_line(database).await;
    people(&world, [endless(500)]);
    let started = start(&world, &caller, patient(&[500, 501])).await;
    let id = started.transfer_id;
    let rings = |transfer: &pb::Transfer| transfer.state() == TransferState::Ringing;
    let ringing = reaches(&world, &id, "ringing", rings).await;
    let base = format!("/twilio/transfers/acme/{id}");
    let busy = [
        ("CallSid", caller.sid.as_str()),
        ("AccountSid", ACCOUNT),
        ("CallStatus", "in-progress"),
        ("DialCallStatus", "busy"),
    ];
    for (path, token) in [
        (format!("{base}/dial/0"), None),
        (format!("{base}/dial/0"), Some("guess")),
        (format!("{base}/child/0"), Some("guess")),
        (format!("{base}/nonsense"), Some(TOKEN)),
        (format!("/twilio/transfers/other/{id}/dial/0"), Some(TOKEN)),
        (format!("/twilio/transfers/acme/{}/dial/0", uuid::Uuid::nil()), Some(TOKEN)),
    ] {
        assert_eq!(
            post(&world, &path, &busy, token).await.0,
            StatusCode::FORBIDDEN,
            "{path} {token:?}"
        );
    }
    assert_eq!(get(&world, &id).await.revision, ringing.revision);
    // Honestly signed it is believed, once.
    let (status, first) = post(&world, &format!("{base}/dial/0"), &busy, Some(TOKEN)).await;
    assert!(status.is_success() && first.contains(phone(501).expose()), "{first}");
    let moved = get(&world, &id).await;
    assert_eq!(moved.target, 1);
    let (_, again) = post(&world, &format!("{base}/dial/0"), &busy, Some(TOKEN)).await;
    assert_eq!(again, first, "the same question has the same answer");
    assert_eq!(get(&world, &id).await.revision, moved.revision);
    let answered =
        [("CallSid", caller.sid.as_str()), ("AccountSid", ACCOUNT), ("CallStatus", "in-progress")];
    for _ in 0..2 {
        let (status, _) = post(&world, &format!("{base}/child/1"), &answered, Some(TOKEN)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let bridged = get(&world, &id).await;
    assert_eq!((bridged.outcome(), bridged.revision), (O::Bridged, moved.revision + 1));
    world.stop().await;
}

async fn wrong_input_is_named(database: TestDatabase) {
    let (world, caller) = on_the_line(database).await;
    let own = phone(CALLER).expose().to_owned();
    for settings in [
        to(&[]),
        pb::TransferSettings { targets: vec!["12".into()], ..Default::default() },
        pb::TransferSettings { targets: vec![own], ..Default::default() },
        pb::TransferSettings { caller_id: phone(9).expose().into(), ..to(&[500]) },
        pb::TransferSettings { facts: "for incidents".into(), ..to(&[500]) },
    ] {
        let status = refused(&world, &caller, settings).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(!status.message().contains("+1"), "{status}");
    }
    let settings = Some(to(&[500]));
    let of = Some(pb::open_incident_request::Caller::CallId(caller.call_id.clone()));
    let request = pb::OpenIncidentRequest {
        incident_id: "7".into(),
        caller: of,
        settings: settings.clone(),
        ..Default::default()
    };
    let status = world.client.transfers.clone().open_incident(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let nobody = Caller { call_id: String::new(), sid: format!("CA{:032}", 7) };
    assert_eq!(refused(&world, &nobody, to(&[500])).await.code(), Code::NotFound);
    assert_eq!(world.carrier.simulator.ledger().asked.len(), 0);
    world.stop().await;
}
