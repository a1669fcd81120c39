//! Whether an agent may talk to a host, on a port, with a request.
//!
//! Invariants: deny wins; what no rule allows is denied; what a rule wants to see and cannot is
//! denied.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{
    name::HostName,
    path::{PathError, canonical_path, is_at_or_below},
    rule::HostRule,
};

/// What an agent may reach. Deny wins; what no rule allows is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPolicy {
    /// What may be reached.
    #[serde(default)]
    pub allow: Vec<HostRule>,
    /// What may not, whatever `allow` says. A rule without a port means every port; one with
    /// methods or a path denies also what cannot be seen, a tunnel.
    #[serde(default)]
    pub deny: Vec<HostRule>,
}

/// Where something wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The host as the client named it.
    pub host: &'a HostName,
    /// The port.
    pub port: u16,
    /// The HTTP method; not known in a tunnel.
    pub method: Option<&'a str>,
    /// The request's path, with or without its query; not known in a tunnel.
    pub path: Option<&'a str>,
}

impl<'a> Destination<'a> {
    /// A connection whose content cannot be seen.
    pub fn tunnel(host: &'a HostName, port: u16) -> Self {
        Self { host, port, method: None, path: None }
    }

    /// An HTTP request that can be seen whole.
    pub fn request(host: &'a HostName, port: u16, method: &'a str, path: &'a str) -> Self {
        Self { host, port, method: Some(method), path: Some(path) }
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict<'p> {
    /// This rule lets it through.
    Allow {
        /// The one that names the host most closely; of equals, the first.
        rule: &'p HostRule,
    },
    /// Nothing does, or something forbids it.
    Deny(HostDenial),
}

/// Why a destination was denied, and what to do about it. The texts hold rules and the host, never
/// a query or a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostDenial {
    /// No rule names the host, or not at this port.
    #[error("{}", not_listed(.target, .port_rule.as_deref()))]
    NotListed {
        /// `host:port`.
        target: String,
        /// A rule that names the host at another port.
        port_rule: Option<String>,
    },
    /// A rule denies it.
    #[error("the rule `{rule}` of the denied domains forbids it; deny wins over every other rule")]
    Denied {
        /// The rule.
        rule: String,
    },
    /// The host is listed for other methods.
    #[error("{}", other_methods(.rule, .method.as_deref()))]
    Method {
        /// The rule that names the host.
        rule: String,
        /// What was asked; a tunnel shows none.
        method: Option<String>,
    },
    /// The host is listed for other paths.
    #[error("{}", other_path(.rule, *.is_seen))]
    Path {
        /// The rule that names the host.
        rule: String,
        /// Whether the path could be seen.
        is_seen: bool,
    },
    /// The path could mean another one to the server.
    #[error("the rule `{rule}` looks at the path, and this one is ambiguous: {why}")]
    AmbiguousPath {
        /// The rule.
        rule: String,
        /// What is ambiguous.
        why: PathError,
    },
}

const TUNNEL: &str = "a tunnel hides the request: use `http_request`, plain HTTP, or have a rule \
                      without methods and path added";

fn not_listed(target: &str, port_rule: Option<&str>) -> String {
    port_rule.map_or_else(
        || format!("no rule allows {target}: ask for it to be added to the allowed domains"),
        |rule| {
            format!("{target} is not allowed, only `{rule}`: ports are compared exactly, ask for a rule with this one")
        },
    )
}

fn other_methods(rule: &str, method: Option<&str>) -> String {
    method.map_or_else(
        || format!("the rule `{rule}` lists methods, and {TUNNEL}"),
        |method| format!("the rule `{rule}` does not list {method}"),
    )
}

fn other_path(rule: &str, is_seen: bool) -> String {
    if is_seen {
        format!("the path is not below that of the rule `{rule}`")
    } else {
        format!("the rule `{rule}` names a path, and {TUNNEL}")
    }
}

impl HostDenial {
    /// The stable code that clients, records and metrics carry.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "not_listed",
            Self::Denied { .. } => "denied_by_rule",
            Self::Method { .. } => "method_not_allowed",
            Self::Path { .. } | Self::AmbiguousPath { .. } => "path_not_allowed",
        }
    }
}

/// What a rule makes of a request to its host and port.
enum Fit {
    Yes,
    Method,
    Path,
    Hidden,
    Ambiguous(PathError),
}

impl HostPolicy {
    /// Whether nothing at all can be reached.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty()
    }

    /// Decides about one destination.
    pub fn decide(&self, to: &Destination<'_>) -> HostVerdict<'_> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.denies(to)) {
            return HostVerdict::Deny(HostDenial::Denied { rule: rule.to_string() });
        }
        let mut nearest = None;
        for rule in self.closest_first(to.host) {
            if rule.allowed_port() != to.port {
                let port_rule = Some(rule.to_string());
                let target = format!("{}:{}", to.host.authority(), to.port);
                nearest.get_or_insert(HostDenial::NotListed { target, port_rule });
                continue;
            }
            let denial = match fit(rule, to) {
                Fit::Yes => return HostVerdict::Allow { rule },
                Fit::Method => HostDenial::Method {
                    rule: rule.to_string(),
                    method: to.method.map(|m| m.chars().take(32).collect()),
                },
                Fit::Path => HostDenial::Path { rule: rule.to_string(), is_seen: true },
                Fit::Hidden if rule.methods.is_empty() => {
                    HostDenial::Path { rule: rule.to_string(), is_seen: false }
                }
                Fit::Hidden => HostDenial::Method { rule: rule.to_string(), method: None },
                Fit::Ambiguous(why) => HostDenial::AmbiguousPath { rule: rule.to_string(), why },
            };
            // A rule for the right port says more than one for another port.
            if matches!(nearest, None | Some(HostDenial::NotListed { .. })) {
                nearest = Some(denial);
            }
        }
        HostVerdict::Deny(nearest.unwrap_or_else(|| HostDenial::NotListed {
            target: format!("{}:{}", to.host.authority(), to.port),
            port_rule: None,
        }))
    }

    /// Whether a name may be looked up: some rule allows it at a port at which no rule denies it
    /// altogether.
    pub fn may_resolve(&self, host: &HostName) -> HostVerdict<'_> {
        let mut denied = None;
        for rule in self.closest_first(host) {
            let forbids = |deny: &&HostRule| {
                let is_whole = !deny.is_about_requests();
                is_whole && deny.host.denies(host) && has_port(deny, rule.allowed_port())
            };
            match self.deny.iter().find(forbids) {
                None => return HostVerdict::Allow { rule },
                Some(deny) => denied = Some(HostDenial::Denied { rule: deny.to_string() }),
            }
        }
        HostVerdict::Deny(
            denied.unwrap_or_else(|| HostDenial::NotListed {
                target: host.authority(),
                port_rule: None,
            }),
        )
    }
}

impl HostPolicy {
    /// The allowing rules about a host, so that what one says of a single host (private addresses,
    /// say) is not hidden by a wider one that stands before it.
    fn closest_first(&self, host: &HostName) -> Vec<&HostRule> {
        let mut rules: Vec<_> = self.allow.iter().filter(|rule| rule.host.allows(host)).collect();
        rules.sort_by_key(|rule| Reverse(rule.host.closeness()));
        rules
    }
}

/// Whether a rule of the denied domains is about this port.
fn has_port(deny: &HostRule, port: u16) -> bool {
    deny.port.is_none_or(|own| own == port)
}

impl HostRule {
    /// Whether the rule, among those that deny, is about this destination. A rule without a port
    /// means every port; what cannot be seen or is ambiguous could be what it forbids.
    pub fn denies(&self, to: &Destination<'_>) -> bool {
        if !self.host.denies(to.host) || !has_port(self, to.port) {
            return false;
        }
        // Some servers take methods in any case; an allowing rule does not.
        let method = to.method.map(str::to_ascii_uppercase);
        let to = Destination { method: method.as_deref(), ..*to };
        !matches!(fit(self, &to), Fit::Method | Fit::Path)
    }

    /// Whether the rule, among those that allow, lets this destination through.
    pub fn allows(&self, to: &Destination<'_>) -> bool {
        self.host.allows(to.host)
            && self.allowed_port() == to.port
            && matches!(fit(self, to), Fit::Yes)
    }
}

fn fit(rule: &HostRule, to: &Destination<'_>) -> Fit {
    if !rule.methods.is_empty() {
        match to.method {
            None => return Fit::Hidden,
            Some(method) if !rule.methods.iter().any(|own| own == method) => return Fit::Method,
            Some(_) => {}
        }
    }
    match (&rule.path, to.path) {
        (None, _) => Fit::Yes,
        (Some(_), None) => Fit::Hidden,
        (Some(prefix), Some(path)) => match canonical_path(path) {
            Err(why) => Fit::Ambiguous(why),
            Ok(path) if is_at_or_below(&path, prefix) => Fit::Yes,
            Ok(_) => Fit::Path,
        },
    }
}
