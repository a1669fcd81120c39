//! The time of one decision, for several kinds of calls.

use std::{
    hint::black_box,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_runtime::{
    auth::policy::{Outcome, Policy, Question, decide},
    domain::{
        AgentDef, CallFacts, Effect, EgressLimits, HostName, HostPolicy, Role, RunLimits, Surface,
        ToolLimits, ToolName,
        tool::{PathUse, RequestUse},
    },
};
use anyhow::ensure;

use crate::{
    Plan,
    report::{Met, Report, Times},
    rules,
};

/// Rules of the measured policies (issue: decision p50 ≤ 20 µs with 1,000 rules).
const RULES: usize = 1_000;
/// The wanted p50.
const TARGET: Duration = Duration::from_micros(20);

pub(crate) fn measure(report: &mut Report, plan: Plan) -> anyhow::Result<()> {
    let text = rules::usual(RULES);
    let began = Instant::now();
    let policy = Policy::parse(&text)?;
    let took = began.elapsed();
    ensure!(policy.rules_count() == RULES, "the rules were not read");
    report.row(
        format!("reading a policy of {RULES} rules"),
        format!("{:.0} ms", took.as_secs_f64() * 1e3),
        "",
        "",
        Met::NotAsked,
    );
    let agent = agent()?;
    let hosts = Arc::new(agent.hosts.clone());
    let builtin = Policy::builtin();
    let turns = plan.pick(20_000, 4_000);
    for (name, facts, wanted) in calls()? {
        let ask = Asked { agent: &agent, hosts: &hosts, facts: &facts };
        let with = ask.times(&policy, wanted, turns)?;
        let floor = ask.times(&builtin, floor_of(wanted), turns)?;
        report.row(
            format!("decide, {RULES} rules: {name}"),
            micros(&with),
            format!("no rule: {}", micros(&floor)),
            "p50 ≤ 20 µs",
            Met::of(with.p50() <= TARGET),
        );
    }
    let ask = |facts| Asked { agent: &agent, hosts: &hosts, facts };
    let worst = Policy::parse(&rules::worst(RULES))?;
    let file = file(ToolName::ReadFile, "src/a/b/main.rs", false);
    let times = ask(&file).times(&worst, Outcome::Allow, plan.pick(2_000, 500))?;
    report.row(
        format!("decide, {RULES} rules that no index helps with (`**/*.kN`)"),
        micros(&times),
        "",
        "",
        Met::NotAsked,
    );
    let long = "echo \"$name\" | curl -fsS https://docs.example/a > out.txt\n".repeat(8 << 10);
    let script = CallFacts { script: Some(long), ..facts(ToolName::Shell) };
    let times = ask(&script).times(&policy, Outcome::Ask, plan.pick(60, 20))?;
    report.row(
        format!("decide, {RULES} rules: a script of 512 KiB, the longest there is"),
        micros(&times),
        "",
        "",
        Met::NotAsked,
    );
    Ok(())
}

/// Without rules nothing is denied but by the definition, and more is asked.
const fn floor_of(wanted: Outcome) -> Outcome {
    match wanted {
        Outcome::Deny | Outcome::Allow => Outcome::Allow,
        Outcome::Ask => Outcome::Ask,
    }
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    facts: &'a CallFacts,
}

impl Asked<'_> {
    fn times(self, policy: &Policy, wanted: Outcome, turns: usize) -> anyhow::Result<Times> {
        let question = Question {
            agent: self.agent,
            hosts: self.hosts,
            facts: self.facts,
            tainted: false,
            role: Role::Member,
            surface: Surface::Api,
            conversation: None,
        };
        let found = decide(policy, &question);
        ensure!(found.outcome() == wanted, "{found:?} instead of {wanted}");
        let mut times = Vec::new();
        for turn in 0..turns {
            let began = Instant::now();
            black_box(decide(black_box(policy), black_box(&question)));
            let took = began.elapsed();
            // The first few fill caches.
            if turn >= turns / 20 {
                times.push(took);
            }
        }
        Ok(Times::new(times))
    }
}

fn micros(times: &Times) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    format!("p50 {:.1} µs, p99 {:.1} µs", micros(times.p50()), micros(times.p99()))
}

/// A call of each kind, and what the policy says to it.
fn calls() -> anyhow::Result<Vec<(&'static str, CallFacts, Outcome)>> {
    let script = "set -e\ncd src\nfor f in *.c; do cc -c \"$f\"; done\nar rcs lib.a *.o\n";
    Ok(vec![
        ("a listed program", exec(&["git", "status"]), Outcome::Allow),
        ("a denied verb of a listed program", exec(&["git", "verb-8"]), Outcome::Deny),
        ("reading a file", file(ToolName::ReadFile, "src/a/b/main.rs", false), Outcome::Allow),
        ("a file that a rule denies", file(ToolName::WriteFile, "dir-3/x", true), Outcome::Deny),
        ("a search of the workspace", file(ToolName::SearchFiles, "src/a", false), Outcome::Allow),
        ("a request", request("docs.example")?, Outcome::Allow),
        ("a request to a denied host", request("host-5.example")?, Outcome::Deny),
        (
            "a script of 4 lines",
            CallFacts { script: Some(script.to_owned()), ..facts(ToolName::Shell) },
            Outcome::Ask,
        ),
    ])
}

fn agent() -> anyhow::Result<AgentDef> {
    let allow = ["docs.example", "*.example"];
    let allow = allow.iter().map(|rule| rule.parse()).collect::<Result<Vec<_>, _>>()?;
    Ok(AgentDef {
        name: "agent-0".parse()?,
        version: "v".to_owned(),
        model: "m".to_owned(),
        system_prompt: String::new(),
        tools: ToolName::ALL.to_vec(),
        roles: vec![Role::Member],
        workspace: PathBuf::from("/srv/data/workspaces/agent-0"),
        allowed_paths: Vec::new(),
        allowed_commands: vec!["git".to_owned(), "ls".to_owned()],
        may_execute_files: false,
        hosts: HostPolicy { allow, deny: Vec::new() },
        egress: EgressLimits::default(),
        tool_limits: ToolLimits::default(),
        limits: RunLimits::default(),
        max_output_tokens: 1_000,
    })
}

fn facts(tool: ToolName) -> CallFacts {
    CallFacts {
        tool,
        effect: Effect::Unsafe,
        argv: Vec::new(),
        script: None,
        sets_env: false,
        is_tree: false,
        paths: vec![PathUse { path: ".".to_owned(), is_write: false }],
        network: Some(false),
        request: None,
    }
}

fn exec(argv: &[&str]) -> CallFacts {
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    // With network: what rules take from it is worked out.
    CallFacts { argv, network: None, ..facts(ToolName::Exec) }
}

fn file(tool: ToolName, path: &str, is_write: bool) -> CallFacts {
    CallFacts { paths: vec![PathUse { path: path.to_owned(), is_write }], ..facts(tool) }
}

fn request(host: &str) -> anyhow::Result<CallFacts> {
    let request = RequestUse {
        method: "GET".to_owned(),
        host: HostName::parse(host)?,
        port: 443,
        is_tls: true,
        path: "/page".to_owned(),
        carries_data: false,
    };
    Ok(CallFacts { request: Some(request), paths: Vec::new(), ..facts(ToolName::HttpRequest) })
}
