//! One type per kind of id, so that a run id can never stand where a call id belongs.
//!
//! Ids are UUIDv7 (RFC 9562): sortable by the time of creation, to the microsecond. On the wire they carry a
//! prefix (`run_…`); parsing refuses any other prefix.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Builder, Uuid};

use super::time::{Clock, Timestamp};

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: expected `{prefix}` followed by a UUID")]
pub struct IdError {
    /// The prefix that was expected, such as `run_`.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The wire prefix of this kind of id.
            pub const PREFIX: &'static str = $prefix;

            /// Draws a new id from the one source of ids.
            pub fn new(source: &IdSource) -> Self {
                Self(source.uuid())
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.as_hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/// One execution of an agent.
    RunId, "run_");
id!(/// A thread of messages that runs belong to.
    ConversationId, "conv_");
id!(/// One tool call that a model asked for.
    ToolCallId, "call_");
id!(/// A question to a person that a run waits for.
    ApprovalId, "apr_");
id!(/// An immutable snapshot that a run can be continued or forked from.
    BundleId, "bdl_");
id!(/// A backup.
    BackupId, "bak_");
id!(/// A rule of the run-time list of hosts.
    EgressRuleId, "egr_");
id!(/// What an agent may do in one run or call.
    CapabilityId, "cap_");
id!(/// An account of a chat platform that stands for a principal.
    LinkId, "lnk_");
id!(/// A request to link an account.
    PairingId, "pair_");
id!(/// A bounded pattern of calls that a person approved.
    PatternId, "pat_");
id!(/// The erasure of a person's data.
    ErasureId, "era_");
id!(/// An audit row.
    EventId, "evt_");
id!(/// One message of a conversation.
    MessageId, "msg_");
id!(/// A person or program that may act.
    PrincipalId, "prn_");
id!(/// A message injected into a run in progress.
    SteerId, "str_");
id!(/// A bearer token.
    TokenId, "tok_");

impl ToolCallId {
    /// Comes before every id.
    pub const FIRST: Self = Self(Uuid::nil());

    /// Comes before every id that was drawn at this moment or later, and after every earlier one.
    pub fn first_at(at: Timestamp) -> Self {
        let micros = u64::try_from(at.as_micros()).unwrap_or(0);
        Self(Builder::from_unix_timestamp_millis(micros / 1_000, &[0; 10]).into_uuid())
    }
}

impl ConversationId {
    /// As [`ToolCallId::first_at`].
    pub fn first_at(at: Timestamp) -> Self {
        let micros = u64::try_from(at.as_micros()).unwrap_or(0);
        Self(Builder::from_unix_timestamp_millis(micros / 1_000, &[0; 10]).into_uuid())
    }
}

impl CapabilityId {
    /// As [`ToolCallId::first_at`].
    pub fn first_at(at: Timestamp) -> Self {
        let micros = u64::try_from(at.as_micros()).unwrap_or(0);
        Self(Builder::from_unix_timestamp_millis(micros / 1_000, &[0; 10]).into_uuid())
    }
}

/// The one source of ids: takes its clock and its randomness as parameters so that tests repeat.
#[derive(Clone)]
pub struct IdSource {
    clock: Arc<dyn Clock>,
    random: fn(&mut [u8; 10]),
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdSource").finish_non_exhaustive()
    }
}

impl IdSource {
    /// `random` must fill the whole buffer with unpredictable bytes (62 of the bits are used).
    pub fn new(clock: Arc<dyn Clock>, random: fn(&mut [u8; 10])) -> Self {
        Self { clock, random }
    }

    /// A uniformly distributed number, for waits that must differ. An id is none: it begins with
    /// the time.
    pub fn jitter(&self) -> u32 {
        let mut bytes = [0_u8; 10];
        (self.random)(&mut bytes);
        let [a, b, c, d, ..] = bytes;
        u32::from_be_bytes([a, b, c, d])
    }

    /// A fresh UUIDv7.
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0_u8; 10];
        (self.random)(&mut bytes);
        let micros = u64::try_from(self.clock.now().as_micros()).unwrap_or(0);
        let millis = micros / 1_000;
        // RFC 9562, 6.2, method 3: the time within the millisecond leads the random bits, because
        // two messages in one millisecond must not change places.
        let [.., high, low] = (micros % 1_000 * 4_096 / 1_000).to_be_bytes();
        let [first, second, ..] = &mut bytes;
        (*first, *second) = (high, low);
        Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::ManualClock;

    #[test]
    fn jitter_depends_on_randomness_alone() {
        let jitter =
            |secs, random| IdSource::new(Arc::new(ManualClock::at_secs(secs)), random).jitter();
        assert_eq!(jitter(1, |b| b.fill(0)), 0);
        assert_eq!(jitter(1_700_000_000, |b| b.fill(255)), u32::MAX);
    }

    #[test]
    fn ids_of_one_millisecond_sort_by_time() {
        // The worst case: randomness falls while time goes on.
        static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(255);
        let clock = Arc::new(ManualClock::at_secs(1_700_000_000));
        let source = IdSource::new(clock.clone(), |b| {
            b.fill(NEXT.fetch_sub(1, std::sync::atomic::Ordering::Relaxed));
        });
        let ids: Vec<String> = (0..200)
            .map(|_| {
                clock.advance(std::time::Duration::from_micros(1));
                SteerId::new(&source).to_string()
            })
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }

    #[test]
    fn the_first_id_of_a_moment_divides_those_before_it_from_the_rest() {
        let clock = Arc::new(ManualClock::at_secs(1_700_000_000));
        let source = IdSource::new(clock.clone(), |b| b.fill(255));
        let before = ToolCallId::new(&source).to_string();
        clock.advance(std::time::Duration::from_millis(1));
        let first = ToolCallId::first_at(clock.now()).to_string();
        let source = IdSource::new(clock, |b| b.fill(0));
        assert!(before < first);
        assert!(first <= ToolCallId::new(&source).to_string());
    }

    #[test]
    fn an_id_survives_the_wire_and_refuses_another_kind() {
        let source = IdSource::new(Arc::new(ManualClock::at_secs(1_700_000_000)), |b| b.fill(7));
        let id = RunId::new(&source);
        let text = id.to_string();
        assert!(text.starts_with("run_"));
        assert_eq!(text.parse::<RunId>(), Ok(id));
        assert_eq!(text.parse::<ToolCallId>(), Err(IdError { prefix: "call_" }));
        assert_eq!("run_../etc".parse::<RunId>(), Err(IdError { prefix: "run_" }));
    }
}
