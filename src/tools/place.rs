//! Which granted tree a path of a call lies in.
//!
//! Invariant: nothing here looks at the disk. The kernel resolves the rest of the path beneath the
//! tree's held directory (`sandbox::dir`), so a wrong guess cannot reach further than the tree.

use std::path::{Path, PathBuf};

use crate::{
    domain::{Access, Bound, BoundTarget, Grant},
    sandbox::dir::{Dir, DirError, WritableDir},
};

/// A path within a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The tree.
    pub(super) root: PathBuf,
    /// Beneath it; empty for the tree itself.
    pub(super) path: PathBuf,
    /// How the tree may be used.
    pub(super) access: Access,
    /// Whether the call named it relative to the workspace.
    is_relative: bool,
}

/// Why a path has no place. The text is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(
        "{path} is outside the workspace and the allowed paths; use a path relative to the \
         workspace{}",
        also(allowed)
    )]
    Outside { path: String, allowed: Vec<PathBuf> },
    #[error("{path} lies in a tree that may only be read")]
    ReadOnly { path: String },
}

fn also(allowed: &[PathBuf]) -> String {
    if allowed.is_empty() {
        return String::new();
    }
    let paths = allowed.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    format!(", or an absolute path inside {}", paths.join(", "))
}

/// Finds the innermost tree of a path.
pub(super) fn find(grant: &Grant, path: &str) -> Result<Place, PlaceError> {
    let is_relative = !path.starts_with('/');
    let full = grant.workspace.join(path);
    let trees = grant.paths.iter().map(|rule| (&rule.path, rule.access));
    let best = std::iter::once((&grant.workspace, Access::Rw))
        .chain(trees)
        .filter_map(|(root, access)| {
            let beneath = full.strip_prefix(root).ok()?;
            Some((root.components().count(), root, beneath, access))
        })
        .max_by_key(|(depth, ..)| *depth);
    let Some((_, root, beneath, access)) = best else {
        return Err(PlaceError::Outside {
            path: path.to_owned(),
            allowed: grant.paths.iter().map(|rule| rule.path.clone()).collect(),
        });
    };
    Ok(Place { root: root.clone(), path: beneath.to_owned(), access, is_relative })
}

/// As [`find`], for a path that will be written.
pub(super) fn find_writable(grant: &Grant, path: &str) -> Result<Place, PlaceError> {
    let place = find(grant, path)?;
    match place.access {
        Access::Rw => Ok(place),
        Access::Ro => Err(PlaceError::ReadOnly { path: path.to_owned() }),
    }
}

impl Place {
    /// Opens the tree.
    pub(super) fn open(&self) -> Result<Dir, DirError> {
        Dir::open(&self.root)
    }

    /// Opens the tree to write in it.
    pub(super) fn open_writable(
        &self,
        grant: &Grant,
        bound: Option<&Bound>,
    ) -> Result<WritableDir, DirError> {
        let dir = WritableDir::open(&self.root, &grant.workspace)?;
        match bound.map(|bound| &bound.target) {
            None => Ok(dir),
            Some(Some(target)) => Ok(dir.exactly(&self.root, target.clone())),
            // Somebody was asked about something else than a file.
            Some(None) => Err(DirError::Changed(self.path.clone())),
        }
    }

    /// What writing there would touch.
    pub(super) fn target(&self) -> Result<BoundTarget, DirError> {
        self.open()?.target(&self.root, &self.path)
    }

    /// How a path beneath the tree is told to the model: as it would name it.
    pub(super) fn name(&self, beneath: &Path) -> PathBuf {
        if self.is_relative { beneath.to_owned() } else { self.root.join(beneath) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CommandRule, PathRule, ToolLimits};

    fn grant() -> Grant {
        let rule = |path: &str, access| PathRule { path: path.into(), access };
        Grant {
            workspace: "/data/ws".into(),
            paths: vec![rule("/srv", Access::Rw), rule("/srv/fixed", Access::Ro)],
            commands: CommandRule::Any,
            may_execute_files: true,
            hosts: std::sync::Arc::default(),
            same_host_only: false,
            egress: crate::domain::EgressLimits::default(),
            limits: ToolLimits::default(),
        }
    }

    fn found(path: &str) -> Option<(String, String)> {
        let place = find(&grant(), path).ok()?;
        Some((place.root.display().to_string(), place.path.display().to_string()))
    }

    #[test]
    fn a_path_belongs_to_its_innermost_tree() {
        for (path, root, beneath) in [
            ("a/b", "/data/ws", "a/b"),
            (".", "/data/ws", ""),
            ("/data/ws", "/data/ws", ""),
            ("/data/ws/a", "/data/ws", "a"),
            ("/srv/x", "/srv", "x"),
            ("/srv/fixed/x", "/srv/fixed", "x"),
            // The kernel refuses this one, beneath the held directory.
            ("../secret", "/data/ws", "../secret"),
        ] {
            assert_eq!(found(path), Some((root.to_owned(), beneath.to_owned())), "{path}");
        }
        for path in ["/etc/passwd", "/data", "/data/wsx", "/srvx"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_read_only_tree_is_not_written() {
        assert!(find_writable(&grant(), "/srv/x").is_ok());
        let refused = find_writable(&grant(), "/srv/fixed/x").unwrap_err();
        assert_eq!(refused, PlaceError::ReadOnly { path: "/srv/fixed/x".to_owned() });
    }
}
