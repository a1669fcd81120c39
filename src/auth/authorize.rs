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

use crate::domain::{AgentDef, AgentName, AuditEntry, AuditKind, Role};

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
        let role = cx.principal.role;
        self.agents().values().filter(|agent| is_open_to(agent, role)).cloned().collect()
    }

    /// May they start a run of this agent?
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn start_run(&self, cx: &CallContext, agent: &str) -> Result<Permit<StartRun>, Denied> {
        let decided = self.decide_start(cx.principal.role, agent);
        self.conclude(cx, "run.start", decided.map(|agent| StartRun { agent }))
    }

    fn decide_start(&self, role: Role, agent: &str) -> Result<Arc<AgentDef>, Denied> {
        at_least(role, Role::Member, "start a run")?;
        let agent = self.agents().get_by_text(agent).ok_or(Denied::UnknownAgent)?;
        if is_open_to(&agent, role) {
            Ok(agent)
        } else {
            Err(Denied::AgentClosed { agent: agent.name.clone(), role })
        }
    }

    /// Reading is open to every role; what exists for them is in the permit's scope.
    pub fn read(&self, cx: &CallContext) -> Permit<Read> {
        Permit::mint(cx.clone(), Read { scope: cx.scope() })
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
        let decided = at_least(cx.principal.role, required, verb.phrase());
        self.conclude(cx, verb.phrase(), decided.map(|()| Control { verb, scope: cx.scope() }))
    }

    /// May they decide approvals at all? Each approval is checked again with
    /// [`Permit::check`], against its own role and its requester.
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn decide(&self, cx: &CallContext) -> Result<Permit<Decide>, Denied> {
        let decided = at_least(cx.principal.role, Role::Operator, "decide an approval");
        let action = Decide { requester_may_approve: self.options.requester_may_approve };
        self.conclude(cx, "approval.decide", decided.map(|()| action))
    }

    /// May they administer this area?
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub fn manage<A: Area>(&self, cx: &CallContext) -> Result<Permit<A>, Denied> {
        let decided = at_least(cx.principal.role, A::ROLE, A::PHRASE);
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

/// An agent is open to the roles that its definition lists and to the roles above them. A list
/// without entries is open to nobody.
fn is_open_to(agent: &AgentDef, role: Role) -> bool {
    role >= Role::Member && agent.roles.iter().any(|listed| *listed <= role)
}

#[cfg(test)]
mod tests;
