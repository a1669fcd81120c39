//! Committing a snapshot that a run can be recovered, continued or forked from.

use serde_json::json;

use super::transition::Actor;
use crate::{
    domain::{AuditKind, BundleId, EventBody, Message, Part, ToolCall},
    store::{Bundle, BundleKind, HistoryRef, RunCore, StoreError, Tx},
};

/// What goes into a bundle besides the run.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    pub(super) workspace: &'a str,
    pub(super) calls: &'a [ToolCall],
    pub(super) history: &'a [std::sync::Arc<Message>],
    pub(super) last_seq: u64,
}

/// Whether the commit was refused because it would have kept a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    Stored,
    SecretFound,
}

/// Commits a bundle as the run's new head. A bundle whose content or history holds a registered
/// secret is not stored: an event and an audit row say so, and the caller fails the run.
pub(super) fn commit(
    tx: &mut Tx,
    run: &mut RunCore,
    kind: BundleKind,
    snapshot: Snapshot<'_>,
) -> Result<Committed, StoreError> {
    let calls: Vec<_> = snapshot
        .calls
        .iter()
        .map(|c| json!({ "call_id": c.id, "tool": c.tool, "args_hash": c.args_hash, "state": c.state }))
        .collect();
    let bundle = Bundle {
        id: BundleId::new(tx.ids()),
        run_id: run.id,
        conversation_id: run.conversation_id,
        parent_id: run.head_bundle_id,
        kind,
        environment: json!({
            "agent": run.agent, "agent_version": run.agent_version, "workspace": snapshot.workspace,
        }),
        context: json!({ "step": run.step, "calls": calls }),
        history: HistoryRef { conversation_id: run.conversation_id, last_seq: snapshot.last_seq },
        created_at: tx.now(),
    };
    if holds_secret(tx, &bundle, snapshot.history) {
        let place = "session bundle".to_owned();
        tx.event(run, EventBody::SecretBlocked { place: place.clone() })?;
        tx.audit(Actor::system().entry(AuditKind::SecretBlocked, run, json!({ "place": place })));
        return Ok(Committed::SecretFound);
    }
    let (bundle_id, parent_id) = (bundle.id, bundle.parent_id);
    tx.bundle(bundle)?;
    tx.event(run, EventBody::BundleCommitted { bundle_id, parent_id })?;
    run.head_bundle_id = Some(bundle_id);
    Ok(Committed::Stored)
}

fn holds_secret(tx: &Tx, bundle: &Bundle, history: &[std::sync::Arc<Message>]) -> bool {
    let fields = [&bundle.environment, &bundle.context];
    fields.iter().any(|v| tx.finds_secret(&v.to_string()))
        || history.iter().flat_map(|m| &m.content).any(|part| match part {
            Part::Text { text } | Part::ToolResult { text, .. } => tx.finds_secret(text),
            Part::ToolCall { args, .. } => tx.finds_secret(&args.to_string()),
        })
}
