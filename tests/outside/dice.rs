//! Chance that repeats.

/// Xorshift: small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        dice
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll(bound as u64)).expect("it fits")
    }
}

/// A number of the environment, with which a suite runs longer or differently.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var(name);
    text.ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// The same as a count.
pub(crate) fn count(name: &str, default: u64) -> usize {
    usize::try_from(setting(name, default)).expect("a count")
}

/// The seed of this run, printed so that a failure repeats.
pub(crate) fn seed() -> u64 {
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("AGENT_RUNTIME_TEST_SEED={seed}");
    seed
}
