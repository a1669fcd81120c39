//! Who is asking, from where, in which request.

use crate::domain::{ConversationId, Principal, PrincipalId, Role, Scopes, Surface};

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

/// Which runs, conversations and approvals exist for somebody: everything else does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Only what is theirs, of whoever may not look at everybody's.
    owner: Option<PrincipalId>,
    me: PrincipalId,
    scopes: Scopes,
}

impl CallContext {
    /// What the principal's role and scopes let them see.
    pub fn scope(&self) -> Scope {
        let me = self.principal.id;
        let owner = match self.principal.role {
            Role::Viewer | Role::Member => Some(me),
            Role::Operator | Role::Admin | Role::Overlord => None,
        };
        Scope { owner, me, scopes: self.principal.scopes.clone() }
    }
}

impl Scope {
    /// Whose alone; everybody's when none.
    pub const fn owner(&self) -> Option<PrincipalId> {
        self.owner
    }

    /// Whether a run exists for the one who asks.
    pub fn includes_run(
        &self,
        owner: PrincipalId,
        agent: &str,
        conversation: ConversationId,
    ) -> bool {
        self.owner.is_none_or(|me| me == owner)
            && self.scopes.allows_agent(agent)
            && self.scopes.allows_conversation(Some(conversation))
    }

    /// Whether a conversation exists for the one who asks. Somebody else's may hold what agents
    /// said that are not in scope, so a list of agents leaves only one's own.
    pub fn includes_conversation(&self, owner: PrincipalId, id: ConversationId) -> bool {
        let is_mine = owner == self.me;
        let is_anybodys = self.owner.is_none() && self.scopes.agents.is_none();
        (is_mine || is_anybodys) && self.scopes.allows_conversation(Some(id))
    }

    /// What narrows it beyond the owner.
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }
}
