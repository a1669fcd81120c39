//! How long things are kept, what must be kept, and whose data is erased.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ids::{ErasureId, PrincipalId},
    time::Timestamp,
};

/// What is kept equally long. docs/RETENTION.md says which table and which file belongs to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionClass {
    /// Ways in that are over: revoked and expired tokens, revoked links, decided pairings.
    Access,
    /// What the daemon needs for its work and not for long: the rest of deleted conversations,
    /// decisions of policy, use of budgets, lines of the log below `error`.
    App,
    /// Lines of the log that say `error`.
    Error,
    /// The audit trail, and the sums of use.
    Audit,
    /// Conversations that nobody has used for so long, with their runs: users' work. Kept for good
    /// unless the operator says otherwise.
    Conversations,
}

impl RetentionClass {
    /// Every class.
    pub const ALL: [Self; 5] =
        [Self::Access, Self::App, Self::Error, Self::Audit, Self::Conversations];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::App => "app",
            Self::Error => "error",
            Self::Audit => "audit",
            Self::Conversations => "conversations",
        }
    }
}

impl fmt::Display for RetentionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text named no class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a class of what is kept: use access, app, error, audit or conversations")]
pub struct RetentionClassError;

impl FromStr for RetentionClass {
    type Err = RetentionClassError;

    fn from_str(text: &str) -> Result<Self, RetentionClassError> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(RetentionClassError)
    }
}

/// Days that each class is kept; 0: for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// See [`RetentionClass::Access`].
    pub access: u32,
    /// See [`RetentionClass::App`].
    pub app: u32,
    /// See [`RetentionClass::Error`].
    pub error: u32,
    /// See [`RetentionClass::Audit`].
    pub audit: u32,
    /// See [`RetentionClass::Conversations`].
    pub conversations: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { access: 90, app: 30, error: 365, audit: 2_555, conversations: 0 }
    }
}

impl Retention {
    /// The days of a class.
    pub const fn days(&self, class: RetentionClass) -> u32 {
        match class {
            RetentionClass::Access => self.access,
            RetentionClass::App => self.app,
            RetentionClass::Error => self.error,
            RetentionClass::Audit => self.audit,
            RetentionClass::Conversations => self.conversations,
        }
    }

    /// Sets the days of a class.
    pub const fn set(&mut self, class: RetentionClass, days: u32) {
        match class {
            RetentionClass::Access => self.access = days,
            RetentionClass::App => self.app = days,
            RetentionClass::Error => self.error = days,
            RetentionClass::Audit => self.audit = days,
            RetentionClass::Conversations => self.conversations = days,
        }
    }

    /// The moment before which things of a class are old; none where they are kept for good.
    pub fn old_before(&self, class: RetentionClass, now: Timestamp) -> Option<Timestamp> {
        const DAY_MICROS: i64 = 86_400_000_000;
        let days = i64::from(self.days(class));
        (days > 0).then(|| {
            Timestamp::from_micros(now.as_micros().saturating_sub(days.saturating_mul(DAY_MICROS)))
        })
    }
}

/// What a legal hold is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Everything of a principal.
    Principal,
    /// One conversation.
    Conversation,
}

impl HoldKind {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Conversation => "conversation",
        }
    }
}

/// The text named nothing that can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hold is on a principal or a conversation")]
pub struct HoldKindError;

impl FromStr for HoldKind {
    type Err = HoldKindError;

    fn from_str(text: &str) -> Result<Self, HoldKindError> {
        [Self::Principal, Self::Conversation]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(HoldKindError)
    }
}

/// A legal hold: nothing of it is removed or erased until it is lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// On what kind of thing.
    pub kind: HoldKind,
    /// The id of the principal or of the conversation.
    pub subject: String,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// Who set it.
    pub done_by: PrincipalId,
}

/// The erasure of a person's data, as far as it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Erasure {
    /// Id.
    pub id: ErasureId,
    /// Who is erased; none once it is done.
    pub principal: Option<PrincipalId>,
    /// By which names, accounts and ids they are known; none once it is done.
    pub names: Vec<String>,
    /// What stands for them from now on: an id that nobody else has, made at random.
    pub pseudonym: PrincipalId,
    /// What is being done.
    pub step: String,
    /// How far that came.
    pub place: String,
    /// Rows and files, by what was done with them.
    pub counts: BTreeMap<String, u64>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// By whom.
    pub asked_by: PrincipalId,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
    /// What it came to.
    pub receipt: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_kept_for_good_unless_somebody_says_otherwise() {
        let now = Timestamp::from_micros(10_000 * 86_400_000_000);
        let mut kept = Retention::default();
        assert_eq!(kept.old_before(RetentionClass::Conversations, now), None);
        kept.set(RetentionClass::Conversations, 1);
        let day_before = Timestamp::from_micros(9_999 * 86_400_000_000);
        assert_eq!(kept.old_before(RetentionClass::Conversations, now), Some(day_before));
        let days = RetentionClass::ALL.map(|class| kept.days(class));
        assert_eq!(days, [90, 30, 365, 2_555, 1]);
    }

    #[test]
    fn every_name_is_read_back() {
        for class in RetentionClass::ALL {
            assert_eq!(class.as_str().parse(), Ok(class));
        }
        assert!("everything".parse::<RetentionClass>().is_err());
        for kind in [HoldKind::Principal, HoldKind::Conversation] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
