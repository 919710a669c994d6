use super::*;
use proptest::prelude::*;

const COMMANDS: [Command; 6] = [
    Command::Start,
    Command::Pause,
    Command::Resume,
    Command::Cancel,
    Command::Stop,
    Command::Seal,
];

proptest! {
    /// No sequence of commands leaves an ended state, and none after Stop or Cancel dials again.
    #[test]
    fn endings_are_final(picks in prop::collection::vec(0usize..6, 0..30), ends in 0usize..30) {
        let mut state = RunState::Draft;
        let mut called_off = false;
        for (step, pick) in picks.into_iter().enumerate() {
            if step == ends {
                let counts = JobCounts::default();
                state = settle(state, true, &counts, Timestamp(10), Timestamp(0)).unwrap_or(state);
            }
            let before = state;
            state = decide(state, COMMANDS[pick]).unwrap_or(state);
            prop_assert!(!before.is_ended() || state == before);
            called_off |= matches!(state, RunState::Canceling | RunState::Stopping);
            prop_assert!(!(called_off && state.may_dial()));
        }
    }
}

#[test]
fn commands_may_be_repeated() {
    for command in COMMANDS {
        for &state in RunState::ALL {
            if let Ok(next) = decide(state, command) {
                assert_eq!(decide(next, command), Ok(next), "{command:?} {state:?}");
            }
        }
    }
}

#[test]
fn only_a_sealed_run_completes() {
    let counts = JobCounts { completed: 3, ..JobCounts::default() };
    let settled = |sealed| settle(RunState::Running, sealed, &counts, Timestamp(10), Timestamp(1));
    assert_eq!(settled(true), Some(RunState::Completed));
    assert_eq!(settled(false), None);
    let busy = JobCounts { in_call: 1, ..counts };
    assert_eq!(settle(RunState::Canceling, true, &busy, Timestamp(10), Timestamp(1)), None);
}

#[test]
fn pausing_a_completed_run_says_why_not() {
    let error = decide(RunState::Completed, Command::Pause).unwrap_err();
    assert_eq!(error.to_string(), "cannot pause a run that is completed");
}
