//! Trying again without making it worse.

use std::time::Duration;

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Longest wait before the second attempt; doubles with each.
    pub first: Duration,
    /// Longest wait before any attempt.
    pub longest: Duration,
}

impl RetryPolicy {
    /// The wait before attempt `next` (2 for the first retry): between half and all of the
    /// doubled base. `random` is any number, uniformly distributed.
    pub fn wait(&self, next: u32, random: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(16);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = ceiling / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_under_the_bound_and_differ() {
        let policy = RetryPolicy {
            attempts: 5,
            first: Duration::from_millis(100),
            longest: Duration::from_millis(350),
        };
        assert_eq!(policy.wait(2, 0), Duration::from_millis(50));
        assert_eq!(policy.wait(2, u32::MAX), Duration::from_millis(100));
        assert_eq!(policy.wait(3, u32::MAX), Duration::from_millis(200));
        assert_eq!(policy.wait(9, u32::MAX), Duration::from_millis(350));
    }
}
