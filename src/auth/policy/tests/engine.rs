//! What single rules do to verdicts.

use super::*;

fn with_hosts(rules: &[&str]) -> AgentDef {
    let allow = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    AgentDef { hosts: HostPolicy { allow, deny: Vec::new() }, ..agent() }
}

fn script(text: &str) -> CallFacts {
    CallFacts { script: Some(text.to_owned()), ..facts(ToolName::Shell) }
}

fn ruled(name: &str, outcome: Outcome) -> (Outcome, String) {
    (outcome, name.to_owned())
}

#[test]
fn a_rule_is_about_a_call_when_all_its_matchers_are() {
    let text = |extra: &str| {
        format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\ntools = [\"exec\"]\n{extra}\n")
    };
    for (extra, is_about) in [
        ("", true),
        ("agents = [\"default\", \"other\"]", true),
        ("agents = [\"*\"]", true),
        ("agents = [\"other\"]", false),
        ("roles = [\"member\"]", true),
        ("roles = [\"admin\", \"viewer\"]", false),
        ("channels = [\"api\"]", true),
        ("channels = [\"admin\", \"conv_01890000-0000-7000-8000-000000000000\"]", false),
        ("risk = \"low\"", true),
        ("risk = \"medium\"", false),
        ("tainted = false", true),
        ("tainted = true", false),
        ("command = [[\"git\"]]", true),
        ("command = [[\"git\", \"push\"], [\"git\", [\"log\", \"status\"]]]", true),
        ("command = [[\"git\", \"push\"]]", false),
        ("command = [[\"*\", \"status\"]]", true),
        ("command = [[\"git\"]]\nroles = [\"admin\"]", false),
        ("paths = [\"**\"]", true),
        ("paths = [\"/etc/**\"]", false),
    ] {
        let policy = policy(&text(extra));
        let paths = vec![PathUse { path: ".".to_owned(), is_write: false }];
        let call = CallFacts { paths, ..exec(&["git", "status"]) };
        let (outcome, rule) = says(&policy, &agent(), &call);
        assert_eq!((outcome == Outcome::Deny, rule == "r"), (is_about, is_about), "{extra}");
    }
}

#[test]
fn the_conversation_is_a_channel_too() {
    let id = "conv_01890000-0000-7000-8000-000000000000";
    let text = format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\nchannels = [\"{id}\"]");
    let (agent, facts) = (agent(), exec(&["git"]));
    let hosts = Arc::default();
    let ask = |conversation: Option<&str>| {
        let conversation = conversation.map(|id| id.parse().unwrap());
        let question = Question { conversation, ..question(&agent, &hosts, &facts, false) };
        super::super::decide(&policy(&text), &question).outcome()
    };
    assert_eq!(ask(Some(id)), Outcome::Deny);
    assert_eq!(ask(Some("conv_01890000-0000-7000-8000-000000000001")), Outcome::Allow);
    assert_eq!(ask(None), Outcome::Allow);
}

#[test]
fn deny_beats_ask_beats_allow() {
    let allow = "[[rule]]\nname = \"a\"\neffect = \"allow\"\ncommand = [[\"make\"]]\n";
    let ask = "[[rule]]\nname = \"b\"\neffect = \"ask\"\ncommand = [[\"make\"]]\n";
    let deny = "[[rule]]\nname = \"c\"\neffect = \"deny\"\ncommand = [[\"make\"]]\n";
    let make = exec(&["make", "test"]);
    for (rules, wanted) in [
        (vec![], ruled("command.not_listed", Outcome::Ask)),
        (vec![allow], ruled("a", Outcome::Allow)),
        (vec![ask, allow], ruled("command.not_listed", Outcome::Ask)),
        (vec![allow, deny], ruled("c", Outcome::Deny)),
        (vec![ask, deny, allow], ruled("c", Outcome::Deny)),
    ] {
        assert_eq!(says(&policy(&rules.concat()), &agent(), &make), wanted, "{rules:?}");
    }
}

#[test]
fn of_several_rules_that_deny_the_name_decides_and_not_the_order() {
    let rule = |name: &str| format!("[[rule]]\nname = \"{name}\"\neffect = \"deny\"\n");
    for (first, second) in [("x", "a"), ("a", "x")] {
        let policy = policy(&(rule(first) + &rule(second)));
        assert_eq!(says(&policy, &agent(), &exec(&["git"])), ruled("a", Outcome::Deny));
    }
}

#[test]
fn an_allowed_program_runs_in_a_view_that_holds_it_and_the_listed_ones() {
    let policy =
        policy("[[rule]]\nname = \"m\"\neffect = \"allow\"\ncommand = [[\"make\", \"test\"]]");
    let (agent, hosts) = (agent(), Arc::default());
    let facts = exec(&["make", "test", "-j2"]);
    let verdict = super::super::decide(&policy, &question(&agent, &hosts, &facts, false));
    let Verdict::Allow { grant, risk, rule, layer } = verdict else { panic!("not allowed") };
    assert_eq!((risk, rule.as_str(), layer), (Risk::Low, "m", Layer::Rules));
    assert_eq!(grant.commands, only(&["git", "/opt/tool", "make"]));
    // Other arguments, the same name elsewhere, and variables still ask.
    for other in [exec(&["make", "install"]), exec(&["./make", "test"]), exec(&["make"])] {
        assert_eq!(says(&policy, &agent, &other).0, Outcome::Ask, "{:?}", other.argv);
    }
    let with_env = CallFacts { sets_env: true, ..facts };
    assert_eq!(says(&policy, &agent, &with_env), ruled("command.env", Outcome::Ask));
}

#[test]
fn an_allowed_program_of_a_tainted_run_gets_no_network_unasked() {
    let policy = policy("[[rule]]\nname = \"m\"\neffect = \"allow\"\ncommand = [[\"make\"]]");
    let agent = with_hosts(&["docs.example"]);
    let hosts = Arc::new(agent.hosts.clone());
    let ask = |network, tainted| {
        let facts = CallFacts { network, ..exec(&["make"]) };
        super::super::decide(&policy, &question(&agent, &hosts, &facts, tainted))
    };
    assert_eq!(ask(Some(true), false).rule(), &"m");
    assert_eq!(brief(&ask(None, true)), ("allow low", OFFLINE));
    // The run's capability lists what the definition lists; a rule is known by its layer.
    assert_eq!(ask(None, true).layer(), Layer::Rules);
    assert_eq!(brief(&ask(Some(true), true)), ("ask", "taint.way_out"));
}

#[test]
fn no_rule_lets_a_script_run_unasked() {
    // Such a rule cannot even be written: it would allow nothing.
    let text = "version = 1\n[[rule]]\nname = \"r\"\neffect = \"allow\"\ntools = [\"shell\"]";
    assert!(Policy::parse(text).is_err());
    let policy = policy("[[rule]]\nname = \"m\"\neffect = \"allow\"\ncommand = [[\"sh\"]]");
    assert_eq!(says(&policy, &agent(), &script("true")), ruled("shell.ask", Outcome::Ask));
}

#[test]
fn a_method_is_allowed_where_rule_and_definition_both_list_the_host() {
    let policy = policy(
        "[[rule]]\nname = \"p\"\neffect = \"allow\"\nhosts = [{ host = \"api.example\", \
         methods = [\"POST\"], path = \"/page\" }, \"evil.example methods=POST\"]",
    );
    let agent = with_hosts(&["api.example", "docs.example"]);
    let ask = |call: &CallFacts| says(&policy, &agent, call);
    assert_eq!(ask(&request("POST", "api.example", true)), ruled("p", Outcome::Allow));
    assert_eq!(ask(&request("PUT", "api.example", true)), ruled("http.method", Outcome::Ask));
    assert_eq!(ask(&request("POST", "docs.example", true)), ruled("http.method", Outcome::Ask));
    assert_eq!(
        ask(&request("POST", "evil.example", true)),
        ruled("host.not_allowed", Outcome::Deny)
    );
    let mut elsewhere = request("POST", "api.example", true);
    elsewhere.request.as_mut().unwrap().path = "/other".to_owned();
    assert_eq!(ask(&elsewhere), ruled("http.method", Outcome::Ask));
    // A redirect must not carry the method to another host.
    let (hosts, facts) = (Arc::new(agent.hosts.clone()), request("POST", "api.example", true));
    let verdict = super::super::decide(&policy, &question(&agent, &hosts, &facts, false));
    let Verdict::Allow { grant, .. } = verdict else { panic!("not allowed") };
    assert!(grant.same_host_only);
    // After untrusted content the method alone is a way out.
    let verdict = super::super::decide(&policy, &question(&agent, &hosts, &facts, true));
    assert_eq!(brief(&verdict), ("ask", "taint.way_out"));
}

#[test]
fn rules_that_ask_raise_risk_role_and_number_and_never_lower_them() {
    let text = "[[rule]]\nname = \"two\"\neffect = \"ask\"\ntools = [\"write_file\", \"shell\"]\n\
                quorum = 2\nrequire_role = \"operator\"\nreason = \"first\"\n\
                [[rule]]\nname = \"risky\"\neffect = \"ask\"\ntools = [\"write_file\"]\n\
                set_risk = \"medium\"\nrequire_role = \"overlord\"\n";
    let policy = policy(text);
    let (agent, hosts) = (agent(), Arc::default());
    let ask = |facts: &CallFacts, tainted| match super::super::decide(
        &policy,
        &question(&agent, &hosts, facts, tainted),
    ) {
        Verdict::Ask { risk, required_role, quorum, reasons, rule, .. } => {
            (risk, required_role, quorum, reasons, rule.to_string())
        }
        other => panic!("{other:?}"),
    };
    let (risk, role, quorum, reasons, by) = ask(&file(ToolName::WriteFile, "a"), true);
    assert_eq!((risk, role, quorum, by.as_str()), (Risk::Medium, Role::Overlord, 2, "risky"));
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("untrusted") && reasons[1].contains("`risky`"), "{reasons:?}");
    assert_eq!(reasons[2], "first");
    // A script is of high risk and an admin's, whatever a rule says.
    let (risk, role, quorum, reasons, by) = ask(&script("true"), false);
    assert_eq!((risk, role, quorum, by.as_str()), (Risk::High, Role::Admin, 2, "shell.ask"));
    assert_eq!(reasons.len(), 2);
}

#[test]
fn whoever_is_asked_by_a_rule_sees_and_decides_the_network_too() {
    let policy = policy("[[rule]]\nname = \"r\"\neffect = \"ask\"\ntools = [\"exec\"]");
    let agent = with_hosts(&["docs.example"]);
    let hosts = Arc::new(agent.hosts.clone());
    for tainted in [false, true] {
        let facts = exec(&["git", "fetch"]);
        let verdict = super::super::decide(&policy, &question(&agent, &hosts, &facts, tainted));
        let Verdict::Ask { grant, egress, .. } = verdict else { panic!("not asked") };
        assert!(!grant.hosts.is_empty(), "tainted {tainted}");
        assert_eq!(egress[0], "docs.example");
    }
}

#[test]
fn paths_are_compared_where_they_lead_and_cover_what_lies_below() {
    let deny = |paths: &str| {
        policy(&format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\npaths = {paths}"))
    };
    let is_denied = |policy: &Policy, tool, path: &str| {
        says(policy, &agent(), &file(tool, path)) == ruled("r", Outcome::Deny)
    };
    for (paths, yes, no) in [
        (
            "[\"secrets\"]",
            &["secrets", "secrets/a", "x/../secrets/a", "./secrets//b"][..],
            &["a/secrets", "secretsx"][..],
        ),
        ("[\"**/*.pem\"]", &["a.pem", "a/b/c.pem", "d.pem/x"], &["a.pemx", "pem"]),
        ("[\"src/*.rs\"]", &["src/a.rs"], &["src/a/b.rs", "src", "a.rs"]),
        ("[\"src/**\"]", &["src/a", "src/a/b"], &["src", "srcs/a"]),
        ("[\"{a,b}/c\"]", &["a/c", "b/c/d"], &["c", "ab/c"]),
        ("[\".\"]", &["a", ".", "a/b"], &["/srv/docs/a"]),
        (
            "[\"/srv/docs\"]",
            &["/srv/docs", "/srv/docs/a", "/srv/shared/../docs/a"],
            &["docs", "/srv/shared/a"],
        ),
        ("[\"/srv/data/workspaces/default/a\"]", &["a", "a/b"], &["b"]),
        ("[\"/**\"]", &["a", "/srv/docs/x", "."], &[]),
    ] {
        let policy = deny(paths);
        for path in yes {
            assert!(is_denied(&policy, ToolName::ReadFile, path), "{paths} and {path}");
        }
        for path in no {
            assert!(!is_denied(&policy, ToolName::ReadFile, path), "{paths} and {path}");
        }
    }
}

#[test]
fn a_search_reads_everything_below_and_is_judged_by_it() {
    let policy = policy(
        "[[rule]]\nname = \"r\"\neffect = \"deny\"\npaths = [\"secrets/keys\", \"/srv/docs/hr/**\"]",
    );
    let search = |path: &str| says(&policy, &agent(), &file(ToolName::SearchFiles, path)).0;
    for around in [".", "secrets", "secrets/keys", "secrets/keys/a", "/srv/docs", "/srv/docs/hr"] {
        assert_eq!(search(around), Outcome::Deny, "{around}");
    }
    for beside in ["src", "secrets/other", "/srv/shared", "/srv/docs/it"] {
        assert_eq!(search(beside), Outcome::Allow, "{beside}");
    }
    // From above the workspace too.
    let above = AgentDef {
        allowed_paths: vec![PathRule { path: "/srv".into(), access: Access::Ro }],
        ..agent()
    };
    let found = says(&policy, &above, &file(ToolName::SearchFiles, "/srv/data")).0;
    assert_eq!(found, Outcome::Deny);
    // Listing the names of one directory is not going through what lies below; of all of them is.
    let list = file(ToolName::ListFiles, "secrets");
    assert_eq!(says(&policy, &agent(), &list).0, Outcome::Allow);
    let all = CallFacts { is_tree: true, ..list };
    assert_eq!(says(&policy, &agent(), &all).0, Outcome::Deny);
}

#[test]
fn access_tells_reading_from_writing() {
    let policy = policy(
        "[[rule]]\nname = \"w\"\neffect = \"deny\"\npaths = [\"a\"]\naccess = \"write\"\n\
         [[rule]]\nname = \"r\"\neffect = \"deny\"\npaths = [\"b\"]\naccess = \"read\"",
    );
    let ask = |tool, path| says(&policy, &agent(), &file(tool, path)).0;
    assert_eq!(ask(ToolName::WriteFile, "a/x"), Outcome::Deny);
    assert_eq!(ask(ToolName::ReadFile, "a/x"), Outcome::Allow);
    assert_eq!(ask(ToolName::WriteFile, "b/x"), Outcome::Allow);
    assert_eq!(ask(ToolName::ReadFile, "b/x"), Outcome::Deny);
}

#[test]
fn an_allowing_rule_with_paths_wants_every_path_of_the_call() {
    let policy = policy(
        "[[rule]]\nname = \"m\"\neffect = \"allow\"\ncommand = [[\"make\"]]\npaths = [\"build\"]",
    );
    let within = |paths: &[&str]| {
        let paths = paths.iter().map(|&p| PathUse { path: p.to_owned(), is_write: false });
        let call = CallFacts { paths: paths.collect(), ..exec(&["make"]) };
        says(&policy, &agent(), &call).0
    };
    assert_eq!(within(&["build/x"]), Outcome::Allow);
    assert_eq!(within(&["build", "src"]), Outcome::Ask);
    assert_eq!(within(&["."]), Outcome::Ask);
    assert_eq!(within(&[]), Outcome::Ask, "nothing is not every path");
}

#[test]
fn deny_patterns_deny_what_the_definition_and_the_rules_let_through() {
    let open = AgentDef { allowed_commands: vec!["*".to_owned()], ..agent() };
    let usual = Policy::builtin();
    assert_eq!(says(&usual, &open, &exec(&["reboot"])), ruled("deny.reboot", Outcome::Deny));
    assert_eq!(says(&usual, &open, &script("a | sudo b")), ruled("deny.sudo", Outcome::Deny));
    let allowed = policy("[[rule]]\nname = \"r\"\neffect = \"allow\"\ncommand = [[\"reboot\"]]");
    assert_eq!(says(&allowed, &agent(), &exec(&["reboot"])).0, Outcome::Deny, "deny wins");
    let off = policy("deny_patterns = false");
    assert_eq!(says(&off, &open, &exec(&["reboot"])).0, Outcome::Allow);
    let one_off = policy("disabled_deny_patterns = [\"reboot\"]");
    assert_eq!(says(&one_off, &open, &exec(&["reboot"])).0, Outcome::Allow);
    assert_eq!(says(&one_off, &open, &exec(&["sudo", "id"])).0, Outcome::Deny);
    let own = policy(
        "deny_patterns = false\ncustom_deny_patterns = [\"prod-db\", { name = \"pay\", pattern = \
         \"{CMD}pay(?: |$)\", reason = \"it spends money\", match = [\"a; pay 1\"], not_match = \
         [\"repay\"] }]",
    );
    assert_eq!(
        says(&own, &open, &exec(&["psql", "prod-db"])),
        ruled("deny.custom-1", Outcome::Deny)
    );
    assert_eq!(says(&own, &open, &exec(&["pay", "1"])), ruled("deny.pay", Outcome::Deny));
}

#[test]
fn an_explanation_names_rules_layers_and_the_next_step() {
    let text = "[[rule]]\nname = \"no-push\"\neffect = \"deny\"\ncommand = [[\"git\", \"push\"]]\n\
                [[rule]]\nname = \"others\"\neffect = \"deny\"\nagents = [\"other\"]\n";
    let policy = policy(text);
    let (agent, hosts) = (agent(), Arc::default());
    let of = |facts: &CallFacts| explain(&policy, &question(&agent, &hosts, facts, false));
    let denied = of(&exec(&["git", "push"]));
    assert_eq!((denied.verdict, denied.rule.as_str()), (Outcome::Deny, "no-push"));
    assert!(denied.change.contains("`no-push`"), "{}", denied.change);
    let words: Vec<_> =
        denied.steps.iter().map(|s| (s.rule.as_str(), s.outcome, s.decided)).collect();
    let listed = ("command.listed", StepOutcome::Allow, false);
    assert_eq!(words, [listed, ("no-push", StepOutcome::Deny, true)]);
    assert_eq!(denied.other_rules, 1);
    let allowed = of(&exec(&["git", "log"]));
    assert_eq!(allowed.steps[1].outcome, StepOutcome::NotMatched);
    assert!(allowed.steps[0].decided && allowed.change.contains("exec"), "{allowed:?}");
    let outside = of(&file(ToolName::ReadFile, "/etc/passwd"));
    assert!(outside.change.contains("allowed_paths"), "{}", outside.change);
    let unlisted = of(&exec(&["make"]));
    assert!(unlisted.change.contains("allowed_commands"), "{}", unlisted.change);
    let pattern = of(&script("reboot"));
    assert!(pattern.change.contains("disabled_deny_patterns"), "{}", pattern.change);
    assert_eq!(pattern.steps.last().unwrap().layer, Layer::DenyPatterns);
}
