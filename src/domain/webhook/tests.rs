use super::*;

#[test]
fn filters_match_words_and_groups() {
    let wants = |filters: &[&str], kind| {
        wants(&filters.iter().map(|filter| (*filter).to_owned()).collect::<Vec<_>>(), kind)
    };
    assert!(wants(&[], EventType::CallEnded));
    assert!(wants(&["run.*", "call.ended"], EventType::RunPaused));
    assert!(wants(&["run.*", "call.ended"], EventType::CallEnded));
    assert!(!wants(&["run.*", "call.ended"], EventType::LeadCreated));
    assert!(!wants(&["run"], EventType::RunPaused) && !wants(&["r*"], EventType::RunPaused));
    let check = |filter: &str| check_filters(&[filter.to_owned()]);
    assert!(check("lead.*").is_ok() && check("transfer.ended").is_ok());
    for wrong in ["", "*", "lead", "run.finished", "leads.*", "run.completed "] {
        assert_eq!(check(wrong).unwrap_err().field, "event_types[0]", "{wrong:?}");
    }
    assert!(check_filters(&vec!["run.*".to_owned(); 51]).is_err());
}

#[test]
fn a_state_has_its_event_and_a_payload_of_ids() {
    let run = RunId(uuid::Uuid::nil());
    for state in RunState::ALL {
        let event = Event::RunStateChanged { from: RunState::Draft, to: *state, reason: None };
        let told = Told::of_run(run, 3, &event);
        assert_eq!(told.is_none(), *state == RunState::Draft);
        if let Some(told) = told {
            assert_eq!(told.kind.as_str(), format!("run.{}", state.as_str()));
            assert_eq!((told.position, &told.data["state"]), (3, &json!(state)));
        }
    }
    assert_eq!(Told::of_run(run, 3, &Event::RunSealed), None);
    let created = Told::of_run(run, 1, &Event::RunCreated { state: RunState::Draft }).unwrap();
    let body = body(created.kind, Timestamp::from_secs(1_700_000_000), &created.data);
    assert!(
        body.starts_with(r#"{"type":"run.created","timestamp":"2023-11-14T22:13:20Z","data":{"#),
        "{body}"
    );
}

#[test]
fn delays_grow_and_end() {
    let now = Timestamp::from_secs(1_000);
    let delay = |attempts| again_at(attempts, now, 0.5).map(|at| at.since(now).as_secs());
    let delays: Vec<_> = (1..=ATTEMPTS_MAX).map(delay).collect();
    assert_eq!(delays[..5], [Some(2), Some(8), Some(32), Some(128), Some(512)]);
    assert_eq!((delays[10], delays[11]), (Some(43_200), None));
    assert_eq!(again_at(u32::MAX, now, 0.5), None);
}

#[test]
fn long_failure_and_gone_disable_and_one_success_heals() {
    let (day, now) = (Duration::from_secs(86_400), Timestamp::from_secs(1_000_000));
    let bad = [Answer::Status(500), Answer::None, Answer::Refused, Answer::Status(302)];
    let (failing, held, reason) = Health::default().after(&bad, 1, day, (now, 0.5));
    assert_eq!((failing.failing_since, failing.failures, reason), (Some(now), 1, None));
    assert_eq!(held, now + HOLD_MIN);
    let (failing, held, reason) = failing.after(&bad, 1, day, (now + HOLD_MIN, 0.5));
    assert_eq!((failing.failing_since, failing.failures, reason), (Some(now), 2, None));
    assert_eq!(held, now + HOLD_MIN + HOLD_MIN * 2);
    assert_eq!(failing.after(&bad, 1, day, (now + day, 0.5)).2, Some(DisabledReason::Failing));
    assert_eq!(
        failing.after(&bad, QUEUED_MAX + 1, day, (now, 0.5)).2,
        Some(DisabledReason::Overflow)
    );
    let mixed = [Answer::Status(500), Answer::Status(204)];
    assert_eq!(
        failing.after(&mixed, QUEUED_MAX + 1, day, (now + day, 0.5)),
        (Health::default(), now + day, None)
    );
    let gone = [Answer::Status(204), Answer::Status(410)];
    assert_eq!(Health::default().after(&gone, 1, day, (now, 0.5)).2, Some(DisabledReason::Gone));
    assert_eq!(failing.after(&[], 1, day, (now + day, 0.5)), (failing, now + day, None));
}
