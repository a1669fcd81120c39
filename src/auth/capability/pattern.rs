//! What a permission is about: patterns of resources, and which of two is the wider one.
//!
//! Invariants: a resource that is not of the pattern's own kind is never meant by it. Containment
//! is decided from the patterns alone; where that is not certain, the answer is no.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use crate::domain::{HostName, HostPattern, HostRule, ToolName};

use super::claims::Category;

/// What ends the text of a tree of files.
const BELOW: &str = "/**";
/// The text of every command.
const ANY: &str = "*";

/// Which resources a permission is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This tool.
    Tool(ToolName),
    /// This file or directory and everything below it: an absolute path without `.` and `..`.
    Tree(PathBuf),
    /// This program, by the same text as it is called; never `*`, see [`Pattern::command`].
    Command(String),
    /// Every program.
    AnyCommand,
    /// The hosts of this rule, at its port, for its methods and below its path.
    Host(HostRule),
}

/// One thing that is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// A tool.
    Tool(ToolName),
    /// A file, by its absolute path.
    Path(&'a Path),
    /// A program, as argv names it.
    Command(&'a str),
    /// Another machine.
    Host {
        /// Its name.
        host: &'a HostName,
        /// The port there.
        port: u16,
        /// Method and path of a request that can be seen; none for a tunnel.
        request: Option<(&'a str, &'a str)>,
    },
}

impl Pattern {
    /// The tree of a path; none for one that cannot be written down without doubt.
    pub fn tree(path: &Path) -> Option<Self> {
        (is_plain(path) && path.to_str().is_some()).then(|| Self::Tree(path.components().collect()))
    }

    /// The program of this name, or every program for `*`.
    pub fn command(name: &str) -> Self {
        if name == ANY { Self::AnyCommand } else { Self::Command(name.to_owned()) }
    }

    /// The kind of resource that is meant.
    pub const fn category(&self) -> Category {
        match self {
            Self::Tool(_) => Category::Tool,
            Self::Tree(_) => Category::Path,
            Self::Command(_) | Self::AnyCommand => Category::Command,
            Self::Host(_) => Category::Host,
        }
    }

    /// Reads what [`Display`](fmt::Display) has written; none for anything else.
    pub fn parse(category: Category, text: &str) -> Option<Self> {
        match category {
            Category::Tool => text.parse().ok().map(Self::Tool),
            Category::Path => {
                let path = text.strip_suffix(BELOW)?;
                Self::tree(Path::new(if path.is_empty() { "/" } else { path }))
            }
            Category::Command => (!text.is_empty()).then(|| Self::command(text)),
            Category::Host => text.parse().ok().map(Self::Host),
        }
    }

    /// Whether this resource is meant.
    pub fn covers(&self, resource: &Resource<'_>) -> bool {
        match (self, resource) {
            (Self::Tool(own), Resource::Tool(asked)) => own == asked,
            (Self::Tree(tree), Resource::Path(path)) => is_plain(path) && path.starts_with(tree),
            (Self::Command(own), Resource::Command(asked)) => own == asked,
            (Self::AnyCommand, Resource::Command(asked)) => !asked.is_empty(),
            (Self::Host(rule), Resource::Host { host, port, request }) => {
                rule.host.allows(host) && rule.allowed_port() == *port && sees(rule, *request)
            }
            (
                Self::Tool(_) | Self::Tree(_) | Self::Command(_) | Self::AnyCommand | Self::Host(_),
                _,
            ) => false,
        }
    }

    /// Whether everything that `inner` means is meant by this one too.
    pub fn contains(&self, inner: &Self) -> bool {
        match (self, inner) {
            (Self::Tree(outer), Self::Tree(inner)) => inner.starts_with(outer),
            (Self::AnyCommand, Self::Command(_) | Self::AnyCommand) => true,
            (Self::Host(outer), Self::Host(inner)) => host_contains(outer, inner),
            (Self::Tool(_) | Self::Command(_), _) => self == inner,
            (Self::Tree(_) | Self::AnyCommand | Self::Host(_), _) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(tool) => tool.fmt(f),
            Self::Tree(path) if path.as_os_str() == "/" => f.write_str(BELOW),
            Self::Tree(path) => write!(f, "{}{BELOW}", path.display()),
            Self::Command(command) => f.write_str(command),
            Self::AnyCommand => f.write_str(ANY),
            Self::Host(rule) => rule.fmt(f),
        }
    }
}

/// Where a path leads by its text, from `base` where it is relative; none for one that climbs above
/// the root. The kernel decides again when the path is opened.
pub(super) fn plain(base: &Path, path: &str) -> Option<PathBuf> {
    let mut out = PathBuf::from("/");
    for component in base.join(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::Normal(name) => out.push(name),
            Component::Prefix(_) => return None,
        }
    }
    base.is_absolute().then_some(out)
}

/// Absolute, and free of anything that could lead somewhere else by its text.
fn is_plain(path: &Path) -> bool {
    let is_plain = |c| matches!(c, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(is_plain)
}

/// A rule about requests lets only a request through that can be seen.
fn sees(rule: &HostRule, request: Option<(&str, &str)>) -> bool {
    let Some((method, path)) = request else { return !rule.is_about_requests() };
    let has_method = rule.methods.is_empty() || rule.methods.iter().any(|m| m == method);
    has_method && rule.path.as_ref().is_none_or(|own| is_below(own, path))
}

fn is_below(tree: &str, path: &str) -> bool {
    let tree = tree.trim_end_matches('/');
    path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn host_contains(outer: &HostRule, inner: &HostRule) -> bool {
    let methods = outer.methods.is_empty()
        || (!inner.methods.is_empty() && inner.methods.iter().all(|m| outer.methods.contains(m)));
    let path = match (&outer.path, &inner.path) {
        (None, _) => true,
        (Some(outer), Some(inner)) => is_below(outer, inner),
        (Some(_), None) => false,
    };
    hosts_contain(&outer.host, &inner.host)
        && outer.allowed_port() == inner.allowed_port()
        && methods
        && path
        && (outer.allow_private || !inner.allow_private)
        && (outer.opaque || !inner.opaque)
}

fn hosts_contain(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (outer, HostPattern::Exact(host)) => outer.allows(host),
        (HostPattern::Any, HostPattern::Below(_) | HostPattern::Any) => true,
        (HostPattern::Below(outer), HostPattern::Below(inner)) => {
            inner == outer || inner.is_below(outer)
        }
        (HostPattern::Exact(_) | HostPattern::Below(_), HostPattern::Any)
        | (HostPattern::Exact(_), HostPattern::Below(_)) => false,
    }
}
