//! One transaction of a run in progress: store what came back, then decide until the next effect,
//! whose intent is stored in the same commit.
//!
//! That is the whole crash story: between two effects there is one commit, and it names the next.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Inner,
    budgets::{self, Exhausted},
    bundles::{self, Snapshot},
    calls::{self, At, Decided},
    capabilities,
    consent::{Looked, requester_gone},
    ending::{self, End, finish},
    error::CommandError,
    model::{self, Obstacle},
    questions,
    step::{self, Facts, Finish, Step},
    transition::{Actor, change},
    work::{Look, Next, Outcome, Started, Work},
};
use crate::{
    domain::{
        AgentDef, AuditKind, Author, CallState, Day, Effect, EventBody, Part, Risk, RunInput,
        RunState, ToolCall, ToolCallId, ToolOutcome, ToolStatus, WaitReason, event::MessageBody,
        limits,
    },
    llm::{Completion, LlmError, Request},
    runtime::RetryPolicy,
    store::{BundleKind, RunCore, StepRow, StoreError, Tx},
    tools,
};

/// Waits for a provider that fails: three of them, then the run fails.
const BACKOFF: RetryPolicy =
    RetryPolicy { attempts: 4, first: Duration::from_secs(10), longest: Duration::from_secs(300) };

/// Stores an outcome and goes on to the next effect.
///
/// # Errors
/// [`StoreError::Stale`] when the run is no longer ours.
pub(super) async fn advance(
    tx: &mut Tx,
    inner: &Inner,
    mut work: Work,
    outcome: Outcome,
    is_stopping: bool,
) -> Result<(Work, Next), CommandError> {
    let stale = || StoreError::Stale { what: work.id.to_string() };
    let mut run = match work.epoch {
        Some(_) => tx.runs().core(work.id).await?.ok_or_else(stale)?,
        None => match tx.runs().free(work.id).await? {
            Some(run) => run,
            // Another replica is claiming it.
            None => return Ok((work, Next::Leave(None))),
        },
    };
    let believed = run.epoch;
    match work.epoch {
        Some(epoch) if epoch == run.epoch => {}
        Some(_) => return Err(stale().into()),
        None if run.state != RunState::Queued
            || !run.ready
            || is_stopping
            || inner.lockdown.is_on() =>
        {
            return Ok((work, Next::Leave(None)));
        }
        None => claim(tx, inner, &mut run, &mut work).await?,
    }
    count_time(&mut run, &mut work);
    let Some(agent) = work.agent.clone() else {
        let end = calls::agent_removed(&run.agent);
        let ready = finish(tx, inner, &mut run, end, None, &Actor::system()).await?;
        tx.runs().save(&run, believed).await?;
        return Ok((work, Next::Leave(ready)));
    };
    let mut turn = Turn { tx, inner, run, work, agent, is_stopping, looked: None };
    let next = match turn.store(outcome).await? {
        Some(next) => next,
        None => turn.go_on().await?,
    };
    let Turn { tx, run, mut work, .. } = turn;
    work.seq = run.seq;
    let left_ms = run.limits.timeout_secs.saturating_mul(1_000).saturating_sub(run.worked_ms);
    work.time_left = Duration::from_millis(left_ms);
    tx.runs().save(&run, believed).await?;
    Ok((work, next))
}

async fn claim(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    work: &mut Work,
) -> Result<(), CommandError> {
    run.epoch += 1;
    run.owner = Some(inner.store.boot_epoch());
    run.wake_at = None;
    work.epoch = Some(run.epoch);
    run.tainted |= work.is_heir_to_taint;
    change(tx, run, RunInput::Claim, EventBody::RunStarted {}, &Actor::system())?;
    if let Some(agent) = &work.agent {
        work.capability = capabilities::give(tx, inner, run, agent).await?;
    }
    if run.started_at.is_none() {
        run.started_at = Some(tx.now());
        let seq = tx.reserve(run.conversation_id).await?;
        let parts = work.input.parts();
        let message = tx.message(run.conversation_id, seq, run.id, Author::User, parts);
        work.history.push(Arc::new(message));
    }
    Ok(())
}

fn count_time(run: &mut RunCore, work: &mut Work) {
    let now = tokio::time::Instant::now();
    let millis = now.duration_since(work.counted).as_millis();
    run.worked_ms = run.worked_ms.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX));
    work.counted = now;
}

/// The transaction's state while it decides.
struct Turn<'t> {
    tx: &'t mut Tx,
    inner: &'t Inner,
    run: RunCore,
    work: Work,
    agent: Arc<AgentDef>,
    is_stopping: bool,
    /// What the next gated call would touch, if that was just found out.
    looked: Option<Looked>,
}

impl Turn<'_> {
    /// Stores what came back; a next step when that alone decides it.
    async fn store(&mut self, outcome: Outcome) -> Result<Option<Next>, CommandError> {
        match outcome {
            Outcome::Begin => Ok(None),
            Outcome::Looked(looked) => {
                self.looked = Some(looked);
                Ok(None)
            }
            Outcome::Tool(index, invoked) => {
                self.progressed();
                if let Some(call) = self.work.calls.get_mut(index) {
                    calls::store(self.tx, &mut self.run, call, invoked).await?;
                }
                Ok(None)
            }
            Outcome::Model(Ok(completion)) => {
                self.progressed();
                self.answered(completion).await?;
                Ok(None)
            }
            Outcome::Model(Err(LlmError::Cancelled)) => {
                model::charge(self.tx, self.inner, &mut self.run).await?;
                Ok(None)
            }
            Outcome::Model(Err(error)) => {
                if error.may_cost() {
                    model::charge(self.tx, self.inner, &mut self.run).await?;
                } else {
                    model::release(self.tx, self.inner, &mut self.run).await?;
                }
                self.model_failed(&error).await.map(Some)
            }
        }
    }

    /// A run that gets somewhere may be recovered and wait for its provider again.
    const fn progressed(&mut self) {
        self.run.recoveries = 0;
        self.run.backoffs = 0;
    }

    async fn answered(&mut self, completion: Completion) -> Result<(), CommandError> {
        let Completion { text, calls, usage, model, .. } = completion;
        // A fallback has another one.
        self.uses_key_of(&model);
        let price = self.inner.llm.price(&model, usage.input, usage.output);
        let step = StepRow {
            run_id: self.run.id,
            n: self.run.step,
            model,
            input_tokens: usage.input,
            output_tokens: usage.output,
            cost: price,
            reported: usage.reported,
            at: self.tx.now(),
        };
        model::settle(self.tx, self.inner, &mut self.run, &step).await?;
        self.tx.step(step);
        let mut parts = Vec::new();
        if !text.is_empty() {
            let text = self.inner.redactor.redact(&text).into_owned();
            parts.push(Part::Text { text });
        }
        self.work.calls.clear();
        for (proposed, index) in calls.into_iter().zip(0_u32..) {
            let call = self.propose(proposed.name, proposed.args, index);
            parts.push(Part::ToolCall {
                call_id: call.id,
                tool: call.tool.clone(),
                args: call.args.clone(),
            });
            self.work.calls.push(call);
        }
        let content = parts.clone();
        let message = MessageBody { role: Author::Assistant, content };
        self.tx.event(&mut self.run, EventBody::MessageCompleted { message })?;
        self.say(Author::Assistant, parts).await?;
        for call in &self.work.calls {
            self.tx.calls().insert(call);
            let body = EventBody::ToolRequested {
                call_id: call.id,
                tool: call.tool.clone(),
                args: call.args.clone(),
                effect: call.effect,
                risk: call.risk,
            };
            self.tx.event(&mut self.run, body)?;
        }
        Ok(())
    }

    /// Records once, each time the run is taken up, that it uses a model's key.
    fn uses_key_of(&mut self, model: &str) {
        let Some(name) = self.inner.llm.key_name(model) else { return };
        if self.work.keys.insert(name.clone()) {
            let data = json!({ "name": name, "model": model });
            self.tx.audit(Actor::system().entry(AuditKind::SecretUsed, &self.run, data));
        }
    }

    /// What a model writes into a call is stored, shown and carried out without registered secrets.
    fn without_secrets(&mut self, tool: &str, args: Value) -> Value {
        if !self.inner.redactor.finds_secret(&args.to_string()) {
            return args;
        }
        let data = json!({ "place": "tool arguments", "tool": tool });
        self.tx.audit(Actor::system().entry(AuditKind::SecretBlocked, &self.run, data));
        self.inner.redactor.redact_json(args)
    }

    fn propose(&mut self, tool: String, args: Value, index: u32) -> ToolCall {
        let is_extra = usize::try_from(index).unwrap_or(usize::MAX) >= limits::CALLS_PER_STEP_MAX;
        let tool = self.inner.redactor.redact(&tool).into_owned();
        let args = self.without_secrets(&tool, args);
        let outcome = is_extra.then(|| {
            let text =
                format!("Skipped: at most {} calls in one step.", limits::CALLS_PER_STEP_MAX);
            ToolOutcome::message(ToolStatus::Error, text)
        });
        ToolCall {
            id: ToolCallId::new(self.tx.ids()),
            run_id: self.run.id,
            step: self.run.step,
            index,
            args_hash: tools::args_hash(&tool, &args),
            effect: calls::effect_of(&tool, &args),
            risk: Risk::Low,
            state: if is_extra { CallState::Done } else { CallState::Proposed },
            attempts: 0,
            outcome,
            tool,
            args,
        }
    }

    /// Appends a message to the conversation.
    async fn say(&mut self, role: Author, parts: Vec<Part>) -> Result<(), StoreError> {
        let conversation = self.run.conversation_id;
        let seq = self.tx.reserve(conversation).await?;
        let message = self.tx.message(conversation, seq, self.run.id, role, parts);
        self.work.history.push(Arc::new(message));
        Ok(())
    }

    async fn model_failed(&mut self, error: &LlmError) -> Result<Next, CommandError> {
        let class = error.class();
        tracing::warn!(class = class.as_str(), error = %error, "the model gave no answer");
        if self.run.state == RunState::Cancelling {
            return self.finish(Finish::Cancelled).await;
        }
        if error.is_retryable() && self.run.backoffs + 1 < BACKOFF.attempts {
            self.run.backoffs += 1;
            let wait = BACKOFF.wait(self.run.backoffs + 1, self.tx.ids().jitter());
            let wait = error.retry_after().unwrap_or(wait).clamp(wait, BACKOFF.longest);
            let detail = format!("{error}; trying again in {} s", wait.as_secs());
            return self.wait(wait, detail).await;
        }
        let end = End::Failed(crate::domain::RunError {
            code: format!("llm.{}", class.as_str()),
            message: self.inner.redactor.redact(&error.to_string()).into_owned(),
        });
        self.end(end).await
    }

    fn facts(&self) -> Facts {
        let run = &self.run;
        let has_final_answer = self.work.history.last().is_some_and(|m| {
            m.role == Author::Assistant
                && m.run_id == run.id
                && !m.content.iter().any(|p| matches!(p, Part::ToolCall { .. }))
        });
        Facts {
            state: run.state,
            interrupt: run.interrupt,
            is_locked: self.inner.lockdown.is_on()
                || self.inner.lockdown.count() != self.work.lockdowns,
            is_revoked: self.work.capability.as_ref().is_none_or(|c| self.tx.is_revoked(c.id())),
            is_stopping: self.is_stopping,
            is_out_of_time: run.worked_ms >= run.limits.timeout_secs.saturating_mul(1_000),
            has_steers: run.steers_waiting > 0,
            has_final_answer,
            calls: self.work.calls.iter().map(|c| c.state).collect(),
            steps_left: run.limits.max_steps.saturating_sub(run.usage.llm_calls),
            calls_left: run.limits.max_tool_calls.saturating_sub(run.usage.tool_calls),
        }
    }

    /// Decides until there is an effect to carry out, or nothing to do here.
    async fn go_on(&mut self) -> Result<Next, CommandError> {
        loop {
            match step::next(&self.facts()) {
                Step::Leave => return Ok(Next::Leave(None)),
                Step::Release => return self.release(),
                Step::Pause(reason) => return self.pause(reason, None).await,
                Step::Finish(how) => return self.finish(how).await,
                Step::SkipRest => self.skip_rest().await?,
                Step::CallModel => return self.call_model().await,
                Step::Decide(index) => {
                    if let Some(next) = self.decide(index).await? {
                        return Ok(next);
                    }
                }
            }
        }
    }

    async fn decide(&mut self, index: usize) -> Result<Option<Next>, CommandError> {
        let Some(call) = self.work.calls.get_mut(index) else { return Ok(None) };
        let call_id = call.id;
        let held = &mut self.work.capability;
        let (tx, run) = (&mut *self.tx, &mut self.run);
        let at = At { agent: &self.agent, looked: self.looked.as_ref() };
        match calls::decide(tx, self.inner, run, at, held, call).await? {
            Decided::Settled => Ok(None),
            Decided::Start { invocation, grant, bound, note } => {
                Ok(Some(Next::RunCall(Started { index, call_id, invocation, grant, bound, note })))
            }
            Decided::Look { invocation, grant } => {
                Ok(Some(Next::Look(Look { call_id, invocation, grant })))
            }
            Decided::End(end) => self.end(end).await.map(Some),
            Decided::Gated => {
                // The run waits now; the bundle is what it can be forked from meanwhile.
                self.safe_point().await.map(Some)
            }
            Decided::Question(text) => self.pause(WaitReason::Input, Some(text)).await.map(Some),
        }
    }

    async fn skip_rest(&mut self) -> Result<(), CommandError> {
        for call in &mut self.work.calls {
            if matches!(call.state, CallState::Proposed | CallState::Approved) {
                let text = "Skipped: the user sent a new message; read it first.";
                let outcome = ToolOutcome::message(ToolStatus::Killed, text);
                calls::completed(self.tx, &mut self.run, call.id, &outcome)?;
                calls::settle(self.tx, call, outcome).await?;
            }
        }
        Ok(())
    }

    /// The run's capability was revoked: no call that has not begun may begin.
    async fn deny_rest(&mut self) -> Result<(), CommandError> {
        let held = self.work.capability.as_ref();
        for call in &mut self.work.calls {
            if matches!(call.state, CallState::Proposed | CallState::Approved) {
                let (tx, run) = (&mut *self.tx, &mut self.run);
                calls::refuse_revoked(tx, run, held, call).await?;
            }
        }
        Ok(())
    }

    async fn call_model(&mut self) -> Result<Next, CommandError> {
        if !self.work.calls.is_empty() {
            let parts = ending::result_parts(&self.work.calls);
            self.say(Author::Tool, parts).await?;
            self.work.calls.clear();
        }
        if let Some(end) = requester_gone(self.inner, &self.run, &self.agent) {
            return self.end(end).await;
        }
        self.run.step += 1;
        self.apply_steers().await?;
        let mut request = Request {
            model: self.agent.model.clone(),
            system: Arc::from(self.agent.system_prompt.as_str()),
            messages: self.work.history.clone(),
            tools: Arc::clone(&self.work.schemas),
            max_output_tokens: self.agent.max_output_tokens,
        };
        match model::reserve(self.tx, self.inner, &mut self.run, &mut request).await? {
            Ok(()) => {
                self.run.usage.llm_calls += 1;
                self.uses_key_of(&request.model);
                Ok(Next::CallModel(request))
            }
            Err(Obstacle::RunLimit(refused)) => self.refuse_budget(refused).await,
            Err(Obstacle::Budget(exhausted)) => self.refuse_day(exhausted).await,
            Err(Obstacle::Wait { wait, what }) => self.wait(wait, what.to_owned()).await,
        }
    }

    async fn apply_steers(&mut self) -> Result<(), CommandError> {
        if self.run.steers_waiting == 0 {
            return Ok(());
        }
        self.run.steers_waiting = 0;
        for steer in self.tx.steers().take(self.run.id).await? {
            // Somebody else's words: not what who started the run has asked for.
            self.run.tainted |= steer.principal != self.run.principal;
            self.say(Author::User, steer.input.parts()).await?;
            let body = EventBody::SteerApplied { steer_id: steer.id, step: self.run.step };
            self.tx.event(&mut self.run, body)?;
        }
        Ok(())
    }

    async fn refuse_budget(&mut self, refused: model::Refused) -> Result<Next, CommandError> {
        let model::Refused { limit, allowed, needed, raise } = refused;
        let detail = Some(format!("{limit} is {allowed}; the next model call could need {needed}"));
        let body = EventBody::BudgetRefused { limit: limit.to_owned(), allowed, needed };
        self.tx.event(&mut self.run, body)?;
        let next = self.pause(WaitReason::Budget, detail).await?;
        if self.run.state == RunState::Paused {
            let (tx, run) = (&mut *self.tx, &mut self.run);
            questions::ask_budget(tx, self.inner, run, &self.agent, raise).await?;
        }
        Ok(next)
    }

    /// Waits for the day to end or for an administrator: nobody else can raise these budgets.
    async fn refuse_day(&mut self, exhausted: Exhausted) -> Result<Next, CommandError> {
        let day = Day::of(self.tx.now());
        let detail = exhausted.detail(day);
        budgets::refused(self.tx, self.inner, &exhausted.subject, day).await?;
        let Exhausted { subject, what, allowed, needed, .. } = exhausted;
        let limit = format!("{}.{what}", subject.scope);
        let data = json!({
            "refused": limit, "subject": subject.subject, "allowed": allowed, "needed": needed,
        });
        self.tx.audit(Actor::system().entry(AuditKind::Budget, &self.run, data));
        self.tx.event(&mut self.run, EventBody::BudgetRefused { limit, allowed, needed })?;
        let next = self.pause(WaitReason::Budget, Some(detail)).await?;
        if self.run.state == RunState::Paused {
            // Not all of them in the first moment of the day.
            let late = Duration::from_millis(u64::from(self.tx.ids().jitter() % 60_000));
            self.run.wake_at = Some(day.next().start().plus(late));
        }
        Ok(next)
    }

    /// Pauses for a time.
    async fn wait(&mut self, wait: Duration, detail: String) -> Result<Next, CommandError> {
        let next = self.pause(WaitReason::Backoff, Some(detail)).await?;
        if self.run.state == RunState::Paused {
            self.run.wake_at = Some(self.tx.now().plus(wait));
        }
        Ok(next)
    }

    async fn pause(
        &mut self,
        reason: WaitReason,
        detail: Option<String>,
    ) -> Result<Next, CommandError> {
        if let Some(end) = self.bundle(BundleKind::SafePoint)? {
            return self.end(end).await;
        }
        self.run.interrupt = None;
        self.run.wait_reason = Some(reason);
        self.run.wake_at = Some(self.tx.now().plus(self.inner.options.wait_max));
        let body = EventBody::RunPaused { reason, detail };
        change(self.tx, &mut self.run, RunInput::Pause, body, &Actor::system())?;
        if reason == WaitReason::Interrupted {
            return Ok(Next::Leave(ending::give_way(self.tx, &mut self.run).await?));
        }
        Ok(Next::Leave(None))
    }

    /// Commits a bundle while the run waits for a person.
    async fn safe_point(&mut self) -> Result<Next, CommandError> {
        match self.bundle(BundleKind::SafePoint)? {
            // An approval of a run that must not go on: it ends like any waiting run.
            Some(_) => {
                let reason = Some("a secret would have been kept in a session bundle".to_owned());
                self.end(End::Cancelled { reason, unknown_effects: Vec::new() }).await
            }
            None => Ok(Next::Leave(None)),
        }
    }

    /// Commits a bundle; how the run must end when it would have held a secret.
    fn bundle(&mut self, kind: BundleKind) -> Result<Option<End>, CommandError> {
        let workspace = self.agent.workspace.to_string_lossy();
        let snapshot = snapshot(&self.work, &workspace);
        match bundles::commit(self.tx, &mut self.run, kind, snapshot)? {
            bundles::Committed::Stored => Ok(None),
            bundles::Committed::SecretFound => Ok(Some(ending::secret_found())),
        }
    }

    /// Gives the run back: the daemon stops and the next one goes on.
    fn release(&mut self) -> Result<Next, CommandError> {
        let from_epoch = self.run.epoch;
        self.run.epoch += 1;
        self.run.owner = None;
        self.run.wake_at = Some(self.tx.now().plus(self.inner.options.wait_max));
        let body = EventBody::RunRecovered {
            from_epoch,
            to_epoch: self.run.epoch,
            recoveries: self.run.recoveries,
            paused: None,
        };
        change(self.tx, &mut self.run, RunInput::Recover, body, &Actor::system())?;
        Ok(Next::Leave(None))
    }

    async fn finish(&mut self, how: Finish) -> Result<Next, CommandError> {
        let end = match how {
            Finish::Succeeded => End::Succeeded { output: self.final_text() },
            Finish::Cancelled => {
                let unknown_effects = self.unsafe_killed();
                End::Cancelled { reason: None, unknown_effects }
            }
            Finish::OutOfTime => End::failed(
                "run.timeout",
                format!("the run worked for {} s, its limit", self.run.limits.timeout_secs),
            ),
            Finish::OutOfSteps => End::failed(
                "run.max_steps",
                format!("the run used its {} model calls", self.run.limits.max_steps),
            ),
            Finish::Revoked => {
                self.deny_rest().await?;
                let why = capabilities::why_revoked(self.tx, &self.run).await?;
                End::failed("capability.revoked", why)
            }
            Finish::OutOfCalls => End::failed(
                "run.max_tool_calls",
                format!("the run used its {} tool calls", self.run.limits.max_tool_calls),
            ),
        };
        self.end(end).await
    }

    async fn end(&mut self, end: End) -> Result<Next, CommandError> {
        let workspace = self.agent.workspace.to_string_lossy().into_owned();
        let (tx, inner, run) = (&mut *self.tx, self.inner, &mut self.run);
        let snapshot = snapshot(&self.work, &workspace);
        let ready = finish(tx, inner, run, end, Some(snapshot), &Actor::system()).await?;
        Ok(Next::Leave(ready))
    }

    fn final_text(&self) -> String {
        let parts = self.work.history.last().map(|m| m.content.as_slice()).unwrap_or_default();
        let texts = parts.iter().filter_map(|p| match p {
            Part::Text { text } => Some(text.as_str()),
            Part::ToolCall { .. } | Part::ToolResult { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Unsafe calls that were killed half-way: whether they had their effect is not known.
    fn unsafe_killed(&self) -> Vec<ToolCallId> {
        let was_killed = |c: &&ToolCall| {
            c.effect == Effect::Unsafe
                && c.attempts > 0
                && c.outcome.as_ref().is_some_and(|o| o.status == ToolStatus::Killed)
        };
        self.work.calls.iter().filter(was_killed).map(|c| c.id).collect()
    }
}

fn snapshot<'a>(work: &'a Work, workspace: &'a str) -> Snapshot<'a> {
    Snapshot {
        workspace,
        calls: &work.calls,
        history: &work.history,
        last_seq: work.history.last().map_or(0, |m| m.seq),
    }
}
