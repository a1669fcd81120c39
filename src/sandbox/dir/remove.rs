//! Removing files of a workspace, for the erasure of a person.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{AtFlags, statat, unlinkat},
    io::Errno,
};

use super::{AsTools, DirError, Entry, Kind, OfPath, WritableDir};

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

impl WritableDir {
    /// Removes a file, or a link, unless it was changed after `not_after` (seconds since 1970).
    ///
    /// # Errors
    /// When the path leads out of the tree, is protected, or the file cannot be removed.
    pub fn remove(&self, path: &Path, not_after: i64) -> Result<FileRemoval, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (parent, name) = match self.parent(path) {
            Err(DirError::Missing(_)) => return Ok(FileRemoval::Missing),
            other => other?,
        };
        let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(FileRemoval::Missing),
            other => other.of(path)?,
        };
        if stat.st_mtime > not_after {
            return Ok(FileRemoval::Newer);
        }
        unlinkat(&parent, name, AtFlags::empty()).of(path)?;
        Ok(FileRemoval::Removed)
    }

    /// Removes every file of the tree, up to `entries_max` entries; how many. Directories that are
    /// empty then go too; the tree itself stays.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove_all(&self, entries_max: usize) -> Result<u64, DirError> {
        let mut removed = 0;
        let mut pending = vec![PathBuf::new()];
        let mut directories = Vec::new();
        while let Some(directory) = pending.pop() {
            let (entries, _) = self.dir.list_no_links(&directory, entries_max)?;
            for Entry { path, kind, .. } in entries {
                if kind == Kind::Directory {
                    pending.push(path.clone());
                    directories.push(path);
                } else {
                    let gone = self.remove(&path, i64::MAX)?;
                    removed += u64::from(gone == FileRemoval::Removed);
                }
            }
        }
        // The deepest first: one that still holds something stays.
        for path in directories.into_iter().rev() {
            let _as_tools = AsTools::enter().of(&path)?;
            let (parent, name) = self.parent(&path)?;
            unlinkat(&parent, name, AtFlags::REMOVEDIR).ok();
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_unless_it_was_changed_later_and_nothing_outside_is_reached() {
        let top = tempfile::tempdir().unwrap();
        let workspace = top.path().join("ws");
        std::fs::create_dir_all(workspace.join("a/b")).unwrap();
        std::fs::write(workspace.join("a/b/mine"), "x").unwrap();
        std::fs::write(top.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../outside", workspace.join("link")).unwrap();
        let dir = WritableDir::open(&workspace, &workspace).unwrap();
        let mine = Path::new("a/b/mine");
        assert_eq!(dir.remove(mine, 0).unwrap(), FileRemoval::Newer);
        assert_eq!(dir.remove(mine, i64::MAX).unwrap(), FileRemoval::Removed);
        assert_eq!(dir.remove(mine, i64::MAX).unwrap(), FileRemoval::Missing);
        assert!(dir.remove(Path::new("../outside"), i64::MAX).is_err());
        std::fs::write(workspace.join("a/other"), "x").unwrap();
        assert_eq!(dir.remove_all(1_000).unwrap(), 2);
        assert!(top.path().join("outside").exists() && !workspace.join("a/b").exists());
    }
}
