use super::*;

#[test]
fn terminal_states_never_change() {
    for state in RunState::ALL.into_iter().filter(|s| s.is_terminal()) {
        for input in RunInput::ALL {
            assert_eq!(state.after(input), None, "{state} after {input:?}");
        }
    }
}

#[test]
fn every_state_that_is_not_terminal_can_end_and_can_be_cancelled() {
    for state in RunState::ALL.into_iter().filter(|s| !s.is_terminal()) {
        assert!(state.after(RunInput::RequestCancel).is_some(), "{state}");
        let ends =
            RunInput::ALL.into_iter().filter_map(|i| state.after(i)).any(RunState::is_terminal);
        assert!(ends, "{state}");
    }
}

#[test]
fn only_a_claim_makes_a_run_run() {
    for state in RunState::ALL {
        for input in RunInput::ALL {
            if state.after(input) == Some(RunState::Running) {
                assert_eq!((state, input), (RunState::Queued, RunInput::Claim));
            }
        }
    }
}

#[test]
fn names_survive_the_wire() {
    for state in RunState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert!(Confinement::Full.reaches(Confinement::FullNoproc));
    assert!(!Confinement::Landlock.reaches(Confinement::FullNoproc));
}
