//! What agents and calls need: the permissions of a run's capability, and those of one call.
//!
//! Invariants: a run gets what its agent's definition allows and nothing else; a call gets its own
//! tool and what its grant lets it touch. Every permission names its resource.

use std::path::PathBuf;

use crate::domain::{
    Access, AgentDef, CallFacts, CommandRule, Grant, HostPattern, HostPolicy, HostRule, PathRule,
    ToolName, tool::RequestUse,
};

use super::{
    claims::{Action, Ask, Category, Circumstances, Constraints, Permission},
    pattern::{Pattern, Resource, plain},
};

/// The program that carries out a script.
const SHELL: &str = "/bin/sh";
/// What only a call that was released may do.
const RELEASED: Constraints = Constraints { wall_secs_max: None, only_released: true };

/// What a run of this agent may do, as its definition says and with what it may reach now.
pub fn of_agent(agent: &AgentDef, hosts: &HostPolicy) -> Vec<Permission> {
    let wall_secs_max = Some(agent.tool_limits.wall_secs);
    let bounded = Constraints { wall_secs_max, only_released: false };
    let mut all: Vec<Permission> = Vec::new();
    for tool in &agent.tools {
        all.push(Permission::on(Pattern::Tool(*tool), [Action::Use]).under(bounded));
    }
    let mut on_files: Vec<Action> =
        agent.tools.iter().flat_map(|tool| files_of(*tool)).copied().collect();
    let has = |tool| agent.tools.contains(&tool);
    let starts_programs = has(ToolName::Exec) || has(ToolName::Shell);
    if starts_programs && agent.may_execute_files {
        on_files.push(Action::Execute);
    }
    let own = PathRule { path: agent.workspace.clone(), access: Access::Rw };
    for rule in std::iter::once(&own).chain(&agent.allowed_paths) {
        all.extend(on_tree(rule, &on_files));
    }
    if has(ToolName::Exec) {
        let listed = agent.allowed_commands.iter().map(|name| Pattern::command(name));
        all.extend(listed.map(|pattern| Permission::on(pattern, [Action::Run])));
    }
    if starts_programs {
        // Whatever is not listed runs once a person or a rule has released it.
        all.push(Permission::on(Pattern::AnyCommand, [Action::Run]).under(RELEASED));
    }
    if starts_programs || has(ToolName::HttpRequest) {
        all.extend(hosts.allow.iter().map(on_host));
    }
    all
}

/// What one call is about to do.
#[derive(Debug)]
pub struct Needs<'a> {
    facts: &'a CallFacts,
    grant: &'a Grant,
    /// The paths that it names, absolute.
    paths: Vec<PathBuf>,
    at: Circumstances,
}

impl<'a> Needs<'a> {
    /// What a call does under this grant; none when it names a path that leads nowhere.
    pub fn of(facts: &'a CallFacts, grant: &'a Grant, is_released: bool) -> Option<Self> {
        let at = Circumstances { wall_secs: Some(grant.limits.wall_secs), is_released };
        let paths: Option<Vec<PathBuf>> =
            facts.paths.iter().map(|used| plain(&grant.workspace, &used.path)).collect();
        Some(Self { facts, grant, paths: paths?, at })
    }

    /// What its own capability allows: this tool, and what the grant lets it touch.
    pub fn permissions(&self) -> Vec<Permission> {
        let Self { facts, at, .. } = self;
        let bounded = Constraints { wall_secs_max: at.wall_secs, only_released: false };
        let mut all = vec![Permission::on(Pattern::Tool(facts.tool), [Action::Use]).under(bounded)];
        match facts.tool {
            ToolName::Exec | ToolName::Shell => self.process(&mut all),
            ToolName::HttpRequest => all.extend(self.request()),
            ToolName::ReadFile
            | ToolName::WriteFile
            | ToolName::EditFile
            | ToolName::ListFiles
            | ToolName::SearchFiles => {
                let trees = self.paths.iter().filter_map(|path| Pattern::tree(path));
                let actions = files_of(facts.tool);
                all.extend(trees.map(|tree| Permission::on(tree, actions.iter().copied())));
            }
            ToolName::AskUser => {}
        }
        all
    }

    /// Every single thing that it is known to do.
    pub fn asks(&self) -> Vec<Ask<'_>> {
        let ask = |category, action, resource| Ask {
            category,
            action,
            resource: Some(resource),
            at: self.at,
        };
        let mut all = vec![ask(Category::Tool, Action::Use, Resource::Tool(self.facts.tool))];
        for (used, path) in self.facts.paths.iter().zip(&self.paths) {
            let action = if used.is_write { Action::Write } else { Action::Read };
            all.push(ask(Category::Path, action, Resource::Path(path)));
        }
        let program = match self.facts.tool {
            ToolName::Shell => Some(SHELL),
            _ => self.facts.argv.first().map(String::as_str),
        };
        all.extend(program.map(|p| ask(Category::Command, Action::Run, Resource::Command(p))));
        if let Some(RequestUse { method, host, port, path, .. }) = &self.facts.request {
            let request = Some((method.as_str(), path.as_str()));
            let resource = Resource::Host { host, port: *port, request };
            all.push(ask(Category::Host, Action::Connect, resource));
        }
        all
    }

    fn process(&self, all: &mut Vec<Permission>) {
        let Grant { workspace, paths, commands, may_execute_files, hosts, .. } = self.grant;
        let mut on_files = vec![Action::Read, Action::Write];
        on_files.extend(may_execute_files.then_some(Action::Execute));
        let own = PathRule { path: workspace.clone(), access: Access::Rw };
        for rule in std::iter::once(&own).chain(paths) {
            all.extend(on_tree(rule, &on_files));
        }
        let released = if self.at.is_released { RELEASED } else { Constraints::default() };
        let patterns: Vec<Pattern> = match commands {
            CommandRule::None => Vec::new(),
            CommandRule::Any => vec![Pattern::AnyCommand],
            CommandRule::Only(names) => names.iter().map(|name| Pattern::command(name)).collect(),
        };
        all.extend(patterns.into_iter().map(|p| Permission::on(p, [Action::Run]).under(released)));
        all.extend(hosts.allow.iter().map(on_host));
    }

    /// Where the request may go: to its own host, or wherever a redirect may lead.
    fn request(&self) -> Vec<Permission> {
        let Some(RequestUse { host, port, .. }) = &self.facts.request else { return Vec::new() };
        let rules = self.grant.hosts.allow.iter();
        if !self.grant.same_host_only {
            return rules.map(on_host).collect();
        }
        let meant = rules.filter(|r| r.host.allows(host) && r.allowed_port() == *port);
        let only_here =
            |rule: &HostRule| HostRule { host: HostPattern::Exact(host.clone()), ..rule.clone() };
        meant.map(|rule| on_host(&only_here(rule))).collect()
    }
}

/// What a tool does with the files that it is given.
const fn files_of(tool: ToolName) -> &'static [Action] {
    match tool {
        ToolName::ReadFile | ToolName::ListFiles | ToolName::SearchFiles => &[Action::Read],
        ToolName::WriteFile => &[Action::Write],
        ToolName::Exec | ToolName::Shell | ToolName::EditFile => &[Action::Read, Action::Write],
        ToolName::HttpRequest | ToolName::AskUser => &[],
    }
}

/// What of these actions a tree lets happen.
fn on_tree(rule: &PathRule, actions: &[Action]) -> Option<Permission> {
    let actions: Vec<Action> = actions
        .iter()
        .copied()
        .filter(|action| match rule.access {
            Access::Rw => true,
            Access::Ro => *action == Action::Read,
        })
        .collect();
    let tree = Pattern::tree(&rule.path)?;
    (!actions.is_empty()).then(|| Permission::on(tree, actions))
}

fn on_host(rule: &HostRule) -> Permission {
    Permission::on(Pattern::Host(rule.clone()), [Action::Connect])
}
