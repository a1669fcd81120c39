//! Why something was refused: the codes of `x-egress-reason`, records and metrics, and what a
//! person is told.

use std::fmt;

/// Which bound of [`crate::domain::EgressLimits`] was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Connections over the whole run.
    Connections,
    /// Requests over the whole run.
    Requests,
    /// Bytes sent.
    BytesUp,
    /// Bytes received.
    BytesDown,
    /// Connections at once.
    Tunnels,
    /// Names per minute.
    Names,
}

/// Why an attempt was refused or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No rule allows the host and port.
    NotListed,
    /// A rule denies it.
    DeniedByRule,
    /// The host is no name in its canonical form.
    BadHost,
    /// One of its addresses is not a public one.
    AddressRefused,
    /// The name has no address.
    NoAddress,
    /// The name could not be looked up in time.
    ResolveFailed,
    /// No checked address could be reached.
    ConnectFailed,
    /// The ClientHello names no host, or hides it.
    SniMissing,
    /// The ClientHello names another host.
    SniMismatch,
    /// The tunnel carries something else than TLS.
    NotTls,
    /// The request could not be read without doubt, or not in time.
    BadRequest,
    /// Host header and target differ.
    HostMismatch,
    /// Rules allow the host, with other methods.
    MethodNotAllowed,
    /// Rules allow the host, below other paths.
    PathNotAllowed,
    /// A bound of the run was reached.
    Quota(Quota),
    /// A secret's placeholder in a place that it is not bound to.
    SecretMisused,
    /// The agent has no policy.
    NoPolicy,
    /// The call is over, or none is under way.
    Closed,
}

impl Reason {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotListed => "not_listed",
            Self::DeniedByRule => "denied_by_rule",
            Self::BadHost => "bad_host",
            Self::AddressRefused => "address_refused",
            Self::NoAddress => "no_address",
            Self::ResolveFailed => "resolve_failed",
            Self::ConnectFailed => "connect_failed",
            Self::SniMissing => "sni_missing",
            Self::SniMismatch => "sni_mismatch",
            Self::NotTls => "not_tls",
            Self::BadRequest => "bad_request",
            Self::HostMismatch => "host_mismatch",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PathNotAllowed => "path_not_allowed",
            Self::Quota(Quota::Connections) => "quota_connections",
            Self::Quota(Quota::Requests) => "quota_requests",
            Self::Quota(Quota::BytesUp) => "quota_bytes_up",
            Self::Quota(Quota::BytesDown) => "quota_bytes_down",
            Self::Quota(Quota::Tunnels) => "quota_tunnels",
            Self::Quota(Quota::Names) => "quota_names",
            Self::SecretMisused => "secret_misused",
            Self::NoPolicy => "no_policy",
            Self::Closed => "closed",
        }
    }

    /// Whether policy refuses; otherwise the destination could not be reached.
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::NoAddress | Self::ResolveFailed | Self::ConnectFailed)
    }

    /// One readable sentence that says what the operator can do. `host` is bounded text that the
    /// caller has made printable.
    pub fn sentence(self, agent: &str, host: &str, port: u16) -> String {
        let place = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
        match self {
            Self::NotListed => format!(
                "{place} is not on the list of agent {agent}. An operator can add it: \
                 agent-runtime egress add {place} --agent {agent}"
            ),
            Self::DeniedByRule => format!(
                "A rule denies {place} to agent {agent}. An operator finds it with: \
                 agent-runtime egress list --agent {agent}"
            ),
            Self::BadHost => format!(
                "`{host}` is no host name in its plain form: write lower-case letters, digits, \
                 hyphens and dots."
            ),
            Self::AddressRefused => format!(
                "{host} has an address of this machine or of a private network. If it is meant to \
                 be reached there, an operator writes a rule for {place} with allow_private."
            ),
            Self::NoAddress => format!("{host} has no address in the DNS."),
            Self::ResolveFailed => format!("{host} could not be looked up in the DNS in time."),
            Self::ConnectFailed => format!("{place} could not be reached."),
            Self::SniMissing => {
                "The TLS ClientHello names no host, or hides it (ECH): without it no TLS connection \
                 is let through unless the rule says opaque."
                    .to_owned()
            }
            Self::SniMismatch => {
                format!("The TLS ClientHello names another host than {place}, which was asked for.")
            }
            Self::NotTls => format!(
                "What was sent to {place} is no TLS ClientHello, or came too late. If it is meant \
                 to carry something else, an operator writes a rule for {place} with opaque."
            ),
            Self::BadRequest => {
                "The request could not be read without doubt, or not in time.".to_owned()
            }
            Self::HostMismatch => {
                "The Host header and the target of the request differ, or there is not exactly one."
                    .to_owned()
            }
            Self::MethodNotAllowed => format!(
                "{place} is on the list of agent {agent}, but not with this method. Rules with \
                 methods let no tunnel through."
            ),
            Self::PathNotAllowed => format!(
                "{place} is on the list of agent {agent}, but not this path. Rules with a path let \
                 no tunnel through."
            ),
            Self::Quota(_) => format!(
                "The run has used up its traffic ({}). An operator can raise the agent's egress \
                 limits.",
                self.as_str()
            ),
            Self::SecretMisused => {
                "A secret's placeholder was used where it is not bound to: it works in a header, \
                 for its own host, port and path only, and in clear text only to port 80 or \
                 where its binding says `plain_http`."
                    .to_owned()
            }
            Self::NoPolicy => format!(
                "Agent {agent} has no list of hosts. An operator can begin one: agent-runtime \
                 egress add {place} --agent {agent}"
            ),
            Self::Closed => "No tool call is under way that this could belong to.".to_owned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
