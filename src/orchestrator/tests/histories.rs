//! Fault suite (c): random commands against a model that knows only the pure functions, and against
//! the real transactions on a real store; after each command both must say the same.
//!
//! The model is [`step::next`], [`RunState::after`] and [`CallState::after`] with a few counters. The
//! real side is driven by hand: a run's task is claimed, its effects are carried out by the test,
//! and a crash drops it and recovers. A difference is shrunk to the shortest list of commands.
//!
//! `AGENT_RUNTIME_TEST_MODEL_CASES` (48) and `AGENT_RUNTIME_TEST_SEED` make it longer or different;
//! the seed is printed.

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use super::*;
use crate::{
    domain::{CallInput, RunInput, event::fold, limits},
    llm::{Completion, Finish as Stopped, LlmError, ProposedCall, TokenUsage},
    orchestrator::{
        consent::Looked,
        run_task::RunTask,
        step::{Facts, Finish, Step, next},
        work::{Next, Outcome, Work},
    },
    tools::Invoked,
};

/// Runs of one case.
const RUNS_MAX: usize = 3;

/// What a model asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A pure call that runs unasked.
    List,
    /// An unsafe call that runs unasked.
    Exec,
    /// An unsafe call about which a person is asked.
    Shell,
}

#[derive(Clone, Debug)]
enum Command {
    Create,
    Claim(usize),
    /// The effect in flight comes back; a model's answer asks for these.
    Return(usize, Vec<Asked>),
    /// The model in flight refuses for good.
    Refuse(usize),
    Approve(usize),
    Deny(usize),
    Unknown(usize, bool),
    Cancel(usize),
    Interrupt(usize),
    Resume(usize),
    Steer(usize),
    Retry(usize),
    Crash,
}

/// What is in flight after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Nothing,
    Model,
    Call(usize),
}

/// A run as the pure functions see it.
#[derive(Clone, Debug)]
struct Model {
    state: RunState,
    wait: Option<WaitReason>,
    epoch: u64,
    interrupt: Option<InterruptMode>,
    recoveries: u32,
    steers: u32,
    is_answered: bool,
    calls: Vec<(CallState, Asked, u32)>,
    flight: Flight,
    /// Once: a second retry would wait behind the first.
    is_retried: bool,
}

impl Asked {
    const fn effect(self) -> Effect {
        match self {
            Self::List => Effect::Pure,
            Self::Exec | Self::Shell => Effect::Unsafe,
        }
    }

    fn proposed(self) -> ProposedCall {
        let (name, args) = match self {
            Self::List => ("list_files", json!({})),
            Self::Exec => ("exec", json!({"argv": ["/bin/true"]})),
            Self::Shell => ("shell", json!({"script": "true"})),
        };
        ProposedCall { name: name.to_owned(), args }
    }
}

impl Model {
    const fn new() -> Self {
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

    fn crash(&mut self) {
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
    fn obey(&mut self, command: &Command) -> bool {
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

/// The real one.
struct Real {
    f: Fixture,
    runs: Vec<RunId>,
    tasks: Vec<Option<(RunTask, Work, Next)>>,
    /// Executions of unsafe calls, and how often a person said "run it".
    ran: std::collections::BTreeMap<ToolCallId, (u32, u32)>,
}

impl Real {
    async fn start() -> Self {
        let f = idle().await;
        let (name, def) = agent(&[Role::Member, Role::Operator]);
        let tools = vec![ToolName::ListFiles, ToolName::Exec, ToolName::Shell];
        let allowed_commands = vec!["*".to_owned()];
        let def = AgentDef { tools, allowed_commands, ..AgentDef::clone(&def) };
        let agents = authorize::Agents::from([(name, Arc::new(def))]);
        f.orchestrator.authorizer().set_agents(agents);
        Self { f, runs: Vec::new(), tasks: Vec::new(), ran: std::collections::BTreeMap::new() }
    }

    fn control(&self, verb: Verb) -> crate::auth::Permit<crate::auth::Control> {
        self.f.orchestrator.authorizer().control(&cx_of("olga", Role::Operator), verb).unwrap()
    }

    /// Looks as often as it is asked to, and notes what begins.
    async fn settle(&mut self, at: usize, task: RunTask, mut work: Work, mut next: Next) {
        while let Next::Look(look) = next {
            let looked =
                Looked { call_id: look.call_id, grant: look.grant, bound: Ok(Arc::default()) };
            (work, next) = task.commit(work, Outcome::Looked(looked)).await.unwrap();
        }
        if let Next::RunCall(call) = &next {
            self.ran.entry(call.call_id).or_default().0 += 1;
        }
        let is_over = matches!(next, Next::Leave(_));
        self.tasks[at] = (!is_over).then_some((task, work, next));
    }

    async fn back(&mut self, at: usize, answer: Result<Completion, LlmError>) -> bool {
        let Some((task, work, next)) = self.tasks[at].take() else { return false };
        let outcome = match &next {
            Next::CallModel(_) => Outcome::Model(answer),
            Next::RunCall(call) if answer.is_ok() => {
                let ok = crate::domain::ToolOutcome::message(crate::domain::ToolStatus::Ok, "ok");
                Outcome::Tool(call.index, Invoked::from(ok))
            }
            _ => {
                self.tasks[at] = Some((task, work, next));
                return false;
            }
        };
        let (work, next) = task.commit(work, outcome).await.unwrap();
        self.settle(at, task, work, next).await;
        true
    }

    async fn decide(&mut self, at: usize, kind: ApprovalKind, new: NewDecision) -> bool {
        let mut reader = self.f.orchestrator.inner.store.read().await.unwrap();
        let asked = reader.approvals().of_run(self.runs[at]).await.unwrap();
        drop(reader);
        let open = asked.into_iter().find(|a| a.state == ApprovalState::Pending && a.kind == kind);
        let Some(approval) = open else { return false };
        if let (Some(call), Some(UnknownOutcome::Run)) = (approval.call_id, new.outcome) {
            self.ran.entry(call).or_default().1 += 1;
        }
        let ann = cx_of("ann", Role::Admin);
        let permit = self.f.orchestrator.authorizer().decide(&ann).unwrap();
        self.f.orchestrator.decide(permit, approval.id, new, None).await.unwrap();
        true
    }

    async fn obey(&mut self, at: usize, command: &Command) -> bool {
        let new = |decision, outcome| NewDecision {
            decision,
            scope: DecisionScope::Once,
            pattern: None,
            outcome,
            reason: None,
        };
        let orchestrator = self.f.orchestrator.clone();
        let id = self.runs.get(at).copied();
        match command {
            Command::Create => {
                let run = self.f.create(None).await;
                self.runs.push(run.id);
                self.tasks.push(None);
                true
            }
            Command::Claim(_) => {
                if self.tasks[at].is_some() {
                    return false;
                }
                let task = RunTask::by_hand(&orchestrator.inner, id.unwrap());
                let Some(work) = task.load(None).await.unwrap() else { return false };
                let (work, next) = task.commit(work, Outcome::Begin).await.unwrap();
                self.settle(at, task, work, next).await;
                true
            }
            Command::Return(_, asked) => {
                let completion = Completion {
                    text: "words".to_owned(),
                    calls: asked.iter().map(|a| a.proposed()).collect(),
                    usage: TokenUsage { input: 1, output: 1, reported: true },
                    model: "m".to_owned(),
                    finish: Stopped::Stop,
                };
                self.back(at, Ok(completion)).await
            }
            Command::Refuse(_) => {
                let model = "m".to_owned();
                self.back(at, Err(LlmError::UnknownModel { model })).await
            }
            Command::Approve(_) => {
                self.decide(at, ApprovalKind::Tool, new(Decision::Approve, None)).await
            }
            Command::Deny(_) => {
                self.decide(at, ApprovalKind::Tool, new(Decision::Deny, None)).await
            }
            Command::Unknown(_, runs) => {
                let outcome = if *runs { UnknownOutcome::Run } else { UnknownOutcome::Happened };
                let new = new(Decision::Approve, Some(outcome));
                self.decide(at, ApprovalKind::UnknownEffect, new).await
            }
            Command::Cancel(_) => {
                let permit = self.control(Verb::Cancel);
                orchestrator.cancel(permit, id.unwrap(), None, None).await.is_ok()
            }
            Command::Interrupt(_) => {
                let permit = self.control(Verb::Interrupt);
                let mode = InterruptMode::Graceful;
                orchestrator.interrupt(permit, id.unwrap(), mode, None).await.is_ok()
            }
            Command::Resume(_) => {
                let permit = self.control(Verb::Resume);
                orchestrator.resume(permit, id.unwrap(), None, None).await.is_ok()
            }
            Command::Steer(_) => {
                let permit = self.control(Verb::Steer);
                let ended = IfEnded::Fail;
                orchestrator.steer(permit, id.unwrap(), said("go on"), ended, None).await.is_ok()
            }
            Command::Retry(_) => {
                let permit = self.control(Verb::Retry);
                let Ok(done) = orchestrator.retry(permit, id.unwrap(), None).await else {
                    return false;
                };
                self.runs.push(fresh(done).id);
                self.tasks.push(None);
                true
            }
            Command::Crash => {
                self.crash().await;
                true
            }
        }
    }

    /// Everything in memory is gone, and somebody recovers.
    async fn crash(&mut self) {
        self.tasks.iter_mut().for_each(|task| *task = None);
        // Recovery takes the runs of who is gone: from the first crash on, that is this one.
        let epoch = self.f.orchestrator.inner.store.boot_epoch();
        let gone: Result<(), StoreError> = self
            .f
            .orchestrator
            .inner
            .store
            .change(move |tx| {
                Box::pin(async move {
                    let now = tx.database_now().await?;
                    tx.replicas().leave(epoch, now).await
                })
            })
            .await;
        gone.unwrap();
        recovery::recover(&self.f.orchestrator.inner).await.unwrap();
    }

    /// The store, as the model would say it.
    async fn compare(&self, at: usize, model: &Model) {
        let mut reader = self.f.orchestrator.inner.store.read().await.unwrap();
        let id = self.runs[at];
        let core = reader.runs().core(id).await.unwrap().unwrap();
        let wait = core.wait_reason.filter(|_| core.state == RunState::Paused);
        // Nobody asks of a run that has ended whether it was interrupted.
        let is_over = model.state.is_terminal() || model.state == RunState::Cancelling;
        let interrupt = if is_over { core.interrupt } else { model.interrupt };
        assert_eq!(
            (core.state, wait, core.epoch, core.interrupt),
            (model.state, model.wait, model.epoch, interrupt),
            "run {at}"
        );
        let events = reader.events().of_run(id, 0, 10_000).await.unwrap();
        assert_eq!(fold(&events), Ok(model.state));
        if model.state.is_terminal() {
            return;
        }
        assert_eq!(core.steers_waiting, model.steers, "steers of run {at}");
        let holds = core.held_tokens > 0;
        assert_eq!(holds, model.flight == Flight::Model, "what run {at} holds for its model call");
        let calls = match core.step {
            0 => Vec::new(),
            step => reader.calls().of_step(id, step).await.unwrap(),
        };
        let real: Vec<_> = calls.iter().map(|c| (c.state, c.effect)).collect();
        let wanted: Vec<_> = model.calls.iter().map(|c| (c.0, c.1.effect())).collect();
        assert_eq!(real, wanted, "calls of run {at}");
        let is_waiting = model.state == RunState::AwaitingApproval
            || model.wait == Some(WaitReason::EffectUnknown);
        let asked = reader.approvals().of_run(id).await.unwrap();
        let open = asked.iter().filter(|a| a.state == ApprovalState::Pending).count();
        assert_eq!(open, usize::from(is_waiting), "questions of run {at}");
    }

    /// Every change of state has its audit row, in order.
    async fn check_trail(&self) {
        let mut reader = self.f.orchestrator.inner.store.read().await.unwrap();
        for id in &self.runs {
            let mut state = RunState::Queued;
            let mut changes = vec!["run.created".to_owned()];
            for event in reader.events().of_run(*id, 0, 10_000).await.unwrap() {
                if let Some(next) = event.body.input(state).and_then(|i| state.after(i)) {
                    state = next;
                    changes.push(event.body.kind().to_owned());
                }
            }
            let filter = crate::store::AuditFilter {
                kind: Some(crate::domain::AuditKind::RunState.as_str().to_owned()),
                run_id: Some(*id),
                ..crate::store::AuditFilter::default()
            };
            let rows = reader.audit().query(&filter, 10_000).await.unwrap();
            let told = |row: &crate::domain::audit::AuditRow| {
                row.data["event"].as_str().unwrap_or("run.created").to_owned()
            };
            assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), changes, "{id}");
        }
    }

    /// The witness: no unsafe call began more often than people said.
    async fn check_witness(&self) {
        let mut reader = self.f.orchestrator.inner.store.read().await.unwrap();
        for (id, (ran, released)) in &self.ran {
            let call = reader.calls().get(*id).await.unwrap().unwrap();
            assert!(
                call.effect != Effect::Unsafe || *ran <= 1 + released,
                "{id} began {ran} times, {released} released"
            );
        }
    }
}

/// Plays the commands on both sides; the states that were reached.
async fn play(commands: Vec<Command>) -> Vec<(RunState, Option<WaitReason>)> {
    let mut reached = Vec::new();
    let mut real = Real::start().await;
    let mut models: Vec<Model> = Vec::new();
    for command in [Command::Create].into_iter().chain(commands) {
        let at = match &command {
            Command::Create | Command::Crash => 0,
            Command::Claim(n)
            | Command::Return(n, _)
            | Command::Refuse(n)
            | Command::Approve(n)
            | Command::Deny(n)
            | Command::Unknown(n, _)
            | Command::Cancel(n)
            | Command::Interrupt(n)
            | Command::Resume(n)
            | Command::Steer(n)
            | Command::Retry(n) => n % models.len(),
        };
        let wanted = match &command {
            Command::Create | Command::Retry(_) if models.len() >= RUNS_MAX => continue,
            Command::Create => {
                models.push(Model::new());
                true
            }
            Command::Retry(_) if models[at].is_retried => continue,
            Command::Retry(_) => {
                let can = models[at].state == RunState::Failed;
                if can {
                    models[at].is_retried = true;
                    models.push(Model::new());
                }
                can
            }
            Command::Crash => {
                models.iter_mut().for_each(Model::crash);
                true
            }
            other => models[at].obey(other),
        };
        let done = real.obey(at, &command).await;
        assert_eq!(done, wanted, "{command:?} on {:?}", models[at]);
        for (at, model) in models.iter().enumerate() {
            real.compare(at, model).await;
            reached.push((model.state, model.wait));
        }
    }
    real.check_witness().await;
    real.check_trail().await;
    reached
}

fn command() -> impl Strategy<Value = Command> {
    let n = 0..RUNS_MAX;
    let asked = prop_oneof![Just(Asked::List), Just(Asked::Exec), Just(Asked::Shell)];
    let asked = prop::collection::vec(asked, 0..4);
    prop_oneof![
        1 => Just(Command::Create),
        7 => n.clone().prop_map(Command::Claim),
        12 => (n.clone(), asked).prop_map(|(n, asked)| Command::Return(n, asked)),
        1 => n.clone().prop_map(Command::Refuse),
        4 => n.clone().prop_map(Command::Approve),
        1 => n.clone().prop_map(Command::Deny),
        4 => (n.clone(), any::<bool>()).prop_map(|(n, runs)| Command::Unknown(n, runs)),
        1 => n.clone().prop_map(Command::Cancel),
        2 => n.clone().prop_map(Command::Interrupt),
        4 => n.clone().prop_map(Command::Resume),
        2 => n.clone().prop_map(Command::Steer),
        1 => n.prop_map(Command::Retry),
        3 => Just(Command::Crash),
    ]
}

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var(name);
    text.ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

#[test]
fn random_commands_do_to_the_store_what_the_pure_functions_say() {
    let cases = setting("AGENT_RUNTIME_TEST_MODEL_CASES", 48);
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("seed {seed}, {cases} cases");
    let config = ProptestConfig {
        cases: u32::try_from(cases).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let reached = std::sync::Mutex::new(std::collections::HashSet::new());
    let played =
        TestRunner::new(config).run(&prop::collection::vec(command(), 1..60), |commands| {
            let now = runtime.block_on(play(commands));
            reached.lock().unwrap().extend(now);
            Ok(())
        });
    played.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // It is no proof of anything that was never tried.
    let reached = reached.into_inner().unwrap();
    for wanted in [
        (RunState::AwaitingApproval, None),
        (RunState::Paused, Some(WaitReason::EffectUnknown)),
        (RunState::Paused, Some(WaitReason::Interrupted)),
        (RunState::Cancelling, None),
        (RunState::Succeeded, None),
        (RunState::Failed, None),
        (RunState::Cancelled, None),
    ] {
        assert!(reached.contains(&wanted), "{wanted:?} was never reached");
    }
}

#[tokio::test]
async fn a_yes_for_the_run_covers_the_same_arguments_and_no_others() {
    let mut real = Real::start().await;
    real.obey(0, &Command::Create).await;
    real.obey(0, &Command::Claim(0)).await;
    let ask = |script: &str| Completion {
        text: String::new(),
        calls: vec![ProposedCall { name: "shell".to_owned(), args: json!({"script": script}) }],
        usage: TokenUsage { input: 1, output: 1, reported: true },
        model: "m".to_owned(),
        finish: Stopped::Stop,
    };
    assert!(real.back(0, Ok(ask("true"))).await);
    let yes = NewDecision {
        decision: Decision::Approve,
        scope: DecisionScope::Run,
        pattern: None,
        outcome: None,
        reason: None,
    };
    assert!(real.decide(0, ApprovalKind::Tool, yes).await);
    assert!(real.obey(0, &Command::Claim(0)).await);
    // The result, then the same call again: it runs unasked.
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(matches!(&real.tasks[0], Some((_, _, Next::RunCall(_)))));
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(real.back(0, Ok(ask("false"))).await);
    assert!(real.tasks[0].is_none(), "other arguments are another question");
    assert_eq!(real.f.core(real.runs[0]).await.state, RunState::AwaitingApproval);
}
