//! What one tool call may touch. `auth` writes it, `tools` and `sandbox` obey it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    host::{EgressLimits, HostPolicy},
    limits,
};

/// How a path may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and, where allowed, execute.
    Ro,
    /// Read and write.
    Rw,
}

/// A directory tree outside the workspace that is visible at its own path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Absolute path of the tree.
    pub path: PathBuf,
    /// How it may be used.
    pub access: Access,
}

/// Which programs may be started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandRule {
    /// None: the call starts no process.
    None,
    /// Only these programs, by name or absolute path, and what they need to start.
    Only(Vec<String>),
    /// Any program that the view holds.
    Any,
}

/// Resource bounds of one tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolLimits {
    /// Wall clock before the call is killed.
    pub wall_secs: u64,
    /// CPU seconds per process.
    pub cpu_secs: u64,
    /// Address space per process, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads of the tool's user.
    pub processes: u64,
    /// Largest file that may be written, in bytes.
    pub file_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
    /// Size of the private `/tmp`, in bytes.
    pub tmp_bytes: u64,
    /// Files in the private `/tmp`.
    pub tmp_inodes: u64,
    /// Memory of all processes of a call together, with the private `/tmp`, in bytes.
    pub memory_total_bytes: u64,
    /// What the workspace may hold, in bytes; a call that goes beyond is killed.
    pub workspace_bytes: u64,
    /// Files and directories that the workspace may hold.
    pub workspace_inodes: u64,
    /// Output kept, in bytes, both streams together.
    pub output_bytes: usize,
}

impl Default for ToolLimits {
    fn default() -> Self {
        Self {
            wall_secs: 60,
            cpu_secs: 60,
            memory_bytes: 4 << 30,
            processes: 256,
            file_bytes: 256 << 20,
            open_files: 256,
            tmp_bytes: 64 << 20,
            tmp_inodes: 4_096,
            memory_total_bytes: 4 << 30,
            workspace_bytes: 4 << 30,
            workspace_inodes: 200_000,
            output_bytes: limits::TOOL_OUTPUT_BYTES_MAX,
        }
    }
}

impl ToolLimits {
    /// The wall clock bound.
    pub const fn wall(&self) -> Duration {
        Duration::from_secs(self.wall_secs)
    }
}

/// What one tool call may touch. Nothing that it does not name is reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Absolute path of the agent's workspace on this machine.
    pub workspace: PathBuf,
    /// Further trees.
    pub paths: Vec<PathRule>,
    /// Programs.
    pub commands: CommandRule,
    /// Whether files in the workspace, in writable trees and in `/tmp` may be executed.
    pub may_execute_files: bool,
    /// Other machines. Without any rule that allows, the call has no network at all.
    pub hosts: Arc<HostPolicy>,
    /// Whether a request may follow a redirect to its own host and port only: the run holds what
    /// must not be carried away, and policy has looked at one destination.
    pub same_host_only: bool,
    /// Bounds of the run's traffic.
    pub egress: EgressLimits,
    /// Bounds.
    pub limits: ToolLimits,
}

impl Grant {
    /// A grant of one workspace and these programs: no other tree, no network, usual bounds.
    pub fn new(workspace: PathBuf, commands: CommandRule) -> Self {
        Self {
            workspace,
            paths: Vec::new(),
            commands,
            may_execute_files: false,
            hosts: Arc::default(),
            same_host_only: false,
            egress: EgressLimits::default(),
            limits: ToolLimits::default(),
        }
    }
}
