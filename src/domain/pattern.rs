//! A bounded pattern of calls that a person approved: which calls, for how long, how often.
//!
//! Invariants: a pattern is for the tool and the agent of the card that it was made from; what it
//! does not name must be as on that card. It ends by time, by use, by hand, and when what it was
//! bound to changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    binding::Bound,
    ids::{ApprovalId, PatternId, PrincipalId},
    principal::Role,
    time::Timestamp,
};

/// How far a pattern reaches beyond the call on the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternBounds {
    /// The words with which `argv` must begin; without it `argv` must be the card's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_prefix: Option<Vec<String>>,
    /// A glob for each text argument that may differ: `*` within a path's part, `**` across them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// How long it holds, in seconds; at most
    /// [`PATTERN_TTL_SECS_MAX`](super::limits::PATTERN_TTL_SECS_MAX).
    pub ttl_secs: u64,
    /// How many calls it lets through; at most
    /// [`PATTERN_USES_MAX`](super::limits::PATTERN_USES_MAX).
    pub uses: u32,
}

/// A pattern in force, or one that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalPattern {
    /// Id.
    pub id: PatternId,
    /// The card that it was made from.
    pub approval_id: ApprovalId,
    /// The agent whose calls it lets through.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// The arguments on the card.
    pub args: Value,
    /// How far it reaches beyond them.
    pub pattern: PatternBounds,
    /// What the names on the card stood for.
    pub bound: Bound,
    /// Where the calls could send something.
    pub egress: Vec<String>,
    /// The version of agent and policy that it holds for.
    pub policy_version: String,
    /// Whether the card said that the run had read untrusted content.
    pub tainted: bool,
    /// Least role that could decide the card.
    pub required_role: Role,
    /// Who approved it.
    pub approved_by: Vec<PrincipalId>,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Calls that it still lets through.
    pub uses_left: u32,
    /// When it was taken back.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}
