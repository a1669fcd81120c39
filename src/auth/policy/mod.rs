//! May this tool call happen, and what may it touch?
//!
//! Invariants: imports `domain` alone; no I/O, no async, no clock. The same definition and facts
//! give the same verdict, so that a call is decided again before it runs, after any wait. What is
//! not allowed here is denied or asked. The kernel enforces the grant; these rules only decide
//! early and say why.

mod command;
mod network;
mod path;

use std::sync::Arc;

use crate::domain::{
    AgentDef, CommandRule, Grant, HostPolicy, Risk, Role, ToolName,
    tool::{CallFacts, PathUse},
};

use network::Network;
pub use network::{OFFLINE, texts};

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
        /// Where it could send something, for the person who decides.
        egress: Vec<String>,
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

/// Decides one call of an agent. `hosts`: what the agent may reach now. `tainted`: the run has read
/// untrusted content.
pub fn decide(
    agent: &AgentDef,
    hosts: &Arc<HostPolicy>,
    facts: &CallFacts,
    tainted: bool,
) -> Verdict {
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
    let at = Situation { agent, hosts, tainted };
    match facts.tool {
        ToolName::Exec | ToolName::Shell => at.process(facts, risk),
        ToolName::HttpRequest => at.request(facts),
        ToolName::ReadFile
        | ToolName::WriteFile
        | ToolName::EditFile
        | ToolName::ListFiles
        | ToolName::SearchFiles => {
            Verdict::Allow { grant: at.grant(CommandRule::None), risk, rule: "path.allowed" }
        }
        ToolName::AskUser => Verdict::Allow {
            grant: at.grant(CommandRule::None),
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

/// What a decision looks at beside the call.
#[derive(Clone, Copy)]
struct Situation<'a> {
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    tainted: bool,
}

impl Situation<'_> {
    fn process(self, facts: &CallFacts, risk: Risk) -> Verdict {
        let network = match network::of_process(self, facts.network) {
            Ok(network) => network,
            Err((reason, rule)) => return Verdict::Deny { reason, rule },
        };
        if facts.tool == ToolName::Shell {
            let reason =
                "a shell script can run any program of the machine in the sandbox, listed or not";
            return self.ask_process("shell.ask", reason.to_owned(), CommandRule::Any, network);
        }
        match command::check(&self.agent.allowed_commands, &facts.argv) {
            // `LD_PRELOAD`, `GIT_SSH_COMMAND` and their like make a listed program run anything
            // else.
            command::Finding::Listed(command::LISTED) if facts.sets_env => {
                let reason = "environment variables can make a listed command run another program";
                let listed = CommandRule::Only(self.agent.allowed_commands.clone());
                self.ask_process("command.env", reason.to_owned(), listed, network)
            }
            command::Finding::Listed(rule) => self.listed(rule, risk, network),
            command::Finding::NotListed(program) => {
                let reason = format!(
                    "`{program}` is not among the commands that this agent may run unasked"
                );
                let further = facts.argv.first().cloned();
                let listed = self.agent.allowed_commands.iter().cloned();
                let commands = CommandRule::Only(listed.chain(further).collect());
                self.ask_process("command.not_listed", reason, commands, network)
            }
            command::Finding::Invalid(reason) => {
                Verdict::Deny { reason: reason.to_owned(), rule: "command.invalid" }
            }
        }
    }

    /// A program that may run without asking, in a view that holds nothing but such programs.
    fn listed(self, rule: &'static str, risk: Risk, network: Network) -> Verdict {
        let commands = if rule == command::LISTED {
            CommandRule::Only(self.agent.allowed_commands.clone())
        } else {
            CommandRule::Any
        };
        let hosts = match network {
            Network::None => Arc::default(),
            Network::Hosts => Arc::clone(self.hosts),
            Network::Hidden => {
                let grant = self.grant(commands);
                return Verdict::Allow { grant, risk, rule: OFFLINE };
            }
            Network::WayOut => {
                let reason = "it could send what the run has seen to another machine".to_owned();
                let grant = Grant { hosts: Arc::clone(self.hosts), ..self.grant(commands) };
                return self.ask(network::WAY_OUT, reason, grant, network::texts(self.hosts));
            }
        };
        Verdict::Allow { grant: Grant { hosts, ..self.grant(commands) }, risk, rule }
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
            Network::Hosts | Network::Hidden | Network::WayOut => Arc::clone(self.hosts),
        };
        let egress = network::texts(&hosts);
        self.ask(rule, reason, Grant { hosts, ..self.grant(commands) }, egress)
    }

    fn request(self, facts: &CallFacts) -> Verdict {
        let Some(request) = &facts.request else {
            let reason = "there is no address to send a request to".to_owned();
            return Verdict::Deny { reason, rule: "host.invalid" };
        };
        let named_exactly = match network::check_request(self.hosts, request) {
            Ok(named_exactly) => named_exactly,
            Err(reason) => return Verdict::Deny { reason, rule: "host.not_allowed" },
        };
        let grant = Grant {
            hosts: Arc::clone(self.hosts),
            same_host_only: self.is_exposed(),
            ..self.grant(CommandRule::None)
        };
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let egress = vec![format!("{}:{}", request.host.as_str(), request.port)];
        if !reads {
            let reason =
                format!("{} may change something at {}", request.method, request.host.as_str());
            return self.ask("http.method", reason, grant, egress);
        }
        if self.is_exposed() && (request.carries_data || !named_exactly) {
            let reason = "the address, its query or a header could carry what the run has seen \
                          to another machine";
            return self.ask(network::WAY_OUT, reason.to_owned(), grant, egress);
        }
        Verdict::Allow { grant, risk: Risk::Low, rule: "host.allowed" }
    }

    fn ask(self, rule: &'static str, reason: String, grant: Grant, egress: Vec<String>) -> Verdict {
        let mut reasons = vec![reason];
        if self.tainted {
            reasons.push(
                "the run has read untrusted content, which may have asked for this".to_owned(),
            );
        }
        let risk = Risk::High;
        Verdict::Ask { grant, risk, reasons, egress, required_role: required_role(risk), rule }
    }

    /// Untrusted content and private data have come together in the run.
    fn is_exposed(self) -> bool {
        self.tainted && network::reads_private(self.agent)
    }

    /// Without any host: who needs some adds them.
    fn grant(self, commands: CommandRule) -> Grant {
        Grant {
            workspace: self.agent.workspace.clone(),
            paths: self.agent.allowed_paths.clone(),
            commands,
            may_execute_files: self.agent.may_execute_files,
            hosts: Arc::default(),
            same_host_only: false,
            egress: self.agent.egress,
            limits: self.agent.tool_limits,
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

#[cfg(test)]
mod tests;
