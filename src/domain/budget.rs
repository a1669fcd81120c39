//! What may be used in a day, by whom: money and tokens.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{money::Usd, time::Timestamp};

/// Whose use is counted together. A model call must fit all of them, widest first, and then the
/// limits of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// Everybody's; its subject is empty.
    Org,
    /// One agent's; the subject is its name.
    Agent,
    /// One identity's; the subject is the principal's id.
    Principal,
    /// One conversation's; the subject is its id.
    Conversation,
}

impl BudgetScope {
    /// Every scope, widest first.
    pub const ALL: [Self; 4] = [Self::Org, Self::Agent, Self::Principal, Self::Conversation];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Agent => "agent",
            Self::Principal => "principal",
            Self::Conversation => "conversation",
        }
    }
}

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text named no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope of budgets: use org, agent, principal or conversation")]
pub struct BudgetScopeError;

impl FromStr for BudgetScope {
    type Err = BudgetScopeError;

    fn from_str(text: &str) -> Result<Self, BudgetScopeError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(BudgetScopeError)
    }
}

/// Whose budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BudgetSubject {
    /// What kind of subject.
    pub scope: BudgetScope,
    /// Which one; empty for [`BudgetScope::Org`].
    pub subject: String,
}

impl BudgetSubject {
    /// Everybody's.
    pub const ORG: Self = Self { scope: BudgetScope::Org, subject: String::new() };

    /// One subject of a scope.
    pub fn of(scope: BudgetScope, subject: impl ToString) -> Self {
        Self { scope, subject: subject.to_string() }
    }
}

impl fmt::Display for BudgetSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() {
            return write!(f, "{}", self.scope);
        }
        write!(f, "{} {}", self.scope, self.subject)
    }
}

/// What may be used in a day; what is not named has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLimit {
    /// Money.
    pub usd_per_day: Option<Usd>,
    /// Tokens, read and written.
    pub tokens_per_day: Option<u64>,
}

impl BudgetLimit {
    /// No bound at all.
    pub const NONE: Self = Self { usd_per_day: None, tokens_per_day: None };

    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// A day in UTC, counted from 1970-01-01: the period of every budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// Microseconds of a day; UTC days have no leap seconds here.
const DAY_MICROS: i64 = 86_400_000_000;

impl Day {
    /// The day of a moment; the first one for moments before it.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_micros().div_euclid(DAY_MICROS)).unwrap_or(0))
    }

    /// From its number, as the store keeps it.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        Timestamp::from_micros(i64::from(self.0).saturating_mul(DAY_MICROS))
    }

    /// The day after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The day `days` before it; the first one where there is none.
    #[must_use]
    pub const fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

/// As `2026-01-02`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start().to_string();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

/// The text was no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a day such as 2026-01-02, nor an RFC 3339 time")]
pub struct DayError;

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let at = text.parse::<Timestamp>().or_else(|_| format!("{text}T00:00:00Z").parse());
        at.ok().filter(|at| at.as_micros() >= 0).map(Self::of).ok_or(DayError)
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc_and_survives_the_wire() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let day = Day::of(at("2026-01-02T23:59:59.999Z"));
        assert_eq!(day.to_string(), "2026-01-02");
        assert_eq!("2026-01-02".parse(), Ok(day));
        assert_eq!("2026-01-02T00:00:00Z".parse(), Ok(day));
        assert_eq!(day.next().start(), at("2026-01-03T00:00:00Z"));
        assert_eq!(Day::of(day.next().start()), day.next());
        for wrong in ["", "today", "2026-13-01", "1969-12-31"] {
            assert_eq!(wrong.parse::<Day>(), Err(DayError), "{wrong}");
        }
    }

    #[test]
    fn a_subject_is_written_as_people_say_it() {
        assert_eq!(BudgetSubject::ORG.to_string(), "org");
        assert_eq!(BudgetSubject::of(BudgetScope::Agent, "default").to_string(), "agent default");
    }
}
