//! Patterns of calls that people approved: made with a decision, shown, tried on the past, taken
//! back.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Orchestrator, Page, Paged, commands::is_visible, error::CommandError, transition::Actor,
};
use crate::{
    auth::{CallContext, Decide, Permit, Scope},
    domain::{
        Approval, ApprovalId, ApprovalKind, ApprovalPattern, AuditEntry, AuditKind, Decision,
        DecisionScope, PatternBounds, PatternId, limits,
    },
    store::{RunCore, StoreError, Tx},
    tools::{CallPattern, PatternError},
};

/// Matching calls that a preview shows.
const EXAMPLES_MAX: usize = 5;

/// What a pattern would have let through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatternPreview {
    /// Days that were looked back.
    pub days: u64,
    /// Calls of the agent with the tool in that time that were looked at.
    pub calls: u64,
    /// How many of them it would have matched.
    pub matched: u64,
    /// Whether all calls of that time were looked at; the newest
    /// [`PREVIEW_CALLS_MAX`](limits::PREVIEW_CALLS_MAX) otherwise.
    pub is_complete: bool,
    /// The arguments of some that it would have matched, newest first, each once.
    pub examples: Vec<Value>,
}

impl From<PatternError> for CommandError {
    fn from(error: PatternError) -> Self {
        let PatternError { pointer, detail } = error;
        Self::Invalid { code: "approval.pattern", pointer: Some(pointer), detail }
    }
}

/// Whether a decision says how far it reaches, in a way that its card can carry.
pub(super) fn check_scope(
    approval: &Approval,
    decision: Decision,
    scope: DecisionScope,
    pattern: Option<&PatternBounds>,
) -> Result<(), CommandError> {
    let invalid = |pointer, detail: &str| {
        let detail = detail.to_owned();
        Err(CommandError::Invalid { code: "approval.scope", pointer: Some(pointer), detail })
    };
    match (scope, pattern) {
        (DecisionScope::Once | DecisionScope::Run, None) => Ok(()),
        (DecisionScope::Once | DecisionScope::Run, Some(_)) => {
            invalid("/pattern", "`pattern` comes with `scope`: `pattern` only")
        }
        (DecisionScope::Pattern, _) if decision == Decision::Deny => {
            invalid("/scope", "a no is for this call; leave out `scope`")
        }
        (DecisionScope::Pattern, _) if approval.kind != ApprovalKind::Tool => {
            invalid("/scope", "only a question about a call can be answered for a pattern of calls")
        }
        (DecisionScope::Pattern, None) => invalid(
            "/pattern",
            "say which calls: `pattern` with `ttl_secs`, `uses` and what may differ",
        ),
        (DecisionScope::Pattern, Some(bounds)) => {
            CallPattern::new(&approval.tool, &approval.args, bounds)?;
            Ok(())
        }
    }
}

/// Puts the pattern into force that all who approved the card agreed on, if they did.
pub(super) async fn establish(
    tx: &mut Tx,
    run: &RunCore,
    approval: &Approval,
    cx: &CallContext,
) -> Result<(), CommandError> {
    let agreed = approval.decisions.iter().find_map(|d| d.pattern.clone());
    let Some(bounds) = agreed.filter(|_| approval.scope() == DecisionScope::Pattern) else {
        return Ok(());
    };
    let now = tx.now();
    let in_force = tx.patterns().in_force(&run.agent, &approval.tool, now).await?;
    if in_force.len() >= usize::try_from(limits::PATTERNS_MAX).unwrap_or(usize::MAX) {
        return Err(CommandError::conflict(
            "approval.patterns_full",
            "too many patterns of this agent and tool are in force; revoke some first",
        ));
    }
    let pattern = ApprovalPattern {
        id: PatternId::new(tx.ids()),
        approval_id: approval.id,
        agent: run.agent.clone(),
        tool: approval.tool.clone(),
        args: approval.args.clone(),
        bound: approval.bound.clone(),
        egress: approval.egress.clone(),
        policy_version: approval.policy_version.clone(),
        tainted: approval.tainted,
        required_role: approval.required_role,
        approved_by: approval.approvers().into_iter().collect(),
        created_at: now,
        expires_at: now.plus(Duration::from_secs(bounds.ttl_secs)),
        uses_left: bounds.uses,
        pattern: bounds,
        revoked_at: None,
    };
    tx.patterns().insert(&pattern).await?;
    let data = json!({
        "pattern_id": pattern.id, "approval_id": approval.id, "agent": pattern.agent,
        "tool": pattern.tool, "expires_at": pattern.expires_at, "uses": pattern.uses_left,
        "approved_by": pattern.approved_by, "argv_prefix": pattern.pattern.argv_prefix,
        "open": pattern.pattern.args.keys().collect::<Vec<_>>(), "change": "pattern_approved",
    });
    tx.audit(Actor::from(cx).entry(AuditKind::ApprovalDecided, run, data));
    Ok(())
}

/// Whether somebody is narrowed to conversations.
fn conversation_matters(scope: &Scope) -> bool {
    scope.scopes().conversations.is_some()
}

/// Whether a pattern exists for somebody: its card is one of their agents and conversations.
fn includes(scope: &Scope, pattern: &ApprovalPattern, run: Option<&RunCore>) -> bool {
    let is_there = |run: &RunCore| scope.scopes().allows_conversation(Some(run.conversation_id));
    scope.scopes().allows_agent(&pattern.agent)
        && (!conversation_matters(scope) || run.is_some_and(is_there))
}

impl Orchestrator {
    /// How many of the agent's calls of the last [`PREVIEW_DAYS`](limits::PREVIEW_DAYS) a pattern
    /// made from this card would have matched by their arguments.
    pub async fn preview_pattern(
        &self,
        permit: &Permit<Decide>,
        id: ApprovalId,
        bounds: &PatternBounds,
    ) -> Result<PatternPreview, CommandError> {
        let not_found = || CommandError::NotFound { what: "the approval" };
        let mut reader = self.inner.store.read().await?;
        let approval = reader.approvals().get(id).await?.ok_or_else(not_found)?;
        let run = reader.runs().core(approval.run_id).await?.ok_or_else(not_found)?;
        if !is_visible(&permit.scope(), &run) {
            return Err(not_found());
        }
        check_scope(&approval, Decision::Approve, DecisionScope::Pattern, Some(bounds))?;
        let pattern = CallPattern::new(&approval.tool, &approval.args, bounds)?;
        let back = Duration::from_secs(limits::PREVIEW_DAYS * 24 * 3600);
        let since = self.inner.clock.now().minus(back);
        let most = limits::PREVIEW_CALLS_MAX;
        let mut found = reader.calls().args_since(&run.agent, &approval.tool, since, most).await?;
        let is_complete = found.len() < usize::try_from(most).unwrap_or(usize::MAX);
        // What does not exist for the one who asks is not counted either.
        let scope = permit.scope();
        found.retain(|past| scope.includes_run(past.principal, &run.agent, past.conversation));
        let calls = u64::try_from(found.len()).unwrap_or(u64::MAX);
        let matching: Vec<Value> = found
            .into_iter()
            .map(|past| past.args)
            .filter(|args| pattern.matches(&approval.tool, args))
            .collect();
        let matched = u64::try_from(matching.len()).unwrap_or(u64::MAX);
        let mut seen = BTreeSet::new();
        let examples = matching.into_iter().filter(|args| seen.insert(args.to_string()));
        Ok(PatternPreview {
            days: limits::PREVIEW_DAYS,
            calls,
            matched,
            is_complete,
            examples: examples.take(EXAMPLES_MAX).collect(),
        })
    }

    /// Patterns, newest first; those that are over too where `all` says so.
    pub async fn patterns(
        &self,
        permit: &Permit<Decide>,
        all: bool,
        page: Page,
    ) -> Result<Paged<ApprovalPattern>, StoreError> {
        let scope = permit.scope();
        let now = self.inner.clock.now();
        let mut reader = self.inner.store.read().await?;
        let mut found = reader.patterns().list(all, now, &page).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for pattern in std::mem::take(&mut found.items) {
            let card = if conversation_matters(&scope) {
                reader.approvals().get(pattern.approval_id).await?
            } else {
                None
            };
            let run = match card {
                Some(card) => reader.runs().core(card.run_id).await?,
                None => None,
            };
            if includes(&scope, &pattern, run.as_ref()) {
                items.push(pattern);
            }
        }
        found.items = items;
        Ok(found)
    }

    /// Takes a pattern back: it lets nothing more through when this returns.
    pub async fn revoke_pattern(
        &self,
        permit: Permit<Decide>,
        id: PatternId,
    ) -> Result<(), CommandError> {
        let cx = permit.context().clone();
        let done = self.inner.administer(&cx, None, move |tx| {
            Box::pin(async move {
                let not_found = || CommandError::NotFound { what: "the pattern" };
                let before = tx.patterns().get(id).await?.ok_or_else(not_found)?;
                let card = tx.approvals().get(before.approval_id).await?;
                let run = match card {
                    Some(card) => tx.runs().core(card.run_id).await?,
                    None => None,
                };
                if !includes(&permit.scope(), &before, run.as_ref()) {
                    return Err(not_found());
                }
                let now = tx.now();
                if !tx.patterns().revoke(id, now).await? {
                    return Err(CommandError::conflict(
                        "approval.pattern_revoked",
                        "this pattern was revoked before",
                    ));
                }
                let actor = Actor::from(permit.context());
                let data = json!({
                    "change": "pattern_revoked", "pattern_id": id, "agent": before.agent,
                    "tool": before.tool, "uses_left": before.uses_left,
                    "expires_at": before.expires_at,
                });
                tx.audit(AuditEntry {
                    kind: AuditKind::ApprovalDecided,
                    actor: actor.id,
                    surface: actor.surface,
                    run_id: None,
                    request_id: actor.request_id,
                    data,
                });
                Ok(())
            })
        });
        done.await.map(drop)
    }
}
