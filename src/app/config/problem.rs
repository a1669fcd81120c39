//! What is wrong with a configuration: all of it at once, each with its place.

use std::fmt;

/// Everything that is wrong.
#[derive(Debug, Default, thiserror::Error)]
pub(crate) struct Problems(Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// File and line, or variable, or option.
    pub(crate) place: String,
    /// What, in words; never a secret's value.
    pub(crate) what: String,
}

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { place: place.into(), what: what.into() });
    }

    /// The problems.
    pub(crate) fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", problem.place, problem.what)?;
        }
        Ok(())
    }
}
