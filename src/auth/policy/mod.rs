//! May this tool call happen, and what may it touch?
//!
//! Invariants: imports `domain` alone; no I/O, no async, no clock. The same definition and facts
//! give the same verdict, so that a call is decided again before it runs, after any wait. What is
//! not allowed here is denied or asked. The kernel enforces the grant; these rules only decide
//! early and say why.

mod command;
mod path;

use crate::domain::{
    AgentDef, CommandRule, Grant, Risk, Role, ToolName,
    tool::{CallFacts, PathUse},
};

use path::Place;

/// What policy says about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allow {
        /// What it may touch.
        grant: Grant,
        /// How risky it is.
        risk: Risk,
        /// The rule that decided.
        rule: &'static str,
    },
    /// A person must say yes first.
    Ask {
        /// What it may touch then.
        grant: Grant,
        /// How risky it is.
        risk: Risk,
        /// Why a person is asked.
        reasons: Vec<String>,
        /// Least role that may decide.
        required_role: Role,
        /// The rule that decided.
        rule: &'static str,
    },
    /// It may not run; nobody is asked.
    Deny {
        /// One sentence, shown to the model.
        reason: String,
        /// The rule that decided.
        rule: &'static str,
    },
}

/// Decides one call of an agent. `tainted`: the run has read untrusted content.
pub fn decide(agent: &AgentDef, facts: &CallFacts, tainted: bool) -> Verdict {
    if !agent.tools.contains(&facts.tool) {
        let reason = format!("agent `{}` may not use the tool `{}`", agent.name, facts.tool);
        return Verdict::Deny { reason, rule: "tool.not_allowed" };
    }
    let mut risk = Risk::Low;
    for used in &facts.paths {
        match check_path(agent, used) {
            Ok(at_least) => risk = risk.max(at_least),
            Err((reason, rule)) => return Verdict::Deny { reason, rule },
        }
    }
    match facts.tool {
        ToolName::Exec => exec(agent, facts, risk, tainted),
        ToolName::Shell => ask(
            agent,
            "shell.ask",
            "a shell script can run any program of the machine in the sandbox, listed or not"
                .to_owned(),
            CommandRule::Any,
            tainted,
        ),
        ToolName::ReadFile
        | ToolName::WriteFile
        | ToolName::EditFile
        | ToolName::ListFiles
        | ToolName::SearchFiles => {
            Verdict::Allow { grant: grant(agent, CommandRule::None), risk, rule: "path.allowed" }
        }
        ToolName::AskUser => Verdict::Allow {
            grant: grant(agent, CommandRule::None),
            risk: Risk::Low,
            rule: "ask_user.allowed",
        },
    }
}

/// The least role that may approve a call of this risk.
pub const fn required_role(risk: Risk) -> Role {
    match risk {
        Risk::Low | Risk::Medium => Role::Operator,
        Risk::High => Role::Admin,
    }
}

/// What the list lets through exists in the sandbox, and nothing else: a listed program cannot
/// start one that is not listed. Whoever approves another adds that one alone.
fn exec(agent: &AgentDef, facts: &CallFacts, risk: Risk, tainted: bool) -> Verdict {
    let listed = || CommandRule::Only(agent.allowed_commands.clone());
    match command::check(&agent.allowed_commands, &facts.argv) {
        // `LD_PRELOAD`, `GIT_SSH_COMMAND` and their like make a listed program run anything else.
        command::Finding::Listed(command::LISTED) if facts.sets_env => ask(
            agent,
            "command.env",
            "environment variables can make a listed command run another program".to_owned(),
            listed(),
            tainted,
        ),
        command::Finding::Listed(rule) => {
            let commands = if rule == command::LISTED { listed() } else { CommandRule::Any };
            Verdict::Allow { grant: grant(agent, commands), risk, rule }
        }
        command::Finding::NotListed(program) => {
            let further = facts.argv.first().cloned();
            let programs = agent.allowed_commands.iter().cloned().chain(further).collect();
            ask(
                agent,
                "command.not_listed",
                format!("`{program}` is not among the commands that this agent may run unasked"),
                CommandRule::Only(programs),
                tainted,
            )
        }
        command::Finding::Invalid(reason) => {
            Verdict::Deny { reason: reason.to_owned(), rule: "command.invalid" }
        }
    }
}

fn ask(
    agent: &AgentDef,
    rule: &'static str,
    reason: String,
    commands: CommandRule,
    tainted: bool,
) -> Verdict {
    let mut reasons = vec![reason];
    if tainted {
        reasons
            .push("the run has read untrusted content, which may have asked for this".to_owned());
    }
    let risk = Risk::High;
    Verdict::Ask {
        grant: grant(agent, commands),
        risk,
        reasons,
        required_role: required_role(risk),
        rule,
    }
}

/// The risk that a path adds, or the reason and the rule that deny it.
fn check_path(agent: &AgentDef, used: &PathUse) -> Result<Risk, (String, &'static str)> {
    let place = path::place(&agent.workspace, &agent.allowed_paths, &used.path);
    match place {
        Place::Workspace => Ok(Risk::Low),
        Place::Writable if used.is_write => Ok(Risk::Medium),
        Place::Writable | Place::ReadOnly if !used.is_write => Ok(Risk::Low),
        Place::Writable | Place::ReadOnly => Err((
            "this tree may be read but not written; write below the workspace".to_owned(),
            "path.read_only",
        )),
        Place::Outside => Err((
            "this path is outside the workspace and the allowed paths; use a path relative to \
             the workspace"
                .to_owned(),
            "path.outside",
        )),
        Place::Invalid => {
            Err(("this is not a path: empty, too long or with a NUL".to_owned(), "path.invalid"))
        }
    }
}

fn grant(agent: &AgentDef, commands: CommandRule) -> Grant {
    Grant {
        workspace: agent.workspace.clone(),
        paths: agent.allowed_paths.clone(),
        commands,
        may_execute_files: agent.may_execute_files,
        hosts: std::sync::Arc::new(agent.hosts.clone()),
        egress: agent.egress,
        limits: agent.tool_limits,
    }
}

#[cfg(test)]
mod tests;
