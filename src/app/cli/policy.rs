//! `policy validate|test`: a policy's file looked at without a daemon, by the engine that decides live.

use std::{fs::File, io::Read, path::Path, process::ExitCode, sync::Arc};

use serde_json::{Value, json};

use super::{
    Context, Failure, Paint,
    args::{PolicyTest, PolicyValidate},
    failure::FAULT,
    out::{self, short},
};
use crate::{
    auth::policy::{Explanation, Outcome, Policy, PolicyError, Question, StepOutcome, explain},
    domain::{AgentDef, CallFacts, Surface, ToolName, limits},
    tools,
};

/// Exit code: a person would be asked.
const ASKS: u8 = 4;

pub(super) fn validate(options: &PolicyValidate) -> Result<ExitCode, Failure> {
    let policy = match read(&options.file)? {
        Ok(policy) => policy,
        Err(error) if options.output.json => {
            let problems: Vec<Value> = error
                .problems
                .iter()
                .map(|problem| json!({ "line": problem.line, "what": problem.what }))
                .collect();
            out::json(&json!({ "valid": false, "problems": problems }));
            return Ok(ExitCode::from(super::failure::USAGE));
        }
        Err(error) => return Err(wrong(&options.file, &error)),
    };
    let (rules, patterns) = (policy.rules_count(), policy.patterns_count());
    if options.output.json {
        out::json(&json!({
            "valid": true, "version": policy.version(), "rules": rules, "deny_patterns": patterns,
        }));
    } else {
        out::line(format_args!(
            "the policy is good: {rules} rules, {patterns} deny patterns, version {}",
            policy.version()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn test(context: &Context, options: &PolicyTest) -> Result<ExitCode, Failure> {
    let settings = context.load()?.settings;
    let policy = match &options.file {
        Some(file) => read(file)?.map_err(|error| wrong(file, &error))?,
        None => settings.policy.as_deref().cloned().unwrap_or_else(Policy::builtin),
    };
    let agent = settings.agents.iter().find(|agent| agent.name.as_str() == options.agent);
    let agent = agent.ok_or_else(|| unknown_agent(&options.agent, &settings.agents))?;
    let (tool, args) = call(options)?;
    let facts = tools::parse(tool.as_str(), &args)
        .map_err(|error| Failure::usage(format!("no such call: {error}")))?
        .facts();
    let surface = Surface::ALL.into_iter().find(|s| s.as_str() == options.channel);
    let surface = surface.ok_or_else(|| {
        Failure::usage(format!("unknown channel `{}`: use api, admin or system", options.channel))
    })?;
    let hosts = Arc::new(agent.hosts.clone());
    let explanation = explain(
        &policy,
        &Question {
            agent,
            hosts: &hosts,
            facts: &facts,
            tainted: options.tainted,
            role: options.role,
            surface,
            conversation: None,
        },
    );
    if options.output.json {
        let value = serde_json::to_value(&explanation)
            .map_err(|error| Failure::fault(format!("cannot show the answer: {error}")))?;
        out::json(&value);
    } else {
        show(&explanation, &facts, options, Paint::stdout(context.wants_no_colour()));
    }
    Ok(match explanation.verdict {
        Outcome::Allow => ExitCode::SUCCESS,
        Outcome::Ask => ExitCode::from(ASKS),
        Outcome::Deny => ExitCode::from(FAULT),
    })
}

/// A file's policy, or what is wrong with it.
fn read(path: &Path) -> Result<Result<Policy, PolicyError>, Failure> {
    let failed =
        |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    // One byte more than is allowed, so that a longer text is told as such.
    let most = u64::try_from(limits::POLICY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    file.take(most).read_to_string(&mut text).map_err(failed)?;
    Ok(Policy::parse(&text))
}

fn wrong(path: &Path, error: &PolicyError) -> Failure {
    let lines: Vec<String> = error
        .problems
        .iter()
        .map(|problem| format!("  {}:{}: {}", path.display(), problem.line, problem.what))
        .collect();
    let count = lines.len();
    let what = if count == 1 { "one problem".to_owned() } else { format!("{count} problems") };
    Failure::usage(format!("{what} with the policy\n{}", lines.join("\n")))
        .next("the language, with examples: docs/POLICY.md")
}

fn unknown_agent(name: &str, agents: &[AgentDef]) -> Failure {
    let known: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
    Failure::usage(format!("there is no agent `{name}`"))
        .next(format!("the configuration has: {}", known.join(", ")))
}

/// The call that the options describe: its tool and its arguments as a model would write them.
fn call(options: &PolicyTest) -> Result<(ToolName, Value), Failure> {
    let fixed = |tool: ToolName, args: Value| match &options.tool {
        Some(named) if named != tool.as_str() => {
            Err(Failure::usage(format!("--tool {named} does not go with that call: it is {tool}")))
        }
        _ => Ok((tool, args)),
    };
    if !options.command.is_empty() {
        return fixed(ToolName::Exec, json!({ "argv": options.command }));
    }
    if let Some(argv) = &options.argv {
        let argv: Vec<String> = serde_json::from_str(argv).map_err(|error| {
            Failure::usage(format!("--argv is no JSON list of texts: {error}"))
                .next("write it as '[\"git\",\"status\"]', or the program after `--`")
        })?;
        return fixed(ToolName::Exec, json!({ "argv": argv }));
    }
    if let Some(script) = &options.script {
        return fixed(ToolName::Shell, json!({ "script": script }));
    }
    if let Some(url) = &options.url {
        return fixed(ToolName::HttpRequest, json!({ "url": url, "method": options.method }));
    }
    let named = options.tool.as_deref().map(str::parse::<ToolName>).transpose();
    let named = named.map_err(|error| {
        let known: Vec<&str> = ToolName::ALL.iter().map(|tool| tool.as_str()).collect();
        Failure::usage(error.to_string()).next(format!("tools: {}", known.join(", ")))
    })?;
    if let Some(path) = &options.path {
        return file_call(named, path, options.write);
    }
    match named {
        Some(ToolName::AskUser) => Ok((ToolName::AskUser, json!({ "question": "?" }))),
        _ => Err(Failure::usage("which call? Give --argv, --script, --path, --url or -- PROGRAM")
            .next("examples: `agent-runtime policy test --help`")),
    }
}

fn file_call(
    named: Option<ToolName>,
    path: &str,
    is_write: bool,
) -> Result<(ToolName, Value), Failure> {
    let tool = named.unwrap_or(if is_write { ToolName::WriteFile } else { ToolName::ReadFile });
    let writes = matches!(tool, ToolName::WriteFile | ToolName::EditFile);
    if is_write && !writes {
        return Err(Failure::usage(format!("{tool} writes nothing: leave out --write")));
    }
    let args = match tool {
        ToolName::ReadFile | ToolName::ListFiles => json!({ "path": path }),
        ToolName::SearchFiles => json!({ "path": path, "pattern": "x" }),
        ToolName::WriteFile => json!({ "path": path, "content": "", "mode": "overwrite" }),
        ToolName::EditFile => json!({ "path": path, "old": "a", "new": "b" }),
        ToolName::Exec | ToolName::Shell | ToolName::HttpRequest | ToolName::AskUser => {
            return Err(Failure::usage(format!("{tool} takes no --path")));
        }
    };
    Ok((tool, args))
}

fn show(explanation: &Explanation, facts: &CallFacts, options: &PolicyTest, paint: Paint) {
    let verdict = match explanation.verdict {
        Outcome::Allow => paint.good("allow"),
        Outcome::Ask => paint.warn("ask"),
        Outcome::Deny => paint.bad("deny"),
    };
    let Explanation { rule, layer, .. } = explanation;
    let tool = paint.bold(facts.tool);
    out::line(format_args!("{verdict}  {tool}, agent {}  [{rule}, {layer}]", options.agent));
    for reason in &explanation.reasons {
        out::line(format_args!("  why      {}", short(reason, 400)));
    }
    if let (Some(role), Some(quorum)) = (explanation.required_role, explanation.quorum) {
        let people = if quorum == 1 { "one person".to_owned() } else { format!("{quorum} people") };
        out::line(format_args!("  who      {people}, {role} or above"));
    }
    if let Some(risk) = explanation.risk {
        out::line(format_args!("  risk     {risk}"));
    }
    for step in &explanation.steps {
        let mark = if step.decided { "→" } else { " " };
        let word = match step.outcome {
            StepOutcome::NotMatched => "not about it",
            other => other.as_str(),
        };
        let why = short(&step.why, 200);
        out::line(format_args!("  {mark} {} {}: {word} ({why})", step.layer, step.rule));
    }
    if explanation.other_rules > 0 {
        let count = explanation.other_rules;
        let plural = if count == 1 { "" } else { "s" };
        out::line(format_args!("    {count} other rule{plural}: plainly about other calls"));
    }
    out::line(format_args!("  change   {}", short(&explanation.change, 400)));
}
