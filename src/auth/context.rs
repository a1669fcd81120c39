//! Who is asking, from where, in which request.

use crate::domain::{Principal, PrincipalId, Role, Surface};

/// What every decision and every audit row needs to know of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// Who asks.
    pub principal: Principal,
    /// Where it came in.
    pub surface: Surface,
    /// The request's id, as in logs and answers.
    pub request_id: String,
}

/// Whose runs, conversations and approvals somebody may know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only their own: anything else does not exist for them.
    Own(PrincipalId),
    /// Everybody's.
    Any,
}

impl CallContext {
    /// What the principal's role lets them see.
    pub fn scope(&self) -> Scope {
        match self.principal.role {
            Role::Viewer | Role::Member => Scope::Own(self.principal.id),
            Role::Operator | Role::Admin | Role::Overlord => Scope::Any,
        }
    }
}

impl Scope {
    /// Whether what belongs to `owner` exists for the one who asks.
    pub fn includes(self, owner: PrincipalId) -> bool {
        match self {
            Self::Own(me) => me == owner,
            Self::Any => true,
        }
    }
}
