//! File operations beneath a held directory.
//!
//! Invariants: every name is resolved by the kernel beneath the descriptor (`openat2` with
//! `RESOLVE_BENEATH`), never checked first and opened afterwards; links that lead out, `/proc`
//! links and absolute links are refused; only regular files are read or written, and no operation
//! can block on a fifo or a device. All of it blocks on the disk: call it off the async threads.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir as Entries, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat,
        mkdirat, openat, openat2, renameat, statat, unlinkat,
    },
    io::Errno,
};

use super::workspace::{give_to, give_to_tools};

/// Times that a resolution is tried again after a concurrent rename (`EAGAIN`, openat2(2)).
const TRIES: u32 = 128;
/// Mode of files and directories made here, before the umask.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Why a file operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// There is nothing by that name.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The name leads out of the tree, directly or by a link.
    #[error("{0} leads outside of the allowed directory (directly, or by a link)")]
    Outside(PathBuf),
    /// Not a regular file.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// Not a directory.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// It is there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// The file is larger than what may be handled.
    #[error("{path} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// The name cannot be used for a new file.
    #[error("{0} is not a usable file name")]
    BadName(PathBuf),
    /// The kernel's reason.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn failed(path: &Path, errno: Errno) -> DirError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => DirError::Missing(path),
        Errno::XDEV | Errno::LOOP => DirError::Outside(path),
        Errno::NOTDIR => DirError::NotADirectory(path),
        Errno::ISDIR => DirError::NotAFile(path),
        Errno::EXIST => DirError::Exists(path),
        other => DirError::Io { path, source: other.into() },
    }
}

/// Attaches the path to an error.
trait OfPath<T> {
    fn of(self, path: &Path) -> Result<T, DirError>;
}

impl<T> OfPath<T> for rustix::io::Result<T> {
    fn of(self, path: &Path) -> Result<T, DirError> {
        self.map_err(|errno| failed(path, errno))
    }
}

impl<T> OfPath<T> for io::Result<T> {
    fn of(self, path: &Path) -> Result<T, DirError> {
        self.map_err(|source| DirError::Io { path: path.to_owned(), source })
    }
}

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A fifo, a socket or a device.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path beneath the held directory.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes, of a file.
    pub bytes: u64,
}

/// A held directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens a directory that an operator has named. No part of the name may be a link: a tool
    /// that can write above it could have put one there, and it would be followed as the daemon.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(CWD, path, flags, Mode::empty(), resolve).of(path)?;
        Ok(Self { fd })
    }

    fn beneath(
        &self,
        path: &Path,
        flags: OFlags,
        extra: ResolveFlags,
    ) -> Result<OwnedFd, DirError> {
        // The empty path is the directory itself.
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        let mut tries = 0;
        loop {
            match openat2(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                opened => return opened.of(path),
            }
        }
    }

    /// Opens a regular file for reading.
    fn open_file(&self, path: &Path, extra: ResolveFlags) -> Result<(File, Stat), DirError> {
        // NONBLOCK: opening a fifo must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.beneath(path, flags, extra)?;
        let stat = fstat(&fd).of(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((File::from(fd), stat)),
            _ => Err(DirError::NotAFile(path.to_owned())),
        }
    }

    /// Reads a whole file of at most `bytes_max` bytes.
    pub fn read(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
        let (file, stat) = self.open_file(path, ResolveFlags::empty())?;
        read_bounded(file, stat, path, bytes_max)
    }

    /// As [`Dir::read`], but no part of the path may be a link; for walks.
    pub fn read_no_links(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
        let (file, stat) = self.open_file(path, ResolveFlags::NO_SYMLINKS)?;
        read_bounded(file, stat, path, bytes_max)
    }

    /// Puts content in the place of a file in one step: readers see the old or the new, a crash
    /// leaves the old or the new. Keeps the mode of what it replaces, and its owner unless that is
    /// root, whose file goes to the tools; makes missing directories. A link in the last place is replaced, not followed.
    pub fn replace(&self, path: &Path, content: &[u8]) -> Result<(), DirError> {
        let (parent, name) = self.parent(path)?;
        let (mode, owner) = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let owner = (stat.st_uid != 0).then_some((stat.st_uid, stat.st_gid));
                    (Mode::from_raw_mode(stat.st_mode & 0o777), owner)
                }
                FileType::Symlink => (Mode::from_raw_mode(FILE_MODE), None),
                _ => return Err(DirError::NotAFile(path.to_owned())),
            },
            Err(Errno::NOENT) => (Mode::from_raw_mode(FILE_MODE), None),
            Err(error) => return Err(failed(path, error)),
        };
        let (temporary, mut file) = new_file(parent.as_fd(), path)?;
        let written = fchmod(&file, mode)
            .map_err(io::Error::from)
            .and_then(|()| give_to(&file, owner))
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&parent, &temporary, &parent, name)?));
        if written.is_err() {
            // Best effort: a temporary file is untidy, not wrong.
            unlinkat(&parent, &temporary, AtFlags::empty()).ok();
        }
        written.of(path)
    }

    /// Makes a file that must not exist yet; makes missing directories.
    pub fn create(&self, path: &Path, content: &[u8]) -> Result<(), DirError> {
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::from_raw_mode(FILE_MODE)).of(path)?;
        let mut file = File::from(file);
        let written = give_to_tools(&file).and_then(|()| file.write_all(content));
        written.and_then(|()| file.sync_all()).of(path)
    }

    /// Adds to the end of a file, which is made if it is missing.
    pub fn append(&self, path: &Path, content: &[u8], bytes_max: u64) -> Result<(), DirError> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.beneath(path, flags, ResolveFlags::empty()) {
            Err(DirError::Missing(_)) => return self.create(path, content),
            opened => opened?,
        };
        let stat = fstat(&fd).of(path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DirError::NotAFile(path.to_owned()));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size.saturating_add(content.len() as u64) > bytes_max {
            return Err(DirError::TooLarge { path: path.to_owned(), bytes_max });
        }
        let mut file = File::from(fd);
        file.write_all(content).and_then(|()| file.sync_all()).of(path)
    }

    /// What lies in a directory, links not followed, at most `entries_max` entries, sorted; and
    /// whether there were more.
    pub fn list(&self, path: &Path, entries_max: usize) -> Result<(Vec<Entry>, bool), DirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.beneath(path, flags, ResolveFlags::empty())?;
        list(&directory, path, entries_max)
    }

    /// As [`Dir::list`], but no part of the path may be a link; for walks.
    pub fn list_no_links(
        &self,
        path: &Path,
        entries_max: usize,
    ) -> Result<(Vec<Entry>, bool), DirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.beneath(path, flags, ResolveFlags::NO_SYMLINKS)?;
        list(&directory, path, entries_max)
    }

    /// What a path names, links followed beneath the directory.
    pub fn kind(&self, path: &Path) -> Result<Kind, DirError> {
        let fd = self.beneath(path, OFlags::PATH, ResolveFlags::empty())?;
        Ok(kind(fstat(&fd).of(path)?.st_mode))
    }

    /// The directory in which a new file goes, made as needed, and the file's name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), DirError> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(DirError::BadName(path.to_owned()));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.beneath(parent, flags, ResolveFlags::empty()) {
            Err(DirError::Missing(_)) => {}
            opened => return Ok((opened?, name)),
        }
        let mut so_far = PathBuf::new();
        let mut at = self.beneath(&so_far, flags, ResolveFlags::empty())?;
        for component in parent.components() {
            so_far.push(component);
            at = match self.beneath(&so_far, flags, ResolveFlags::empty()) {
                Err(DirError::Missing(_)) => self.make_directory(&at, component, &so_far)?,
                opened => opened?,
            };
        }
        Ok((at, name))
    }

    fn make_directory(
        &self,
        at: &OwnedFd,
        component: Component<'_>,
        so_far: &Path,
    ) -> Result<OwnedFd, DirError> {
        let Component::Normal(name) = component else {
            return Err(DirError::BadName(so_far.to_owned()));
        };
        match mkdirat(at, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(so_far, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let made = self.beneath(so_far, flags, ResolveFlags::NO_SYMLINKS)?;
        give_to_tools(&made).of(so_far)?;
        Ok(made)
    }
}

fn read_bounded(file: File, stat: Stat, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
    let too_large = || DirError::TooLarge { path: path.to_owned(), bytes_max };
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > bytes_max {
        return Err(too_large());
    }
    // The size may have changed, or be nothing the file system keeps.
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content).of(path)?;
    if content.len() as u64 > bytes_max { Err(too_large()) } else { Ok(content) }
}

/// A fresh file beside the one that it will replace. One name, no slash: nothing is resolved.
fn new_file(parent: BorrowedFd<'_>, path: &Path) -> Result<(String, File), DirError> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut last = Errno::EXIST;
    for _ in 0..TRIES {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).ok().ok_or_else(|| failed(path, Errno::IO))?;
        let name = format!(".agent-runtime-{:016x}.tmp", u64::from_ne_bytes(random));
        match openat(parent, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => return Ok((name, File::from(fd))),
            Err(error) => last = error,
        }
        if last != Errno::EXIST {
            break;
        }
    }
    Err(failed(path, last))
}

fn list(
    directory: &OwnedFd,
    path: &Path,
    entries_max: usize,
) -> Result<(Vec<Entry>, bool), DirError> {
    let mut found = Vec::new();
    let mut has_more = false;
    for entry in Entries::read_from(directory).of(path)? {
        let entry = entry.of(path)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if found.len() >= entries_max {
            has_more = true;
            break;
        }
        // Gone meanwhile: not there.
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        found.push(Entry {
            path: path.join(os_str(name)),
            kind: kind(stat.st_mode),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found, has_more))
}

fn os_str(name: &std::ffi::CStr) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}

fn kind(mode: u32) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
