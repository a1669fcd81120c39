//! Which ways out a call has, and whether it may use them unasked.
//!
//! The rule about untrusted content: once a run has read some, and the agent can read private
//! data, nothing that could carry this data away happens without a person. What needs no way out
//! goes on without one.

use super::Situation;
use crate::domain::{
    AgentDef, HostPattern, HostPolicy, ToolName,
    host::{Destination, HostVerdict},
    tool::RequestUse,
};

/// The rule of a process that runs without network because the run has read untrusted content.
pub const OFFLINE: &str = "taint.offline";
/// The rule of a call that asks because it could carry data away.
pub(super) const WAY_OUT: &str = "taint.way_out";
/// Rules that a card shows; more are counted.
const SHOWN_MAX: usize = 32;

/// What a process call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// No host: the agent has none, or the call wants none.
    None,
    /// The agent's hosts.
    Hosts,
    /// No host, since nobody was asked; the call did not say that it needs one.
    Hidden,
    /// The agent's hosts, once a person has said yes.
    WayOut,
}

/// What a process call gets that says this about the network; or why it is denied, and the rule.
pub(super) fn of_process(
    at: Situation<'_>,
    wanted: Option<bool>,
) -> Result<Network, (String, &'static str)> {
    let has_hosts = !at.hosts.allow.is_empty();
    match wanted {
        Some(false) => Ok(Network::None),
        Some(true) if !has_hosts => Err((
            "this agent may reach no other machine; leave out `network`".to_owned(),
            "host.not_allowed",
        )),
        None if !has_hosts => Ok(Network::None),
        Some(true) if at.is_exposed() => Ok(Network::WayOut),
        None if at.is_exposed() => Ok(Network::Hidden),
        Some(true) | None => Ok(Network::Hosts),
    }
}

/// Whether the agent can read what is nobody else's business: files, or what programs see.
pub(super) fn reads_private(agent: &AgentDef) -> bool {
    let reads = |tool: &ToolName| match tool {
        ToolName::Exec
        | ToolName::Shell
        | ToolName::ReadFile
        | ToolName::EditFile
        | ToolName::ListFiles
        | ToolName::SearchFiles => true,
        ToolName::WriteFile | ToolName::HttpRequest | ToolName::AskUser => false,
    };
    agent.tools.iter().any(reads)
}

/// Whether a rule allows the request; if so, whether it names this very host. The name under a
/// wildcard could itself carry something to whoever owns the zone.
pub(super) fn check_request(hosts: &HostPolicy, request: &RequestUse) -> Result<bool, String> {
    let to = Destination::request(&request.host, request.port, &request.method, &request.path);
    match hosts.decide(&to) {
        HostVerdict::Allow { rule } => Ok(matches!(rule.host, HostPattern::Exact(_))),
        HostVerdict::Deny(denial) => Err(denial.to_string()),
    }
}

/// The rules that allow something, as a person reads them; bounded.
pub(super) fn texts(hosts: &HostPolicy) -> Vec<String> {
    let mut texts: Vec<String> =
        hosts.allow.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let more = hosts.allow.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        texts.push(format!("and {more} more rules"));
    }
    texts
}
