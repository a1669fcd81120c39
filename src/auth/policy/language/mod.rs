//! Reads a policy's text: rules and deny patterns. Every problem is reported, not only the first.
//!
//! Invariants: any text gives rules or problems, never a panic; what is not understood is refused,
//! and so is a rule that could never do what it says.

mod examples;
mod problem;
mod rule;
mod values;

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

pub use problem::{PolicyError, Problem};

use self::{
    problem::{Problems, nearest},
    values::{Place, a_bool, a_list, a_text, texts},
};
use super::{
    patterns::{self, Custom, Patterns},
    rule::Rule,
};
use crate::domain::limits;

/// What may stand at the top of a policy.
const KEYS: &[&str] =
    &["version", "deny_patterns", "disabled_deny_patterns", "custom_deny_patterns", "rule"];
/// What may stand in an entry of `custom_deny_patterns`.
const PATTERN_KEYS: &[&str] = &["name", "pattern", "reason", "match", "not_match"];
/// The language's version that this program reads.
const VERSION: i64 = 1;

/// Reads a policy.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(super) fn read(text: &str) -> Result<(Vec<Rule>, Patterns), PolicyError> {
    let mut problems = Problems::new(text);
    if text.len() > limits::POLICY_BYTES_MAX {
        let most = limits::POLICY_BYTES_MAX;
        problems.add(0, format!("the policy has {} bytes; at most {most} are read", text.len()));
        return Err(problems.into_error());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.add(at, error.message().to_owned());
    }
    // What a broken text seems to say would only add noise.
    if problems.is_empty() {
        let mut reader = Reader { problems: &mut problems, globs: 0 };
        let read = reader.policy(table.get_ref());
        if let (true, Some(read)) = (problems.is_empty(), read) {
            return Ok(read);
        }
    }
    Err(problems.into_error())
}

/// Every key that a policy may hold: what the document is held against.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().chain(rule::KEYS).chain(PATTERN_KEYS).copied().filter(|key| *key != "rule")
}

/// Reads one text.
struct Reader<'p, 't> {
    problems: &'p mut Problems<'t>,
    /// Path patterns so far.
    globs: usize,
}

impl Reader<'_, '_> {
    fn policy(&mut self, table: &DeTable<'_>) -> Option<(Vec<Rule>, Patterns)> {
        self.known_keys(table, KEYS, "the policy");
        match table.get("version").map(|v| (v, v.get_ref().as_integer())) {
            None => self.problems.add(0, "`version = 1` is missing at the top".to_owned()),
            Some((_, Some(n))) if i64::from_str_radix(n.as_str(), n.radix()) == Ok(VERSION) => {}
            Some((value, _)) => self.problems.add(
                value.span().start,
                "`version` must be 1, the version of the language that this program reads"
                    .to_owned(),
            ),
        }
        let rules = self.rules(table);
        let patterns = self.patterns(table);
        Some((rules, patterns?))
    }

    fn rules(&mut self, table: &DeTable<'_>) -> Vec<Rule> {
        let Some(value) = table.get("rule") else { return Vec::new() };
        let Some(entries) = value.get_ref().as_array() else {
            self.problems.add(value.span().start, "write each rule as `[[rule]]`".to_owned());
            return Vec::new();
        };
        if entries.len() > limits::POLICY_RULES_MAX {
            let (count, most) = (entries.len(), limits::POLICY_RULES_MAX);
            let what = format!("{count} rules; a policy has at most {most}");
            self.problems.add(value.span().start, what);
            return Vec::new();
        }
        let mut rules = Vec::with_capacity(entries.len());
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries {
            let at = entry.span().start;
            let Some(table) = entry.get_ref().as_table() else {
                self.problems.add(at, "write each rule as `[[rule]]`".to_owned());
                continue;
            };
            let Some(name) = self.rule_name(table, at) else { continue };
            if let Some(first) = names.get(&name) {
                let line = self.problems.line(*first);
                let what = format!("rule `{name}`: line {line} has a rule of this name already");
                self.problems.add(at, what);
            }
            names.entry(name.clone()).or_insert(at);
            rules.extend(self.rule(table, name, at));
        }
        rules
    }

    fn patterns(&mut self, table: &DeTable<'_>) -> Option<Patterns> {
        let is_on = table.get("deny_patterns").is_none_or(|value| {
            let place = Place { of: "the policy", key: "deny_patterns" };
            a_bool(value, &place, self.problems).unwrap_or(true)
        });
        let mut disabled = Vec::new();
        if let Some(value) = table.get("disabled_deny_patterns") {
            let place = Place { of: "the policy", key: "disabled_deny_patterns" };
            for (name, at) in texts(value, &place, self.problems) {
                if patterns::is_usual(&name) {
                    disabled.push(name);
                } else {
                    let hint = nearest(&name, patterns::usual_names());
                    self.problems.add(at, format!("no built-in deny pattern is `{name}`{hint}"));
                }
            }
        }
        let custom = table.get("custom_deny_patterns").map(|value| {
            let place = Place { of: "the policy", key: "custom_deny_patterns" };
            a_list(value, &place, self.problems).map_or_else(Vec::new, |list| self.custom(list))
        });
        match Patterns::new(is_on, &disabled, custom.unwrap_or_default()) {
            Ok(patterns) => Some(patterns),
            Err(what) => {
                let at = table.get("custom_deny_patterns").map_or(0, |v| v.span().start);
                self.problems.add(at, format!("`custom_deny_patterns` {what}"));
                None
            }
        }
    }

    /// Custom patterns: a text each, or a table with a name, a reason and examples.
    fn custom(&mut self, list: &DeArray<'_>) -> Vec<Custom> {
        if list.len() > limits::POLICY_PATTERNS_MAX {
            let (count, most) = (list.len(), limits::POLICY_PATTERNS_MAX);
            let what = format!("`custom_deny_patterns`: {count} patterns; at most {most}");
            self.problems.add(list.first().map_or(0, |v| v.span().start), what);
            return Vec::new();
        }
        let mut custom: Vec<Custom> = Vec::new();
        for (n, entry) in list.iter().enumerate() {
            let at = entry.span().start;
            let Some(read) = self.pattern(entry, n + 1) else { continue };
            let is_taken = |other: &str| other == read.name;
            if custom.iter().any(|c| is_taken(&c.name)) || patterns::is_usual(&read.name) {
                let what = format!("deny pattern `{}`: another one has this name", read.name);
                self.problems.add(at, what);
            }
            custom.push(read);
        }
        custom
    }

    fn pattern(&mut self, entry: &Spanned<DeValue<'_>>, n: usize) -> Option<Custom> {
        let at = entry.span().start;
        let unnamed = format!("custom-{n}");
        let DeValue::Table(table) = entry.get_ref() else {
            let place = Place { of: "the policy", key: "custom_deny_patterns" };
            let pattern = a_text(entry, &place, self.problems)?;
            return self.compiled(at, unnamed, &pattern, None);
        };
        self.known_keys(table, PATTERN_KEYS, "a deny pattern");
        let name = self.word(table, "name", "a deny pattern").unwrap_or(unnamed);
        if !problem::is_name(&name) {
            self.problems.add(at, format!("deny pattern `{name}`: {}", problem::NAMES));
        }
        let of = format!("deny pattern `{name}`");
        let reason = self.word(table, "reason", &of);
        let Some(pattern) = self.word(table, "pattern", &of) else {
            if !table.contains_key("pattern") {
                self.problems.add(at, format!("{of}: `pattern` is missing"));
            }
            return None;
        };
        let custom = self.compiled(at, name, &pattern, reason)?;
        for (key, wanted) in [("match", true), ("not_match", false)] {
            let Some(value) = table.get(key) else { continue };
            for (example, at) in texts(value, &Place { of: &of, key }, self.problems) {
                if patterns::matches_one(&custom, &example) != wanted {
                    let found = if wanted { "does not match" } else { "matches" };
                    self.problems.add(at, format!("{of}: it {found} its `{key}` {example:?}"));
                }
            }
        }
        Some(custom)
    }

    fn compiled(
        &mut self,
        at: usize,
        name: String,
        pattern: &str,
        reason: Option<String>,
    ) -> Option<Custom> {
        match Custom::new(name.clone(), pattern, reason) {
            Ok(custom) => Some(custom),
            Err(what) => {
                self.problems.add(at, format!("deny pattern `{name}`: {what}"));
                None
            }
        }
    }

    /// The text at a key, if it is there.
    fn word(&mut self, table: &DeTable<'_>, key: &str, of: &str) -> Option<String> {
        table.get(key).and_then(|value| a_text(value, &Place { of, key }, self.problems))
    }

    fn known_keys(&mut self, table: &DeTable<'_>, known: &[&str], of: &str) {
        for name in table.keys() {
            let own = name.get_ref().as_ref();
            if !known.contains(&own) {
                let hint = nearest(own, known.iter().copied());
                let own = problem::shown(own);
                self.problems.add(name.span().start, format!("{of}: unknown key `{own}`{hint}"));
            }
        }
    }
}
