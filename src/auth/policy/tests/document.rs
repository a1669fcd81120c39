//! docs/POLICY.md says what is true: its examples are read and their verdicts held against the
//! engine, its table of deny patterns against the code.

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/POLICY.md");

/// The text of each code block of a kind, with what follows it.
fn blocks<'t>(text: &'t str, kind: &str) -> Vec<(&'t str, &'t str)> {
    let opening = format!("\n```{kind}\n");
    text.split(&opening)
        .skip(1)
        .map(|rest| rest.split_once("\n```").expect("a block has an end"))
        .collect()
}

/// The agent of the examples.
fn example_agent(name: &str) -> AgentDef {
    let allow = ["docs.example", "api.example"].iter().map(|host| host.parse().unwrap()).collect();
    AgentDef {
        name: name.parse().unwrap(),
        allowed_commands: vec!["git".to_owned(), "ls".to_owned()],
        allowed_paths: vec![PathRule { path: "/srv/docs".into(), access: Access::Ro }],
        hosts: HostPolicy { allow, deny: Vec::new() },
        ..agent()
    }
}

/// The call of a line, such as `exec ["git", "log"]`, and the words behind it.
fn call(text: &str) -> (CallFacts, Vec<&str>) {
    let (tool, rest) = text.split_once(' ').unwrap();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
    let value = values.next().unwrap().unwrap();
    let words = rest.get(values.byte_offset()..).unwrap().split_whitespace().collect();
    let tool: ToolName = tool.parse().unwrap();
    let facts = match tool {
        ToolName::Exec => {
            let argv: Vec<&str> =
                value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            exec(&argv)
        }
        ToolName::Shell => CallFacts { script: value.as_str().map(str::to_owned), ..facts(tool) },
        ToolName::HttpRequest => {
            let (method, url) = value.as_str().unwrap().split_once(' ').unwrap();
            let (host, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
            let mut call = request(method, host, false);
            call.request.as_mut().unwrap().path = format!("/{path}");
            call
        }
        _ => file(tool, value.as_str().unwrap()),
    };
    (facts, words)
}

/// Checks one line of a block of verdicts.
fn check(policy: &Policy, line: &str) {
    let (left, wanted) = line.split_once("=>").unwrap();
    let (mut facts, words) = call(left.trim());
    let (mut agent, mut role, mut surface, mut tainted) =
        (example_agent("default"), Role::Member, Surface::Api, false);
    for word in words {
        match word.split_once('=') {
            None if word == "tainted" => tainted = true,
            None if word == "env" => facts.sets_env = true,
            None if word == "network" => facts.network = Some(true),
            Some(("role", name)) => role = name.parse().unwrap(),
            Some(("agent", name)) => agent = example_agent(name),
            Some(("channel", name)) => {
                surface = Surface::ALL.into_iter().find(|s| s.as_str() == name).unwrap();
            }
            _ => panic!("{line}: what is {word}?"),
        }
    }
    let hosts = Arc::new(agent.hosts.clone());
    let question = Question { role, surface, ..question(&agent, &hosts, &facts, tainted) };
    let verdict = super::super::decide(policy, &question);
    let mut found = format!("{} {}", verdict.outcome(), verdict.rule());
    if let Verdict::Ask { quorum: 2.., .. } = verdict
        && wanted.contains("quorum=")
    {
        found += " quorum=2";
    }
    assert_eq!(found, wanted.trim(), "{line}");
    let explanation = explain(policy, &question);
    assert_eq!(explanation.rule, *verdict.rule(), "{line}");
}

#[test]
fn the_examples_of_the_document_are_read_and_say_what_stands_beside_them() {
    let mut lines = 0;
    let examples = blocks(DOCUMENT, "toml");
    assert!(examples.len() >= 6, "only {} examples", examples.len());
    for (text, rest) in &examples {
        let policy = Policy::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (verdicts, _) = blocks(rest, "verdicts").into_iter().next().expect("its verdicts");
        for line in verdicts.lines() {
            check(&policy, line);
            lines += 1;
        }
    }
    assert_eq!(blocks(DOCUMENT, "verdicts").len(), examples.len());
    assert!(lines >= 30, "only {lines} verdicts");
}

#[test]
fn the_document_lists_every_deny_pattern_and_no_other() {
    let code = |text: &str| {
        let text = text.replace('|', "\\|");
        if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
    };
    let mut rows = Vec::new();
    for usual in usual() {
        let row = format!(
            "| `{}` | {} | {} | {} |",
            usual.name,
            usual.reason,
            code(usual.denied),
            code(usual.allowed)
        );
        assert!(DOCUMENT.contains(&row), "missing: {row}");
        rows.push(row);
    }
    let (_, table) = DOCUMENT.split_once("| Name | Why | Denied | Still allowed |").unwrap();
    let listed = table.lines().skip(2).take_while(|line| line.starts_with('|')).count();
    assert_eq!(listed, rows.len());
}

#[test]
fn the_document_names_every_key_of_the_language() {
    for key in super::super::language::keys() {
        assert!(DOCUMENT.contains(&format!("`{key}")), "`{key}` is not explained");
    }
}
