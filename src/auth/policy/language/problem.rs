//! What is wrong with a policy's text: all of it at once, each with its line.

use std::fmt;

/// Problems that are reported; more are counted.
const SHOWN_MAX: usize = 100;
/// Characters of the operator's own words that a problem repeats.
const WORD_CHARS: usize = 80;
/// What a name is.
pub(super) const NAMES: &str = "a name has 1 to 64 lower-case letters, digits, `-` or `_`";

/// Everything that is wrong with a policy's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// Each with its line, in the order of the text; at most 100, and then how many more.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a policy's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// What, in words, and what to write instead.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Problems of one text as they are found.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<(usize, String)>,
    count: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), count: 0 }
    }

    /// Adds one, at a place of the text in bytes.
    pub(super) fn add(&mut self, at: usize, what: String) {
        self.count += 1;
        if self.found.len() < SHOWN_MAX {
            self.found.push((at, what));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(super) fn into_error(mut self) -> PolicyError {
        self.found.sort_by_key(|(at, _)| *at);
        let found = std::mem::take(&mut self.found);
        let more = self.count.saturating_sub(found.len());
        let mut problems: Vec<Problem> =
            found.into_iter().map(|(at, what)| Problem { line: self.line(at), what }).collect();
        if more > 0 {
            let line = problems.last().map_or(1, |last| last.line);
            problems.push(Problem { line, what: format!("and {more} more problems") });
        }
        PolicyError { problems }
    }
}

/// Whether a text can name a rule or a pattern. Without dots: those are for built-in rules.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_part)
}

/// ": did you mean …?", where something known is near.
pub(super) fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    if found.len() > WORD_CHARS {
        return String::new();
    }
    let near = known
        .into_iter()
        .min_by_key(|known| strsim::damerau_levenshtein(known, found))
        .filter(|known| strsim::normalized_damerau_levenshtein(known, found) > 0.4);
    near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"))
}

/// The operator's own words, short enough to be repeated.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORD_CHARS).collect()
}
