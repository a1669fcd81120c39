//! Tool calls inside a transaction: decide, gate, start, complete. Nothing is executed here.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    Inner,
    capabilities::{self, Held},
    ending::End,
    policy::{Basis, bound_version, record},
    scoped,
    transition::{Actor, change},
};
use crate::{
    auth::{
        capability::Refusal,
        policy::{self, Layer, Verdict},
    },
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
    held: &mut Option<Held>,
    call: &mut ToolCall,
) -> Result<Decided, StoreError> {
    let invocation = match tools::parse(&call.tool, &call.args) {
        Ok(invocation) => invocation,
        Err(error) => {
            let reason = error.to_string();
            let basis = Basis::before_policy("tool.bad_arguments");
            return deny(tx, run, call, reason, &basis).await;
        }
    };
    if let Err(denied) = scoped::check(tx, inner, run, &call.tool).await? {
        let basis = Basis::before_policy(denied.rule());
        return deny(tx, run, call, denied.to_string(), &basis).await;
    }
    let hosts = inner.hosts.effective(&agent.name);
    let facts = invocation.facts();
    // Between "the agent may use the tool", which policy says first, and every other rule.
    if agent.tools.contains(&facts.tool)
        && let Err(why) = capabilities::check(tx, inner, run, agent, held, &facts).await?
    {
        return refuse(tx, run, held.as_ref(), call, &why).await;
    }
    let policy = inner.policy.current();
    let question = asked(inner, run, agent, &hosts, &facts);
    let verdict = policy::decide(&policy, &question);
    record(tx, run, call, &policy, &question, &verdict)?;
    let basis = Basis::of(&policy, &verdict);
    match verdict {
        Verdict::Deny { reason, .. } => deny(tx, run, call, reason, &basis).await,
        Verdict::Allow { grant, risk, rule, layer } => {
            call.risk = risk;
            if let Some((question, options)) = invocation.question() {
                let text = question_text(question, options);
                advance(call, CallInput::Gate)?;
                tx.calls().save(call).await?;
                return Ok(Decided::Question(text));
            }
            let what = (&facts, &grant, layer == Layer::Rules);
            if let Err(why) = capabilities::hand_on(tx, inner, run, held.as_ref(), call, what) {
                return refuse(tx, run, held.as_ref(), call, &why).await;
            }
            start(tx, run, call, &basis).await?;
            let note = (rule == policy::OFFLINE).then_some(OFFLINE_NOTE);
            let (invocation, grant) = (Box::new(invocation), Arc::new(grant));
            Ok(Decided::Start { invocation, grant, note })
        }
        Verdict::Ask { grant, risk, reasons, egress, required_role, quorum, .. } => {
            call.risk = risk;
            let version = bound_version(agent, &policy);
            if is_approved(tx, run, &version, call, &egress).await? {
                let what = (&facts, &grant, true);
                if let Err(why) = capabilities::hand_on(tx, inner, run, held.as_ref(), call, what) {
                    return refuse(tx, run, held.as_ref(), call, &why).await;
                }
                start(tx, run, call, &basis).await?;
                let (invocation, grant) = (Box::new(invocation), Arc::new(grant));
                return Ok(Decided::Start { invocation, grant, note: None });
            }
            let cwd = invocation.cwd();
            let question = Question { reasons, egress, required_role, quorum, cwd, version, basis };
            gate(tx, inner, run, agent, call, question).await?;
            Ok(Decided::Gated)
        }
    }
}

/// The run's capability, or the part of it that the call needs, does not allow the call.
async fn refuse(
    tx: &mut Tx,
    run: &mut RunCore,
    held: Option<&Held>,
    call: &mut ToolCall,
    why: &Refusal,
) -> Result<Decided, StoreError> {
    capabilities::denied(tx, run, held, call, why);
    deny(tx, run, call, why.to_string(), &Basis::before_policy(why.rule())).await
}

/// Refuses a call of a run whose capability was revoked.
pub(super) async fn refuse_revoked(
    tx: &mut Tx,
    run: &mut RunCore,
    held: Option<&Held>,
    call: &mut ToolCall,
) -> Result<(), StoreError> {
    let why = held.map_or(Refusal::Missing, |held| Refusal::Revoked { id: held.id() });
    refuse(tx, run, held, call, &why).await.map(drop)
}

/// What policy is asked about a call of this run. Whoever started it counts as what they are now; who
/// may not act any more has the least role.
fn asked<'a>(
    inner: &Inner,
    run: &RunCore,
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    facts: &'a CallFacts,
) -> policy::Question<'a> {
    let who = inner.tokens.directory().current(run.principal);
    policy::Question {
        agent,
        hosts,
        facts,
        tainted: run.tainted,
        role: who.map_or(Role::Viewer, |principal| principal.role),
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
    basis: &Basis,
) -> Result<Decided, StoreError> {
    let rule = &basis.rule;
    let outcome = ToolOutcome::message(ToolStatus::Error, format!("Denied: {reason} [{rule}]"));
    let data = basis.beside(json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash, "reason": reason,
    }));
    tx.audit(Actor::system().entry(AuditKind::ToolDenied, run, data));
    tx.event(
        run,
        EventBody::ToolDenied {
            call_id: call.id,
            tool: call.tool.clone(),
            reason,
            rule: rule.to_string(),
            layer: basis.layer_name(),
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
    basis: &Basis,
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
            rule: Some(basis.rule.to_string()),
            layer: basis.layer_name(),
        },
    )?;
    let data = basis.beside(json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash,
        "effect": call.effect, "risk": call.risk, "attempt": call.attempts,
    }));
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
    version: &str,
    call: &ToolCall,
    egress: &[String],
) -> Result<bool, StoreError> {
    let approvals = tx.approvals().of_run(run.id).await?;
    let binds = |a: &Approval| {
        a.state == ApprovalState::Approved
            && a.args_hash == call.args_hash
            && a.policy_version == version
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
    /// What an answer binds of definition and policy.
    pub(super) version: String,
    /// The rule that asks.
    pub(super) basis: Basis,
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
    let (ttl, basis) = (inner.options.approval_ttl, question.basis.clone());
    let approval = Approval {
        expires_at: tx.now().plus(ttl),
        ..card(tx, run, agent, call, question, ApprovalKind::Tool)
    };
    run.wake_at = Some(tx.now().plus(inner.options.wait_max));
    ask(tx, run, approval, &basis).await
}

/// Stores a question and moves a running run to `awaiting_approval`.
pub(super) async fn ask(
    tx: &mut Tx,
    run: &mut RunCore,
    approval: Approval,
    basis: &Basis,
) -> Result<(), StoreError> {
    tx.approvals().insert(&approval, run.principal).await?;
    let data = basis.beside(json!({
        "approval_id": approval.id, "kind": approval.kind, "tool": approval.tool,
        "args_hash": approval.args_hash, "risk": approval.risk,
        "required_role": approval.required_role,
    }));
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
        policy_version: question.version,
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
    let policy = inner.policy.current();
    let verdict = invocation.as_ref().map(|invocation| {
        let hosts = inner.hosts.effective(&agent.name);
        policy::decide(&policy, &asked(inner, run, agent, &hosts, &invocation.facts()))
    });
    let (risk, egress, quorum) = match verdict {
        Some(Verdict::Ask { risk, egress, quorum, .. }) => (risk.max(call.risk), egress, quorum),
        Some(Verdict::Allow { risk, grant, .. }) => {
            (risk.max(call.risk), policy::texts(&grant.hosts), 1)
        }
        Some(Verdict::Deny { .. }) | None => (call.risk, Vec::new(), 1),
    };
    let basis = Basis::before_policy("effect.unknown");
    let question = Question {
        reasons: vec![
            "the daemon stopped while this ran; nobody knows whether it happened".to_owned(),
        ],
        egress,
        required_role: policy::required_role(risk),
        quorum,
        cwd: invocation.as_ref().map_or("", Invocation::cwd),
        version: bound_version(agent, &policy),
        basis: basis.clone(),
    };
    let approval = Approval {
        risk,
        expires_at: tx.now().plus(inner.options.wait_max),
        ..card(tx, run, agent, call, question, ApprovalKind::UnknownEffect)
    };
    run.wait_reason = Some(WaitReason::EffectUnknown);
    ask(tx, run, approval, &basis).await
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
        policy_version: bound_version(agent, &inner.policy.current()),
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
    ask(tx, run, approval, &Basis::before_policy("budget.limit")).await
}

/// The agent that a run was started with is gone from the configuration.
pub(super) fn agent_removed(name: &str) -> End {
    End::failed("agent.removed", format!("agent `{name}` is no longer configured"))
}
