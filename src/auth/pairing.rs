//! One-time codes that link an account of a chat platform, and what becomes of wrong ones.
//!
//! Invariants: a code carries 80 random bits and is kept as a hash alone; five wrong ones within its
//! life lock who tried them, twenty lock everybody, so that a guess never comes near.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    domain::{PrincipalId, Secret, Timestamp, limits},
    runtime::tasks::lock,
};

/// Random bytes of a code (SECURITY.md: 80 bits).
const CODE_BYTES: usize = 10;
/// Characters of one group as it is shown.
const GROUP: usize = 4;
/// Wrong codes of one approver within [`limits::PAIRING_TTL`] before they are locked.
const FAILURES_MAX: usize = 5;
/// Wrong codes of everybody before everybody is.
const FAILURES_MAX_ALL: usize = 20;

/// The system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness, so no code can be made")]
pub struct CodeError {
    source: getrandom::Error,
}

/// A pairing code, as its owner reads it to an administrator.
#[derive(Clone, Debug)]
pub struct Code(Secret<String>);

impl Code {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, CodeError> {
        let mut bytes = [0_u8; CODE_BYTES];
        getrandom::fill(&mut bytes).map_err(|source| CodeError { source })?;
        Ok(Self::written(&bytes))
    }

    fn written(bytes: &[u8; CODE_BYTES]) -> Self {
        Self(Secret::new(data_encoding::BASE32_NOPAD.encode(bytes)))
    }

    /// What somebody typed: case, spaces and hyphens do not matter. None when it is no code.
    pub fn read(typed: &str) -> Option<Self> {
        if typed.len() > 64 {
            return None;
        }
        let plain: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let plain = plain.to_ascii_uppercase();
        let bytes = data_encoding::BASE32_NOPAD.decode(plain.as_bytes()).ok()?;
        (bytes.len() == CODE_BYTES).then(|| Self(Secret::new(plain)))
    }

    /// In groups, for people.
    pub fn shown(&self) -> String {
        let mut shown = String::new();
        for (n, c) in self.0.expose().chars().enumerate() {
            if n > 0 && n % GROUP == 0 {
                shown.push('-');
            }
            shown.push(c);
        }
        shown
    }

    /// What is kept of it: SHA-256 in hex. It has enough random bits that a fast hash is right.
    pub fn hash(&self) -> String {
        let digest = Sha256::new()
            .chain_update(b"agent-runtime pairing\0")
            .chain_update(self.0.expose().as_bytes())
            .finalize();
        data_encoding::HEXLOWER.encode(&digest)
    }
}

/// Wrong codes, by who tried them. In memory: a restart forgets them, and codes are 80 bits.
#[derive(Debug, Default)]
pub struct Guesses {
    wrong: Mutex<Wrong>,
}

#[derive(Debug, Default)]
struct Wrong {
    all: VecDeque<Timestamp>,
    /// Bounded by the number of administrators.
    by: HashMap<PrincipalId, VecDeque<Timestamp>>,
}

impl Guesses {
    /// How long this approver has to wait before the next try; none when they may try now.
    pub fn locked(&self, approver: PrincipalId, now: Timestamp) -> Option<Duration> {
        let wrong = lock(&self.wrong);
        let own = wrong.by.get(&approver).and_then(|list| wait(list, FAILURES_MAX, now));
        let all = wait(&wrong.all, FAILURES_MAX_ALL, now);
        own.max(all)
    }

    /// Counts a wrong code.
    pub fn failed(&self, approver: PrincipalId, now: Timestamp) {
        let mut wrong = lock(&self.wrong);
        note(&mut wrong.all, FAILURES_MAX_ALL, now);
        note(wrong.by.entry(approver).or_default(), FAILURES_MAX, now);
    }
}

fn note(list: &mut VecDeque<Timestamp>, max: usize, now: Timestamp) {
    list.push_back(now);
    while list.len() > max {
        list.pop_front();
    }
}

/// Until the oldest of the last `max` failures is [`limits::PAIRING_TTL`] old.
fn wait(list: &VecDeque<Timestamp>, max: usize, now: Timestamp) -> Option<Duration> {
    let oldest = list.front().filter(|_| list.len() >= max)?;
    let left = limits::PAIRING_TTL.saturating_sub(now.since(*oldest));
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authn::principal_id_of;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_code_is_sixteen_characters_of_eighty_bits_and_survives_being_typed() {
        let (one, two) = (Code::new().unwrap(), Code::new().unwrap());
        assert_ne!(one.hash(), two.hash());
        let code = Code::written(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 255]);
        assert_eq!(code.shown(), "AAAQ-EAYE-AUDA-OCH7");
        for typed in ["AAAQ-EAYE-AUDA-OCH7", "aaaqeayeaudaoch7", " aaaq eaye auda och7 "] {
            assert_eq!(Code::read(typed).unwrap().hash(), code.hash(), "{typed}");
        }
        for wrong in ["", "AAAQ-EAYE-AUDA-OCH", "AAAQ-EAYE-AUDA-OCH1", &"A".repeat(1_000)] {
            assert!(Code::read(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{code:?}").contains("AAAQ"), "no log shows it");
    }

    #[test]
    fn five_wrong_codes_lock_an_approver_and_twenty_everybody() {
        let guesses = Guesses::default();
        let (ann, bob) = (principal_id_of("ann"), principal_id_of("bob"));
        for n in 0..4 {
            guesses.failed(ann, at(n));
        }
        assert_eq!(guesses.locked(ann, at(4)), None);
        guesses.failed(ann, at(4));
        assert_eq!(guesses.locked(ann, at(4)), Some(Duration::from_secs(596)));
        assert_eq!(guesses.locked(bob, at(4)), None);
        assert_eq!(guesses.locked(ann, at(600)), None, "until the first of them is old");
        for n in 0..15 {
            guesses.failed(principal_id_of(&n.to_string()), at(5));
        }
        assert!(guesses.locked(bob, at(6)).is_some(), "twenty in all");
    }
}
