//! What each command of the command line reaches: the routes that it calls, whose roles decide; or
//! the machine itself, where file permissions do. The test below holds the table to the commands
//! that there are and to the routes that there are.

use std::collections::BTreeSet;

use clap::CommandFactory;
use http::Method;

use super::args::Cli;
use crate::http::{admin, api};

/// What a command reaches.
enum Reach {
    /// The public API: the role of the token decides.
    Public(&'static [(&'static str, &'static str)]),
    /// The admin door: the kernel says who calls, and the role of the local operator decides.
    Admin(&'static [(&'static str, &'static str)]),
    /// Files of this machine, with the rights of who runs it.
    Local,
}

use Reach::{Admin, Local, Public};

const RUN: (&str, &str) = ("GET", "/api/v1/runs/{id}");
const EVENTS: (&str, &str) = ("GET", "/api/v1/runs/{id}/events");
const APPROVAL: (&str, &str) = ("GET", "/api/v1/approvals/{id}");
const DECIDE: (&str, &str) = ("POST", "/api/v1/approvals/{id}/decision");
const DECIDE_MANY: (&str, &str) = ("POST", "/api/v1/approvals/decisions");
const PRINCIPALS: (&str, &str) = ("GET", "/admin/v1/principals");
const POLICY: (&str, &str) = ("GET", "/admin/v1/policy");
const POLICY_VERSION: (&str, &str) = ("GET", "/admin/v1/policy/versions/{id}");
const BUDGETS: (&str, &str) = ("GET", "/admin/v1/budgets");
const RETENTION: (&str, &str) = ("GET", "/admin/v1/retention");
const ERASE: (&str, &str) = ("POST", "/admin/v1/principals/{id}/erase");
const ERASURE: (&str, &str) = ("GET", "/admin/v1/erasures/{id}");
const DOMAINS: (&str, &str) = ("GET", "/admin/v1/egress/domains");

/// Every command, and what it reaches.
const COMMANDS: &[(&str, Reach)] = &[
    ("serve", Local),
    ("demo", Local),
    ("init", Local),
    ("chat", Public(&[("POST", "/api/v1/runs"), RUN, EVENTS, APPROVAL, DECIDE])),
    ("run submit", Public(&[("POST", "/api/v1/runs"), RUN, EVENTS])),
    ("run list", Public(&[("GET", "/api/v1/runs")])),
    ("run show", Public(&[RUN])),
    ("run tail", Public(&[RUN, EVENTS])),
    ("run steer", Public(&[("POST", "/api/v1/runs/{id}/steer")])),
    ("run interrupt", Public(&[("POST", "/api/v1/runs/{id}/interrupt")])),
    ("run resume", Public(&[("POST", "/api/v1/runs/{id}/resume")])),
    ("run cancel", Public(&[("POST", "/api/v1/runs/{id}/cancel")])),
    ("run retry", Public(&[("POST", "/api/v1/runs/{id}/retry")])),
    ("approval list", Public(&[("GET", "/api/v1/approvals")])),
    ("approval show", Public(&[APPROVAL])),
    ("approval approve", Public(&[DECIDE, DECIDE_MANY])),
    ("approval deny", Public(&[DECIDE, DECIDE_MANY])),
    ("approval preview", Public(&[("POST", "/api/v1/approvals/{id}/pattern-preview")])),
    ("approval patterns", Public(&[("GET", "/api/v1/approval-patterns")])),
    ("approval revoke-pattern", Public(&[("DELETE", "/api/v1/approval-patterns/{id}")])),
    ("backup keygen", Local),
    ("backup create", Admin(&[("POST", "/admin/v1/backup"), ("GET", "/admin/v1/backup/{id}")])),
    ("backup verify", Local),
    ("backup restore", Local),
    ("backup drill", Local),
    ("backup list", Local),
    ("migrate", Local),
    ("audit verify", Local),
    ("audit query", Local),
    ("audit export", Local),
    ("audit checkpoint", Admin(&[("POST", "/admin/v1/audit/checkpoint")])),
    ("secret set", Admin(&[("POST", "/admin/v1/secrets")])),
    ("secret list", Admin(&[("GET", "/admin/v1/secrets")])),
    ("secret remove", Admin(&[("DELETE", "/admin/v1/secrets/{id}")])),
    ("secret rotate-key", Admin(&[("POST", "/admin/v1/secrets/rewrap")])),
    ("secret reload", Admin(&[("POST", "/admin/v1/reload")])),
    ("egress list", Admin(&[DOMAINS])),
    ("egress add", Admin(&[("POST", "/admin/v1/egress/domains")])),
    ("egress remove", Admin(&[DOMAINS, ("DELETE", "/admin/v1/egress/domains/{id}")])),
    ("egress test", Admin(&[("POST", "/admin/v1/egress/test")])),
    ("budget show", Admin(&[BUDGETS])),
    ("budget set", Admin(&[BUDGETS, ("PUT", "/admin/v1/budgets")])),
    ("budget clear", Admin(&[("DELETE", "/admin/v1/budgets")])),
    ("usage", Public(&[("GET", "/api/v1/usage")])),
    ("policy validate", Local),
    ("policy test", Local),
    ("policy show", Admin(&[POLICY, POLICY_VERSION])),
    ("policy put", Admin(&[("PUT", "/admin/v1/policy")])),
    ("policy versions", Admin(&[("GET", "/admin/v1/policy/versions")])),
    ("policy activate", Admin(&[("POST", "/admin/v1/policy/activate")])),
    ("policy explain", Admin(&[("POST", "/admin/v1/policy/explain")])),
    ("policy replay", Admin(&[("POST", "/admin/v1/policy/replay")])),
    ("capability list", Admin(&[("GET", "/admin/v1/capabilities")])),
    ("capability show", Admin(&[("GET", "/admin/v1/capabilities/{id}")])),
    ("capability revoke", Admin(&[("POST", "/admin/v1/capabilities/{id}/revoke")])),
    ("lockdown on", Admin(&[("POST", "/admin/v1/lockdown")])),
    ("lockdown status", Admin(&[("GET", "/admin/v1/lockdown")])),
    ("lockdown off", Admin(&[("DELETE", "/admin/v1/lockdown")])),
    ("principal list", Admin(&[PRINCIPALS])),
    ("principal show", Admin(&[PRINCIPALS, ("GET", "/admin/v1/principals/{id}")])),
    ("principal create", Admin(&[("POST", "/admin/v1/principals")])),
    ("principal update", Admin(&[PRINCIPALS, ("PATCH", "/admin/v1/principals/{id}")])),
    ("principal disable", Admin(&[PRINCIPALS, ("POST", "/admin/v1/principals/{id}/disable")])),
    ("principal enable", Admin(&[PRINCIPALS, ("POST", "/admin/v1/principals/{id}/enable")])),
    ("principal stale", Admin(&[("GET", "/admin/v1/principals/stale")])),
    ("token create", Admin(&[("POST", "/admin/v1/tokens")])),
    ("token list", Admin(&[PRINCIPALS, ("GET", "/admin/v1/tokens")])),
    ("token revoke", Admin(&[("DELETE", "/admin/v1/tokens/{id}")])),
    ("pair request", Admin(&[("POST", "/admin/v1/pairings")])),
    ("pair list", Admin(&[("GET", "/admin/v1/pairings")])),
    ("pair approve", Admin(&[("POST", "/admin/v1/pairings/approve")])),
    ("pair deny", Admin(&[("POST", "/admin/v1/pairings/{id}/deny")])),
    ("link list", Admin(&[("GET", "/admin/v1/links")])),
    ("link resolve", Admin(&[("GET", "/admin/v1/links/resolve")])),
    ("link revoke", Admin(&[("DELETE", "/admin/v1/links/{id}")])),
    ("retention show", Admin(&[RETENTION])),
    ("retention set", Admin(&[("PUT", "/admin/v1/retention")])),
    ("retention run", Admin(&[("POST", "/admin/v1/retention/run")])),
    ("retention hold", Admin(&[PRINCIPALS, ("POST", "/admin/v1/retention/holds")])),
    ("retention lift", Admin(&[PRINCIPALS, ("DELETE", "/admin/v1/retention/holds")])),
    ("erase", Admin(&[PRINCIPALS, ERASE, ERASURE, ("GET", "/admin/v1/erasures")])),
    ("export", Admin(&[PRINCIPALS, ("GET", "/admin/v1/principals/{id}/export")])),
    ("config show", Local),
    ("config check", Local),
    ("doctor", Local),
    ("health", Public(&[("GET", "/readyz")])),
    ("version", Local),
];

/// The commands that do something, by their words.
fn leaves(command: &clap::Command, words: &str, found: &mut BTreeSet<String>) {
    let subs: Vec<&clap::Command> =
        command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    if subs.is_empty() {
        found.insert(words.to_owned());
    }
    for sub in subs {
        leaves(sub, format!("{words} {}", sub.get_name()).trim(), found);
    }
}

fn has(routes: &[(Method, &str)], (method, path): &(&str, &str)) -> bool {
    routes.iter().any(|(m, p)| m.as_str() == *method && p == path)
}

#[test]
fn every_command_says_what_it_reaches_and_reaches_only_what_a_role_decides() {
    let mut found = BTreeSet::new();
    leaves(&Cli::command(), "", &mut found);
    let listed: BTreeSet<String> = COMMANDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed.len(), COMMANDS.len(), "a command is listed twice");
    assert_eq!(found, listed, "a command is missing from the table, or one in it is gone");
    for (name, reach) in COMMANDS {
        let (used, routes) = match reach {
            Public(used) => (used, api::ROUTES),
            Admin(used) => (used, admin::ROUTES),
            Local => continue,
        };
        assert!(!used.is_empty(), "{name} reaches nothing");
        for route in *used {
            assert!(has(routes, route), "{name}: there is no {route:?}");
        }
    }
}

/// Routes of the admin door that no command uses, because other commands show the same.
const WITHOUT_COMMAND: &[(&str, &str)] = &[
    // `audit` reads the data directory: it works without a daemon too.
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/audit/export"),
    ("GET", "/admin/v1/audit/verify"),
    // `backup list` and `verify` read the directory and the store: they work without a daemon too.
    ("GET", "/admin/v1/backup"),
    ("POST", "/admin/v1/backup/{id}/verify"),
    // `health` asks the public probe, which names what is not well; this one is for dashboards.
    ("GET", "/admin/v1/health"),
    ("GET", "/admin/v1/replicas"),
    ("GET", "/admin/v1/sandbox"),
    ("POST", "/admin/v1/pairings/{id}/approve"),
    ("POST", "/admin/v1/policy/validate"),
];

#[test]
fn what_administrators_can_do_they_can_do_from_the_command_line() {
    let used: BTreeSet<&(&str, &str)> = COMMANDS
        .iter()
        .filter_map(|(_, reach)| match reach {
            Admin(used) => Some(used.iter()),
            Public(_) | Local => None,
        })
        .flatten()
        .chain(WITHOUT_COMMAND)
        .collect();
    for (method, path) in admin::ROUTES {
        assert!(used.contains(&(method.as_str(), *path)), "no command uses {method} {path}");
    }
}
