//! People's answers. An answer binds the arguments and the definition that were shown; the first
//! valid one wins; a restart changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Inner, Orchestrator,
    calls::{self, advance},
    commands::{Done, Idempotency, is_visible},
    consent::may_decide,
    ending::{End, finish},
    error::{CommandError, check_reason},
    patterns::{check_scope, establish},
    transition::{Actor, change},
    verbs::send_on,
};
use crate::{
    auth::{Decide, Permit},
    domain::{
        Approval, ApprovalId, ApprovalKind, ApprovalState, AuditKind, CallInput, Decision,
        DecisionScope, EventBody, PatternBounds, PrincipalId, RunInput, RunState, ToolCall,
        ToolOutcome, ToolStatus, UnknownOutcome, Usd,
        approval::{ApprovalInput, DecisionRecord},
        limits,
    },
    runtime::failpoint::{Point, reach},
    store::{AuditFilter, Durability, RunCore, StoreError, Tx},
};

/// Retries of retries whose authors are looked up.
const RETRIES_MAX: usize = 64;

/// A person's answer.
#[derive(Clone, Debug)]
pub struct NewDecision {
    /// Yes or no.
    pub decision: Decision,
    /// How far a yes reaches.
    pub scope: DecisionScope,
    /// How far exactly, for a pattern.
    pub pattern: Option<PatternBounds>,
    /// What happened, for an unknown effect.
    pub outcome: Option<UnknownOutcome>,
    /// Why; a no's reason goes to the model.
    pub reason: Option<String>,
}

impl Orchestrator {
    /// Decides an approval. Deciding one that is no longer pending is refused as stale.
    pub async fn decide(
        &self,
        permit: Permit<Decide>,
        id: ApprovalId,
        decision: NewDecision,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Approval>, CommandError> {
        check_reason(decision.reason.as_deref())?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", decision.reason);
        let decision = NewDecision { reason, ..decision };
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let approval = decide(tx, &inner, &permit, id, decision).await?;
                    let actor = Actor::from(permit.context());
                    masking.record(tx, &actor, Some(approval.run_id));
                    Ok(approval)
                })
            })
            .await
    }
}

async fn decide(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<Decide>,
    id: ApprovalId,
    new: NewDecision,
) -> Result<Approval, CommandError> {
    let not_found = || CommandError::NotFound { what: "the approval" };
    let mut approval = tx.approvals().get(id).await?.ok_or_else(not_found)?;
    let mut run = tx.runs().core(approval.run_id).await?.ok_or_else(not_found)?;
    if !is_visible(&permit.scope(), &run) {
        return Err(not_found());
    }
    for requester in requesters(tx, &run).await? {
        if let Err(denied) = permit.check(&approval, requester) {
            inner.authorizer.record(permit.context(), "approval.decide", &denied);
            return Err(denied.into());
        }
    }
    if approval.state != ApprovalState::Pending || approval.expires_at <= tx.now() {
        return Err(CommandError::conflict(
            "approval.stale",
            "this approval was decided, has expired or is no longer needed; read it again",
        ));
    }
    check_outcome(&approval, &new)?;
    check_scope(&approval, new.decision, new.scope, new.pattern.as_ref())?;
    let me = permit.context().principal.id;
    // A right may have gone between the request and now: a voice that does not count is not kept.
    if !may_decide(inner, me, &run, &approval.tool, approval.required_role) {
        let why = "your role or scopes were narrowed just now: you may not decide this any more";
        return Err(CommandError::Forbidden(why.to_owned()));
    }
    // Who has said yes may say so again where that is what was missing: they counted for nothing while
    // they could not decide.
    let is_repeated = new.decision == Decision::Approve && approval.approvers().contains(&me);
    if is_repeated && !has_quorum(inner, &run, &approval) {
        return Err(CommandError::conflict(
            "approval.counted",
            format!("you have approved this already; {} different people must", approval.quorum),
        ));
    }
    let record = DecisionRecord {
        principal: me,
        decision: new.decision,
        reason: new.reason,
        at: tx.now(),
        surface: permit.context().surface,
        scope: new.scope,
        pattern: new.pattern,
        outcome: new.outcome,
    };
    if !is_repeated {
        approval.decisions.push(record.clone());
    }
    let input = match record.decision {
        Decision::Deny => Some(ApprovalInput::Deny),
        Decision::Approve => has_quorum(inner, &run, &approval).then_some(ApprovalInput::Approve),
    };
    approval.state = input.and_then(|i| approval.state.after(i)).unwrap_or(approval.state);
    reach(Point::ApprovalDecideBefore).await.map_err(StoreError::from)?;
    tx.approvals().save(&approval).await?;
    let actor = Actor::from(permit.context());
    let data = json!({
        "approval_id": id, "decision": record.decision, "scope": record.scope,
        "outcome": record.outcome, "reason": record.reason, "args_hash": approval.args_hash,
        "binding": approval.binding, "tainted": approval.tainted, "state": approval.state,
        "approvals": approval.approvers().len(), "quorum": approval.quorum,
    });
    tx.audit(actor.entry(AuditKind::ApprovalDecided, &run, data));
    let body = EventBody::ApprovalDecided {
        approval_id: id,
        call_id: approval.call_id,
        state: approval.state,
        decision: record.clone(),
    };
    if approval.state == ApprovalState::Pending {
        // More people must say yes; the run goes on waiting.
        tx.event(&mut run, body)?;
    } else {
        if approval.state == ApprovalState::Approved {
            establish(tx, &run, &approval, permit.context()).await?;
        }
        let answer = Answer { approval: &approval, record: Some(&record), body, actor: &actor };
        apply(tx, inner, &mut run, answer).await?;
    }
    let epoch = run.epoch;
    tx.runs().save(&run, epoch).await?;
    reach(Point::ApprovalDecideAfter).await.map_err(StoreError::from)?;
    Ok(approval)
}

/// Whether enough different people have said yes, of those who still may.
fn has_quorum(inner: &Inner, run: &RunCore, approval: &Approval) -> bool {
    let (required, tool) = (approval.required_role, approval.tool.as_str());
    let approvers = approval.approvers();
    let count = approvers.iter().filter(|id| may_decide(inner, **id, run, tool, required)).count();
    count >= usize::try_from(approval.quorum.max(1)).unwrap_or(usize::MAX)
}

/// Everybody whose words the run has heard: who started it, steered it or answered its questions.
/// Any of them may have asked for the call in question.
pub(super) async fn requesters(tx: &mut Tx, run: &RunCore) -> Result<Vec<PrincipalId>, StoreError> {
    tx.flush().await?;
    let mut requesters = vec![run.principal];
    // The trail is where every command's author stands; what this group has not written counts too.
    let here = tx.unwritten_audit().filter(|entry| {
        entry.kind == AuditKind::Control && entry.run_id == Some(run.id) && speaks(&entry.data)
    });
    requesters.extend(here.filter_map(|entry| entry.actor.parse::<PrincipalId>().ok()));
    // The reason of a no goes to the model like any other word.
    for approval in tx.approvals().of_run(run.id).await? {
        let told = approval.decisions.iter().filter(|d| d.decision == Decision::Deny);
        requesters.extend(told.filter(|d| d.reason.is_some()).map(|d| d.principal));
    }
    // A retry repeats what somebody else may have asked.
    let mut earlier = tx.runs().get(run.id).await?.and_then(|run| run.retry_of);
    for _ in 0..RETRIES_MAX {
        let Some(id) = earlier else { break };
        let Some(first) = tx.runs().get(id).await? else { break };
        requesters.push(first.principal);
        earlier = first.retry_of;
    }
    let mut filter = AuditFilter {
        kind: Some(AuditKind::Control.as_str().to_owned()),
        run_id: Some(run.id),
        ..AuditFilter::default()
    };
    loop {
        let rows = tx.trail().query(&filter, limits::PAGE_MAX).await?;
        let Some(last) = rows.last() else { return Ok(requesters) };
        filter.after = last.n;
        let speaking = rows.iter().filter(|row| speaks(&row.data));
        requesters.extend(speaking.filter_map(|row| row.actor.parse::<PrincipalId>().ok()));
    }
}

/// Whether a row about a command says that somebody spoke to a run.
fn speaks(data: &Value) -> bool {
    matches!(data.get("verb").and_then(Value::as_str), Some("steer" | "resume"))
}

fn check_outcome(approval: &Approval, new: &NewDecision) -> Result<(), CommandError> {
    let detail = match (approval.kind, new.decision, new.outcome) {
        (ApprovalKind::UnknownEffect, Decision::Approve, None) => {
            "say what happened: `outcome` is happened, run, skip or abort"
        }
        (ApprovalKind::UnknownEffect, Decision::Approve, Some(outcome)) => {
            let said = approval.decisions.iter().find_map(|d| d.outcome);
            if said.is_none_or(|said| said == outcome) {
                return Ok(());
            }
            "somebody else has said otherwise what happened: say the same, or deny"
        }
        (ApprovalKind::UnknownEffect, Decision::Deny, Some(UnknownOutcome::Run)) => {
            "`deny` with outcome `run` contradicts itself; approve to run the call, or deny to skip it"
        }
        (ApprovalKind::Tool | ApprovalKind::Budget, _, Some(_)) => {
            "`outcome` is only for an approval of kind unknown_effect"
        }
        _ => return Ok(()),
    };
    Err(CommandError::Invalid {
        code: "approval.outcome",
        pointer: Some("/outcome"),
        detail: detail.to_owned(),
    })
}

/// What a question came to.
struct Answer<'a> {
    /// The question, in its new state.
    approval: &'a Approval,
    /// Who answered; none when time ran out.
    record: Option<&'a DecisionRecord>,
    body: EventBody,
    actor: &'a Actor,
}

/// Carries out an answer, or the end of the time for one.
async fn apply(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    answer: Answer<'_>,
) -> Result<(), CommandError> {
    if answer.approval.kind == ApprovalKind::Tool {
        return decide_call(tx, inner, run, answer).await;
    }
    let Answer { approval, record, body, actor } = answer;
    tx.event(run, body)?;
    match approval.kind {
        ApprovalKind::Tool => Ok(()),
        ApprovalKind::UnknownEffect => {
            let outcome = record.and_then(|r| match r.decision {
                Decision::Approve => r.outcome,
                Decision::Deny => Some(r.outcome.unwrap_or(UnknownOutcome::Skip)),
            });
            settle_unknown(tx, inner, run, approval, outcome, actor).await
        }
        ApprovalKind::Budget => {
            if approval.state == ApprovalState::Approved {
                raise(run, &approval.args);
                send_on(tx, inner, run, actor).await
            } else {
                let end = End::failed("budget.denied", "the run may not use more than its limit");
                finish(tx, inner, run, end, None, actor).await.map(drop)
            }
        }
    }
}

async fn call_of(tx: &mut Tx, approval: &Approval) -> Result<ToolCall, CommandError> {
    let missing = || StoreError::Missing { what: format!("the call of {}", approval.id) };
    let id = approval.call_id.ok_or_else(missing)?;
    Ok(tx.calls().get(id).await?.ok_or_else(missing)?)
}

async fn decide_call(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    answer: Answer<'_>,
) -> Result<(), CommandError> {
    let Answer { approval, record, body, actor } = answer;
    let mut call = call_of(tx, approval).await?;
    if approval.state == ApprovalState::Approved {
        advance(&mut call, CallInput::Approve)?;
        tx.calls().save(&call).await?;
    } else {
        let why = match record.map(|r| r.reason.as_deref()) {
            Some(Some(reason)) => format!("Denied by a person: {}", inner.redactor.redact(reason)),
            Some(None) => "Denied by a person.".to_owned(),
            None => "Nobody approved this in time; it was not executed.".to_owned(),
        };
        run.usage.tool_calls += 1;
        calls::settle(tx, &mut call, ToolOutcome::message(ToolStatus::Error, why)).await?;
    }
    run.wake_at = Some(tx.now().plus(inner.options.wait_max));
    if run.state == RunState::AwaitingApproval {
        change(tx, run, RunInput::Decide, body, actor)?;
    } else {
        tx.event(run, body)?;
    }
    Ok(())
}

async fn settle_unknown(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    approval: &Approval,
    outcome: Option<UnknownOutcome>,
    actor: &Actor,
) -> Result<(), CommandError> {
    let mut call = call_of(tx, approval).await?;
    let text = match outcome {
        Some(UnknownOutcome::Run) => {
            advance(&mut call, CallInput::RunAgain)?;
            tx.calls().save(&call).await?;
            return send_on(tx, inner, run, actor).await;
        }
        Some(UnknownOutcome::Abort) => {
            let end = End::Cancelled {
                reason: Some("aborted: nobody knows whether an unsafe call happened".to_owned()),
                unknown_effects: vec![call.id],
            };
            return finish(tx, inner, run, end, None, actor).await.map(drop);
        }
        Some(UnknownOutcome::Happened) => {
            "The daemon restarted while this ran. A person confirmed that it happened; its output \
             is lost. Do not repeat it."
        }
        Some(UnknownOutcome::Skip) | None => {
            "The daemon restarted while this ran. A person decided to skip it; whether it happened \
             is not known. Do not repeat it."
        }
    };
    let outcome = ToolOutcome::message(ToolStatus::Unknown, text);
    calls::finish(tx, run, &mut call, outcome).await?;
    send_on(tx, inner, run, actor).await
}

/// Raises the limit that the card names to the value that it names.
fn raise(run: &mut RunCore, args: &Value) {
    if let Some(tokens) = args.get("max_tokens").and_then(Value::as_u64) {
        run.limits.max_tokens = run.limits.max_tokens.max(tokens);
    }
    let usd = args.get("max_cost_usd").and_then(Value::as_str).and_then(|s| s.parse::<Usd>().ok());
    if let Some(usd) = usd {
        run.limits.max_cost_usd = run.limits.max_cost_usd.max(usd);
    }
}

/// Ends the time for an answer: it counts as no.
pub(super) async fn expire(inner: &Arc<Inner>, id: ApprovalId) -> Result<(), CommandError> {
    let shared = Arc::clone(inner);
    inner
        .store
        .write(Durability::Full, move |tx| {
            Box::pin(async move {
                let Some(mut approval) = tx.approvals().get(id).await? else { return Ok(()) };
                let Some(state) = approval.state.after(ApprovalInput::Expire) else {
                    return Ok(());
                };
                let Some(mut run) = tx.runs().core(approval.run_id).await? else { return Ok(()) };
                approval.state = state;
                tx.approvals().save(&approval).await?;
                let actor = Actor::system();
                let data = json!({ "approval_id": id, "state": state });
                tx.audit(actor.entry(AuditKind::ApprovalDecided, &run, data));
                let body =
                    EventBody::ApprovalExpired { approval_id: id, call_id: approval.call_id };
                let answer = Answer { approval: &approval, record: None, body, actor: &actor };
                apply(tx, &shared, &mut run, answer).await?;
                let epoch = run.epoch;
                tx.runs().save(&run, epoch).await?;
                Ok(())
            })
        })
        .await
}
