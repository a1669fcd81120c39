//! Writing exactly the file that a person was asked about.
//!
//! Invariants: the directory is compared by the descriptor that is written through; what is missing
//! of the way is made one name at a time beneath it. Blocking: run off the async threads.

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, statat},
    io::Errno,
};

use super::{
    bound::{of_directory, of_file},
    dir::{DIRECTORY_MODE, Dir, DirError, OfPath as _, WritableDir, open_made},
    workspace::AsTools,
};
use crate::domain::{BoundFile, BoundTarget};

impl Dir {
    /// What writing to a path beneath this directory would touch; `root` is the directory's name.
    pub fn target(&self, root: &Path, path: &Path) -> Result<BoundTarget, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let name = name(path)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut above = parent;
        let held = loop {
            match (self.beneath(above, flags, ResolveFlags::empty()), above.parent()) {
                (Err(DirError::Missing(_)), Some(next)) => above = next,
                (opened, _) => break opened?,
            }
        };
        let stat = fstat(&held).of(path)?;
        let file = if above == parent { file(&held, name, path)? } else { None };
        Ok(BoundTarget {
            path: root.join(path).display().to_string(),
            directory: of_directory(&root.join(above), &stat),
            file,
        })
    }
}

fn name(path: &Path) -> Result<&OsStr, DirError> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => Ok(name),
        _ => Err(DirError::BadName(path.to_owned())),
    }
}

/// What bears that name in the directory; a link is looked at itself.
fn file(directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<BoundFile>, DirError> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(DirError::NotAFile(path.to_owned()))
        }
        Ok(stat) => Ok(Some(of_file(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).of(path),
    }
}

/// The directory in which the approved file goes, and the file's name, if both are what they were.
pub(super) fn parent<'p>(
    dir: &WritableDir,
    root: &Path,
    wanted: &BoundTarget,
    path: &'p Path,
) -> Result<(OwnedFd, &'p OsStr), DirError> {
    let changed = || DirError::Changed(path.to_owned());
    let name = name(path)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let above = Path::new(&wanted.directory.path).strip_prefix(root).ok();
    let above = above.filter(|_| root.join(path) == Path::new(&wanted.path)).ok_or_else(changed)?;
    let missing = parent.strip_prefix(above).ok().ok_or_else(changed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let held = dir.dir().beneath(above, flags, ResolveFlags::empty());
    let mut at = held.ok().ok_or_else(changed)?;
    let stat = fstat(&at).of(path)?;
    if (stat.st_dev, stat.st_ino) != (wanted.directory.dev, wanted.directory.ino) {
        return Err(changed());
    }
    for component in missing.components() {
        let Component::Normal(next) = component else { return Err(changed()) };
        let above = dir.free(at, path)?;
        match mkdirat(&above, next, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => {}
            // Nobody was shown a directory there.
            Err(Errno::EXIST) => return Err(changed()),
            Err(error) => return Err(error).of(path),
        }
        at = open_made(&above, next, path)?;
    }
    let at = dir.free(at, path)?;
    if file(&at, name, path)? != wanted.file {
        return Err(changed());
    }
    Ok((at, name))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A workspace, and what writing `path` in it binds.
    fn bound(prepare: impl FnOnce(&Path), path: &str) -> (tempfile::TempDir, BoundTarget) {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("d")).unwrap();
        prepare(&root);
        give(&root);
        let target = Dir::open(&root).unwrap().target(&root, Path::new(path)).unwrap();
        (base, target)
    }

    fn give(root: &Path) {
        for path in [root.to_owned(), root.join("d")] {
            super::super::give_to_tools(fs::File::open(path).unwrap()).unwrap();
        }
    }

    fn write(base: &tempfile::TempDir, target: &BoundTarget, path: &str) -> Result<(), DirError> {
        let root = base.path().canonicalize().unwrap();
        let dir = WritableDir::open(&root, &root).unwrap().exactly(&root, target.clone());
        dir.replace(Path::new(path), b"new")
    }

    #[test]
    fn what_is_as_it_was_is_written_and_made() {
        for path in ["d/f", "f", "d/x/y/f"] {
            let (base, target) = bound(|_| {}, path);
            write(&base, &target, path).unwrap();
            assert_eq!(fs::read(base.path().join(path)).unwrap(), b"new");
        }
    }

    #[test]
    fn another_directory_file_or_link_is_not_written() {
        type Attack = (&'static str, fn(&Path));
        let attacks: [Attack; 5] = [
            ("another directory", |root| {
                fs::rename(root.join("d"), root.join("old")).unwrap();
                fs::create_dir(root.join("d")).unwrap();
                give(root);
            }),
            ("a link in its place", |root| {
                fs::rename(root.join("d"), root.join("old")).unwrap();
                fs::create_dir(root.join("e")).unwrap();
                symlink("e", root.join("d")).unwrap();
            }),
            ("a new file", |root| fs::write(root.join("d/f"), "theirs").unwrap()),
            ("a new link", |root| symlink("other", root.join("d/f")).unwrap()),
            ("nothing left", |root| fs::remove_dir(root.join("d")).unwrap()),
        ];
        for (what, attack) in attacks {
            let (base, target) = bound(|_| {}, "d/f");
            attack(base.path());
            let refused = write(&base, &target, "d/f");
            assert!(matches!(refused, Err(DirError::Changed(_))), "{what}: {refused:?}");
            let content = fs::read(base.path().join("d/f")).unwrap_or_default();
            assert_ne!(content, b"new", "{what}");
        }
        // A file that was there and is another now, and a way that somebody else made.
        let (base, target) = bound(|root| fs::write(root.join("d/f"), "one").unwrap(), "d/f");
        fs::remove_file(base.path().join("d/f")).unwrap();
        fs::write(base.path().join("d/f"), "two").unwrap();
        assert!(matches!(write(&base, &target, "d/f"), Err(DirError::Changed(_))));
        let (base, target) = bound(|_| {}, "d/x/f");
        fs::create_dir(base.path().join("d/x")).unwrap();
        assert!(matches!(write(&base, &target, "d/x/f"), Err(DirError::Changed(_))));
    }
}
