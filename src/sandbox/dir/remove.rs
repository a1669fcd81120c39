//! Removing files of a workspace, for the erasure of a person.

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, OFlags, ResolveFlags, fstat, statat, unlinkat},
    io::Errno,
};

use super::{AsTools, Dir, DirError, Entry, Kind, OfPath, WritableDir, read_bounded};

/// What became of a file that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRemoval {
    /// It is gone.
    Removed,
    /// There was none.
    Missing,
    /// It was changed later: it stays.
    Newer,
}

/// What was found where files were to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Files and links that are gone.
    pub removed: u64,
    /// Things that stay: protected, or of somebody else whose directory it is.
    pub left: u64,
}

impl Dir {
    /// Reads a file as [`Dir::read_no_links`] does; none when it was changed after `not_after` (seconds
    /// since 1970) and may hold something else.
    ///
    /// # Errors
    /// As [`Dir::read_no_links`].
    pub fn read_unchanged(
        &self,
        path: &Path,
        not_after: i64,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (file, stat) = self.open_file(path, ResolveFlags::NO_SYMLINKS)?;
        if stat.st_mtime > not_after {
            return Ok(None);
        }
        read_bounded(file, stat, path, bytes_max).map(Some)
    }
}

impl WritableDir {
    /// Removes a file, or a link, unless it was changed after `not_after` (seconds since 1970).
    ///
    /// # Errors
    /// When the path leads out of the tree, is protected, or the file cannot be removed.
    pub fn remove(&self, path: &Path, not_after: i64) -> Result<FileRemoval, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let Some((parent, name)) = self.parent_that_is(path)? else {
            return Ok(FileRemoval::Missing);
        };
        let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(FileRemoval::Missing),
            other => other.of(path)?,
        };
        if self.protected.is(&stat) {
            return Err(DirError::Protected(path.to_owned()));
        }
        if stat.st_mtime > not_after {
            return Ok(FileRemoval::Newer);
        }
        unlinkat(&parent, name, AtFlags::empty()).of(path)?;
        Ok(FileRemoval::Removed)
    }

    /// Removes every file of the tree, looking at up to `entries_max` entries of a directory at once.
    /// Directories that are empty then go too; the tree itself and what is protected stay.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn remove_all(&self, entries_max: usize) -> Result<Emptied, DirError> {
        let mut done = Emptied::default();
        let mut pending = vec![PathBuf::new()];
        let mut directories = Vec::new();
        while let Some(directory) = pending.pop() {
            let (entries, has_more) = match self.dir.list_no_links(&directory, entries_max) {
                // Somebody removes things too.
                Err(DirError::Missing(_)) => continue,
                other => other?,
            };
            let (mut gone, mut left) = (0, 0);
            let mut beneath = Vec::new();
            for Entry { path, kind, .. } in entries {
                if self.is_protected(&path)? {
                    // Those that the daemon made are empty.
                    let is_empty = kind == Kind::Directory
                        && self
                            .dir
                            .list_no_links(&path, 1)
                            .is_ok_and(|(found, _)| found.is_empty());
                    left += u64::from(!is_empty);
                } else if kind == Kind::Directory {
                    beneath.push(path);
                } else {
                    match self.remove(&path, i64::MAX) {
                        Ok(FileRemoval::Removed) => gone += 1,
                        Ok(FileRemoval::Missing) => {}
                        Ok(FileRemoval::Newer) | Err(_) => left += 1,
                    }
                }
            }
            done.removed += gone;
            if has_more && gone > 0 {
                // There is room for the next ones now.
                pending.push(directory);
                continue;
            }
            done.left += left + u64::from(has_more);
            pending.extend(beneath.iter().cloned());
            directories.extend(beneath);
        }
        // The deepest first: one that still holds something stays.
        for path in directories.into_iter().rev() {
            let _as_tools = AsTools::enter().of(&path)?;
            if let Ok(Some((parent, name))) = self.parent_that_is(&path) {
                unlinkat(&parent, name, AtFlags::REMOVEDIR).ok();
            }
        }
        Ok(done)
    }

    fn is_protected(&self, path: &Path) -> Result<bool, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let extra = ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        match self.dir.beneath(path, flags, extra) {
            Ok(found) => Ok(self.protected.is(&fstat(&found).of(path)?)),
            // A link in the last place, or gone.
            Err(DirError::Outside(_) | DirError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The directory of a file, and the file's name; none where there is no such directory. Nothing
    /// is made.
    fn parent_that_is<'p>(&self, path: &'p Path) -> Result<Option<(OwnedFd, &'p OsStr)>, DirError> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(DirError::BadName(path.to_owned()));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.dir.beneath(parent, flags, ResolveFlags::empty()) {
            Err(DirError::Missing(_)) => Ok(None),
            opened => Ok(Some((self.free(opened?, path)?, name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace that belongs to the tools, with some files of theirs.
    fn workspace(files: &[&str]) -> (tempfile::TempDir, PathBuf, WritableDir) {
        let top = tempfile::tempdir().unwrap();
        let workspace = top.path().join("ws");
        crate::sandbox::prepare_workspace(&workspace).unwrap();
        std::fs::write(top.path().join("outside"), "x").unwrap();
        let dir = WritableDir::open(&workspace, &workspace).unwrap();
        for file in files {
            dir.create(Path::new(file), b"x").unwrap();
        }
        (top, workspace, dir)
    }

    #[test]
    fn a_file_goes_unless_it_was_changed_later_and_nothing_outside_is_reached() {
        let (top, workspace, dir) = workspace(&["a/b/mine"]);
        let mine = Path::new("a/b/mine");
        assert_eq!(dir.remove(mine, 0).unwrap(), FileRemoval::Newer);
        assert_eq!(dir.remove(mine, i64::MAX).unwrap(), FileRemoval::Removed);
        assert_eq!(dir.remove(mine, i64::MAX).unwrap(), FileRemoval::Missing);
        // Nothing is made on the way to what is not there.
        assert_eq!(dir.remove(Path::new("x/y"), i64::MAX).unwrap(), FileRemoval::Missing);
        assert!(!workspace.join("x").exists());
        std::os::unix::fs::symlink("..", workspace.join("up")).unwrap();
        for path in ["../outside", "up/outside", "a/../../outside", ".."] {
            assert!(dir.remove(Path::new(path), i64::MAX).is_err(), "{path}");
        }
        assert!(top.path().join("outside").exists());
    }

    #[test]
    fn a_workspace_is_emptied_but_for_what_is_protected() {
        let (top, workspace, dir) = workspace(&["a/b/mine", "a/other", "third", ".git/config"]);
        std::os::unix::fs::symlink("../outside", workspace.join("link")).unwrap();
        std::fs::write(workspace.join(".git/hooks/post-commit"), "the operator's").unwrap();
        for n in 0..20 {
            dir.create(Path::new(&format!("many/{n}")), b"x").unwrap();
        }
        // A few entries at a time: it comes back for the rest.
        let done = dir.remove_all(7).unwrap();
        assert_eq!(done, Emptied { removed: 25, left: 1 });
        assert_eq!(dir.remove_all(7).unwrap(), Emptied { removed: 0, left: 1 });
        assert!(top.path().join("outside").exists() && !workspace.join("a").exists());
        assert!(workspace.join(".git/hooks/post-commit").exists());
        assert!(workspace.join(".agent-runtime").exists() && !workspace.join("link").exists());
    }

    #[test]
    fn what_was_changed_later_or_is_a_link_is_not_read() {
        let (_top, workspace, dir) = workspace(&["mine"]);
        let read =
            |path: &str, not_after| dir.dir().read_unchanged(Path::new(path), not_after, 1_000);
        assert_eq!(read("mine", i64::MAX).unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(read("mine", 0).unwrap(), None);
        std::os::unix::fs::symlink("mine", workspace.join("link")).unwrap();
        assert!(read("link", i64::MAX).is_err());
    }
}
