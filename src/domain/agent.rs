//! An agent's definition: what the operator wrote about it, checked.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    grant::{PathRule, ToolLimits},
    host::{EgressLimits, HostPolicy},
    principal::Role,
    run::RunLimits,
    tool::ToolName,
};

/// Name of an agent: lower-case letters, digits, `-` and `_`, at most 64 bytes. It is also the
/// name of a directory, which is why nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AgentName(String);

/// The text was no agent name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an agent name: use 1 to 64 lower-case letters, digits, `-` or `_`")]
pub struct AgentNameError;

impl AgentName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AgentName {
    type Err = AgentNameError;

    fn from_str(text: &str) -> Result<Self, AgentNameError> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(AgentNameError) }
    }
}

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An agent as configured. Nothing is granted that is not written here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentDef {
    /// Name.
    pub name: AgentName,
    /// SHA-256 (hex) over the definition: a run remembers which version it ran.
    pub version: String,
    /// Model entry of the configuration.
    pub model: String,
    /// System prompt.
    pub system_prompt: String,
    /// Tools that it may ask for.
    pub tools: Vec<ToolName>,
    /// Roles that may start it.
    pub roles: Vec<Role>,
    /// Absolute path of its workspace.
    pub workspace: PathBuf,
    /// Further trees.
    pub allowed_paths: Vec<PathRule>,
    /// Programs that run without asking; `*` alone means every program.
    pub allowed_commands: Vec<String>,
    /// Whether programs may be executed from the workspace and `/tmp` (a build profile).
    pub may_execute_files: bool,
    /// Other machines that it may reach, from the configuration alone.
    pub hosts: HostPolicy,
    /// Bounds of one run's traffic.
    pub egress: EgressLimits,
    /// Bounds of one tool call.
    pub tool_limits: ToolLimits,
    /// Bounds of one run, where the caller does not say; a caller can only lower them.
    pub limits: RunLimits,
    /// What a new message does to a busy conversation by default is the caller's choice; this is
    /// the most output tokens one model call may give.
    pub max_output_tokens: u32,
}
