//! What would be decided, for a person who asks.

use std::net::IpAddr;

use super::{
    decide::{Policies, Refusal},
    reason::Reason,
    record::printable,
    resolve::{self, Resolver},
};
use crate::domain::{AgentName, HostName, HostPolicy, host};

/// What `egress test` asks about.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The host, as a person writes it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// An HTTP method and a path, for rules that name them. `None` asks about a TLS tunnel.
    pub request: Option<(String, String)>,
}

/// The decision about a [`Destination`] and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The host in its canonical form, where it has one.
    pub host: String,
    /// The rule that allows it, as the operator writes it; or what refuses it.
    pub decision: Result<String, Reason>,
    /// Every address of the host, if rules allow it, and why it may not be dialled.
    pub addresses: Vec<(IpAddr, Option<String>)>,
    /// One or two sentences for a person: the decision and what changes it.
    pub text: String,
}

/// Decides as for a call whose policy is the live one. Connects to nothing.
pub(super) async fn explain(
    resolver: &Resolver,
    agent: &AgentName,
    live: Option<&HostPolicy>,
    asked: &Destination,
) -> Explanation {
    let host = match HostName::parse(&asked.host) {
        Ok(host) => host,
        Err(error) => {
            let (host, reason) = (printable(&asked.host), Reason::BadHost);
            let text = format!("`{host}` is no host: {error}.");
            return Explanation { host, decision: Err(reason), addresses: Vec::new(), text };
        }
    };
    let (method, path) = asked.request.as_ref().map(|(m, p)| (m.as_str(), p.as_str())).unzip();
    let to = host::Destination { host: &host, port: asked.port, method, path };
    let none = HostPolicy::default();
    let policies = Policies { agent, call: Some(live.unwrap_or(&none)), live };
    let refused = |refusal: Refusal, addresses| Explanation {
        host: host.as_str().to_owned(),
        decision: Err(refusal.reason),
        addresses,
        text: refusal.text,
    };
    let permitted = match policies.judge(&to) {
        Ok(permitted) => permitted,
        Err(refusal) => return refused(refusal, Vec::new()),
    };
    let found = match resolver.resolve(&host, asked.port).await {
        Ok(found) => found,
        Err(reason) => {
            return refused(policies.refusal(reason, host.as_str(), asked.port), Vec::new());
        }
    };
    let checked = |ip: IpAddr| {
        let refusal = resolve::check(ip, permitted.allow_private).err();
        (ip, refusal.map(|refusal| refusal.kind.to_string()))
    };
    let addresses: Vec<_> = found.addresses.iter().map(|to| checked(to.ip())).collect();
    if addresses.iter().any(|(_, refusal)| refusal.is_some()) {
        let refusal = policies.refusal(Reason::AddressRefused, host.as_str(), asked.port);
        return refused(refusal, addresses);
    }
    let rule = permitted.rule;
    let text = format!(
        "Agent {agent} may reach {}:{} by the rule `{rule}`.",
        host.authority(),
        asked.port
    );
    Explanation { host: host.as_str().to_owned(), decision: Ok(rule), addresses, text }
}
