//! The shapes of answers, for `openapi.json`. Domain types are what is really written; a test
//! holds each shape here against the type that it describes.
#![expect(missing_docs, reason = "the domain types and docs/API.md say what each field means")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

pub use crate::http::kit::schema::{FieldError, Problem};

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($variant),+ }
    };
}

choice!(RunState {
    Queued,
    Running,
    AwaitingApproval,
    Paused,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
});
choice!(WaitReason { Interrupted, EffectUnknown, Budget, Input, Operator, Backoff, Lockdown });
choice!(OnBusy { Enqueue, Reject, Interrupt, Steer });
choice!(InterruptMode { Graceful, Hard });
choice!(ApprovalKind { Tool, UnknownEffect, Budget });
choice!(ApprovalState { Pending, Approved, Denied, Expired, Voided });
choice!(Decision { Approve, Deny });
choice!(DecisionScope { Once, Run, Pattern });
choice!(UnknownOutcome { Happened, Run, Skip, Abort });
choice!(Risk { Low, Medium, High });
choice!(Effect { Pure, Idempotent, Unsafe });
choice!(Role { Viewer, Member, Operator, Admin, Overlord });
choice!(Surface { Api, Admin, System });
choice!(Author { User, Assistant, Tool });
choice!(BundleKind { SafePoint, Final });

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    Full,
    FullNoproc,
    Docker,
    Landlock,
    Local,
    None,
}

/// Plain text, or a list of parts.
#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum Input {
    Text(String),
    Parts(Vec<InputPart>),
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InputPart {
    Text { text: String },
}

#[derive(Debug, ToSchema)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[schema(example = "0.0125")]
    pub cost_usd: String,
    pub llm_calls: u32,
    pub tool_calls: u32,
}

#[derive(Debug, ToSchema)]
pub struct RunError {
    pub code: String,
    pub message: String,
}

#[derive(Debug, ToSchema)]
pub struct RunLimits {
    pub timeout_secs: u64,
    pub max_steps: u32,
    pub max_tool_calls: u32,
    pub max_tokens: u64,
    pub max_cost_usd: String,
}

/// One execution of an agent.
#[derive(Debug, ToSchema)]
pub struct Run {
    #[schema(example = "run_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub conversation_id: String,
    pub agent: String,
    pub state: RunState,
    pub wait_reason: Option<WaitReason>,
    pub input: Input,
    pub output: Option<String>,
    pub error: Option<RunError>,
    pub seq: u64,
    pub epoch: u64,
    pub usage: Usage,
    pub confinement: Option<Confinement>,
    pub tainted: bool,
    pub parent_run_id: Option<String>,
    pub retry_of: Option<String>,
    pub principal: String,
    pub surface: Surface,
    pub metadata: BTreeMap<String, String>,
    pub limits: RunLimits,
    pub base_bundle_id: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct RunPage {
    pub items: Vec<Run>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct UsageItem {
    #[schema(example = "default")]
    pub key: String,
    pub runs: u64,
    pub llm_calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[schema(example = "0.0125")]
    pub cost_usd: String,
}

#[derive(Debug, ToSchema)]
pub struct UsageTotal {
    pub runs: u64,
    pub llm_calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[schema(example = "0.0125")]
    pub cost_usd: String,
}

/// What was used in some days.
#[derive(Debug, ToSchema)]
pub struct UsageReport {
    #[schema(example = "2026-01-01")]
    pub from: String,
    #[schema(example = "2026-01-31")]
    pub to: String,
    #[schema(example = "agent")]
    pub by: String,
    pub items: Vec<UsageItem>,
    pub total: UsageTotal,
    pub next_cursor: Option<String>,
}

/// A durable event; `data` depends on `type`.
#[derive(Debug, ToSchema)]
pub struct Event {
    #[schema(example = "run.created")]
    pub r#type: String,
    pub run_id: String,
    pub conversation_id: String,
    pub seq: u64,
    pub at: String,
    pub epoch: u64,
    #[schema(value_type = Object)]
    pub data: Value,
}

#[derive(Debug, ToSchema)]
pub struct EventPage {
    pub items: Vec<Event>,
    pub next_after: u64,
}

#[derive(Debug, ToSchema)]
pub struct SteerAccepted {
    pub steer_id: String,
}

/// Which calls beside the one on the card a yes lets through.
#[derive(Debug, ToSchema)]
pub struct Pattern {
    pub argv_prefix: Option<Vec<String>>,
    pub args: Option<BTreeMap<String, String>>,
    #[schema(minimum = 1, maximum = 86400)]
    pub ttl_secs: u64,
    #[schema(minimum = 1, maximum = 100)]
    pub uses: u32,
}

/// What a pattern would have let through in the last days, by the arguments of the calls.
#[derive(Debug, ToSchema)]
pub struct PatternPreview {
    pub days: u64,
    pub calls: u64,
    pub matched: u64,
    pub is_complete: bool,
    #[schema(value_type = Vec<Object>)]
    pub examples: Vec<Value>,
}

/// A pattern that people approved.
#[derive(Debug, ToSchema)]
pub struct ApprovalPattern {
    pub id: String,
    pub approval_id: String,
    pub agent: String,
    pub tool: String,
    #[schema(value_type = Object)]
    pub args: Value,
    pub pattern: Pattern,
    pub bound: Bound,
    pub egress: Vec<String>,
    pub policy_version: String,
    pub tainted: bool,
    pub required_role: Role,
    pub approved_by: Vec<String>,
    pub created_at: String,
    pub expires_at: String,
    pub uses_left: u32,
    pub revoked_at: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct ApprovalPatternPage {
    pub items: Vec<ApprovalPattern>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct BoundDirectory {
    pub path: String,
    pub dev: u64,
    pub ino: u64,
}

#[derive(Debug, ToSchema)]
pub struct BoundFile {
    pub dev: u64,
    pub ino: u64,
    pub bytes: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

#[derive(Debug, ToSchema)]
pub struct BoundExecutable {
    pub path: String,
    pub dev: u64,
    pub ino: u64,
    pub bytes: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub sha256: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct BoundTarget {
    pub path: String,
    pub directory: BoundDirectory,
    pub file: Option<BoundFile>,
}

/// What the names on a card stood for when it was asked.
#[derive(Debug, ToSchema)]
pub struct Bound {
    pub cwd: Option<BoundDirectory>,
    pub executable: Option<BoundExecutable>,
    pub target: Option<BoundTarget>,
    pub profile: String,
}

#[derive(Debug, ToSchema)]
pub struct DecisionRecord {
    pub principal: String,
    pub decision: Decision,
    pub reason: Option<String>,
    pub at: String,
    pub surface: Surface,
    pub scope: DecisionScope,
    pub pattern: Option<Pattern>,
    pub outcome: Option<UnknownOutcome>,
}

/// A question to a person.
#[derive(Debug, ToSchema)]
pub struct Approval {
    pub id: String,
    pub run_id: String,
    pub call_id: Option<String>,
    pub kind: ApprovalKind,
    pub tool: String,
    #[schema(value_type = Object)]
    pub args: Value,
    pub args_hash: String,
    pub policy_version: String,
    pub cwd: String,
    pub risk: Risk,
    pub reasons: Vec<String>,
    pub tainted: bool,
    pub egress: Vec<String>,
    pub binding: String,
    pub bound: Bound,
    pub required_role: Role,
    pub quorum: u32,
    pub state: ApprovalState,
    pub decisions: Vec<DecisionRecord>,
    pub created_at: String,
    pub expires_at: String,
}

/// The approvals of one run on a page, together.
#[derive(Debug, ToSchema)]
pub struct ApprovalGroup {
    pub run_id: String,
    pub count: u64,
    pub risk: Risk,
    pub tools: Vec<String>,
    pub tainted: bool,
    pub oldest_at: String,
    pub ids: Vec<String>,
}

/// What became of one of several decisions.
#[derive(Debug, ToSchema)]
pub struct DecidedOne {
    pub id: String,
    pub ok: bool,
    pub approval: Option<Approval>,
    pub problem: Option<Problem>,
}

#[derive(Debug, ToSchema)]
pub struct DecidedMany {
    pub items: Vec<DecidedOne>,
}

#[derive(Debug, ToSchema)]
pub struct ApprovalPage {
    pub items: Vec<Approval>,
    pub groups: Vec<ApprovalGroup>,
    pub next_cursor: Option<String>,
}

/// A thread.
#[derive(Debug, ToSchema)]
pub struct Conversation {
    pub id: String,
    pub title: Option<String>,
    pub principal: String,
    pub last_seq: u64,
    pub active_run_id: Option<String>,
    pub head_bundle_id: Option<String>,
    pub forked_from: Option<String>,
    pub created_at: String,
}

#[derive(Debug, ToSchema)]
pub struct ConversationPage {
    pub items: Vec<Conversation>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct Message {
    pub id: String,
    pub conversation_id: String,
    pub seq: u64,
    pub run_id: String,
    pub role: Author,
    #[schema(value_type = Vec<Object>)]
    pub content: Vec<Value>,
    pub at: String,
}

#[derive(Debug, ToSchema)]
pub struct MessagePage {
    pub items: Vec<Message>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct HistoryRef {
    pub conversation_id: String,
    pub last_seq: u64,
}

/// A snapshot that a run can be continued or forked from.
#[derive(Debug, ToSchema)]
pub struct Bundle {
    pub id: String,
    pub run_id: String,
    pub conversation_id: String,
    pub parent_id: Option<String>,
    pub kind: BundleKind,
    #[schema(value_type = Object)]
    pub environment: Value,
    #[schema(value_type = Object)]
    pub context: Value,
    pub history: HistoryRef,
    pub created_at: String,
}

#[derive(Debug, ToSchema)]
pub struct BundleList {
    pub items: Vec<Bundle>,
}
