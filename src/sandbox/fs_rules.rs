//! Landlock: the second wall around files, and the first around signals and TCP.
//!
//! Invariant: a hard requirement. A kernel without ABI 6 (Linux 6.12) gives an error, never a
//! weaker set of rules.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::{net, plan::Plan, wire::Failure};
use crate::domain::Access;

/// The newest rights that are relied upon.
const RIGHTS: ABI = ABI::V6;

/// The rules of a kept sandbox, made once and applied by each call: everything readable and
/// executable, only the plan's writable trees and `/tmp` writable, no device but four, no TCP but
/// to the listeners, no signal or abstract socket beyond the call.
pub(super) fn ruleset(plan: &Plan) -> Result<OwnedFd, Failure> {
    let rules: Option<OwnedFd> = build(plan).map_err(|error| failure(&error))?.into();
    rules.ok_or_else(|| Failure {
        step: "landlock is not fully enforced".to_owned(),
        errno: libc::ENOTSUP,
    })
}

fn build(plan: &Plan) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let read = AccessFs::from_read(RIGHTS);
    // Device nodes have no place in a workspace; ioctls on devices belong to the four below.
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let write = all & !devices;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    rules = allow(rules, "/", read)?;
    rules = allow(rules, "/tmp", write)?;
    for tree in &plan.trees {
        let Some(target) = tree.target.to_str() else { continue };
        let is_directory = tree.target.is_dir();
        let wanted = match tree.access {
            Access::Rw => write,
            Access::Ro => read,
        };
        let rights = if is_directory { wanted } else { wanted & AccessFs::from_file(RIGHTS) };
        rules = allow(rules, target, rights)?;
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

fn allow(
    rules: RulesetCreated,
    path: &str,
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
