//! The helper: a small fork server that was started before it could know anything.
//!
//! Invariants: one thread; an empty environment; nothing in its arguments but the marker; no
//! descriptor but its socket and the lock. It reads no content of a job: it clones, and the child
//! applies the plan. It ends when the daemon's end of the socket closes, and its sandboxes end
//! with it.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    net::{RecvFlags, SocketType, sockopt::socket_type},
    process::{DumpableBehavior, Gid, Uid, geteuid, getgid, getuid, set_dumpable_behavior, setsid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use seccompiler::BpfProgram;

use super::{
    child,
    mounts::View,
    sys::{self, Forked, SingleThread},
    syscalls,
    wire::{self, AtStep, Failure, Message, Report},
};

/// The only argument of the helper.
pub(super) const MARKER: &str = "--sandbox-helper";
/// First message: carries the lock.
pub(super) const HELLO: &[u8] = b"hello";
/// Every further message: carries a job.
pub(super) const JOB: &[u8] = b"job";
/// The uid and gid of tool processes when the daemon runs as root. Between the ranges that Debian
/// and systemd give to accounts, so that it owns nothing else.
pub const TOOL_UID: u32 = 65_529;

/// Exit codes of `sysexits.h`: called by hand, and a step that failed.
const EXIT_USAGE: u8 = 64;
const EXIT_FAILED: u8 = 70;

/// What every sandbox shares, made once.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) filter: BpfProgram,
    /// As `filter`, where files may be executed from writable places.
    pub(super) filter_of_builds: BpfProgram,
    pub(super) view: View,
    pub(super) alone: SingleThread,
    /// The ids of the helper, which every tool gets.
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Whether this process was started as the helper. Cheap, and free of side effects.
pub fn helper_requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|arg| arg == MARKER)
}

/// Runs the helper until the daemon is gone. Must be called before any thread is started.
pub fn helper_main() -> ExitCode {
    let Ok(daemon) = take_socket() else { return ExitCode::from(EXIT_USAGE) };
    let Ok(report_to) = daemon.try_clone() else { return ExitCode::from(EXIT_FAILED) };
    match serve(daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            wire::report(&report_to, &Report::Failed(failure), &[]);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn serve(daemon: OwnedFd) -> Result<(), Failure> {
    let alone = sys::single_thread().ok_or_else(|| Failure {
        step: "the helper has more than one thread".to_owned(),
        errno: libc::EBUSY,
    })?;
    let Message { bytes, mut descriptors } =
        wire::receive(&daemon, RecvFlags::empty()).at("hello")?;
    let Some(lock) = descriptors.pop().filter(|_| bytes == HELLO) else { return Ok(()) };
    // Ctrl-C in the daemon's terminal is for the daemon alone: it lets its calls finish.
    setsid().at("own session")?;
    become_unprivileged()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("not dumpable")?;
    sys::ignore_child_exits().at("ignore exits")?;
    let shared = Shared {
        filter: syscalls::compile(false),
        filter_of_builds: syscalls::compile(true),
        view: View::new(),
        alone,
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
    };
    loop {
        let message = wire::receive(&daemon, RecvFlags::empty()).at("receive")?;
        if message.bytes.is_empty() {
            return Ok(());
        }
        if message.bytes != JOB {
            continue;
        }
        let Some(job) = Descriptors::from(message.descriptors) else { continue };
        match sys::clone_into_namespaces(&shared.alone) {
            Ok(Forked::Child) => {
                drop(daemon);
                child::run(&shared, job, lock)
            }
            Ok(Forked::Parent(pidfd)) => {
                wire::report(&job.status, &Report::Started, &[pidfd.as_fd()]);
            }
            Err(error) => {
                let failure = Failure::from_io("new namespaces", &error);
                wire::report(&job.status, &Report::Failed(failure), &[]);
            }
        }
    }
}

/// The descriptors of a job, in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// Where reports go.
    pub(super) status: OwnedFd,
    /// The plan, as JSON in a memory file.
    pub(super) plan: OwnedFd,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Clones of the plan's trees, if the daemon could make them.
    pub(super) trees: Vec<OwnedFd>,
}

impl Descriptors {
    fn from(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut next = descriptors.into_iter();
        Some(Self {
            status: next.next()?,
            plan: next.next()?,
            stdin: next.next()?,
            stdout: next.next()?,
            stderr: next.next()?,
            trees: next.collect(),
        })
    }
}

/// Takes the socket from standard input, which is replaced by nothing. Refuses to go on when it
/// is no such socket: somebody has called the helper by hand.
fn take_socket() -> Result<OwnedFd, Failure> {
    let stdin = std::io::stdin();
    let kind = socket_type(&stdin).at("standard input is not the daemon's socket")?;
    if kind != SocketType::SEQPACKET {
        return Err(Failure { step: "not the daemon's socket".to_owned(), errno: libc::EINVAL });
    }
    let socket = stdin.as_fd().try_clone_to_owned().at("keep the socket")?;
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .at("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).at("replace standard input")?;
    rustix::stdio::dup2_stdout(&null).at("replace standard output")?;
    rustix::stdio::dup2_stderr(&null).at("replace standard error")?;
    drop(null);
    // Whatever the daemon leaked by mistake ends here.
    sys::close_all_but(&socket).at("close_range")?;
    Ok(socket)
}

/// Root's helper becomes the tools' uid, with no group and so with no capability.
fn become_unprivileged() -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(TOOL_UID), Gid::from_raw(TOOL_UID));
    set_thread_groups(&[]).at("drop groups")?;
    set_thread_res_gid(gid, gid, gid).at("change group")?;
    set_thread_res_uid(uid, uid, uid).at("change user")
}
