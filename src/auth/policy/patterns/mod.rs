//! Deny patterns: regular expressions over scripts and joined argvs.
//!
//! Invariants: a second net, not the boundary: the kernel is. They only deny. The regular
//! expressions run in time linear in the text (the `regex` crate), and their compiled size is
//! bounded.

mod usual;

use std::{borrow::Cow, sync::LazyLock};

use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::domain::{CallFacts, ToolName, limits};

use usual::USUAL;
pub use usual::Usual;

/// Where a command may begin: the beginning of a text or line, after `;`, `&`, `|`, a bracket or a
/// word that runs another command; then any variables set for it and the directory of the program.
const COMMAND: &str = r"(?:^|[;&|(){}`\n]|(?:^|[ \t;&|(){}`\n])(?:-[a-z]*c|xargs|exec|env|nohup|nice|time|command|builtin|then|do|else|eval|sudo|doas)[ \t]+(?:-[^ \t\n]*[ \t]+)*)[ \t]*(?:[A-Za-z_][A-Za-z0-9_]*=[^ \t\n]*[ \t]+)*(?:[-A-Za-z0-9_.~]*/)*";

/// The patterns that are in force.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    /// By place in the table of the usual ones.
    is_on: Vec<bool>,
    custom: Vec<Custom>,
    custom_set: RegexSet,
}

/// A pattern of the file.
#[derive(Clone, Debug)]
pub(super) struct Custom {
    pub(super) name: String,
    pattern: String,
    reason: Option<String>,
}

/// A pattern that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'p> {
    pub(super) name: &'p str,
    pub(super) reason: &'p str,
    /// Whether it is built in, and so can be disabled by name.
    pub(super) is_usual: bool,
}

/// What a custom pattern without a reason says.
const NO_REASON: &str = "the operator has forbidden this";

fn usual_set() -> &'static RegexSet {
    static SET: LazyLock<RegexSet> = LazyLock::new(|| {
        let patterns: Vec<String> = USUAL.iter().map(Usual::regex).collect();
        // A test compiles the table; should one of it ever be wrong, the other layers hold.
        builder(&patterns).build().unwrap_or_else(|_| RegexSet::empty())
    });
    &SET
}

fn builder(patterns: &[String]) -> RegexSetBuilder {
    let mut builder = RegexSetBuilder::new(patterns);
    builder.unicode(false).size_limit(limits::POLICY_PATTERNS_COMPILED_BYTES_MAX);
    builder
}

/// Whether a name is that of a built-in pattern.
pub(super) fn is_usual(name: &str) -> bool {
    USUAL.iter().any(|usual| usual.name == name)
}

/// The names of the built-in patterns.
pub(super) fn usual_names() -> impl Iterator<Item = &'static str> {
    USUAL.iter().map(|usual| usual.name)
}

/// Every built-in pattern, for documents and tests.
pub const fn usual() -> &'static [Usual] {
    USUAL
}

/// Whether one pattern alone finds something in a text.
pub(super) fn matches_one(custom: &Custom, text: &str) -> bool {
    let regex = RegexBuilder::new(&custom.pattern).unicode(false).build();
    regex.is_ok_and(|regex| readings(text).iter().any(|text| regex.is_match(text.as_bytes())))
}

impl Custom {
    /// Checks a pattern; [`COMMAND`] may be written `{CMD}`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn new(name: String, pattern: &str, reason: Option<String>) -> Result<Self, String> {
        let pattern = pattern.replace("{CMD}", COMMAND);
        let compiled = RegexBuilder::new(&pattern).unicode(false).size_limit(1 << 20).build();
        match compiled {
            Ok(regex) if regex.is_match(b"") => {
                Err("matches the empty text, and so every call".to_owned())
            }
            Ok(_) => Ok(Self { name, pattern, reason }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("is too large compiled: shorten it or lower its repetitions".to_owned())
            }
            Err(error) => {
                // The last line says what; the ones before draw the place.
                let text = error.to_string();
                let what = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(format!("is no regular expression: {what}"))
            }
        }
    }
}

impl Patterns {
    /// The built-in ones alone.
    pub(super) fn usual() -> Self {
        let is_on = vec![true; USUAL.len()];
        Self { is_on, custom: Vec::new(), custom_set: RegexSet::empty() }
    }

    /// The built-in ones, as far as they are wanted, and further ones.
    ///
    /// # Errors
    ///
    /// All together are too large.
    pub(super) fn new(
        is_on: bool,
        disabled: &[String],
        custom: Vec<Custom>,
    ) -> Result<Self, String> {
        let is_on = USUAL.iter().map(|u| is_on && !disabled.iter().any(|d| d == u.name)).collect();
        let patterns: Vec<String> = custom.iter().map(|custom| custom.pattern.clone()).collect();
        let custom_set = builder(&patterns)
            .build()
            .ok()
            .ok_or_else(|| "are too large together: shorten them".to_owned())?;
        Ok(Self { is_on, custom, custom_set })
    }

    pub(super) fn count(&self) -> usize {
        self.is_on.iter().filter(|is_on| **is_on).count() + self.custom.len()
    }

    /// The first pattern that is found in the call, by its place in the table, then in the file.
    pub(super) fn find(&self, facts: &CallFacts) -> Option<Found<'_>> {
        let text = searched(facts)?;
        let mut usual: Option<usize> = None;
        let mut own: Option<usize> = None;
        for text in readings(&text) {
            let found = usual_set().matches(text.as_bytes());
            let found = found.into_iter().find(|at| self.is_on.get(*at) == Some(&true));
            usual = usual.into_iter().chain(found).min();
            let found = self.custom_set.matches(text.as_bytes()).into_iter().next();
            own = own.into_iter().chain(found).min();
        }
        let usual = usual.and_then(|at| USUAL.get(at));
        if let Some(usual) = usual {
            return Some(Found { name: usual.name, reason: usual.reason, is_usual: true });
        }
        let custom = own.and_then(|at| self.custom.get(at))?;
        let reason = custom.reason.as_deref().unwrap_or(NO_REASON);
        Some(Found { name: &custom.name, reason, is_usual: false })
    }
}

/// What patterns look at in a call.
fn searched(facts: &CallFacts) -> Option<Cow<'_, str>> {
    match facts.tool {
        ToolName::Shell => facts.script.as_deref().map(Cow::Borrowed),
        ToolName::Exec => Some(Cow::Owned(facts.argv.join(" "))),
        ToolName::ReadFile
        | ToolName::WriteFile
        | ToolName::EditFile
        | ToolName::ListFiles
        | ToolName::SearchFiles
        | ToolName::HttpRequest
        | ToolName::AskUser => None,
    }
}

/// The text as it is, and, where it differs, as a shell reads it: without quotes and backslashes,
/// lines joined, `$IFS` a space.
fn readings(text: &str) -> Vec<Cow<'_, str>> {
    if !text.contains(['\'', '"', '\\', '$']) {
        return vec![Cow::Borrowed(text)];
    }
    let plain = text
        .replace("\\\n", "")
        .replace("${IFS}", " ")
        .replace("$IFS", " ")
        .replace(['\'', '"', '\\'], "");
    if plain == text { vec![Cow::Borrowed(text)] } else { vec![Cow::Borrowed(text), plain.into()] }
}

#[cfg(test)]
mod tests;
