//! The shapes of answers about what is kept, erased and exported.

use std::collections::BTreeMap;

use utoipa::ToSchema;

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetentionClass {
    Access,
    App,
    Error,
    Audit,
    Conversations,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    Principal,
    Conversation,
}

/// Days; 0: for good.
#[derive(Debug, ToSchema)]
pub struct RetentionDays {
    pub access: u32,
    pub app: u32,
    pub error: u32,
    pub audit: u32,
    pub conversations: u32,
}

#[derive(Debug, ToSchema)]
pub struct Hold {
    pub kind: HoldKind,
    pub subject: String,
    pub reason: Option<String>,
    pub at: String,
    pub done_by: String,
}

/// What was removed, or would be: rows by table, and lines of the log.
#[derive(Debug, ToSchema)]
pub struct RetentionReport {
    pub at: Option<String>,
    pub dry_run: bool,
    pub removed: BTreeMap<String, u64>,
    pub audit_cut: Option<u64>,
    pub held: u64,
    pub problems: Vec<String>,
    pub took_ms: u64,
}

#[derive(Debug, ToSchema)]
pub struct Retention {
    pub days: RetentionDays,
    pub configured: RetentionDays,
    pub holds: Vec<Hold>,
    pub last: Option<RetentionReport>,
}

/// An erasure; never whom it is about.
#[derive(Debug, ToSchema)]
pub struct Erasure {
    pub id: Option<String>,
    pub pseudonym: Option<String>,
    pub step: String,
    pub counts: BTreeMap<String, u64>,
    pub asked_at: String,
    pub asked_by: String,
    pub ended_at: Option<String>,
    pub receipt: Option<serde_json::Value>,
}

#[derive(Debug, ToSchema)]
pub struct ErasureList {
    pub items: Vec<Erasure>,
    pub next_cursor: Option<String>,
}

/// Items with their `kind`, and where the next piece begins.
#[derive(Debug, ToSchema)]
pub struct ExportPiece {
    pub items: Vec<serde_json::Value>,
    pub next_cursor: Option<String>,
}
