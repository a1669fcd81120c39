//! Whether a model may be asked now: after failures it rests, then one call tries it.
//!
//! ```text
//! closed ── five failures in 30 s, or one that lasts ──► open ── its time is over ──► half-open
//!    ▲                                                    ▲                             │
//!    └──────────────── the probe succeeded ───────────────┼──── the probe failed ───────┤
//!                                                         └─────────────────────────────┘
//! ```
//! Invariants: pure over the time it is given; half-open lets one call through at a time, and a
//! probe that is never heard of again gives its place back.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::error::ErrorClass;

/// How patient breakers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures within the window that open it (SECURITY.md: five).
    pub failures: usize,
    /// The window in which failures count together (SECURITY.md: 30 s).
    pub window: Duration,
    /// First rest after failures that may pass by themselves.
    pub rest: Duration,
    /// The rest doubles with each probe that fails, up to this.
    pub rest_max: Duration,
    /// Rest after failures that a person has to mend: a key that is refused, an account without
    /// credit. A new key ends it at once.
    pub long_rest: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(30),
            rest: Duration::from_secs(15),
            rest_max: Duration::from_secs(300),
            long_rest: Duration::from_secs(900),
        }
    }
}

/// Longest rest that a provider may ask for.
const ASKED_REST_MAX: Duration = Duration::from_secs(3_600);

/// What a failure says about the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// Nothing: the request was at fault, or the caller stopped.
    None,
    /// It may pass; it counts.
    Passing,
    /// It lasts until somebody mends it.
    Lasting,
}

const fn blame(class: ErrorClass) -> Blame {
    match class {
        ErrorClass::RateLimit
        | ErrorClass::Timeout
        | ErrorClass::Network
        | ErrorClass::Overloaded => Blame::Passing,
        ErrorClass::Auth | ErrorClass::Billing => Blame::Lasting,
        // What the answer or the question looked like says nothing about the next one.
        ErrorClass::Format
        | ErrorClass::ContextOverflow
        | ErrorClass::BadRequest
        | ErrorClass::Cancelled => Blame::None,
    }
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// The model rests.
    Open {
        /// What opened it.
        class: ErrorClass,
        /// How long it still rests.
        rests: Duration,
    },
    /// One call tries whether it answers again.
    HalfOpen {
        /// What had opened it.
        class: ErrorClass,
    },
}

impl BreakerState {
    /// The name in metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

/// Whether a call may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Free,
    /// It may, as the one that tries: its end decides.
    Probe,
    /// It may not.
    Refused { class: ErrorClass, retry_after: Duration },
}

/// What the end of a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened { class: ErrorClass, rests: Duration },
    Closed,
}

/// The failures of one model.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    options: BreakerOptions,
    failures: VecDeque<Instant>,
    open: Option<Open>,
    /// Rises with each new key: what a call with an older one found says nothing about it.
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    class: ErrorClass,
    until: Instant,
    rest: Duration,
    is_probed: bool,
}

impl Breaker {
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self { options, ..Self::default() }
    }

    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let Some(open) = &mut self.open else { return Admission::Free };
        let rests = open.until.saturating_duration_since(now);
        if rests.is_zero() && !open.is_probed {
            open.is_probed = true;
            return Admission::Probe;
        }
        // While it is probed nobody knows how long that takes: soon.
        let retry_after = rests.max(Duration::from_secs(1));
        Admission::Refused { class: open.class, retry_after }
    }

    /// A call was answered. Of those that were under way when it opened only the probe counts.
    pub(super) fn succeeded(&mut self, is_probe: bool) -> Change {
        if self.open.is_some() && !is_probe { Change::None } else { self.reset() }
    }

    /// A call failed. `asked`: how long the provider asked to wait.
    pub(super) fn failed(
        &mut self,
        class: ErrorClass,
        asked: Option<Duration>,
        is_probe: bool,
        now: Instant,
    ) -> Change {
        if let Some(open) = self.open {
            if !is_probe {
                return Change::None;
            }
            return match blame(class) {
                // The provider answered: it is there again.
                Blame::None if class != ErrorClass::Cancelled => self.reset(),
                Blame::None => {
                    self.end_probe();
                    Change::None
                }
                Blame::Passing => {
                    let rest = open.rest.saturating_mul(2).min(self.options.rest_max);
                    self.rest(class, asked.map_or(rest, |a| a.min(ASKED_REST_MAX).max(rest)), now)
                }
                Blame::Lasting => self.rest(class, self.options.long_rest, now),
            };
        }
        match blame(class) {
            Blame::None => Change::None,
            Blame::Lasting => self.rest(class, self.options.long_rest, now),
            Blame::Passing => {
                self.failures.push_back(now);
                let window = self.options.window;
                self.failures.retain(|at| now.saturating_duration_since(*at) < window);
                if self.failures.len() < self.options.failures {
                    return Change::None;
                }
                let asked = asked.unwrap_or_default().min(ASKED_REST_MAX);
                self.rest(class, self.options.rest.max(asked), now)
            }
        }
    }

    /// A probe ended without an answer, such as when its run was cancelled.
    pub(super) fn end_probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probed = false;
        }
    }

    /// The generation of calls that are admitted now.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// A key was replaced: it starts from nothing, and calls that began before change nothing.
    pub(super) fn renew(&mut self) -> Change {
        self.generation += 1;
        self.reset()
    }

    /// Starts from nothing.
    fn reset(&mut self) -> Change {
        self.failures.clear();
        if self.open.take().is_some() { Change::Closed } else { Change::None }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some(Open { class, until, .. }) => {
                let rests = until.saturating_duration_since(now);
                if rests.is_zero() {
                    BreakerState::HalfOpen { class }
                } else {
                    BreakerState::Open { class, rests }
                }
            }
        }
    }

    fn rest(&mut self, class: ErrorClass, rest: Duration, now: Instant) -> Change {
        self.failures.clear();
        self.open = Some(Open { class, until: now + rest, rest, is_probed: false });
        Change::Opened { class, rests: rest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILURES: usize = 5;
    const WINDOW: Duration = Duration::from_secs(30);
    const REST: Duration = Duration::from_secs(15);
    const LONG_REST: Duration = Duration::from_secs(900);
    const PASSING: [ErrorClass; 4] =
        [ErrorClass::RateLimit, ErrorClass::Timeout, ErrorClass::Network, ErrorClass::Overloaded];

    fn opened(class: ErrorClass, now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(class, None, false, now);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_half_a_minute_open_it_and_slow_ones_do_not() {
        let now = Instant::now();
        for class in PASSING {
            let mut breaker = Breaker::default();
            for _ in 0..FAILURES - 1 {
                assert_eq!(breaker.failed(class, None, false, now), Change::None);
                assert_eq!(breaker.admit(now), Admission::Free);
            }
            let change = breaker.failed(class, None, false, now);
            assert_eq!(change, Change::Opened { class, rests: REST });
            let refused = Admission::Refused { class, retry_after: REST };
            assert_eq!(breaker.admit(now), refused);
            let mut slow = Breaker::default();
            for n in 0..20 {
                let at = now + n * WINDOW / 4;
                assert_eq!(slow.failed(class, None, false, at), Change::None, "{n}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_key_and_no_credit_open_it_at_once_until_somebody_mends_it() {
        let now = Instant::now();
        for class in [ErrorClass::Auth, ErrorClass::Billing] {
            let mut breaker = Breaker::default();
            breaker.failed(class, None, false, now);
            assert_eq!(breaker.state(now), BreakerState::Open { class, rests: LONG_REST });
            assert_eq!(breaker.reset(), Change::Closed);
            assert_eq!(breaker.admit(now), Admission::Free);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_question_or_a_broken_answer_says_nothing_about_the_provider() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for class in [ErrorClass::Format, ErrorClass::ContextOverflow, ErrorClass::BadRequest] {
            for _ in 0..100 {
                assert_eq!(breaker.failed(class, None, false, now), Change::None);
            }
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_decides() {
        let now = Instant::now();
        let mut breaker = opened(ErrorClass::Overloaded, now);
        let later = now + REST;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert!(matches!(breaker.admit(later), Admission::Refused { .. }), "no herd");
        assert!(matches!(breaker.state(later), BreakerState::HalfOpen { .. }));
        let rests = 2 * REST;
        let class = ErrorClass::Timeout;
        assert_eq!(breaker.failed(class, None, true, later), Change::Opened { class, rests });
        assert!(matches!(breaker.admit(later + REST), Admission::Refused { .. }));
        assert_eq!(breaker.admit(later + rests), Admission::Probe);
        let late = breaker.failed(class, None, false, later + rests);
        assert_eq!(late, Change::None, "a call from before is not the probe");
        assert_eq!(breaker.succeeded(false), Change::None);
        assert_eq!(breaker.succeeded(true), Change::Closed);
        assert_eq!(breaker.admit(later + rests), Admission::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_dropped_leaves_its_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(ErrorClass::Network, now);
        assert_eq!(breaker.admit(now + REST), Admission::Probe);
        breaker.end_probe();
        assert_eq!(breaker.admit(now + REST), Admission::Probe);
        assert_eq!(breaker.failed(ErrorClass::BadRequest, None, true, now + REST), Change::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_provider_asks_for_is_honoured_up_to_a_bound() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(ErrorClass::RateLimit, Some(Duration::from_secs(120)), false, now);
        }
        let class = ErrorClass::RateLimit;
        let rests = Duration::from_secs(120);
        assert_eq!(breaker.state(now), BreakerState::Open { class, rests });
    }

    proptest! {
        /// Whatever happens, at most one call is a probe, and an open breaker lets no other through.
        #[test]
        fn an_open_breaker_never_lets_a_herd_through(
            steps in proptest::collection::vec((0_u64..40, 0_u8..4, 0_usize..9), 1..200),
        ) {
            let classes = [
                ErrorClass::Auth, ErrorClass::RateLimit, ErrorClass::Billing, ErrorClass::Timeout,
                ErrorClass::Network, ErrorClass::Format, ErrorClass::ContextOverflow,
                ErrorClass::Overloaded, ErrorClass::BadRequest,
            ];
            let mut breaker = Breaker::default();
            let (mut now, mut is_probing) = (Instant::now(), false);
            for (secs, what, class) in steps {
                now += Duration::from_secs(secs);
                let was = breaker.state(now);
                match what {
                    0 | 1 => match breaker.admit(now) {
                        Admission::Free => prop_assert_eq!(was, BreakerState::Closed),
                        Admission::Probe => {
                            prop_assert!(!is_probing);
                            let is_half_open = matches!(was, BreakerState::HalfOpen { .. });
                            prop_assert!(is_half_open);
                            is_probing = true;
                        }
                        Admission::Refused { .. } => prop_assert_ne!(was, BreakerState::Closed),
                    },
                    2 if is_probing || was == BreakerState::Closed => {
                        breaker.failed(classes[class], None, is_probing, now);
                        is_probing = false;
                    }
                    3 if is_probing || was == BreakerState::Closed => {
                        breaker.succeeded(is_probing);
                        is_probing = false;
                        prop_assert_eq!(breaker.state(now), BreakerState::Closed);
                    }
                    _ => {}
                }
            }
        }
    }
}
