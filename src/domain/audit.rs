//! What the audit trail records, and how its rows are chained.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ids::{EventId, RunId},
    principal::Surface,
    time::Timestamp,
};

/// What kind of thing was done or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// The daemon started or stopped.
    Daemon,
    /// A run changed its state.
    RunState,
    /// A person controlled a run: interrupt, steer, resume, cancel, retry, fork.
    Control,
    /// A tool call was allowed and began.
    ToolStarted,
    /// A tool call ended.
    ToolCompleted,
    /// A tool call was refused.
    ToolDenied,
    /// A person was asked.
    ApprovalRequested,
    /// A person answered, or time ran out.
    ApprovalDecided,
    /// A credential was missing, wrong, expired or locked out.
    AuthFailed,
    /// Somebody known asked for something beyond their rights.
    AccessDenied,
    /// A secret was kept from leaving.
    SecretBlocked,
    /// A conversation was deleted.
    ConversationDeleted,
    /// Configuration was loaded or reloaded.
    Config,
    /// An attempt to reach another machine was let through or refused.
    Egress,
    /// Somebody changed which machines may be reached.
    EgressList,
    /// Who may do what was changed: a principal, a role, a token, a link.
    Rbac,
    /// Somebody asked to be linked, or an administrator decided on it.
    Pairing,
    /// A pairing code was wrong, too old or locked out.
    PairingFailed,
    /// The policy was replaced.
    Policy,
    /// An agent was given a capability.
    CapabilityGranted,
    /// A capability did not allow what was asked of it.
    CapabilityDenied,
    /// A capability was taken away.
    CapabilityRevoked,
    /// A budget was changed, came near its end, or refused a call.
    Budget,
    /// Somebody asked more often than they may.
    RateLimited,
    /// The daemon was locked down, or let go.
    Lockdown,
    /// A secret was put into a request; its name, never its value.
    SecretUsed,
    /// A secret was stored, replaced, rotated or removed.
    SecretChanged,
    /// A backup was made, failed or was removed.
    Backup,
    /// The end of the trail was signed.
    Checkpoint,
    /// The daemon warned those who run it.
    Alert,
    /// What is old was removed, or how long it is kept was changed.
    Retention,
    /// A person's data was erased.
    Erase,
    /// A person's data was exported.
    PersonExport,
}

impl AuditKind {
    /// Every kind, for queries and for the test that finds who writes each.
    pub const ALL: [Self; 33] = [
        Self::Daemon,
        Self::RunState,
        Self::Control,
        Self::ToolStarted,
        Self::ToolCompleted,
        Self::ToolDenied,
        Self::ApprovalRequested,
        Self::ApprovalDecided,
        Self::AuthFailed,
        Self::AccessDenied,
        Self::SecretBlocked,
        Self::ConversationDeleted,
        Self::Config,
        Self::Egress,
        Self::EgressList,
        Self::Rbac,
        Self::Pairing,
        Self::PairingFailed,
        Self::Policy,
        Self::CapabilityGranted,
        Self::CapabilityDenied,
        Self::CapabilityRevoked,
        Self::Budget,
        Self::RateLimited,
        Self::Lockdown,
        Self::SecretUsed,
        Self::SecretChanged,
        Self::Backup,
        Self::Checkpoint,
        Self::Alert,
        Self::Retention,
        Self::Erase,
        Self::PersonExport,
    ];

    /// The name in the store, in exports and in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::RunState => "run_state",
            Self::Control => "control",
            Self::ToolStarted => "tool_started",
            Self::ToolCompleted => "tool_completed",
            Self::ToolDenied => "tool_denied",
            Self::ApprovalRequested => "approval_requested",
            Self::ApprovalDecided => "approval_decided",
            Self::AuthFailed => "auth_failed",
            Self::AccessDenied => "access_denied",
            Self::SecretBlocked => "secret_blocked",
            Self::ConversationDeleted => "conversation_deleted",
            Self::Config => "config",
            Self::Egress => "egress",
            Self::EgressList => "egress_list",
            Self::Rbac => "rbac",
            Self::Pairing => "pairing",
            Self::PairingFailed => "pairing_failed",
            Self::Policy => "policy",
            Self::CapabilityGranted => "capability_granted",
            Self::CapabilityDenied => "capability_denied",
            Self::CapabilityRevoked => "capability_revoked",
            Self::Budget => "budget",
            Self::RateLimited => "rate_limited",
            Self::Lockdown => "lockdown",
            Self::SecretUsed => "secret_used",
            Self::SecretChanged => "secret_changed",
            Self::Backup => "backup",
            Self::Checkpoint => "checkpoint",
            Self::Alert => "alert",
            Self::Retention => "retention",
            Self::Erase => "erase",
            Self::PersonExport => "person_export",
        }
    }
}

impl FromStr for AuditKind {
    type Err = AuditKindError;

    fn from_str(text: &str) -> Result<Self, AuditKindError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(AuditKindError)
    }
}

/// The text names no kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of audit row, such as tool_denied; docs/AUDIT.md lists them")]
pub struct AuditKindError;

/// What is to be recorded; the store adds number, time and chain.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// What kind of thing.
    pub kind: AuditKind,
    /// Who: a principal id, or `system`.
    pub actor: String,
    /// Where it came in.
    pub surface: Surface,
    /// The run that it is about.
    pub run_id: Option<RunId>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Details: names, ids, hashes, reasons; never payloads or secrets.
    pub data: Value,
}

/// A row of the audit trail, as stored, queried and exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRow {
    /// Position in the chain, from 1.
    pub n: u64,
    /// Id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: String,
    /// Who.
    pub actor: String,
    /// Where it came in.
    pub surface: String,
    /// The run that it is about.
    pub run_id: Option<RunId>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Details.
    pub data: Value,
    /// Hash of the row before it (hex); zeros for the first.
    pub prev_hash: String,
    /// SHA-256 (hex) over `prev_hash` and every field above.
    pub hash: String,
}

/// A signed statement that the trail had this row as its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The row.
    pub n: u64,
    /// Its hash, which covers every row before it.
    pub hash: String,
    /// When it was signed.
    pub at: Timestamp,
    /// Which key signed it.
    pub key_id: String,
    /// HMAC-SHA256 (hex) over the fields above.
    pub mac: String,
}
