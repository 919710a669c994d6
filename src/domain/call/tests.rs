use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1);

fn sid(n: u8) -> CallSid {
    format!("CA{n:032x}").parse().unwrap()
}

fn status(status: CarrierStatus, sequence: u32) -> News {
    News::Status {
        sid: sid(1),
        status,
        sequence: Some(sequence),
        duration_s: None,
        answered_by: None,
        error_code: None,
    }
}

fn after(news: &[News]) -> Call {
    news.iter().fold(Call::intent(), |call, news| decide(&call, news, NOW).unwrap().unwrap_or(call))
}

#[test]
fn a_callback_may_come_before_the_answer_to_create() {
    let call = after(&[status(CarrierStatus::Ringing, 1), News::Submitted { sid: sid(1) }]);
    assert_eq!((call.state, call.sid), (CallState::Ringing, Some(sid(1))));
}

#[test]
fn a_callback_adopts_an_unknown_call() {
    let call =
        after(&[News::Lost { message: "timeout".into() }, status(CarrierStatus::Initiated, 0)]);
    assert_eq!((call.state, call.sid), (CallState::Submitted, Some(sid(1))));
}

#[test]
fn an_accepted_call_is_never_unsent() {
    let refusals = [
        News::NotSent { code: NOT_SENT, message: String::new() },
        News::Rejected { class: RejectClass::Defer, code: "20429".into(), message: String::new() },
        News::Lost { message: String::new() },
    ];
    let call = after(&[News::Submitted { sid: sid(1) }]);
    for news in refusals {
        assert_eq!(decide(&call, &news, NOW), Ok(None), "{news:?}");
    }
}

#[test]
fn another_sid_is_refused() {
    let call = after(&[News::Submitted { sid: sid(1) }]);
    assert_eq!(decide(&call, &News::Submitted { sid: sid(2) }, NOW), Err(Rejection::OtherSid));
}

#[test]
fn evidence_overrules_a_presumed_ending() {
    let presumed = after(&[News::Presumed { code: STALE_NO_CALL_SID, message: "x".into() }]);
    assert!(presumed.presumed && presumed.state == CallState::Failed);
    let real = decide(&presumed, &status(CarrierStatus::Completed, 3), NOW).unwrap().unwrap();
    assert_eq!((real.state, real.presumed, real.error_code), (CallState::Completed, false, None));
}

#[test]
fn a_call_that_turns_up_after_it_was_given_up_is_an_orphan() {
    let presumed = after(&[News::Presumed { code: STALE_NO_CALL_SID, message: "x".into() }]);
    let late = decide(&presumed, &status(CarrierStatus::Ringing, 1), NOW).unwrap().unwrap();
    assert!(late.orphaned && !late.state.is_live() && late.sid == Some(sid(1)));
}

#[test]
fn a_withdrawn_intent_resolves_an_unknown_call() {
    let lost = News::Lost { message: "the worker is gone".into() };
    let call = after(&[lost, News::NotSent { code: WITHDRAWN, message: "came back".into() }]);
    assert_eq!((call.state, call.error_code.as_deref()), (CallState::Failed, Some(WITHDRAWN)));
}

#[test]
fn a_reject_after_lost_ends_it() {
    let call = after(&[News::Rejected {
        class: RejectClass::LeadDead,
        code: "21211".into(),
        message: "bad".into(),
    }]);
    assert_eq!((call.state, call.error_code.as_deref()), (CallState::Failed, Some("21211")));
}

proptest! {
    /// Callbacks in any order, each any number of times, give the state that they give in order.
    #[test]
    fn order_and_repetition_do_not_matter(
        end in prop::sample::select(vec![
            CarrierStatus::Completed, CarrierStatus::Busy, CarrierStatus::NoAnswer, CarrierStatus::Failed,
            CarrierStatus::Canceled,
        ]),
        picks in prop::collection::vec(0usize..5, 0..20),
    ) {
        let in_order = [
            status(CarrierStatus::Initiated, 0),
            News::Submitted { sid: sid(1) },
            status(CarrierStatus::Ringing, 1),
            status(CarrierStatus::InProgress, 2),
            status(end, 3),
        ];
        let mut shuffled: Vec<News> = picks.iter().map(|i| in_order[*i].clone()).collect();
        shuffled.extend(in_order.iter().rev().cloned());
        prop_assert_eq!(after(&shuffled), after(&in_order));
    }

    /// Rank never falls, whatever comes.
    #[test]
    fn never_goes_back(picks in prop::collection::vec(0usize..8, 0..30)) {
        let all = [
            News::Lost { message: String::new() },
            News::Submitted { sid: sid(1) },
            News::NotSent { code: NOT_SENT, message: String::new() },
            status(CarrierStatus::Ringing, 1),
            status(CarrierStatus::InProgress, 2),
            status(CarrierStatus::Completed, 3),
            status(CarrierStatus::Failed, 4),
            News::Presumed { code: STALE_NO_CALL_SID, message: String::new() },
        ];
        let mut call = Call::intent();
        for pick in picks {
            if let Some(next) = decide(&call, &all[pick], NOW).unwrap() {
                prop_assert!(next.state.rank() >= call.state.rank());
                prop_assert!(next.sid.is_some() || call.sid.is_none());
                call = next;
            }
        }
    }
}
