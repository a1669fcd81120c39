//! How often somebody may do something: one bucket per subject, in bounded memory.
//!
//! A bucket is one moment (the generic cell rate algorithm): when it would be empty of everything
//! that was taken. A bucket that is empty is the same as none, so that forgetting it costs nothing.
//! Invariant: memory is bounded; subjects beyond the bound share one bucket, so that a flood of
//! subjects makes itself wait and never grows the table or sets anybody free.

use std::{collections::HashMap, hash::Hash, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::tasks::lock;

/// Silence after which a further refusal is a new burst.
const BURST_GAP: Duration = Duration::from_secs(60);
/// Between two searches of a full table for empty buckets: each looks at all of them.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// The window that rates are written for.
const WINDOW: Duration = Duration::from_secs(60);

/// Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// When as much can be taken as was asked for.
    pub retry_after: Duration,
    /// The first refusal of a burst: what is said once is said now.
    pub is_news: bool,
}

/// A bucket for each subject, filled once at the start and again at an even rate.
#[derive(Debug)]
pub struct Rates<K> {
    /// Time that one unit costs; none when there is no limit.
    unit: Option<Duration>,
    subjects_max: usize,
    origin: Instant,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    buckets: HashMap<K, Bucket>,
    /// Of all who do not fit.
    shared: Bucket,
    purged: Duration,
}

/// Moments since the origin.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When all that was taken is filled again.
    full_at: Duration,
    refused_at: Option<Duration>,
}

impl<K: Eq + Hash> Rates<K> {
    /// `per_minute` units for each subject, all of them at once if they like; 0: no limit.
    pub fn per_minute(per_minute: u64, subjects_max: usize) -> Self {
        let nanos = WINDOW.as_nanos().checked_div(u128::from(per_minute));
        let unit = nanos.map(|n| Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX).max(1)));
        let table =
            Table { buckets: HashMap::new(), shared: Bucket::default(), purged: Duration::ZERO };
        Self { unit, subjects_max, origin: Instant::now(), table: Mutex::new(table) }
    }

    /// Takes `units` of the subject's bucket, or nothing. More than a whole bucket is taken when
    /// the bucket is full.
    ///
    /// # Errors
    /// When they are not there.
    pub fn take(&self, subject: K, units: u64, now: Instant) -> Result<(), TooOften> {
        let Some(unit) = self.unit else { return Ok(()) };
        let now = now.saturating_duration_since(self.origin);
        let mut table = lock(&self.table);
        let is_room =
            table.buckets.contains_key(&subject) || table.has_room(self.subjects_max, now);
        let bucket =
            if is_room { table.buckets.entry(subject).or_default() } else { &mut table.shared };
        bucket.take(times(unit, units), now)
    }

    /// Puts units back that were taken and not used.
    pub fn give_back(&self, subject: &K, units: u64) {
        let Some(unit) = self.unit else { return };
        if let Some(bucket) = lock(&self.table).buckets.get_mut(subject) {
            bucket.full_at = bucket.full_at.saturating_sub(times(unit, units));
        }
    }
}

fn times(unit: Duration, units: u64) -> Duration {
    let nanos = unit.as_nanos().saturating_mul(u128::from(units));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl<K: Eq + Hash> Table<K> {
    fn has_room(&mut self, subjects_max: usize, now: Duration) -> bool {
        if self.buckets.len() < subjects_max {
            return true;
        }
        if now.saturating_sub(self.purged) >= PURGE_EVERY {
            self.purged = now;
            self.buckets.retain(|_, bucket| !bucket.is_idle(now));
        }
        self.buckets.len() < subjects_max
    }
}

impl Bucket {
    fn take(&mut self, span: Duration, now: Duration) -> Result<(), TooOften> {
        let from = self.full_at.max(now);
        // What costs more than a bucket holds waits for a full one.
        let most = WINDOW.max(span);
        let full_at = from.saturating_add(span);
        let over = full_at.saturating_sub(now).saturating_sub(most);
        if over.is_zero() {
            self.full_at = full_at;
            return Ok(());
        }
        let is_news = self.refused_at.is_none_or(|at| now.saturating_sub(at) >= BURST_GAP);
        self.refused_at = Some(now);
        Err(TooOften { retry_after: over, is_news })
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.full_at <= now && self.refused_at.is_none_or(|at| now.saturating_sub(at) >= BURST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_a_minutes_worth_and_fills_evenly() {
        let rates = Rates::per_minute(60, 8);
        let now = Instant::now();
        for _ in 0..60 {
            rates.take("a", 1, now).unwrap();
        }
        let refused = rates.take("a", 1, now).unwrap_err();
        assert_eq!(refused, TooOften { retry_after: SECOND, is_news: true });
        assert!(rates.take("b", 1, now).is_ok(), "each subject has its own");
        assert!(rates.take("a", 1, now + SECOND).is_ok());
        assert!(rates.take("a", 1, now + SECOND).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_news_once() {
        let rates = Rates::per_minute(1, 8);
        let now = Instant::now();
        rates.take("a", 1, now).unwrap();
        let news = |after: u64| {
            rates.take("a", 1, now + Duration::from_secs(after)).map_err(|refused| refused.is_news)
        };
        assert_eq!([news(1), news(2), news(50)], [Err(true), Err(false), Err(false)]);
        assert_eq!(news(60), Ok(()));
        assert_eq!([news(61), news(119)], [Err(false), Err(false)], "the burst goes on");
        assert_eq!(news(179), Ok(()));
        assert_eq!(news(180), Err(true));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_bucket_waits_for_a_full_one_and_what_is_not_used_comes_back() {
        let rates = Rates::per_minute(60, 8);
        let now = Instant::now();
        rates.take("a", 1, now).unwrap();
        assert_eq!(rates.take("a", 500, now).unwrap_err().retry_after, SECOND);
        rates.take("a", 500, now + SECOND).unwrap();
        assert!(rates.take("a", 1, now + 30 * SECOND).is_err());
        rates.give_back(&"a", 470);
        assert!(rates.take("a", 1, now + 30 * SECOND).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_who_does_not_fit_shares_one_bucket() {
        let rates = Rates::per_minute(2, 3);
        let now = Instant::now();
        for subject in 0..3 {
            rates.take(subject, 1, now).unwrap();
        }
        assert!(rates.take(3, 1, now).is_ok() && rates.take(4, 1, now).is_ok());
        assert!(rates.take(5, 1, now).is_err(), "the strangers have used their bucket");
        assert!(rates.take(0, 1, now).is_ok(), "those who were known have theirs");
        assert_eq!(lock(&rates.table).buckets.len(), 3);
        let later = now + 2 * WINDOW;
        assert!(rates.take(6, 2, later).is_ok(), "empty buckets made room");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_refuses_nothing_and_remembers_nothing() {
        let rates = Rates::per_minute(0, 8);
        for _ in 0..1_000 {
            rates.take("a", 1_000, Instant::now()).unwrap();
        }
        assert!(lock(&rates.table).buckets.is_empty());
    }

    proptest! {
        /// However they are asked for, at most a bucket and what flowed in meanwhile is given.
        #[test]
        fn never_more_is_given_than_the_bucket_and_the_rate_allow(
            per_minute in 1_u64..200,
            asked in proptest::collection::vec((0_u64..5_000, 1_u64..4), 1..200),
        ) {
            let rates = Rates::per_minute(per_minute, 4);
            let (mut millis, mut given) = (0, 0);
            for (gap, units) in asked {
                millis += gap;
                let now = rates.origin + Duration::from_millis(millis);
                if rates.take("a", units.min(per_minute), now).is_ok() {
                    given += units.min(per_minute);
                }
            }
            let flowed = per_minute * millis / 60_000 + 1;
            prop_assert!(given <= per_minute + flowed, "{given} of {}", per_minute + flowed);
        }
    }
}
