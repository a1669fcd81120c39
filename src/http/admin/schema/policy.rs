//! Shapes of answers about the policy.
#![expect(missing_docs, reason = "the types of the orchestrator say what each field means")]

use serde_json::Value;
use utoipa::ToSchema;

macro_rules! choice {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        #[derive(Debug, serde::Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($variant),+ }
    };
}

choice!(Outcome { Allow, Ask, Deny });
choice!(StepOutcome { NotMatched, Allow, Ask, Deny });
choice!(PolicyLayer { Definition, Builtin, Rules, DenyPatterns });
choice!(PolicyOrigin { Builtin, File, Admin });
choice!(PastState { Pending, Approved, Denied, Expired, Voided });
choice!(AskedRole { Viewer, Member, Operator, Admin, Overlord });
choice!(AskedSurface { Api, Admin, System });

#[derive(Debug, ToSchema)]
pub struct PolicyActivation {
    pub n: u64,
    pub version: String,
    pub origin: PolicyOrigin,
    pub at: String,
    pub done_by: String,
    pub note: Option<String>,
}

/// A version with its text.
#[derive(Debug, ToSchema)]
pub struct Policy {
    pub n: u64,
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub version: String,
    pub note: Option<String>,
    pub created_at: String,
    pub created_by: String,
    pub in_force: Option<PolicyActivation>,
    pub source: String,
}

/// A version in a list.
#[derive(Debug, ToSchema)]
pub struct PolicyEntry {
    pub n: u64,
    pub version: String,
    pub note: Option<String>,
    pub created_at: String,
    pub created_by: String,
    pub active: bool,
}

#[derive(Debug, ToSchema)]
pub struct PolicyVersions {
    pub items: Vec<PolicyEntry>,
    pub next_cursor: Option<String>,
}

/// What a change came to.
#[derive(Debug, ToSchema)]
pub struct PolicyChange {
    pub version: String,
    pub stored: bool,
    pub before: Option<String>,
    pub active: Option<String>,
    pub activation: Option<PolicyActivation>,
}

#[derive(Debug, ToSchema)]
pub struct PolicyStep {
    pub layer: PolicyLayer,
    pub rule: String,
    pub outcome: StepOutcome,
    pub why: String,
    pub decided: bool,
}

/// Why a call is decided so, and what would change it.
#[derive(Debug, ToSchema)]
pub struct PolicyExplanation {
    pub verdict: Outcome,
    pub rule: String,
    pub layer: PolicyLayer,
    pub reasons: Vec<String>,
    #[schema(required = false)]
    pub risk: Option<String>,
    #[schema(required = false)]
    pub required_role: Option<AskedRole>,
    #[schema(required = false)]
    pub quorum: Option<u32>,
    pub policy_version: String,
    pub steps: Vec<PolicyStep>,
    pub other_rules: u64,
    pub change: String,
}

#[derive(Debug, ToSchema)]
pub struct PastDecision {
    pub after_event: u64,
    pub at: String,
    pub verdict: Outcome,
    pub rule: String,
    pub layer: String,
    pub policy_version: String,
}

#[derive(Debug, ToSchema)]
pub struct PastApproval {
    pub id: String,
    pub state: PastState,
    #[schema(value_type = Vec<Object>)]
    pub decisions: Vec<Value>,
}

/// A call that policy has decided.
#[derive(Debug, ToSchema)]
pub struct PastCall {
    pub call_id: String,
    pub run_id: String,
    pub agent: String,
    pub decisions: Vec<PastDecision>,
    pub approvals: Vec<PastApproval>,
}

/// Why a call was decided so: `then`, under the version that decided it; `now`, under the one in force;
/// `with`, under the policy that came with the question.
#[derive(Debug, ToSchema)]
pub struct PolicyAnswer {
    pub call: Option<PastCall>,
    #[schema(value_type = Object)]
    pub question: Value,
    pub then: Option<PolicyExplanation>,
    pub now: PolicyExplanation,
    pub with: Option<PolicyExplanation>,
}

#[derive(Debug, ToSchema)]
pub struct ReplayCounts {
    pub examined: u64,
    pub same: u64,
    pub other_rule: u64,
    pub stricter: u64,
    pub looser: u64,
    pub unreadable: u64,
}

#[derive(Debug, ToSchema)]
pub struct Judged {
    pub verdict: Outcome,
    pub rule: String,
    pub layer: String,
    pub policy_version: String,
}

#[derive(Debug, ToSchema)]
pub struct Difference {
    pub call_id: String,
    pub run_id: String,
    pub at: String,
    pub agent: String,
    pub tool: String,
    pub call: String,
    pub before: Judged,
    pub after: Judged,
}

/// A part of a replay.
#[derive(Debug, ToSchema)]
pub struct ReplayPage {
    pub policy_version: String,
    pub counts: ReplayCounts,
    pub items: Vec<Difference>,
    pub next_cursor: Option<String>,
    pub total: Option<u64>,
}
