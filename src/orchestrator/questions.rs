//! What people are asked: whether a call may run, what became of one, whether a run may use more.
//!
//! Invariant: a card says everything that its answer binds; nothing is asked that is not stored.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Inner,
    calls::{advance, asked},
    consent::Now,
    policy::{Basis, bound_version},
    scoped,
    transition::{Actor, change},
};
use crate::{
    auth::policy::{self, Verdict},
    domain::{
        AgentDef, Approval, ApprovalId, ApprovalKind, ApprovalState, AuditKind, Bound, CallInput,
        EventBody, Risk, Role, RunInput, ToolCall, WaitReason,
    },
    store::{RunCore, StoreError, Tx},
    tools::{self, Invocation},
};

/// What the card says about the question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) kind: ApprovalKind,
    pub(super) reasons: Vec<String>,
    /// Where the call could send something.
    pub(super) egress: Vec<String>,
    /// What the names in it stand for.
    pub(super) bound: Bound,
    pub(super) policy_version: String,
    pub(super) required_role: Role,
    /// How many different people must say yes.
    pub(super) quorum: u32,
    pub(super) cwd: String,
    /// The rule that asks.
    pub(super) basis: Basis,
}

/// Asks a person whether a call may run; the run waits.
pub(super) async fn gate(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    call: &mut ToolCall,
    question: Question,
) -> Result<(), StoreError> {
    advance(call, CallInput::Gate)?;
    tx.calls().save(call).await?;
    let (ttl, basis) = (inner.options.approval_ttl, question.basis.clone());
    let approval =
        Approval { expires_at: tx.now().plus(ttl), ..card(tx, run, agent, call, question) };
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
        "required_role": approval.required_role, "quorum": approval.quorum,
        "binding": approval.binding, "tainted": approval.tainted,
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

fn card(tx: &Tx, run: &RunCore, agent: &AgentDef, call: &ToolCall, question: Question) -> Approval {
    let Question {
        kind, reasons, egress, bound, policy_version, required_role, quorum, cwd, ..
    } = question;
    let now = Now {
        call,
        bound: &bound,
        egress: &egress,
        policy_version: &policy_version,
        required_role,
        quorum,
    };
    let binding = now.binding();
    let cwd = Path::new(&agent.workspace).join(cwd);
    Approval {
        id: ApprovalId::new(tx.ids()),
        run_id: run.id,
        call_id: Some(call.id),
        kind,
        tool: call.tool.clone(),
        args: call.args.clone(),
        args_hash: call.args_hash.clone(),
        policy_version,
        cwd: cwd.to_string_lossy().into_owned(),
        risk: call.risk,
        reasons,
        tainted: run.tainted,
        egress,
        binding,
        bound,
        required_role,
        quorum,
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
    let role = scoped::role(tx, inner, run).await?;
    let verdict = invocation.as_ref().map(|invocation| {
        let hosts = inner.hosts.effective(&agent.name);
        policy::decide(&policy, &asked(role, run, agent, &hosts, &invocation.facts()))
    });
    let (risk, egress, quorum, wanted) = match verdict {
        Some(Verdict::Ask { risk, egress, quorum, required_role, .. }) => {
            (risk.max(call.risk), egress, quorum, required_role)
        }
        Some(Verdict::Allow { risk, grant, .. }) => {
            (risk.max(call.risk), policy::texts(&grant.hosts), 1, Role::Operator)
        }
        Some(Verdict::Deny { .. }) | None => (call.risk, Vec::new(), 1, Role::Operator),
    };
    // What a person was shown of this call before it was started holds for another start.
    let shown = tx.approvals().of_run(run.id).await?.into_iter().rev();
    let shown = shown.into_iter().find(|a| {
        a.call_id == Some(call.id) && a.kind == ApprovalKind::Tool && !a.binding.is_empty()
    });
    let is_bound = shown.is_some();
    let basis = Basis::before_policy("effect.unknown");
    let question = Question {
        kind: ApprovalKind::UnknownEffect,
        bound: shown.map(|a| a.bound).unwrap_or_default(),
        policy_version: bound_version(agent, &policy),
        basis: basis.clone(),
        reasons: vec![
            "the daemon stopped while this ran; nobody knows whether it happened".to_owned(),
        ],
        egress,
        required_role: policy::required_role(risk).max(wanted),
        quorum,
        cwd: invocation.as_ref().map_or("", Invocation::cwd).to_owned(),
    };
    let mut approval = Approval {
        risk,
        expires_at: tx.now().plus(inner.options.wait_max),
        ..card(tx, run, agent, call, question)
    };
    if !is_bound {
        // Nobody was asked before it ran: there is nothing that it could be held against.
        approval.binding = String::new();
    }
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
        binding: String::new(),
        bound: Bound::default(),
        required_role: Role::Operator,
        quorum: 1,
        state: ApprovalState::Pending,
        decisions: Vec::new(),
        created_at: tx.now(),
        expires_at: tx.now().plus(inner.options.wait_max),
    };
    ask(tx, run, approval, &Basis::before_policy("budget.limit")).await
}
