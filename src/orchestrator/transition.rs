//! The one way to change a run's state: the pure function, the event and the audit row together.

use serde_json::json;

use crate::{
    auth::CallContext,
    domain::{AuditEntry, AuditKind, EventBody, RunInput, Surface},
    store::{RunCore, StoreError, Tx},
};

/// Who caused a change.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) id: String,
    pub(super) surface: Surface,
    pub(super) request_id: Option<String>,
}

impl Actor {
    /// The daemon itself.
    pub(super) fn system() -> Self {
        Self { id: "system".to_owned(), surface: Surface::System, request_id: None }
    }

    pub(super) fn entry(
        &self,
        kind: AuditKind,
        run: &RunCore,
        data: serde_json::Value,
    ) -> AuditEntry {
        AuditEntry {
            kind,
            actor: self.id.clone(),
            surface: self.surface,
            run_id: Some(run.id),
            request_id: self.request_id.clone(),
            data,
        }
    }
}

impl From<&CallContext> for Actor {
    fn from(cx: &CallContext) -> Self {
        Self {
            id: cx.principal.id.to_string(),
            surface: cx.surface,
            request_id: Some(cx.request_id.clone()),
        }
    }
}

/// Moves a run to its next state. The caller saves the run in the same job.
///
/// # Errors
/// [`StoreError::Stale`] when the state does not allow it: whoever asked looked at an older run.
pub(super) fn change(
    tx: &mut Tx,
    run: &mut RunCore,
    input: RunInput,
    body: EventBody,
    actor: &Actor,
) -> Result<(), StoreError> {
    let from = run.state;
    let Some(to) = from.after(input) else {
        return Err(StoreError::Stale { what: run.id.to_string() });
    };
    run.state = to;
    if from == crate::domain::RunState::Queued {
        tx.left_queue(run.principal);
    }
    if to == crate::domain::RunState::Queued {
        tx.joined_queue(run.principal);
    }
    let data = json!({ "from": from, "to": to, "event": body.kind(), "epoch": run.epoch });
    tx.event(run, body)?;
    tx.audit(actor.entry(AuditKind::RunState, run, data));
    Ok(())
}
