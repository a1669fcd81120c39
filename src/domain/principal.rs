//! Who acts, with what standing, and from where.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ids::PrincipalId, scopes::Scopes};

/// Standing, least first: comparing two roles compares what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads what is theirs.
    Viewer,
    /// Starts and controls their own runs.
    Member,
    /// Controls any run and decides low and medium risk approvals.
    Operator,
    /// Decides high risk approvals and reads the audit trail.
    Admin,
    /// Everything.
    Overlord,
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Member, Self::Operator, Self::Admin, Self::Overlord];

    /// The name used on the wire and in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Overlord => "overlord",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text named no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown role: use viewer, member, operator, admin or overlord")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(RoleError)
    }
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// REST, SSE and WebSocket.
    Api,
    /// The admin door.
    Admin,
    /// The daemon itself: timers, recovery.
    System,
}

impl Surface {
    /// Every surface.
    pub const ALL: [Self; 3] = [Self::Api, Self::Admin, Self::System];

    /// The name used on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Admin => "admin",
            Self::System => "system",
        }
    }
}

/// A person or program that may act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Stable id.
    pub id: PrincipalId,
    /// What people call them; never used for a decision.
    pub name: String,
    /// Standing.
    pub role: Role,
    /// What narrows it.
    #[serde(default, skip_serializing_if = "Scopes::is_wide")]
    pub scopes: Scopes,
}

impl Principal {
    /// The same one with no more than this role and these scopes: what a token or a link leaves.
    #[must_use]
    pub fn narrowed(self, role: Role, scopes: &Scopes) -> Self {
        let scopes = self.scopes.narrowed_by(scopes);
        Self { role: self.role.min(role), scopes, ..self }
    }

    /// Whether this one may do everything that `other` may, as the same person.
    pub fn still_has(&self, other: &Self) -> bool {
        self.id == other.id && self.role >= other.role && other.scopes.is_within(&self.scopes)
    }
}
