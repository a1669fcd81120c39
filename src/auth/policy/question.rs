//! What is asked of policy, and how it is kept.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::domain::{
    AgentDef, AgentName, CallFacts, ConversationId, EgressLimits, HostPolicy, PathRule, Role,
    RunLimits, Surface, ToolLimits, ToolName,
};

/// One call, by whom and where: everything that a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The agent's definition as it is now.
    pub agent: &'a AgentDef,
    /// What the agent may reach now.
    pub hosts: &'a Arc<HostPolicy>,
    /// The call.
    pub facts: &'a CallFacts,
    /// Whether the run has read untrusted content.
    pub tainted: bool,
    /// The role, as it is now, of the person or program that started the run.
    pub role: Role,
    /// Where the run was started.
    pub surface: Surface,
    /// The conversation that the run belongs to; none for a hypothetical call.
    pub conversation: Option<ConversationId>,
}

/// What calls of one agent have in common, as it is stored: its definition and its hosts.
#[derive(Serialize, Deserialize)]
struct Common<A, H> {
    agent: A,
    hosts: H,
}

/// The rest of a question, as it is stored.
#[derive(Serialize, Deserialize)]
struct Asked<F> {
    facts: F,
    tainted: bool,
    role: Role,
    surface: Surface,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationId>,
}

/// A question that can be stored and asked again: of the agent's definition it keeps what decisions
/// look at, and no prompt. It holds the call's own words (arguments, script) as they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    agent: Subject,
    hosts: HostPolicy,
    facts: CallFacts,
    tainted: bool,
    role: Role,
    surface: Surface,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationId>,
}

/// What decisions look at of an agent's definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    name: AgentName,
    version: String,
    tools: Vec<ToolName>,
    workspace: PathBuf,
    allowed_paths: Vec<PathRule>,
    allowed_commands: Vec<String>,
    may_execute_files: bool,
    egress: EgressLimits,
    tool_limits: ToolLimits,
}

impl Recorded {
    /// Keeps a question.
    pub fn of(question: &Question<'_>) -> Self {
        let agent = question.agent;
        Self {
            agent: Subject {
                name: agent.name.clone(),
                version: agent.version.clone(),
                tools: agent.tools.clone(),
                workspace: agent.workspace.clone(),
                allowed_paths: agent.allowed_paths.clone(),
                allowed_commands: agent.allowed_commands.clone(),
                may_execute_files: agent.may_execute_files,
                egress: agent.egress,
                tool_limits: agent.tool_limits,
            },
            hosts: question.hosts.as_ref().clone(),
            facts: question.facts.clone(),
            tainted: question.tainted,
            role: question.role,
            surface: question.surface,
            conversation: question.conversation,
        }
    }

    /// As two JSON texts: what the calls of one agent have in common, and the rest.
    ///
    /// # Errors
    /// When a value cannot be written as JSON.
    pub fn split(&self) -> Result<(String, String), serde_json::Error> {
        let Self { agent, hosts, facts, tainted, role, surface, conversation } = self;
        let (tainted, role, surface, conversation) = (*tainted, *role, *surface, *conversation);
        let common = serde_json::to_string(&Common { agent, hosts })?;
        let asked = Asked { facts, tainted, role, surface, conversation };
        Ok((common, serde_json::to_string(&asked)?))
    }

    /// From the two texts; from the second alone where it holds everything, as it did once.
    ///
    /// # Errors
    /// When they are not such texts.
    pub fn joined(common: &str, asked: &str) -> Result<Self, serde_json::Error> {
        if common.is_empty() {
            return serde_json::from_str(asked);
        }
        let Common::<Subject, HostPolicy> { agent, hosts } = serde_json::from_str(common)?;
        let Asked::<CallFacts> { facts, tainted, role, surface, conversation } =
            serde_json::from_str(asked)?;
        Ok(Self { agent, hosts, facts, tainted, role, surface, conversation })
    }

    /// The agent's name.
    pub fn agent(&self) -> &AgentName {
        &self.agent.name
    }

    /// The version of the agent's definition.
    pub fn agent_version(&self) -> &str {
        &self.agent.version
    }

    /// The call.
    pub fn facts(&self) -> &CallFacts {
        &self.facts
    }

    /// Asks it again: `ask` gets the very question that was kept.
    pub fn replay<T>(&self, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let agent = self.agent.restored();
        let hosts = Arc::new(self.hosts.clone());
        ask(&Question {
            agent: &agent,
            hosts: &hosts,
            facts: &self.facts,
            tainted: self.tainted,
            role: self.role,
            surface: self.surface,
            conversation: self.conversation,
        })
    }
}

impl Subject {
    /// A definition that policy cannot tell from the one that was kept; no run can use it.
    fn restored(&self) -> AgentDef {
        AgentDef {
            name: self.name.clone(),
            version: self.version.clone(),
            model: String::new(),
            system_prompt: String::new(),
            tools: self.tools.clone(),
            roles: Vec::new(),
            workspace: self.workspace.clone(),
            allowed_paths: self.allowed_paths.clone(),
            allowed_commands: self.allowed_commands.clone(),
            may_execute_files: self.may_execute_files,
            // Decisions look at the live policy, which stands beside the definition.
            hosts: HostPolicy::default(),
            egress: self.egress,
            tool_limits: self.tool_limits,
            limits: RunLimits::default(),
            max_output_tokens: 0,
        }
    }
}
