//! The one decision, for every door.
//!
//! Invariant: something is let through only if the call's policy and the agent's live policy both
//! allow it in so many words, and every address of the host may be dialled.

use std::net::SocketAddr;

use tokio::time::Duration;

use super::{
    address::AddressRefusal,
    reason::Reason,
    resolve::{self, Resolved, Resolver},
};
use crate::domain::{
    AgentName, HostName, HostPolicy,
    host::{Destination, HostDenial, HostRule, HostVerdict},
};

/// The two policies that must agree.
#[derive(Clone, Copy)]
pub(super) struct Policies<'p> {
    /// Whose.
    pub(super) agent: &'p AgentName,
    /// The call's; `None` when no call is under way.
    pub(super) call: Option<&'p HostPolicy>,
    /// The agent's, as it is now; `None` when it has none.
    pub(super) live: Option<&'p HostPolicy>,
}

/// What rules alone say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permitted {
    /// The call's rule, as an operator writes it.
    pub(super) rule: String,
    pub(super) allow_private: bool,
    pub(super) is_opaque: bool,
    /// The port of the rule.
    pub(super) port: u16,
}

/// Let through: where to, and under which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) rule: String,
    pub(super) is_opaque: bool,
    /// One of the addresses may be dialled only because the rules say `allow_private`.
    pub(super) is_private: bool,
    /// Checked; the only ones that may be dialled. Never empty.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ttl: Duration,
    /// The operator said where to dial: not through an upstream proxy.
    pub(super) is_override: bool,
}

/// What a connection lives on, beside rules that allow its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// `allow_private`: one of its addresses is not a public one.
    pub(super) private: bool,
    /// `opaque`: nobody has looked at what it carries.
    pub(super) opaque: bool,
}

impl Needs {
    /// Why rules that permit this no longer let the connection live.
    pub(super) fn lacking(self, permitted: &Permitted) -> Option<Reason> {
        if self.private && !permitted.allow_private {
            Some(Reason::AddressRefused)
        } else if self.opaque && !permitted.is_opaque {
            Some(Reason::NotTls)
        } else {
            None
        }
    }
}

/// Not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// One sentence or two for whoever asked.
    pub(super) text: String,
}

impl Refusal {
    /// Adds what was found out.
    pub(super) fn because(mut self, why: &dyn std::fmt::Display) -> Self {
        self.text = format!("{} ({why}.)", self.text);
        self
    }
}

impl Policies<'_> {
    /// What the rules say of a destination.
    pub(super) fn judge(&self, to: &Destination<'_>) -> Result<Permitted, Refusal> {
        self.both(to.host, to.port, |policy| policy.decide(to))
    }

    /// Whether a name may be looked up, for any port.
    pub(super) fn judge_name(&self, host: &HostName) -> Result<Permitted, Refusal> {
        let mut permitted = self.both(host, 443, |policy| policy.may_resolve(host))?;
        // The question does not say which rule it will be for.
        let is_private = |policy: Option<&HostPolicy>| {
            let is_rule = |rule: &HostRule| rule.allow_private && rule.host.allows(host);
            policy.is_some_and(|policy| policy.allow.iter().any(is_rule))
        };
        permitted.allow_private = is_private(self.call) && is_private(self.live);
        Ok(permitted)
    }

    fn both<'p>(
        &'p self,
        host: &HostName,
        port: u16,
        verdict: impl Fn(&'p HostPolicy) -> HostVerdict<'p>,
    ) -> Result<Permitted, Refusal> {
        let refuse = |reason| Err(self.refusal(reason, host.as_str(), port));
        let Some(call) = self.call else { return refuse(Reason::Closed) };
        let Some(live) = self.live else { return refuse(Reason::NoPolicy) };
        let mut rules = [call, live].into_iter().map(|policy| match verdict(policy) {
            HostVerdict::Allow { rule } => Ok(rule),
            HostVerdict::Deny(denial) => Err(self.denied(&denial, host, port)),
        });
        let (Some(first), Some(second)) = (rules.next(), rules.next()) else {
            return refuse(Reason::NoPolicy);
        };
        let (first, second) = (first?, second?);
        Ok(Permitted {
            rule: first.to_string(),
            allow_private: first.allow_private && second.allow_private,
            is_opaque: first.opaque && second.opaque,
            port: first.allowed_port(),
        })
    }

    fn denied(&self, denial: &HostDenial, host: &HostName, port: u16) -> Refusal {
        let reason = match denial {
            HostDenial::NotListed { .. } => Reason::NotListed,
            HostDenial::Denied { .. } => Reason::DeniedByRule,
            HostDenial::Method { .. } => Reason::MethodNotAllowed,
            HostDenial::Path { .. } | HostDenial::AmbiguousPath { .. } => Reason::PathNotAllowed,
        };
        self.refusal(reason, host.as_str(), port).because(denial)
    }

    /// A refusal with its usual sentence. `host` must be printable.
    pub(super) fn refusal(&self, reason: Reason, host: &str, port: u16) -> Refusal {
        Refusal { reason, text: reason.sentence(self.agent.as_str(), host, port) }
    }

    /// Adds the checked addresses to what rules permit.
    pub(super) async fn with_addresses(
        &self,
        resolver: &Resolver,
        permitted: Permitted,
        host: &HostName,
        port: u16,
    ) -> Result<Allowed, Refusal> {
        let found = resolver.resolve(host, port).await;
        let found = found.map_err(|reason| self.refusal(reason, host.as_str(), port))?;
        if let Some(refused) = first_refused(&found, permitted.allow_private) {
            let refusal = self.refusal(Reason::AddressRefused, host.as_str(), port);
            return Err(refusal.because(&refused));
        }
        Ok(Allowed {
            rule: permitted.rule,
            is_opaque: permitted.is_opaque,
            is_private: permitted.allow_private && first_refused(&found, false).is_some(),
            addresses: found.addresses,
            ttl: found.ttl,
            is_override: found.is_override,
        })
    }
}

/// One address that may not be dialled refuses the name: whoever answers for it may choose the
/// order of the addresses (DNS rebinding).
fn first_refused(found: &Resolved, allow_private: bool) -> Option<AddressRefusal> {
    found.addresses.iter().find_map(|to| resolve::check(to.ip(), allow_private).err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> HostPolicy {
        let rules = |texts: &[&str]| texts.iter().map(|t| HostRule::parse(t).unwrap()).collect();
        HostPolicy { allow: rules(allow), deny: rules(deny) }
    }

    fn judge(call: Option<&HostPolicy>, live: Option<&HostPolicy>) -> Result<Permitted, Reason> {
        let agent: AgentName = "a".parse().unwrap();
        let host = HostName::parse("x.example").unwrap();
        let policies = Policies { agent: &agent, call, live };
        policies.judge(&Destination::tunnel(&host, 443)).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn both_policies_must_allow() {
        let (yes, no) = (policy(&["x.example"], &[]), policy(&["y.example"], &[]));
        let denied = policy(&["x.example"], &["x.example"]);
        assert!(judge(Some(&yes), Some(&yes)).is_ok());
        assert_eq!(judge(Some(&yes), Some(&no)), Err(Reason::NotListed));
        assert_eq!(judge(Some(&no), Some(&yes)), Err(Reason::NotListed));
        assert_eq!(judge(Some(&yes), Some(&denied)), Err(Reason::DeniedByRule));
        assert_eq!(judge(Some(&yes), None), Err(Reason::NoPolicy));
        assert_eq!(judge(None, Some(&yes)), Err(Reason::Closed));
    }

    #[test]
    fn what_widens_a_rule_must_stand_in_both() {
        let wide = policy(&["x.example allow_private opaque"], &[]);
        let plain = policy(&["x.example"], &[]);
        let both = judge(Some(&wide), Some(&wide)).unwrap();
        assert!(both.allow_private && both.is_opaque);
        for (call, live) in [(&wide, &plain), (&plain, &wide)] {
            let one = judge(Some(call), Some(live)).unwrap();
            assert!(!one.allow_private && !one.is_opaque);
        }
    }

    #[test]
    fn a_refusal_says_what_an_operator_can_do() {
        let agent: AgentName = "helper".parse().unwrap();
        let empty = HostPolicy::default();
        let policies = Policies { agent: &agent, call: Some(&empty), live: Some(&empty) };
        let host = HostName::parse("x.example").unwrap();
        let refusal = policies.judge(&Destination::tunnel(&host, 443)).unwrap_err();
        assert!(
            refusal.text.contains("agent-runtime egress add x.example --agent helper"),
            "{}",
            refusal.text
        );
    }
}
