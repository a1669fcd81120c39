//! What a call would touch, by what it is and not by its name; and the check of it at the last
//! moment.
//!
//! Invariants: nothing is followed out of the view; what lies in a tree of the grant is opened with
//! the rights of tools, beneath the tree's held directory. What is compared is what is used: the
//! working directory by its descriptor; a program that somebody beside root could change is executed
//! from a sealed copy of the bytes that were hashed, any other is looked at where it will be
//! executed, after the view exists. Blocking: run off the async threads.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags, Stat,
        fcntl_add_seals, fstat, memfd_create, openat2, statat,
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{mounts, plan, programs, workspace::AsTools};
use crate::domain::{Bound, BoundDirectory, BoundExecutable, BoundFile, Grant};

/// Largest program that is hashed and copied.
const PROGRAM_BYTES_MAX: u64 = 256 << 20;
/// Bytes that are hashed and copied at once.
const PIECE_BYTES: usize = 256 << 10;
/// Others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Somebody may execute.
const EXECUTABLE: u32 = 0o111;

/// Why nothing can be bound: then nothing can be approved. The text is for the model.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No such program in the view.
    #[error(
        "there is no program `{0}` that a person could be asked about; what lies in /tmp is seen by \
         the sandbox alone, copy it into the workspace"
    )]
    NoProgram(String),
    /// The working directory is not there, or not inside.
    #[error("the working directory {0} is not there, or leads outside")]
    NoDirectory(PathBuf),
    /// A program whose content would have to be kept, and is too much.
    #[error(
        "{path} is larger than {PROGRAM_BYTES_MAX} bytes, more than can be held for an approval"
    )]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The kernel's reason.
    #[error("cannot look at {path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What of [`Bound`] the sandbox's own process checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exact {
    /// Device and inode of the working directory.
    cwd: Option<(u64, u64)>,
    /// The program, where it is looked at in the view.
    pub(super) executable: Option<(PathBuf, BoundFile)>,
    /// Whether the program comes as a descriptor; and whether it is a script, whose interpreter
    /// opens it again.
    pub(super) sealed: Option<Kind>,
}

/// How a sealed copy is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Binary,
    Script,
}

/// What a process call would touch.
pub(super) fn look(grant: &Grant, program: &str, cwd: &str) -> Result<Bound, BindError> {
    let full = place_of(grant, cwd);
    let cwd = directory(grant, &full)?;
    let executable = Some(executable(grant, program, &full)?);
    Ok(Bound { cwd: Some(cwd), executable, ..Bound::default() })
}

/// The working directory alone, for backends that bring their own programs.
pub(super) fn look_at_directory(grant: &Grant, cwd: &str) -> Result<Bound, BindError> {
    let cwd = directory(grant, &place_of(grant, cwd))?;
    Ok(Bound { cwd: Some(cwd), ..Bound::default() })
}

/// Where a call works, without dots and slashes that mean nothing.
fn place_of(grant: &Grant, cwd: &str) -> PathBuf {
    let full = grant.workspace.join(cwd);
    full.components().filter(|c| !matches!(c, Component::CurDir)).collect()
}

/// The innermost tree of the grant that holds a path, and the rest.
fn tree<'a>(grant: &'a Grant, path: &'a Path) -> Option<(&'a Path, &'a Path)> {
    let trees = std::iter::once(&grant.workspace).chain(grant.paths.iter().map(|rule| &rule.path));
    trees
        .filter_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?)))
        .max_by_key(|(root, _)| root.components().count())
}

/// Opens what lies in a tree of the grant, as a tool could.
fn open_beneath(
    root: &Path,
    rest: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let held = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        no_links,
    )?;
    let _as_tools = AsTools::enter()?;
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | resolve;
    Ok(openat2(&held, rest, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn directory(grant: &Grant, full: &Path) -> Result<BoundDirectory, BindError> {
    let missing = || BindError::NoDirectory(full.to_owned());
    let (root, rest) = tree(grant, full).ok_or_else(missing)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let opened = open_beneath(root, rest, flags, ResolveFlags::empty());
    let opened = opened.map_err(|_not_there| missing())?;
    let stat = fstat(&opened).map_err(|errno| io_of(full, errno.into()))?;
    Ok(of_directory(full, &stat))
}

fn io_of(path: &Path, source: io::Error) -> BindError {
    BindError::Io { path: path.to_owned(), source }
}

/// A directory that is open.
pub(super) fn of_directory(path: &Path, stat: &Stat) -> BoundDirectory {
    BoundDirectory { path: path.display().to_string(), dev: stat.st_dev, ino: stat.st_ino }
}

/// A file that is open, or was looked at.
pub(super) fn of_file(stat: &Stat) -> BoundFile {
    let nanos = |secs: i64, nanos: u64| {
        secs.saturating_mul(1_000_000_000).saturating_add(i64::try_from(nanos).unwrap_or(0))
    };
    BoundFile {
        dev: stat.st_dev,
        ino: stat.st_ino,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The program that a name would start: looked for along the sandbox's own search path unless it is
/// a path itself.
fn executable(grant: &Grant, program: &str, cwd: &Path) -> Result<BoundExecutable, BindError> {
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![cwd.join(program)]
    } else {
        plan::PATH.split(':').map(|directory| Path::new(directory).join(program)).collect()
    };
    for candidate in candidates {
        let Some(real) = programs::follow(&candidate) else { continue };
        if let Some(found) = at(grant, &real)? {
            return Ok(found);
        }
    }
    Err(BindError::NoProgram(program.chars().take(200).collect()))
}

/// The program at a path without links; none where there is none in the view.
fn at(grant: &Grant, real: &Path) -> Result<Option<BoundExecutable>, BindError> {
    let Some(place) = Place::of(grant, real) else { return Ok(None) };
    let Ok(opened) = place.open(OFlags::PATH) else { return Ok(None) };
    let stat = fstat(&opened).map_err(|errno| io_of(real, errno.into()))?;
    let is_program = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_mode & EXECUTABLE != 0;
    if !is_program {
        return Ok(None);
    }
    let path = real.display().to_string();
    if is_guarded(real) {
        return Ok(Some(BoundExecutable { path, file: of_file(&stat), sha256: None }));
    }
    let (file, mut content) = place.open_file().map_err(|source| io_of(real, source))?;
    if file.bytes > PROGRAM_BYTES_MAX {
        return Err(BindError::TooLarge { path: real.to_owned() });
    }
    let sha256 = hash(&mut content, &mut io::sink()).map_err(|source| io_of(real, source))?;
    Ok(Some(BoundExecutable { path, file, sha256: Some(sha256.text) }))
}

/// Where a program lies in the view.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// In a tree of the grant.
    Tree(&'a Path, &'a Path),
    /// In one of the system trees that every view shows.
    System(&'a Path),
}

impl<'a> Place<'a> {
    fn of(grant: &'a Grant, real: &'a Path) -> Option<Self> {
        if let Some((root, rest)) = tree(grant, real) {
            return Some(Self::Tree(root, rest));
        }
        let is_system = mounts::SYSTEM_TREES.iter().any(|tree| real.starts_with(tree));
        is_system.then_some(Self::System(real))
    }

    fn open(self, flags: OFlags) -> io::Result<OwnedFd> {
        match self {
            Self::Tree(root, rest) => open_beneath(root, rest, flags, ResolveFlags::NO_SYMLINKS),
            Self::System(real) => {
                let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                Ok(openat2(CWD, real, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
            }
        }
    }

    /// Opens a regular file to read it; never waits for a fifo.
    fn open_file(self) -> io::Result<(BoundFile, File)> {
        let opened = self.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        Ok((of_file(&stat), File::from(opened)))
    }
}

/// Whether only root can change what lies at a path, or put something else there.
fn is_guarded(real: &Path) -> bool {
    real.ancestors().all(|path| {
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & WRITABLE_BY_OTHERS == 0)
    })
}

struct Hashed {
    text: String,
    is_script: bool,
}

/// Hashes what it copies.
fn hash(from: &mut impl Read, to: &mut impl Write) -> io::Result<Hashed> {
    let mut from = from.take(PROGRAM_BYTES_MAX + 1);
    let mut hash = Sha256::new();
    let mut piece = vec![0_u8; PIECE_BYTES];
    let mut is_script = None;
    loop {
        let count = from.read(&mut piece)?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        is_script.get_or_insert(read.starts_with(b"#!"));
        hash.update(read);
        to.write_all(read)?;
    }
    let text = data_encoding::HEXLOWER.encode(&hash.finalize());
    Ok(Hashed { text, is_script: is_script.unwrap_or(false) })
}

/// What the sandbox's process has to check, with the sealed copy of the program if it is executed
/// from one. None: the program is not the one that was bound.
pub(super) fn exact(grant: &Grant, bound: &Bound) -> Option<(Exact, Option<OwnedFd>)> {
    let cwd = bound.cwd.as_ref().map(|cwd| (cwd.dev, cwd.ino));
    let Some(executable) = &bound.executable else {
        return Some((Exact { cwd, executable: None, sealed: None }, None));
    };
    let path = PathBuf::from(&executable.path);
    let Some(sha256) = &executable.sha256 else {
        let executable = Some((path, executable.file));
        return Some((Exact { cwd, executable, sealed: None }, None));
    };
    let place = Place::of(grant, &path)?;
    let (file, mut content) = place.open_file().ok()?;
    if file != executable.file {
        return None;
    }
    let (copy, hashed) = sealed_copy(&mut content).ok()?;
    if hashed.text != *sha256 {
        return None;
    }
    let kind = if hashed.is_script { Kind::Script } else { Kind::Binary };
    Some((Exact { cwd, executable: None, sealed: Some(kind) }, Some(copy)))
}

/// A copy in memory that nobody can change, not even we.
fn sealed_copy(content: &mut File) -> io::Result<(OwnedFd, Hashed)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and need none.
    let made = match memfd_create("approved", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("approved", flags),
        made => made,
    };
    let mut copy = File::from(made?);
    let hashed = hash(content, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok((copy.into(), hashed))
}

impl Exact {
    /// Whether an open directory is the one that was bound.
    pub(super) fn is_cwd(&self, directory: impl AsFd) -> bool {
        let Some(wanted) = self.cwd else { return true };
        fstat(directory).is_ok_and(|found| (found.st_dev, found.st_ino) == wanted)
    }
}

/// Whether the file at a path of this process's view is the one that was bound.
pub(super) fn is_same(path: &Path, wanted: &BoundFile) -> bool {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), resolve);
    opened.and_then(fstat).is_ok_and(|stat| of_file(&stat) == *wanted)
}
