//! The helper: a small fork server that was started before it could know anything.
//!
//! Invariants: one thread; an empty environment; nothing in its arguments but the marker; no
//! descriptor but its socket and the lock. It reads no content of a request: it clones, and the
//! clone waits for the next request by itself. It calls the kernel for what builds a sandbox and for
//! what tools may do, and for nothing else. It ends when the daemon's end of the socket closes
//! or the dead man's switch fires, and its sandboxes end with it.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use super::{
    canary,
    kept::{self, Born},
    mounts::View,
    sys::{self, Forked, Namespaces, SingleThread},
    syscalls,
    wire::{self, AtStep, Failure, Message, Report, Wait},
};
use rustix::{
    event::Timespec,
    fs::{CWD, Mode, OFlags, openat},
    net::{RecvFlags, SocketType, sockopt::socket_type},
    process::{DumpableBehavior, Gid, Uid, geteuid, getgid, getuid, set_dumpable_behavior, setsid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// The only argument of the helper.
pub(super) const MARKER: &str = "--sandbox-helper";
/// First message: carries the lock and the timer of the [dead man's switch](super::deadman).
pub(super) const HELLO: &[u8] = b"hello";
/// The uid and gid of tool processes when the daemon runs as root. Between the ranges that Debian
/// and systemd give to accounts, so that it owns nothing else.
pub const TOOL_UID: u32 = 65_529;

/// How long a new sandbox has the machine for itself before the next one is prepared.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Exit codes of `sysexits.h`: called by hand, and a step that failed.
const EXIT_USAGE: u8 = 64;
const EXIT_FAILED: u8 = 70;

/// What every sandbox shares, made once.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) alone: SingleThread,
    /// The ids of the helper, which every tool gets.
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The only argument of a process that makes the canary's attempts without any confinement.
pub(super) const CONTROL_MARKER: &str = "--sandbox-control";

/// Whether this process was started as the helper. Cheap, and free of side effects.
pub fn helper_requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|arg| arg == MARKER || arg == CONTROL_MARKER)
}

/// Runs the helper until the daemon is gone. Must be called before any thread is started.
pub fn helper_main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == CONTROL_MARKER) {
        return control_main();
    }
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

/// The negative control: attempts come in on standard input, findings go out.
fn control_main() -> ExitCode {
    let attempts = serde_json::from_reader(std::io::stdin());
    let (Some(alone), Ok(attempts)) = (sys::single_thread(), attempts) else {
        return ExitCode::from(EXIT_USAGE);
    };
    match canary::try_everything(&attempts, &alone) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

fn serve(daemon: OwnedFd) -> Result<(), Failure> {
    let alone = sys::single_thread().ok_or_else(|| Failure {
        step: "the helper has more than one thread".to_owned(),
        errno: libc::EBUSY,
    })?;
    let Message { bytes, mut descriptors } =
        wire::receive(&daemon, RecvFlags::empty()).at("hello")?;
    let (Some(dead_man), Some(lock)) = (descriptors.pop(), descriptors.pop()) else {
        return Ok(());
    };
    if bytes != HELLO {
        return Ok(());
    }
    // Ctrl-C in the daemon's terminal is for the daemon alone: it lets its calls finish.
    setsid().at("own session")?;
    become_unprivileged()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("not dumpable")?;
    // What a tool will find: no action but the default one is set after this, except for exits.
    sys::reset_signals();
    sys::ignore_child_exits().at("ignore exits")?;
    // Inherited by everything that comes of it; a call adds what a tool may not do beyond.
    syscalls::apply(&syscalls::base())?;
    let shared =
        Shared { view: View::new(), alone, uid: getuid().as_raw(), gid: getgid().as_raw() };
    fork_sandboxes(&shared, daemon, lock, dead_man);
    Ok(())
}

/// Keeps one sandbox prepared; it takes the next request from the socket by itself. Returns when the
/// daemon is gone, or stands still for too long.
fn fork_sandboxes(shared: &Shared, daemon: OwnedFd, lock: OwnedFd, dead_man: OwnedFd) {
    loop {
        let wait = match kept::bear(Some(Namespaces::Session), &shared.alone) {
            Ok(Born::Child(teller)) => {
                drop(dead_man);
                kept::run(shared, daemon, teller, lock)
            }
            Ok(Born::Parent(taken)) => kept::wait_taken(&daemon, taken, Some(&dead_man)),
            Err(_) if kept::wait_asked(&daemon, &dead_man) == Wait::Closed => Wait::Closed,
            // Without namespaces nothing is prepared: the request itself says whether to go on.
            Err(why) => match wire::receive(&daemon, RecvFlags::empty()) {
                Ok(message) if !message.bytes.is_empty() => match sys::fork(&shared.alone) {
                    Ok(Forked::Child) => {
                        drop((daemon, dead_man));
                        kept::run_without(shared, message, why, lock)
                    }
                    // On an error the request is dropped, which its sender sees.
                    Ok(Forked::Parent(_)) | Err(_) => Wait::Another,
                },
                _ => Wait::Closed,
            },
        };
        if wait == Wait::Closed {
            return;
        }
        kept::wait_request(&daemon, &QUIET);
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
