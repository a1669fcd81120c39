//! What people do to a run: interrupt, steer, resume, cancel, retry, fork.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::json;

use super::{
    Inner, Orchestrator,
    commands::{Done, Idempotency, visible_run},
    create::{self, BUSY_INTERRUPT, Draft, LimitsPatch, visible_conversation, whole},
    ending::{self, End, finish},
    error::{CommandError, check_input, check_reason},
    scoped::{hears, left_by, left_to},
    transition::{Actor, change},
};
use crate::{
    auth::{Admitted, CallContext, Control, Denied, Permit},
    domain::{
        AgentDef, AuditKind, BundleId, CallInput, CallState, ConversationId, EventBody,
        InterruptMode, Run, RunId, RunInput, RunState, SteerId, ToolOutcome, ToolStatus, UserInput,
        WaitReason, limits,
    },
    runtime::Redactor,
    store::{Conversation, RunCore, Steer, Tx},
};

/// What becomes of a steer whose run ends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfEnded {
    /// It starts a new run in the same conversation.
    #[default]
    StartNewRun,
    /// It comes back as failed.
    Fail,
}

/// A steer was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SteerAccepted {
    /// Its id, as in the events that follow.
    pub steer_id: SteerId,
}

impl Orchestrator {
    /// Stops a running run at its next safe point; `Hard` also kills its running tool.
    pub async fn interrupt(
        &self,
        permit: Permit<Control>,
        id: RunId,
        mode: InterruptMode,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        let cx = permit.context().clone();
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let mut run = visible_run(tx, permit.scope(), id).await?;
                    if run.state != RunState::Running {
                        return Err(not_in_state(
                            &run,
                            "run.not_running",
                            "only a running run can be interrupted",
                        ));
                    }
                    interrupt(tx, &mut run, mode, permit.context()).await?;
                    whole(tx, id).await
                })
            })
            .await
    }

    /// Stores a message that is injected before the run's next model call.
    pub async fn steer(
        &self,
        permit: Permit<Control>,
        id: RunId,
        input: UserInput,
        if_ended: IfEnded,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<SteerAccepted>, CommandError> {
        check_input(&input)?;
        let mut masking = self.inner.masking();
        let input = masking.input(input);
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let mut run = visible_run(tx, permit.scope(), id).await?;
                    let said = Said { input, if_ended, admitted: inner.admit(permit.context())? };
                    let steer_id = accept_steer(tx, &mut run, permit.context(), said).await?;
                    masking.record(tx, &Actor::from(permit.context()), Some(id));
                    Ok(SteerAccepted { steer_id })
                })
            })
            .await
    }

    /// Sends a paused run on; answers its question where it asked one.
    pub async fn resume(
        &self,
        permit: Permit<Control>,
        id: RunId,
        input: Option<UserInput>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        if let Some(input) = &input {
            check_input(input)?;
        }
        let mut masking = self.inner.masking();
        let input = input.map(|input| masking.input(input));
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let mut run = visible_run(tx, permit.scope(), id).await?;
                    resume(tx, &inner, &mut run, input, permit.context()).await?;
                    masking.record(tx, &Actor::from(permit.context()), Some(id));
                    whole(tx, id).await
                })
            })
            .await
    }

    /// Ends a run. While its work is being stopped it is `cancelling`; asking again is harmless.
    pub async fn cancel(
        &self,
        permit: Permit<Control>,
        id: RunId,
        reason: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        check_reason(reason.as_deref())?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", reason);
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let mut run = visible_run(tx, permit.scope(), id).await?;
                    cancel(tx, &inner, &mut run, reason, permit.context()).await?;
                    masking.record(tx, &Actor::from(permit.context()), Some(id));
                    whole(tx, id).await
                })
            })
            .await
    }

    /// Starts a new run with the input of one that failed or expired.
    pub async fn retry(
        &self,
        permit: Permit<Control>,
        id: RunId,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move { retry(tx, &inner, &permit, id).await })
            })
            .await
    }

    /// Starts a new run in a new conversation that begins with the history of a bundle.
    pub async fn fork(
        &self,
        permit: Permit<Control>,
        id: RunId,
        bundle: Option<BundleId>,
        input: UserInput,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        check_input(&input)?;
        let mut masking = self.inner.masking();
        let input = masking.input(input);
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let run = fork(tx, &inner, &permit, id, bundle, input).await?;
                    masking.record(tx, &Actor::from(permit.context()), Some(run.id));
                    Ok(run)
                })
            })
            .await
    }
}

fn not_in_state(run: &RunCore, code: &'static str, rule: &str) -> CommandError {
    if run.state.is_terminal() {
        CommandError::Terminal
    } else {
        CommandError::conflict(code, format!("{rule}; this one is {}", run.state))
    }
}

async fn interrupt(
    tx: &mut Tx,
    run: &mut RunCore,
    mode: InterruptMode,
    cx: &CallContext,
) -> Result<(), CommandError> {
    run.interrupt = Some(mode);
    tx.event(run, EventBody::InterruptRequested { mode })?;
    let data = json!({ "verb": "interrupt", "mode": mode });
    tx.audit(Actor::from(cx).entry(AuditKind::Control, run, data));
    let epoch = run.epoch;
    tx.runs().save(run, epoch).await?;
    Ok(())
}

/// For a new message that interrupts the conversation's active run: one that runs gives way as
/// soon as it has stopped; `true` for one that was interrupted before and gives way at once. A run
/// that waits for a person's answer keeps its place.
pub(super) async fn interrupt_active(
    tx: &mut Tx,
    active: RunId,
    cx: &CallContext,
) -> Result<bool, CommandError> {
    let Some(mut run) = tx.runs().core(active).await? else { return Ok(false) };
    match (run.state, run.wait_reason) {
        (RunState::Running, _) => {
            interrupt(tx, &mut run, BUSY_INTERRUPT, cx).await?;
            Ok(false)
        }
        (RunState::Paused, Some(WaitReason::Interrupted)) => {
            run.ready = false;
            let epoch = run.epoch;
            tx.runs().save(&run, epoch).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// For a new message that steers the conversation's active run.
pub(super) async fn steer_active(
    tx: &mut Tx,
    active: RunId,
    cx: &CallContext,
    input: UserInput,
    admitted: Admitted,
) -> Result<Run, CommandError> {
    let run = tx.runs().core(active).await?;
    let mut run = run.ok_or(CommandError::NotFound { what: "the active run" })?;
    let said = Said { input, if_ended: IfEnded::StartNewRun, admitted };
    accept_steer(tx, &mut run, cx, said).await?;
    whole(tx, active).await
}

/// What somebody says to a run: it makes the agent work, in this run or in one that follows it.
struct Said {
    input: UserInput,
    if_ended: IfEnded,
    /// Proof that who says it may make agents work. A stored steer has passed the gate.
    admitted: Admitted,
}

async fn accept_steer(
    tx: &mut Tx,
    run: &mut RunCore,
    cx: &CallContext,
    said: Said,
) -> Result<SteerId, CommandError> {
    let Said { input, if_ended, admitted } = said;
    match run.state {
        RunState::Queued | RunState::Running | RunState::AwaitingApproval | RunState::Paused => {}
        RunState::Cancelling
        | RunState::Succeeded
        | RunState::Failed
        | RunState::Cancelled
        | RunState::Expired => {
            return Err(not_in_state(run, "run.cancelling", "a run that ends takes no steer"));
        }
    }
    if usize::try_from(run.steers_waiting).unwrap_or(usize::MAX) >= limits::STEERS_MAX {
        return Err(CommandError::STEERS_FULL);
    }
    let steer = Steer {
        id: SteerId::new(tx.ids()),
        run_id: run.id,
        principal: cx.principal.id,
        input,
        starts_new_run: if_ended == IfEnded::StartNewRun,
        created_at: tx.now(),
    };
    tx.steers().insert(&steer).await?;
    admitted.store();
    hears(tx, run.id, cx).await?;
    run.steers_waiting += 1;
    tx.event(run, EventBody::SteerAccepted { steer_id: steer.id, input: steer.input.text() })?;
    let data = json!({ "verb": "steer", "steer_id": steer.id });
    tx.audit(Actor::from(cx).entry(AuditKind::Control, run, data));
    let epoch = run.epoch;
    tx.runs().save(run, epoch).await?;
    Ok(steer.id)
}

async fn resume(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    input: Option<UserInput>,
    cx: &CallContext,
) -> Result<(), CommandError> {
    if run.state != RunState::Paused {
        return Err(not_in_state(run, "run.not_paused", "only a paused run can be resumed"));
    }
    inner.check_not_locked()?;
    let reason = run.wait_reason.unwrap_or(WaitReason::Operator);
    match reason {
        WaitReason::EffectUnknown | WaitReason::Budget => {
            let waiting = ending::pending(tx, run.id).await?;
            let waits_for_the_day = reason == WaitReason::Budget && waiting.is_empty();
            if waits_for_the_day {
                // Nobody was asked: it looks again whether the budget of the day has room.
                if let Some(input) = input {
                    let admitted = inner.admit(cx)?;
                    let said = Said { input, if_ended: IfEnded::StartNewRun, admitted };
                    accept_steer(tx, run, cx, said).await?;
                }
                return go_on(tx, inner, run, reason, cx).await;
            }
            let ids: Vec<_> = waiting.iter().map(|a| a.id.to_string()).collect();
            return Err(CommandError::conflict(
                "run.awaiting_decision",
                format!("a decision is needed first: {}", ids.join(", ")),
            ));
        }
        WaitReason::Input => {
            let admitted = inner.admit(cx)?;
            hears(tx, run.id, cx).await?;
            // Somebody else's words: not what who started the run has asked for.
            run.tainted |= cx.principal.id != run.principal;
            answer(tx, run, input, &inner.redactor).await?;
            admitted.store();
        }
        WaitReason::Interrupted
        | WaitReason::Operator
        | WaitReason::Backoff
        | WaitReason::Lockdown => {
            if let Some(input) = input {
                let admitted = inner.admit(cx)?;
                let said = Said { input, if_ended: IfEnded::StartNewRun, admitted };
                accept_steer(tx, run, cx, said).await?;
            }
        }
    }
    go_on(tx, inner, run, reason, cx).await
}

async fn go_on(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    reason: WaitReason,
    cx: &CallContext,
) -> Result<(), CommandError> {
    let data = json!({ "verb": "resume", "reason": reason });
    tx.audit(Actor::from(cx).entry(AuditKind::Control, run, data));
    send_on(tx, inner, run, &Actor::from(cx)).await?;
    let epoch = run.epoch;
    tx.runs().save(run, epoch).await?;
    Ok(())
}

/// Puts a paused run back into the queue. The caller saves it.
pub(super) async fn send_on(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    actor: &Actor,
) -> Result<(), CommandError> {
    ending::queue_up(tx, run).await?;
    let reason = run.wait_reason.take().unwrap_or(WaitReason::Operator);
    run.interrupt = None;
    run.wake_at = Some(tx.now().plus(inner.options.wait_max));
    if reason == WaitReason::Operator {
        // A person looked: the run gets its recoveries again.
        run.recoveries = 0;
    }
    change(tx, run, RunInput::Resume, EventBody::RunResumed { reason }, actor)?;
    Ok(())
}

/// Makes the input the outcome of the question that the run asked.
async fn answer(
    tx: &mut Tx,
    run: &mut RunCore,
    input: Option<UserInput>,
    redactor: &Redactor,
) -> Result<(), CommandError> {
    let input = input.ok_or_else(|| CommandError::Invalid {
        code: "run.input_required",
        pointer: Some("/input"),
        detail: "the agent asked a question: give the answer as `input`".to_owned(),
    })?;
    let calls = tx.calls().of_step(run.id, run.step).await?;
    let Some(mut call) = calls.into_iter().find(|c| c.state == CallState::Gated) else {
        return Ok(());
    };
    if let Some(state) = call.state.after(CallInput::Finish, call.effect) {
        call.state = state;
        let text = redactor.redact(&input.text()).into_owned();
        let outcome = ToolOutcome::message(ToolStatus::Ok, text);
        super::calls::completed(tx, run, call.id, &outcome)?;
        call.outcome = Some(outcome);
        tx.calls().save(&call).await?;
    }
    Ok(())
}

async fn cancel(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    reason: Option<String>,
    cx: &CallContext,
) -> Result<(), CommandError> {
    let actor = Actor::from(cx);
    let data = json!({ "verb": "cancel", "reason": reason });
    match run.state {
        RunState::Succeeded | RunState::Failed | RunState::Cancelled | RunState::Expired => {
            return Err(CommandError::Terminal);
        }
        RunState::Cancelling => return Ok(()),
        RunState::Running => {
            tx.audit(actor.entry(AuditKind::Control, run, data));
            let body = EventBody::CancelRequested { reason };
            change(tx, run, RunInput::RequestCancel, body, &actor)?;
        }
        RunState::Queued | RunState::Paused | RunState::AwaitingApproval => {
            tx.audit(actor.entry(AuditKind::Control, run, data));
            tx.event(run, EventBody::CancelRequested { reason: reason.clone() })?;
            let end = End::Cancelled { reason, unknown_effects: unknown_effects(tx, run).await? };
            finish(tx, inner, run, end, None, &actor).await?;
        }
    }
    let epoch = run.epoch;
    tx.runs().save(run, epoch).await?;
    Ok(())
}

/// Calls of the current step of which nobody knows whether they happened.
pub(super) async fn unknown_effects(
    tx: &mut Tx,
    run: &RunCore,
) -> Result<Vec<crate::domain::ToolCallId>, CommandError> {
    let calls = tx.calls().of_step(run.id, run.step).await?;
    let is_unknown = |state| matches!(state, CallState::Started | CallState::Unknown);
    Ok(calls
        .into_iter()
        .filter(|c| !c.effect.is_repeatable() && is_unknown(c.state))
        .map(|c| c.id)
        .collect())
}

async fn retry(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<Control>,
    id: RunId,
) -> Result<Run, CommandError> {
    let run = visible_run(tx, permit.scope(), id).await?;
    if !matches!(run.state, RunState::Failed | RunState::Expired) {
        return Err(CommandError::conflict(
            "run.not_failed",
            format!("only a failed or expired run can be retried; this one is {}", run.state),
        ));
    }
    let agent = agent_of(inner, permit.context(), &run)?;
    let first = whole(tx, id).await?;
    let mut conversation = visible_conversation(tx, permit.scope(), run.conversation_id).await?;
    let actor = Actor::from(permit.context());
    tx.audit(actor.entry(AuditKind::Control, &run, json!({ "verb": "retry" })));
    let draft = Draft {
        principal: permit.context().principal.id,
        surface: permit.context().surface,
        agent: &agent,
        // What a person raised for the first run was raised for it alone.
        limits: LimitsPatch::of(run.limits).lower(agent.limits),
        input: first.input,
        metadata: first.metadata,
        retry_of: Some(id),
        base_bundle_id: conversation.head_bundle_id,
        admitted: inner.admit(permit.context())?,
        narrowed: left_by(permit.context()).and(&left_to(tx, inner, &run).await?),
        tainted: run.tainted || run.principal != permit.context().principal.id,
    };
    create::insert(tx, inner, &mut conversation, draft, &actor).await
}

async fn fork(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<Control>,
    id: RunId,
    bundle: Option<BundleId>,
    input: UserInput,
) -> Result<Run, CommandError> {
    tx.flush().await?;
    let admitted = inner.admit(permit.context())?;
    let run = visible_run(tx, permit.scope(), id).await?;
    // A deleted conversation has no history left to begin with.
    visible_conversation(tx, permit.scope(), run.conversation_id).await?;
    let wanted = bundle.or(run.head_bundle_id).ok_or_else(|| {
        CommandError::conflict("run.no_bundle", "this run has not committed a bundle yet")
    })?;
    let bundle = tx
        .bundles()
        .get(wanted)
        .await?
        .filter(|b| b.conversation_id == run.conversation_id)
        .ok_or(CommandError::NotFound { what: "the bundle" })?;
    let agent = agent_of(inner, permit.context(), &run)?;
    let into = ConversationId::new(tx.ids());
    let from = bundle.history;
    tx.conversations().copy_messages(from.conversation_id, from.last_seq, into).await?;
    let mut conversation = Conversation {
        last_seq: from.last_seq,
        forked_from: Some(wanted),
        ..Conversation::new(into, permit.context().principal.id, tx.now())
    };
    let actor = Actor::from(permit.context());
    let data = json!({ "verb": "fork", "bundle_id": wanted });
    tx.audit(actor.entry(AuditKind::Control, &run, data));
    let draft = Draft {
        principal: permit.context().principal.id,
        surface: permit.context().surface,
        agent: &agent,
        limits: agent.limits,
        input,
        metadata: BTreeMap::new(),
        retry_of: None,
        base_bundle_id: Some(wanted),
        admitted,
        narrowed: left_by(permit.context()),
        tainted: false,
    };
    create::insert(tx, inner, &mut conversation, draft, &actor).await
}

/// The run's agent, for a new run: whoever starts one must be allowed to start it today.
fn agent_of(inner: &Inner, cx: &CallContext, run: &RunCore) -> Result<Arc<AgentDef>, CommandError> {
    match inner.authorizer.start_run(cx, &run.agent) {
        Ok(permit) => Ok(Arc::clone(&permit.action().agent)),
        Err(Denied::UnknownAgent) => Err(CommandError::conflict(
            "agent.removed",
            format!("agent `{}` is no longer configured", run.agent),
        )),
        Err(denied) => Err(denied.into()),
    }
}
