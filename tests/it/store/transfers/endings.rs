//! Who is awaited joins, who waits is served first, and every transfer ends once.

use super::*;
use crate::store::assert_claims_nothing;

on_both_stores!(
    an_awaited_caller_joins,
    what_hears_nothing_ends,
    a_transfer_waiting_for_a_slot_comes_before_jobs,
    logs_have_no_gaps,
);

async fn an_awaited_caller_joins(test: TestStore) {
    let store = &test.store;
    let (tenant, _) = with_callers(store, 0, 9).await;
    let incident = new(Mode::Warm, Caller::Awaited(phone(7)), &[500]);
    let opened = store.start_transfer(&tenant, incident.clone(), None).await.unwrap();
    assert_eq!(opened.transfer.caller, None);
    let twice = store.start_transfer(&tenant, incident, None).await.unwrap_err();
    assert!(matches!(twice, Error::Exists("incident")), "{twice:?}");
    let inbound = |n: usize, from: usize| InboundCall {
        sid: format!("CA{n:032}").parse().unwrap(),
        account: ACCOUNT.parse().unwrap(),
        from: Some(phone(from)),
        to: "+15005550006".parse().unwrap(),
    };
    assert_eq!(store.join_awaited(&tenant, &inbound(1, 8)).await.unwrap(), None);
    let joined = store.join_awaited(&tenant, &inbound(2, 7)).await.unwrap().unwrap();
    let call = store.call_by_sid(&tenant, &inbound(2, 7).sid).await.unwrap();
    assert_eq!((joined.id, joined.transfer.caller), (opened.id, Some(call.id)));
    // The answer to that was lost: who asks again is told the same.
    let again = store.join_awaited(&tenant, &inbound(2, 7)).await.unwrap();
    assert_eq!(again, Some(joined));
    // One caller is enough.
    assert_eq!(store.join_awaited(&tenant, &inbound(3, 7)).await.unwrap(), None);
    let told = store.transfer_fact(&tenant, opened.id, Fact::CallerWaits).await.unwrap();
    assert!(told.transfer.progress.held);
}

async fn what_hears_nothing_ends(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let started = start(store, &tenant, Mode::Direct, calls[0], &[500]).await;
    // Somebody looks at it at its deadline, whatever else is lost.
    let tasks = store.list_tasks(&tenant, &[], PAGE).await.unwrap().items;
    let looks: Vec<_> =
        tasks.iter().filter(|task| task.kind == "transfer_step").map(|task| task.run_at).collect();
    assert!(looks.contains(&started.transfer.progress.deadline), "{looks:?}");
    let mut view = started;
    for _ in 0..20 {
        view = store.transfer_fact(&tenant, view.id, Fact::Begun).await.unwrap();
        view = store.transfer_fact(&tenant, view.id, Fact::Timeout).await.unwrap();
    }
    assert!(view.transfer.state().is_ended(), "{view:?}");
}

async fn a_transfer_waiting_for_a_slot_comes_before_jobs(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 2, 2).await;
    let (_, task) = falling_back(store, &tenant, calls[0], &[500]).await;
    let full = store.transfer_leg(&task, Purpose::Queue, &worker("t"), HORIZON).await.unwrap();
    assert!(matches!(full, LegIntent::Later(_)), "{full:?}");
    store.create_run(&tenant, new_run(settings(), 10..12), None).await.unwrap();
    store.apply(&tenant, &[status(calls[1], CarrierStatus::Completed, 3)]).await.unwrap();
    // The slot that came free is the transfer's.
    assert_claims_nothing(store).await;
    leg(store, &task, Purpose::Queue).await;
}

async fn logs_have_no_gaps(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let id = start(store, &tenant, Mode::Direct, calls[0], &[500]).await.id;
    for fact in [
        Fact::Begun,
        Fact::Begun,
        Fact::Done(Action::Redirect),
        Fact::ChildAnswered(0),
        Fact::CallerEnded,
    ] {
        store.transfer_fact(&tenant, id, fact).await.unwrap();
    }
    let log = store.transfer_commits_after(&tenant, id, 0, 100).await.unwrap();
    assert_eq!((log.oldest, log.latest, log.ended), (1, 4, true));
    let revisions: Vec<_> =
        log.commits.iter().map(|commit| (commit.revision, commit.state)).collect();
    assert_eq!(
        revisions,
        [(1, State::Requested), (2, State::Redirecting), (3, State::Ringing), (4, State::Bridged)]
    );
    assert_eq!(log.commits[0].events, [Event::Created { mode: Mode::Direct, targets: 1 }]);
    let last = Event::Ended { state: State::Bridged, outcome: Outcome::Bridged };
    assert_eq!(log.commits[3].events, [last]);
    let rest = store.transfer_commits_after(&tenant, id, 2, 1).await.unwrap();
    assert_eq!(rest.commits, log.commits[2..3]);
}
