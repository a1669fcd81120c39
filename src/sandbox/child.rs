//! One call from inside: its own pid 1, which starts the tool and buries what it leaves.
//!
//! Invariants: every step either succeeds or ends the call with a report of the step; nothing of
//! the tool runs before the last step. Both processes are confined as far as possible before they
//! learn what to run. Pid 1 tells the end only when every process of the call is dead and reaped.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Pid, PidfdFlags, WaitOptions, chdir, pidfd_open, setsid, wait},
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::{
    canary,
    kept::{self, Common},
    mounts,
    plan::{CallPlan, Program},
    sys::{self, ExecStrings, Forked},
    syscalls,
    wire::{self, AtStep, Failure, GO, Report},
};

/// Exit code of pid 1 after a failed step, and of the tool when it could not be executed.
const NOT_RUN: i32 = 126;
/// What the tool's process sends to pid 1 with the socket that reports go to.
const HANDOFF: &[u8] = b"status";

/// Runs as pid 1 of a call. Never returns.
pub(super) fn run(common: Common<'_>, taken: OwnedFd) -> ! {
    match prepare(&common) {
        Ok(prepared) => start(common, taken, prepared),
        Err(failure) => refuse(&common, taken, failure),
    }
}

/// What pid 1 has before the tool's process exists.
struct Prepared {
    own: OwnedFd,
    exits: OwnedFd,
    handoff: (OwnedFd, OwnedFd),
}

fn prepare(common: &Common<'_>) -> Result<Prepared, Failure> {
    if common.has_proc {
        mounts::own_proc()?;
    }
    drop_capabilities()?;
    Ok(Prepared {
        own: pidfd_open(Pid::INIT, PidfdFlags::empty()).at("hold pid 1")?,
        exits: sys::child_exit_descriptor().at("signalfd")?,
        handoff: wire::pair().at("socketpair")?,
    })
}

/// Gives up every capability in the sandbox's user namespace, for good.
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

/// Tells a failure to whoever makes the next call, and ends.
fn refuse(common: &Common<'_>, taken: OwnedFd, failure: Failure) -> ! {
    wire::refuse_next(&common.requests, failure);
    kept::tell_taken(taken).ok();
    sys::exit_now(NOT_RUN)
}

fn start(common: Common<'_>, taken: OwnedFd, prepared: Prepared) -> ! {
    let Prepared { own, exits, handoff: (ours, theirs) } = prepared;
    match sys::fork(&common.shared.alone).at("fork") {
        Ok(Forked::Child) => {
            drop((exits, ours));
            match confine(&common) {
                Ok(()) => serve(&common, taken, &own, theirs),
                Err(failure) => refuse(&common, taken, failure),
            }
        }
        Ok(Forked::Parent(tool)) => {
            // What remains is what it listens to, and the lock.
            drop((common, taken, own, theirs));
            bury(&exits, ours, tool)
        }
        Err(failure) => refuse(&common, taken, failure),
    }
}

/// The tool's process, ahead of the request: everything that does not depend on it.
fn confine(common: &Common<'_>) -> Result<(), Failure> {
    // A session of its own: no controlling terminal to inject into.
    setsid().at("setsid")?;
    sys::reset_signals();
    sys::landlock_restrict(&common.rules).at("landlock")?;
    syscalls::apply(common.filter)
}

/// Takes the request and becomes what it names.
fn serve(common: &Common<'_>, taken: OwnedFd, own: &OwnedFd, pid_1: OwnedFd) -> ! {
    let message = wire::receive(&common.requests, RecvFlags::empty()).unwrap_or_default();
    if message.bytes.is_empty() {
        sys::exit_now(NOT_RUN);
    }
    kept::tell_taken(taken).ok();
    let Ok((call, descriptors)) = wire::unpack::<CallPlan>(message) else { sys::exit_now(NOT_RUN) };
    let mut descriptors = descriptors.into_iter();
    let (Some(status), Some(stdin), Some(stdout), Some(stderr)) =
        (descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next())
    else {
        sys::exit_now(NOT_RUN)
    };
    // Pid 1 first: it ends the call should the daemon have given it up already.
    if wire::send(&pid_1, HANDOFF, &[status.as_fd()], SendFlags::empty()).is_err() {
        sys::exit_now(NOT_RUN);
    }
    drop(pid_1);
    wire::report(&status, &Report::Started, &[own.as_fd()]);
    if call.waits {
        // Nothing of the tool runs before the daemon has bounded it.
        let message = wire::receive(&status, RecvFlags::empty()).unwrap_or_default();
        if message.bytes != GO {
            sys::exit_now(NOT_RUN);
        }
    }
    become_tool(&status, [stdin, stdout, stderr], &call);
    sys::exit_now(NOT_RUN)
}

/// The rest of the sequence, then the program. Returns only when it could not be executed.
fn become_tool(status: &OwnedFd, io: [OwnedFd; 3], call: &CallPlan) {
    if let Err(failure) = enter(io, call) {
        return wire::report(status, &Report::Failed(failure), &[]);
    }
    match &call.program {
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

fn enter([stdin, stdout, stderr]: [OwnedFd; 3], call: &CallPlan) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(&stdin).at("standard input")?;
    rustix::stdio::dup2_stdout(&stdout).at("standard output")?;
    rustix::stdio::dup2_stderr(&stderr).at("standard error")?;
    chdir(&call.cwd).at(format!("enter {}", call.cwd.display()))?;
    call.limits.apply()?;
    sys::close_on_exec_from(3).at("close_range")
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

/// Waits as pid 1: reaps whatever is orphaned; when the tool's main process ends, kills and reaps
/// the rest, tells how it ended, and ends.
fn bury(exits: &OwnedFd, handoff: OwnedFd, tool: i32) -> ! {
    let mut buffer = [0_u8; 128];
    let mut source = Source::Handoff(handoff);
    loop {
        let mut polled = [
            PollFd::new(exits, PollFlags::IN),
            match &source {
                Source::Handoff(socket) => PollFd::new(socket, PollFlags::IN),
                // No event asked for: only the closing of the daemon's end is told.
                Source::Status(status) => PollFd::new(status, PollFlags::empty()),
            },
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit_now(NOT_RUN),
        }
        let [_, other] = &polled;
        if !other.revents().is_empty() {
            // The handoff is sent before anything runs, so that it is seen before the tool's end.
            source = source.advance();
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
            end_all();
            if let Source::Status(status) = &source {
                wire::report(status, &report, &[]);
            }
            sys::exit_now(0);
        }
    }
}

/// Kills every process of the call but pid 1, and returns when none is left.
fn end_all() {
    loop {
        // Again and again: a child that was just being born may have escaped the first.
        sys::kill_all_others().ok();
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// What pid 1 listens to beside exits.
enum Source {
    /// The tool's process, which has no request yet.
    Handoff(OwnedFd),
    /// The daemon.
    Status(OwnedFd),
}

impl Source {
    /// Takes the socket that was handed over. Ends the call when nobody asks for it any more.
    fn advance(self) -> Self {
        if let Self::Handoff(socket) = self
            && let Ok(message) = wire::receive(&socket, RecvFlags::DONTWAIT)
            && let Some(status) = message.descriptors.into_iter().next()
        {
            return Self::Status(status);
        }
        sys::exit_now(NOT_RUN)
    }
}
