//! Which ways out a call has, and whether it may use them unasked.
//!
//! The rule about untrusted content: once a run has read some, and the agent can read private
//! data, nothing that could carry this data away happens without a person. What needs no way out
//! goes on without one.

use sha2::{Digest, Sha256};

use super::builtin::Situation;
use crate::domain::{
    AgentDef, HostPattern, HostPolicy, ToolName,
    host::{Destination, HostVerdict},
    tool::RequestUse,
};

/// The rule of a process that runs without network because the run has read untrusted content.
pub const OFFLINE: &str = "taint.offline";
/// The rule of a call that asks because it could carry data away.
pub(super) const WAY_OUT: &str = "taint.way_out";
/// The rule of a request that asks because of its method.
pub(super) const METHOD: &str = "http.method";
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
    let has_hosts = !at.question.hosts.allow.is_empty();
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

/// What a card says about where a request goes.
pub(super) fn destination(request: &RequestUse) -> Vec<String> {
    vec![format!("{}:{}", request.host.as_str(), request.port)]
}

/// What a card says a program may reach: the rules that allow something, as a person reads them,
/// bounded; last a mark of every rule, so that an answer holds for this very policy. Nothing for
/// an agent that reaches nothing.
pub fn texts(hosts: &HostPolicy) -> Vec<String> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let mut texts: Vec<String> =
        hosts.allow.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let more = hosts.allow.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        texts.push(format!("and {more} more rules"));
    }
    texts.push(format!("policy {:.16}", fingerprint(hosts)));
    texts
}

/// SHA-256 over every rule, allowing or denying; a rule's text holds no line break.
fn fingerprint(hosts: &HostPolicy) -> String {
    let mut hash = Sha256::new();
    let allow = hosts.allow.iter().map(|rule| ("allow", rule));
    for (verdict, rule) in allow.chain(hosts.deny.iter().map(|rule| ("deny", rule))) {
        hash.update(format!("{verdict} {rule}\n"));
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Verdict,
            tests::{agent, brief, decide, decide_with, exec, facts, request},
        },
        *,
    };
    use crate::domain::{CallFacts, CommandRule, Risk, Role};

    /// An agent that may reach one host, and every host below another.
    fn online() -> AgentDef {
        let rule = |text: &str| text.parse().unwrap();
        let allow = vec![rule("docs.example"), rule("*.wild.example")];
        AgentDef { hosts: HostPolicy { allow, deny: Vec::new() }, ..agent() }
    }

    fn with_network(facts: CallFacts, network: Option<bool>) -> CallFacts {
        CallFacts { network, ..facts }
    }

    fn grants_hosts(verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => !grant.hosts.is_empty(),
            Verdict::Deny { .. } => false,
        }
    }

    #[test]
    fn a_request_is_decided_by_host_and_method() {
        let word = |call: &CallFacts| brief(&decide(&online(), call, false));
        assert_eq!(word(&request("GET", "docs.example", true)), ("allow low", "host.allowed"));
        assert_eq!(word(&request("HEAD", "a.wild.example", false)), ("allow low", "host.allowed"));
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(word(&request(method, "docs.example", false)), ("ask", "http.method"));
        }
        for host in ["evil.example", "wild.example", "xdocs.example", "docs.example.evil.example"] {
            assert_eq!(word(&request("GET", host, false)), ("deny", "host.not_allowed"), "{host}");
            assert_eq!(word(&request("POST", host, false)).0, "deny", "{host}");
        }
        let Verdict::Deny { reason, .. } =
            decide(&online(), &request("GET", "evil.example", false), false)
        else {
            panic!("it is denied");
        };
        assert!(reason.contains("evil.example"), "{reason}");
        let Verdict::Ask { egress, risk, required_role, .. } =
            decide(&online(), &request("POST", "docs.example", true), false)
        else {
            panic!("it asks");
        };
        assert_eq!(egress, ["docs.example:443"]);
        assert_eq!((risk, required_role), (Risk::High, Role::Admin));
    }

    #[test]
    fn the_live_list_decides_and_not_the_definition() {
        let live = std::sync::Arc::new(HostPolicy::default());
        let verdict = decide_with(&online(), &live, &request("GET", "docs.example", false), false);
        assert_eq!(brief(&verdict).0, "deny");
        let verdict = decide_with(&online(), &live, &exec(&["git"]), false);
        assert!(!grants_hosts(&verdict));
    }

    #[test]
    fn after_untrusted_content_a_request_that_could_carry_data_asks() {
        let word = |call: &CallFacts| brief(&decide(&online(), call, true));
        assert_eq!(word(&request("GET", "docs.example", false)), ("allow low", "host.allowed"));
        assert_eq!(word(&request("GET", "docs.example", true)), ("ask", WAY_OUT));
        assert_eq!(word(&request("HEAD", "secret.wild.example", false)), ("ask", WAY_OUT));
        // Without anything private to carry, the agent goes on reading.
        let blind = AgentDef { tools: vec![ToolName::HttpRequest], ..online() };
        let verdict = decide(&blind, &request("GET", "docs.example", true), true);
        assert_eq!(brief(&verdict).0, "allow low");
        let Verdict::Ask { reasons, .. } =
            decide(&online(), &request("POST", "docs.example", false), true)
        else {
            panic!("it asks");
        };
        assert!(reasons.iter().any(|r| r.contains("untrusted")), "{reasons:?}");
    }

    #[test]
    fn after_untrusted_content_a_request_keeps_to_its_host() {
        let keeps = |agent: &AgentDef, call: &CallFacts, tainted| match decide(agent, call, tainted)
        {
            Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => grant.same_host_only,
            Verdict::Deny { reason, .. } => panic!("{reason}"),
        };
        let blind = AgentDef { tools: vec![ToolName::HttpRequest], ..online() };
        // Unasked, and after a person has seen one destination.
        for call in [request("GET", "docs.example", false), request("GET", "docs.example", true)] {
            assert!(keeps(&online(), &call, true));
            assert!(!keeps(&online(), &call, false));
            assert!(!keeps(&blind, &call, true), "it has nothing to give away");
        }
    }

    #[test]
    fn after_untrusted_content_what_runs_unasked_runs_without_network() {
        let listed = exec(&["git", "status"]);
        let clean = decide(&online(), &listed, false);
        assert!(brief(&clean).0 == "allow low" && grants_hosts(&clean));
        let quiet = decide(&online(), &listed, true);
        assert_eq!(brief(&quiet), ("allow low", OFFLINE));
        assert!(!grants_hosts(&quiet));
        let wanted = decide(&online(), &with_network(listed.clone(), Some(true)), true);
        assert_eq!(brief(&wanted), ("ask", WAY_OUT));
        assert!(grants_hosts(&wanted));
        let Verdict::Ask { egress, .. } = wanted else { panic!("it asks") };
        assert_eq!(egress[..2], ["docs.example", "*.wild.example"]);
        let without = decide(&online(), &with_network(listed, Some(false)), false);
        assert!(brief(&without).0 == "allow low" && !grants_hosts(&without));
        // Whoever is asked anyway decides about the network too.
        let shell = decide(&online(), &facts(ToolName::Shell), true);
        assert_eq!(brief(&shell), ("ask", "shell.ask"));
        assert!(grants_hosts(&shell));
    }

    #[test]
    fn an_agent_without_hosts_is_told_so_and_gets_none() {
        let verdict = decide(&agent(), &with_network(exec(&["git"]), Some(true)), false);
        assert_eq!(brief(&verdict), ("deny", "host.not_allowed"));
        let verdict = decide(&agent(), &exec(&["git"]), true);
        assert_eq!(brief(&verdict), ("allow low", "command.listed"));
    }

    #[test]
    fn listed_commands_see_only_each_other() {
        let Verdict::Allow { grant, .. } = decide(&agent(), &exec(&["git"]), false) else {
            panic!("it is allowed");
        };
        let only = vec!["git".to_owned(), "/opt/tool".to_owned()];
        assert_eq!(grant.commands, CommandRule::Only(only));
        let Verdict::Ask { grant, .. } = decide(&agent(), &exec(&["make"]), false) else {
            panic!("it asks");
        };
        let and_make = ["git", "/opt/tool", "make"].map(str::to_owned).to_vec();
        assert_eq!(grant.commands, CommandRule::Only(and_make));
    }

    #[test]
    fn a_card_shows_a_bounded_list() {
        let rule = |n: u32| format!("h{n}.example").parse().unwrap();
        let hosts = HostPolicy { allow: (0..100).map(rule).collect(), deny: Vec::new() };
        let texts = texts(&hosts);
        assert_eq!(texts.len(), SHOWN_MAX + 2);
        assert_eq!(texts[SHOWN_MAX], "and 68 more rules");
    }

    #[test]
    fn a_card_changes_with_every_rule_shown_or_not() {
        let rule = |n: u32| format!("h{n}.example").parse().unwrap();
        let hosts = HostPolicy { allow: (0..100).map(rule).collect(), deny: vec![rule(100)] };
        let mut hidden = hosts.clone();
        hidden.allow[99] = rule(101);
        let open = HostPolicy { deny: Vec::new(), ..hosts.clone() };
        let moved = HostPolicy { allow: (0..101).map(rule).collect(), deny: Vec::new() };
        for other in [hidden, open, moved] {
            assert_ne!(texts(&hosts).last(), texts(&other).last());
        }
        assert_eq!(texts(&hosts), texts(&hosts.clone()));
        let nothing = HostPolicy { allow: Vec::new(), ..hosts };
        assert_eq!(texts(&nothing), Vec::<String>::new());
    }
}
