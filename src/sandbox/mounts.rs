//! The file system that a sandbox sees, built in its own mount namespace.
//!
//! Invariants: the only trees of the host in it are the system trees below (read-only), four
//! device nodes and what the plan names. Sources are opened without following links; targets are
//! resolved beneath the new root, so that a link in a workspace cannot direct a mount elsewhere.

use std::{
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, symlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
        mount_change, move_mount, open_tree, unmount,
    },
    process::{fchdir, pivot_root},
};

use super::{
    cover,
    plan::{self, Plan, Tree},
    programs::{self, Needs},
    protected, sys,
    wire::{AtStep, Failure},
};
use crate::domain::Access;

/// Attributes of mounts, from `linux/mount.h`.
pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;

/// Directories of the host with programs and libraries; links among them are copied as links.
pub(super) const SYSTEM_TREES: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// Pieces of `/etc` that programs need and that hold nothing private.
/// Of `/etc/ssl` only the public part: its `private` may be readable for a group of the daemon's.
pub(super) const ETC_PIECES: [&str; 4] =
    ["/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/ssl/openssl.cnf"];
/// Devices that give and take nothing.
const DEVICES: [&str; 4] = ["null", "zero", "full", "urandom"];
/// A directory that exists on every machine where a tool could run, and beneath which no tree of a
/// plan may lie; the new root is mounted over it until it becomes the root.
const STAGING: &str = "/dev";
/// Links of every view: target, and the link's own path.
const LINKS: [(&str, &str); 7] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("urandom", "dev/random"),
    ("/tmp", "dev/shm"),
    ("/tmp", "var/tmp"),
];
/// Size of the root: it holds directories, links and six small files.
const ROOT_BYTES: &str = "1m";

/// What is the same for every sandbox on this machine; found out once, when the helper starts.
#[derive(Debug)]
pub(super) struct View {
    trees: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    /// What a view with a list of programs covers.
    program_directories: Vec<PathBuf>,
}

impl View {
    /// Looks at the machine.
    pub(super) fn new() -> Self {
        let (mut trees, mut links) = (Vec::new(), Vec::new());
        for path in SYSTEM_TREES.iter().chain(&ETC_PIECES).map(PathBuf::from) {
            match std::fs::symlink_metadata(&path) {
                // A link deeper down would need its directory, and nothing depends on one.
                Ok(found) if found.is_symlink() && path.parent() != Some(Path::new("/")) => {}
                Ok(found) if found.is_symlink() => {
                    if let Ok(target) = std::fs::read_link(&path) {
                        links.push((path, target));
                    }
                }
                Ok(_) => trees.push(path),
                Err(_) => {}
            }
        }
        Self { trees, links, program_directories: programs::directories() }
    }
}

/// Opens a tree of the host without following any link, and clones its mounts with the attributes
/// that it gets in the view. The clone is attached to nothing and vanishes when dropped.
pub(super) fn detach(tree: &Tree) -> Result<OwnedFd, Failure> {
    let read_only = match tree.access {
        Access::Ro => RDONLY,
        Access::Rw => 0,
    };
    detach_with(&tree.source, read_only | NOSUID | NODEV | noexec(tree.may_execute))
}

const fn noexec(may_execute: bool) -> u64 {
    if may_execute { 0 } else { NOEXEC }
}

/// Opens a path of the host without following any link; neither for reading nor for writing.
pub(super) fn held(path: &Path) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .at(format!("open {}", path.display()))
}

/// As [`detach`], of any path.
pub(super) fn detach_with(path: &Path, attributes: u64) -> Result<OwnedFd, Failure> {
    let step = || format!("open {}", path.display());
    let source = held(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&source, c"", flags).at(step())?;
    sys::add_mount_attributes(&tree, attributes, true).at(step())?;
    Ok(tree)
}

/// The part of a view that no plan changes, built ahead of the first plan.
#[derive(Debug)]
pub(super) struct Base {
    root: OwnedFd,
    system: Vec<(PathBuf, OwnedFd)>,
    proc: Result<OwnedFd, Failure>,
    program_directories: Vec<PathBuf>,
}

/// Builds what every view has: a root with devices. The host stays visible beside it until
/// [`enter`], so that the plan's trees can be opened.
pub(super) fn prepare(view: &View) -> Result<Base, Failure> {
    // Everything of the host is opened first: the staging directory is about to be covered.
    let mut system = Vec::with_capacity(view.trees.len());
    for path in &view.trees {
        // Of `/etc` only links and data are shown.
        let noexec = noexec(!path.starts_with("/etc"));
        system.push((path.clone(), detach_with(path, RDONLY | NOSUID | NODEV | noexec)?));
    }
    let mut devices = Vec::with_capacity(DEVICES.len());
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        devices.push((name, detach_with(&path, NOSUID | NOEXEC)?));
    }
    // Nothing that is mounted from here on may appear outside. What the host mounts meanwhile
    // still appears here, since a workspace may lie on it.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .at("make mounts private")?;
    let proc = new_mount("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC);
    let root = tmpfs(ROOT_BYTES, "512", "755")?;
    attach(&root, CWD, Path::new(STAGING))?;
    for directory in ["etc", "dev", "tmp", "proc", "var", "run"] {
        make_directory(root.as_fd(), directory)?;
    }
    for (path, target) in &view.links {
        symlinkat(target, &root, relative(path)).at("link system directory")?;
    }
    for (name, device) in &devices {
        attach_beneath(&root, device, &Path::new("/dev").join(name))?;
    }
    for (target, link) in LINKS {
        symlinkat(target, &root, link).at(format!("link {link}"))?;
    }
    let program_directories = view.program_directories.clone();
    Ok(Base { root, system, proc, program_directories })
}

/// Completes the view by the plan and makes it the root, once per kept sandbox. `passed` holds
/// clones of the plan's trees that the daemon made, or nothing; then they are opened here, and must
/// be what the daemon sees under the same names (`identities`: device and inode of each). Tells
/// what the plan's list of programs needs, if it has one: nothing else may be executed.
pub(super) fn enter(
    base: Base,
    plan: &Plan,
    passed: Vec<OwnedFd>,
    identities: &[(u64, u64)],
) -> Result<Option<Needs>, Failure> {
    let Base { root, system, proc, program_directories } = base;
    let user = if passed.is_empty() {
        plan.trees.iter().map(detach).collect::<Result<_, _>>()?
    } else {
        passed
    };
    for ((tree, clone), identity) in plan.trees.iter().zip(&user).zip(identities) {
        let step = || format!("find {} as it was", tree.source.display());
        let found = fstat(clone).at(step())?;
        if (found.st_dev, found.st_ino) != *identity {
            // A file system was mounted there after this view was prepared.
            return Err(Failure::new(step(), Errno::STALE));
        }
    }
    for (path, tree) in &system {
        attach_beneath(&root, tree, path)?;
    }
    files(&root, plan)?;
    let tmp = tmpfs(&plan.tmp_bytes.to_string(), &plan.tmp_inodes.to_string(), "1777")?;
    sys::add_mount_attributes(&tmp, noexec(plan.may_execute_files), false).at("restrict /tmp")?;
    attach_beneath(&root, &tmp, Path::new("/tmp"))?;
    if plan.has_proc {
        attach_beneath(&root, &proc?, Path::new("/proc"))?;
    }
    for (tree, clone) in plan.trees.iter().zip(&user) {
        attach_tree(&root, tree, clone)?;
    }

    // The old root ends up stacked on the new one, and is dropped from there (pivot_root(2)).
    fchdir(&root).at("enter the new root")?;
    pivot_root(".", ".").at("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at("drop the old root")?;
    // From here on every name means what it will mean to the tool.
    protected::pin(&plan.home)?;
    let needs = plan.programs.as_ref().map(|names| programs::resolve(names, plan::PATH));
    if let Some(needs) = &needs {
        cover::narrow(&program_directories, needs)?;
    }
    let attributes = RDONLY | NOSUID | NODEV | NOEXEC;
    sys::add_mount_attributes(&root, attributes, false).at("make the root read-only")?;
    Ok(needs)
}

/// Opens a directory of the view to be the working directory: resolved by the kernel beneath the
/// innermost tree that holds it, so that no link can lead elsewhere.
pub(super) fn open_directory(plan: &Plan, path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("enter {}", path.display());
    let holds = plan.trees.iter().filter(|tree| path.starts_with(&tree.target));
    let innermost = holds.max_by_key(|tree| tree.target.components().count());
    let target = innermost.map_or(plan.home.as_path(), |tree| tree.target.as_path());
    let rest = path.strip_prefix(target).ok().filter(|rest| !rest.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let tree = openat2(CWD, target, flags, Mode::empty(), no_links).at(step())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let rest = rest.unwrap_or(Path::new("."));
    openat2(&tree, rest, flags, Mode::empty(), resolve).at(step())
}

/// Covers `/proc` by one that shows this process's own pid namespace, once per call.
pub(super) fn own_proc() -> Result<(), Failure> {
    let proc = new_mount("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    attach(&proc, CWD, Path::new("/proc"))
}

fn attach_tree(root: &OwnedFd, tree: &Tree, clone: &OwnedFd) -> Result<(), Failure> {
    attach_beneath(root, clone, &tree.target)
}

fn files(root: &OwnedFd, plan: &Plan) -> Result<(), Failure> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let home = plan.home.display();
    let hosts = if plan.has_network { "files dns" } else { "files" };
    let files = [
        ("etc/passwd", format!("agent:x:{uid}:{gid}::{home}:/bin/sh\n")),
        ("etc/group", format!("agent:x:{gid}:\n")),
        ("etc/nsswitch.conf", format!("passwd: files\ngroup: files\nhosts: {hosts}\n")),
        ("etc/hosts", "127.0.0.1 localhost\n".to_owned()),
    ];
    // The listener for names; one try, since it answers at once.
    let resolver = ("etc/resolv.conf", "nameserver 127.0.0.1\noptions attempts:1\n".to_owned());
    for (path, content) in files.into_iter().chain(plan.has_network.then_some(resolver)) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(root, path, flags, Mode::from_raw_mode(0o644)).at(path)?;
        std::fs::File::from(file).write_all(content.as_bytes()).at(path)?;
    }
    Ok(())
}

fn tmpfs(size: &str, inodes: &str, mode: &str) -> Result<OwnedFd, Failure> {
    let options = [("size", size), ("nr_inodes", inodes), ("mode", mode)];
    new_mount("tmpfs", &options, MountAttrFlags::empty())
}

pub(super) fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mount {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at(step())?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value).at(step())?;
    }
    fsconfig_create(&context).at(step())?;
    let attributes =
        attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(step())
}

/// Attaches a detached mount at a path that nobody else can change.
pub(super) fn attach(mount: &OwnedFd, at: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    move_mount(mount, c"", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at(format!("attach {}", path.display()))
}

/// Attaches a detached mount beneath the new root, making what is missing on the way.
fn attach_beneath(root: &OwnedFd, mount: &OwnedFd, target: &Path) -> Result<(), Failure> {
    let step = || format!("attach {}", target.display());
    let kind = FileType::from_raw_mode(fstat(mount).at(step())?.st_mode);
    let place = place(root, relative(target), kind == FileType::Directory).at(step())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", &place, c"", flags).at(step())
}

/// Opens a mount point, creating directories (and the file, for a file) as needed. Links are
/// never followed, since trees mounted earlier belong to a tool.
fn place(root: &OwnedFd, path: &Path, is_directory: bool) -> rustix::io::Result<OwnedFd> {
    match beneath(root.as_fd(), path) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let mut at = beneath(root.as_fd(), Path::new("."))?;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let name = Path::new(name);
        let made = if names.peek().is_some() || is_directory {
            mkdirat(&at, name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        at = beneath(at.as_fd(), name)?;
    }
    Ok(at)
}

fn beneath(at: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn make_directory(at: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    mkdirat(at, name, Mode::from_raw_mode(0o755)).at(format!("make /{name}"))
}

/// The path without its leading slash; `.` for the root.
fn relative(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(b"/") {
        Some(b"") | None => Path::new("."),
        Some(rest) => Path::new(std::ffi::OsStr::from_bytes(rest)),
    }
}
