//! A question to a person. Approvals are rows, not futures: a restart changes nothing.

use std::{collections::BTreeSet, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    binding::Bound,
    ids::{ApprovalId, PrincipalId, RunId, ToolCallId},
    pattern::PatternBounds,
    principal::{Role, Surface},
    run::UnknownName,
    time::Timestamp,
    tool::Risk,
};

/// What the question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// May this call run?
    Tool,
    /// A crash hid the result of an unsafe call: what happened?
    UnknownEffect,
    /// May the run spend more?
    Budget,
}

impl ApprovalKind {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::UnknownEffect => "unknown_effect",
            Self::Budget => "budget",
        }
    }
}

impl FromStr for ApprovalKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Self::Tool, Self::UnknownEffect, Self::Budget]
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or(UnknownName { what: "approval kind" })
    }
}

/// Where the question stands. Only `pending` can be decided; a yes can be voided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has answered.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Denied,
    /// Nobody answered in time; counts as no.
    Expired,
    /// The run ended first, or what was asked has changed.
    Voided,
}

/// What can happen to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApprovalInput {
    /// A valid yes that completes the quorum.
    Approve,
    /// A valid no.
    Deny,
    /// Time is up.
    Expire,
    /// No longer asked.
    Void,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Voided];

    /// The state after `input`, or `None` where it is not legal.
    #[must_use]
    pub const fn after(self, input: ApprovalInput) -> Option<Self> {
        match self {
            Self::Pending => match input {
                ApprovalInput::Approve => Some(Self::Approved),
                ApprovalInput::Deny => Some(Self::Denied),
                ApprovalInput::Expire => Some(Self::Expired),
                ApprovalInput::Void => Some(Self::Voided),
            },
            // What was approved may no longer be what would happen; then it is asked again.
            Self::Approved => match input {
                ApprovalInput::Void => Some(Self::Voided),
                ApprovalInput::Approve | ApprovalInput::Deny | ApprovalInput::Expire => None,
            },
            Self::Denied | Self::Expired | Self::Voided => match input {
                ApprovalInput::Approve
                | ApprovalInput::Deny
                | ApprovalInput::Expire
                | ApprovalInput::Void => None,
            },
        }
    }

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Voided => "voided",
        }
    }
}

impl FromStr for ApprovalState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or(UnknownName { what: "approval state" })
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// How far a yes reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionScope {
    /// This call.
    #[default]
    Once,
    /// The same call (tool and arguments) for the rest of this run.
    Run,
    /// A bounded pattern of calls.
    Pattern,
}

/// What a person says about an unsafe call whose result a crash hid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownOutcome {
    /// It happened: go on as if it had returned.
    Happened,
    /// It did not happen: run it.
    Run,
    /// Leave it and tell the model so.
    Skip,
    /// End the run.
    Abort,
}

/// One person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Who.
    pub principal: PrincipalId,
    /// What.
    pub decision: Decision,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub surface: Surface,
    /// How far it reaches.
    #[serde(default)]
    pub scope: DecisionScope,
    /// How far exactly, for a pattern.
    #[serde(default)]
    pub pattern: Option<PatternBounds>,
    /// What happened, for an unknown effect.
    #[serde(default)]
    pub outcome: Option<UnknownOutcome>,
}

/// A question to a person and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Id.
    pub id: ApprovalId,
    /// The run that waits.
    pub run_id: RunId,
    /// The call in question; none for a budget.
    pub call_id: Option<ToolCallId>,
    /// What the question is about.
    pub kind: ApprovalKind,
    /// The tool, or `budget`.
    pub tool: String,
    /// What exactly would be done.
    pub args: Value,
    /// What the decision binds: SHA-256 (hex) over tool and canonical arguments.
    pub args_hash: String,
    /// Version of the agent's definition and policy that was shown; the decision binds it too.
    pub policy_version: String,
    /// Working directory of the call.
    pub cwd: String,
    /// How risky it is.
    pub risk: Risk,
    /// Why a person is asked.
    pub reasons: Vec<String>,
    /// Whether the run has read untrusted content.
    pub tainted: bool,
    /// Hosts that the call could reach.
    pub egress: Vec<String>,
    /// What the decision binds, all of it: SHA-256 (hex) over `args_hash`, `bound`, `egress` and
    /// `policy_version`. Empty where there is no call to bind.
    #[serde(default)]
    pub binding: String,
    /// What the names on the card stood for when it was asked.
    #[serde(default)]
    pub bound: Bound,
    /// Least role that may decide.
    pub required_role: Role,
    /// Distinct people that must say yes.
    pub quorum: u32,
    /// Where it stands.
    pub state: ApprovalState,
    /// The answers so far.
    pub decisions: Vec<DecisionRecord>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it counts as denied.
    pub expires_at: Timestamp,
}

impl Approval {
    /// Those who said yes, each once.
    pub fn approvers(&self) -> BTreeSet<PrincipalId> {
        let yes = self.decisions.iter().filter(|d| d.decision == Decision::Approve);
        yes.map(|d| d.principal).collect()
    }

    /// How far the yes reaches: no further than any of those who gave it said.
    pub fn scope(&self) -> DecisionScope {
        let mut yes = self.decisions.iter().filter(|d| d.decision == Decision::Approve);
        let Some(first) = yes.next() else { return DecisionScope::Once };
        let is_shared = yes.all(|d| (d.scope, &d.pattern) == (first.scope, &first.pattern));
        if is_shared { first.scope } else { DecisionScope::Once }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_valid_decision_wins_and_nothing_follows_it() {
        use ApprovalInput as I;
        for input in [I::Approve, I::Deny, I::Expire, I::Void] {
            let first = ApprovalState::Pending.after(input).unwrap();
            for second in [I::Approve, I::Deny, I::Expire] {
                assert_eq!(first.after(second), None);
            }
        }
        // Only a yes can lose its force, once.
        for state in ApprovalState::ALL {
            let voided = state.after(I::Void);
            let can_be = matches!(state, ApprovalState::Pending | ApprovalState::Approved);
            assert_eq!(voided, can_be.then_some(ApprovalState::Voided));
        }
    }
}
