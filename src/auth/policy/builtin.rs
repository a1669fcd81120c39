//! What holds whatever the policy's file says: the agent's definition, taint, scripts.

use std::sync::Arc;

use super::{
    Question, command,
    network::{self, Network, OFFLINE},
    path::{self, Place},
    verdict::{Layer, Verdict},
};
use crate::domain::{AgentDef, CallFacts, CommandRule, Grant, Risk, Role, ToolName, tool::PathUse};

/// What the rules of the file have said already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The program may run as if it stood on the agent's list.
    pub(super) program: bool,
    /// The request may use its method unasked.
    pub(super) method: bool,
    /// A person is asked in any case, and decides about the network too.
    pub(super) is_asked: bool,
}

/// What the definition and the built-in rules say about a call.
pub(super) fn judge(question: &Question<'_>, said: Said) -> Verdict {
    let Question { agent, facts, .. } = *question;
    if !agent.tools.contains(&facts.tool) {
        let reason = format!("agent `{}` may not use the tool `{}`", agent.name, facts.tool);
        return deny(reason, "tool.not_allowed");
    }
    let mut risk = Risk::Low;
    for used in &facts.paths {
        match check_path(agent, used) {
            Ok(at_least) => risk = risk.max(at_least),
            Err((reason, rule)) => return deny(reason, rule),
        }
    }
    let at = Situation { question, said };
    match facts.tool {
        ToolName::Exec | ToolName::Shell => at.process(facts, risk),
        ToolName::HttpRequest => at.request(facts),
        ToolName::ReadFile
        | ToolName::WriteFile
        | ToolName::EditFile
        | ToolName::ListFiles
        | ToolName::SearchFiles => allow(at.grant(CommandRule::None), risk, "path.allowed"),
        ToolName::AskUser => allow(at.grant(CommandRule::None), Risk::Low, "ask_user.allowed"),
    }
}

/// The least role that may approve a call of this risk.
pub const fn required_role(risk: Risk) -> Role {
    match risk {
        Risk::Low | Risk::Medium => Role::Operator,
        Risk::High => Role::Admin,
    }
}

/// Why a person is asked, where the run has read untrusted content.
pub(super) const TAINTED: &str =
    "the run has read untrusted content, which may have asked for this";

fn allow(grant: Grant, risk: Risk, rule: &'static str) -> Verdict {
    Verdict::Allow { grant, risk, rule: rule.into(), layer: layer_of(rule) }
}

fn deny(reason: String, rule: &'static str) -> Verdict {
    Verdict::Deny { reason, rule: rule.into(), layer: layer_of(rule) }
}

/// Whose word a built-in rule is: the operator's, in the agent's definition, or the program's own.
fn layer_of(rule: &str) -> Layer {
    let is_own = rule.ends_with(".invalid")
        || ["taint.", "shell.", "http.", "ask_user."].iter().any(|part| rule.starts_with(part))
        || rule == "command.env";
    if is_own { Layer::Builtin } else { Layer::Definition }
}

/// What a decision looks at beside the call.
#[derive(Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) question: &'a Question<'a>,
    said: Said,
}

impl Situation<'_> {
    fn process(self, facts: &CallFacts, risk: Risk) -> Verdict {
        let network = match network::of_process(self, facts.network) {
            Ok(network) => network,
            Err((reason, rule)) => return deny(reason, rule),
        };
        if facts.tool == ToolName::Shell {
            let reason =
                "a shell script can run any program of the machine in the sandbox, listed or not";
            return self.ask_process("shell.ask", reason.to_owned(), CommandRule::Any, network);
        }
        let listed = &self.question.agent.allowed_commands;
        let with_own = || {
            let own = facts.argv.first().filter(|program| !listed.contains(program));
            CommandRule::Only(listed.iter().chain(own).cloned().collect())
        };
        match command::check(listed, &facts.argv) {
            // `LD_PRELOAD`, `GIT_SSH_COMMAND` and their like make a listed program run anything
            // else.
            command::Finding::Listed(command::LISTED) if facts.sets_env => {
                self.env_asks(with_own(), network)
            }
            command::Finding::Listed(command::LISTED) => {
                self.unasked(command::LISTED, risk, with_own(), network)
            }
            command::Finding::Listed(rule) => self.unasked(rule, risk, CommandRule::Any, network),
            command::Finding::NotListed(_) if self.said.program && facts.sets_env => {
                self.env_asks(with_own(), network)
            }
            command::Finding::NotListed(_) if self.said.program => {
                self.unasked(command::LISTED, risk, with_own(), network)
            }
            command::Finding::NotListed(program) => {
                let reason = format!(
                    "`{program}` is not among the commands that this agent may run unasked"
                );
                self.ask_process(command::NOT_LISTED, reason, with_own(), network)
            }
            command::Finding::Invalid(reason) => deny(reason.to_owned(), "command.invalid"),
        }
    }

    fn env_asks(self, commands: CommandRule, network: Network) -> Verdict {
        let reason = "environment variables can make a listed command run another program";
        self.ask_process("command.env", reason.to_owned(), commands, network)
    }

    /// A program that may run without asking, in a view that holds nothing but such programs.
    fn unasked(
        self,
        rule: &'static str,
        risk: Risk,
        commands: CommandRule,
        network: Network,
    ) -> Verdict {
        let hosts = match network {
            Network::None => Arc::default(),
            Network::Hosts => Arc::clone(self.question.hosts),
            Network::Hidden if self.said.is_asked => Arc::clone(self.question.hosts),
            Network::Hidden => return allow(self.grant(commands), risk, OFFLINE),
            Network::WayOut => {
                let reason = "it could send what the run has seen to another machine".to_owned();
                let hosts = Arc::clone(self.question.hosts);
                let egress = network::texts(&hosts);
                let grant = Grant { hosts, ..self.grant(commands) };
                return self.ask(network::WAY_OUT, reason, grant, egress);
            }
        };
        allow(Grant { hosts, ..self.grant(commands) }, risk, rule)
    }

    /// Whoever approves a program sees where it could send something.
    fn ask_process(
        self,
        rule: &'static str,
        reason: String,
        commands: CommandRule,
        network: Network,
    ) -> Verdict {
        let hosts = match network {
            Network::None => Arc::default(),
            // Asked anyway: the person decides about the way out as well.
            Network::Hosts | Network::Hidden | Network::WayOut => Arc::clone(self.question.hosts),
        };
        let egress = network::texts(&hosts);
        self.ask(rule, reason, Grant { hosts, ..self.grant(commands) }, egress)
    }

    fn request(self, facts: &CallFacts) -> Verdict {
        let Some(request) = &facts.request else {
            let reason = "there is no address to send a request to".to_owned();
            return deny(reason, "host.invalid");
        };
        let named_exactly = match network::check_request(self.question.hosts, request) {
            Ok(named_exactly) => named_exactly,
            Err(reason) => return deny(reason, "host.not_allowed"),
        };
        let grant = Grant {
            hosts: Arc::clone(self.question.hosts),
            same_host_only: self.is_exposed(),
            ..self.grant(CommandRule::None)
        };
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let egress = network::destination(request);
        if !reads && !self.said.method {
            let reason =
                format!("{} may change something at {}", request.method, request.host.as_str());
            return self.ask(network::METHOD, reason, grant, egress);
        }
        if self.is_exposed() && (!reads || request.carries_data || !named_exactly) {
            let reason = "the address, its query or a header could carry what the run has seen \
                          to another machine";
            return self.ask(network::WAY_OUT, reason.to_owned(), grant, egress);
        }
        allow(grant, Risk::Low, "host.allowed")
    }

    fn ask(self, rule: &'static str, reason: String, grant: Grant, egress: Vec<String>) -> Verdict {
        let mut reasons = vec![reason];
        if self.question.tainted {
            reasons.push(TAINTED.to_owned());
        }
        Verdict::Ask {
            grant,
            risk: Risk::High,
            reasons,
            egress,
            required_role: required_role(Risk::High),
            quorum: 1,
            rule: rule.into(),
            layer: layer_of(rule),
        }
    }

    /// Untrusted content and private data have come together in the run.
    pub(super) fn is_exposed(self) -> bool {
        self.question.tainted && network::reads_private(self.question.agent)
    }

    /// Without any host: who needs some adds them.
    fn grant(self, commands: CommandRule) -> Grant {
        let agent = self.question.agent;
        Grant {
            workspace: agent.workspace.clone(),
            paths: agent.allowed_paths.clone(),
            commands,
            may_execute_files: agent.may_execute_files,
            hosts: Arc::default(),
            same_host_only: false,
            egress: agent.egress,
            limits: agent.tool_limits,
        }
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
