//! Names in a workspace that tools may read and never change: what runs when a person uses the
//! workspace (`.git/hooks`) and what belongs to this daemon (`.agent-runtime`).
//!
//! Invariants: they exist before anything can be written in the workspace, so that nobody else can
//! make them; they are made and found through a held directory, and a link in their place refuses
//! the call instead of being followed. For processes the view mounts them read-only and `.git`
//! as a mount of its own, which cannot be renamed or removed; for file tools they are recognised
//! by what they are (device and inode), whatever name leads there.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat, openat2,
    },
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use super::{
    mounts::RDONLY,
    sys,
    wire::{AtStep, Failure},
    workspace::give_to_tools,
};
use crate::domain::Access;

/// What git runs, and what this daemon keeps for itself.
const GIT: &str = ".git";
const HOOKS: &str = "hooks";
const OWN: &str = ".agent-runtime";
/// Mode of what is made here, whatever the umask: tools read it.
const MODE: Mode = Mode::from_raw_mode(0o755);
/// Directories between a file and its tree, at most.
const DEPTH_MAX: usize = 256;

/// A protected name cannot be held.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} must be a directory or a file, not a link or anything else; tools are refused in this \
     workspace until the operator has put it right ({source})",
    path = path.display()
)]
pub struct ProtectedError {
    /// Which name.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A file or directory, whatever its name.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// The protected names of one workspace.
#[derive(Clone, Debug, Default)]
pub(super) struct Protected {
    identities: Vec<Identity>,
}

/// Whether something may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing protects it.
    Free,
    /// It is a protected name or lies beneath one.
    Protected,
    /// The way up does not lead to where it began: somebody is moving directories.
    Moved,
}

/// Makes what is missing of the protected names. The daemon calls it before each view is built and
/// before each write of a file tool.
pub(super) fn prepare(workspace: &Path) -> Result<Protected, ProtectedError> {
    let failed = |path: &str| {
        let path = workspace.join(path);
        move |errno: Errno| ProtectedError { path, source: errno.into() }
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let top = openat2(CWD, workspace, flags, Mode::empty(), resolve).map_err(failed(""))?;
    let (git, kind, id) = ensure(&top, GIT, Owner::Tools).map_err(failed(GIT))?;
    let mut identities = Vec::new();
    if kind == FileType::Directory {
        let hooks = ensure(&git, HOOKS, Owner::Daemon).map_err(failed(".git/hooks"))?;
        identities.push(hooks.2);
    } else {
        // The repository lies elsewhere; where is not for a tool to say.
        identities.push(id);
    }
    let own = ensure(&top, OWN, Owner::Daemon).map_err(failed(OWN))?;
    identities.push(own.2);
    Ok(Protected { identities })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Tools,
    Daemon,
}

/// Opens one name without following a link, made if it is missing.
fn ensure(
    at: &OwnedFd,
    name: &str,
    owner: Owner,
) -> rustix::io::Result<(OwnedFd, FileType, Identity)> {
    for _ in 0..2 {
        match open_plain(at.as_fd(), Path::new(name)) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        match mkdirat(at, name, MODE) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(at, name, flags, Mode::empty())?;
                fchmod(&made, MODE)?;
                if owner == Owner::Tools {
                    let given = give_to_tools(&made);
                    given.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
                }
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    open_plain(at.as_fd(), Path::new(name))
}

/// Opens a file or a directory beneath another; links and everything else are refused.
fn open_plain(
    at: BorrowedFd<'_>,
    path: &Path,
) -> rustix::io::Result<(OwnedFd, FileType, Identity)> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let stat = fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        kind @ (FileType::Directory | FileType::RegularFile) => Ok((fd, kind, identity(&stat))),
        _ => Err(Errno::NOTDIR),
    }
}

impl Protected {
    /// Whether this very file or directory is a protected one.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        self.identities.contains(&identity(stat))
    }

    /// Where a directory stands: itself and everything above it, up to `top`, or to the root of
    /// the file system without one.
    pub(super) fn standing(
        &self,
        directory: BorrowedFd<'_>,
        top: Option<&Stat>,
    ) -> rustix::io::Result<Standing> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
        let mut stat = fstat(&at)?;
        for _ in 0..DEPTH_MAX {
            if self.is(&stat) {
                return Ok(Standing::Protected);
            }
            if top.is_some_and(|top| identity(top) == identity(&stat)) {
                return Ok(Standing::Free);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = openat(&at, "..", flags, Mode::empty())?;
            let above_stat = fstat(&above)?;
            if identity(&above_stat) == identity(&stat) {
                // The root. With a top to be met on the way, it was not met.
                return Ok(if top.is_some() { Standing::Moved } else { Standing::Free });
            }
            (at, stat) = (above, above_stat);
        }
        Ok(Standing::Moved)
    }
}

/// Mounts the protected names over themselves, in a view that has become the root.
pub(super) fn pin(workspace: &Path) -> Result<(), Failure> {
    let git = workspace.join(GIT);
    match over_itself(&git, 0)? {
        FileType::Directory => drop(over_itself(&git.join(HOOKS), RDONLY)?),
        _ => drop(over_itself(&git, RDONLY)?),
    }
    over_itself(&workspace.join(OWN), RDONLY).map(drop)
}

/// The protected names as trees of their own, parents first, for a backend that mounts by name and
/// compares afterwards. [`prepare`] has made them.
pub(super) fn trees(workspace: &Path) -> Vec<(PathBuf, Access)> {
    let git = workspace.join(GIT);
    let is_directory = std::fs::symlink_metadata(&git).is_ok_and(|found| found.is_dir());
    let mut trees = if is_directory {
        vec![(git.clone(), Access::Rw), (git.join(HOOKS), Access::Ro)]
    } else {
        vec![(git, Access::Ro)]
    };
    trees.push((workspace.join(OWN), Access::Ro));
    trees
}

fn over_itself(path: &Path, attributes: u64) -> Result<FileType, Failure> {
    let step = || format!("protect {}", path.display());
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = openat2(CWD, path, flags, Mode::empty(), resolve).at(step())?;
    let kind = FileType::from_raw_mode(fstat(&source).at(step())?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(Failure { step: step(), errno: libc::ENOTDIR });
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = open_tree(&source, c"", flags).at(step())?;
    sys::add_mount_attributes(&mount, attributes, true).at(step())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, c"", &source, c"", flags).at(step())?;
    Ok(kind)
}
