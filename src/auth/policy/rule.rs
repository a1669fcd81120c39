//! One rule of a policy's file, and whether it is about a call.

use std::fmt;

use super::{
    Question,
    command::{Prefix, file_name},
    globs::{PathGlob, SeenPath},
    verdict::{Outcome, RuleName},
};
use crate::domain::{
    AgentName, ConversationId, Destination, HostRule, Risk, Role, Surface, ToolName,
};

/// One rule, checked.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Unique in its policy.
    pub(super) name: RuleName,
    pub(super) effect: Outcome,
    pub(super) about: About,
    /// Shown to the person who is asked, or to the model.
    pub(super) reason: Option<String>,
    pub(super) set_risk: Option<Risk>,
    pub(super) require_role: Option<Role>,
    pub(super) quorum: Option<u32>,
}

/// Which calls a rule is about: all that is given must match. A list that is not given means
/// everything.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) agents: Option<Vec<AgentName>>,
    pub(super) roles: Option<Vec<Role>>,
    pub(super) channels: Option<Vec<Channel>>,
    pub(super) tools: Option<Vec<ToolName>>,
    /// At least this risk, before any rule has raised it.
    pub(super) risk: Option<Risk>,
    pub(super) tainted: Option<bool>,
    pub(super) paths: Option<Vec<PathGlob>>,
    /// Only paths that are written (`true`) or only read.
    pub(super) is_write: Option<bool>,
    pub(super) hosts: Option<Vec<HostRule>>,
    pub(super) command: Option<Vec<Prefix>>,
}

/// Where a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Surface(Surface),
    Conversation(ConversationId),
}

/// A call as rules look at it; what several rules need is worked out once.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) question: &'a Question<'a>,
    /// As the definition and the built-in rules see it.
    pub(super) risk: Risk,
    pub(super) paths: Vec<SeenPath>,
}

/// The first thing by which a call differs from what a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    Agent,
    Role,
    Channel,
    Tool,
    Risk,
    Taint,
    Path,
    Host,
    Command,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "it is about other agents",
            Self::Role => "it is about other roles",
            Self::Channel => "it is about other channels",
            Self::Tool => "it is about other tools",
            Self::Risk => "it is about calls of a higher risk",
            Self::Taint => "it looks at whether the run has read untrusted content",
            Self::Path => "no path of the call is one of its paths",
            Self::Host => "the call sends no request to one of its hosts",
            Self::Command => "the call's argv begins with none of its commands",
        })
    }
}

impl<'a> View<'a> {
    pub(super) fn of(question: &'a Question<'a>, risk: Risk) -> Self {
        let paths = SeenPath::of_call(&question.agent.workspace, question.facts);
        Self { question, risk, paths }
    }
}

impl Rule {
    /// How the call differs from what the rule is about; none where it is about the call.
    pub(super) fn mismatch(&self, view: &View<'_>) -> Option<Mismatch> {
        self.mismatch_but_host(view).or_else(|| {
            let is_other = self.about.hosts.is_some() && !self.has_host(view);
            is_other.then_some(Mismatch::Host)
        })
    }

    /// As [`Self::mismatch`], without a look at hosts: those of a program are known only when it
    /// connects.
    pub(super) fn mismatch_but_host(&self, view: &View<'_>) -> Option<Mismatch> {
        let About { agents, roles, channels, tools, risk, tainted, .. } = &self.about;
        let question = view.question;
        if tools.as_ref().is_some_and(|tools| !tools.contains(&question.facts.tool)) {
            return Some(Mismatch::Tool);
        }
        if agents.as_ref().is_some_and(|agents| !agents.contains(&question.agent.name)) {
            return Some(Mismatch::Agent);
        }
        if roles.as_ref().is_some_and(|roles| !roles.contains(&question.role)) {
            return Some(Mismatch::Role);
        }
        if channels.as_ref().is_some_and(|channels| !channels.iter().any(|c| c.holds(question))) {
            return Some(Mismatch::Channel);
        }
        if risk.is_some_and(|least| view.risk < least) {
            return Some(Mismatch::Risk);
        }
        if tainted.is_some_and(|tainted| tainted != question.tainted) {
            return Some(Mismatch::Taint);
        }
        if self.about.command.as_ref().is_some_and(|command| !self.has_command(command, view)) {
            return Some(Mismatch::Command);
        }
        if self.about.paths.as_ref().is_some_and(|globs| !self.has_path(globs, view)) {
            return Some(Mismatch::Path);
        }
        None
    }

    fn has_command(&self, command: &[Prefix], view: &View<'_>) -> bool {
        let facts = view.question.facts;
        facts.tool == ToolName::Exec && self.has_argv(command, &facts.argv)
    }

    /// Whether an argv begins with one of the prefixes, as this rule reads them.
    pub(super) fn has_argv(&self, command: &[Prefix], argv: &[String]) -> bool {
        command.iter().any(|prefix| prefix.matches(argv, self.effect))
    }

    /// One path is enough for a rule that stops; one that allows must cover each.
    fn has_path(&self, globs: &[PathGlob], view: &View<'_>) -> bool {
        let counts =
            |path: &&SeenPath| self.about.is_write.is_none_or(|is_write| is_write == path.is_write);
        if self.effect == Outcome::Allow {
            let is_covered = |path| globs.iter().any(|glob| glob.covers_whole(path));
            !view.paths.is_empty() && view.paths.iter().all(|p| counts(&p) && is_covered(p))
        } else {
            let mut paths = view.paths.iter().filter(counts);
            paths.any(|path| globs.iter().any(|glob| glob.covers(path)))
        }
    }

    fn has_host(&self, view: &View<'_>) -> bool {
        let (Some(hosts), Some(request)) = (&self.about.hosts, &view.question.facts.request) else {
            return false;
        };
        let to = Destination::request(&request.host, request.port, &request.method, &request.path);
        hosts.iter().any(|host| match self.effect {
            Outcome::Allow => host.allows(&to) && host.methods.contains(&request.method),
            Outcome::Ask | Outcome::Deny => host.denies(&to),
        })
    }

    /// Whether the rule stands in the way of hosts that a program or a redirect may come to later.
    pub(super) fn narrows(&self) -> bool {
        self.effect != Outcome::Allow && self.about.hosts.is_some()
    }
}

impl Channel {
    fn holds(self, question: &Question<'_>) -> bool {
        match self {
            Self::Surface(surface) => surface == question.surface,
            Self::Conversation(conversation) => Some(conversation) == question.conversation,
        }
    }
}

/// The names under which an index finds the rules about a program.
pub(super) fn program_keys(argv: &[String]) -> impl Iterator<Item = &str> {
    let program = argv.first().map(String::as_str);
    program.into_iter().chain(program.map(file_name))
}
