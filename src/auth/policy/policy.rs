//! A policy: the rules and patterns of a file, read and checked.

use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};

use super::{
    index::Index,
    language::{self, PolicyError},
    patterns::Patterns,
    rule::{Rule, View},
};

/// The policy where no file is given: no rule, the usual deny patterns.
const BUILTIN: &str = "version = 1\n";

/// A policy's rules and patterns, checked. Immutable: a change is another policy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    version: String,
    text: String,
    /// By name, so that the order of the file says nothing.
    rules: Vec<Rule>,
    index: Index,
    patterns: Patterns,
}

impl Policy {
    /// The policy where no file is given.
    pub fn builtin() -> Self {
        static BUILT: LazyLock<Policy> =
            LazyLock::new(|| Policy::new(BUILTIN, Vec::new(), Patterns::usual()));
        BUILT.clone()
    }

    /// Reads a policy. The language and its bounds: docs/POLICY.md.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let (rules, patterns) = language::read(text)?;
        Ok(Self::new(text, rules, patterns))
    }

    /// SHA-256 (hex) over the text.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// How many rules it has.
    pub fn rules_count(&self) -> usize {
        self.0.rules.len()
    }

    /// How many deny patterns are in force.
    pub fn patterns_count(&self) -> usize {
        self.0.patterns.count()
    }

    pub(super) fn patterns(&self) -> &Patterns {
        &self.0.patterns
    }

    /// The rules that may be about a call, by name.
    pub(super) fn candidates(&self, view: &View<'_>) -> impl Iterator<Item = &Rule> {
        let places = self.0.index.candidates(view).into_iter();
        places.filter_map(|at| self.0.rules.get(at))
    }

    /// All of them, by name: what the index is held against.
    #[cfg(test)]
    pub(super) fn every_rule(&self) -> impl Iterator<Item = &Rule> {
        self.0.rules.iter()
    }

    /// The rules with hosts that may stand in the way of what the call reaches later.
    pub(super) fn narrowing(&self, view: &View<'_>) -> impl Iterator<Item = &Rule> {
        self.0.index.narrowing(view).filter_map(|at| self.0.rules.get(at))
    }

    fn new(text: &str, mut rules: Vec<Rule>, patterns: Patterns) -> Self {
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        Self(Arc::new(Inner {
            version: data_encoding::HEXLOWER.encode(&Sha256::digest(text)),
            text: text.to_owned(),
            index: Index::of(&rules),
            rules,
            patterns,
        }))
    }
}
