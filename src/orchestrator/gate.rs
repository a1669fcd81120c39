//! The gate in front of everything that makes an agent work: one call for every way in.
//!
//! A run cannot be inserted without an [`Admitted`], and only the gate makes one.

use serde_json::json;
use tokio::time::Instant;

use super::{Inner, error::CommandError};
use crate::{
    auth::{Admitted, Asked, CallContext, Denied, GateFacts, Turned},
    domain::{AuditEntry, AuditKind, Surface},
};

impl Inner {
    /// Lets the caller make an agent work, and counts it.
    ///
    /// # Errors
    /// When their role is too low or they start too many; recorded.
    pub(super) fn admit(&self, cx: &CallContext) -> Result<Admitted, CommandError> {
        let asked = match cx.surface {
            Surface::Api | Surface::Admin | Surface::System => Asked::Api,
        };
        let facts = GateFacts { role: cx.principal.role, asked };
        match self.gate.pass(cx.principal.id, facts, Instant::now()) {
            Ok(admitted) => Ok(admitted),
            Err(turned @ Turned::TooOften { retry_after, is_news, .. }) => {
                metrics::counter!("agent_runtime_rate_limited_total", "of" => "runs").increment(1);
                if is_news {
                    self.alerts.record_limit(rate_limited(cx, &turned));
                }
                Err(CommandError::TooOften { detail: turned.to_string(), retry_after })
            }
            Err(Turned::Role { role, required }) => {
                let denied = Denied::Role { role, action: "make agents work", required };
                self.authorizer.record(cx, "llm.gate", &denied);
                Err(denied.into())
            }
            Err(turned @ Turned::NotAddressed) => Err(CommandError::Forbidden(turned.to_string())),
        }
    }
}

fn rate_limited(cx: &CallContext, turned: &Turned) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::RateLimited,
        actor: cx.principal.id.to_string(),
        surface: cx.surface,
        run_id: None,
        request_id: Some(cx.request_id.clone()),
        data: json!({ "limit": "llm.gate", "reason": turned.to_string() }),
    }
}
