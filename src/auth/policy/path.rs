//! Where a path points, by its text alone. The kernel decides again when the path is opened.

use std::path::{Component, Path, PathBuf};

use crate::domain::{Access, PathRule};

/// `PATH_MAX` of Linux: no longer path can be opened.
const PATH_BYTES_MAX: usize = 4_096;

/// Where a path points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the agent's workspace.
    Workspace,
    /// In a further tree that may be written.
    Writable,
    /// In a further tree that may only be read.
    ReadOnly,
    /// Anywhere else.
    Outside,
    /// Nowhere: not a path.
    Invalid,
}

/// Where `path` points: relative to `workspace`, or absolute. Of several trees that hold it, the
/// innermost decides, so that a read-only tree inside a writable one stays read-only; of two rules
/// for the same tree, read-only wins.
pub(super) fn place(workspace: &Path, rules: &[PathRule], path: &str) -> Place {
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Place::Invalid;
    }
    let Some(path) = resolved(&workspace.join(path)) else { return Place::Outside };
    let mut best: Option<(usize, Place)> = None;
    let own = std::iter::once((workspace, Place::Workspace));
    let further = rules.iter().map(|rule| {
        let kind = match rule.access {
            Access::Ro => Place::ReadOnly,
            Access::Rw => Place::Writable,
        };
        (rule.path.as_path(), kind)
    });
    for (tree, kind) in own.chain(further) {
        // A rule that is relative, or climbs above the root, holds nothing.
        let Some(tree) = resolved(tree) else { continue };
        if !path.starts_with(&tree) {
            continue;
        }
        let depth = tree.components().count();
        let is_better = best.is_none_or(|(deepest, held)| {
            depth > deepest || (depth == deepest && kind == Place::ReadOnly && held != kind)
        });
        if is_better {
            best = Some((depth, kind));
        }
    }
    best.map_or(Place::Outside, |(_, kind)| kind)
}

/// The path without `.`, `..` and doubled slashes; `None` when it is relative or climbs above the
/// root. Climbing above the root is harmless to a kernel but never an honest request.
pub(super) fn resolved(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut out = PathBuf::from("/");
    for component in path.components() {
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
    Some(out)
}
