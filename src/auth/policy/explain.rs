//! Why a call was decided as it was, and what would change it.

use serde::{Deserialize, Serialize};

use super::{Layer, Outcome, Policy, Question, RuleName, decide};
use crate::domain::{Risk, Role};

/// Why a call was decided as it was. Complete: made by the very functions that decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The verdict in one word.
    pub verdict: Outcome,
    /// The rule that decided.
    pub rule: RuleName,
    /// Where that rule stands.
    pub layer: Layer,
    /// Why: of a denial the reason, of a question every reason on its card.
    pub reasons: Vec<String>,
    /// How risky the call is; none where it is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Least role that may decide, where a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_role: Option<Role>,
    /// How many people must say yes, where one is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// The policy's version.
    pub policy_version: String,
    /// What was looked at, in the order of the layers.
    pub steps: Vec<Step>,
    /// What would change the verdict, in one sentence.
    pub change: String,
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands.
    pub layer: Layer,
    /// Its name.
    pub rule: RuleName,
    /// What it says of the call.
    pub outcome: StepOutcome,
    /// Why, in words.
    pub why: String,
    /// Whether it made the verdict.
    pub decided: bool,
}

/// What one rule says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is about other calls.
    NotMatched,
    /// It allows.
    Allow,
    /// It asks.
    Ask,
    /// It denies.
    Deny,
}

/// Explains the verdict on a call.
pub fn explain(policy: &Policy, question: &Question<'_>) -> Explanation {
    let verdict = decide(policy, question);
    Explanation {
        verdict: verdict.outcome(),
        rule: verdict.rule().clone(),
        layer: verdict.layer(),
        reasons: Vec::new(),
        risk: None,
        required_role: None,
        quorum: None,
        policy_version: policy.version().to_owned(),
        steps: Vec::new(),
        change: String::new(),
    }
}
