//! What holds for every text of a policy and every call; shared by the tests and `fuzz/`.
#![expect(
    clippy::missing_panics_doc,
    reason = "a law that does not hold is what a fuzzer looks for"
)]

use std::sync::Arc;

use super::{Outcome, Policy, Question, Recorded, decide, explain};
use crate::domain::{
    AgentDef, CallFacts, Effect, EgressLimits, HostPolicy, Role, RunLimits, Surface, ToolLimits,
    ToolName, tool::PathUse,
};

/// Fuzz entry: a call's words up to an empty line, then a policy.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (words, text) = text.split_once("\n\n").unwrap_or(("", text));
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            let lines = text.lines().count().max(1);
            assert!(error.problems.iter().all(|p| (1..=lines + 1).contains(&p.line)), "{error}");
            return;
        }
    };
    let Some(agent) = agent() else { return };
    let hosts = Arc::new(HostPolicy::default());
    for facts in calls(words) {
        let question = Question {
            agent: &agent,
            hosts: &hosts,
            facts: &facts,
            tainted: words.len() % 2 == 1,
            role: Role::Member,
            surface: Surface::Api,
            conversation: None,
        };
        let verdict = decide(&policy, &question);
        let explained = explain(&policy, &question);
        assert_eq!((explained.verdict, &explained.rule), (verdict.outcome(), verdict.rule()));
        let again = Recorded::of(&question).replay(|question| decide(&policy, question));
        assert_eq!(again, verdict);
        let own = decide(&Policy::builtin(), &question);
        // Nothing that the definition denies comes through.
        let is_own = own.rule().as_str().starts_with("path.") || *own.rule() == "tool.not_allowed";
        if own.outcome() == Outcome::Deny && is_own {
            assert_eq!(verdict.outcome(), Outcome::Deny, "{own:?}");
        }
    }
}

/// The words as an argv, as a script and as paths.
fn calls(words: &str) -> Vec<CallFacts> {
    let facts = |tool| CallFacts {
        tool,
        effect: Effect::Unsafe,
        argv: Vec::new(),
        script: None,
        sets_env: false,
        is_tree: false,
        paths: Vec::new(),
        network: None,
        request: None,
    };
    let argv: Vec<String> = words.split('\n').take(16).map(str::to_owned).collect();
    let paths = |is_write| {
        argv.iter().map(|path| PathUse { path: path.clone(), is_write }).collect::<Vec<_>>()
    };
    vec![
        CallFacts { paths: paths(false), ..facts(ToolName::SearchFiles) },
        CallFacts { paths: paths(true), ..facts(ToolName::WriteFile) },
        CallFacts { script: Some(words.to_owned()), ..facts(ToolName::Shell) },
        CallFacts { argv: argv.clone(), ..facts(ToolName::Exec) },
    ]
}

fn agent() -> Option<AgentDef> {
    Some(AgentDef {
        name: "default".parse().ok()?,
        version: String::new(),
        model: String::new(),
        system_prompt: String::new(),
        tools: vec![ToolName::Exec, ToolName::SearchFiles, ToolName::WriteFile],
        roles: Vec::new(),
        workspace: "/srv/work".into(),
        allowed_paths: Vec::new(),
        allowed_commands: vec!["git".to_owned()],
        may_execute_files: false,
        hosts: HostPolicy::default(),
        egress: EgressLimits::default(),
        tool_limits: ToolLimits::default(),
        limits: RunLimits::default(),
        max_output_tokens: 0,
    })
}
