//! Names of other machines, and which of them an agent may talk to.
//!
//! Invariants: a [`HostName`] is canonical, so that two spellings of one host are one value, or
//! one of them is refused; rules are compared with nothing else. What is ambiguous is refused, not
//! guessed. Pure: resolving and dialling are `egress`'s.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod name;
mod path;
mod policy;
mod rule;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use name::{HostError, HostName};
pub use path::{PathError, canonical_path};
pub use policy::{Destination, HostDenial, HostPolicy, HostVerdict};
pub use rule::{HostPattern, HostRule, RuleError, split_port};

/// The port that an allowed host is reached at where its rule names none.
pub const DEFAULT_PORT: u16 = 443;

/// Bounds of one run's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressLimits {
    /// Connections over the whole run.
    pub connections: u64,
    /// HTTP requests over the whole run.
    pub requests: u64,
    /// Bytes sent over the whole run.
    pub bytes_up: u64,
    /// Bytes received over the whole run.
    pub bytes_down: u64,
    /// Connections open at once.
    pub tunnels: u64,
    /// Names looked up per minute.
    pub names_per_minute: u64,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            requests: 2_000,
            bytes_up: 64 << 20,
            bytes_down: 1 << 30,
            tunnels: 32,
            names_per_minute: 120,
        }
    }
}
