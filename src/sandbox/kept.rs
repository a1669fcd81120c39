//! A kept sandbox from inside: its pid 1, which builds the view once and then clones the calls.
//!
//! Invariants: it executes nothing, and nothing that a model chose runs in its pid namespace: a
//! call is one level below and cannot name it. It ends when the daemon's end of its socket closes
//! or the helper dies, and the kernel then kills everything in it. It is built as far as possible
//! before it is asked for; a step that failed ahead is told to whoever asks.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    net::RecvFlags,
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, set_dumpable_behavior,
        set_parent_process_death_signal,
    },
    system::sethostname,
};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::{
    child, fs_rules, mounts, net,
    plan::Plan,
    sys::{self, Forked, Namespaces, SingleThread},
    wire::{self, AtStep, Failure, Report, Wait},
    zygote::Shared,
};

/// How long the first call of a sandbox has the machine for itself before the next one is
/// prepared: many runs make only one.
const FIRST_CALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Pause after a prepared process died by itself, as it does when memory is out.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Exit code after a failed step.
const NOT_BUILT: i32 = 126;

/// What a kept sandbox is asked to be. The first descriptor is its socket, the others are clones
/// of the plan's trees, if the daemon could make them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) plan: Plan,
    /// Device and inode of each tree as the daemon sees it, where this is to be compared.
    pub(super) identities: Vec<(u64, u64)>,
}

/// What the calls of one sandbox share.
#[derive(Debug)]
pub(super) struct Common<'s> {
    pub(super) shared: &'s Shared,
    pub(super) rules: OwnedFd,
    pub(super) filter: &'s BpfProgram,
    pub(super) has_proc: bool,
    /// Where requests for calls come from.
    pub(super) requests: OwnedFd,
}

/// Runs as pid 1 of fresh namespaces. Never returns. The lock is held until it is dead.
pub(super) fn run(shared: &Shared, requests: OwnedFd, taken: OwnedFd, lock: OwnedFd) -> ! {
    serve(shared, requests, taken).ok();
    drop(lock);
    sys::exit_now(NOT_BUILT)
}

/// Fails only after the failure was told, or when nobody is there to be told.
fn serve(shared: &Shared, requests: OwnedFd, taken: OwnedFd) -> Result<(), Failure> {
    let prepared = prepare(shared);
    let message = wire::receive(&requests, RecvFlags::empty()).at("receive")?;
    drop(requests);
    if message.bytes.is_empty() {
        return Ok(());
    }
    tell_taken(taken)?;
    let (open, descriptors) = wire::unpack::<Open>(message)?;
    let mut descriptors = descriptors.into_iter();
    let Some(socket) = descriptors.next() else { return Ok(()) };
    let failed = |failure: Failure| {
        wire::report(&socket, &Report::Failed(failure.clone()), &[]);
        failure
    };
    let (own, base) = prepared.map_err(failed)?;
    wire::report(&socket, &Report::Started, &[own.as_fd()]);
    drop(own);
    let trees = descriptors.collect();
    let (rules, doors) = finish(base, &open, trees).map_err(failed)?;
    let tmp = tmp().map_err(failed)?;
    let mut sent = vec![tmp.as_fd()];
    sent.extend(doors.iter().flat_map(net::Doors::descriptors));
    wire::report(&socket, &Report::Ready, &sent);
    drop(sent);
    drop((doors, tmp));
    let Plan { has_proc, has_network, .. } = open.plan;
    let filter = if has_network { &shared.online } else { &shared.offline };
    fork_calls(Common { shared, rules, filter, has_proc, requests: socket })
}

/// What no plan changes: a hold on itself, ids, host name, the base of the view.
fn prepare(shared: &Shared) -> Result<(OwnedFd, mounts::Base), Failure> {
    // Dies with the helper. Should the helper have died before this line, nobody is left to hold
    // the other end of the socket, and the first wait ends this.
    set_parent_process_death_signal(Some(Signal::KILL)).at("die with the helper")?;
    let own = pidfd_open(Pid::INIT, PidfdFlags::empty()).at("hold pid 1")?;
    map_ids(shared)?;
    sethostname(b"sandbox").at("host name")?;
    Ok((own, mounts::prepare(&shared.view)?))
}

fn finish(
    base: mounts::Base,
    open: &Open,
    trees: Vec<OwnedFd>,
) -> Result<(OwnedFd, Option<net::Doors>), Failure> {
    mounts::enter(base, &open.plan, trees, &open.identities)?;
    let doors = if open.plan.has_network { Some(net::open()?) } else { None };
    Ok((fs_rules::ruleset(&open.plan)?, doors))
}

/// A hold on `/tmp` by which nothing can be read or written, but told how full it is.
fn tmp() -> Result<OwnedFd, Failure> {
    openat(CWD, "/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("hold /tmp")
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

/// Keeps one call prepared; it takes the next request from the socket by itself.
fn fork_calls(common: Common<'_>) -> ! {
    let mut is_first = true;
    loop {
        let wait = match bear(Namespaces::Call, &common.shared.alone) {
            Ok(Born::Child(teller)) => child::run(common, teller),
            Ok(Born::Parent(taken)) => wait_taken(&common.requests, taken),
            Err(failure) => wire::refuse_next(&common.requests, failure),
        };
        if wait == Wait::Closed {
            sys::exit_now(0)
        }
        if is_first {
            is_first = false;
            wait_request(&common.requests, &FIRST_CALL);
        }
    }
}

/// Which side of a birth this is, with its end of a pipe.
#[derive(Debug)]
pub(super) enum Born {
    /// The new process, which tells when it has got a request.
    Child(OwnedFd),
    /// The old one, which is told.
    Parent(OwnedFd),
}

/// Starts a child in new namespaces that will wait for a request.
pub(super) fn bear(namespaces: Namespaces, alone: &SingleThread) -> Result<Born, Failure> {
    let (taken, teller) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    Ok(match sys::clone_into(namespaces, alone).at("new namespaces")? {
        Forked::Child => Born::Child(teller),
        Forked::Parent(()) => Born::Parent(taken),
    })
}

/// Tells the parent that its prepared child has got a request.
pub(super) fn tell_taken(teller: OwnedFd) -> Result<(), Failure> {
    rustix::io::write(&teller, b"t").at("tell that a request was taken").map(drop)
}

/// Waits until a prepared child has taken a request.
pub(super) fn wait_taken(requests: &OwnedFd, taken: OwnedFd) -> Wait {
    let mut polled = [
        PollFd::new(&taken, PollFlags::IN),
        // No event asked for: only the closing of the other end is told.
        PollFd::new(requests, PollFlags::empty()),
    ];
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Wait::Closed,
        }
    }
    let [_, closing] = &polled;
    if !closing.revents().is_empty() {
        return Wait::Closed;
    }
    let mut byte = [0_u8; 1];
    if !matches!(rustix::io::read(&taken, &mut byte), Ok(1)) {
        poll(&mut [], Some(&PAUSE)).ok();
    }
    Wait::Another
}

/// Waits until a request is there, at most so long.
pub(super) fn wait_request(requests: &OwnedFd, at_most: &Timespec) {
    poll(&mut [PollFd::new(requests, PollFlags::IN)], Some(at_most)).ok();
}
