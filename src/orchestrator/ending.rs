//! Ending a run: the same for every way in which it can end.

use serde_json::json;

use super::{
    Inner,
    bundles::{self, Snapshot},
    create::{self, Draft, LimitsPatch},
    error::CommandError,
    model,
    transition::{Actor, change},
};
use crate::{
    auth::CallContext,
    domain::{
        Approval, ApprovalState, AuditKind, Author, BundleId, CallInput, CallState, EventBody,
        Part, RunError, RunId, RunInput, RunState, ToolCall, ToolCallId, ToolOutcome, ToolStatus,
        approval::ApprovalInput,
    },
    store::{BundleKind, Ending, RunCore, Steer, StoreError, Tx},
};

/// How a run ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Succeeded { output: String },
    Failed(RunError),
    Cancelled { reason: Option<String>, unknown_effects: Vec<ToolCallId> },
    Expired,
}

impl End {
    pub(super) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::Failed(RunError { code: code.to_owned(), message: message.into() })
    }
}

/// Ends a run: settles its open calls, voids its approvals, answers its steers, frees its
/// conversation. The caller saves the run. Returns the run that is ready now, if one was waiting.
pub(super) async fn finish(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    end: End,
    snapshot: Option<Snapshot<'_>>,
    actor: &Actor,
) -> Result<Option<RunId>, CommandError> {
    // Whoever ends a run in the middle of a model call has not heard what it cost.
    model::charge(tx, inner, run).await?;
    // A task that ends its own run knows its calls.
    if snapshot.as_ref().is_none_or(|s| !s.calls.is_empty()) {
        settle_calls(tx, run).await?;
    }
    void_approvals(tx, run, actor).await?;
    let end = match (end, snapshot) {
        (End::Succeeded { output }, Some(snapshot)) => {
            match bundles::commit(tx, run, BundleKind::Final, snapshot)? {
                bundles::Committed::Stored => End::Succeeded { output },
                bundles::Committed::SecretFound => secret_found(),
            }
        }
        (end, _) => end,
    };
    let head = matches!(end, End::Succeeded { .. }).then_some(run.head_bundle_id).flatten();
    let next = if tx.conversations().release(run.conversation_id, run.id, head).await? {
        None
    } else {
        hand_over(tx, run, head).await?
    };
    let steered = return_steers(tx, inner, run, actor).await?;
    if let End::Failed(error) = &end {
        inner.alerts.run_failed(&error.code);
    }
    record(tx, run, end, actor)?;
    Ok(next.or(steered))
}

/// Frees the conversation of a run for the one that waits longest, or takes the run out of those
/// that wait.
async fn hand_over(
    tx: &mut Tx,
    run: &RunCore,
    head: Option<BundleId>,
) -> Result<Option<RunId>, StoreError> {
    let mut conversation = tx
        .conversations()
        .get(run.conversation_id)
        .await?
        .ok_or_else(|| StoreError::Missing { what: run.conversation_id.to_string() })?;
    let was_active = conversation.active_run_id == Some(run.id);
    if was_active {
        conversation.active_run_id = None;
    } else if run.state == RunState::Queued {
        conversation.waiting = conversation.waiting.saturating_sub(1);
    }
    conversation.head_bundle_id = head.or(conversation.head_bundle_id);
    let next = if was_active && conversation.waiting > 0 {
        take_next(tx, &mut conversation).await?
    } else {
        None
    };
    tx.conversations().put(&conversation).await?;
    Ok(next)
}

/// Lets the run that waits longest have the conversation of one that was interrupted; none when
/// nobody waits. The caller saves the run, which queues up again when it is resumed.
pub(super) async fn give_way(tx: &mut Tx, run: &mut RunCore) -> Result<Option<RunId>, StoreError> {
    let Some(mut conversation) = tx.conversations().get(run.conversation_id).await? else {
        return Ok(None);
    };
    if conversation.active_run_id != Some(run.id) || conversation.waiting == 0 {
        return Ok(None);
    }
    let Some(next) = take_next(tx, &mut conversation).await? else { return Ok(None) };
    run.ready = false;
    tx.conversations().put(&conversation).await?;
    Ok(Some(next))
}

/// Gives a run that goes on its conversation, or a place behind the run that has it now.
pub(super) async fn queue_up(tx: &mut Tx, run: &mut RunCore) -> Result<(), StoreError> {
    if run.ready {
        return Ok(());
    }
    let missing = || StoreError::Missing { what: run.conversation_id.to_string() };
    let mut conversation =
        tx.conversations().get(run.conversation_id).await?.ok_or_else(missing)?;
    if conversation.active_run_id.is_none() {
        conversation.active_run_id = Some(run.id);
        run.ready = true;
    } else {
        conversation.waiting += 1;
    }
    tx.conversations().put(&conversation).await
}

/// A bundle that would hold a secret is refused, and with it the run.
pub(super) fn secret_found() -> End {
    End::failed(
        "bundle.secret",
        "the conversation holds a secret of this daemon, which a session bundle must not keep; \
         start a new conversation without it",
    )
}

fn record(tx: &mut Tx, run: &mut RunCore, end: End, actor: &Actor) -> Result<(), CommandError> {
    let usage = run.usage;
    let (input, body, stored) = match end {
        End::Succeeded { output } => {
            let stored = Ending { output: Some(output.clone()), error: None };
            (RunInput::Succeed, EventBody::RunSucceeded { output, usage }, stored)
        }
        End::Failed(error) => {
            let stored = Ending { output: None, error: Some(error.clone()) };
            (RunInput::Fail, EventBody::RunFailed { error, usage }, stored)
        }
        End::Cancelled { reason, unknown_effects } => {
            let message = reason.clone().unwrap_or_else(|| "a person cancelled the run".to_owned());
            let error = RunError { code: "run.cancelled".to_owned(), message };
            let stored = Ending { output: None, error: Some(error) };
            (RunInput::Cancel, EventBody::RunCancelled { reason, unknown_effects, usage }, stored)
        }
        End::Expired => {
            let error = RunError {
                code: "run.expired".to_owned(),
                message: "nobody answered in time; retry the run to start again".to_owned(),
            };
            let stored = Ending { output: None, error: Some(error.clone()) };
            (RunInput::Expire, EventBody::RunExpired { error, usage }, stored)
        }
    };
    metrics::counter!("agent_runtime_runs_ended_total", "as" => body.kind()).increment(1);
    change(tx, run, input, body, actor)?;
    run.ready = false;
    run.wake_at = None;
    run.interrupt = None;
    run.wait_reason = None;
    run.ended_at = Some(tx.now());
    run.ending = Some(stored);
    Ok(())
}

/// Gives every open call an outcome and stores what the step's calls came to, so that the
/// conversation is whole for the run that follows.
async fn settle_calls(tx: &mut Tx, run: &RunCore) -> Result<(), StoreError> {
    let mut calls = tx.calls().of_step(run.id, run.step).await?;
    // The step rises when its results are stored: calls that are found here are not stored yet.
    if calls.is_empty() {
        return Ok(());
    }
    for call in &mut calls {
        let Some(state) = call.state.after(CallInput::Finish, call.effect) else { continue };
        let (status, text) = match call.state {
            CallState::Started | CallState::Unknown => {
                (ToolStatus::Unknown, "The run ended; nobody knows whether this happened.")
            }
            _ => (ToolStatus::Killed, "Not executed: the run ended first."),
        };
        call.state = state;
        call.outcome = Some(ToolOutcome::message(status, text));
        tx.calls().save(call).await?;
    }
    let seq = tx.reserve(run.conversation_id).await?;
    tx.message(run.conversation_id, seq, run.id, Author::Tool, result_parts(&calls));
    Ok(())
}

/// What the model is shown of a step's calls.
pub(super) fn result_parts(calls: &[ToolCall]) -> Vec<Part> {
    calls
        .iter()
        .filter_map(|call| {
            let outcome = call.outcome.as_ref()?;
            Some(Part::ToolResult {
                call_id: call.id,
                status: outcome.status,
                text: outcome.output.clone(),
            })
        })
        .collect()
}

async fn void_approvals(tx: &mut Tx, run: &RunCore, actor: &Actor) -> Result<(), StoreError> {
    if run.state == RunState::Running || run.state == RunState::Queued {
        // Only a waiting run has a pending approval.
        return Ok(());
    }
    for mut approval in tx.approvals().of_run(run.id).await? {
        if approval.state != ApprovalState::Pending {
            continue;
        }
        if let Some(state) = approval.state.after(ApprovalInput::Void) {
            approval.state = state;
            tx.approvals().save(&approval).await?;
            let data = json!({ "approval_id": approval.id, "state": ApprovalState::Voided });
            tx.audit(actor.entry(AuditKind::ApprovalDecided, run, data));
        }
    }
    Ok(())
}

/// Lets the run that waits longest have the conversation.
async fn take_next(
    tx: &mut Tx,
    conversation: &mut crate::store::Conversation,
) -> Result<Option<RunId>, StoreError> {
    let Some(id) = tx.runs().behind(conversation.id).await? else { return Ok(None) };
    let Some(mut next) = tx.runs().core(id).await? else { return Ok(None) };
    next.ready = true;
    // It was asked while others worked: it continues what they left, not what it found then.
    next.head_bundle_id = conversation.head_bundle_id;
    let epoch = next.epoch;
    tx.runs().save(&next, epoch).await?;
    conversation.active_run_id = Some(id);
    conversation.waiting = conversation.waiting.saturating_sub(1);
    Ok(Some(id))
}

/// Steers that came too late: each starts a new run or comes back, as its sender asked.
async fn return_steers(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    actor: &Actor,
) -> Result<Option<RunId>, CommandError> {
    if run.steers_waiting == 0 {
        return Ok(None);
    }
    run.steers_waiting = 0;
    let mut ready = None;
    for steer in tx.steers().take(run.id).await? {
        let started_run_id = if steer.starts_new_run {
            follow_up(tx, inner, run, &steer, actor).await?
        } else {
            None
        };
        ready = ready.or(started_run_id);
        let input = steer.input.text();
        tx.event(run, EventBody::SteerFailed { steer_id: steer.id, input, started_run_id })?;
    }
    Ok(ready)
}

async fn follow_up(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    steer: &Steer,
    actor: &Actor,
) -> Result<Option<RunId>, CommandError> {
    // Whoever sent it must be allowed now what a new run of theirs takes.
    let Some(mut sender) = inner.tokens.directory().current(steer.principal) else {
        return Ok(None);
    };
    // The run that ends has heard the steer, so it is narrowed by who sent it.
    let narrowed = tx.run_scopes().of(run.id).await?;
    sender.role = narrowed.role.map_or(sender.role, |then| then.min(sender.role));
    let Some(admitted) = inner.gate.readmit(sender.role) else { return Ok(None) };
    let request_id = actor.request_id.clone().unwrap_or_else(|| steer.id.to_string());
    let cx = CallContext { principal: sender, surface: run.surface, request_id };
    let Ok(permit) = inner.authorizer.start_run(&cx, &run.agent) else { return Ok(None) };
    if permit.in_conversation(Some(run.conversation_id)).is_err() {
        return Ok(None);
    }
    let found = create::visible_conversation(tx, permit.scope(), run.conversation_id).await;
    let mut conversation = match found {
        Ok(conversation) => conversation,
        Err(CommandError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let agent = &permit.action().agent;
    // What a person raised for the run that ends was raised for it alone.
    let asked = LimitsPatch::of(run.limits);
    let draft = Draft {
        principal: steer.principal,
        surface: run.surface,
        agent,
        limits: asked.lower(agent.limits),
        input: steer.input.clone(),
        metadata: std::collections::BTreeMap::new(),
        retry_of: None,
        base_bundle_id: conversation.head_bundle_id,
        admitted,
        narrowed,
        tainted: false,
    };
    match create::insert(tx, inner, &mut conversation, draft, actor).await {
        Ok(started) => Ok(Some(started.id)),
        // The steer comes back as failed instead.
        Err(CommandError::Full { .. } | CommandError::LockedDown) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every approval of a run that still waits.
pub(super) async fn pending(tx: &mut Tx, run: RunId) -> Result<Vec<Approval>, StoreError> {
    let mut approvals = tx.approvals().of_run(run).await?;
    approvals.retain(|a| a.state == ApprovalState::Pending);
    Ok(approvals)
}
