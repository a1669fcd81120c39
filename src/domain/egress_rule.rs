//! A rule about other machines that an administrator added while the daemon ran.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    agent::AgentName,
    host::HostRule,
    ids::{EgressRuleId, PrincipalId},
    time::Timestamp,
};

/// What a rule says about the hosts that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressVerdict {
    /// They may be reached.
    #[default]
    Allow,
    /// They may not, whatever else allows them.
    Deny,
}

/// The text named no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown verdict: use allow or deny")]
pub struct EgressVerdictError;

impl EgressVerdict {
    /// Every verdict.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Deny];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for EgressVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EgressVerdict {
    type Err = EgressVerdictError;

    fn from_str(text: &str) -> Result<Self, EgressVerdictError> {
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or(EgressVerdictError)
    }
}

/// A rule of the list that is kept in the store, beside those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    /// Id.
    pub id: EgressRuleId,
    /// The agent that it is for; every agent when none.
    pub agent: Option<AgentName>,
    /// Whether it allows or denies.
    pub verdict: EgressVerdict,
    /// The hosts, and what of them.
    pub rule: HostRule,
    /// Why, in the words of who added it.
    pub note: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Who added it.
    pub created_by: PrincipalId,
}

impl EgressRule {
    /// Whether it is about this agent.
    pub fn is_for(&self, agent: &AgentName) -> bool {
        self.agent.as_ref().is_none_or(|own| own == agent)
    }
}
