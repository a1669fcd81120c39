//! Who calls at the local door: the kernel vouches for the user behind a unix socket
//! (`SO_PEERCRED`), so there is no credential to present, to guess or to steal.

use serde_json::json;

use super::{Authenticator, lockout::Subject, principal_id_of};
use crate::domain::{AuditEntry, AuditKind, Principal, Role, Scopes, Surface};

/// The daemon's own user and root may anyway read and replace everything that the daemon has, so
/// the door gives them no more than they hold already.
const ROOT: u32 = 0;

/// Who comes through the local door. The name cannot be that of a token: it has a space.
pub fn local_operator() -> Principal {
    let name = "local operator";
    let scopes = Scopes::default();
    Principal { id: principal_id_of(name), name: name.to_owned(), role: Role::Overlord, scopes }
}

impl Authenticator {
    /// Whether this user of the machine may come in, where `own` is the daemon's. Whoever may not
    /// is logged, counted and audited.
    pub fn admits_user(&self, uid: u32, own: u32) -> bool {
        if uid == own || uid == ROOT {
            return true;
        }
        metrics::counter!("agent_runtime_auth_failures_total", "reason" => "user").increment(1);
        if self.silent.fail(&[Subject::User(uid)], self.clock.now()) {
            tracing::warn!(uid, "another user was refused at the admin socket");
            self.audit.record(AuditEntry {
                kind: AuditKind::AuthFailed,
                actor: "unknown".to_owned(),
                surface: Surface::Admin,
                run_id: None,
                request_id: None,
                data: json!({ "reason": "user", "uid": uid }),
            });
        }
        false
    }
}
