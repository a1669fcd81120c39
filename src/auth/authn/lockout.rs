//! Counts failures per address and per token id, and locks whoever fails too often.
//!
//! Pure over the time it is given. The table is bounded: when it is full the oldest entry goes.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use crate::{
    domain::{Timestamp, limits},
    runtime::tasks::lock,
};

/// Addresses and token ids that are remembered at once; about 10 MB when full.
const SUBJECTS_MAX: usize = 65_536;
/// Bytes of a token id that are remembered.
const TOKEN_ID_BYTES_MAX: usize = 64;

/// Who failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An address; of IPv6 the /64, since one host owns all of it.
    Address(IpAddr),
    /// The id part of a token.
    Token(String),
    /// A user of this machine.
    User(u32),
}

impl Subject {
    /// The subject of an address.
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::Address(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let net = u128::from(v6) & !u128::from(u64::MAX);
                Self::Address(IpAddr::V6(Ipv6Addr::from(net)))
            }
        }
    }

    /// The subject of a token id.
    pub fn token(id: &str) -> Self {
        Self::Token(id.chars().take(TOKEN_ID_BYTES_MAX).collect())
    }
}

/// The table of failures.
#[derive(Debug)]
pub struct Lockout {
    table: Mutex<Table>,
    subjects_max: usize,
}

#[derive(Debug, Default)]
struct Table {
    failures: HashMap<Subject, Failures>,
    /// Subjects by age, so that dropping the oldest costs the same however full the table is.
    order: VecDeque<Subject>,
}

#[derive(Debug, Default)]
struct Failures {
    recent: VecDeque<Timestamp>,
    locked_until: Option<Timestamp>,
}

impl Default for Lockout {
    fn default() -> Self {
        Self::with_capacity(SUBJECTS_MAX)
    }
}

impl Lockout {
    fn with_capacity(subjects_max: usize) -> Self {
        Self { table: Mutex::default(), subjects_max }
    }

    /// How long the longest lock among the subjects still lasts.
    pub fn locked(&self, subjects: &[Subject], now: Timestamp) -> Option<Duration> {
        let table = lock(&self.table);
        subjects
            .iter()
            .filter_map(|s| table.failures.get(s)?.locked_until)
            .map(|until| until.since(now))
            .filter(|left| !left.is_zero())
            .max()
            .map(|left| left.max(Duration::from_secs(1)))
    }

    /// Counts one failure for each subject. False when every one of them is locked already: then
    /// there is nothing new to report.
    pub fn fail(&self, subjects: &[Subject], now: Timestamp) -> bool {
        let mut table = lock(&self.table);
        let mut is_news = false;
        for subject in subjects {
            is_news |= table.fail(subject, now, self.subjects_max);
        }
        is_news
    }
}

impl Table {
    fn fail(&mut self, subject: &Subject, now: Timestamp, subjects_max: usize) -> bool {
        if !self.failures.contains_key(subject) {
            while self.failures.len() >= subjects_max {
                let Some(oldest) = self.order.pop_front() else { break };
                self.failures.remove(&oldest);
            }
            self.order.push_back(subject.clone());
        }
        let entry = self.failures.entry(subject.clone()).or_default();
        if entry.locked_until.is_some_and(|until| until > now) {
            return false;
        }
        entry.locked_until = None;
        entry.recent.retain(|at| now.since(*at) < limits::AUTH_FAILURE_WINDOW);
        entry.recent.push_back(now);
        if entry.recent.len() >= limits::AUTH_FAILURES_MAX as usize {
            entry.recent.clear();
            entry.locked_until = Some(now.plus(limits::AUTH_FAILURE_WINDOW));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    fn address(text: &str) -> Subject {
        Subject::address(text.parse().unwrap())
    }

    #[test]
    fn the_fifth_failure_within_a_minute_locks_for_a_minute() {
        let table = Lockout::default();
        let me = [address("192.0.2.1")];
        for second in 0..4 {
            assert!(table.fail(&me, at(second)));
            assert_eq!(table.locked(&me, at(second)), None);
        }
        assert!(table.fail(&me, at(4)));
        assert_eq!(table.locked(&me, at(4)), Some(Duration::from_secs(60)));
        assert_eq!(table.locked(&me, at(63)), Some(Duration::from_secs(1)));
        assert_eq!(table.locked(&me, at(64)), None);
        assert!(table.fail(&me, at(65)), "a lock that is over starts from nothing");
        assert_eq!(table.locked(&me, at(65)), None);
    }

    #[test]
    fn slow_failures_and_other_addresses_are_not_locked() {
        let table = Lockout::default();
        let me = [address("192.0.2.1")];
        for turn in 0..20 {
            table.fail(&me, at(turn * 15));
            assert_eq!(table.locked(&me, at(turn * 15)), None, "turn {turn}");
        }
        for _ in 0..5 {
            table.fail(&me, at(1_000));
        }
        assert!(table.locked(&me, at(1_000)).is_some());
        assert_eq!(table.locked(&[address("192.0.2.2")], at(1_000)), None);
    }

    #[test]
    fn a_token_id_is_locked_whatever_the_address() {
        let table = Lockout::default();
        for n in 1..=5 {
            table.fail(&[address(&format!("192.0.2.{n}")), Subject::token("abc")], at(0));
        }
        assert!(table.locked(&[address("198.51.100.1"), Subject::token("abc")], at(1)).is_some());
        assert_eq!(table.locked(&[Subject::token("abd")], at(1)), None);
    }

    #[test]
    fn failures_while_locked_are_no_news_and_do_not_extend_the_lock() {
        let table = Lockout::default();
        let me = [address("192.0.2.1")];
        for _ in 0..5 {
            assert!(table.fail(&me, at(0)));
        }
        assert!(!table.fail(&me, at(30)));
        assert_eq!(table.locked(&me, at(60)), None);
    }

    #[test]
    fn one_ipv6_network_is_one_subject_and_mapped_addresses_are_ipv4() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn the_table_never_grows_past_its_bound() {
        let table = Lockout::with_capacity(3);
        for n in 0..100 {
            table.fail(&[Subject::token(&n.to_string())], at(0));
        }
        let inner = lock(&table.table);
        assert_eq!((inner.failures.len(), inner.order.len()), (3, 3));
    }
}
