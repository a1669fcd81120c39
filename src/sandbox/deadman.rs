//! Ends every tool when the daemon stands still, without the daemon's help.
//!
//! Invariants: a timer of the kernel's, shared with the helper. The daemon sets it further ahead
//! each time that it knows to be alone with its runs; the helper ends, and its sandboxes with it,
//! when it fires. A timer that fired stays so until it is set again: a helper that is started
//! meanwhile ends at once. One that was never set never fires.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::wire::{AtStep, Failure};

/// The timer.
#[derive(Debug)]
pub(super) struct DeadMan {
    timer: OwnedFd,
}

impl DeadMan {
    /// One that is not set.
    pub(super) fn new() -> Result<Self, Failure> {
        // The clock that also counts while the machine sleeps.
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags).at("make a timer")?;
        Ok(Self { timer })
    }

    /// Tools die when so much time has passed; at once when none is left.
    pub(super) fn set(&self, span: Duration) -> Result<(), Failure> {
        // Zero would turn it off.
        let span = span.max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        };
        let setting = Itimerspec { it_interval: never, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .map(drop)
            .at("set a timer")
    }

    /// For the helper.
    pub(super) const fn timer(&self) -> &OwnedFd {
        &self.timer
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn has_fired(man: &DeadMan, wait_ms: i64) -> bool {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 };
        poll(&mut [PollFd::new(man.timer(), PollFlags::IN)], Some(&wait)).unwrap() == 1
    }

    #[test]
    fn it_fires_when_it_was_not_set_again_in_time_and_stays_so_until_it_is() {
        let man = DeadMan::new().unwrap();
        assert!(!has_fired(&man, 5), "it was never set");
        man.set(Duration::from_millis(200)).unwrap();
        assert!(!has_fired(&man, 5));
        man.set(Duration::from_millis(20)).unwrap();
        assert!(has_fired(&man, 900));
        assert!(has_fired(&man, 0), "whoever looks later finds it so");
        man.set(Duration::from_secs(60)).unwrap();
        assert!(!has_fired(&man, 5));
        man.set(Duration::ZERO).unwrap();
        assert!(has_fired(&man, 900));
    }
}
