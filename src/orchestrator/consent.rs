//! Whether somebody has said yes to exactly what would happen now.
//!
//! Invariants: asked right before a call starts, in the transaction that starts it. A yes holds for
//! what its card bound and while those who gave it could give it; whatever no longer holds is
//! voided, with its reason, and asked again. A yes for one call starts it once; a use of a pattern
//! is counted here.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;
use serde_json::json;

use super::{Inner, approvals::requesters, ending::End, transition::Actor};
use crate::{
    domain::{
        AgentDef, Approval, ApprovalId, ApprovalKind, ApprovalPattern, ApprovalState, AuditKind,
        Binding, Bound, BoundDirectory, CallState, DecisionScope, EventBody, Grant, PatternId,
        Principal, PrincipalId, Role, ToolCall, ToolCallId, ToolName, UnknownOutcome,
        approval::{ApprovalInput, DecisionRecord},
    },
    store::{RunCore, StoreError, Tx},
    tools::{self, CallPattern},
};

/// What a call would touch, as it was found right before the decision.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub(super) call_id: ToolCallId,
    /// Under which grant it was looked at.
    pub(super) grant: Arc<Grant>,
    /// Or why nothing can be approved.
    pub(super) bound: Result<Arc<Bound>, String>,
}

impl Looked {
    /// What was found, if it was this call under this grant that was looked at.
    pub(super) fn of(&self, call: &ToolCall, grant: &Grant) -> Option<&Result<Arc<Bound>, String>> {
        (self.call_id == call.id && *self.grant == *grant).then_some(&self.bound)
    }
}

/// What would happen now, all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now<'a> {
    pub(super) call: &'a ToolCall,
    pub(super) bound: &'a Bound,
    pub(super) egress: &'a [String],
    pub(super) policy_version: &'a str,
    /// The least role of those who say yes, as the rule that asks now wants it.
    pub(super) required_role: Role,
    /// How many of them it wants.
    pub(super) quorum: u32,
}

impl Now<'_> {
    /// Whether enough different people have said yes for the rule that asks now.
    fn has_enough(&self, approvers: usize) -> bool {
        u32::try_from(approvers).unwrap_or(u32::MAX) >= self.quorum
    }

    /// The hash that an approval of it carries.
    pub(super) fn binding(&self) -> String {
        tools::binding_hash(&Binding {
            args_hash: &self.call.args_hash,
            bound: self.bound,
            egress: self.egress,
            policy_version: self.policy_version,
        })
    }
}

/// By what a gated call starts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Given {
    approval_id: ApprovalId,
    pattern_id: Option<PatternId>,
    approved_by: Vec<PrincipalId>,
}

/// What there is of a yes.
#[derive(Debug)]
pub(super) enum Consent {
    /// It may start.
    Given(Given),
    /// A person must be asked; why again, if somebody was asked before.
    Missing(Option<String>),
}

/// Why the run cannot go on: who started it may no longer have this agent work here. Asked before
/// every call of a tool and of a model.
pub(super) fn requester_gone(inner: &Inner, run: &RunCore, agent: &AgentDef) -> Option<End> {
    let Some(now) = standing(inner, run.principal) else {
        let text = "who started the run may no longer act here: the account is disabled or removed";
        return Some(End::failed("run.requester_disabled", text));
    };
    let is_admitted = inner.gate.readmit(now.role).is_some();
    if is_admitted && inner.authorizer.may_go_on(&now, agent, run.conversation_id) {
        return None;
    }
    let text = "who started the run may no longer have this agent work: their role or their scopes \
                have been narrowed";
    Some(End::failed("run.requester_narrowed", text))
}

/// Who that is now; none when they may not act.
fn standing(inner: &Inner, id: PrincipalId) -> Option<Principal> {
    inner.tokens.directory().current(id)
}

/// Whether they may still decide a question of this role about a call of this run.
pub(super) fn may_decide(
    inner: &Inner,
    id: PrincipalId,
    run: &RunCore,
    tool: &str,
    required: Role,
) -> bool {
    let Some(Principal { role, scopes, .. }) = standing(inner, id) else { return false };
    role >= required.max(Role::Operator)
        && scopes.allows_agent(&run.agent)
        && scopes.allows_conversation(Some(run.conversation_id))
        // A question about a budget is about no tool.
        && tool.parse::<ToolName>().map_or(true, |tool| scopes.allows_tool(tool))
}

/// Looks for a yes to exactly this, and takes it.
pub(super) async fn consent(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    now: Now<'_>,
) -> Result<Consent, StoreError> {
    let all = tx.approvals().of_run(run.id).await?;
    let voices = Voices { inner, requesters: requesters(tx, run).await? };
    let mut why = None;
    // The newest answer about this very call counts; only a call that a person released is
    // `approved`, so one yes starts it once.
    let own = all.iter().rev().find(|a| a.call_id == Some(now.call.id));
    let released = |a: &&Approval| {
        now.call.state == CallState::Approved
            && a.state == ApprovalState::Approved
            && match a.kind {
                ApprovalKind::Tool => true,
                ApprovalKind::UnknownEffect => says_run(a),
                ApprovalKind::Budget => false,
            }
    };
    let own = own.filter(released);
    // Any answer for the run is about the same call, made again.
    let for_run = |a: &&Approval| {
        a.kind == ApprovalKind::Tool
            && a.state == ApprovalState::Approved
            && a.args_hash == now.call.args_hash
            && a.scope() == DecisionScope::Run
            && own.is_none_or(|own| own.id != a.id)
    };
    for approval in own.into_iter().chain(all.iter().filter(for_run)) {
        match voices.objection(approval, run, &now) {
            None => {
                let approved_by = approval.approvers().into_iter().collect();
                let given = Given { approval_id: approval.id, pattern_id: None, approved_by };
                return Ok(Consent::Given(given));
            }
            Some(reason) => {
                void(tx, run, approval.clone(), &reason).await?;
                why.get_or_insert(reason);
            }
        }
    }
    let moment = tx.now();
    for pattern in tx.patterns().in_force(&run.agent, &now.call.tool, moment).await? {
        if voices.covers(&pattern, run, &now) && tx.patterns().take(pattern.id, moment).await? {
            let ApprovalPattern { id, approval_id, approved_by, .. } = pattern;
            return Ok(Consent::Given(Given { approval_id, pattern_id: Some(id), approved_by }));
        }
    }
    Ok(Consent::Missing(why))
}

fn says_run(approval: &Approval) -> bool {
    let is_run = |d: &DecisionRecord| d.outcome == Some(UnknownOutcome::Run);
    approval.decisions.iter().any(is_run)
}

/// Those who asked and those who answered, as they are now.
struct Voices<'i> {
    inner: &'i Inner,
    requesters: Vec<PrincipalId>,
}

impl Voices<'_> {
    /// Why an answer holds no longer, if it does not.
    fn objection(&self, approval: &Approval, run: &RunCore, now: &Now<'_>) -> Option<String> {
        let text = if approval.args_hash != now.call.args_hash {
            "the arguments are others than were approved"
        } else if approval.policy_version != now.policy_version {
            "the agent's definition or the policy has changed since it was approved"
        } else if approval.egress != now.egress {
            "the machines that it could reach are others than were approved"
        } else if let Some(difference) = difference(approval, now.bound) {
            difference
        } else if is_bound(approval) && approval.binding != now.binding() {
            "it is not what was approved"
        } else if run.tainted && !approval.tainted {
            "the run has read untrusted content since it was approved"
        } else if !now.has_enough(approval.approvers().len()) {
            "the rule that asks now wants more people than have approved it"
        } else {
            let required = approval.required_role.max(now.required_role);
            return self.doubt(&approval.approvers(), run, now, required);
        };
        Some(text.to_owned())
    }

    /// Why the word of those who said yes counts no longer.
    fn doubt(
        &self,
        approvers: &BTreeSet<PrincipalId>,
        run: &RunCore,
        now: &Now<'_>,
        required: Role,
    ) -> Option<String> {
        let tool = now.call.tool.as_str();
        let may_not = |id: &&PrincipalId| !may_decide(self.inner, **id, run, tool, required);
        if let Some(gone) = approvers.iter().find(may_not) {
            return Some(format!("{gone}, who approved it, may no longer decide it"));
        }
        if self.inner.authorizer.requester_may_approve() {
            return None;
        }
        let own = approvers.iter().find(|id| self.requesters.contains(id));
        own.map(|id| format!("{id}, who approved it, has become one of those who ask for it"))
    }

    fn covers(&self, pattern: &ApprovalPattern, run: &RunCore, now: &Now<'_>) -> bool {
        let ApprovalPattern { bound, .. } = pattern;
        let approvers: BTreeSet<PrincipalId> = pattern.approved_by.iter().copied().collect();
        // Only the parts of a pattern that are on its card may have been left open.
        let Ok(calls) = CallPattern::new(&pattern.tool, &pattern.args, &pattern.pattern) else {
            return false;
        };
        pattern.policy_version == now.policy_version
            && pattern.egress == now.egress
            && bound.profile == now.bound.profile
            && bound.executable == now.bound.executable
            && (calls.leaves_open("cwd") || bound.cwd == now.bound.cwd)
            && (calls.leaves_open("path") || directory(bound) == directory(now.bound))
            && (pattern.tainted || !run.tainted)
            && calls.matches(&now.call.tool, &now.call.args)
            && now.has_enough(approvers.len())
            && self
                .doubt(&approvers, run, now, pattern.required_role.max(now.required_role))
                .is_none()
    }
}

/// Where a file tool writes. The file itself is changed by the pattern's own uses.
fn directory(bound: &Bound) -> Option<&BoundDirectory> {
    bound.target.as_ref().map(|target| &target.directory)
}

/// A question about what a crash hid binds what the call's own card bound, if it had one.
fn is_bound(approval: &Approval) -> bool {
    approval.kind == ApprovalKind::Tool || !approval.binding.is_empty()
}

fn difference(approval: &Approval, now: &Bound) -> Option<&'static str> {
    if is_bound(approval) { approval.bound.difference(now) } else { None }
}

/// Takes a yes out of force.
async fn void(
    tx: &mut Tx,
    run: &mut RunCore,
    mut approval: Approval,
    reason: &str,
) -> Result<(), StoreError> {
    let Some(state) = approval.state.after(ApprovalInput::Void) else { return Ok(()) };
    approval.state = state;
    tx.approvals().void(&approval).await?;
    let data = json!({ "approval_id": approval.id, "state": state, "reason": reason });
    tx.audit(Actor::system().entry(AuditKind::ApprovalDecided, run, data));
    metrics::counter!("agent_runtime_approvals_voided_total").increment(1);
    let (approval_id, call_id) = (approval.id, approval.call_id);
    tx.event(run, EventBody::ApprovalVoided { approval_id, call_id, reason: reason.to_owned() })
}

/// Takes every yes for this call out of force: at its start it was not what they were for.
pub(super) async fn void_all(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &ToolCall,
    reason: &str,
) -> Result<(), StoreError> {
    for approval in tx.approvals().of_run(run.id).await? {
        let is_for_it = approval.call_id == Some(call.id)
            || (approval.args_hash == call.args_hash && approval.scope() == DecisionScope::Run);
        if approval.state == ApprovalState::Approved && is_for_it {
            void(tx, run, approval, reason).await?;
        }
    }
    Ok(())
}
