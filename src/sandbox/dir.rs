//! File operations beneath a held directory.
//!
//! Invariants: every name is resolved by the kernel beneath the descriptor (`openat2` with
//! `RESOLVE_BENEATH`), never checked first and opened afterwards; links that lead out, `/proc`
//! links and absolute links are refused; only regular files are read or written, and no operation
//! can block on a fifo or a device. Under root everything beneath the held directory is done with
//! the rights of the tools' user, and what is made belongs to it. All of it blocks on the disk: call it off the async threads.

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

use super::{
    protected::{self, Protected, ProtectedError, Standing},
    target,
    workspace::AsTools,
};
use crate::{
    domain::BoundTarget,
    runtime::failpoint::{Point, pass},
};

/// Times that a resolution is tried again after a concurrent rename (`EAGAIN`, openat2(2)).
const TRIES: u32 = 128;
/// Mode of files and directories made here, before the umask.
const FILE_MODE: u32 = 0o644;
pub(super) const DIRECTORY_MODE: u32 = 0o755;

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
    /// A name that tools may not change.
    #[error(
        "{0} is protected: tools may read `.git/hooks` and `.agent-runtime` of the workspace but \
         not change them"
    )]
    Protected(PathBuf),
    /// The protected names of the workspace cannot be held.
    #[error(transparent)]
    Unprotected(#[from] ProtectedError),
    /// Something is not what was approved.
    #[error("{0}: the file, or its directory, is another than was approved; nothing was written")]
    Changed(PathBuf),
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
pub(super) trait OfPath<T> {
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

/// A held directory, to read in.
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

    pub(super) fn beneath(
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
        regular(self.beneath(path, flags, extra)?, path)
    }

    /// Reads a whole file of at most `bytes_max` bytes.
    pub fn read(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (file, stat) = self.open_file(path, ResolveFlags::empty())?;
        read_bounded(file, stat, path, bytes_max)
    }

    /// As [`Dir::read`], but no part of the path may be a link; for walks.
    pub fn read_no_links(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (file, stat) = self.open_file(path, ResolveFlags::NO_SYMLINKS)?;
        read_bounded(file, stat, path, bytes_max)
    }

    /// What lies in a directory, links not followed, at most `entries_max` entries, sorted; and
    /// whether there were more.
    pub fn list(&self, path: &Path, entries_max: usize) -> Result<(Vec<Entry>, bool), DirError> {
        let _as_tools = AsTools::enter().of(path)?;
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
        let _as_tools = AsTools::enter().of(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.beneath(path, flags, ResolveFlags::NO_SYMLINKS)?;
        list(&directory, path, entries_max)
    }

    /// What a path names, links followed beneath the directory.
    pub fn kind(&self, path: &Path) -> Result<Kind, DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let fd = self.beneath(path, OFlags::PATH, ResolveFlags::empty())?;
        Ok(kind(fstat(&fd).of(path)?.st_mode))
    }
}

/// A held directory, to write in. The protected names of a workspace are never written, wherever
/// they lie and whatever name leads there.
#[derive(Debug)]
pub struct WritableDir {
    dir: Dir,
    top: Stat,
    protected: Protected,
    /// The directory's name, and what alone may be written.
    exactly: Option<(PathBuf, BoundTarget)>,
}

impl WritableDir {
    /// Opens a directory as [`Dir::open`] does. `workspace` is the one whose names are protected;
    /// what is missing of them is made first, so that it cannot be written in their stead.
    pub fn open(path: &Path, workspace: &Path) -> Result<Self, DirError> {
        let protected = protected::prepare(workspace)?;
        let dir = Dir::open(path)?;
        let top = fstat(&dir.fd).of(path)?;
        // The tree itself may be a protected one or lie in it.
        match protected.standing(dir.fd.as_fd(), None).of(path)? {
            Standing::Free => Ok(Self { dir, top, protected, exactly: None }),
            Standing::Protected | Standing::Moved => Err(DirError::Protected(path.to_owned())),
        }
    }

    /// From here on nothing but this file is written, where it is as it was when it was looked at;
    /// `root` is the directory's name, as it was given to [`Dir::target`].
    pub fn exactly(self, root: &Path, target: BoundTarget) -> Self {
        Self { exactly: Some((root.to_owned(), target)), ..self }
    }

    /// To read in.
    pub const fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Puts content in the place of a file in one step: readers see the old or the new, a crash
    /// leaves the old or the new. Keeps the mode of what it replaces; makes missing directories.
    /// A link in the last place is replaced, not followed, and so is one of several hard links.
    pub fn replace(&self, path: &Path, content: &[u8]) -> Result<(), DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (parent, name) = self.parent(path)?;
        self.replace_in(&parent, name, path, |file| file.write_all(content))
    }

    fn replace_in(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), DirError> {
        let mode = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.protected.is(&stat) => {
                return Err(DirError::Protected(path.to_owned()));
            }
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => stat.st_mode & 0o777,
                FileType::Symlink => FILE_MODE,
                _ => return Err(DirError::NotAFile(path.to_owned())),
            },
            Err(Errno::NOENT) => FILE_MODE,
            Err(error) => return Err(failed(path, error)),
        };
        pass(Point::FileWriteBefore).map_err(io::Error::from).of(path)?;
        let (temporary, mut file) = new_file(parent.as_fd(), path)?;
        let written = fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(io::Error::from)
            .and_then(|()| write(&mut file))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(parent, &temporary, parent, name)?));
        if written.is_err() {
            // Best effort: a temporary file is untidy, not wrong.
            unlinkat(parent, &temporary, AtFlags::empty()).ok();
        }
        written.of(path)?;
        pass(Point::FileWriteAfter).map_err(io::Error::from).of(path)
    }

    /// Makes a file that must not exist yet; makes missing directories.
    pub fn create(&self, path: &Path, content: &[u8]) -> Result<(), DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (parent, name) = self.parent(path)?;
        create_in(&parent, name, path, content)
    }

    /// Adds to the end of a file, which is made if it is missing. A link in the last place is
    /// replaced by what it names, and one of several hard links by a file of its own: what else
    /// bears the content is not changed.
    pub fn append(&self, path: &Path, content: &[u8], bytes_max: u64) -> Result<(), DirError> {
        let _as_tools = AsTools::enter().of(path)?;
        let (parent, name) = self.parent(path)?;
        let too_large = |size: u64| size.saturating_add(content.len() as u64) > bytes_max;
        let larger = || DirError::TooLarge { path: path.to_owned(), bytes_max };
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        match openat(&parent, name, flags, Mode::empty()) {
            Ok(fd) => {
                let (mut file, stat) = regular(fd, path)?;
                if self.protected.is(&stat) {
                    return Err(DirError::Protected(path.to_owned()));
                }
                if too_large(size(&stat)) {
                    return Err(larger());
                }
                if stat.st_nlink == 1 {
                    return write(&mut file, path, content);
                }
            }
            Err(Errno::NOENT) => return create_in(&parent, name, path, content),
            Err(Errno::LOOP) => {}
            Err(error) => return Err(failed(path, error)),
        }
        let (file, stat) = self.dir.open_file(path, ResolveFlags::empty())?;
        if too_large(size(&stat)) {
            return Err(larger());
        }
        self.replace_in(&parent, name, path, |new| {
            io::copy(&mut file.take(bytes_max), new)?;
            new.write_all(content)
        })
    }

    /// The directory in which a new file goes, made as needed, and the file's name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), DirError> {
        if let Some((root, wanted)) = &self.exactly {
            return target::parent(self, root, wanted, path);
        }
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(DirError::BadName(path.to_owned()));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.dir.beneath(parent, flags, ResolveFlags::empty()) {
            Err(DirError::Missing(_)) => {}
            opened => return Ok((self.free(opened?, path)?, name)),
        }
        let mut so_far = PathBuf::new();
        let mut at = self.dir.beneath(&so_far, flags, ResolveFlags::empty())?;
        for component in parent.components() {
            so_far.push(component);
            at = match self.dir.beneath(&so_far, flags, ResolveFlags::empty()) {
                Err(DirError::Missing(_)) => {
                    let above = self.free(at, path)?;
                    make_directory(&above, component, &so_far)?
                }
                opened => opened?,
            };
        }
        Ok((self.free(at, path)?, name))
    }

    /// The directory, if nothing protects it.
    pub(super) fn free(&self, directory: OwnedFd, path: &Path) -> Result<OwnedFd, DirError> {
        match self.protected.standing(directory.as_fd(), Some(&self.top)).of(path)? {
            Standing::Free => Ok(directory),
            Standing::Protected => Err(DirError::Protected(path.to_owned())),
            Standing::Moved => Err(DirError::Outside(path.to_owned())),
        }
    }
}

fn make_directory(
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
    open_made(at, name, so_far)
}

/// Opens a directory by one name, beneath the directory that is held: nobody can put a link on the
/// way.
pub(super) fn open_made(at: &OwnedFd, name: &OsStr, so_far: &Path) -> Result<OwnedFd, DirError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(at, name, flags, Mode::empty(), resolve).of(so_far)
}

fn create_in(parent: &OwnedFd, name: &OsStr, path: &Path, content: &[u8]) -> Result<(), DirError> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::from_raw_mode(FILE_MODE)).of(path)?;
    let mut file = File::from(file);
    write(&mut file, path, content)
}

fn write(file: &mut File, path: &Path, content: &[u8]) -> Result<(), DirError> {
    pass(Point::FileWriteBefore).map_err(io::Error::from).of(path)?;
    file.write_all(content).and_then(|()| file.sync_all()).of(path)?;
    pass(Point::FileWriteAfter).map_err(io::Error::from).of(path)
}

/// The open file, if it is a regular one.
fn regular(fd: OwnedFd, path: &Path) -> Result<(File, Stat), DirError> {
    let stat = fstat(&fd).of(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((File::from(fd), stat)),
        _ => Err(DirError::NotAFile(path.to_owned())),
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(u64::MAX)
}

fn read_bounded(file: File, stat: Stat, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirError> {
    let too_large = || DirError::TooLarge { path: path.to_owned(), bytes_max };
    if size(&stat) > bytes_max {
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
