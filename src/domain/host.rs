//! Names of other machines, and which of them an agent may talk to.
//!
//! Invariants: a [`HostName`] is canonical, so that two spellings of one host are one value; rules
//! are compared with nothing else. Pure: resolving and dialling are `egress`'s.

use serde::{Deserialize, Serialize};

/// A canonical host: lower-case ASCII letters, digits and hyphens in labels, no trailing dot; or
/// an IP literal in its one strict form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostName(String);

impl HostName {
    /// The text, without brackets around an IPv6 literal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which hosts a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// This host alone.
    Exact(HostName),
    /// Every host below this one, at a label boundary, and not this one itself.
    Below(HostName),
    /// Every name; no IP literal.
    Any,
}

/// One line of an agent's allowed or denied domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which port.
    pub port: u16,
    /// Which HTTP methods, in upper case; none listed means every one. Inside a TLS tunnel the
    /// method cannot be seen: a rule that lists methods lets no tunnel through.
    pub methods: Vec<String>,
    /// The path must be this or lie below it. As for methods, no tunnel passes such a rule.
    pub path: Option<String>,
    /// Whether the host may have an address of a private network.
    pub allow_private: bool,
    /// Whether a tunnel may carry something else than TLS that names this host.
    pub opaque: bool,
}

/// What an agent may reach. Deny wins; what no rule allows is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPolicy {
    /// What may be reached.
    pub allow: Vec<HostRule>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<HostRule>,
}

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
