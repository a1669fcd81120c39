//! Tool calls inside a transaction: decide, gate, start, complete. Nothing is executed here.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    Inner,
    ending::End,
    transition::{Actor, change},
};
use crate::{
    auth::policy::{self, Policy, RuleName, Verdict},
    domain::{
        AgentDef, Approval, ApprovalId, ApprovalKind, ApprovalState, AuditKind, CallFacts,
        CallInput, CallState, DecisionScope, Effect, EventBody, Grant, HostPolicy, Risk, Role,
        RunInput, ToolCall, ToolCallId, ToolOutcome, ToolStatus, UnknownOutcome, WaitReason,
        approval::DecisionRecord,
    },
    store::{RunCore, StoreError, Tx},
    tools::{self, Invocation, Invoked},
};

/// Why a program may have failed that policy gave no network.
const OFFLINE_NOTE: &str = "[this call had no network, since the run has read content from \
                            outside; with `network`: true a person is asked for it]";
/// The reason of a refusal that is a finding: a secret's placeholder where it is not bound to.
const SECRET_MISUSED: &str = "secret_misused";
/// Refusals of one call that become events; the audit trail holds every one.
const REFUSALS_MAX: usize = 32;

/// What a decision on one call came to.
#[derive(Debug)]
pub(super) enum Decided {
    /// It has an outcome without being executed; look at the next one.
    Settled,
    /// Its intent is stored: execute it.
    Start { invocation: Box<Invocation>, grant: Arc<Grant>, note: Option<&'static str> },
    /// A person is asked whether it may run; the run waits.
    Gated,
    /// The call is itself a question to a person; the run waits for input.
    Question(String),
}

/// Whether a call may have an effect that must not happen twice, judged before it is stored.
pub(super) fn effect_of(tool: &str, args: &Value) -> Effect {
    // What cannot be parsed is never executed; the class is then only a label.
    tools::parse(tool, args).map_or(Effect::Unsafe, |call| call.facts().effect)
}

/// Lets policy decide on a call and stores what follows from it. Called again after an approval,
/// since policy may have changed meanwhile.
pub(super) async fn decide(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    call: &mut ToolCall,
) -> Result<Decided, StoreError> {
    let invocation = match tools::parse(&call.tool, &call.args) {
        Ok(invocation) => invocation,
        Err(error) => {
            let reason = error.to_string();
            return deny(tx, run, call, reason, &"tool.bad_arguments".into()).await;
        }
    };
    let hosts = inner.hosts.effective(&agent.name);
    let facts = invocation.facts();
    match policy::decide(&Policy::builtin(), &asked(run, agent, &hosts, &facts)) {
        Verdict::Deny { reason, rule, .. } => deny(tx, run, call, reason, &rule).await,
        Verdict::Allow { grant, risk, rule, .. } => {
            call.risk = risk;
            if let Some((question, options)) = invocation.question() {
                let text = question_text(question, options);
                advance(call, CallInput::Gate)?;
                tx.calls().save(call).await?;
                return Ok(Decided::Question(text));
            }
            start(tx, run, call, &rule).await?;
            let note = (rule == policy::OFFLINE).then_some(OFFLINE_NOTE);
            let (invocation, grant) = (Box::new(invocation), Arc::new(grant));
            Ok(Decided::Start { invocation, grant, note })
        }
        Verdict::Ask { grant, risk, reasons, egress, required_role, quorum, rule, .. } => {
            call.risk = risk;
            if is_approved(tx, run, agent, call, &egress).await? {
                start(tx, run, call, &rule).await?;
                let (invocation, grant) = (Box::new(invocation), Arc::new(grant));
                return Ok(Decided::Start { invocation, grant, note: None });
            }
            let cwd = invocation.cwd();
            let question = Question { reasons, egress, required_role, quorum, cwd };
            gate(tx, inner, run, agent, call, question).await?;
            Ok(Decided::Gated)
        }
    }
}

/// What policy is asked about a call of this run.
fn asked<'a>(
    run: &RunCore,
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    facts: &'a CallFacts,
) -> policy::Question<'a> {
    policy::Question {
        agent,
        hosts,
        facts,
        tainted: run.tainted,
        role: Role::Member,
        surface: run.surface,
        conversation: Some(run.conversation_id),
    }
}

fn question_text(question: &str, options: &[String]) -> String {
    if options.is_empty() {
        question.to_owned()
    } else {
        format!("{question} ({})", options.join(" / "))
    }
}

async fn deny(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    reason: String,
    rule: &RuleName,
) -> Result<Decided, StoreError> {
    let outcome = ToolOutcome::message(ToolStatus::Error, format!("Denied: {reason} [{rule}]"));
    let data = json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash,
        "rule": rule, "reason": reason,
    });
    tx.audit(Actor::system().entry(AuditKind::ToolDenied, run, data));
    tx.event(
        run,
        EventBody::ToolDenied {
            call_id: call.id,
            tool: call.tool.clone(),
            reason,
            rule: rule.to_string(),
        },
    )?;
    run.usage.tool_calls += 1;
    metrics::counter!("agent_runtime_tool_denied_total", "rule" => rule.to_string()).increment(1);
    settle(tx, call, outcome).await?;
    Ok(Decided::Settled)
}

/// Gives a call its outcome without an event of its own.
pub(super) async fn settle(
    tx: &mut Tx,
    call: &mut ToolCall,
    outcome: ToolOutcome,
) -> Result<(), StoreError> {
    advance(call, CallInput::Finish)?;
    call.outcome = Some(outcome);
    tx.calls().save(call).await
}

async fn start(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    rule: &RuleName,
) -> Result<(), StoreError> {
    advance(call, CallInput::Start)?;
    call.attempts += 1;
    run.usage.tool_calls += 1;
    tx.event(
        run,
        EventBody::ToolStarted {
            call_id: call.id,
            tool: call.tool.clone(),
            attempt: call.attempts,
        },
    )?;
    let data = json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash,
        "effect": call.effect, "risk": call.risk, "rule": rule, "attempt": call.attempts,
    });
    tx.audit(Actor::system().entry(AuditKind::ToolStarted, run, data));
    tx.calls().save(call).await
}

/// Stores what became of an executed call: what was refused on the network, whether the run is
/// tainted from now on, the result.
pub(super) async fn store(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    invoked: Invoked,
) -> Result<(), StoreError> {
    let Invoked { outcome, refusals, taints } = invoked;
    for attempt in refusals.into_iter().take(REFUSALS_MAX) {
        let misused = (attempt.reason == SECRET_MISUSED)
            .then(|| format!("a request to {}:{}", attempt.host, attempt.port));
        tx.event(run, EventBody::EgressDenied { attempt })?;
        if let Some(place) = misused {
            let data = json!({ "call_id": call.id, "place": place });
            tx.audit(Actor::system().entry(AuditKind::SecretBlocked, run, data));
            tx.event(run, EventBody::SecretBlocked { place })?;
        }
    }
    run.tainted |= taints;
    finish(tx, run, call, outcome).await
}

/// Stores the result of an executed call.
pub(super) async fn finish(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    outcome: ToolOutcome,
) -> Result<(), StoreError> {
    completed(tx, run, call.id, &outcome)?;
    if let Some(level) = outcome.confinement {
        run.confinement = Some(run.confinement.map_or(level, |before| before.weaker(level)));
    }
    settle(tx, call, outcome).await
}

/// Records a result in the event log and the audit trail.
pub(super) fn completed(
    tx: &mut Tx,
    run: &mut RunCore,
    call_id: ToolCallId,
    outcome: &ToolOutcome,
) -> Result<(), StoreError> {
    let data = json!({
        "call_id": call_id, "status": outcome.status, "exit_code": outcome.exit_code,
        "duration_ms": outcome.duration_ms, "confinement": outcome.confinement,
        "tainted": run.tainted,
    });
    tx.audit(Actor::system().entry(AuditKind::ToolCompleted, run, data));
    metrics::counter!("agent_runtime_tool_calls_total", "status" => outcome.status.as_str())
        .increment(1);
    tx.event(
        run,
        EventBody::ToolCompleted {
            call_id,
            status: outcome.status,
            exit_code: outcome.exit_code,
            output: outcome.output.clone(),
            truncated: outcome.truncated,
            duration_ms: outcome.duration_ms,
            confinement: outcome.confinement,
        },
    )
}

/// Moves a call to its next state.
pub(super) fn advance(call: &mut ToolCall, input: CallInput) -> Result<(), StoreError> {
    let next = call.state.after(input, call.effect);
    call.state = next.ok_or_else(|| StoreError::Corrupt {
        what: format!("{} cannot {input:?} while {}", call.id, call.state),
    })?;
    Ok(())
}

/// Whether a person's yes covers exactly this call under exactly this definition.
async fn is_approved(
    tx: &mut Tx,
    run: &RunCore,
    agent: &AgentDef,
    call: &ToolCall,
    egress: &[String],
) -> Result<bool, StoreError> {
    let approvals = tx.approvals().of_run(run.id).await?;
    let binds = |a: &Approval| {
        a.state == ApprovalState::Approved
            && a.args_hash == call.args_hash
            && a.policy_version == agent.version
    };
    // What it could reach, and that the run has read untrusted content, stood on the card.
    let saw = |a: &Approval| a.egress == egress && (a.tainted || !run.tainted);
    let for_run = |a: &Approval| {
        a.kind == ApprovalKind::Tool
            && saw(a)
            && a.decisions.iter().any(|d| d.scope == DecisionScope::Run)
    };
    // The newest answer about this very call counts; only a call that a person released is
    // `approved`, so one yes starts it once.
    let own = approvals.iter().rev().find(|a| a.call_id == Some(call.id));
    let own_allows = call.state == CallState::Approved
        && own.is_some_and(|a| match a.kind {
            ApprovalKind::Tool => binds(a) && saw(a),
            ApprovalKind::UnknownEffect => {
                let is_run = |d: &DecisionRecord| d.outcome == Some(UnknownOutcome::Run);
                binds(a) && saw(a) && a.decisions.iter().any(is_run)
            }
            ApprovalKind::Budget => false,
        });
    Ok(own_allows || approvals.iter().any(|a| binds(a) && for_run(a)))
}

/// What the card says about the question.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) reasons: Vec<String>,
    /// Where the call could send something.
    pub(super) egress: Vec<String>,
    pub(super) required_role: Role,
    /// How many different people must say yes.
    pub(super) quorum: u32,
    pub(super) cwd: &'a str,
}

async fn gate(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    call: &mut ToolCall,
    question: Question<'_>,
) -> Result<(), StoreError> {
    advance(call, CallInput::Gate)?;
    tx.calls().save(call).await?;
    let ttl = inner.options.approval_ttl;
    let approval = Approval {
        expires_at: tx.now().plus(ttl),
        ..card(tx, run, agent, call, question, ApprovalKind::Tool)
    };
    run.wake_at = Some(tx.now().plus(inner.options.wait_max));
    ask(tx, run, approval).await
}

/// Stores a question and moves a running run to `awaiting_approval`.
pub(super) async fn ask(
    tx: &mut Tx,
    run: &mut RunCore,
    approval: Approval,
) -> Result<(), StoreError> {
    tx.approvals().insert(&approval, run.principal).await?;
    let data = json!({
        "approval_id": approval.id, "kind": approval.kind, "tool": approval.tool,
        "args_hash": approval.args_hash, "risk": approval.risk,
        "required_role": approval.required_role,
    });
    tx.audit(Actor::system().entry(AuditKind::ApprovalRequested, run, data));
    metrics::counter!("agent_runtime_approvals_requested_total").increment(1);
    let is_gate = approval.kind == ApprovalKind::Tool;
    let body = EventBody::ApprovalRequested { approval: Box::new(approval) };
    if is_gate {
        change(tx, run, RunInput::Gate, body, &Actor::system())
    } else {
        tx.event(run, body)
    }
}

fn card(
    tx: &Tx,
    run: &RunCore,
    agent: &AgentDef,
    call: &ToolCall,
    question: Question<'_>,
    kind: ApprovalKind,
) -> Approval {
    let cwd = Path::new(&agent.workspace).join(question.cwd);
    Approval {
        id: ApprovalId::new(tx.ids()),
        run_id: run.id,
        call_id: Some(call.id),
        kind,
        tool: call.tool.clone(),
        args: call.args.clone(),
        args_hash: call.args_hash.clone(),
        policy_version: agent.version.clone(),
        cwd: cwd.to_string_lossy().into_owned(),
        risk: call.risk,
        reasons: question.reasons,
        tainted: run.tainted,
        egress: question.egress,
        required_role: question.required_role,
        quorum: question.quorum,
        state: ApprovalState::Pending,
        decisions: Vec::new(),
        created_at: tx.now(),
        expires_at: tx.now(),
    }
}

/// Asks a person what became of an unsafe call that a crash interrupted. The run is paused.
pub(super) async fn ask_unknown(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    call: &ToolCall,
) -> Result<(), StoreError> {
    // One of the answers runs it: the card says what policy would let it do now.
    let invocation = tools::parse(&call.tool, &call.args).ok();
    let verdict = invocation.as_ref().map(|invocation| {
        let hosts = inner.hosts.effective(&agent.name);
        policy::decide(&Policy::builtin(), &asked(run, agent, &hosts, &invocation.facts()))
    });
    let (risk, egress, quorum) = match verdict {
        Some(Verdict::Ask { risk, egress, quorum, .. }) => (risk.max(call.risk), egress, quorum),
        Some(Verdict::Allow { risk, grant, .. }) => {
            (risk.max(call.risk), policy::texts(&grant.hosts), 1)
        }
        Some(Verdict::Deny { .. }) | None => (call.risk, Vec::new(), 1),
    };
    let question = Question {
        reasons: vec![
            "the daemon stopped while this ran; nobody knows whether it happened".to_owned(),
        ],
        egress,
        required_role: policy::required_role(risk),
        quorum,
        cwd: invocation.as_ref().map_or("", Invocation::cwd),
    };
    let approval = Approval {
        risk,
        expires_at: tx.now().plus(inner.options.wait_max),
        ..card(tx, run, agent, call, question, ApprovalKind::UnknownEffect)
    };
    run.wait_reason = Some(WaitReason::EffectUnknown);
    ask(tx, run, approval).await
}

/// Asks a person whether the run may use more. The run is paused.
pub(super) async fn ask_budget(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    raise: Value,
) -> Result<(), StoreError> {
    let args_hash = tools::args_hash("budget", &raise);
    let approval = Approval {
        id: ApprovalId::new(tx.ids()),
        run_id: run.id,
        call_id: None,
        kind: ApprovalKind::Budget,
        tool: "budget".to_owned(),
        args: raise,
        args_hash,
        policy_version: agent.version.clone(),
        cwd: agent.workspace.to_string_lossy().into_owned(),
        risk: Risk::Medium,
        reasons: vec!["the run has used up its limit".to_owned()],
        tainted: run.tainted,
        egress: Vec::new(),
        required_role: Role::Operator,
        quorum: 1,
        state: ApprovalState::Pending,
        decisions: Vec::new(),
        created_at: tx.now(),
        expires_at: tx.now().plus(inner.options.wait_max),
    };
    ask(tx, run, approval).await
}

/// The agent that a run was started with is gone from the configuration.
pub(super) fn agent_removed(name: &str) -> End {
    End::failed("agent.removed", format!("agent `{name}` is no longer configured"))
}
