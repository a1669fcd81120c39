//! What each role may do. The one table between a known principal and a [`Permit`].
//!
//! viewer: reads their own. member: starts agents open to them, controls their own runs.
//! operator: sees and controls any, retries, decides up to medium risk. admin: decides high risk,
//! sees and changes which machines agents may reach.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::json;

use crate::domain::{
    AgentDef, AgentName, AuditEntry, AuditKind, ConversationId, Principal, Role, ScopeKind,
};

use super::{
    AuditSink,
    area::{self, Area},
    context::CallContext,
    permit::{Control, Decide, Permit, Read, StartRun, Verb},
};

/// Why somebody known may not do what they asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role is too low for the action.
    #[error("the role {role} may not {action}; it needs {required} or higher")]
    Role {
        /// What they have.
        role: Role,
        /// What they wanted, as a phrase.
        action: &'static str,
        /// What it takes.
        required: Role,
    },
    /// No agent has that name.
    #[error("there is no agent of that name; GET /api/v1/agents lists those you may start")]
    UnknownAgent,
    /// The agent's definition does not list the role.
    #[error("agent `{agent}` is not open to the role {role}")]
    AgentClosed {
        /// The agent.
        agent: AgentName,
        /// What they have.
        role: Role,
    },
    /// The approval asks for more.
    #[error("this approval needs the role {required} or higher; yours is {role}")]
    ApprovalRole {
        /// What they have.
        role: Role,
        /// What it takes.
        required: Role,
    },
    /// Four eyes: the requester may not approve their own request.
    #[error("who started the run may not decide its approvals; somebody else must")]
    OwnRequest,
    /// Their scopes leave it out.
    #[error("{}", not_in_scope(*kind, wanted))]
    Scope {
        /// Which list leaves it out.
        kind: ScopeKind,
        /// What they wanted.
        wanted: String,
    },
    /// Who the run works for may not act any more.
    #[error("who started the run may not act any more; an administrator can enable them again")]
    Gone,
    /// Nobody raises themselves.
    #[error("nobody changes their own rights; another administrator must")]
    OwnRights,
    /// Nobody gives what they do not have.
    #[error("these scopes reach further than your own; give at most what you have")]
    WiderScopes,
}

/// What is missing, and what to ask for.
fn not_in_scope(kind: ScopeKind, wanted: &str) -> String {
    match kind {
        ScopeKind::Administration => {
            "your scopes narrow you to parts of what the daemon does, and \
             who administers it must not be narrowed; ask an administrator for a token without \
             scopes"
                .to_owned()
        }
        ScopeKind::Conversation if wanted.is_empty() => "your scopes name the conversations that \
             you may work in, so that you cannot open a new one; give `conversation_id`, or ask an \
             administrator for a token without that list"
            .to_owned(),
        ScopeKind::Agent | ScopeKind::Tool | ScopeKind::Surface | ScopeKind::Conversation => {
            format!(
                "your scopes do not include the {kind} `{wanted}`; ask an administrator to add it \
                 to the scopes of your principal and of your token"
            )
        }
    }
}

impl Denied {
    /// The name of the rule, for the audit trail.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Role { .. } => "role.too_low",
            Self::UnknownAgent => "agent.unknown",
            Self::AgentClosed { .. } => "agent.closed",
            Self::ApprovalRole { .. } => "approval.role",
            Self::OwnRequest => "approval.own_request",
            Self::Scope { kind, .. } => match kind {
                ScopeKind::Agent => "scope.agent",
                ScopeKind::Tool => "scope.tool",
                ScopeKind::Surface => "scope.surface",
                ScopeKind::Conversation => "scope.conversation",
                ScopeKind::Administration => "scope.administration",
            },
            Self::Gone => "principal.gone",
            Self::OwnRights => "principal.own",
            Self::WiderScopes => "scope.wider",
        }
    }
}

/// The rules that configuration can change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether who started a run may decide its approvals; false in production.
    pub requester_may_approve: bool,
}

/// Agents by name.
pub type Agents = BTreeMap<AgentName, Arc<AgentDef>>;

/// Turns who asks for what into a [`Permit`] or [`Denied`]. Clones share the agents and the sink.
#[derive(Clone)]
pub struct Authorizer {
    options: Options,
    agents: Arc<RwLock<Arc<Agents>>>,
    audit: Arc<dyn AuditSink>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// An authorizer over these agents that records refusals in `audit`.
    pub fn new(options: Options, agents: Agents, audit: Arc<dyn AuditSink>) -> Self {
        Self { options, agents: Arc::new(RwLock::new(Arc::new(agents))), audit }
    }

    /// Replaces the agents; runs in progress keep what they started with.
    #[cfg(test)]
    pub(crate) fn set_agents(&self, agents: Agents) {
        *self.agents.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(agents);
    }

    /// The agents as defined now.
    pub fn agents(&self) -> Arc<Agents> {
        Arc::clone(&self.agents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The agents that this principal may start.
    pub fn startable(&self, cx: &CallContext) -> Vec<Arc<AgentDef>> {
        let Principal { role, scopes, .. } = &cx.principal;
        if on_surface(cx).is_err() {
            return Vec::new();
        }
        let is_mine = |agent: &&Arc<AgentDef>| {
            is_open_to(agent, *role) && scopes.allows_agent(agent.name.as_str())
        };
        self.agents().values().filter(is_mine).cloned().collect()
    }

    /// May they start a run of this agent?
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn start_run(&self, cx: &CallContext, agent: &str) -> Result<Permit<StartRun>, Denied> {
        let decided = self.decide_start(cx, agent);
        self.conclude(cx, "run.start", decided.map(|agent| StartRun { agent }))
    }

    fn decide_start(&self, cx: &CallContext, agent: &str) -> Result<Arc<AgentDef>, Denied> {
        let role = cx.principal.role;
        on_surface(cx)?;
        at_least(role, Role::Member, "start a run")?;
        let agent = self.agents().get_by_text(agent).ok_or(Denied::UnknownAgent)?;
        if !cx.principal.scopes.allows_agent(agent.name.as_str()) {
            let wanted = agent.name.to_string();
            return Err(Denied::Scope { kind: ScopeKind::Agent, wanted });
        }
        if is_open_to(&agent, role) {
            Ok(agent)
        } else {
            Err(Denied::AgentClosed { agent: agent.name.clone(), role })
        }
    }

    /// Whether somebody who started a run of this agent may still have it work for them: what they
    /// may not start today does not go on either.
    pub fn may_go_on(&self, who: &Principal, agent: &AgentDef, in_: ConversationId) -> bool {
        is_open_to(agent, who.role)
            && who.scopes.allows_agent(agent.name.as_str())
            && who.scopes.allows_conversation(Some(in_))
    }

    /// Reading is open to every role; what exists for them is in the permit's scope.
    ///
    /// # Errors
    /// When their scopes leave out the way that they came, recorded.
    pub fn read(&self, cx: &CallContext) -> Result<Permit<Read>, Denied> {
        self.conclude(cx, "read", on_surface(cx).map(|()| Read(())))
    }

    /// May they do this to runs or conversations, and to whose?
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn control(&self, cx: &CallContext, verb: Verb) -> Result<Permit<Control>, Denied> {
        let required = match verb {
            Verb::Retry => Role::Operator,
            Verb::Interrupt
            | Verb::Steer
            | Verb::Resume
            | Verb::Cancel
            | Verb::Fork
            | Verb::CreateConversation
            | Verb::DeleteConversation => Role::Member,
        };
        let decided = on_surface(cx)
            .and_then(|()| at_least(cx.principal.role, required, verb.phrase()))
            .and_then(|()| match verb {
                // Both make a conversation that no list can hold yet.
                Verb::CreateConversation | Verb::Fork => in_conversation(cx, None),
                Verb::Interrupt
                | Verb::Steer
                | Verb::Resume
                | Verb::Cancel
                | Verb::Retry
                | Verb::DeleteConversation => Ok(()),
            });
        self.conclude(cx, verb.phrase(), decided.map(|()| Control { verb }))
    }

    /// May they decide approvals at all? Each approval is checked again with
    /// [`Permit::check`], against its own role and its requester.
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn decide(&self, cx: &CallContext) -> Result<Permit<Decide>, Denied> {
        let decided = on_surface(cx)
            .and_then(|()| at_least(cx.principal.role, Role::Operator, "decide an approval"));
        let action = Decide { requester_may_approve: self.options.requester_may_approve };
        self.conclude(cx, "approval.decide", decided.map(|()| action))
    }

    /// Whether who asks for a call may also be one of those who approve it.
    pub const fn requester_may_approve(&self) -> bool {
        self.options.requester_may_approve
    }

    /// May they administer this area?
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn manage<A: Area>(&self, cx: &CallContext) -> Result<Permit<A>, Denied> {
        let decided = on_surface(cx)
            .and_then(|()| at_least(cx.principal.role, A::ROLE, A::PHRASE))
            .and_then(|()| whole(cx));
        self.conclude(cx, A::NAME, decided.map(|()| area::proof::<A>()))
    }

    /// Records a refusal that was found after the permit was given, such as by [`Permit::check`].
    pub fn record(&self, cx: &CallContext, action: &str, denied: &Denied) {
        tracing::info!(
            principal = %cx.principal.id, role = %cx.principal.role, action,
            rule = denied.rule(), request_id = %cx.request_id, "access denied"
        );
        metrics::counter!("agent_runtime_access_denied_total").increment(1);
        self.audit.record(AuditEntry {
            kind: AuditKind::AccessDenied,
            actor: cx.principal.id.to_string(),
            surface: cx.surface,
            run_id: None,
            request_id: Some(cx.request_id.clone()),
            data: json!({
                "action": action,
                "role": cx.principal.role,
                "rule": denied.rule(),
                "reason": denied.to_string(),
            }),
        });
    }

    fn conclude<A>(
        &self,
        cx: &CallContext,
        action: &str,
        decided: Result<A, Denied>,
    ) -> Result<Permit<A>, Denied> {
        match decided {
            Ok(allowed) => Ok(Permit::mint(cx.clone(), allowed)),
            Err(denied) => {
                self.record(cx, action, &denied);
                Err(denied)
            }
        }
    }
}

trait ByText {
    fn get_by_text(&self, name: &str) -> Option<Arc<AgentDef>>;
}

impl ByText for Agents {
    fn get_by_text(&self, name: &str) -> Option<Arc<AgentDef>> {
        name.parse().ok().and_then(|name: AgentName| self.get(&name).cloned())
    }
}

fn at_least(role: Role, required: Role, action: &'static str) -> Result<(), Denied> {
    if role >= required { Ok(()) } else { Err(Denied::Role { role, action, required }) }
}

/// Scopes may leave out the way that somebody came.
fn on_surface(cx: &CallContext) -> Result<(), Denied> {
    if cx.principal.scopes.allows_surface(cx.surface) {
        return Ok(());
    }
    let wanted = cx.surface.as_str().to_owned();
    Err(Denied::Scope { kind: ScopeKind::Surface, wanted })
}

/// Who is narrowed to parts does not administer the whole: they could give themselves the rest.
fn whole(cx: &CallContext) -> Result<(), Denied> {
    if cx.principal.scopes.is_partial() {
        return Err(Denied::Scope { kind: ScopeKind::Administration, wanted: String::new() });
    }
    Ok(())
}

/// Scopes may name conversations; then there are no new ones.
pub(super) fn in_conversation(cx: &CallContext, id: Option<ConversationId>) -> Result<(), Denied> {
    if cx.principal.scopes.allows_conversation(id) {
        return Ok(());
    }
    let wanted = id.map(|id| id.to_string()).unwrap_or_default();
    Err(Denied::Scope { kind: ScopeKind::Conversation, wanted })
}

/// An agent is open to the roles that its definition lists and to the roles above them. A list
/// without entries is open to nobody.
fn is_open_to(agent: &AgentDef, role: Role) -> bool {
    role >= Role::Member && agent.roles.iter().any(|listed| *listed <= role)
}

#[cfg(test)]
mod tests;
