//! May this tool call happen, and what may it touch?
//!
//! Invariants: imports `domain` alone; no I/O, no async, no clock. The same policy and question
//! give the same verdict, so that a call is decided again before it runs, after any wait, and a
//! recorded question can be replayed. Deny wins over ask, ask over allow, whatever the layer and
//! the order of rules; no rule of a policy grants what the agent's definition does not. What is
//! not allowed here is denied or asked. The kernel enforces the grant; these rules only decide
//! early and say why. The language and its layers: docs/POLICY.md.

mod builtin;
mod command;
mod decide;
mod explain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod globs;
mod index;
mod language;
mod network;
mod path;
mod patterns;
#[expect(clippy::module_inception, reason = "the policy is the noun of this module")]
mod policy;
mod question;
mod rule;
mod verdict;

pub use builtin::required_role;
pub use decide::decide;
pub use explain::{Explanation, Step, StepOutcome, explain};
pub use language::{PolicyError, Problem};
pub use network::{OFFLINE, texts};
pub use patterns::{Usual, usual};
pub use policy::Policy;
pub use question::{Question, Recorded};
pub use verdict::{Layer, Outcome, RuleName, Verdict};

#[cfg(test)]
mod tests;
