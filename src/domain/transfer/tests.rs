use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::call::{Call, CallState};

fn settings(targets: usize, on_failure: OnFailure) -> Settings {
    Settings {
        targets: (0..targets).map(|n| format!("+1212555010{n}").parse().unwrap()).collect(),
        caller_id: None,
        announcement: None,
        facts: None,
        hold_audio_url: None,
        ring_timeout_s: RING_TIMEOUT_DEFAULT_S,
        on_failure,
    }
}

fn apologize() -> OnFailure {
    OnFailure::Apologize { text: None }
}

const CALLER: CallId = CallId(Uuid::from_u128(1));
const NOW: Timestamp = Timestamp(1_000_000);

/// The call of ours that is the `n`th.
fn leg(n: usize) -> CallId {
    CallId(Uuid::from_u128(100 + n as u128))
}

fn error() -> StepError {
    StepError { code: "21220".into(), class: "rejected".into() }
}

/// Decides and applies; the states that it went through, the one before included.
fn take(transfer: &mut Transfer, fact: &Fact) -> Vec<State> {
    let mut states = vec![transfer.state()];
    for event in decide(transfer, fact).unwrap_or_default() {
        transfer.apply(&event, NOW);
        states.push(transfer.state());
    }
    states.dedup();
    states
}

fn story(mode: Mode, targets: usize, on_failure: OnFailure, facts: &[Fact]) -> Transfer {
    let mut transfer = Transfer::new(mode, settings(targets, on_failure), Some(CALLER), NOW);
    take(&mut transfer, &Fact::Begun);
    for fact in facts {
        take(&mut transfer, fact);
    }
    transfer
}

fn any_miss() -> impl Strategy<Value = Miss> {
    proptest::sample::select(Miss::ALL)
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let action = || proptest::sample::select(Action::ALL);
    let child = || 0usize..3;
    // Which call of ours: mostly the one that is under way, see `of_now`.
    let call = || (0usize..4).prop_map(leg);
    prop_oneof![
        Just(Fact::Begun),
        action().prop_map(Fact::Done),
        action().prop_map(|action| Fact::Refused(action, error())),
        Just(Fact::CallerEnded),
        Just(Fact::CallerWaits),
        Just(Fact::CallerCame(CALLER)),
        Just(Fact::QueueFailed),
        child().prop_map(Fact::ChildRings),
        child().prop_map(Fact::ChildAnswered),
        child().prop_map(|of| Fact::ChildEnded(of, DialEnd::Talked)),
        (child(), any_miss()).prop_map(|(of, miss)| Fact::ChildEnded(of, DialEnd::Missed(miss))),
        call().prop_map(Fact::LegAnswered),
        call().prop_map(Fact::LegMachine),
        call().prop_map(|id| Fact::LegEnded(id, LegEnd::Answered)),
        (call(), any_miss()).prop_map(|(id, miss)| Fact::LegEnded(id, LegEnd::Missed(miss))),
        call().prop_map(Fact::Accepted),
        (call(), any_miss()).prop_map(|(id, miss)| Fact::NotAccepted(id, miss)),
        Just(Fact::Connected),
        Just(Fact::Canceled),
        Just(Fact::Timeout),
    ]
}

/// News is mostly about the call that is under way.
fn of_now(fact: Fact, transfer: &Transfer) -> Fact {
    let Some(now) = transfer.progress.leg else { return fact };
    let pick = |id: CallId| if id == leg(0) { id } else { now };
    match fact {
        Fact::LegAnswered(id) => Fact::LegAnswered(pick(id)),
        Fact::LegMachine(id) => Fact::LegMachine(pick(id)),
        Fact::LegEnded(id, how) => Fact::LegEnded(pick(id), how),
        Fact::Accepted(id) => Fact::Accepted(pick(id)),
        Fact::NotAccepted(id, miss) => Fact::NotAccepted(pick(id), miss),
        other => other,
    }
}

/// Every phase ends by itself within three steps of its own, and there are ten targets at most.
const STEPS_MAX: usize = 10 * 12;

/// Gives every intent that is asked for; then lets deadlines pass, and nothing else, until the end.
fn run_out(transfer: &mut Transfer, legs: &mut usize) -> usize {
    for step in 0.. {
        match next_step(transfer) {
            Step::Nothing => return step,
            Step::Begin => drop(take(transfer, &Fact::Begun)),
            Step::Call(_) => {
                *legs += 1;
                take(transfer, &Fact::LegStarted(leg(*legs)));
            }
            Step::Act(_) | Step::Wait => drop(take(transfer, &Fact::Timeout)),
        }
        assert!(step <= STEPS_MAX, "it goes on and on: {transfer:?}");
    }
    0
}

fn any_transfer() -> impl Strategy<Value = Transfer> {
    let on_failure = prop_oneof![
        Just(apologize()),
        Just(OnFailure::Queue { name: "support".into() }),
        Just(OnFailure::Url { url: "https://a.test/".into() }),
    ];
    (proptest::sample::select(Mode::ALL), 1usize..=4, on_failure, any::<bool>()).prop_map(
        |(mode, targets, on_failure, caller)| {
            let caller = (caller || mode == Mode::Direct).then_some(CALLER);
            Transfer::new(mode, settings(targets, on_failure), caller, NOW)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes, in whatever order: exactly one ending, which nothing changes; states follow
    /// each other as the table says; and left alone it ends by itself.
    #[test]
    fn exactly_one_ending(
        mut transfer in any_transfer(),
        facts in proptest::collection::vec((any_fact(), any::<bool>()), 0..60),
    ) {
        let (mut endings, mut legs) = (0, 0);
        for (fact, start) in facts {
            if start && matches!(next_step(&transfer), Step::Call(_)) {
                legs += 1;
                take(&mut transfer, &Fact::LegStarted(leg(legs)));
            }
            let fact = of_now(fact, &transfer);
            let before = transfer.clone();
            let events = decide(&transfer, &fact).unwrap_or_default();
            endings += events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
            let states = take(&mut transfer, &fact);
            for pair in states.windows(2) {
                prop_assert!(EDGES.contains(&(pair[0], pair[1])), "{:?} by {fact:?}", pair);
            }
            if before.state().is_ended() {
                prop_assert_eq!(&before, &transfer);
            }
            prop_assert_eq!(endings == 1, transfer.state().is_ended());
            prop_assert_eq!(transfer.outcome().is_some(), transfer.state().is_ended());
            prop_assert!(transfer.progress.target < transfer.settings.targets.len());
            prop_assert!(transfer.state().is_ended() || transfer.progress.deadline < Timestamp::NEVER);
        }
        run_out(&mut transfer, &mut legs);
        prop_assert!(transfer.state().is_ended());
        prop_assert_eq!(next_step(&transfer), Step::Nothing);
    }
}

/// The table has no edge that never occurs.
#[test]
fn every_edge_occurs() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let facts = proptest::collection::vec(any_fact(), 1..30);
    let mut seen = BTreeSet::new();
    for _ in 0..3_000 {
        let mut transfer = any_transfer().new_tree(&mut runner).unwrap().current();
        let mut legs = 0;
        for fact in facts.new_tree(&mut runner).unwrap().current() {
            if matches!(next_step(&transfer), Step::Call(_)) {
                legs += 1;
                take(&mut transfer, &Fact::LegStarted(leg(legs)));
            }
            let fact = of_now(fact, &transfer);
            let states = take(&mut transfer, &fact);
            seen.extend(states.windows(2).map(|pair| (pair[0], pair[1])));
        }
    }
    // Rare by chance.
    let mut refused =
        story(Mode::Direct, 1, apologize(), &[Fact::Refused(Action::Redirect, error())]);
    seen.extend(take(&mut refused, &Fact::QueueFailed).windows(2).map(|pair| (pair[0], pair[1])));
    let mut waiting = story(Mode::Direct, 1, apologize(), &[Fact::CallerWaits, Fact::Timeout]);
    seen.extend(take(&mut waiting, &Fact::Connected).windows(2).map(|pair| (pair[0], pair[1])));
    assert_eq!(seen, EDGES.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn redirect_rings_and_bridges() {
    let transfer = story(
        Mode::Direct,
        1,
        apologize(),
        &[Fact::Done(Action::Redirect), Fact::ChildAnswered(0)],
    );
    assert_eq!((transfer.state(), transfer.outcome()), (State::Bridged, Some(Outcome::Bridged)));
    assert_eq!(heard(&transfer), Heard::Goodbye);
}

#[test]
fn a_busy_target_gives_way_to_the_next_and_then_to_the_way_back() {
    let busy = |of| Fact::ChildEnded(of, DialEnd::Missed(Miss::Busy));
    let facts = [Fact::Done(Action::Redirect), busy(0)];
    let transfer = story(Mode::Direct, 2, apologize(), &facts);
    assert_eq!((heard(&transfer), transfer.progress.target), (Heard::Dial, 1));
    // A repeated callback of the first target says nothing of the second.
    let facts = [Fact::Done(Action::Redirect), busy(0), busy(0)];
    assert_eq!(story(Mode::Direct, 2, apologize(), &facts).progress.target, 1);
    let facts = [Fact::Done(Action::Redirect), busy(0), busy(1)];
    let transfer = story(Mode::Direct, 2, apologize(), &facts);
    assert_eq!((transfer.state(), transfer.outcome()), (State::Failed, Some(Outcome::Busy)));
    assert_eq!(heard(&transfer), Heard::WayBack);
    let queue = OnFailure::Queue { name: "support".into() };
    assert_eq!(story(Mode::Direct, 2, queue, &facts).outcome(), Some(Outcome::Returned));
}

#[test]
fn the_ways_follow_each_other() {
    let refused = |action| Fact::Refused(action, error());
    let mut transfer = story(Mode::Direct, 1, apologize(), &[refused(Action::Redirect)]);
    assert_eq!(next_step(&transfer), Step::Act(Action::Enqueue));
    take(&mut transfer, &refused(Action::Enqueue));
    assert_eq!(next_step(&transfer), Step::Call(Purpose::Conference));
    take(&mut transfer, &Fact::LegStarted(leg(1)));
    take(&mut transfer, &Fact::LegAnswered(leg(1)));
    assert_eq!(next_step(&transfer), Step::Act(Action::Move));
    // The caller could not be moved at all: they are left where they are.
    take(&mut transfer, &refused(Action::Move));
    assert_eq!(
        (transfer.state(), transfer.outcome()),
        (State::Failed, Some(Outcome::TargetFailed))
    );
}

#[test]
fn a_target_that_takes_the_caller_after_it_was_given_up_has_them() {
    let given_up = [Fact::Timeout, Fact::CallerWaits, Fact::LegStarted(leg(0)), Fact::Timeout];
    let mut next = story(Mode::Direct, 2, apologize(), &given_up);
    assert_eq!((next.progress.target, next_step(&next)), (1, Step::Call(Purpose::Queue)));
    take(&mut next, &Fact::Connected);
    assert_eq!((next.outcome(), heard(&next)), (Some(Outcome::Bridged), Heard::Goodbye));
}

#[test]
fn a_warm_transfer_asks_one_after_the_other() {
    let mut transfer = story(Mode::Warm, 3, apologize(), &[]);
    assert_eq!(next_step(&transfer), Step::Act(Action::Hold));
    take(&mut transfer, &Fact::Done(Action::Hold));
    for (n, answer) in [
        (1, Fact::NotAccepted(leg(1), Miss::Declined)),
        (2, Fact::LegMachine(leg(2))),
        (3, Fact::Accepted(leg(3))),
    ] {
        assert_eq!(next_step(&transfer), Step::Call(Purpose::Notify));
        take(&mut transfer, &Fact::LegStarted(leg(n)));
        take(&mut transfer, &Fact::LegAnswered(leg(n)));
        assert_eq!(heard(&transfer), Heard::Hold);
        take(&mut transfer, &answer);
    }
    // Connected once the notification has ended.
    assert_eq!((transfer.progress.phase, next_step(&transfer)), (Phase::Settle, Step::Wait));
    take(&mut transfer, &Fact::LegEnded(leg(3), LegEnd::Answered));
    assert_eq!((next_step(&transfer), transfer.progress.target), (Step::Act(Action::Redirect), 2));
    // The caller waits in the queue, so that the second way needs no update.
    take(&mut transfer, &Fact::Refused(Action::Redirect, error()));
    assert_eq!(next_step(&transfer), Step::Call(Purpose::Queue));
}

#[test]
fn a_caller_whom_no_queue_takes_hears_the_way_back() {
    let accepted = [Fact::LegStarted(leg(0)), Fact::Accepted(leg(0)), Fact::Timeout];
    for (facts, phase) in [(&accepted[..1], Phase::Notify), (&accepted[..], Phase::AwaitCaller)] {
        let mut transfer = Transfer::new(Mode::Warm, settings(1, apologize()), None, NOW);
        for fact in [Fact::Begun].iter().chain(facts) {
            take(&mut transfer, fact);
        }
        assert_eq!(transfer.progress.phase, phase);
        // Nobody dialed in yet: it is somebody else's queue.
        take(&mut transfer, &Fact::QueueFailed);
        assert_eq!(transfer.outcome(), None);
        take(&mut transfer, &Fact::CallerCame(leg(9)));
        assert_eq!(heard(&transfer), Heard::Hold);
        take(&mut transfer, &Fact::QueueFailed);
        assert!(transfer.outcome().is_some(), "{transfer:?}");
        assert_eq!(heard(&transfer), Heard::WayBack);
    }
}

#[test]
fn nobody_is_connected_before_the_caller_came() {
    let mut transfer = Transfer::new(Mode::Warm, settings(1, apologize()), None, NOW);
    for fact in [Fact::Begun, Fact::LegStarted(leg(1)), Fact::Accepted(leg(1)), Fact::Timeout] {
        take(&mut transfer, &fact);
    }
    assert_eq!(transfer.progress.phase, Phase::AwaitCaller);
    assert_eq!(take(&mut transfer, &Fact::CallerWaits), [State::Ringing]);
    take(&mut transfer, &Fact::CallerCame(CALLER));
    take(&mut transfer, &Fact::CallerWaits);
    assert_eq!(next_step(&transfer), Step::Act(Action::Redirect));
}

#[test]
fn whoever_is_on_hold_is_taken_back() {
    let facts = [Fact::Done(Action::Hold), Fact::LegStarted(leg(1)), Fact::LegMachine(leg(1))];
    let mut transfer = story(Mode::Warm, 1, apologize(), &facts);
    assert_eq!(
        (next_step(&transfer), heard(&transfer)),
        (Step::Act(Action::Return), Heard::WayBack)
    );
    take(&mut transfer, &Fact::Done(Action::Return));
    assert_eq!(transfer.outcome(), Some(Outcome::NoAnswer));
    let mut canceled =
        story(Mode::Warm, 1, apologize(), &[Fact::Done(Action::Hold), Fact::Canceled]);
    assert_eq!(next_step(&canceled), Step::Act(Action::Return));
    assert_eq!(decide(&canceled, &Fact::Canceled), Err(Rejection::Ending));
    take(&mut canceled, &Fact::Done(Action::Return));
    assert_eq!(canceled.outcome(), Some(Outcome::Canceled));
    assert_eq!(decide(&canceled, &Fact::Canceled), Ok(Vec::new()));
}

#[test]
fn rows_tell_facts() {
    let transfer = story(Mode::Warm, 1, apologize(), &[Fact::Done(Action::Hold)]);
    let call = |state, answered_by| Call { state, answered_by, ..Call::intent() };
    let told =
        |call: &Call| observe(&transfer, Some(CallState::Answered), Some((leg(1), call)), NOW);
    use crate::domain::call::AnsweredBy;
    assert_eq!(told(&call(CallState::Ringing, None)), []);
    assert_eq!(
        told(&call(CallState::Answered, Some(AnsweredBy::Human))),
        [Fact::LegAnswered(leg(1))]
    );
    assert!(
        told(&call(CallState::Answered, Some(AnsweredBy::MachineStart)))
            .contains(&Fact::LegMachine(leg(1)))
    );
    let gone = observe(&transfer, Some(CallState::Completed), None, transfer.progress.deadline);
    assert_eq!(gone, [Fact::CallerEnded, Fact::Timeout]);
}

#[test]
fn settings_are_checked() {
    let good = settings(2, apologize());
    let field = |settings: Settings| settings.check().unwrap_err().field;
    assert_eq!(good.check(), Ok(()));
    assert_eq!(field(Settings { targets: vec![], ..good.clone() }), "targets");
    let twice = vec![good.targets[0].clone(), good.targets[0].clone()];
    assert_eq!(field(Settings { targets: twice, ..good.clone() }), "targets[1]");
    assert_eq!(field(Settings { ring_timeout_s: 4, ..good.clone() }), "ring_timeout");
    assert_eq!(
        field(Settings { announcement: Some("a".repeat(501)), ..good.clone() }),
        "announcement"
    );
    assert_eq!(field(Settings { facts: Some("\u{0}".into()), ..good.clone() }), "facts");
    assert_eq!(
        field(Settings { hold_audio_url: Some("file:///x".into()), ..good.clone() }),
        "hold_audio_url"
    );
    let url = OnFailure::Url { url: "ftp://x".into() };
    assert_eq!(field(Settings { on_failure: url, ..good.clone() }), "on_failure.twiml_url");
    let queue = OnFailure::Queue { name: String::new() };
    assert_eq!(field(Settings { on_failure: queue, ..good }), "on_failure.queue_name");
}
