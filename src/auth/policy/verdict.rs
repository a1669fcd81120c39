//! What policy says about one call.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

pub use crate::domain::policy::Outcome;
use crate::domain::{Grant, Risk, Role};

/// What policy says about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allow {
        /// What it may touch.
        grant: Grant,
        /// How risky it is.
        risk: Risk,
        /// The rule that decided.
        rule: RuleName,
        /// Where that rule stands.
        layer: Layer,
    },
    /// A person must say yes first.
    Ask {
        /// What it may touch then.
        grant: Grant,
        /// How risky it is.
        risk: Risk,
        /// Why a person is asked.
        reasons: Vec<String>,
        /// Where it could send something, for the person who decides.
        egress: Vec<String>,
        /// Least role that may decide.
        required_role: Role,
        /// How many different people must say yes.
        quorum: u32,
        /// The rule that decided.
        rule: RuleName,
        /// Where that rule stands.
        layer: Layer,
    },
    /// It may not run; nobody is asked.
    Deny {
        /// One sentence, shown to the model.
        reason: String,
        /// The rule that decided.
        rule: RuleName,
        /// Where that rule stands.
        layer: Layer,
    },
}

impl Verdict {
    /// The verdict in one word.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Allow { .. } => Outcome::Allow,
            Self::Ask { .. } => Outcome::Ask,
            Self::Deny { .. } => Outcome::Deny,
        }
    }

    /// The rule that decided.
    pub const fn rule(&self) -> &RuleName {
        match self {
            Self::Allow { rule, .. } | Self::Ask { rule, .. } | Self::Deny { rule, .. } => rule,
        }
    }

    /// Where the rule that decided stands.
    pub const fn layer(&self) -> Layer {
        match self {
            Self::Allow { layer, .. } | Self::Ask { layer, .. } | Self::Deny { layer, .. } => {
                *layer
            }
        }
    }
}

/// Which part of policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The agent's definition: its tools, paths, hosts and commands. Nothing below widens it.
    Definition,
    /// What is built in: taint, scripts, what changes something elsewhere.
    Builtin,
    /// The rules of the policy's file.
    Rules,
    /// The deny patterns, built in or of the file.
    DenyPatterns,
}

impl Layer {
    /// The name on the wire and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::Builtin => "builtin",
            Self::Rules => "rules",
            Self::DenyPatterns => "deny_patterns",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a rule: of a built-in one (`command.listed`), of a pattern (`deny.sudo`) or of one
/// in the policy's file, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleName(pub(super) Cow<'static, str>);

impl RuleName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for RuleName {
    fn from(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
}

impl From<String> for RuleName {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for RuleName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for RuleName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
