//! What host rules do to requests, programs and redirects.

use super::*;
use crate::domain::{Destination, HostVerdict};

fn online() -> AgentDef {
    let allow = ["a.example", "b.example", "*.wild.example"];
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    AgentDef { hosts: HostPolicy { allow, deny: Vec::new() }, ..agent() }
}

fn grant(policy: &Policy, facts: &CallFacts) -> crate::domain::Grant {
    let agent = online();
    let hosts = Arc::new(agent.hosts.clone());
    match super::super::decide(policy, &question(&agent, &hosts, facts, false)) {
        Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => grant,
        Verdict::Deny { reason, .. } => panic!("{reason}"),
    }
}

fn reaches(grant: &crate::domain::Grant, host: &str) -> bool {
    let host = HostName::parse(host).unwrap();
    matches!(grant.hosts.decide(&Destination::tunnel(&host, 443)), HostVerdict::Allow { .. })
}

#[test]
fn a_denied_host_is_denied_to_requests_by_every_spelling_of_a_rule() {
    for (rule, host, is_denied) in [
        ("\"a.example\"", "a.example", true),
        ("\"a.example\"", "b.example", false),
        ("\"*.wild.example\"", "x.wild.example", true),
        ("\"*.example\"", "a.example", true),
        ("\"*\"", "b.example", true),
        ("\"a.example:8443\"", "a.example", false),
        ("{ host = \"a.example\", methods = [\"GET\"] }", "a.example", true),
        ("{ host = \"a.example\", methods = [\"POST\"] }", "a.example", false),
        ("{ host = \"a.example\", path = \"/page\" }", "a.example", true),
        ("{ host = \"a.example\", path = \"/other\" }", "a.example", false),
    ] {
        let policy =
            policy(&format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\nhosts = [{rule}]"));
        let (outcome, name) = says(&policy, &online(), &request("GET", host, false));
        assert_eq!(
            (outcome == Outcome::Deny, name == "r"),
            (is_denied, is_denied),
            "{rule} {host}"
        );
    }
}

#[test]
fn programs_and_redirects_never_come_to_a_host_that_a_rule_denies_or_asks_about() {
    let policy = policy(
        "[[rule]]\nname = \"d\"\neffect = \"deny\"\nhosts = [\"a.example\"]\n\
         [[rule]]\nname = \"q\"\neffect = \"ask\"\nhosts = [\"x.wild.example\"]\n\
         [[rule]]\nname = \"o\"\neffect = \"deny\"\nhosts = [\"b.example\"]\nagents = [\"other\"]",
    );
    let program = grant(&policy, &exec(&["git", "fetch"]));
    let redirect = grant(&policy, &request("GET", "b.example", false));
    for grant in [program, redirect] {
        assert!(reaches(&grant, "b.example") && reaches(&grant, "y.wild.example"));
        assert!(!reaches(&grant, "a.example") && !reaches(&grant, "x.wild.example"));
    }
    // Who agreed to the request itself has agreed to this host, and to no other.
    let asked = grant(&policy, &request("GET", "x.wild.example", false));
    assert!(reaches(&asked, "x.wild.example") && !reaches(&asked, "a.example"));
    assert!(asked.same_host_only, "the card showed one host");
}

#[test]
fn a_card_shows_the_narrowed_hosts() {
    let agent = online();
    let hosts = Arc::new(agent.hosts.clone());
    let facts = exec(&["make"]);
    let egress = |policy: &Policy| match super::super::decide(
        policy,
        &question(&agent, &hosts, &facts, false),
    ) {
        Verdict::Ask { egress, .. } => egress,
        other => panic!("{other:?}"),
    };
    let open = egress(&Policy::builtin());
    let narrow =
        egress(&policy("[[rule]]\nname = \"d\"\neffect = \"deny\"\nhosts = [\"a.example\"]"));
    assert_ne!(open.last(), narrow.last(), "the mark covers what is denied");
}

#[test]
fn a_host_rule_narrows_the_programs_that_it_names() {
    let policy = policy(
        "[[rule]]\nname = \"d\"\neffect = \"deny\"\nhosts = [\"a.example\"]\n\
         command = [[\"git\"]]",
    );
    assert!(!reaches(&grant(&policy, &exec(&["git", "fetch"])), "a.example"));
    assert!(reaches(&grant(&policy, &exec(&["/opt/tool"])), "a.example"));
    assert!(reaches(&grant(&policy, &request("GET", "a.example", false)), "a.example"));
}
