//! Landlock: the second wall around files, and the first around signals and TCP.
//!
//! Invariant: a hard requirement. A kernel without ABI 6 (Linux 6.12) gives an error, never a
//! weaker set of rules.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{plan::Plan, programs::Needs, wire::Failure};
use crate::domain::Access;

/// The newest rights that are relied upon.
const RIGHTS: ABI = ABI::V6;

/// Trees of the machine's programs and libraries, executable where every program is allowed.
const SYSTEM_TREES: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// Loaders of programs that are made in the workspace, where those may be executed.
const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// Restricts this process to the view: everything readable, only the plan's writable trees and
/// `/tmp` writable, no device but four, no TCP, no signal or abstract socket beyond the sandbox.
/// Executable is what `needs` names, or without a list the machine's programs and the trees that
/// are only read; what can be written only where the plan says so.
pub(super) fn restrict(plan: &Plan, needs: Option<&Needs>) -> Result<(), Failure> {
    let status = ruleset(plan, needs).map_err(|error| failure(&error))?;
    if status == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err(Failure { step: "landlock is not fully enforced".to_owned(), errno: libc::ENOTSUP })
    }
}

fn ruleset(plan: &Plan, needs: Option<&Needs>) -> Result<RulesetStatus, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let execute = BitFlags::from(AccessFs::Execute);
    let read = AccessFs::from_read(RIGHTS) & !execute;
    // Device nodes have no place in a workspace; ioctls on devices belong to the four below.
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let write = all & !devices & !execute;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    rules = allow(rules, "/", read)?;
    let in_writable = if plan.may_execute_files { execute } else { BitFlags::EMPTY };
    rules = allow(rules, "/tmp", write | in_writable)?;
    for tree in &plan.trees {
        let is_directory = tree.target.is_dir();
        let wanted = match tree.access {
            Access::Rw => write | in_writable,
            Access::Ro if needs.is_none() || plan.may_execute_files => read | execute,
            Access::Ro => read,
        };
        let rights = if is_directory { wanted } else { wanted & AccessFs::from_file(RIGHTS) };
        rules = allow(rules, &tree.target, rights)?;
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
    Ok(rules.restrict_self()?.ruleset)
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
