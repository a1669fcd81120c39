//! A capability as it is kept: the signed text, and what became of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    ids::{CapabilityId, RunId, ToolCallId},
    run::UnknownName,
    time::Timestamp,
};

/// What a capability was taken away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedFor {
    /// An administrator wanted it: the run fails.
    Person,
    /// The daemon was locked down: the run waits, and gets a new one when it goes on.
    Lockdown,
}

impl RevokedFor {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Person, Self::Lockdown];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Lockdown => "lockdown",
        }
    }
}

impl FromStr for RevokedFor {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|cause| cause.as_str() == text);
        found.ok_or(UnknownName { what: "cause of a revocation" })
    }
}

/// That a capability was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Who: a principal's id.
    pub by: String,
    /// What for.
    pub cause: RevokedFor,
    /// In their words.
    pub reason: Option<String>,
}

/// Where a capability stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityState {
    /// It can be used.
    Live,
    /// Its run or call is over.
    Ended,
    /// Its time is over, or the run was given another one.
    Expired,
    /// It was taken away.
    Revoked,
}

/// A capability as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct CapabilityRecord {
    /// Id.
    pub id: CapabilityId,
    /// The one that it was made out of.
    pub parent: Option<CapabilityId>,
    /// The run that it is for.
    pub run: RunId,
    /// The one call that it is for.
    pub call: Option<ToolCallId>,
    /// Name of the run's agent.
    pub agent: String,
    /// The signed text. Of no use outside of this daemon, and shown to nobody.
    pub token: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// Until when it holds; earlier than the signed time where the run was given another one.
    pub expires_at: Timestamp,
    /// That it was taken away.
    pub revoked: Option<Revocation>,
    /// Whether its run or call is over. Follows from those; not stored.
    pub is_over: bool,
}

impl CapabilityRecord {
    /// Where it stands at this time.
    pub fn state(&self, now: Timestamp) -> CapabilityState {
        if self.revoked.is_some() {
            CapabilityState::Revoked
        } else if self.is_over {
            CapabilityState::Ended
        } else if now >= self.expires_at {
            CapabilityState::Expired
        } else {
            CapabilityState::Live
        }
    }
}

impl fmt::Debug for CapabilityRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapabilityRecord")
            .field("id", &self.id)
            .field("run", &self.run)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// That the daemon is locked down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockdownRecord {
    /// Since when.
    pub since: Timestamp,
    /// Who wanted it: a principal's id.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
}
