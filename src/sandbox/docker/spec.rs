//! What a container is asked to be, worked out before the engine hears of it.
//!
//! Invariants: pure; everything that can be taken from a container is; the two processes that keep
//! it (the engine's init and `cat`) have a uid that no tool has, so that no tool can stop, trace or
//! imitate them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    domain::{Access, ToolLimits},
    sandbox::plan::Plan,
};

/// The label that holds the data directory of the daemon that made the container.
pub(super) const LABEL: &str = "agent-runtime.data-dir";
/// The uid and gid of the processes that keep a container.
pub(super) const KEEPER_UID: u32 = 65_530;
/// Processes that keep a container: its init, and the one that waits for the end of its input.
pub(super) const KEEPERS: usize = 2;
/// Threads of the engine's own starter, which is counted while it starts a call.
const STARTER_THREADS: u64 = 16;

/// What a container is made from.
#[derive(Clone, Debug)]
pub(super) struct Spec<'s> {
    pub(super) image: &'s str,
    pub(super) data_dir: &'s Path,
    pub(super) plan: &'s Plan,
    pub(super) limits: &'s ToolLimits,
    pub(super) may_execute_files: bool,
}

impl Spec<'_> {
    /// As the engine wants it (`POST /containers/create`).
    pub(super) fn to_json(&self) -> Value {
        let Self { image, data_dir, plan, limits, may_execute_files } = self;
        let exec = if *may_execute_files { "exec" } else { "noexec" };
        let tmp = format!(
            "rw,nosuid,nodev,{exec},size={},nr_inodes={},mode=1777",
            plan.tmp_bytes, plan.tmp_inodes
        );
        let mounts: Vec<Value> = plan
            .trees
            .iter()
            .map(|tree| {
                json!({
                    "Type": "bind",
                    "Source": tree.source,
                    "Target": tree.target,
                    "ReadOnly": tree.access == Access::Ro,
                    // What is mounted later on either side stays there.
                    "BindOptions": { "Propagation": "rprivate" },
                })
            })
            .collect();
        json!({
            "Image": image,
            // Ends when its standard input does: when the daemon is gone, or has let go.
            "Entrypoint": ["cat"],
            "Cmd": [],
            "User": format!("{KEEPER_UID}:{KEEPER_UID}"),
            "WorkingDir": "/",
            "Hostname": "sandbox",
            "OpenStdin": true,
            "StdinOnce": true,
            "AttachStdin": true,
            "NetworkDisabled": true,
            "Labels": { LABEL: data_dir },
            "HostConfig": {
                "AutoRemove": true,
                "NetworkMode": "none",
                "IpcMode": "none",
                "Privileged": false,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": true,
                "Init": true,
                "LogConfig": { "Type": "none" },
                "Memory": limits.memory_total_bytes,
                // The same: no swap.
                "MemorySwap": limits.memory_total_bytes,
                "PidsLimit": limits.processes.saturating_add(STARTER_THREADS + KEEPERS as u64),
                // When memory runs out, tools go first and the daemon last.
                "OomScoreAdj": 1000,
                "Tmpfs": { "/tmp": tmp },
                "Mounts": mounts,
                // Not the number of processes: that one would be counted for the uid on the whole
                // machine. Nor the address space, for which the engine has no name.
                "Ulimits": [
                    ulimit("cpu", limits.cpu_secs, limits.cpu_secs.saturating_add(1)),
                    ulimit("fsize", limits.file_bytes, limits.file_bytes),
                    ulimit("nofile", limits.open_files, limits.open_files),
                    ulimit("core", 0, 0),
                    ulimit("msgqueue", 0, 0),
                ],
            },
        })
    }
}

fn ulimit(name: &str, soft: u64, hard: u64) -> Value {
    json!({ "Name": name, "Soft": soft, "Hard": hard })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CommandRule, Grant, PathRule},
        sandbox::plan,
    };

    #[test]
    fn a_container_is_asked_for_everything_that_confines_it() {
        let mut grant = Grant::new("/data/workspaces/a".into(), CommandRule::Any);
        grant.paths = vec![PathRule { path: "/srv".into(), access: Access::Ro }];
        let data_dir = Path::new("/data");
        let plan = plan::plan(&grant, data_dir).unwrap();
        let spec = Spec {
            image: "img",
            data_dir,
            plan: &plan,
            limits: &grant.limits,
            may_execute_files: false,
        };
        let json = spec.to_json();
        let host = &json["HostConfig"];
        assert_eq!(host["NetworkMode"], "none");
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["Memory"], host["MemorySwap"]);
        assert!(host["Tmpfs"]["/tmp"].as_str().unwrap().contains("noexec"));
        assert_eq!(host["Mounts"][0]["Target"], "/srv");
        assert_eq!(host["Mounts"][0]["ReadOnly"], true);
        assert_eq!(host["Mounts"][1]["ReadOnly"], false);
        let text = json.to_string();
        assert!(!text.contains("docker.sock") && !text.contains("\"Env\""), "{text}");
    }
}
