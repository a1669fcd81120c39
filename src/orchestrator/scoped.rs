//! What those whose words a run has heard leave to it: a tool is used only where each of them may have
//! it used, and policy sees the least of their roles, by the scopes and roles that they had then and, of
//! who started it, by those of now.

use super::Inner;
use crate::{
    auth::{CallContext, Denied},
    domain::{Role, RunId, ScopeKind, ToolName},
    store::{Narrowed, RunCore, StoreError, Tx},
};

/// What somebody leaves to a run that they speak to: a token may be lower than who holds it.
pub(super) fn left_by(cx: &CallContext) -> Narrowed {
    Narrowed { tools: cx.principal.scopes.tools.clone(), role: Some(cx.principal.role) }
}

/// What a run has left now to whoever repeats its words: what those have left whom it heard, and its
/// author as they are now. Who may not act any more leaves the least.
pub(super) async fn left_to(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
) -> Result<Narrowed, StoreError> {
    let author = match inner.tokens.directory().current(run.principal) {
        Some(now) => Narrowed { tools: now.scopes.tools, role: Some(now.role) },
        None => Narrowed { tools: None, role: Some(Role::Viewer) },
    };
    Ok(author.and(&tx.run_scopes().of(run.id).await?))
}

/// Somebody speaks to a run: from now on it has no tool that they do not have, and no higher role.
/// Otherwise a narrow token could have a run do what it may not.
pub(super) async fn hears(tx: &mut Tx, run: RunId, cx: &CallContext) -> Result<(), StoreError> {
    tx.run_scopes().narrow(run, &left_by(cx)).await
}

/// Whether a run may use a tool, by the scopes alone; the role that policy sees. Called before policy
/// looks at the call.
pub(super) async fn check(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    tool: &str,
) -> Result<Result<Role, Denied>, StoreError> {
    let Some(principal) = inner.tokens.directory().current(run.principal) else {
        return Ok(Err(Denied::Gone));
    };
    let then = tx.run_scopes().of(run.id).await?;
    let role = lower(principal.role, then.role);
    let Ok(tool) = tool.parse::<ToolName>() else { return Ok(Ok(role)) };
    let is_left = then.tools.is_none_or(|tools| tools.contains(&tool));
    if is_left && principal.scopes.allows_tool(tool) {
        return Ok(Ok(role));
    }
    Ok(Err(Denied::Scope { kind: ScopeKind::Tool, wanted: tool.to_string() }))
}

/// The role that policy sees: that of who started the run, as they are now, and no higher than that of
/// anybody whom it heard. Who may not act any more has the least.
pub(super) async fn role(tx: &mut Tx, inner: &Inner, run: &RunCore) -> Result<Role, StoreError> {
    let now = inner.tokens.directory().current(run.principal);
    let now = now.map_or(Role::Viewer, |principal| principal.role);
    Ok(lower(now, tx.run_scopes().of(run.id).await?.role))
}

fn lower(now: Role, then: Option<Role>) -> Role {
    then.map_or(now, |then| then.min(now))
}
