//! The real transactions on a real store, driven by hand.

use super::*;

/// The real one.
pub(super) struct Real {
    pub(super) f: Fixture,
    pub(super) runs: Vec<RunId>,
    pub(super) tasks: Vec<Option<(RunTask, Work, Next)>>,
    /// Executions of unsafe calls, and how often a person said "run it".
    ran: std::collections::BTreeMap<ToolCallId, (u32, u32)>,
    /// Dropped last: the database goes with it.
    _place: Place,
}

impl Real {
    pub(super) async fn start(place: Place) -> Self {
        let f = match &place {
            Place::File => idle().await,
            Place::Server(database) => idle_on_server(&database.socket_url()).await,
        };
        let (name, def) = agent(&[Role::Member, Role::Operator]);
        let tools = vec![ToolName::ListFiles, ToolName::Exec, ToolName::Shell];
        let allowed_commands = vec!["*".to_owned()];
        let def = AgentDef { tools, allowed_commands, ..AgentDef::clone(&def) };
        let agents = authorize::Agents::from([(name, Arc::new(def))]);
        f.orchestrator.authorizer().set_agents(agents);
        let ran = std::collections::BTreeMap::new();
        Self { f, runs: Vec::new(), tasks: Vec::new(), ran, _place: place }
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

    pub(super) async fn back(&mut self, at: usize, answer: Result<Completion, LlmError>) -> bool {
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

    pub(super) async fn decide(&mut self, at: usize, kind: ApprovalKind, new: NewDecision) -> bool {
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

    pub(super) async fn obey(&mut self, at: usize, command: &Command) -> bool {
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
        // Recovery takes the runs of who is gone, and who is gone writes nothing any more.
        let store = &self.f.orchestrator.inner.store;
        if store.is_shared() {
            store.join_again().await.unwrap();
        } else {
            // Nobody looks at a file's only owner: from the first crash on it is its own successor.
            let epoch = store.boot_epoch();
            let gone: Result<(), StoreError> = store
                .change(move |tx| {
                    Box::pin(async move {
                        let now = tx.database_now().await?;
                        tx.replicas().leave(epoch, now).await
                    })
                })
                .await;
            gone.unwrap();
        }
        recovery::recover(&self.f.orchestrator.inner).await.unwrap();
    }

    /// The store, as the model would say it.
    pub(super) async fn compare(&self, at: usize, model: &Model) {
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
    pub(super) async fn check_trail(&self) {
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
    pub(super) async fn check_witness(&self) {
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
