//! Resource limits of a tool process.

use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use serde::{Deserialize, Serialize};

use super::wire::{AtStep, Failure};
use crate::domain::ToolLimits;

/// Locked memory: enough for a language runtime's secrets, too little to starve the machine.
const LOCKED_BYTES: u64 = 64 << 10;
/// Signals that may be queued.
const PENDING_SIGNALS: u64 = 256;

/// How much nicer tools are than the daemon: a tenth of its weight, so that its short work is done
/// at once while they still get everything that it leaves. `SCHED_IDLE` was no better in trials and
/// would starve them beside any other program on the machine.
const NICENESS: i32 = 10;
const NICENESS_MAX: i32 = 19;

/// Limits as `setrlimit(2)` takes them. They hold for each process; together with the limits of
/// the pid namespace and of `/tmp` they bound a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rlimits {
    cpu_secs: u64,
    memory_bytes: u64,
    processes: u64,
    file_bytes: u64,
    open_files: u64,
}

impl From<&ToolLimits> for Rlimits {
    fn from(limits: &ToolLimits) -> Self {
        Self {
            cpu_secs: limits.cpu_secs,
            memory_bytes: limits.memory_bytes,
            processes: limits.processes,
            file_bytes: limits.file_bytes,
            open_files: limits.open_files,
        }
    }
}

impl Rlimits {
    /// Without the bound of processes, which only means something in an own user namespace.
    pub(super) const fn with_any_number_of_processes(self) -> Self {
        Self { processes: u64::MAX, ..self }
    }

    /// Applies the limits to this process and what it starts.
    pub(super) fn apply(self) -> Result<(), Failure> {
        // Added to what the daemon has; it cannot be taken back without a capability.
        let niceness = getpriority_process(None).at("read the priority")?;
        setpriority_process(None, niceness.saturating_add(NICENESS).min(NICENESS_MAX))
            .at("lower the priority")?;
        let limits = [
            (Resource::Cpu, self.cpu_secs, "limit cpu"),
            (Resource::As, self.memory_bytes, "limit memory"),
            (Resource::Nproc, self.processes, "limit processes"),
            (Resource::Fsize, self.file_bytes, "limit file size"),
            (Resource::Nofile, self.open_files, "limit open files"),
            // A core dump would write memory into the workspace.
            (Resource::Core, 0, "limit core"),
            (Resource::Memlock, LOCKED_BYTES, "limit locked memory"),
            (Resource::Msgqueue, 0, "limit message queues"),
            (Resource::Sigpending, PENDING_SIGNALS, "limit pending signals"),
        ];
        for (resource, value, step) in limits {
            // CPU time gets one second between the signal that can be caught and the one that
            // cannot, so that the end is told as SIGXCPU.
            let spare = u64::from(matches!(resource, Resource::Cpu));
            // The daemon's own ceiling may be lower, and cannot be raised here.
            let ceiling = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let hard = value.saturating_add(spare).min(ceiling);
            let limit = Rlimit { current: Some(value.min(hard)), maximum: Some(hard) };
            setrlimit(resource, limit).at(step)?;
        }
        Ok(())
    }
}
