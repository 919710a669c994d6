//! Transfers: one live one for each caller, intents of calls to targets, exactly one ending.

mod endings;

use std::time::{Duration, Instant};

use trunkline::domain::call::{CallState, CarrierStatus, Direction, News};
use trunkline::domain::task::{Lane, TaskKind};
use trunkline::domain::transfer::{
    Action, DialEnd, Event, Fact, Miss, Mode, OnFailure, Outcome, Phase, Purpose,
    RING_TIMEOUT_DEFAULT_S, Rejection, Settings, State, Step, StepError,
};
use trunkline::domain::{CallId, IncidentId, TenantId, TransferId};
use trunkline::store::{
    ACTING_MAX, Advanced, Caller, Error, InboundCall, LegCall, LegIntent, NewTransfer, Page,
    RequestKey, Store, Task, TransferView,
};
use uuid::Uuid;

use super::{FAST, claim_n, sid, status};
use crate::support::{
    ACCOUNT, TestStore, make_tenant, new_run, on_both_stores, phone, settings, worker,
};

on_both_stores!(
    a_redirect_is_followed_to_its_one_ending,
    one_caller_has_one_live_transfer,
    only_live_calls_of_ones_own_are_transferred,
    a_request_id_starts_one_transfer,
    a_leg_is_a_live_call_under_the_tenants_limits,
    news_of_calls_moves_the_saga,
    a_leg_of_no_use_is_hung_up,
    whoever_is_at_the_carrier_is_alone_there,
    what_a_dead_executor_began_is_looked_at_first,
);

const PAGE: Page = Page { size: 100, after: None };
const HORIZON: Duration = Duration::from_millis(250);
const HOLDS: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(10);

fn to(targets: &[usize]) -> Settings {
    Settings {
        targets: targets.iter().map(|n| phone(*n)).collect(),
        caller_id: None,
        announcement: None,
        facts: None,
        hold_audio_url: None,
        ring_timeout_s: RING_TIMEOUT_DEFAULT_S,
        on_failure: OnFailure::Apologize { text: None },
    }
}

pub(super) fn new(mode: Mode, caller: Caller, targets: &[usize]) -> NewTransfer {
    let incident = (mode == Mode::Warm).then(|| IncidentId(Uuid::new_v4()));
    NewTransfer { mode, incident, caller, settings: to(targets) }
}

/// A tenant with `n` people on the line.
pub(super) async fn with_callers(store: &Store, n: usize, slots: u32) -> (TenantId, Vec<CallId>) {
    let tenant = make_tenant(store, "acme", slots, FAST).await;
    store.create_run(&tenant, new_run(settings(), 0..n), None).await.unwrap();
    let calls: Vec<CallId> = claim_n(store, n).await.iter().map(|call| call.call_id).collect();
    assert_eq!(calls.len(), n);
    for call in &calls {
        let news = [
            (*call, News::Submitted { sid: sid(*call) }),
            status(*call, CarrierStatus::InProgress, 2),
        ];
        store.apply(&tenant, &news).await.unwrap();
    }
    (tenant, calls)
}

async fn start(
    store: &Store,
    tenant: &TenantId,
    mode: Mode,
    caller: CallId,
    targets: &[usize],
) -> TransferView {
    store.start_transfer(tenant, new(mode, Caller::Call(caller), targets), None).await.unwrap()
}

/// The next due task about a transfer.
async fn step(store: &Store) -> Task {
    let end = Instant::now() + PATIENCE;
    loop {
        let claimed = store.claim_tasks(&worker("t"), Lane::Transfers, 1, HOLDS).await.unwrap();
        if let Some(task) =
            claimed.tasks.into_iter().find(|task| task.kind == TaskKind::TransferStep)
        {
            return task;
        }
        assert!(Instant::now() < end, "no task about a transfer became due");
        tokio::time::sleep(claimed.next_in.unwrap_or_default().min(Duration::from_millis(10)))
            .await;
    }
}

async fn advance(store: &Store, fact: Option<Fact>) -> Advanced {
    let task = step(store).await;
    let advanced = store.advance_transfer(&task, fact, true).await.unwrap();
    store.finish_task(&task, None).await.unwrap();
    advanced
}

async fn leg(store: &Store, task: &Task, purpose: Purpose) -> LegCall {
    match store.transfer_leg(task, purpose, &worker("t"), HORIZON).await.unwrap() {
        LegIntent::Call(leg) => leg,
        other => panic!("{other:?}"),
    }
}

fn error() -> StepError {
    StepError { code: "21220".into(), class: "rejected".into() }
}

async fn a_redirect_is_followed_to_its_one_ending(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let started = start(store, &tenant, Mode::Direct, calls[0], &[500]).await;
    assert_eq!((started.transfer.state(), started.revision), (State::Requested, 1));
    assert_eq!(started.transfer.settings.caller_id.as_ref().unwrap().expose(), "+15005550006");
    let task = step(store).await;
    let first = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!(
        (first.step, first.view.transfer.state()),
        (Step::Act(Action::Redirect), State::Redirecting)
    );
    assert_eq!(first.caller.unwrap().sid, sid(calls[0]));
    let second =
        store.advance_transfer(&task, Some(Fact::Done(Action::Redirect)), true).await.unwrap();
    assert_eq!((second.step, second.view.transfer.state()), (Step::Wait, State::Ringing));
    store.finish_task(&task, None).await.unwrap();
    let bridged = store.transfer_fact(&tenant, started.id, Fact::ChildAnswered(0)).await.unwrap();
    assert_eq!(bridged.transfer.outcome(), Some(Outcome::Bridged));
    assert!(bridged.ended_at.is_some());
    // Nothing ends it again, and nothing is added to its log.
    for fact in [
        Fact::CallerEnded,
        Fact::ChildEnded(0, DialEnd::Missed(Miss::Busy)),
        Fact::Timeout,
        Fact::Refused(Action::Redirect, error()),
    ] {
        let after = store.transfer_fact(&tenant, started.id, fact).await.unwrap();
        assert_eq!(
            (after.transfer.outcome(), after.revision),
            (Some(Outcome::Bridged), bridged.revision)
        );
    }
    let refused = store.cancel_transfer(&tenant, started.id, None).await.unwrap_err();
    assert!(matches!(refused, Error::Transfer(Rejection::Ended)), "{refused:?}");
    assert_eq!(store.transfer(&tenant, started.id).await.unwrap(), bridged);
    let listed = store.list_transfers(&tenant, &[State::Bridged], PAGE).await.unwrap().items;
    assert_eq!(listed, [bridged]);
    assert!(store.list_transfers(&tenant, &[State::Failed], PAGE).await.unwrap().items.is_empty());
}

async fn one_caller_has_one_live_transfer(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let ask =
        || store.start_transfer(&tenant, new(Mode::Direct, Caller::Call(calls[0]), &[500]), None);
    let (one, other) = tokio::join!(ask(), ask());
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    let won = won.unwrap();
    assert!(matches!(lost.unwrap_err(), Error::Transfer(Rejection::InTransfer)));
    // Once it is over there may be another.
    store.cancel_transfer(&tenant, won.id, None).await.unwrap();
    ask().await.unwrap();
}

async fn only_live_calls_of_ones_own_are_transferred(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 2, 9).await;
    let other = make_tenant(store, "other", 9, FAST).await;
    let ask = |tenant: TenantId, caller, targets: &'static [usize]| async move {
        store.start_transfer(&tenant, new(Mode::Direct, caller, targets), None).await.unwrap_err()
    };
    let theirs = ask(other.clone(), Caller::Call(calls[0]), &[500]).await;
    assert!(matches!(theirs, Error::NotFound("call")), "{theirs:?}");
    let theirs = ask(other.clone(), Caller::Sid(sid(calls[0])), &[500]).await;
    assert!(matches!(theirs, Error::NotFound("call")), "{theirs:?}");
    store.apply(&tenant, &[status(calls[1], CarrierStatus::Completed, 3)]).await.unwrap();
    let gone = ask(tenant.clone(), Caller::Sid(sid(calls[1])), &[500]).await;
    assert!(matches!(gone, Error::Transfer(Rejection::CallerGone)), "{gone:?}");
    let own = store.call(&tenant, calls[0]).await.unwrap().to;
    let n = (0..2).find(|n| phone(*n) == own).unwrap();
    let oneself =
        ask(tenant.clone(), Caller::Call(calls[0]), if n == 0 { &[500, 0] } else { &[500, 1] })
            .await;
    assert!(matches!(&oneself, Error::Invalid(it) if it.field == "targets[1]"), "{oneself:?}");
    let wrong = NewTransfer {
        settings: Settings { caller_id: Some(phone(77)), ..to(&[500]) },
        ..new(Mode::Direct, Caller::Call(calls[0]), &[])
    };
    let wrong = store.start_transfer(&tenant, wrong, None).await.unwrap_err();
    assert!(matches!(&wrong, Error::Invalid(it) if it.field == "caller_id"), "{wrong:?}");
    let started = start(store, &tenant, Mode::Direct, calls[0], &[500]).await;
    assert!(matches!(store.transfer(&other, started.id).await, Err(Error::NotFound("transfer"))));
    assert!(matches!(
        store.cancel_transfer(&other, started.id, None).await,
        Err(Error::NotFound("transfer"))
    ));
    let fact = store.transfer_fact(&other, started.id, Fact::CallerEnded).await;
    assert!(matches!(fact, Err(Error::NotFound("transfer"))));
}

async fn a_request_id_starts_one_transfer(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let key =
        RequestKey { method: "StartTransfer", request_id: "one".into(), payload_hash: [1; 32] };
    let ask = || {
        store.start_transfer(
            &tenant,
            new(Mode::Direct, Caller::Call(calls[0]), &[500]),
            Some(key.clone()),
        )
    };
    let first = ask().await.unwrap();
    assert_eq!(ask().await.unwrap().id, first.id);
    assert_eq!(store.list_transfers(&tenant, &[], PAGE).await.unwrap().items.len(), 1);
}

/// A transfer whose target is to be called, and the task about it.
async fn falling_back(
    store: &Store,
    tenant: &TenantId,
    caller: CallId,
    targets: &[usize],
) -> (TransferId, Task) {
    let id = start(store, tenant, Mode::Direct, caller, targets).await.id;
    let task = step(store).await;
    store.advance_transfer(&task, None, true).await.unwrap();
    let refused = Fact::Refused(Action::Redirect, error());
    let next = store.advance_transfer(&task, Some(refused), true).await.unwrap();
    assert_eq!(
        (next.step, next.view.transfer.state()),
        (Step::Act(Action::Enqueue), State::Dequeuing)
    );
    let next =
        store.advance_transfer(&task, Some(Fact::Done(Action::Enqueue)), true).await.unwrap();
    assert_eq!(next.step, Step::Call(Purpose::Queue));
    (id, task)
}

async fn a_leg_is_a_live_call_under_the_tenants_limits(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 2).await;
    let (id, task) = falling_back(store, &tenant, calls[0], &[500]).await;
    let wrong = store.transfer_leg(&task, Purpose::Notify, &worker("t"), HORIZON).await.unwrap();
    assert_eq!(wrong, LegIntent::Stale);
    let call = leg(store, &task, Purpose::Queue).await;
    assert_eq!((call.to.clone(), call.from.expose()), (phone(500), "+15005550006"));
    let row = store.call(&tenant, call.call_id).await.unwrap();
    assert_eq!((row.direction, row.transfer_id, row.run_id), (Direction::Transfer, Some(id), None));
    assert_eq!(row.call.state, CallState::Intent);
    // There is one call to the target, however often somebody asks.
    let again = store.transfer_leg(&task, Purpose::Queue, &worker("t"), HORIZON).await.unwrap();
    assert_eq!(again, LegIntent::Stale);
    // Both slots are taken now: the caller's, and the target's.
    store.create_run(&tenant, new_run(settings(), 10..11), None).await.unwrap();
    super::assert_claims_nothing(store).await;
    // Its worker is gone: like any intent it is unknown then, and never sent.
    assert_eq!(store.lose_abandoned_intents(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(store.call(&tenant, call.call_id).await.unwrap().call.state, CallState::Unknown);
}

async fn news_of_calls_moves_the_saga(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let (id, task) = falling_back(store, &tenant, calls[0], &[500, 501]).await;
    let first = leg(store, &task, Purpose::Queue).await.call_id;
    store.finish_task(&task, None).await.unwrap();
    store.apply(&tenant, &[(first, News::Submitted { sid: sid(first) })]).await.unwrap();
    advance(store, None).await;
    store.apply(&tenant, &[status(first, CarrierStatus::Busy, 3)]).await.unwrap();
    let task = step(store).await;
    let next = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((next.step, next.view.transfer.progress.target), (Step::Call(Purpose::Queue), 1));
    let second = leg(store, &task, Purpose::Queue).await.call_id;
    store.finish_task(&task, None).await.unwrap();
    let answered = [
        (second, News::Submitted { sid: sid(second) }),
        status(second, CarrierStatus::InProgress, 2),
    ];
    store.apply(&tenant, &answered).await.unwrap();
    assert!(advance(store, None).await.view.transfer.progress.leg_answered);
    // The caller hangs up.
    store.apply(&tenant, &[status(calls[0], CarrierStatus::Completed, 3)]).await.unwrap();
    let gone = advance(store, None).await;
    assert_eq!(
        (gone.step, gone.view.transfer.outcome()),
        (Step::Nothing, Some(Outcome::CallerGone))
    );
    assert_eq!(store.transfer(&tenant, id).await.unwrap().transfer.state(), State::CallerGone);
    // The target is nobody's lead; the caller is.
    let leads = store.list_leads(&tenant, &Default::default(), PAGE).await.unwrap().items;
    assert!(
        leads.iter().all(|lead| lead.facts.phone != phone(500) && lead.facts.phone != phone(501))
    );
}

async fn a_leg_of_no_use_is_hung_up(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let (id, task) = falling_back(store, &tenant, calls[0], &[500]).await;
    let call = leg(store, &task, Purpose::Queue).await.call_id;
    let canceled = store.cancel_transfer(&tenant, id, None).await.unwrap();
    // The caller waits in the queue, and is taken back before it is over.
    assert_eq!(
        (canceled.transfer.progress.phase, canceled.transfer.outcome()),
        (Phase::Return, None)
    );
    // It has no SID yet: hung up as soon as it has.
    assert!(store.take_hangups(10).await.unwrap().is_empty());
    store.apply(&tenant, &[(call, News::Submitted { sid: sid(call) })]).await.unwrap();
    // Whom a transfer calls is nobody's lead.
    let nobody = store.lead_from_call(&tenant, &sid(call)).await;
    assert!(matches!(nobody, Err(Error::NotFound(_))), "{nobody:?}");
    let hangups = store.take_hangups(10).await.unwrap();
    assert_eq!(
        hangups.iter().map(|hangup| (hangup.call_id, hangup.message.is_none())).collect::<Vec<_>>(),
        [(call, true)]
    );
    let over = store.transfer_fact(&tenant, id, Fact::Done(Action::Return)).await.unwrap();
    assert_eq!(over.transfer.outcome(), Some(Outcome::Canceled));
    // Asking again is answered as before.
    assert_eq!(store.cancel_transfer(&tenant, id, None).await.unwrap(), over);
}

async fn whoever_is_at_the_carrier_is_alone_there(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 1, 9).await;
    let id = start(store, &tenant, Mode::Direct, calls[0], &[500]).await.id;
    let task = step(store).await;
    // Who cannot act any more takes nothing away from others.
    for may_act in [false, true] {
        let told = store.advance_transfer(&task, None, may_act).await.unwrap();
        assert_eq!((told.step, told.later, told.again), (Step::Act(Action::Redirect), None, false));
    }
    // Somebody else comes by, and is to look again when whoever is there may be dead.
    let other = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((other.step, other.again), (Step::Wait, false));
    assert!(
        other.later.is_some_and(|later| later > ACTING_MAX / 2 && later <= ACTING_MAX),
        "{other:?}"
    );
    // A callback overtakes the answer to the request; the fact that comes late changes nothing.
    store.transfer_fact(&tenant, id, Fact::ChildRings(0)).await.unwrap();
    let late = store
        .advance_transfer(&task, Some(Fact::Refused(Action::Redirect, error())), true)
        .await
        .unwrap();
    assert_eq!((late.step, late.view.transfer.state()), (Step::Wait, State::Ringing));
}

async fn what_a_dead_executor_began_is_looked_at_first(test: TestStore) {
    let store = &test.store;
    let (tenant, calls) = with_callers(store, 2, 9).await;
    let redirected = start(store, &tenant, Mode::Direct, calls[0], &[500]).await.id;
    let task = step(store).await;
    let began = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((began.step, began.again), (Step::Act(Action::Redirect), false));
    lapse(&test, &began).await;
    // What is found holds, late as it is.
    let next = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((next.step, next.again), (Step::Act(Action::Redirect), true));
    let found = store.advance_transfer(&task, Some(Fact::ChildAnswered(0)), true).await.unwrap();
    assert_eq!(
        (found.step, found.view.transfer.outcome()),
        (Step::Nothing, Some(Outcome::Bridged))
    );
    store.finish_task(&task, None).await.unwrap();
    // The same on the last of the ways.
    let moved = start(store, &tenant, Mode::Direct, calls[1], &[501]).await.id;
    assert_ne!(moved, redirected);
    let task = step(store).await;
    store.advance_transfer(&task, None, true).await.unwrap();
    for action in [Action::Redirect, Action::Enqueue] {
        store.advance_transfer(&task, Some(Fact::Refused(action, error())), true).await.unwrap();
    }
    let call = leg(store, &task, Purpose::Conference).await.call_id;
    let news =
        [(call, News::Submitted { sid: sid(call) }), status(call, CarrierStatus::InProgress, 2)];
    store.apply(&tenant, &news).await.unwrap();
    let began = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((began.step, began.again), (Step::Act(Action::Move), false));
    lapse(&test, &began).await;
    let next = store.advance_transfer(&task, None, true).await.unwrap();
    assert_eq!((next.step, next.again), (Step::Act(Action::Move), true));
    let found = store.advance_transfer(&task, Some(Fact::Done(Action::Move)), true).await.unwrap();
    assert_eq!(found.view.transfer.outcome(), Some(Outcome::Bridged));
}

/// Two minutes pass in which nobody says anything.
async fn lapse(test: &TestStore, began: &Advanced) {
    let (id, deadline) = (began.view.id, began.view.transfer.progress.deadline.micros());
    let progress = format!("replace(progress, '\"deadline\":{deadline}', '\"deadline\":1')");
    let sql = format!(
        "UPDATE transfers SET acting_until = 1, progress = {progress} WHERE transfer_id = '{id}'"
    );
    test.raw().await.execute(&sql).await;
}
