mod document;
mod engine;
mod hosts;
mod language;
mod properties;

use std::{
    borrow::Cow,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Access, AgentDef, CallFacts, CommandRule, Effect, HostName, HostPolicy, PathRule, Risk, Role,
    RunLimits, Surface, ToolLimits, ToolName,
    tool::{PathUse, RequestUse},
};

const WORKSPACE: &str = "/srv/data/workspaces/default";

pub(super) fn agent() -> AgentDef {
    AgentDef {
        name: "default".parse().unwrap(),
        version: "v".to_owned(),
        model: "m".to_owned(),
        system_prompt: String::new(),
        tools: ToolName::ALL.to_vec(),
        roles: vec![Role::Member],
        workspace: PathBuf::from(WORKSPACE),
        allowed_paths: vec![
            PathRule { path: "/srv/docs".into(), access: Access::Ro },
            PathRule { path: "/srv/shared".into(), access: Access::Rw },
            PathRule { path: "/srv/shared/frozen".into(), access: Access::Ro },
            PathRule { path: format!("{WORKSPACE}/vendor").into(), access: Access::Ro },
        ],
        allowed_commands: vec!["git".to_owned(), "/opt/tool".to_owned()],
        may_execute_files: false,
        hosts: crate::domain::HostPolicy::default(),
        egress: crate::domain::EgressLimits::default(),
        tool_limits: ToolLimits::default(),
        limits: RunLimits::default(),
        max_output_tokens: 1_000,
    }
}

pub(super) fn facts(tool: ToolName) -> CallFacts {
    CallFacts {
        tool,
        effect: Effect::Unsafe,
        argv: Vec::new(),
        script: None,
        sets_env: false,
        is_tree: false,
        paths: Vec::new(),
        network: None,
        request: None,
    }
}

/// As policy decides while nobody has changed the agent's hosts.
pub(super) fn decide(agent: &AgentDef, facts: &CallFacts, tainted: bool) -> Verdict {
    decide_with(agent, &Arc::new(agent.hosts.clone()), facts, tainted)
}

/// As policy decides without a file.
pub(super) fn decide_with(
    agent: &AgentDef,
    hosts: &Arc<HostPolicy>,
    facts: &CallFacts,
    tainted: bool,
) -> Verdict {
    super::decide(&Policy::builtin(), &question(agent, hosts, facts, tainted))
}

/// A policy that is known to be right.
pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(&format!("version = 1\n{text}")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// What a policy says to a member of a clean run: the outcome and the rule.
pub(super) fn says(policy: &Policy, agent: &AgentDef, facts: &CallFacts) -> (Outcome, String) {
    let hosts = Arc::new(agent.hosts.clone());
    let verdict = super::decide(policy, &question(agent, &hosts, facts, false));
    (verdict.outcome(), verdict.rule().to_string())
}

/// A member's question.
pub(super) fn question<'a>(
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    facts: &'a CallFacts,
    tainted: bool,
) -> Question<'a> {
    let (role, surface) = (Role::Member, Surface::Api);
    Question { agent, hosts, facts, tainted, role, surface, conversation: None }
}

/// A call of `http_request`.
pub(super) fn request(method: &str, host: &str, carries_data: bool) -> CallFacts {
    let request = RequestUse {
        method: method.to_owned(),
        host: HostName::parse(host).unwrap(),
        port: 443,
        is_tls: true,
        path: "/page".to_owned(),
        carries_data,
    };
    CallFacts { request: Some(request), ..facts(ToolName::HttpRequest) }
}

pub(super) fn exec(argv: &[&str]) -> CallFacts {
    CallFacts { argv: argv.iter().map(|&a| a.to_owned()).collect(), ..facts(ToolName::Exec) }
}

pub(super) fn file(tool: ToolName, path: &str) -> CallFacts {
    let is_write = matches!(tool, ToolName::WriteFile | ToolName::EditFile);
    CallFacts { paths: vec![PathUse { path: path.to_owned(), is_write }], ..facts(tool) }
}

/// A verdict in one word and its rule.
pub(super) fn brief(verdict: &Verdict) -> (&'static str, &'static str) {
    let word = match verdict {
        Verdict::Allow { risk: Risk::Low, .. } => "allow low",
        Verdict::Allow { risk: Risk::Medium, .. } => "allow medium",
        Verdict::Allow { risk: Risk::High, .. } => "allow high",
        Verdict::Ask { .. } => "ask",
        Verdict::Deny { .. } => "deny",
    };
    let rule = match &verdict.rule().0 {
        Cow::Borrowed(name) => name,
        Cow::Owned(_) => "of the file",
    };
    (word, rule)
}

fn decided(facts: &CallFacts) -> (&'static str, &'static str) {
    brief(&decide(&agent(), facts, false))
}

#[test]
fn a_tool_that_is_not_listed_is_denied_before_anything_else() {
    for tool in ToolName::ALL {
        let without = AgentDef {
            tools: ToolName::ALL.iter().copied().filter(|t| t != tool).collect(),
            allowed_commands: vec!["*".to_owned()],
            ..agent()
        };
        let mut call = file(*tool, "a.txt");
        call.argv = vec!["git".to_owned()];
        assert_eq!(brief(&decide(&without, &call, false)), ("deny", "tool.not_allowed"), "{tool}");
        let with = AgentDef { tools: vec![*tool], ..without };
        let (word, rule) = brief(&decide(&with, &call, false));
        // A request without an address is denied for that.
        assert!(word != "deny" || rule == "host.invalid", "{tool}: {rule}");
    }
    let none = AgentDef { tools: Vec::new(), ..agent() };
    assert_eq!(brief(&decide(&none, &facts(ToolName::AskUser), false)).0, "deny");
}

#[test]
fn reading_is_allowed_inside_the_workspace_and_allowed_trees_only() {
    use ToolName::{ListFiles, ReadFile, SearchFiles};
    for tool in [ReadFile, ListFiles, SearchFiles] {
        for inside in [
            ".",
            "a",
            "./a//b/",
            "a/../b",
            "..a",
            "a/..b",
            WORKSPACE,
            "/srv/docs",
            "/srv/docs/x",
            "/srv/shared/x",
            "/srv/shared/frozen/x",
            "vendor/x",
            "../default/a",
        ] {
            assert_eq!(decided(&file(tool, inside)), ("allow low", "path.allowed"), "{inside}");
        }
        for outside in [
            "..",
            "../other",
            "a/../../other",
            "/",
            "/etc/passwd",
            "/srv/docs/../secret",
            "/srv/docsx",
            "/srv",
            "//etc/passwd",
            "/srv/data/workspaces/defaultx",
            "/srv/docs/../../..",
            "../../../../../../../../etc/passwd",
            "/../etc",
        ] {
            assert_eq!(decided(&file(tool, outside)), ("deny", "path.outside"), "{outside}");
        }
        for invalid in ["", "a\0b", "\0", &"a/".repeat(3_000)] {
            assert_eq!(decided(&file(tool, invalid)), ("deny", "path.invalid"), "{invalid:?}");
        }
    }
}

#[test]
fn writing_is_low_in_the_workspace_medium_in_a_writable_tree_denied_in_a_read_only_one() {
    for tool in [ToolName::WriteFile, ToolName::EditFile] {
        assert_eq!(decided(&file(tool, "a/b")), ("allow low", "path.allowed"));
        assert_eq!(decided(&file(tool, "/srv/shared/a")), ("allow medium", "path.allowed"));
        for frozen in ["/srv/docs/a", "/srv/shared/frozen/a", "vendor/a", "a/../vendor/x"] {
            assert_eq!(decided(&file(tool, frozen)), ("deny", "path.read_only"), "{frozen}");
        }
        assert_eq!(decided(&file(tool, "/etc/x")), ("deny", "path.outside"));
    }
}

#[test]
fn every_path_of_a_call_must_be_allowed() {
    let mut call = file(ToolName::ReadFile, "a");
    call.paths.push(PathUse { path: "/etc/passwd".to_owned(), is_write: false });
    assert_eq!(decided(&call), ("deny", "path.outside"));
    let mut run = exec(&["git"]);
    run.paths.push(PathUse { path: "/".to_owned(), is_write: false });
    assert_eq!(decided(&run), ("deny", "path.outside"), "a working directory counts");
}

#[test]
fn listed_programs_run_and_others_ask_an_admin() {
    assert_eq!(decided(&exec(&["git", "status"])), ("allow low", "command.listed"));
    assert_eq!(decided(&exec(&["/opt/tool"])), ("allow low", "command.listed"));
    for other in ["./git", "/tmp/git", "git ", "Git", "tool", "gi", "*", "curl"] {
        assert_eq!(decided(&exec(&[other])), ("ask", "command.not_listed"), "{other}");
    }
    for invalid in [&[][..], &[""], &["git", "a\0b"]] {
        assert_eq!(decided(&exec(invalid)), ("deny", "command.invalid"), "{invalid:?}");
    }
    let any = AgentDef { allowed_commands: vec!["*".to_owned()], ..agent() };
    assert_eq!(brief(&decide(&any, &exec(&["curl"]), false)), ("allow low", "command.any"));
    let nothing = AgentDef { allowed_commands: Vec::new(), ..agent() };
    assert_eq!(brief(&decide(&nothing, &exec(&["git"]), false)).0, "ask");
}

#[test]
fn a_shell_always_asks_an_admin_even_where_every_program_is_listed() {
    let any = AgentDef { allowed_commands: vec!["*".to_owned()], ..agent() };
    let verdict = decide(&any, &facts(ToolName::Shell), false);
    let Verdict::Ask { risk, required_role, reasons, .. } = verdict else { panic!("not asked") };
    assert_eq!((risk, required_role, reasons.len()), (Risk::High, Role::Admin, 1));
}

#[test]
fn taint_is_said_to_the_person_who_is_asked() {
    let Verdict::Ask { reasons, .. } = decide(&agent(), &facts(ToolName::Shell), true) else {
        panic!("not asked")
    };
    assert!(reasons.iter().any(|r| r.contains("untrusted")), "{reasons:?}");
}

#[test]
fn a_question_to_the_person_is_allowed() {
    assert_eq!(decided(&facts(ToolName::AskUser)), ("allow low", "ask_user.allowed"));
}

#[test]
fn a_grant_holds_what_the_definition_says_and_processes_only_for_process_tools() {
    let Verdict::Allow { grant, .. } = decide(&agent(), &file(ToolName::ReadFile, "a"), false)
    else {
        panic!("not allowed")
    };
    assert_eq!(grant.workspace, Path::new(WORKSPACE));
    assert_eq!(grant.paths, agent().allowed_paths);
    assert_eq!(grant.commands, CommandRule::None);
    let Verdict::Allow { grant, .. } = decide(&agent(), &exec(&["git"]), false) else {
        panic!("not allowed")
    };
    assert_eq!(grant.commands, only(&["git", "/opt/tool"]));
}

fn only(names: &[&str]) -> CommandRule {
    CommandRule::Only(names.iter().map(|n| (*n).to_owned()).collect())
}

fn commands(agent: &AgentDef, facts: &CallFacts) -> CommandRule {
    match decide(agent, facts, false) {
        Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => grant.commands,
        Verdict::Deny { .. } => CommandRule::None,
    }
}

#[test]
fn the_programs_of_a_grant_are_those_that_the_list_or_the_approval_names() {
    let listed = || only(&["git", "/opt/tool"]);
    assert_eq!(commands(&agent(), &exec(&["git", "status"])), listed());
    let with_env = CallFacts { sets_env: true, ..exec(&["git", "status"]) };
    assert_eq!(commands(&agent(), &with_env), listed());
    // An approval adds the program that was asked for, as the call names it, and no other.
    let added = commands(&agent(), &exec(&["curl", "make"]));
    assert_eq!(added, only(&["git", "/opt/tool", "curl"]));
    let any = AgentDef { allowed_commands: vec!["*".to_owned()], ..agent() };
    assert_eq!(commands(&any, &exec(&["curl"])), CommandRule::Any);
    // The card says that a script may run anything; the grant holds what the card says.
    assert_eq!(commands(&agent(), &facts(ToolName::Shell)), CommandRule::Any);
    assert_eq!(commands(&agent(), &facts(ToolName::ListFiles)), CommandRule::None);
}

#[test]
fn a_hostile_program_name_is_made_printable_and_short() {
    let name = format!("\u{1b}[31m\n{}", "x".repeat(10_000));
    let Verdict::Ask { reasons, .. } = decide(&agent(), &exec(&[&name]), false) else {
        panic!("not asked")
    };
    let reason = reasons.first().unwrap();
    assert!(reason.len() < 200 && !reason.chars().any(char::is_control), "{reason:?}");
}

#[test]
fn a_relative_rule_opens_nothing() {
    let odd = AgentDef {
        allowed_paths: vec![PathRule { path: "etc".into(), access: Access::Rw }],
        ..agent()
    };
    let call = file(ToolName::ReadFile, "/etc/passwd");
    assert_eq!(brief(&decide(&odd, &call, false)), ("deny", "path.outside"));
}

/// Where the kernel would end up without symlinks: an independent reading of the same text.
fn walked(path: &str) -> PathBuf {
    let start = if path.starts_with('/') { String::new() } else { WORKSPACE.to_owned() };
    let mut stack: Vec<String> = Vec::new();
    for name in format!("{start}/{path}").split('/') {
        match name {
            "" | "." => {}
            ".." => {
                stack.pop();
            }
            name => stack.push(name.to_owned()),
        }
    }
    PathBuf::from(format!("/{}", stack.join("/")))
}

fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("..".to_owned()),
        2 => Just(".".to_owned()),
        2 => Just(String::new()),
        1 => Just("\0".to_owned()),
        1 => Just("...".to_owned()),
        1 => Just("srv".to_owned()),
        1 => Just("docs".to_owned()),
        1 => Just("data".to_owned()),
        1 => Just("workspaces".to_owned()),
        1 => Just("default".to_owned()),
        1 => Just("vendor".to_owned()),
        1 => "[a-z.\\\\%]{1,4}",
    ];
    (any::<bool>(), proptest::collection::vec(piece, 0..14)).prop_map(|(is_absolute, pieces)| {
        format!("{}{}", if is_absolute { "/" } else { "" }, pieces.join("/"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_path_text_is_allowed_outside(path in hostile_path()) {
        let trees = [WORKSPACE, "/srv/docs", "/srv/shared"];
        let end = walked(&path);
        let is_inside = trees.iter().any(|tree| end.starts_with(tree));
        for tool in [ToolName::ReadFile, ToolName::WriteFile] {
            let (word, _) = decided(&file(tool, &path));
            if word != "deny" {
                prop_assert!(is_inside, "{path:?} ends at {end:?}");
                prop_assert!(!path.contains('\0'));
                if tool == ToolName::WriteFile {
                    let frozen = ["/srv/docs", "/srv/shared/frozen"];
                    prop_assert!(!frozen.iter().any(|tree| end.starts_with(tree)));
                    prop_assert!(!end.starts_with(Path::new(WORKSPACE).join("vendor")));
                }
            }
        }
        let has_parent = Path::new(&path).components().any(|c| c == Component::ParentDir);
        if is_inside && !has_parent && !path.is_empty() && !path.contains('\0') {
            prop_assert_eq!(decided(&file(ToolName::ReadFile, &path)).0, "allow low");
        }
    }

    #[test]
    fn any_text_at_all_gets_a_verdict(path in ".*", program in ".*") {
        let mut call = file(ToolName::Exec, &path);
        call.argv = vec![program];
        decided(&call);
    }
}

#[test]
fn a_listed_command_with_variables_of_the_models_own_is_asked() {
    let with_env = CallFacts { sets_env: true, ..exec(&["git", "status"]) };
    assert!(matches!(decide(&agent(), &exec(&["git", "status"]), false), Verdict::Allow { .. }));
    let asked = decide(&agent(), &with_env, false);
    assert_eq!(asked.rule(), &"command.env");
    assert!(matches!(asked, Verdict::Ask { required_role: Role::Admin, .. }));
    let open = AgentDef { allowed_commands: vec!["*".to_owned()], ..agent() };
    assert!(matches!(decide(&open, &with_env, false), Verdict::Allow { .. }));
}
