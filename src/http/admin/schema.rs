//! The shapes of answers, for the admin door's `openapi.json`. A test holds each one against the
//! type that is really written.
#![expect(missing_docs, reason = "the types of the orchestrator say what each field means")]

pub mod policy;

use utoipa::ToSchema;

mod backup;
mod identities;
mod retention;

pub use crate::http::kit::schema::Problem;
pub use backup::*;
pub use identities::*;
pub use retention::*;

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Deny,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    Config,
    List,
    Default,
    Address,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    Org,
    Agent,
    Principal,
    Conversation,
}

/// What may be used in a day, and what was used today.
#[derive(Debug, ToSchema)]
pub struct Budget {
    pub scope: BudgetScope,
    pub subject: String,
    #[schema(example = "5")]
    pub usd_per_day: Option<String>,
    pub tokens_per_day: Option<u64>,
    #[schema(example = "config")]
    pub layer: String,
    #[schema(example = "2026-01-02")]
    pub day: String,
    pub used_usd: String,
    pub used_tokens: u64,
    pub held_usd: String,
    pub held_tokens: u64,
    pub updated_at: Option<String>,
    pub updated_by: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct BudgetPage {
    pub items: Vec<Budget>,
    pub next_cursor: Option<String>,
}

/// A model, and whether it rests after failures.
#[derive(Debug, ToSchema)]
pub struct ModelReport {
    pub model: String,
    #[schema(example = "openai")]
    pub provider: String,
    #[schema(example = "closed")]
    pub state: String,
    pub class: Option<String>,
    pub rests_secs: Option<u64>,
}

/// A text, or a table of the same parts.
#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum Rule {
    Text(String),
    Table(RuleTable),
}

#[derive(Debug, serde::Serialize, ToSchema)]
pub struct RuleTable {
    #[schema(example = "*.example.com")]
    pub host: String,
    pub port: Option<u16>,
    pub methods: Option<Vec<String>>,
    pub path: Option<String>,
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default)]
    pub opaque: bool,
}

/// A rule, of the list or of the configuration.
#[derive(Debug, ToSchema)]
pub struct EgressRule {
    #[schema(example = "egr_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: Option<String>,
    pub layer: Layer,
    pub agent: Option<String>,
    pub verdict: Verdict,
    #[schema(example = "*.example.com:8443")]
    pub rule: String,
    pub note: Option<String>,
    pub created_at: Option<String>,
    pub created_by: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct RuleList {
    pub items: Vec<EgressRule>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct CheckedAddress {
    pub address: String,
    pub refused: Option<String>,
}

/// What would become of a connection.
#[derive(Debug, ToSchema)]
pub struct EgressAnswer {
    pub verdict: Verdict,
    pub agent: String,
    pub host: String,
    pub port: u16,
    pub reason: Option<String>,
    pub layer: Layer,
    pub rule: Option<String>,
    pub rule_id: Option<String>,
    pub addresses: Vec<CheckedAddress>,
    pub detail: String,
    pub change: String,
}

#[derive(Debug, ToSchema)]
pub struct NetworkCheck {
    pub status: NetworkState,
    pub reason: Option<String>,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    Unchecked,
    Held,
    Refused,
    Leaking,
}

#[derive(Debug, ToSchema)]
pub struct AuditPage {
    pub items: Vec<AuditRow>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct AuditRow {
    pub n: u64,
    pub id: String,
    pub at: String,
    pub kind: String,
    pub actor: String,
    pub surface: String,
    pub run_id: Option<String>,
    pub request_id: Option<String>,
    #[schema(value_type = Object)]
    pub data: (),
    pub prev_hash: String,
    pub hash: String,
}

#[derive(Debug, ToSchema)]
pub struct AuditReport {
    pub ok: bool,
    pub rows: u64,
    pub removed: u64,
    pub replaced: u64,
    pub hash: String,
    pub checkpoints: u64,
    pub signed: Option<u64>,
    pub unsigned_rows: u64,
    pub problems: Vec<String>,
}

#[derive(Debug, ToSchema)]
pub struct Checkpoint {
    pub n: u64,
    pub hash: String,
    pub at: String,
    pub key_id: String,
    pub mac: String,
}

/// A secret; never its value.
#[derive(Debug, ToSchema)]
pub struct Secret {
    #[schema(example = "llm.api_key")]
    pub name: String,
    #[schema(example = "file")]
    pub source: String,
    pub since: String,
    pub days: u64,
    pub last_used_at: Option<String>,
    pub warning: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct SecretList {
    pub items: Vec<Secret>,
    pub next_cursor: Option<String>,
}

/// What a run or a call may do.
#[derive(Debug, ToSchema)]
pub struct Capability {
    #[schema(example = "cap_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub parent: Option<String>,
    pub run_id: String,
    pub call_id: Option<String>,
    pub agent: String,
    pub state: CapabilityState,
    #[schema(example = "path read,write /srv/workspaces/default/**")]
    pub permissions: Vec<String>,
    pub is_signed: bool,
    pub delegatable: bool,
    pub issued_at: String,
    pub expires_at: String,
    pub revoked: Option<Revocation>,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityState {
    Live,
    Ended,
    Expired,
    Revoked,
}

#[derive(Debug, ToSchema)]
pub struct Revocation {
    pub at: String,
    pub by: String,
    pub cause: RevokedFor,
    pub reason: Option<String>,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokedFor {
    Person,
    Lockdown,
}

#[derive(Debug, ToSchema)]
pub struct CapabilityList {
    pub items: Vec<Capability>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct Resealed {
    pub sealed: u64,
}

#[derive(Debug, ToSchema)]
pub struct Lockdown {
    pub locked: bool,
    pub lockdown: Option<LockdownRecord>,
    pub stopped: Option<Stopped>,
}

#[derive(Debug, ToSchema)]
pub struct LockdownRecord {
    pub since: String,
    pub by: String,
    pub reason: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct Stopped {
    pub runs: usize,
    pub calls: usize,
    pub idle_sandboxes: usize,
    pub capabilities: u64,
    pub is_done: bool,
    pub took_ms: u64,
}
