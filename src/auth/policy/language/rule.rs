//! One `[[rule]]`: its matchers, what it asks for, and whether the two fit together.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Reader,
    problem::{NAMES, is_name, shown},
    values::{Place, a_bool, a_choice, a_count, a_list, a_text, names, unknown},
};
use crate::{
    auth::policy::{
        command::{Prefix, Token},
        globs::PathGlob,
        rule::{About, Channel, Rule},
        verdict::Outcome,
    },
    domain::{AgentName, HostRule, Risk, Role, Surface, ToolName, limits},
};

/// What may stand in a rule.
pub(super) const KEYS: &[&str] = &[
    "name",
    "effect",
    "reason",
    "agents",
    "roles",
    "channels",
    "tools",
    "risk",
    "tainted",
    "paths",
    "access",
    "hosts",
    "command",
    "match",
    "not_match",
    "set_risk",
    "require_role",
    "quorum",
];
const EFFECTS: &[(&str, Outcome)] =
    &[("deny", Outcome::Deny), ("ask", Outcome::Ask), ("allow", Outcome::Allow)];
const RISKS: &[(&str, Risk)] =
    &[("low", Risk::Low), ("medium", Risk::Medium), ("high", Risk::High)];
/// Nobody below decides an approval.
const DECIDERS: &[(&str, Role)] =
    &[("operator", Role::Operator), ("admin", Role::Admin), ("overlord", Role::Overlord)];
const ACCESS: &[(&str, bool)] = &[("read", false), ("write", true)];

/// A rule's table with its name, for what is said about it.
struct Entry<'v, 'i> {
    table: &'v DeTable<'i>,
    of: String,
    at: usize,
}

impl<'v, 'i> Entry<'v, 'i> {
    fn get<'a>(&'a self, key: &'a str) -> Option<(&'v Spanned<DeValue<'i>>, Place<'a>)> {
        self.table.get(key).map(|value| (value, Place { of: &self.of, key }))
    }

    /// Where a key stands, or else the rule.
    fn at(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.at, |value| value.span().start)
    }
}

impl Reader<'_, '_> {
    pub(super) fn rule_name(&mut self, table: &DeTable<'_>, at: usize) -> Option<String> {
        let Some(value) = table.get("name") else {
            self.problems.add(at, "a rule without `name`".to_owned());
            return None;
        };
        let name = a_text(value, &Place { of: "a rule", key: "name" }, self.problems)?;
        if !is_name(&name) {
            self.problems.add(value.span().start, format!("`{}`: {NAMES}", shown(&name)));
            return None;
        }
        Some(name)
    }

    /// Reads a rule; none where it cannot be understood.
    pub(super) fn rule(&mut self, table: &DeTable<'_>, name: String, at: usize) -> Option<Rule> {
        let entry = Entry { table, of: format!("rule `{name}`"), at };
        self.known_keys(table, KEYS, &entry.of);
        let effect = if let Some((value, place)) = entry.get("effect") {
            a_choice(value, &place, self.problems, EFFECTS)
        } else {
            let what = format!("{}: `effect` is missing (deny, ask or allow)", entry.of);
            self.problems.add(at, what);
            None
        };
        let about = self.about(&entry);
        let rule = Rule {
            name: name.into(),
            // The stricter where it is not known; the text is refused anyway.
            effect: effect.unwrap_or(Outcome::Deny),
            about,
            reason: entry
                .get("reason")
                .and_then(|(value, place)| a_text(value, &place, self.problems)),
            set_risk: entry
                .get("set_risk")
                .and_then(|(value, place)| a_choice(value, &place, self.problems, RISKS)),
            require_role: entry
                .get("require_role")
                .and_then(|(value, place)| a_choice(value, &place, self.problems, DECIDERS)),
            quorum: entry.get("quorum").and_then(|(value, place)| {
                a_count(value, limits::POLICY_QUORUM_MAX, &place, self.problems)
            }),
        };
        self.examples(entry.get("match"), &rule, true);
        self.examples(entry.get("not_match"), &rule, false);
        if effect.is_some() {
            self.fits(&entry, &rule);
        }
        effect.map(|_| rule)
    }

    fn about(&mut self, entry: &Entry<'_, '_>) -> About {
        let problems = &mut *self.problems;
        let agent = |word: &str| {
            word.parse::<AgentName>().ok().ok_or_else(|| format!("has `{}`, {NAMES}", shown(word)))
        };
        let role = |word: &str| {
            let known = Role::ALL.iter().map(|role| role.as_str());
            word.parse::<Role>().ok().ok_or_else(|| unknown(word, known))
        };
        let tool = |word: &str| {
            let known = ToolName::ALL.iter().map(|tool| tool.as_str());
            word.parse::<ToolName>().ok().ok_or_else(|| unknown(word, known))
        };
        About {
            agents: entry.get("agents").and_then(|(v, place)| names(v, &place, problems, agent)),
            roles: entry.get("roles").and_then(|(v, place)| names(v, &place, problems, role)),
            channels: entry
                .get("channels")
                .and_then(|(v, place)| names(v, &place, problems, channel)),
            tools: entry.get("tools").and_then(|(v, place)| names(v, &place, problems, tool)),
            risk: entry.get("risk").and_then(|(v, p)| a_choice(v, &p, problems, RISKS)),
            tainted: entry.get("tainted").and_then(|(v, place)| a_bool(v, &place, problems)),
            is_write: entry.get("access").and_then(|(v, p)| a_choice(v, &p, problems, ACCESS)),
            paths: entry.get("paths").map(|(value, place)| self.paths(value, &place)),
            hosts: entry.get("hosts").map(|(value, place)| self.hosts(value, &place)),
            command: entry.get("command").map(|(value, place)| self.command(value, &place)),
        }
    }

    fn paths(&mut self, value: &Spanned<DeValue<'_>>, place: &Place<'_>) -> Vec<PathGlob> {
        let mut globs = Vec::new();
        for (text, at) in super::values::texts(value, place, self.problems) {
            self.globs += 1;
            if self.globs > limits::POLICY_GLOBS_MAX {
                let most = limits::POLICY_GLOBS_MAX;
                place.bad(at, &format!("go beyond {most} patterns in one policy"), self.problems);
                break;
            }
            match PathGlob::parse(&text) {
                Ok(glob) => globs.push(glob),
                Err(what) => {
                    place.bad(at, &format!("pattern `{}` {what}", shown(&text)), self.problems);
                }
            }
        }
        globs
    }

    fn hosts(&mut self, value: &Spanned<DeValue<'_>>, place: &Place<'_>) -> Vec<HostRule> {
        let mut hosts = Vec::new();
        for entry in a_list(value, place, self.problems).into_iter().flatten() {
            let de = toml::de::ValueDeserializer::from(entry.clone());
            match <HostRule as serde::Deserialize>::deserialize(de) {
                Ok(host) if host.allow_private || host.opaque => place.bad(
                    entry.span().start,
                    "cannot say `allow_private` or `opaque`: those belong to the agent's \
                     allowed domains",
                    self.problems,
                ),
                Ok(host) => hosts.push(host),
                Err(error) => {
                    let what = format!("holds no host rule: {}", error.message());
                    place.bad(entry.span().start, &what, self.problems);
                }
            }
        }
        hosts
    }

    fn command(&mut self, value: &Spanned<DeValue<'_>>, place: &Place<'_>) -> Vec<Prefix> {
        let shape = "must be a list of commands, each a list of tokens, such as \
                     [[\"git\", [\"status\", \"log\"]]]";
        let mut prefixes = Vec::new();
        for entry in a_list(value, place, self.problems).into_iter().flatten() {
            let at = entry.span().start;
            let Some(list) = entry.get_ref().as_array() else {
                place.bad(at, shape, self.problems);
                continue;
            };
            if list.is_empty() || list.len() > limits::POLICY_TOKENS_MAX {
                let most = limits::POLICY_TOKENS_MAX;
                place.bad(at, &format!("takes 1 to {most} tokens a command"), self.problems);
                continue;
            }
            let tokens: Option<Vec<Token>> =
                list.iter().map(|token| self.token(token, place)).collect();
            prefixes.extend(tokens.map(|tokens| Prefix { tokens }));
        }
        prefixes
    }

    fn token(&mut self, value: &Spanned<DeValue<'_>>, place: &Place<'_>) -> Option<Token> {
        if value.get_ref().as_array().is_none() {
            let word = a_text(value, place, self.problems)?;
            return Some(if word == "*" { Token::Any } else { Token::OneOf(vec![word]) });
        }
        let words: Vec<String> = super::values::texts(value, place, self.problems)
            .into_iter()
            .map(|(word, _)| word)
            .collect();
        if words.iter().any(|word| word == "*") {
            let what = "holds `*` in a set of tokens: `*` stands alone";
            place.bad(value.span().start, what, self.problems);
            return None;
        }
        (!words.is_empty()).then_some(Token::OneOf(words))
    }

    /// Refuses a rule that could never do what it says.
    fn fits(&mut self, entry: &Entry<'_, '_>, rule: &Rule) {
        let About { tools, command, hosts, paths, is_write, .. } = &rule.about;
        let mut bad = |key: &str, what: &str| {
            self.problems.add(entry.at(key), format!("{}: {what}", entry.of));
        };
        let takes = |wanted: &[ToolName]| {
            tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| wanted.contains(tool)))
        };
        if command.is_some() && !takes(&[ToolName::Exec]) {
            bad("command", "`command` looks at the argv of `exec`, which `tools` leaves out");
        }
        let reaching = [ToolName::HttpRequest, ToolName::Exec, ToolName::Shell];
        if hosts.is_some() && !takes(&reaching) {
            bad("hosts", "`hosts` is about `http_request`, `exec` or `shell`: add one to `tools`");
        }
        let pathless = [ToolName::HttpRequest, ToolName::AskUser];
        let with_paths: Vec<ToolName> =
            ToolName::ALL.iter().copied().filter(|tool| !pathless.contains(tool)).collect();
        if paths.is_some() && !takes(&with_paths) {
            bad("paths", "`paths` is about files and programs, and `tools` names none of theirs");
        }
        if paths.is_some() && hosts.is_some() && rule.effect == Outcome::Allow {
            bad("hosts", "no call names both a path and a host: write two rules");
        }
        if is_write.is_some() && paths.is_none() {
            bad("access", "`access` says something about `paths`, which is missing");
        }
        if rule.effect != Outcome::Ask {
            for (key, is_given) in [
                ("set_risk", rule.set_risk.is_some()),
                ("require_role", rule.require_role.is_some()),
                ("quorum", rule.quorum.is_some()),
            ] {
                if is_given {
                    bad(key, &format!("`{key}` is for rules that ask"));
                }
            }
        }
        if rule.effect == Outcome::Allow {
            self.allows_something(entry, &rule.about);
        }
    }

    /// A rule that allows lifts one of two built-in questions; any other would be read as more than
    /// it is.
    fn allows_something(&mut self, entry: &Entry<'_, '_>, about: &About) {
        let mut bad = |key: &str, what: &str| {
            self.problems.add(entry.at(key), format!("{}: {what}", entry.of));
        };
        match (&about.command, &about.hosts) {
            (None, None) => bad(
                "effect",
                "a rule that allows needs `command`, for programs that are not on the agent's \
                 list, or `hosts` with methods, for requests that change something; tools, paths \
                 and hosts are the agent's definition's alone",
            ),
            (Some(_), Some(_)) => {
                bad("hosts", "no call has both an argv and a host: write two rules");
            }
            (Some(prefixes), None) => {
                if prefixes.iter().any(|prefix| prefix.programs().is_none()) {
                    bad("command", "a rule that allows names its programs: no `*` as first token");
                }
            }
            (None, Some(hosts)) => {
                if hosts.iter().any(|host| host.methods.is_empty()) {
                    bad(
                        "hosts",
                        "a rule that allows lists methods, such as { host = \"api.example\", \
                         methods = [\"POST\"] }",
                    );
                }
            }
        }
    }
}

fn channel(word: &str) -> Result<Channel, String> {
    let surface = Surface::ALL.into_iter().find(|surface| surface.as_str() == word);
    if let Some(surface) = surface {
        return Ok(Channel::Surface(surface));
    }
    word.parse().ok().map(Channel::Conversation).ok_or_else(|| {
        let known = Surface::ALL.iter().map(|surface| surface.as_str());
        format!("{}, or a conversation's id", unknown(word, known))
    })
}
