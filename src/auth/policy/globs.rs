//! Path patterns of rules, compared with the text of a path; see docs/POLICY.md.
//!
//! A pattern that begins with `/` looks at the absolute path, any other at the path below the
//! agent's workspace. It covers what it matches and everything below. `*` and `?` stop at a slash.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::path::resolved;
use crate::domain::{CallFacts, ToolName};

/// One pattern.
#[derive(Clone, Debug)]
pub(super) struct PathGlob {
    /// The directories before the first special character, without a trailing slash; empty where
    /// the pattern begins with one.
    base: String,
    /// None for `.`: the workspace as a whole.
    matcher: Option<GlobMatcher>,
}

/// A path of a call, as patterns look at it.
#[derive(Clone, Debug)]
pub(super) struct SeenPath {
    /// Without `.` and `..`.
    absolute: String,
    /// Where the part below the workspace begins; none outside of it.
    below: Option<usize>,
    /// Whether the call would write there.
    pub(super) is_write: bool,
    /// Whether the call reads everything below.
    is_tree: bool,
}

impl PathGlob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_absolute = text.starts_with('/');
        let named = text.strip_suffix('/').unwrap_or(text);
        if named == "." {
            return Ok(Self { base: String::new(), matcher: None });
        }
        if named.is_empty() {
            return Err("names nothing: `/**` is every path, `.` the whole workspace".to_owned());
        }
        let parts = || named.split('/').skip(usize::from(is_absolute));
        if parts().any(|part| matches!(part, "" | "." | "..")) {
            return Err("holds `.`, `..` or an empty part: write where it leads".to_owned());
        }
        let glob = GlobBuilder::new(named)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| format!("is no path pattern: {}", error.kind()))?;
        let mut base = String::new();
        for part in parts().take_while(|part| !part.contains(['*', '?', '[', ']', '{', '}', '\\']))
        {
            if is_absolute || !base.is_empty() {
                base.push('/');
            }
            base.push_str(part);
        }
        Ok(Self { base, matcher: Some(glob.compile_matcher()) })
    }

    /// The directory that holds everything that it can match; empty for anywhere.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Whether it covers the path. For a call that reads a tree: whether the tree may hold
    /// something that it covers.
    pub(super) fn covers(&self, path: &SeenPath) -> bool {
        let Some(text) = self.view(path) else { return false };
        if path.is_tree && is_at_or_below(&self.base, text) {
            return true;
        }
        if !is_at_or_below(text, &self.base) {
            return false;
        }
        // Below the base: a pattern deeper down could still match.
        path.is_tree || self.covers_text(text)
    }

    /// Whether it covers the path itself and so every path below; for rules that allow.
    pub(super) fn covers_whole(&self, path: &SeenPath) -> bool {
        self.view(path).is_some_and(|text| self.covers_text(text))
    }

    /// The text that the pattern looks at.
    fn view<'a>(&self, path: &'a SeenPath) -> Option<&'a str> {
        if self.is_absolute() { Some(path.absolute()) } else { path.relative() }
    }

    fn is_absolute(&self) -> bool {
        self.matcher.as_ref().is_some_and(|matcher| matcher.glob().glob().starts_with('/'))
    }

    fn covers_text(&self, text: &str) -> bool {
        let Some(matcher) = &self.matcher else { return true };
        ancestors(text)
            .take_while(|part| part.len() >= self.base.len())
            .any(|part| matcher.is_match(Path::new(part)))
    }
}

impl SeenPath {
    /// The paths of a call; those that lead nowhere are left out, since nothing allows them.
    pub(super) fn of_call(workspace: &Path, facts: &CallFacts) -> Vec<Self> {
        let root = resolved(workspace);
        let seen = facts.paths.iter().filter_map(|used| {
            let path = resolved(&workspace.join(&used.path))?;
            let absolute = path.to_str()?.to_owned();
            // Older recordings do not say it of a search.
            let is_tree = facts.is_tree || facts.tool == ToolName::SearchFiles;
            let below = root.as_ref().and_then(|root| {
                // Past the slash; at the end for the workspace itself, and for a tree around it.
                let end = (root.as_os_str().len() + 1).min(absolute.len());
                if path.starts_with(root) {
                    Some(end)
                } else {
                    (is_tree && root.starts_with(&path)).then_some(absolute.len())
                }
            });
            Some(Self { absolute, below, is_write: used.is_write, is_tree })
        });
        seen.collect()
    }

    /// The whole path.
    pub(super) fn absolute(&self) -> &str {
        &self.absolute
    }

    /// The path below the workspace, empty for the workspace itself; none outside of it.
    pub(super) fn relative(&self) -> Option<&str> {
        self.below.and_then(|at| self.absolute.get(at..))
    }
}

/// A path and the directories above it, innermost first; the root and the workspace itself, which
/// have no name, only where they are the path.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        let (above, _) = path.rsplit_once('/')?;
        (!above.is_empty()).then_some(above)
    })
}

/// Whether a path is the directory or lies below it; everything lies below the empty one.
fn is_at_or_below(path: &str, dir: &str) -> bool {
    let dir = dir.strip_suffix('/').unwrap_or(dir);
    dir.is_empty()
        || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
