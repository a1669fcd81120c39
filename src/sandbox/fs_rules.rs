//! Landlock: the second wall around files, and the first around signals and TCP.
//!
//! Invariant: a hard requirement. A kernel without ABI 6 (Linux 6.12) gives an error, never a
//! weaker set of rules.

use std::{os::fd::OwnedFd, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

use super::{
    mounts::{ETC_PIECES, SYSTEM_TREES},
    net,
    plan::Plan,
    programs::Needs,
    wire::Failure,
};
use crate::domain::Access;

/// The newest rights that are relied upon.
const RIGHTS: ABI = ABI::V6;

/// What programs read that would be made up in a view, where there is none.
const ETC_FILES: [&str; 5] =
    ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/localtime"];
/// Loaders of programs that are made in the workspace, where those may be executed.
const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// The rules of a kept sandbox, made once and applied by each call: everything readable, only the
/// plan's writable trees and `/tmp` writable, no device but four, no TCP but to the listeners, no
/// signal or abstract socket beyond the call. Executable is what `needs` names, or without a list
/// the machine's programs and the trees that are only read; what can be written only where the
/// plan says so.
pub(super) fn ruleset(plan: &Plan, needs: Option<&Needs>) -> Result<OwnedFd, Failure> {
    let rules: Option<OwnedFd> = build(plan, needs).map_err(|error| failure(&error))?.into();
    rules.ok_or_else(|| Failure {
        step: "landlock is not fully enforced".to_owned(),
        errno: libc::ENOTSUP,
    })
}

fn build(plan: &Plan, needs: Option<&Needs>) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let execute = BitFlags::from(AccessFs::Execute);
    let read = AccessFs::from_read(RIGHTS) & !execute;
    // Device nodes have no place in a workspace; ioctls on devices belong to the four below.
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let write = all & !devices & !execute;
    let file = AccessFs::from_file(RIGHTS);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let in_writable = if plan.may_execute_files { execute } else { BitFlags::EMPTY };
    if plan.has_namespaces {
        rules = allow(rules, "/", read)?;
        rules = allow(rules, "/tmp", write | in_writable)?;
    } else {
        let pieces = SYSTEM_TREES.into_iter().chain(ETC_PIECES).chain(ETC_FILES);
        for piece in pieces.chain(["/dev/urandom", "/dev/random"]) {
            let rights = if Path::new(piece).is_dir() { read } else { read & file };
            rules = allow(rules, piece, rights)?;
        }
    }
    for tree in &plan.trees {
        let Some(found) = open_plain(&tree.target) else { continue };
        let is_directory = tree.target.is_dir();
        let wanted = match tree.access {
            Access::Rw => write | in_writable,
            Access::Ro if needs.is_none() || plan.may_execute_files => read | execute,
            Access::Ro => read,
        };
        let rights = if is_directory { wanted } else { wanted & file };
        rules = rules.add_rule(PathBeneath::new(found, rights))?;
    }
    match needs {
        None => {
            for tree in SYSTEM_TREES {
                rules = allow(rules, tree, read | execute)?;
            }
        }
        Some(needs) => {
            for file in &needs.files {
                rules = allow(rules, file, execute | AccessFs::ReadFile)?;
            }
            for tree in &needs.trees {
                rules = allow(rules, tree, read | execute)?;
            }
        }
    }
    if plan.may_execute_files {
        for loader in LOADERS {
            rules = allow(rules, loader, execute | AccessFs::ReadFile)?;
        }
    }
    for device in ["/dev/null", "/dev/zero", "/dev/full"] {
        rules = allow(rules, device, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    if plan.has_network {
        for port in net::WEB_PORTS.into_iter().chain([net::PROXY_PORT]) {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(rules)
}

/// Rules that concern no file: no signal and no abstract socket beyond the process and what it
/// starts.
pub(super) fn fence() -> Result<OwnedFd, Failure> {
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()
    };
    let rules: Option<OwnedFd> = build().map_err(|error| failure(&error))?.into();
    rules.ok_or_else(|| Failure::new("fence in", Errno::NOTSUP))
}

/// A tool may have put a link in the place of a tree. What cannot be opened gets no right.
fn open_plain(path: &Path) -> Option<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
}

fn allow(
    rules: RulesetCreated,
    path: impl AsRef<Path>,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, rights)),
        // What cannot be opened gets no right: stricter, never weaker.
        Err(_) => Ok(rules),
    }
}

fn failure(error: &RulesetError) -> Failure {
    Failure { step: format!("landlock ({error})"), errno: libc::ENOTSUP }
}
