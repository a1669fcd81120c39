//! What narrows somebody's role: to agents, tools, surfaces, conversations.
//!
//! Invariants: an absent list narrows nothing; an empty one leaves nothing. Scopes never widen: what
//! two of them allow together is what each of them allows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{agent::AgentName, ids::ConversationId, limits, principal::Surface, tool::ToolName};

/// What a role reaches. The default narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scopes {
    /// Only these agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<BTreeSet<AgentName>>,
    /// Only these tools, also those that an agent uses on their behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeSet<ToolName>>,
    /// Only through these surfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surfaces: Option<BTreeSet<Surface>>,
    /// Only in these conversations; no new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<BTreeSet<ConversationId>>,
}

/// Which list it is that does not hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The agents.
    Agent,
    /// The tools.
    Tool,
    /// The surfaces.
    Surface,
    /// The conversations.
    Conversation,
    /// Everything: who is narrowed to parts does not administer the whole.
    Administration,
}

impl ScopeKind {
    /// The name in sentences and rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Surface => "surface",
            Self::Conversation => "conversation",
            Self::Administration => "administration",
        }
    }
}

impl std::fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Scopes {
    /// Whether nothing is narrowed.
    pub const fn is_wide(&self) -> bool {
        self.agents.is_none()
            && self.tools.is_none()
            && self.surfaces.is_none()
            && self.conversations.is_none()
    }

    /// Whether they reach a part only of what the daemon does, whatever the surface.
    pub const fn is_partial(&self) -> bool {
        self.agents.is_some() || self.tools.is_some() || self.conversations.is_some()
    }

    /// Whether they include an agent.
    pub fn allows_agent(&self, agent: &str) -> bool {
        self.agents.as_ref().is_none_or(|list| list.iter().any(|own| own.as_str() == agent))
    }

    /// Whether they include a tool.
    pub fn allows_tool(&self, tool: ToolName) -> bool {
        self.tools.as_ref().is_none_or(|list| list.contains(&tool))
    }

    /// Whether they include a way in.
    pub fn allows_surface(&self, surface: Surface) -> bool {
        self.surfaces.as_ref().is_none_or(|list| list.contains(&surface))
    }

    /// Whether they include a conversation; a new one, where none is given.
    pub fn allows_conversation(&self, id: Option<ConversationId>) -> bool {
        self.conversations.as_ref().is_none_or(|list| id.is_some_and(|id| list.contains(&id)))
    }

    /// What both allow.
    #[must_use]
    pub fn narrowed_by(&self, other: &Self) -> Self {
        Self {
            agents: both(self.agents.as_ref(), other.agents.as_ref()),
            tools: both(self.tools.as_ref(), other.tools.as_ref()),
            surfaces: both(self.surfaces.as_ref(), other.surfaces.as_ref()),
            conversations: both(self.conversations.as_ref(), other.conversations.as_ref()),
        }
    }

    /// Whether everything that they allow is allowed by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        within(self.agents.as_ref(), other.agents.as_ref())
            && within(self.tools.as_ref(), other.tools.as_ref())
            && within(self.surfaces.as_ref(), other.surfaces.as_ref())
            && within(self.conversations.as_ref(), other.conversations.as_ref())
    }

    /// The list that holds more than [`limits::SCOPE_ENTRIES_MAX`], if one does.
    pub fn too_long(&self) -> Option<&'static str> {
        let lengths = [
            ("agents", self.agents.as_ref().map_or(0, BTreeSet::len)),
            ("tools", self.tools.as_ref().map_or(0, BTreeSet::len)),
            ("surfaces", self.surfaces.as_ref().map_or(0, BTreeSet::len)),
            ("conversations", self.conversations.as_ref().map_or(0, BTreeSet::len)),
        ];
        lengths.into_iter().find(|(_, n)| *n > limits::SCOPE_ENTRIES_MAX).map(|(name, _)| name)
    }
}

fn both<T: Ord + Clone>(
    one: Option<&BTreeSet<T>>,
    two: Option<&BTreeSet<T>>,
) -> Option<BTreeSet<T>> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.intersection(two).cloned().collect()),
        (Some(list), None) | (None, Some(list)) => Some(list.clone()),
        (None, None) => None,
    }
}

fn within<T: Ord>(inner: Option<&BTreeSet<T>>, outer: Option<&BTreeSet<T>>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.is_subset(outer),
    }
}

#[cfg(test)]
mod tests;
