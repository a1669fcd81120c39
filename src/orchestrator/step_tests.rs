//! The step function against a simulated run: random commands, crashes and answers.
//!
//! The simulation applies what [`next`] says with the same pure functions as the daemon
//! ([`RunState::after`], [`CallState::after`]) and keeps a witness of every unsafe execution, so
//! that a rule that would run one twice, or act after the end, fails here without a store.

use proptest::prelude::*;

use super::*;
use crate::domain::{CallInput, Effect, RunInput};

/// Something that happens to the run from outside.
#[derive(Clone, Copy, Debug)]
enum Command {
    /// The daemon claims it, if it can.
    Claim,
    /// One step of work is carried out.
    Work,
    /// The daemon dies; a tool may have been running.
    Crash,
    Steer,
    Interrupt,
    Cancel,
    Resume,
    Approve,
    Deny,
    /// A person says that an unknown call shall run.
    RunUnknown,
    /// A person says that it happened.
    Happened,
    /// The daemon is asked to stop.
    Stop,
    /// Time is up.
    TimeOut,
    LockDown,
    Revoke,
}

/// What the model and the policy do, as given by the test case.
#[derive(Clone, Debug)]
struct Script {
    /// For each answer of the model: the effects of the calls that it asks for; none means final.
    answers: Vec<Vec<Effect>>,
    /// Whether policy asks a person about unsafe calls.
    is_gating: bool,
}

#[derive(Clone, Debug)]
struct Call {
    state: CallState,
    effect: Effect,
    /// Executions that may have happened, by the witness.
    executions: u32,
    /// Times that a person said "run it".
    released: u32,
}

struct World {
    state: RunState,
    facts: Facts,
    calls: Vec<Call>,
    script: Script,
    answered: usize,
    /// The call whose effect is in flight.
    running: Option<usize>,
    is_calling_model: bool,
    ended: u32,
}

impl World {
    fn new(script: Script) -> Self {
        let facts = Facts {
            state: RunState::Queued,
            interrupt: None,
            is_locked: false,
            is_revoked: false,
            is_stopping: false,
            is_out_of_time: false,
            has_steers: false,
            has_final_answer: false,
            calls: Vec::new(),
            steps_left: 8,
            calls_left: 16,
        };
        Self {
            state: RunState::Queued,
            facts,
            calls: Vec::new(),
            script,
            answered: 0,
            running: None,
            is_calling_model: false,
            ended: 0,
        }
    }

    fn go(&mut self, input: RunInput) -> bool {
        match self.state.after(input) {
            Some(next) => {
                self.state = next;
                self.ended += u32::from(next.is_terminal());
                true
            }
            None => false,
        }
    }

    fn move_call(&mut self, index: usize, input: CallInput) {
        let call = &mut self.calls[index];
        call.state = call.state.after(input, call.effect).expect("a legal move of a call");
    }

    fn facts(&self) -> Facts {
        Facts {
            state: self.state,
            calls: self.calls.iter().map(|c| c.state).collect(),
            ..self.facts.clone()
        }
    }

    /// What the daemon does in one transaction and the effect that follows it.
    fn work(&mut self) {
        if let Some(index) = self.running.take() {
            self.move_call(index, CallInput::Finish);
        } else if self.is_calling_model {
            self.is_calling_model = false;
            let asked = self.script.answers.get(self.answered).cloned().unwrap_or_default();
            self.answered += 1;
            self.facts.has_final_answer = asked.is_empty();
            let call =
                |effect| Call { state: CallState::Proposed, effect, executions: 0, released: 0 };
            self.calls = asked.into_iter().map(call).collect();
        }
        for _ in 0..64 {
            match next(&self.facts()) {
                Step::Leave => return,
                Step::Release => {
                    assert!(self.go(RunInput::Recover), "release from {}", self.state);
                    return;
                }
                Step::Pause(_) => {
                    self.facts.interrupt = None;
                    assert!(self.go(RunInput::Pause), "pause from {}", self.state);
                    return;
                }
                Step::Finish(how) => {
                    let input = match how {
                        Finish::Succeeded => RunInput::Succeed,
                        Finish::Cancelled => RunInput::Cancel,
                        Finish::OutOfTime
                        | Finish::OutOfSteps
                        | Finish::OutOfCalls
                        | Finish::Revoked => RunInput::Fail,
                    };
                    assert!(self.go(input), "{how:?} from {}", self.state);
                    return;
                }
                Step::SkipRest => {
                    for index in 0..self.calls.len() {
                        if matches!(
                            self.calls[index].state,
                            CallState::Proposed | CallState::Approved
                        ) {
                            self.move_call(index, CallInput::Finish);
                        }
                    }
                }
                Step::CallModel => {
                    assert!(self.calls.iter().all(|c| c.state == CallState::Done));
                    self.facts.steps_left -= 1;
                    self.facts.has_steers = false;
                    self.facts.has_final_answer = false;
                    self.calls.clear();
                    self.is_calling_model = true;
                    return;
                }
                Step::Decide(index) => {
                    let is_released = self.calls[index].state == CallState::Approved;
                    let call = &self.calls[index];
                    if self.script.is_gating && call.effect == Effect::Unsafe && !is_released {
                        self.move_call(index, CallInput::Gate);
                        assert!(self.go(RunInput::Gate));
                        return;
                    }
                    self.facts.calls_left -= 1;
                    self.move_call(index, CallInput::Start);
                    self.calls[index].executions += 1;
                    self.running = Some(index);
                    return;
                }
            }
        }
        panic!("the step function does not come to an end");
    }

    fn crash(&mut self) {
        self.is_calling_model = false;
        self.facts.is_stopping = false;
        self.running = None;
        match self.state {
            RunState::Cancelling => {
                assert!(self.go(RunInput::Cancel));
            }
            RunState::Running => {
                let started = self.calls.iter().position(|c| c.state == CallState::Started);
                let mut is_unknown = false;
                if let Some(index) = started {
                    self.move_call(index, CallInput::Crash);
                    is_unknown = self.calls[index].state == CallState::Unknown;
                }
                let input = if is_unknown { RunInput::RecoverPaused } else { RunInput::Recover };
                self.facts.interrupt = None;
                assert!(self.go(input));
            }
            _ => {}
        }
    }

    fn find(&self, state: CallState) -> Option<usize> {
        self.calls.iter().position(|c| c.state == state)
    }

    fn obey(&mut self, command: Command) {
        let is_active = self.state == RunState::Running;
        match command {
            Command::Claim if self.state == RunState::Queued => {
                self.facts.is_stopping = false;
                assert!(self.go(RunInput::Claim));
                self.work();
            }
            Command::Work if is_active || self.state == RunState::Cancelling => self.work(),
            Command::Crash => self.crash(),
            Command::Steer if !self.state.is_terminal() => self.facts.has_steers = true,
            Command::Interrupt if is_active => self.facts.interrupt = Some(InterruptMode::Graceful),
            Command::Cancel => {
                self.go(RunInput::RequestCancel);
            }
            // Nothing is resumed before a lockdown is lifted.
            Command::Resume if self.find(CallState::Unknown).is_none() => {
                self.facts.is_locked = false;
                self.go(RunInput::Resume);
            }
            Command::Approve | Command::Deny if self.state == RunState::AwaitingApproval => {
                if let Some(index) = self.find(CallState::Gated) {
                    let is_yes = matches!(command, Command::Approve);
                    self.move_call(
                        index,
                        if is_yes { CallInput::Approve } else { CallInput::Finish },
                    );
                    assert!(self.go(RunInput::Decide));
                }
            }
            Command::RunUnknown | Command::Happened if self.state == RunState::Paused => {
                if let Some(index) = self.find(CallState::Unknown) {
                    if matches!(command, Command::RunUnknown) {
                        self.move_call(index, CallInput::RunAgain);
                        self.calls[index].released += 1;
                    } else {
                        self.move_call(index, CallInput::Finish);
                    }
                    assert!(self.go(RunInput::Resume));
                }
            }
            Command::Stop if is_active => self.facts.is_stopping = true,
            Command::TimeOut => self.facts.is_out_of_time = true,
            Command::LockDown => self.facts.is_locked = true,
            Command::Revoke => self.facts.is_revoked = true,
            _ => {}
        }
    }

    fn check(&self) {
        assert!(self.ended <= 1, "the run ended twice");
        for call in &self.calls {
            if call.effect == Effect::Unsafe {
                assert!(
                    call.executions <= 1 + call.released,
                    "an unsafe call ran {} times with {} releases",
                    call.executions,
                    call.released
                );
            }
        }
        let started = self.calls.iter().filter(|c| c.state == CallState::Started).count();
        assert!(started <= 1, "two calls in flight");
    }
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![Just(Effect::Pure), Just(Effect::Idempotent), Just(Effect::Unsafe)]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => Just(Command::Claim),
        10 => Just(Command::Work),
        3 => Just(Command::Crash),
        2 => Just(Command::Steer),
        2 => Just(Command::Interrupt),
        1 => Just(Command::Cancel),
        4 => Just(Command::Resume),
        4 => Just(Command::Approve),
        2 => Just(Command::Deny),
        2 => Just(Command::RunUnknown),
        2 => Just(Command::Happened),
        1 => Just(Command::Stop),
        1 => Just(Command::TimeOut),
        1 => Just(Command::LockDown),
        1 => Just(Command::Revoke),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let answers = prop::collection::vec(prop::collection::vec(effect(), 0..4), 0..5);
    (answers, any::<bool>()).prop_map(|(answers, is_gating)| Script { answers, is_gating })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_commands_runs_an_unsafe_call_twice_or_acts_after_the_end(
        script in script(),
        commands in prop::collection::vec(command(), 0..80),
    ) {
        let mut world = World::new(script);
        for command in commands {
            let before = world.state;
            world.obey(command);
            world.check();
            prop_assert!(!before.is_terminal() || world.state == before);
        }
    }

    #[test]
    fn a_run_that_is_left_alone_with_helpful_people_ends(
        script in script(),
        commands in prop::collection::vec(command(), 0..40),
    ) {
        let mut world = World::new(script);
        for command in commands {
            world.obey(command);
        }
        for _ in 0..200 {
            for command in [Command::Claim, Command::Work, Command::Approve, Command::Happened, Command::Resume] {
                world.obey(command);
            }
        }
        world.check();
        prop_assert!(world.state.is_terminal(), "stuck in {}", world.state);
    }
}

#[test]
fn each_fact_decides_what_it_should() {
    let base = World::new(Script { answers: Vec::new(), is_gating: false }).facts;
    let running = Facts { state: RunState::Running, ..base };
    assert_eq!(next(&running), Step::CallModel);
    let answered = Facts { has_final_answer: true, ..running.clone() };
    assert_eq!(next(&answered), Step::Finish(Finish::Succeeded));
    let steered = Facts { has_steers: true, ..answered.clone() };
    assert_eq!(next(&steered), Step::CallModel);
    let too_late = Facts { steps_left: 0, ..steered };
    assert_eq!(next(&too_late), Step::Finish(Finish::Succeeded));
    let interrupted = Facts { interrupt: Some(InterruptMode::Hard), ..answered };
    assert_eq!(next(&interrupted), Step::Pause(WaitReason::Interrupted));
    let spent = Facts { steps_left: 0, ..running.clone() };
    assert_eq!(next(&spent), Step::Finish(Finish::OutOfSteps));
    let calls = vec![CallState::Done, CallState::Proposed];
    let steered = Facts { has_steers: true, calls: calls.clone(), ..running.clone() };
    assert_eq!(next(&steered), Step::SkipRest);
    let called = Facts { calls, ..running.clone() };
    assert_eq!(next(&called), Step::Decide(1));
    let stopping = Facts { is_stopping: true, ..called };
    assert_eq!(next(&stopping), Step::Release);
    let revoked = Facts { is_revoked: true, ..stopping.clone() };
    assert_eq!(next(&revoked), Step::Finish(Finish::Revoked));
    let locked = Facts { is_locked: true, ..revoked };
    assert_eq!(next(&locked), Step::Pause(WaitReason::Lockdown));
    let cancelled = Facts { state: RunState::Cancelling, ..stopping };
    assert_eq!(next(&cancelled), Step::Finish(Finish::Cancelled));
}
