//! The time that the daemon lives by: the machine's wall clock, but it never runs backwards.
//!
//! What is kept with a moment (timers, expiries, the order of ids) must not come back to life or be
//! put off because somebody set the machine's clock. Forward the wall clock is followed at once, so
//! that what expires does. Where it was set back, time goes on, by the monotonic clock and slower by
//! a tenth, until the wall clock has caught up. A start takes up where the store's last moment is.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::time::{Clock, Timestamp};

/// How far ahead of the wall clock time may be after a start. Beyond that the wall clock was not
/// set back a little but was wrong, and years of waiting for it to catch up would help nobody.
pub const AHEAD_MAX: Duration = Duration::from_secs(26 * 3600);

/// See the module.
#[derive(Clone)]
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    /// Time since some fixed moment, by a clock that nobody can set.
    monotonic: Arc<dyn Fn() -> Duration + Send + Sync>,
    last: Arc<Mutex<Last>>,
}

#[derive(Clone, Copy)]
struct Last {
    at: Duration,
    told: Timestamp,
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock").finish_non_exhaustive()
    }
}

impl SteadyClock {
    /// A clock over these two.
    pub fn new(wall: Arc<dyn Clock>, monotonic: Arc<dyn Fn() -> Duration + Send + Sync>) -> Self {
        let last = Last { at: monotonic(), told: wall.now() };
        Self { wall, monotonic, last: Arc::new(Mutex::new(last)) }
    }

    /// Time has been here already: it goes on from there. Returns how far the wall clock is behind,
    /// where that is so far that it is believed all the same.
    pub fn begin_after(&self, moment: Timestamp) -> Option<Duration> {
        let behind = moment.since(self.wall.now());
        if behind > AHEAD_MAX {
            return Some(behind);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.told = last.told.max(moment);
        None
    }

    /// How far time is ahead of the wall clock.
    pub fn ahead(&self) -> Duration {
        self.now().since(self.wall.now())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: two readers must not overtake each other.
        let (at, wall) = ((self.monotonic)(), self.wall.now());
        let passed = at.saturating_sub(last.at);
        let slower = last.told.plus(passed.saturating_sub(passed / 10));
        *last = Last { at, told: wall.max(slower) };
        last.told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed))
        }
    }

    struct Room {
        wall: Arc<Wall>,
        secs: Arc<AtomicU64>,
        clock: SteadyClock,
    }

    const HOUR: i64 = 3_600;

    impl Room {
        fn at(secs: i64) -> Self {
            let wall = Arc::new(Wall(AtomicI64::new(secs * 1_000_000)));
            let passed = Arc::new(AtomicU64::new(0));
            let monotonic = Arc::clone(&passed);
            let clock = SteadyClock::new(
                Arc::clone(&wall) as Arc<dyn Clock>,
                Arc::new(move || Duration::from_secs(monotonic.load(Ordering::Relaxed))),
            );
            Self { wall, secs: passed, clock }
        }

        fn wait(&self, secs: i64) {
            self.set(secs);
            self.secs.fetch_add(secs.unsigned_abs(), Ordering::Relaxed);
        }

        fn set(&self, by: i64) {
            self.wall.0.fetch_add(by * 1_000_000, Ordering::Relaxed);
        }

        fn now(&self) -> i64 {
            self.clock.now().as_micros() / 1_000_000
        }
    }

    #[test]
    fn the_wall_clock_is_followed_forward_at_once() {
        let room = Room::at(10 * HOUR);
        room.wait(5);
        assert_eq!(room.now(), 10 * HOUR + 5);
        room.set(HOUR);
        assert_eq!(room.now(), 11 * HOUR + 5);
    }

    #[test]
    fn time_goes_on_where_the_wall_clock_was_set_back_until_that_has_caught_up() {
        let room = Room::at(10 * HOUR);
        assert_eq!(room.now(), 10 * HOUR);
        room.set(-HOUR);
        assert_eq!(room.now(), 10 * HOUR);
        // A timer of a minute is a few seconds late, not an hour.
        room.wait(100);
        assert_eq!(room.now(), 10 * HOUR + 90);
        let mut before = room.now();
        for _ in 0..12 {
            room.wait(HOUR);
            assert!(room.now() > before);
            before = room.now();
        }
        assert_eq!(room.clock.ahead(), Duration::ZERO);
        assert_eq!(room.now(), room.wall.now().as_micros() / 1_000_000);
    }

    #[test]
    fn a_start_goes_on_from_the_last_moment_unless_that_is_beyond_belief() {
        let room = Room::at(10 * HOUR);
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        assert_eq!(room.clock.begin_after(at(9 * HOUR)), None);
        assert_eq!(room.now(), 10 * HOUR);
        assert_eq!(room.clock.begin_after(at(11 * HOUR)), None);
        assert_eq!(room.now(), 11 * HOUR);
        let behind = room.clock.begin_after(at(1_000 * HOUR));
        assert_eq!(behind, Some(Duration::from_secs(990 * 3_600)));
        assert_eq!(room.now(), 11 * HOUR);
    }
}
