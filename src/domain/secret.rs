//! A value that must never be shown, stored or sent by accident.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroize;

use super::time::Timestamp;

/// Holds a secret: no `Display`, no `Serialize`, a `Debug` that says nothing, wiped on drop.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes custody of the value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The name makes every use easy to find in a review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de> Deserialize<'de> for Secret<String> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self)
    }
}

/// What people call a stored secret; a placeholder `{{secret:NAME}}` may name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretName(String);

/// The text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret's name has 1 to 64 letters, digits, `-` or `_`")]
pub struct SecretNameError;

impl SecretName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let is_name = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if is_name { Ok(Self(text.to_owned())) } else { Err(SecretNameError) }
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a secret's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// It stands in the configuration file.
    Config,
    /// A variable of the environment or of `.env`.
    Environment,
    /// A file that the configuration names.
    File,
    /// The daemon keeps it, sealed.
    Store,
}

impl SecretSource {
    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Store => "store",
        }
    }
}

impl FromStr for SecretSource {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        [Self::Config, Self::Environment, Self::File, Self::Store]
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or(SecretNameError)
    }
}

/// A stored secret, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// Its name.
    pub name: SecretName,
    /// Nonce and ciphertext, base64.
    pub sealed: String,
    /// Which key opens it.
    pub key_id: String,
    /// When there was first one of this name.
    pub created_at: Timestamp,
    /// When this value came.
    pub changed_at: Timestamp,
    /// Who brought it.
    pub changed_by: String,
}

/// What is known about a secret, whatever holds it; never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretAge {
    /// Its setting, or the name of a stored one.
    pub name: String,
    /// Where the value comes from.
    pub source: SecretSource,
    /// MAC of the value: tells whether it changed, and nothing else.
    pub fingerprint: String,
    /// Since when it has this value, as far as this daemon knows.
    pub since: Timestamp,
    /// When it was last put into a request; none: never, or nobody counts.
    pub last_used_at: Option<Timestamp>,
}

/// Days after which a secret should have been replaced.
pub const SECRET_DAYS_MAX: u64 = 90;
/// The same for tokens of chat platforms, which more people come to see.
pub const CONNECTOR_DAYS_MAX: u64 = 30;

impl SecretAge {
    /// Days since it has this value.
    pub fn days(&self, now: Timestamp) -> u64 {
        now.since(self.since).as_secs() / 86_400
    }

    /// Days that a value of this kind should live.
    pub fn days_max(&self) -> u64 {
        let is_connector = ["connectors.", "channels."].iter().any(|c| self.name.starts_with(c));
        if is_connector { CONNECTOR_DAYS_MAX } else { SECRET_DAYS_MAX }
    }

    /// Whether it should have been replaced.
    pub fn is_old(&self, now: Timestamp) -> bool {
        self.days(now) >= self.days_max()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_secret_is_old_after_90_days_and_a_connectors_after_30() {
        let age = |name: &str, days: u64| {
            let since = Timestamp::from_micros(1_000);
            let age = SecretAge {
                name: name.to_owned(),
                source: SecretSource::File,
                fingerprint: String::new(),
                since,
                last_used_at: None,
            };
            age.is_old(since.plus(Duration::from_secs(days * 86_400)))
        };
        assert_eq!((age("llm.api_key", 89), age("llm.api_key", 90)), (false, true));
        assert_eq!((age("channels.a.token", 29), age("channels.a.token", 30)), (false, true));
    }

    #[test]
    fn a_name_is_one_that_a_placeholder_can_hold() {
        assert!("API_KEY-1".parse::<SecretName>().is_ok());
        for wrong in ["", "a b", "a.b", "a/b", &"x".repeat(65)] {
            assert!(wrong.parse::<SecretName>().is_err(), "{wrong}");
        }
    }
}
