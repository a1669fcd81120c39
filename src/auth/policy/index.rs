//! Finds the few rules that may be about a call without a look at all the others.
//!
//! Invariant: what it finds holds every rule that is about the call; the rules themselves decide.

use std::collections::HashMap;

use super::{
    globs::ancestors,
    rule::{About, Rule, View, program_keys},
};
use crate::domain::{AgentName, HostPattern, ToolName};

/// Rules by tool, then by agent, then by what they name. The numbers are places in the policy's
/// list.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    tools: HashMap<ToolName, Tool>,
}

#[derive(Clone, Debug, Default)]
struct Tool {
    every_agent: Bucket,
    agents: HashMap<AgentName, Bucket>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Looked at in any case.
    always: Vec<usize>,
    /// Looked at when the call names this program, host or directory.
    named: HashMap<String, Vec<usize>>,
    /// Rules with hosts, for what a call may reach later.
    narrowing: Vec<usize>,
}

/// What a rule must be looked up by.
enum Keys {
    Always,
    Named(Vec<String>),
}

impl Index {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            let tools = rule.about.tools.as_deref().unwrap_or(ToolName::ALL);
            for tool in tools {
                let by_agent = index.tools.entry(*tool).or_default();
                match &rule.about.agents {
                    None => by_agent.every_agent.add(at, rule, *tool),
                    Some(agents) => {
                        for agent in agents {
                            let bucket = by_agent.agents.entry(agent.clone()).or_default();
                            bucket.add(at, rule, *tool);
                        }
                    }
                }
            }
        }
        index
    }

    /// The places of rules that may be about the call, each once, in the order of the list.
    pub(super) fn candidates(&self, view: &View<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for bucket in self.buckets(view) {
            bucket.find(view, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The places of rules that may stand in the way of hosts.
    pub(super) fn narrowing(&self, view: &View<'_>) -> impl Iterator<Item = usize> {
        self.buckets(view).flat_map(|bucket| bucket.narrowing.iter().copied())
    }

    fn buckets(&self, view: &View<'_>) -> impl Iterator<Item = &Bucket> {
        let tool = self.tools.get(&view.question.facts.tool);
        let own = tool.and_then(|tool| tool.agents.get(&view.question.agent.name));
        tool.map(|tool| &tool.every_agent).into_iter().chain(own)
    }
}

impl Bucket {
    fn add(&mut self, at: usize, rule: &Rule, tool: ToolName) {
        if rule.narrows() {
            self.narrowing.push(at);
        }
        match keys(rule, tool) {
            Keys::Always => self.always.push(at),
            Keys::Named(names) => {
                for name in names {
                    self.named.entry(name).or_default().push(at);
                }
            }
        }
    }

    fn find(&self, view: &View<'_>, found: &mut Vec<usize>) {
        found.extend(&self.always);
        if self.named.is_empty() {
            return;
        }
        let mut look = |name: &str| {
            found.extend(self.named.get(name).into_iter().flatten());
        };
        let facts = view.question.facts;
        program_keys(&facts.argv).for_each(&mut look);
        if let Some(request) = &facts.request {
            let host = request.host.as_str();
            look(host);
            for (at, _) in host.match_indices('.') {
                look(host.get(at..).unwrap_or_default());
            }
        }
        for path in &view.paths {
            ancestors(path.absolute()).for_each(&mut look);
            path.relative().into_iter().flat_map(ancestors).for_each(&mut look);
        }
    }
}

fn keys(rule: &Rule, tool: ToolName) -> Keys {
    let About { command, hosts, paths, .. } = &rule.about;
    match (tool, command, hosts, paths) {
        (ToolName::Exec, Some(prefixes), ..) => {
            let programs: Option<Vec<&[String]>> =
                prefixes.iter().map(super::command::Prefix::programs).collect();
            programs.map_or(Keys::Always, |programs| Keys::Named(programs.concat()))
        }
        // Only a call of `exec` has an argv.
        (_, Some(_), ..) => Keys::Named(Vec::new()),
        (ToolName::HttpRequest, _, Some(hosts), _) => {
            let names: Option<Vec<String>> =
                hosts.iter().map(|host| host_key(&host.host)).collect();
            names.map_or(Keys::Always, Keys::Named)
        }
        // Only a call of `http_request` names a host; the others' are narrowed.
        (_, _, Some(_), _) => Keys::Named(Vec::new()),
        // What goes through a tree comes to patterns deeper down.
        (ToolName::SearchFiles | ToolName::ListFiles, ..) | (_, _, _, None) => Keys::Always,
        (_, _, _, Some(globs)) => {
            let bases: Option<Vec<String>> = globs
                .iter()
                .map(|glob| Some(glob.base().to_owned()).filter(|base| !base.is_empty()))
                .collect();
            bases.map_or(Keys::Always, Keys::Named)
        }
    }
}

/// None for every host.
fn host_key(host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Exact(name) => Some(name.as_str().to_owned()),
        HostPattern::Below(parent) => Some(format!(".{parent}")),
        HostPattern::Any => None,
    }
}
