//! Everything below a directory that tools write in, for whoever keeps a copy of it.
//!
//! Invariant: whatever a tool renames or links meanwhile, nothing outside of the directory is
//! opened: each name is opened beneath the held directory, and no link is followed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, readlinkat, statat},
    io::Errno,
};

use super::dir::{Dir, DirError};

/// Something below the directory.
#[derive(Debug)]
pub struct Found {
    /// Its path from there.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// When it was changed, in seconds.
    pub modified: u64,
    /// What it is.
    pub what: What,
}

/// What something is.
#[derive(Debug)]
pub enum What {
    /// A file, open for reading, and how long it is.
    File(File, u64),
    /// A directory; what is in it comes after it.
    Directory,
    /// A link, and what it names.
    Link(PathBuf),
    /// A socket, a pipe or a device.
    Special,
    /// It is there and cannot be read, or went away.
    Unreadable,
}

/// Goes through everything below `top`, parents first, names in order. Nothing when there is no
/// such directory. Ends with the first error of `each`.
///
/// # Errors
/// When `top` cannot be opened, or what `each` says.
pub fn walk<E: From<DirError>>(
    top: &Path,
    mut each: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let dir = match Dir::open(top) {
        Err(DirError::Missing(_)) => return Ok(()),
        other => other?,
    };
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = dir.beneath(&path, flags, ResolveFlags::NO_SYMLINKS);
        let names = opened.as_ref().ok().and_then(|fd| names(fd).ok());
        let (Ok(directory), Some(names)) = (&opened, names) else {
            let what = What::Unreadable;
            each(Found { path, mode: 0, modified: 0, what })?;
            continue;
        };
        let mut below = Vec::new();
        for name in names {
            let path = path.join(&name);
            let (stat, what) = look(directory, &name);
            if matches!(what, What::Directory) {
                below.push(path.clone());
            }
            let mode = stat.map_or(0, |s| s.st_mode & 0o7777);
            let modified = stat.map_or(0, |s| u64::try_from(s.st_mtime).unwrap_or(0));
            each(Found { path, mode, modified, what })?;
        }
        // The stack gives the last one first.
        waiting.extend(below.into_iter().rev());
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

fn look(directory: &OwnedFd, name: &OsStr) -> (Option<Stat>, What) {
    let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return (None, What::Unreadable);
    };
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(What::Directory),
        FileType::Symlink => readlinkat(directory, name, Vec::new())
            .map(|target| What::Link(OsStr::from_bytes(target.as_bytes()).into())),
        FileType::RegularFile => file(directory, name),
        _ => Ok(What::Special),
    };
    (Some(stat), what.unwrap_or(What::Unreadable))
}

fn file(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<What> {
    // Whatever has taken the name meanwhile is not followed and does not block.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(What::File(File::from(opened), u64::try_from(stat.st_size).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, io::Read, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn everything_below_comes_once_and_nothing_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/deep"), "deep").unwrap();
        fs::write(at("file"), "file").unwrap();
        symlink(outside.path(), at("directory-link")).unwrap();
        symlink(outside.path().join("secret"), at("a/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let mut found = BTreeMap::new();
        walk::<DirError>(top.path(), |thing| {
            let said = match thing.what {
                What::File(mut file, bytes) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text.len() as u64, bytes);
                    text
                }
                What::Directory => "directory".to_owned(),
                What::Link(to) => format!("to {}", to.display()),
                What::Special => "special".to_owned(),
                What::Unreadable => "unreadable".to_owned(),
            };
            assert!(found.insert(thing.path.to_str().unwrap().to_owned(), said).is_none());
            Ok(())
        })
        .unwrap();
        let to = |path: &Path| format!("to {}", path.display());
        let expected = [
            ("a", "directory".to_owned()),
            ("a/b", "directory".to_owned()),
            ("a/b/deep", "deep".to_owned()),
            ("a/link", to(&outside.path().join("secret"))),
            ("directory-link", to(outside.path())),
            ("file", "file".to_owned()),
            ("socket", "special".to_owned()),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v)).into());
        let nothing = walk::<DirError>(&at("missing"), |_| panic!("something in nothing"));
        assert!(nothing.is_ok());
    }
}
