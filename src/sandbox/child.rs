//! One call from inside: its own pid 1, which starts the tool and buries what it leaves.
//!
//! Invariants: every step either succeeds or ends the call with a report of the step; nothing of
//! the tool runs before the last step. Pid 1 is confined before it learns what to run, and the
//! tool's process, which exists from then on, inherits that. Pid 1 tells the end only when every
//! process of the call is dead and reaped.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, FdFlags, fcntl_setfd},
    net::RecvFlags,
    process::{
        PidfdFlags, Signal, WaitOptions, fchdir, getpid, getppid, pidfd_open, set_child_subreaper,
        set_parent_process_death_signal, setsid, wait,
    },
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
        set_no_new_privs,
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
    wire::{self, AtStep, Change, Failure, GO, Message, Report},
};
use crate::domain::BoundFile;

/// Exit code of pid 1 after a failed step, and of the tool when it could not be executed.
const NOT_RUN: i32 = 126;

/// Runs as pid 1 of a call. Never returns.
pub(super) fn run(common: Common<'_>, taken: OwnedFd) -> ! {
    match prepare(&common) {
        Ok((own, warden)) => serve(common, taken, own, &warden),
        Err(failure) => refuse(&common, taken, failure),
    }
}

/// What does not depend on the request. A request holds what a model wrote, so that whoever reads
/// it is confined as the tool will be; the tool is once more, which keeps it from signalling this
/// process.
fn prepare(common: &Common<'_>) -> Result<(OwnedFd, Warden), Failure> {
    let signals = sys::signal_descriptor().at("signalfd")?;
    let reach = match &common.fence {
        None => {
            if common.plan.has_proc {
                mounts::own_proc()?;
            }
            Reach::Namespace
        }
        Some(fence) => Reach::Fence(fence_in(fence)?),
    };
    drop_capabilities()?;
    let own = pidfd_open(getpid(), PidfdFlags::empty()).at("hold itself")?;
    sys::landlock_restrict(&common.rules).at("landlock")?;
    syscalls::apply(&common.filter)?;
    Ok((own, Warden { signals, reach }))
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

/// Takes the request, starts what it names and stays until it has ended.
fn serve(common: Common<'_>, taken: OwnedFd, own: OwnedFd, warden: &Warden) -> ! {
    let message = warden.receive(&common.requests);
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
    let (io, sealed) = ([stdin, stdout, stderr], descriptors.next());
    wire::report(&status, &Report::Started, &[own.as_fd()]);
    drop(own);
    // Nothing of the tool runs before the daemon has bounded it.
    if call.waits && warden.receive(&status).bytes != GO {
        sys::exit_now(NOT_RUN);
    }
    let alone = &common.shared.alone;
    let started = if let Program::Exec { argv, env } = &call.program {
        let program = Executable::new(argv, env, call.exact.as_ref(), sealed.as_ref());
        sys::fork_until_exec(&common.stack, alone, &|| {
            let failed = become_tool(&common, &io, &call, &program);
            wire::report(&status, &failed, &[]);
            NOT_RUN
        })
    } else {
        match sys::fork(alone) {
            Ok(Forked::Child) => become_canary(common, &io, &call, &status),
            Ok(Forked::Parent(tool)) => Ok(tool),
            Err(error) => Err(error),
        }
    };
    let tool = started.at("fork").unwrap_or_else(|failure| {
        wire::report(&status, &Report::Failed(failure), &[]);
        sys::exit_now(NOT_RUN)
    });
    // What remains is what it listens to, and the lock. Memory of the sandbox's is shared with it as
    // long as it is not written to, which giving it back would do.
    let Common { requests, rules, fence, .. } = common;
    drop((requests, rules, fence, io, sealed, call));
    bury(warden, &status, tool)
}

/// The tool's process, up to its program. Returns only when that could not be executed. It uses the
/// memory of pid 1, which stands still meanwhile: nothing of what it was lent is given back here.
fn become_tool(
    common: &Common<'_>,
    io: &[OwnedFd; 3],
    call: &CallPlan,
    program: &Executable<'_>,
) -> Report {
    match begin(common, io, call) {
        Ok(()) => program.execute(),
        Err(report) => report,
    }
}

/// As [`become_tool`], for the attempts that are made in the tool's place, in a process of their own.
fn become_canary(common: Common<'_>, io: &[OwnedFd; 3], call: &CallPlan, status: &OwnedFd) -> ! {
    if let Err(report) = begin(&common, io, call) {
        wire::report(status, &report, &[]);
        sys::exit_now(NOT_RUN);
    }
    // They go on in this process, and must not find what a program would not.
    let Common { shared, requests, rules, fence, .. } = common;
    drop((requests, rules, fence));
    let done = match &call.program {
        Program::Exec { .. } => sys::exit_now(NOT_RUN),
        Program::Canary(attempts) => canary::try_everything(attempts, &shared.alone),
        Program::NetCanary(attempts) => net_canary::try_ways_out(attempts),
        Program::Sibling(attempts) => canary::stand_by(attempts),
    };
    sys::exit_now(i32::from(done.is_err()))
}

/// What makes the tool's process another one than its pid 1.
fn confine(rules: &OwnedFd) -> Result<(), Failure> {
    // A session of its own: no controlling terminal to inject into.
    setsid().at("setsid")?;
    sys::unblock_signals();
    sys::landlock_restrict(rules).at("landlock")
}

/// Everything before the program.
fn begin(common: &Common<'_>, io: &[OwnedFd; 3], call: &CallPlan) -> Result<(), Report> {
    confine(&common.rules).map_err(Report::Failed)?;
    work_in(&common.plan, call)?;
    enter(io, call).map_err(Report::Failed)
}

/// Enters the working directory: the very one that was approved, if anybody was asked.
fn work_in(plan: &Plan, call: &CallPlan) -> Result<(), Report> {
    let directory = match (mounts::open_directory(plan, &call.cwd), &call.exact) {
        (Ok(directory), Some(exact)) if exact.is_cwd(&directory) => directory,
        (_, Some(_)) => return Err(Report::Changed(Change::Directory)),
        (opened, None) => opened.map_err(Report::Failed)?,
    };
    // What was compared is entered: no name is looked up again.
    fchdir(&directory).at("enter the working directory").map_err(Report::Failed)
}

fn enter([stdin, stdout, stderr]: &[OwnedFd; 3], call: &CallPlan) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(stdin).at("standard input")?;
    rustix::stdio::dup2_stdout(stdout).at("standard output")?;
    rustix::stdio::dup2_stderr(stderr).at("standard error")?;
    call.limits.apply()?;
    sys::close_on_exec_from(3).at("close_range")
}

/// A program with all that execve(2) wants, made before there is a process for it.
struct Executable<'c> {
    name: &'c str,
    /// Where it may lie, or nothing if some string cannot be passed on.
    paths: Vec<CString>,
    arguments: ExecStrings,
    variables: ExecStrings,
    /// What alone may be executed, if anybody was asked.
    exactly: Option<Exactly<'c>>,
}

/// A program that was approved.
enum Exactly<'c> {
    /// A copy of its bytes.
    Copy(&'c OwnedFd, Kind),
    /// A file that only root can change.
    File(CString, &'c Path, &'c BoundFile),
    /// Nothing was said about the program, or its copy was lost on the way.
    Nothing,
}

impl<'c> Exactly<'c> {
    fn of(exact: &'c Exact, sealed: Option<&'c OwnedFd>) -> Self {
        match (exact.sealed, sealed, &exact.executable) {
            (Some(kind), Some(copy), _) => Self::Copy(copy, kind),
            (None, _, Some((path, file))) => {
                let name = CString::new(path.as_os_str().as_encoded_bytes());
                name.map_or(Self::Nothing, |name| Self::File(name, path, file))
            }
            _ => Self::Nothing,
        }
    }
}

impl<'c> Executable<'c> {
    /// It is looked for along PATH unless its name is a path; what was approved is not looked for.
    fn new(
        argv: &'c [String],
        env: &[(String, String)],
        exact: Option<&'c Exact>,
        sealed: Option<&'c OwnedFd>,
    ) -> Self {
        let name = argv.first().map_or("", String::as_str);
        let search = env.iter().find(|(n, _)| n == "PATH").map_or("", |(_, v)| v.as_str());
        let directories = if name.contains('/') { "" } else { search };
        let path = |directory| {
            CString::new(Path::new(directory).join(name).into_os_string().into_encoded_bytes())
        };
        let paths = directories.split(':').filter_map(|directory| path(directory).ok()).collect();
        let arguments = argv.iter().map(|a| CString::new(a.as_str())).collect::<Result<_, _>>();
        let variables =
            env.iter().map(|(n, v)| CString::new(format!("{n}={v}"))).collect::<Result<_, _>>();
        let (paths, arguments, variables) = match (arguments, variables) {
            (Ok(arguments), Ok(variables)) => (paths, arguments, variables),
            _ => (Vec::new(), Vec::new(), Vec::new()),
        };
        let (arguments, variables) = (ExecStrings::new(arguments), ExecStrings::new(variables));
        let exactly = exact.map(|exact| Exactly::of(exact, sealed));
        Self { name, paths, arguments, variables, exactly }
    }

    /// Replaces this process; returns only on failure.
    fn execute(&self) -> Report {
        let failure = |errno| Report::NotExecuted(Failure { step: self.name.to_owned(), errno });
        let error = match &self.exactly {
            _ if self.paths.is_empty() => return failure(libc::EINVAL),
            None => return Report::NotExecuted(self.search()),
            Some(Exactly::Nothing) => return Report::Changed(Change::Program),
            Some(Exactly::Copy(copy, kind)) => {
                // The interpreter of a script opens the copy again, by its descriptor's number.
                if *kind == Kind::Script && fcntl_setfd(copy, FdFlags::empty()).is_err() {
                    return failure(libc::EBADF);
                }
                sys::execve_descriptor(copy, &self.arguments, &self.variables)
            }
            Some(Exactly::File(_, path, file)) if !bound::is_same(path, file) => {
                return Report::Changed(Change::Program);
            }
            Some(Exactly::File(name, ..)) => sys::execve(name, &self.arguments, &self.variables),
        };
        failure(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Executes the first that is found along PATH.
    fn search(&self) -> Failure {
        let failure = |errno| Failure { step: self.name.to_owned(), errno };
        let mut errno = libc::ENOENT;
        for path in &self.paths {
            let error = sys::execve(path, &self.arguments, &self.variables).raw_os_error();
            // As execvp(3): a directory without the program is passed over, any other reason counts.
            errno = match error {
                Some(libc::ENOENT | libc::ENOTDIR) | None => errno,
                Some(libc::EACCES) => libc::EACCES,
                Some(other) => return failure(other),
            };
        }
        failure(errno)
    }
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
    /// Waits for a message: none if there will be none, or when it is time to end.
    fn receive(&self, socket: &OwnedFd) -> Message {
        loop {
            let mut polled =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            if !matches!(poll(&mut polled, None), Ok(_) | Err(Errno::INTR)) {
                return Message::default();
            }
            let [signals, _] = &polled;
            if !signals.revents().is_empty() && self.is_told_to_end() {
                return Message::default();
            }
            match wire::receive(socket, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                received => return received.unwrap_or_default(),
            }
        }
    }

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
fn bury(warden: &Warden, status: &OwnedFd, tool: i32) -> ! {
    loop {
        let mut polled = [
            PollFd::new(&warden.signals, PollFlags::IN),
            // No event asked for: only the closing of the daemon's end is told.
            PollFd::new(status, PollFlags::empty()),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => warden.end(NOT_RUN),
        }
        let [_, closing] = &polled;
        if !closing.revents().is_empty() || warden.is_told_to_end() {
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
            wire::report(status, &report, &[]);
            sys::exit_now(0);
        }
    }
}
