//! Who may act, as it is kept: principals, their tokens, accounts that are linked to them, and
//! requests for such links.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    ids::{LinkId, PairingId, PrincipalId, TokenId},
    principal::Role,
    run::UnknownName,
    scopes::Scopes,
    time::Timestamp,
};

/// A person or program that was made while the daemon ran, or what was changed about one of the
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRecord {
    /// Stable id.
    pub id: PrincipalId,
    /// What people call them; no two share a name.
    pub name: String,
    /// Their standing; of one of the configuration, at most what that says.
    pub role: Role,
    /// What narrows it.
    pub scopes: Scopes,
    /// Whether they stand in the configuration: once that has them no more, nobody has.
    pub configured: bool,
    /// Since when they may do nothing.
    pub disabled_at: Option<Timestamp>,
    /// When this was stored first.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: PrincipalId,
}

/// A bearer token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Id.
    pub id: TokenId,
    /// The part of `art_<id>_<secret>` that may be shown.
    pub public_id: String,
    /// Whom it stands for.
    pub principal: PrincipalId,
    /// What it is for, in the words of who made it.
    pub label: Option<String>,
    /// The most that it gives of the principal's role.
    pub role: Role,
    /// What narrows it further.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: PrincipalId,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was presented last; up to a minute late.
    pub last_used_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<PrincipalId>,
}

/// An account of a chat platform that stands for a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Id.
    pub id: LinkId,
    /// The platform, such as `telegram`.
    pub platform: Platform,
    /// The account's id there.
    pub account: String,
    /// What the platform called its holder.
    pub display: Option<String>,
    /// Whom it stands for.
    pub principal: PrincipalId,
    /// The most that it gives of the principal's role.
    pub role: Role,
    /// When it was approved.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: PrincipalId,
    /// When something came from it last; up to a minute late.
    pub last_seen_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<PrincipalId>,
}

/// A request to link an account, without its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRecord {
    /// Id.
    pub id: PairingId,
    /// The platform.
    pub platform: Platform,
    /// The account's id there.
    pub account: String,
    /// What the platform calls its holder.
    pub display: Option<String>,
    /// What became of it.
    pub state: PairingState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its code ends.
    pub expires_at: Timestamp,
    /// When somebody decided.
    pub decided_at: Option<Timestamp>,
    /// Who.
    pub decided_by: Option<PrincipalId>,
    /// Why, where they said so.
    pub reason: Option<String>,
}

/// What became of a request to link an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    /// It waits for an administrator.
    Pending,
    /// The account is linked.
    Approved,
    /// An administrator said no.
    Denied,
    /// A newer request took its place.
    Voided,
    /// Nobody decided in time.
    Expired,
}

impl PairingState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Voided, Self::Expired];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for PairingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PairingState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or(UnknownName { what: "pairing state" })
    }
}

/// Name of a chat platform: 1 to 32 lower-case letters, digits, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Platform(String);

/// The text was no name of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a platform: use 1 to 32 lower-case letters, digits, `-` or `_`, such as telegram")]
pub struct PlatformError;

impl Platform {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let is_name = (1..=32).contains(&text.len()) && text.bytes().all(is_plain);
        if is_name { Ok(Self(text.to_owned())) } else { Err(PlatformError) }
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
