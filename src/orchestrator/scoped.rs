//! What scopes leave to a run: a tool is used only where everybody whose words the run has heard may
//! have it used, by the scopes that they had then and, of who started it, by those of now.

use std::collections::BTreeSet;

use super::Inner;
use crate::{
    auth::{CallContext, Denied},
    domain::{RunId, ScopeKind, ToolName},
    store::{RunCore, StoreError, Tx},
};

/// The tools that somebody's scopes leave to a run that they speak to; none where they leave all.
pub(super) fn tools_of(cx: &CallContext) -> Option<BTreeSet<ToolName>> {
    cx.principal.scopes.tools.clone()
}

/// Somebody speaks to a run: from now on it has no tool that they do not have. Otherwise a narrow
/// token could have a run do what it may not.
pub(super) async fn hears(tx: &mut Tx, run: RunId, cx: &CallContext) -> Result<(), StoreError> {
    match tools_of(cx) {
        Some(tools) => tx.run_scopes().narrow(run, &tools).await,
        None => Ok(()),
    }
}

/// Whether a run may use a tool, by the scopes alone. Called before policy looks at the call.
pub(super) async fn check(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    tool: &str,
) -> Result<Result<(), Denied>, StoreError> {
    let Some(principal) = inner.tokens.directory().current(run.principal) else {
        return Ok(Err(Denied::Gone));
    };
    let Ok(tool) = tool.parse::<ToolName>() else { return Ok(Ok(())) };
    let then = tx.run_scopes().tools(run.id).await?;
    let is_left = then.is_none_or(|tools| tools.contains(&tool));
    if is_left && principal.scopes.allows_tool(tool) {
        return Ok(Ok(()));
    }
    Ok(Err(Denied::Scope { kind: ScopeKind::Tool, wanted: tool.to_string() }))
}
