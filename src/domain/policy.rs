//! Versions of the policy, which of them is in force, and what it decided.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    agent::AgentName,
    ids::{RunId, ToolCallId},
    run::UnknownName,
    time::Timestamp,
};

/// Which policy: SHA-256 (hex, lower case) of its text. The same text is the same version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PolicyVersion(String);

/// The text was no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a policy version: 64 hexadecimal digits in lower case")]
pub struct PolicyVersionError;

impl PolicyVersion {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As people see it in tables: the first twelve digits.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PolicyVersion {
    type Err = PolicyVersionError;

    fn from_str(text: &str) -> Result<Self, PolicyVersionError> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_version = text.len() == 64 && text.bytes().all(is_digit);
        if is_version { Ok(Self(text.to_owned())) } else { Err(PolicyVersionError) }
    }
}

impl<'de> Deserialize<'de> for PolicyVersion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A verdict, or what a rule asks for, in one word. The stricter is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It may run.
    Allow,
    /// A person must say yes first.
    Ask,
    /// It may not run.
    Deny,
}

impl Outcome {
    /// Every outcome, least strict first.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Ask, Self::Deny];

    /// The name in the language, on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        found.ok_or(UnknownName { what: "verdict" })
    }
}

/// What put a version in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyOrigin {
    /// Nobody: these are the program's own rules.
    Builtin,
    /// The file that the configuration names.
    File,
    /// An administrator.
    Admin,
}

impl PolicyOrigin {
    /// Every origin.
    pub const ALL: [Self; 3] = [Self::Builtin, Self::File, Self::Admin];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::File => "file",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for PolicyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PolicyOrigin {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|origin| origin.as_str() == text);
        found.ok_or(UnknownName { what: "policy origin" })
    }
}

/// A version without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyInfo {
    /// Its number, from 1, in the order in which versions were stored.
    pub n: u64,
    /// Which.
    pub version: PolicyVersion,
    /// Why, in the words of who stored it.
    pub note: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Who stored it: a principal's id, or `system`.
    pub created_by: String,
}

/// A version with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Everything but the text.
    pub info: PolicyInfo,
    /// The text.
    pub source: String,
}

/// That a version was put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyActivation {
    /// Its number, from 1: the greatest one is in force.
    pub n: u64,
    /// Which version.
    pub version: PolicyVersion,
    /// What put it in force.
    pub origin: PolicyOrigin,
    /// When.
    pub at: Timestamp,
    /// Who: a principal's id, or `system`.
    pub done_by: String,
    /// Why.
    pub note: Option<String>,
}

/// One decision about a call, as kept for explanations and replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDecision {
    /// The call.
    pub call_id: ToolCallId,
    /// Number of the run's last event before the decision.
    pub n: u64,
    /// The run.
    pub run_id: RunId,
    /// When.
    pub at: Timestamp,
    /// Whose call.
    pub agent: AgentName,
    /// Under which policy.
    pub policy_version: PolicyVersion,
    /// What it came to.
    pub verdict: Outcome,
    /// The rule that decided.
    pub rule: String,
    /// The layer that the rule stands in.
    pub layer: String,
    /// What the decision looked at of the call, as JSON, without secrets; in old records everything.
    pub question: String,
    /// What it looked at of the agent, as JSON; empty in old records.
    pub definition: String,
}
