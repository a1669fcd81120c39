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
    io::{Errno, FdFlags, fcntl_setfd},
    net::{RecvFlags, SendFlags},
    process::{
        PidfdFlags, Signal, WaitOptions, fchdir, getpid, getppid, pidfd_open, set_child_subreaper,
        set_parent_process_death_signal, setsid, wait,
    },
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::{
    bound::{self, Exact, Kind},
    canary,
    kept::{self, Common},
    mounts, net_canary,
    plan::{CallPlan, Plan, Program},
    sys::{self, ExecStrings, Fenced, Forked},
    syscalls,
    wire::{self, AtStep, Change, Failure, GO, Report},
    zygote::Shared,
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
    warden: Warden,
    handoff: (OwnedFd, OwnedFd),
}

fn prepare(common: &Common<'_>) -> Result<Prepared, Failure> {
    let signals = sys::signal_descriptor().at("signalfd")?;
    let reach = match &common.fence {
        None => {
            if common.plan.has_proc {
                mounts::own_proc()?;
            }
            drop_bounding_set()?;
            Reach::Namespace
        }
        Some(fence) => Reach::Fence(fence_in(fence)?),
    };
    drop_capabilities()?;
    Ok(Prepared {
        own: pidfd_open(getpid(), PidfdFlags::empty()).at("hold itself")?,
        warden: Warden { signals, reach },
        handoff: wire::pair().at("socketpair")?,
    })
}

/// Takes the place of a pid namespace's pid 1: what is orphaned becomes its child, nothing that it
/// starts can signal it or anybody else, and it is asked to end when its parent dies.
fn fence_in(fence: &OwnedFd) -> Result<Fenced, Failure> {
    let beyond = getppid().ok_or_else(|| Failure::new("find the parent", Errno::SRCH))?;
    set_parent_process_death_signal(Some(Signal::TERM)).at("end with the sandbox")?;
    set_child_subreaper(Some(getpid())).at("adopt orphans")?;
    set_no_new_privs(true).at("no new privileges")?;
    sys::fence(fence, beyond).at("fence in")
}

/// Gives up what a program with file capabilities could gain.
fn drop_bounding_set() -> Result<(), Failure> {
    for number in 0..u64::BITS {
        // The kernel knows fewer than 64; the first unknown one ends the list.
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(Failure::new("drop the bounding set", error)),
        }
    }
    Ok(())
}

/// Gives up every capability in the sandbox's user namespace, for good.
fn drop_capabilities() -> Result<(), Failure> {
    let step = "drop capabilities";
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
    let Prepared { own, warden, handoff: (ours, theirs) } = prepared;
    match sys::fork(&common.shared.alone).at("fork") {
        Ok(Forked::Child) => {
            drop((warden, ours));
            match confine(&common) {
                Ok(()) => serve(common, taken, &own, theirs),
                Err(failure) => refuse(&common, taken, failure),
            }
        }
        Ok(Forked::Parent(tool)) => {
            // What remains is what it listens to, and the lock.
            drop((common, taken, own, theirs));
            bury(&warden, ours, tool)
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
    syscalls::apply(&common.filter)
}

/// Takes the request and becomes what it names.
fn serve(common: Common<'_>, taken: OwnedFd, own: &OwnedFd, pid_1: OwnedFd) -> ! {
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
    // A canary goes on in this process, and must not find what a program would not.
    let Common { shared, plan, .. } = common;
    let io = Io { streams: [stdin, stdout, stderr], sealed: descriptors.next() };
    become_tool(shared, &status, io, &plan, &call);
    sys::exit_now(NOT_RUN)
}

/// The rest of the sequence, then the program. Returns only when it could not be executed.
fn become_tool(shared: &Shared, status: &OwnedFd, io: Io, plan: &Plan, call: &CallPlan) {
    let Io { streams, sealed } = io;
    if let Err(report) = enter(streams, plan, call) {
        return wire::report(status, &report, &[]);
    }
    match &call.program {
        Program::Exec { argv, env } => {
            let report = match &call.exact {
                Some(exact) => execute_exactly(exact, sealed.as_ref(), argv, env),
                None => Report::NotExecuted(execute(argv, env)),
            };
            wire::report(status, &report, &[]);
        }
        Program::Canary(attempts) => {
            let done = canary::try_everything(attempts, &shared.alone);
            sys::exit_now(i32::from(done.is_err()));
        }
        Program::NetCanary(attempts) => {
            let done = net_canary::try_ways_out(attempts);
            sys::exit_now(i32::from(done.is_err()));
        }
        Program::Sibling(attempts) => canary::stand_by(attempts),
    }
}

/// What a call is given beside its request.
struct Io {
    streams: [OwnedFd; 3],
    /// The program itself, where it is executed from a copy.
    sealed: Option<OwnedFd>,
}

fn enter(
    [stdin, stdout, stderr]: [OwnedFd; 3],
    plan: &Plan,
    call: &CallPlan,
) -> Result<(), Report> {
    let directory = match (mounts::open_directory(plan, &call.cwd), &call.exact) {
        (Ok(directory), Some(exact)) if exact.is_cwd(&directory) => directory,
        (_, Some(_)) => return Err(Report::Changed(Change::Directory)),
        (opened, None) => opened.map_err(Report::Failed)?,
    };
    // What was compared is entered: no name is looked up again.
    fchdir(&directory).at("enter the working directory").map_err(Report::Failed)?;
    drop(directory);
    become_bounded([stdin, stdout, stderr], call).map_err(Report::Failed)
}

fn become_bounded([stdin, stdout, stderr]: [OwnedFd; 3], call: &CallPlan) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(&stdin).at("standard input")?;
    rustix::stdio::dup2_stdout(&stdout).at("standard output")?;
    rustix::stdio::dup2_stderr(&stderr).at("standard error")?;
    call.limits.apply()?;
    sys::close_on_exec_from(3).at("close_range")
}

/// Arguments and variables as the kernel takes them.
fn strings(argv: &[String], env: &[(String, String)]) -> Option<(ExecStrings, ExecStrings)> {
    let strings = |list: Vec<String>| -> Option<ExecStrings> {
        list.into_iter().map(|s| CString::new(s).ok()).collect::<Option<_>>().map(ExecStrings::new)
    };
    let variables = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    Some((strings(argv.to_vec())?, strings(variables)?))
}

/// Executes exactly what was approved, by whatever name it was asked for; returns only on failure.
fn execute_exactly(
    exact: &Exact,
    sealed: Option<&OwnedFd>,
    argv: &[String],
    env: &[(String, String)],
) -> Report {
    let step = argv.first().cloned().unwrap_or_default();
    let not_executed = |errno| Report::NotExecuted(Failure { step: step.clone(), errno });
    let Some((arguments, variables)) = strings(argv, env) else {
        return not_executed(libc::EINVAL);
    };
    let error = match (exact.sealed, sealed, &exact.executable) {
        (Some(kind), Some(copy), _) => {
            // The interpreter of a script opens the copy again, by the number of its descriptor.
            if kind == Kind::Script && fcntl_setfd(copy, FdFlags::empty()).is_err() {
                return not_executed(libc::EBADF);
            }
            sys::execve_descriptor(copy, &arguments, &variables)
        }
        (None, _, Some((path, file))) => {
            if !bound::is_same(path, file) {
                return Report::Changed(Change::Program);
            }
            let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else {
                return not_executed(libc::EINVAL);
            };
            sys::execve(&path, &arguments, &variables)
        }
        // Nothing was said about the program, or its copy was lost on the way.
        _ => return Report::Changed(Change::Program),
    };
    not_executed(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Executes the program, looked for along PATH unless it is a path; returns only on failure.
fn execute(argv: &[String], env: &[(String, String)]) -> Failure {
    let name = argv.first().map_or("", String::as_str);
    let Some((arguments, variables)) = strings(argv, env) else {
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

/// How far pid 1 can reach: exactly the processes of its call.
enum Reach {
    Namespace,
    Fence(Fenced),
}

/// Pid 1's hold on its call.
struct Warden {
    signals: OwnedFd,
    reach: Reach,
}

impl Warden {
    /// Takes the signals that have come; whether one of them asks to end.
    fn is_told_to_end(&self) -> bool {
        let mut record = [0_u8; 128];
        let mut is_told = false;
        // Several exits may be folded into one, so that what counts is what can be waited for.
        while let Ok(4..) = rustix::io::read(&self.signals, &mut record) {
            let [a, b, c, d, ..] = record;
            is_told |= i32::from_ne_bytes([a, b, c, d]) == libc::SIGTERM;
        }
        is_told
    }

    /// Kills every process of the call but pid 1, and returns when none is left.
    fn end_all(&self) {
        loop {
            // Again and again: a child that was just being born may have escaped the first.
            match &self.reach {
                Reach::Namespace => sys::kill_all_others().ok(),
                Reach::Fence(fenced) => sys::kill_fenced(fenced).ok(),
            };
            match wait(WaitOptions::empty()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn end(&self, code: i32) -> ! {
        self.end_all();
        sys::exit_now(code)
    }
}

/// Waits as pid 1: reaps whatever is orphaned; when the tool's main process ends, kills and reaps
/// the rest, tells how it ended, and ends.
fn bury(warden: &Warden, handoff: OwnedFd, tool: i32) -> ! {
    let mut source = Source::Handoff(handoff);
    loop {
        let mut polled = [
            PollFd::new(&warden.signals, PollFlags::IN),
            match &source {
                Source::Handoff(socket) => PollFd::new(socket, PollFlags::IN),
                // No event asked for: only the closing of the daemon's end is told.
                Source::Status(status) => PollFd::new(status, PollFlags::empty()),
            },
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => warden.end(NOT_RUN),
        }
        let [_, other] = &polled;
        if !other.revents().is_empty() {
            // The handoff is sent before anything runs, so that it is seen before the tool's end.
            source = source.advance().unwrap_or_else(|| warden.end(NOT_RUN));
        }
        if warden.is_told_to_end() {
            warden.end(NOT_RUN);
        }
        while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() != tool {
                continue;
            }
            let report = match (ended.exit_status(), ended.terminating_signal()) {
                (Some(code), _) => Report::Exited(code),
                (None, Some(signal)) => Report::Signaled(signal),
                (None, None) => continue,
            };
            warden.end_all();
            if let Source::Status(status) = &source {
                wire::report(status, &report, &[]);
            }
            sys::exit_now(0);
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
    /// Takes the socket that was handed over; nothing when nobody asks for the call any more.
    fn advance(self) -> Option<Self> {
        let Self::Handoff(socket) = self else { return None };
        let message = wire::receive(&socket, RecvFlags::DONTWAIT).ok()?;
        message.descriptors.into_iter().next().map(Self::Status)
    }
}
