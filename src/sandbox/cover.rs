//! Makes only the listed programs exist in a view that has just become the root.
//!
//! Invariants: what a directory of programs held is out of reach afterwards, by every name; what
//! is left in its place is read-only. Sources are opened before they are covered, by real paths
//! that [`super::programs`] found in this same view.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat},
    io::Errno,
    mount::{MountAttrFlags, OpenTreeFlags, UnmountFlags, open_tree, unmount},
};

use super::{
    mounts::{NODEV, NOEXEC, NOSUID, RDONLY, attach, detach_with, new_mount},
    programs::Needs,
    sys,
    wire::{AtStep, Failure},
};

/// An empty directory of every view, where the covers are made.
const STAGING: &str = "/run";
/// Size of the covers: directories, links and empty files.
const COVER_BYTES: &str = "1m";
const COVER_INODES: &str = "4096";

/// A file or directory of a covered directory that stays.
struct Kept<'n> {
    path: &'n Path,
    is_directory: bool,
    mount: OwnedFd,
}

/// Covers the directories of programs and puts back what is needed.
pub(super) fn narrow(directories: &[PathBuf], needs: &Needs) -> Result<(), Failure> {
    // A directory that is needed as a whole stays as it is, unless it lies in one that goes.
    let is_kept = |path: &Path| needs.trees.iter().any(|tree| path.starts_with(tree));
    let covers: Vec<&Path> =
        directories.iter().map(PathBuf::as_path).filter(|path| !is_kept(path)).collect();
    let mut kept = Vec::new();
    let all = needs.trees.iter().map(|tree| (tree, true));
    for (path, is_directory) in all.chain(needs.files.iter().map(|file| (file, false))) {
        let is_covered = covers.iter().any(|cover| path.starts_with(cover));
        // A file in a directory that stays, stays with it.
        let has_come = kept.iter().any(|k: &Kept<'_>| k.is_directory && path.starts_with(k.path));
        if is_covered && !has_come {
            let mount = detach_with(path, RDONLY | NOSUID | NODEV)?;
            kept.push(Kept { path, is_directory, mount });
        }
    }
    let options = [("size", COVER_BYTES), ("nr_inodes", COVER_INODES), ("mode", "755")];
    let staging = new_mount("tmpfs", &options, MountAttrFlags::empty())?;
    attach(&staging, CWD, Path::new(STAGING))?;
    for (number, cover) in covers.iter().enumerate() {
        let name = PathBuf::from(number.to_string());
        make(&staging, &name, Entry::Directory)?;
        let place = |path: &Path| path.strip_prefix(cover).ok().map(|rest| name.join(rest));
        for (link, target) in &needs.links {
            if let Some(place) = place(link) {
                make(&staging, &place, Entry::Link(target))?;
            }
        }
        for item in &kept {
            if let Some(place) = place(item.path) {
                let entry = if item.is_directory { Entry::Directory } else { Entry::File };
                make(&staging, &place, entry)?;
            }
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let step = || format!("cover {}", cover.display());
        let mount = open_tree(&staging, &name, flags).at(step())?;
        sys::add_mount_attributes(&mount, RDONLY | NOSUID | NODEV | NOEXEC, false).at(step())?;
        attach(&mount, CWD, cover)?;
    }
    unmount(STAGING, UnmountFlags::DETACH).at("drop the staging of covers")?;
    for item in &kept {
        attach(&item.mount, CWD, item.path)?;
    }
    Ok(())
}

enum Entry<'t> {
    Directory,
    File,
    Link(&'t Path),
}

/// Makes an entry and the directories above it, on a file system that nobody else sees.
fn make(at: &OwnedFd, path: &Path, entry: Entry<'_>) -> Result<(), Failure> {
    let step = || format!("make {}", path.display());
    let access = Mode::from_raw_mode(0o755);
    let mut above = PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        above.push(part);
        exists_already(mkdirat(at, &above, access)).at(step())?;
    }
    let made = match entry {
        Entry::Directory => mkdirat(at, path, access),
        Entry::Link(target) => symlinkat(target, at.as_fd(), path),
        Entry::File => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC;
            openat(at, path, flags, access).map(drop)
        }
    };
    exists_already(made).at(step())
}

fn exists_already(made: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
