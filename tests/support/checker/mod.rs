//! The checker: the twelve invariants of a run's life, judged from the stored truth and from
//! witnesses that the daemon never writes.
//!
//! [`Truth`] is everything that the store holds, read beside the daemon; [`Witness`] is what the
//! fake provider, the tools and the clients of a test have seen. [`Truth::violations`] holds one
//! against the other and returns every invariant that is broken, with its number:
//!
//! 1. A request that was acknowledged is present; one run for each idempotency key.
//! 2. The events of a run are 1..n, its state is their fold, nothing follows the end.
//! 3. An unsafe call ran at most once without a recorded "run it"; intents come before effects.
//! 4. Two epochs never work on one run; no commit carries a stale epoch.
//! 5. No gated call ran without a valid, unexpired decision over the same arguments.
//! 6. What is used and held is within the limits, and nothing is held for nobody.
//! 7. Messages are numbered without gaps; each accepted steer stands once.
//! 8. Every run has ended or waits with a named reason.
//! 9. Every change of state has its audit row; the chain verifies.
//! 10. A client that comes back sees each durable event once, in order.
//! 11. No secret stands in anything that is kept.
//! 12. Nothing of a dead daemon lives: process, mount, lock.
//!
//! For people it is a program: `cargo run --example checker -- --help`.

mod audit;
mod effects;
mod leftovers;
mod money;
mod requests;
mod runs;
mod secrets;
pub(crate) mod truth;
pub(crate) mod witness;

use std::{fmt, path::Path};

pub(crate) use self::{truth::Truth, witness::Witness};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which one, 1 to 12.
    pub(crate) invariant: u8,
    /// What is wrong, with ids.
    pub(crate) what: String,
}

impl Violation {
    fn of(invariant: u8, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.what)
    }
}

impl Truth {
    /// Everything that can be judged while a daemon may run: all invariants but 8 and 12.
    pub(crate) fn violations_so_far(&self, witness: &Witness) -> Vec<Violation> {
        let parts = [
            self.lost_requests(witness),
            self.broken_histories(),
            self.wrong_effects(witness),
            self.wrong_epochs(witness),
            self.ungated_calls(),
            self.overspending(witness),
            self.wrong_messages(witness),
            self.audit_gaps(),
            self.wrong_deliveries(witness),
            self.leaked_secrets(witness),
        ];
        parts.into_iter().flatten().collect()
    }

    /// The same, once the faults are over and every run has had its time: invariant 8 too.
    pub(crate) fn violations(&self, witness: &Witness) -> Vec<Violation> {
        let mut all = self.violations_so_far(witness);
        all.extend(self.unsettled());
        all
    }

    /// # Panics
    /// When an invariant is broken.
    #[track_caller]
    pub(crate) fn check(&self, witness: &Witness) {
        none(&self.violations(witness));
    }

    /// 2 and 4: events are 1..n, the state is their fold, epochs never go back.
    #[track_caller]
    pub(crate) fn check_events(&self) {
        none(&self.broken_histories());
        none(&self.wrong_epochs(&Witness::default()));
    }

    /// 9: every state change has its audit row, in order; the chain verifies.
    #[track_caller]
    pub(crate) fn check_audit(&self) {
        none(&self.audit_gaps());
    }

    /// 3: `witness` holds the ids of calls that really ran.
    #[track_caller]
    pub(crate) fn check_witness(&self, witness: &[String]) {
        let witness = Witness { executed: witness.to_vec(), ..Witness::default() };
        none(&self.wrong_effects(&witness));
    }

    /// 5: no gated call ran without a valid, unexpired decision over the same arguments.
    #[track_caller]
    pub(crate) fn check_approvals(&self) {
        none(&self.ungated_calls());
    }

    /// 11: none of these secrets stands in anything that the store keeps.
    #[track_caller]
    pub(crate) fn check_secrets(&self, secrets: &[&str]) {
        let secrets = secrets.iter().map(|s| (*s).to_owned()).collect();
        none(&self.leaked_secrets(&Witness { secrets, ..Witness::default() }));
    }

    /// 8: every run has ended, or waits with a named reason.
    #[track_caller]
    pub(crate) fn check_settled(&self) {
        none(&self.unsettled());
    }
}

/// 12: no process of the sandbox is alive, no mount is left.
#[track_caller]
pub(crate) fn check_no_leftovers(data_dir: &Path) {
    none(&leftovers::leftovers(data_dir));
}

/// 12, as findings.
pub(crate) fn leftovers_of(data_dir: &Path) -> Vec<Violation> {
    leftovers::leftovers(data_dir)
}

#[track_caller]
fn none(violations: &[Violation]) {
    let text: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{}", text.join("\n"));
}
