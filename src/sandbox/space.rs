//! How much a workspace holds, counted through held directories.
//!
//! Invariants: no name is resolved but one below an open directory, and no link is followed;
//! memory is bounded by the names of one path's directories, descriptors by two, whatever the
//! depth; a tree that is changed meanwhile gives a count, never an error or a walk elsewhere. It
//! blocks on the disk: call it off the async threads.

use std::{collections::HashSet, ffi::CString, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, StatVfs, fstat, fstatvfs, openat, statat},
    io::Errno,
};

/// Bytes of the unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// What lies in a tree: bytes as allocated on the disk, and files with directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Held {
    fn add(&mut self, blocks: i64) {
        let bytes = u64::try_from(blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
        self.bytes = self.bytes.saturating_add(bytes);
        self.inodes = self.inodes.saturating_add(1);
    }
}

/// What a file system has, and what an unprivileged user may still take of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) used: Held,
    pub(super) free: Held,
    pub(super) total: Held,
}

/// Asks the file system of an open file or directory.
pub(super) fn room(at: &OwnedFd) -> rustix::io::Result<Room> {
    fstatvfs(at).map(|found| Room::from(&found))
}

impl From<&StatVfs> for Room {
    fn from(found: &StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Self {
            used: Held {
                bytes: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
                inodes: found.f_files.saturating_sub(found.f_ffree),
            },
            free: Held { bytes: bytes(found.f_bavail), inodes: found.f_favail },
            total: Held { bytes: bytes(found.f_blocks), inodes: found.f_files },
        }
    }
}

/// A directory on the way down, with the subdirectories that are still to be counted.
struct Level {
    id: (u64, u64),
    /// Its name in the level above.
    name: CString,
    waiting: Vec<CString>,
}

/// Counts everything below a directory. A file with several names counts once; what cannot be
/// read (a directory that a tool closed, and the daemon is not root) counts as one file.
///
/// # Errors
/// When the directory itself cannot be read.
pub(super) fn count(root: &OwnedFd) -> rustix::io::Result<Held> {
    let mut held = Held::default();
    let mut linked = HashSet::new();
    let mut at = open(root, c".")?;
    let mut levels = vec![look(&at, CString::default(), &mut held, &mut linked)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.waiting.pop() {
            let opened = open(&at, &name);
            let looked = opened.and_then(|inner| {
                look(&inner, name, &mut held, &mut linked).map(|level| (inner, level))
            });
            // Gone, replaced or closed since it was listed: its own entry has been counted.
            let Ok((inner, level)) = looked else { continue };
            at = inner;
            levels.push(level);
            continue;
        }
        levels.pop();
        let Some(above) = levels.last() else { break };
        at = match open(&at, c"..").and_then(|up| Ok((id(&up)?, up))) {
            Ok((found, up)) if found == above.id => up,
            // It was moved: the way down from the root is what counts.
            _ => redescend(root, &mut levels)?,
        };
    }
    Ok(held)
}

/// Walks down to the deepest level whose way still exists, and forgets those below it.
fn redescend(root: &OwnedFd, levels: &mut Vec<Level>) -> rustix::io::Result<OwnedFd> {
    let mut at = open(root, c".")?;
    let mut whole = 1;
    for level in levels.iter().skip(1) {
        match open(&at, &level.name).and_then(|inner| Ok((id(&inner)?, inner))) {
            Ok((found, inner)) if found == level.id => at = inner,
            _ => break,
        }
        whole += 1;
    }
    levels.truncate(whole);
    Ok(at)
}

/// Counts the entries of one directory and lists its subdirectories.
fn look(
    directory: &OwnedFd,
    name: CString,
    held: &mut Held,
    linked: &mut HashSet<(u64, u64)>,
) -> rustix::io::Result<Level> {
    let mut level = Level { id: id(directory)?, name, waiting: Vec::new() };
    for entry in Dir::read_from(directory)? {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory was removed while it was read.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        held.add(stat.st_blocks);
        if is_directory {
            level.waiting.push(name.to_owned());
        }
    }
    Ok(level)
}

fn open(at: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn id(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    fn held(path: &Path) -> Held {
        count(&OwnedFd::from(fs::File::open(path).unwrap())).unwrap()
    }

    #[test]
    fn bytes_on_the_disk_and_names_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(held(root), Held::default());
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/f"), vec![1_u8; 1 << 20]).unwrap();
        fs::hard_link(root.join("a/b/f"), root.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/", root.join("a/out")).unwrap();
        let sparse = fs::File::create(root.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let found = held(root);
        assert_eq!(found.inodes, 5, "a, b, f, out, sparse");
        assert!((1 << 20..2 << 20).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn depth_costs_no_descriptors_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than a path may be long, and than this process may have descriptors.
        let mut at = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = open(&at, c"deep").unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&at, "f", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, &[1; 8192]).unwrap();
        let found = held(dir.path());
        assert_eq!(found.inodes, 3_001);
        // `remove_dir_all` of the standard library goes as deep as it has descriptors.
        drop((at, file));
        let root = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        flatten(&root);
    }

    /// Removes the chain from above by moving each next level up.
    fn flatten(root: &OwnedFd) {
        while let Ok(deep) = open(root, c"deep") {
            let has_next = rustix::fs::renameat(&deep, "deep", root, "next").is_ok();
            rustix::fs::unlinkat(&deep, "f", AtFlags::empty()).ok();
            rustix::fs::unlinkat(root, "deep", AtFlags::REMOVEDIR).unwrap();
            if has_next {
                rustix::fs::renameat(root, "next", root, "deep").unwrap();
            }
        }
    }

    #[test]
    fn a_tree_that_is_moved_about_is_still_counted_and_never_left() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for n in 0..50 {
            fs::create_dir_all(root.join(format!("x/y{n}/z"))).unwrap();
            fs::write(root.join(format!("x/y{n}/z/f")), "f").unwrap();
        }
        for n in 0..500 {
            fs::create_dir_all(outside.join(format!("o{n}"))).unwrap();
        }
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    fs::rename(root.join("x"), outside.join("x")).unwrap();
                    fs::rename(outside.join("x"), root.join("x")).unwrap();
                }
            });
            for _ in 0..300 {
                let found = held(&root);
                assert!(found.inodes <= 151, "counted what lies outside: {found:?}");
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(held(&root).inodes, 151);
    }

    #[test]
    fn a_file_system_tells_its_room() {
        let room = room(&OwnedFd::from(fs::File::open("/").unwrap())).unwrap();
        assert!(room.total.bytes >= room.used.bytes && room.total.bytes > room.free.bytes);
    }
}
