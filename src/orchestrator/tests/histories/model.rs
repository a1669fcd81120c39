//! A run as the pure functions see it: [`step::next`], [`RunState::after`] and [`CallState::after`]
//! with a few counters.

use super::*;

/// What a model asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A pure call that runs unasked.
    List,
    /// An unsafe call that runs unasked.
    Exec,
    /// An unsafe call about which a person is asked.
    Shell,
}

/// What is in flight after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flight {
    Nothing,
    Model,
    Call(usize),
}

/// A run as the pure functions see it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) state: RunState,
    pub(super) wait: Option<WaitReason>,
    pub(super) epoch: u64,
    pub(super) interrupt: Option<InterruptMode>,
    pub(super) recoveries: u32,
    pub(super) steers: u32,
    pub(super) is_answered: bool,
    pub(super) calls: Vec<(CallState, Asked, u32)>,
    pub(super) flight: Flight,
    /// Once: a second retry would wait behind the first.
    pub(super) is_retried: bool,
}

impl Asked {
    pub(super) const fn effect(self) -> Effect {
        match self {
            Self::List => Effect::Pure,
            Self::Exec | Self::Shell => Effect::Unsafe,
        }
    }

    pub(super) fn proposed(self) -> ProposedCall {
        let (name, args) = match self {
            Self::List => ("list_files", json!({})),
            Self::Exec => ("exec", json!({"argv": ["/bin/true"]})),
            Self::Shell => ("shell", json!({"script": "true"})),
        };
        ProposedCall { name: name.to_owned(), args }
    }
}

impl Model {
    pub(super) const fn new() -> Self {
        Self {
            state: RunState::Queued,
            wait: None,
            epoch: 0,
            interrupt: None,
            recoveries: 0,
            steers: 0,
            is_answered: false,
            calls: Vec::new(),
            flight: Flight::Nothing,
            is_retried: false,
        }
    }

    fn go(&mut self, input: RunInput) {
        self.state = self.state.after(input).expect("a legal move");
        if self.state != RunState::Paused {
            self.wait = None;
        }
    }

    fn move_call(&mut self, index: usize, input: CallInput) {
        let (state, asked, _) = self.calls[index];
        self.calls[index].0 = state.after(input, asked.effect()).expect("a legal move of a call");
    }

    fn pause(&mut self, why: WaitReason) {
        self.interrupt = None;
        self.go(RunInput::Pause);
        self.wait = Some(why);
    }

    /// What one transaction decides.
    fn work(&mut self) {
        self.flight = Flight::Nothing;
        loop {
            let facts = Facts {
                state: self.state,
                interrupt: self.interrupt,
                is_locked: false,
                is_revoked: false,
                is_stopping: false,
                is_out_of_time: false,
                has_steers: self.steers > 0,
                has_final_answer: self.is_answered,
                calls: self.calls.iter().map(|c| c.0).collect(),
                steps_left: 40,
                calls_left: 90,
            };
            match next(&facts) {
                Step::Leave => return,
                Step::Release => panic!("nobody stops the daemon"),
                Step::Pause(why) => return self.pause(why),
                Step::Finish(Finish::Succeeded) => return self.go(RunInput::Succeed),
                Step::Finish(Finish::Cancelled) => return self.go(RunInput::Cancel),
                Step::Finish(other) => panic!("{other:?} has no reason"),
                Step::SkipRest => {
                    for index in 0..self.calls.len() {
                        if matches!(self.calls[index].0, CallState::Proposed | CallState::Approved)
                        {
                            self.move_call(index, CallInput::Finish);
                        }
                    }
                }
                Step::CallModel => {
                    self.steers = 0;
                    self.is_answered = false;
                    self.calls.clear();
                    self.flight = Flight::Model;
                    return;
                }
                Step::Decide(index) => {
                    let (state, asked, _) = self.calls[index];
                    if asked == Asked::Shell && state != CallState::Approved {
                        self.move_call(index, CallInput::Gate);
                        return self.go(RunInput::Gate);
                    }
                    self.move_call(index, CallInput::Start);
                    self.calls[index].2 += 1;
                    self.flight = Flight::Call(index);
                    return;
                }
            }
        }
    }

    pub(super) fn crash(&mut self) {
        self.flight = Flight::Nothing;
        match self.state {
            RunState::Cancelling => {
                self.epoch += 1;
                self.go(RunInput::Cancel);
            }
            RunState::Running => {
                self.epoch += 1;
                self.recoveries += 1;
                let started = self.calls.iter().position(|c| c.0 == CallState::Started);
                if let Some(index) = started {
                    self.move_call(index, CallInput::Crash);
                }
                let is_unknown = self.calls.iter().any(|c| c.0 == CallState::Unknown);
                let why = if is_unknown {
                    Some(WaitReason::EffectUnknown)
                } else if self.interrupt.is_some() {
                    Some(WaitReason::Interrupted)
                } else {
                    (self.recoveries > limits::RECOVERIES_MAX).then_some(WaitReason::Operator)
                };
                self.interrupt = None;
                self.go(if why.is_some() { RunInput::RecoverPaused } else { RunInput::Recover });
                self.wait = why;
            }
            _ => {}
        }
    }

    fn find(&self, state: CallState) -> Option<usize> {
        self.calls.iter().position(|c| c.0 == state)
    }

    /// Carries a command out; whether it is accepted.
    pub(super) fn obey(&mut self, command: &Command) -> bool {
        match command {
            Command::Claim(_) if self.state == RunState::Queued => {
                self.epoch += 1;
                self.go(RunInput::Claim);
                self.work();
            }
            Command::Return(_, asked) => match self.flight {
                Flight::Nothing => return false,
                Flight::Model => {
                    self.recoveries = 0;
                    let new = |asked: &Asked| (CallState::Proposed, *asked, 0);
                    self.calls = asked.iter().map(new).collect();
                    self.is_answered = asked.is_empty();
                    self.work();
                }
                Flight::Call(index) => {
                    self.recoveries = 0;
                    self.move_call(index, CallInput::Finish);
                    self.work();
                }
            },
            Command::Refuse(_) if self.flight == Flight::Model => {
                self.flight = Flight::Nothing;
                let is_cancelling = self.state == RunState::Cancelling;
                self.go(if is_cancelling { RunInput::Cancel } else { RunInput::Fail });
            }
            Command::Approve(_) | Command::Deny(_) if self.state == RunState::AwaitingApproval => {
                let index = self.find(CallState::Gated).expect("a question");
                let is_yes = matches!(command, Command::Approve(_));
                self.move_call(index, if is_yes { CallInput::Approve } else { CallInput::Finish });
                self.go(RunInput::Decide);
            }
            Command::Unknown(_, runs)
                if self.state == RunState::Paused && self.find(CallState::Unknown).is_some() =>
            {
                let index = self.find(CallState::Unknown).expect("a call");
                self.move_call(index, if *runs { CallInput::RunAgain } else { CallInput::Finish });
                self.go(RunInput::Resume);
            }
            Command::Cancel(_) if self.state == RunState::Cancelling => {}
            Command::Cancel(_) if !self.state.is_terminal() => self.go(RunInput::RequestCancel),
            Command::Interrupt(_) if self.state == RunState::Running => {
                self.interrupt = Some(InterruptMode::Graceful);
            }
            Command::Resume(_)
                if self.state == RunState::Paused && self.find(CallState::Unknown).is_none() =>
            {
                if self.wait == Some(WaitReason::Operator) {
                    // A person looked.
                    self.recoveries = 0;
                }
                self.go(RunInput::Resume);
            }
            Command::Steer(_) => {
                let takes = !self.state.is_terminal() && self.state != RunState::Cancelling;
                if !takes || self.steers as usize >= limits::STEERS_MAX {
                    return false;
                }
                self.steers += 1;
            }
            _ => return false,
        }
        true
    }
}
