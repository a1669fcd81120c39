//! Whether something happens far more often than it did in the hour before. Pure over the time it
//! is given.

use crate::domain::Timestamp;

/// Seconds that are counted together.
pub(super) const STEP_SECS: u64 = 300;
/// Steps of an hour.
const STEPS: usize = 12;

/// Counts of the last hour, in steps of five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spike {
    /// The count of step `n` is at `n % STEPS`.
    counts: [u64; STEPS],
    /// The last step that something was counted in.
    last: u64,
}

/// Something unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How much in the present step.
    pub(super) recent: u64,
    /// The mean of the steps of the hour before.
    pub(super) usual: u64,
}

impl Spike {
    /// Counts; says so when the present step holds at least `floor` and more than `times` the mean
    /// of the hour before it.
    pub(super) fn add(
        &mut self,
        amount: u64,
        now: Timestamp,
        floor: u64,
        times: u64,
    ) -> Option<Found> {
        let step = step_of(now);
        self.forget(step);
        self.last = step;
        let all: u64 = self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let count = self.counts.get_mut(index_of(step))?;
        let before = all.saturating_sub(*count) / (STEPS as u64 - 1);
        *count = count.saturating_add(amount);
        let is_unusual = *count >= floor && *count > before.saturating_mul(times);
        is_unusual.then_some(Found { recent: *count, usual: before })
    }

    /// Whether nothing was counted within the hour.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        step_of(now).saturating_sub(self.last) >= STEPS as u64
    }

    /// Clears the steps between the last one and this.
    fn forget(&mut self, step: u64) {
        let passed = step.saturating_sub(self.last).min(STEPS as u64);
        for back in 0..passed {
            if let Some(count) = self.counts.get_mut(index_of(step - back)) {
                *count = 0;
            }
        }
    }
}

fn step_of(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0) / STEP_SECS
}

fn index_of(step: u64) -> usize {
    usize::try_from(step % STEPS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_micros(minutes * 60_000_000)
    }

    #[test]
    fn what_is_usual_is_no_spike_and_five_times_as_much_is() {
        let mut spike = Spike::default();
        for step in 0..12 {
            assert_eq!(spike.add(100, at(step * 5), 200, 5), None, "step {step}");
        }
        assert_eq!(spike.add(500, at(60), 200, 5), None, "five times is not more than five times");
        assert_eq!(spike.add(1, at(61), 200, 5), Some(Found { recent: 501, usual: 100 }));
    }

    #[test]
    fn below_the_floor_nothing_is_unusual_and_a_newcomer_has_no_mean() {
        let mut spike = Spike::default();
        assert_eq!(spike.add(199, at(0), 200, 5), None);
        assert_eq!(spike.add(1, at(1), 200, 5), Some(Found { recent: 200, usual: 0 }));
    }

    #[test]
    fn an_hour_is_forgotten() {
        let mut spike = Spike::default();
        spike.add(10_000, at(0), u64::MAX, 5);
        assert!(!spike.is_idle(at(59)) && spike.is_idle(at(60)));
        assert_eq!(spike.add(200, at(60), 200, 5), Some(Found { recent: 200, usual: 0 }));
    }
}
