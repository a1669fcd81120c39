//! The bounds of one run's traffic, counted over all its calls and doors.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{Duration, Instant};

use super::reason::Quota;
use crate::{
    domain::{EgressLimits, HostName},
    runtime::tasks::lock,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What a run has used.
#[derive(Debug)]
pub(super) struct Quotas {
    limits: EgressLimits,
    connections: AtomicU64,
    requests: AtomicU64,
    open: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    names: Mutex<Names>,
}

/// The names of the minute under way.
#[derive(Debug)]
struct Names {
    since: Instant,
    count: u64,
    /// Those among them that may be looked up: never more than were counted within the bound.
    known: BTreeSet<HostName>,
}

impl Names {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0, known: BTreeSet::new() }
    }
}

/// A place among the connections that are open at once; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    quotas: Arc<Quotas>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.quotas.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Quotas {
    pub(super) fn new(limits: EgressLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            open: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            names: Mutex::new(Names::new()),
        })
    }

    /// Counts one connection and takes its place.
    pub(super) fn connection(self: &Arc<Self>) -> Result<Place, Quota> {
        if !take(&self.open, 1, self.limits.tunnels) {
            return Err(Quota::Tunnels);
        }
        let place = Place { quotas: Arc::clone(self) };
        if take(&self.connections, 1, self.limits.connections) {
            Ok(place)
        } else {
            Err(Quota::Connections)
        }
    }

    /// Counts one HTTP request.
    pub(super) fn request(&self) -> Result<(), Quota> {
        take(&self.requests, 1, self.limits.requests).then_some(()).ok_or(Quota::Requests)
    }

    /// Counts one question of a tool, whatever it asks for, within a minute that begins with the
    /// first one. Says in the error whether it is the first one too many in this minute: the others
    /// are not worth a record each.
    pub(super) fn question(&self, host: Option<&HostName>) -> Result<(), FirstTooMany> {
        self.count(&mut lock(&self.names), host)
    }

    /// Counts a name that is about to be looked up for a connection, once in a minute, and not at
    /// all if the tool has asked for it in that minute.
    pub(super) fn name(&self, host: &HostName) -> Result<(), Quota> {
        let mut names = lock(&self.names);
        if names.since.elapsed() < MINUTE && names.known.contains(host) {
            return Ok(());
        }
        self.count(&mut names, Some(host)).map_err(|_too_many| Quota::Names)
    }

    fn count(&self, names: &mut Names, host: Option<&HostName>) -> Result<(), FirstTooMany> {
        if names.since.elapsed() >= MINUTE {
            *names = Names::new();
        }
        names.count = names.count.saturating_add(1);
        if names.count <= self.limits.names_per_minute {
            names.known.extend(host.cloned());
            Ok(())
        } else {
            Err(FirstTooMany(names.count == self.limits.names_per_minute.saturating_add(1)))
        }
    }

    /// How many of `wanted` bytes may still be sent; they count as sent.
    pub(super) fn take_up(&self, wanted: u64) -> u64 {
        let max = self.limits.bytes_up;
        let update = |used: u64| Some(used.saturating_add(wanted).min(max.max(used)));
        let used = self.up.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        let used = used.unwrap_or_else(|used| used);
        wanted.min(max.saturating_sub(used))
    }

    /// Gives back what [`Quotas::take_up`] granted and was not sent.
    pub(super) fn give_back_up(&self, bytes: u64) {
        self.up.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Counts bytes that were received; `false` when they go beyond the bound.
    pub(super) fn down(&self, bytes: u64) -> bool {
        let before = self.down.fetch_add(bytes, Ordering::AcqRel);
        before.saturating_add(bytes) <= self.limits.bytes_down
    }
}

/// Whether this was the first name too many of its minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstTooMany(pub(super) bool);

/// Adds `n` unless that goes beyond `max`.
fn take(used: &AtomicU64, n: u64, max: u64) -> bool {
    let update = |used: u64| used.checked_add(n).filter(|sum| *sum <= max);
    used.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Arc<Quotas> {
        Quotas::new(EgressLimits {
            connections: 3,
            requests: 2,
            bytes_up: 100,
            bytes_down: 100,
            tunnels: 2,
            names_per_minute: 2,
        })
    }

    #[tokio::test]
    async fn places_come_back_and_connections_do_not() {
        let quotas = small();
        let first = quotas.connection().unwrap();
        let second = quotas.connection().unwrap();
        assert_eq!(quotas.connection().unwrap_err(), Quota::Tunnels);
        drop(first);
        let third = quotas.connection().unwrap();
        drop((second, third));
        assert_eq!(quotas.connection().unwrap_err(), Quota::Connections);
        assert_eq!(quotas.connection().unwrap_err(), Quota::Connections, "no place was lost");
    }

    #[tokio::test]
    async fn requests_are_counted() {
        let quotas = small();
        assert!(quotas.request().is_ok() && quotas.request().is_ok());
        assert_eq!(quotas.request(), Err(Quota::Requests));
    }

    #[tokio::test]
    async fn bytes_are_granted_to_the_last_one() {
        let quotas = small();
        assert_eq!(quotas.take_up(60), 60);
        assert_eq!(quotas.take_up(60), 40);
        assert_eq!(quotas.take_up(1), 0);
        quotas.give_back_up(10);
        assert_eq!(quotas.take_up(60), 10);
        assert!(quotas.down(100));
        assert!(!quotas.down(1));
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_counted_per_minute() {
        let quotas = small();
        assert!(quotas.question(None).is_ok() && quotas.question(None).is_ok());
        assert_eq!(quotas.question(None), Err(FirstTooMany(true)));
        assert_eq!(quotas.question(None), Err(FirstTooMany(false)));
        tokio::time::advance(MINUTE).await;
        assert!(quotas.question(None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_counts_once_in_a_minute_whatever_door_it_came_through() {
        let quotas = small();
        let host = |name: &str| HostName::parse(name).unwrap();
        assert!(quotas.question(Some(&host("a.test"))).is_ok());
        for _ in 0..5 {
            assert!(quotas.name(&host("a.test")).is_ok() && quotas.name(&host("b.test")).is_ok());
        }
        assert_eq!(quotas.name(&host("c.test")), Err(Quota::Names));
        assert_eq!(quotas.name(&host("c.test")), Err(Quota::Names), "it was not let in");
        assert!(quotas.name(&host("a.test")).is_ok());
        tokio::time::advance(MINUTE).await;
        assert!(quotas.name(&host("c.test")).is_ok() && quotas.name(&host("a.test")).is_ok());
        assert_eq!(quotas.name(&host("b.test")), Err(Quota::Names), "the minute is over for all");
    }
}
