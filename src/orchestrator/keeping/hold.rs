//! Legal holds: set, lift, ask.

use serde_json::json;

use super::{super::Orchestrator, entry};
use crate::{
    auth::{ManageRetention, Permit},
    domain::{AuditKind, ConversationId, Hold, HoldKind, PrincipalId},
    orchestrator::{
        commands::{Done, Idempotency},
        error::{CommandError, check_reason},
        transition::Actor,
    },
};

impl Orchestrator {
    /// Holds everything of a principal, or a conversation: nothing of it is removed or erased.
    ///
    /// # Errors
    /// When the subject is no id.
    pub async fn hold(
        &self,
        permit: Permit<ManageRetention>,
        (kind, subject): (HoldKind, String),
        reason: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Hold>, CommandError> {
        check_reason(reason.as_deref())?;
        check_subject(kind, &subject)?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", reason);
        let cx = permit.context().clone();
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let cx = permit.context();
                    let done_by = cx.principal.id;
                    let hold = Hold { kind, subject, reason, at: tx.now(), done_by };
                    tx.keeping().put_hold(&hold).await?;
                    masking.record(tx, &Actor::from(cx), None);
                    let data = json!({ "what": "hold set", "hold": hold });
                    tx.audit(entry(AuditKind::Retention, Some(cx), data));
                    Ok(hold)
                })
            })
            .await
    }

    /// Lifts a hold.
    ///
    /// # Errors
    /// When there is none.
    pub async fn lift_hold(
        &self,
        permit: Permit<ManageRetention>,
        kind: HoldKind,
        subject: String,
    ) -> Result<(), CommandError> {
        let cx = permit.context().clone();
        let done = self
            .inner
            .command(&cx, None, move |tx| {
                Box::pin(async move {
                    if !tx.keeping().remove_hold(kind, &subject).await? {
                        return Err(CommandError::NotFound { what: "the hold" });
                    }
                    let data = json!({ "what": "hold lifted", "kind": kind, "subject": subject });
                    tx.audit(entry(AuditKind::Retention, Some(permit.context()), data));
                    Ok(())
                })
            })
            .await
            .map(drop);
        // An erasure may have waited for it.
        self.inner.keeper.erasures.notify_one();
        done
    }
}

fn check_subject(kind: HoldKind, subject: &str) -> Result<(), CommandError> {
    let is_id = match kind {
        HoldKind::Principal => subject.parse::<PrincipalId>().is_ok(),
        HoldKind::Conversation => subject.parse::<ConversationId>().is_ok(),
    };
    if is_id {
        return Ok(());
    }
    Err(CommandError::Invalid {
        code: "request.invalid",
        pointer: Some("/subject"),
        detail: format!("the id of a {}", kind.as_str()),
    })
}
