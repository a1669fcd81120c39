//! What holds for any rules and any call.

use super::{
    super::{
        builtin::{self, Said},
        decide::weigh,
        rule::View,
    },
    *,
};
use crate::domain::Grant;

/// One rule as text, without its header: matchers drawn from few words, so that they meet.
fn matchers() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("agents = [\"default\"]"),
        Just("agents = [\"other\", \"default\"]"),
        Just("agents = [\"other\"]"),
        Just("roles = [\"member\"]"),
        Just("roles = [\"admin\"]"),
        Just("channels = [\"api\"]"),
        Just("channels = [\"admin\"]"),
        Just("risk = \"medium\""),
        Just("risk = \"high\""),
        Just("tainted = true"),
        Just("tainted = false"),
    ];
    proptest::collection::btree_set(line, 0..4).prop_map(|lines| {
        // Of two lines about the same key the first stays.
        let mut keys = Vec::new();
        let mut text = String::new();
        for line in lines {
            let key = line.split(' ').next().unwrap_or_default();
            if !keys.contains(&key) {
                keys.push(key);
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    })
}

/// What a rule names, fit for its effect.
fn named(effect: &'static str) -> impl Strategy<Value = &'static str> {
    let command = prop_oneof![
        Just("command = [[\"make\"]]"),
        Just("command = [[\"git\", [\"push\", \"log\"]], [\"make\", \"x\"]]"),
        Just("command = [[[\"curl\", \"./git\", \"/opt/tool\"]]]"),
    ];
    if effect == "allow" {
        let hosts = prop_oneof![
            Just("hosts = [\"a.example methods=POST\"]"),
            Just("hosts = [\"* methods=POST,PUT\"]"),
            Just("hosts = [\"*.example methods=DELETE,GET path=/page\"]"),
        ];
        prop_oneof![command, hosts].boxed()
    } else {
        let other = prop_oneof![
            Just(""),
            Just("command = [[\"*\", \"push\"]]"),
            Just("hosts = [\"a.example\"]"),
            Just("hosts = [\"*.wild.example\", \"b.example:8443\"]"),
            Just("hosts = [\"*\"]"),
            Just("paths = [\"src/**\", \"/srv/docs\"]"),
            Just("paths = [\"**/*.pem\"]\naccess = \"write\""),
            Just("paths = [\".\"]"),
            Just("tools = [\"write_file\", \"exec\"]"),
            Just("tools = [\"shell\", \"http_request\", \"search_files\"]"),
        ];
        prop_oneof![command, other].boxed()
    }
}

fn rule_of(effect: &'static str) -> BoxedStrategy<String> {
    let extra = if effect == "ask" {
        prop_oneof![
            Just(""),
            Just("quorum = 2\n"),
            Just("set_risk = \"high\"\nrequire_role = \"overlord\"\n")
        ]
        .boxed()
    } else {
        Just("").boxed()
    };
    (matchers(), named(effect), extra)
        .prop_map(move |(about, named, extra)| {
            format!("effect = \"{effect}\"\n{about}{named}\n{extra}")
        })
        .boxed()
}

fn any_rule() -> BoxedStrategy<String> {
    prop_oneof![rule_of("deny"), rule_of("ask"), rule_of("allow")].boxed()
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(any_rule(), 0..8).prop_map(|rules| {
        let named = |(n, rule)| format!("[[rule]]\nname = \"r{n}\"\n{rule}");
        rules.into_iter().enumerate().map(named).collect()
    })
}

fn any_facts() -> impl Strategy<Value = CallFacts> {
    let path = prop_oneof![
        Just("src/a.rs"),
        Just("a.pem"),
        Just("."),
        Just("/srv/docs/x"),
        Just("/srv/shared/k.pem"),
        Just("/etc/passwd"),
        Just("src/../b"),
    ];
    let word = prop_oneof![
        Just("git"),
        Just("/bin/git"),
        Just("./git"),
        Just("make"),
        Just("push"),
        Just("log"),
        Just("x"),
        Just("curl"),
        Just("sudo"),
        Just("")
    ];
    let host = prop_oneof![
        Just("a.example"),
        Just("b.example"),
        Just("x.wild.example"),
        Just("evil.example")
    ];
    let method = prop_oneof![Just("GET"), Just("POST"), Just("DELETE")];
    let tool = proptest::sample::select(ToolName::ALL);
    let argv = proptest::collection::vec(word, 0..4);
    let network = prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    (tool, argv, path, (host, method), network, any::<(bool, bool)>()).prop_map(
        |(tool, argv, path, (host, method), network, (sets_env, carries_data))| match tool {
            ToolName::Exec => CallFacts {
                network,
                sets_env,
                paths: vec![PathUse { path: path.to_owned(), is_write: false }],
                ..exec(&argv)
            },
            ToolName::Shell => {
                CallFacts { network, script: Some(argv.join(" ")), ..facts(ToolName::Shell) }
            }
            ToolName::HttpRequest => request(method, host, carries_data),
            ToolName::AskUser => facts(tool),
            ToolName::ListFiles => CallFacts { is_tree: sets_env, ..file(tool, path) },
            _ => file(tool, path),
        },
    )
}

/// Two agents, of which one may do little.
fn any_agent() -> impl Strategy<Value = AgentDef> {
    let allow: Vec<_> =
        ["a.example", "b.example", "*.wild.example"].iter().map(|r| r.parse().unwrap()).collect();
    let online = AgentDef { hosts: HostPolicy { allow, deny: Vec::new() }, ..agent() };
    let any = AgentDef { allowed_commands: vec!["*".to_owned()], ..online.clone() };
    let blind = AgentDef { tools: vec![ToolName::HttpRequest, ToolName::Exec], ..online.clone() };
    let offline = agent();
    proptest::sample::select(vec![online, any, blind, offline])
}

#[derive(Clone, Debug)]
struct Asked {
    agent: AgentDef,
    hosts: Arc<HostPolicy>,
    facts: CallFacts,
    tainted: bool,
    role: Role,
    surface: Surface,
}

impl Asked {
    fn question(&self) -> Question<'_> {
        let Self { agent, hosts, facts, tainted, role, surface } = self;
        Question {
            agent,
            hosts,
            facts,
            tainted: *tainted,
            role: *role,
            surface: *surface,
            conversation: None,
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let role = proptest::sample::select(&Role::ALL[..]);
    let surface = proptest::sample::select(&Surface::ALL[..]);
    (any_agent(), any_facts(), any::<bool>(), role, surface).prop_map(
        |(agent, facts, tainted, role, surface)| {
            let hosts = Arc::new(agent.hosts.clone());
            Asked { agent, hosts, facts, tainted, role, surface }
        },
    )
}

fn of(rules: &[String]) -> Policy {
    policy(&rules.concat())
}

fn grant_of(verdict: &Verdict) -> Option<&Grant> {
    match verdict {
        Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => Some(grant),
        Verdict::Deny { .. } => None,
    }
}

/// Whether a grant holds nothing that another does not hold.
fn is_within(inner: &Grant, outer: &Grant) -> bool {
    let no_wider_hosts = inner.hosts.allow.is_empty()
        || (inner.hosts.allow == outer.hosts.allow
            && outer.hosts.deny.iter().all(|rule| inner.hosts.deny.contains(rule)));
    let programs = match (&inner.commands, &outer.commands) {
        (_, CommandRule::Any) | (CommandRule::None, _) => true,
        (CommandRule::Only(inner), CommandRule::Only(outer)) => {
            inner.iter().all(|program| outer.contains(program))
        }
        _ => false,
    };
    no_wider_hosts
        && programs
        && inner.paths == outer.paths
        && inner.workspace == outer.workspace
        && inner.limits == outer.limits
        && inner.egress == outer.egress
        && (!inner.may_execute_files || outer.may_execute_files)
        && (inner.same_host_only || !outer.same_host_only)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_rule_that_denies_a_call_always_wins(rules in rules(), asked in asked()) {
        let policy = of(&rules);
        let question = asked.question();
        let view = View::of(&question, match builtin::judge(&question, Said::default()) {
            Verdict::Allow { risk, .. } | Verdict::Ask { risk, .. } => risk,
            Verdict::Deny { .. } => Risk::Low,
        });
        let denies = policy
            .every_rule()
            .any(|rule| rule.effect == Outcome::Deny && rule.mismatch(&view).is_none());
        if denies {
            prop_assert_eq!(super::super::decide(&policy, &question).outcome(), Outcome::Deny);
        }
    }

    #[test]
    fn the_index_finds_every_rule_that_is_about_a_call(rules in rules(), asked in asked()) {
        let policy = of(&rules);
        let question = asked.question();
        for risk in Risk::ALL {
            let view = View::of(&question, *risk);
            let about = |rule: &&super::super::rule::Rule| rule.mismatch(&view).is_none();
            let found: Vec<_> = policy.candidates(&view).filter(about).map(|r| &r.name).collect();
            let all: Vec<_> = policy.every_rule().filter(about).map(|r| &r.name).collect();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn one_more_rule_that_denies_or_asks_never_widens(
        rules in rules(),
        more in prop_oneof![rule_of("deny"), rule_of("ask")],
        asked in asked(),
    ) {
        let question = asked.question();
        let before = super::super::decide(&of(&rules), &question);
        let mut stricter = rules.clone();
        stricter.push(format!("[[rule]]\nname = \"more\"\n{more}"));
        let after = super::super::decide(&of(&stricter), &question);
        prop_assert!(after.outcome() >= before.outcome(), "{:?} after {:?}", after, before);
        // A person who is asked decides about the network too: only there may a grant grow.
        if after.outcome() == before.outcome()
            && let (Some(inner), Some(outer)) = (grant_of(&after), grant_of(&before))
        {
            prop_assert!(is_within(inner, outer), "{:?} after {:?}", inner, outer);
        }
    }

    #[test]
    fn the_order_of_rules_does_not_matter(
        (rules, mixed) in rules().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
        asked in asked(),
    ) {
        let question = asked.question();
        prop_assert_eq!(
            super::super::decide(&of(&rules), &question),
            super::super::decide(&of(&mixed), &question)
        );
    }

    #[test]
    fn no_policy_grants_beyond_the_definition(rules in rules(), asked in asked()) {
        let question = asked.question();
        let own = builtin::judge(&question, Said::default());
        let widest = builtin::judge(&question, Said { is_asked: true, ..Said::default() });
        let verdict = super::super::decide(&of(&rules), &question);
        match (&own, &verdict) {
            (Verdict::Deny { .. }, verdict) => prop_assert_eq!(&own, verdict),
            (_, Verdict::Deny { .. }) => {}
            _ => {
                let widest = grant_of(&widest).unwrap();
                prop_assert!(is_within(grant_of(&verdict).unwrap(), widest), "{:?}", verdict);
            }
        }
        // Unasked only where it was so before, or where a rule answers one of two questions.
        if verdict.outcome() == Outcome::Allow && own.outcome() == Outcome::Ask {
            let answerable = ["command.not_listed", "http.method"];
            prop_assert!(answerable.iter().any(|name| own.rule() == name), "{:?}", own);
            prop_assert!(rules.iter().any(|rule| rule.contains("effect = \"allow\"")));
            let reaches = !grant_of(&verdict).unwrap().hosts.is_empty();
            prop_assert!(!reaches || !asked.tainted || !super::super::network::reads_private(&asked.agent));
        }
    }

    #[test]
    fn a_kept_question_is_decided_and_explained_alike(rules in rules(), asked in asked()) {
        let policy = of(&rules);
        let question = asked.question();
        let whole = Recorded::of(&question);
        let (common, rest) = whole.split().unwrap();
        let kept = Recorded::joined(&common, &rest).unwrap();
        prop_assert_eq!(&kept, &whole);
        // As it was stored once.
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(&Recorded::joined("", &text).unwrap(), &whole);
        let verdict = super::super::decide(&policy, &question);
        prop_assert_eq!(kept.replay(|again| super::super::decide(&policy, again)), verdict.clone());
        let explained = explain(&policy, &question);
        prop_assert_eq!(kept.replay(|again| explain(&policy, again)), explained.clone());
        prop_assert_eq!((explained.verdict, &explained.rule), (verdict.outcome(), verdict.rule()));
        prop_assert_eq!(explained.steps.iter().filter(|step| step.decided).count(), 1);
        prop_assert!(!explained.change.is_empty());
        let weighed = weigh(&policy, &question);
        prop_assert!(weighed.matched.len() <= policy.rules_count());
    }

    #[test]
    fn a_broken_policy_never_panics(rules in rules(), at in any::<usize>(), junk in ".{0,12}") {
        let mut text = format!("version = 1\n{}", rules.concat());
        let at = (0..=at % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert_str(at, &junk);
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(!error.problems.is_empty());
        }
        drop(Policy::parse(text.get(..at).unwrap()));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        drop(Policy::parse(&text));
    }
}
