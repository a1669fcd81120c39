//! A sandbox from inside: pid 1 applies the plan in one sequence, starts the tool and buries it.
//!
//! Invariants: every step either succeeds or ends the sandbox with a report of the step; nothing
//! of the tool runs before the last step. Pid 1 ends as soon as the tool's main process ends, the
//! daemon is gone or the helper is gone, and the kernel then kills everything in the namespace.

use std::{
    ffi::CString,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    process::{
        DumpableBehavior, Signal, WaitOptions, chdir, set_dumpable_behavior,
        set_parent_process_death_signal, setsid, wait,
    },
    system::sethostname,
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::{
    canary, fs_rules, mounts,
    plan::{Plan, Program},
    sys::{self, ExecStrings, Forked},
    syscalls,
    wire::{self, AtStep, Failure, Report},
    zygote::{Descriptors, Shared},
};

/// Exit code of pid 1 after a failed step, and of the tool when it could not be executed.
const NOT_RUN: i32 = 126;

/// Runs a job as pid 1 of fresh namespaces. Never returns. The lock is held until pid 1 is dead.
pub(super) fn run(shared: &Shared, job: Descriptors, lock: OwnedFd) -> ! {
    let status = job.status;
    let io = Stdio { stdin: job.stdin, stdout: job.stdout, stderr: job.stderr };
    if let Err(failure) = build(shared, &status, io, job.plan, job.trees) {
        wire::report(&status, &Report::Failed(failure), &[]);
    }
    drop(lock);
    sys::exit_now(NOT_RUN)
}

struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn build(
    shared: &Shared,
    status: &OwnedFd,
    io: Stdio,
    plan: OwnedFd,
    trees: Vec<OwnedFd>,
) -> Result<(), Failure> {
    // Dies with the helper. Should the helper have died before this line, the daemon's end of
    // `status` closes as soon as the call is given up, which pid 1 watches too.
    set_parent_process_death_signal(Some(Signal::KILL)).at("die with the helper")?;
    let plan = read_plan(plan)?;
    map_ids(shared)?;
    sethostname(b"sandbox").at("host name")?;
    mounts::enter(&shared.view, &plan, trees)?;
    let tmp = openat(CWD, "/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open /tmp")?;
    wire::report(status, &Report::Mounted, &[tmp.as_fd()]);
    drop(tmp);
    drop_capabilities()?;
    let exits = sys::child_exit_descriptor().at("signalfd")?;
    match sys::fork(&shared.alone).at("fork")? {
        Forked::Child => {
            drop(exits);
            become_tool(shared, status, &io, &plan);
            sys::exit_now(NOT_RUN)
        }
        Forked::Parent(tool) => {
            // Only the tool keeps the pipes, so that they end when it does.
            drop(io);
            bury(status, &exits, tool)
        }
    }
}

fn read_plan(file: OwnedFd) -> Result<Plan, Failure> {
    let mut json = Vec::new();
    std::fs::File::from(file).read_to_end(&mut json).at("read the plan")?;
    serde_json::from_slice(&json).map_err(|error| Failure {
        step: format!("understand the plan ({error})"),
        errno: libc::EINVAL,
    })
}

/// Maps the one uid and gid onto themselves. The files belong to root while the process is not
/// dumpable, hence the short exception: nothing untrusted exists yet.
fn map_ids(shared: &Shared) -> Result<(), Failure> {
    let (uid, gid) = (shared.uid, shared.gid);
    set_dumpable_behavior(DumpableBehavior::Dumpable).at("dumpable")?;
    // When memory runs out, tools go first and the daemon last.
    std::fs::write("/proc/self/oom_score_adj", "1000").at("be killed first")?;
    std::fs::write("/proc/self/setgroups", "deny").at("deny setgroups")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).at("map uid")?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).at("map gid")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("not dumpable")
}

/// Gives up every capability in the sandbox's own user namespace, for good.
fn drop_capabilities() -> Result<(), Failure> {
    let step = "drop capabilities";
    for number in 0..u64::BITS {
        // The kernel knows fewer than 64; the first unknown one ends the list.
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(Failure::new(step, error)),
        }
    }
    clear_ambient_capability_set().at(step)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).at(step)?;
    set_no_new_privs(true).at("no new privileges")
}

/// The tool's process: the rest of the sequence, then the program.
fn become_tool(shared: &Shared, status: &OwnedFd, io: &Stdio, plan: &Plan) {
    if let Err(failure) = confine(shared, io, plan) {
        return wire::report(status, &Report::Failed(failure), &[]);
    }
    match &plan.program {
        Program::Exec { argv, env } => {
            let failure = execute(argv, env);
            wire::report(status, &Report::NotExecuted(failure), &[]);
        }
        Program::Canary(attempts) => {
            let done = canary::try_everything(attempts);
            sys::exit_now(i32::from(done.is_err()));
        }
    }
}

fn confine(shared: &Shared, io: &Stdio, plan: &Plan) -> Result<(), Failure> {
    // A session of its own: no controlling terminal to inject into.
    setsid().at("setsid")?;
    rustix::stdio::dup2_stdin(&io.stdin).at("standard input")?;
    rustix::stdio::dup2_stdout(&io.stdout).at("standard output")?;
    rustix::stdio::dup2_stderr(&io.stderr).at("standard error")?;
    chdir(&plan.cwd).at(format!("enter {}", plan.cwd.display()))?;
    plan.limits.apply()?;
    // Before Landlock only because no rule of it concerns signals that a process sets for itself.
    sys::reset_signals();
    fs_rules::restrict(plan)?;
    sys::close_on_exec_from(3).at("close_range")?;
    syscalls::apply(&shared.filter)
}

/// Executes the program, looked for along PATH unless it is a path; returns only on failure.
fn execute(argv: &[String], env: &[(String, String)]) -> Failure {
    let name = argv.first().map_or("", String::as_str);
    let strings = |list: Vec<String>| -> Option<ExecStrings> {
        list.into_iter().map(|s| CString::new(s).ok()).collect::<Option<_>>().map(ExecStrings::new)
    };
    let variables = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (Some(arguments), Some(variables)) = (strings(argv.to_vec()), strings(variables)) else {
        return Failure { step: name.to_owned(), errno: libc::EINVAL };
    };
    let search = env.iter().find(|(n, _)| n == "PATH").map_or("", |(_, v)| v.as_str());
    let directories = if name.contains('/') { "" } else { search };
    let mut errno = libc::ENOENT;
    for directory in directories.split(':') {
        let Ok(path) =
            CString::new(Path::new(directory).join(name).into_os_string().into_encoded_bytes())
        else {
            continue;
        };
        let error = sys::execve(&path, &arguments, &variables).raw_os_error();
        // As execvp(3): a directory without the program is passed over, any other reason counts.
        errno = match error {
            Some(libc::ENOENT | libc::ENOTDIR) | None => errno,
            Some(libc::EACCES) => libc::EACCES,
            Some(other) => return Failure { step: name.to_owned(), errno: other },
        };
    }
    Failure { step: name.to_owned(), errno }
}

/// Waits as pid 1: reaps whatever is orphaned, tells how the tool's main process ended, and ends.
fn bury(status: &OwnedFd, exits: &OwnedFd, tool: i32) -> ! {
    let mut buffer = [0_u8; 128];
    loop {
        let mut polled = [
            PollFd::new(exits, PollFlags::IN),
            // No event asked for: only the closing of the other end is told.
            PollFd::new(status, PollFlags::empty()),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit_now(NOT_RUN),
        }
        let [_, daemon] = &polled;
        if !daemon.revents().is_empty() {
            sys::exit_now(NOT_RUN);
        }
        // Several exits may be folded into one notification, so the loop below is what counts.
        rustix::io::read(exits, &mut buffer).ok();
        while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() != tool {
                continue;
            }
            let report = match (ended.exit_status(), ended.terminating_signal()) {
                (Some(code), _) => Report::Exited(code),
                (None, Some(signal)) => Report::Signaled(signal),
                (None, None) => continue,
            };
            wire::report(status.as_fd(), &report, &[]);
            sys::exit_now(0);
        }
    }
}
