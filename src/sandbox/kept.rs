//! A kept sandbox from inside: its pid 1, which builds the view once and then clones the calls.
//!
//! Invariants: it executes nothing, and nothing that a model chose runs in its pid namespace: a
//! call is one level below and cannot name it. It ends when the daemon's end of its socket closes
//! or the helper dies, and the kernel then kills everything in it. It is built as far as possible
//! before it is asked for; a step that failed ahead is told to whoever asks. Where there are no
//! namespaces (level `landlock`) it is a plain process, and each call's first process does what
//! the kernel would: it ends its call when this one dies.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    net::RecvFlags,
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, PidfdFlags, Signal, getpid, pidfd_open, set_dumpable_behavior,
        set_parent_process_death_signal,
    },
    system::sethostname,
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::{
    child, fs_rules, mounts, net,
    plan::{PATH, Plan},
    programs,
    sys::{self, Forked, Namespaces, SingleThread, Stack},
    syscalls::{self, Sockets},
    wire::{self, AtStep, Failure, Message, Report, Wait},
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
    pub(super) plan: Plan,
    /// The Landlock rules of a tool.
    pub(super) rules: OwnedFd,
    /// What keeps a call together where there are no namespaces.
    pub(super) fence: Option<OwnedFd>,
    pub(super) filter: BpfProgram,
    /// Where requests for calls come from.
    pub(super) requests: OwnedFd,
    /// What a tool's process stands on until it has its program.
    pub(super) stack: Stack,
}

/// Runs as pid 1 of fresh namespaces. Never returns. The lock is held until it is dead.
pub(super) fn run(shared: &Shared, requests: OwnedFd, taken: OwnedFd, lock: OwnedFd) -> ! {
    let base = prepare(shared);
    let message = wire::receive(&requests, RecvFlags::empty()).unwrap_or_default();
    drop(requests);
    if !message.bytes.is_empty() && tell_taken(taken).is_ok() {
        answer(shared, message, base);
    }
    drop(lock);
    sys::exit_now(NOT_BUILT)
}

/// As [`run`], where no namespaces can be had: `why` is the answer to whoever asks for some.
pub(super) fn run_without(shared: &Shared, message: Message, why: Failure, lock: OwnedFd) -> ! {
    answer(shared, message, Err(why));
    drop(lock);
    sys::exit_now(NOT_BUILT)
}

/// Serves one request for a sandbox. Returns only when there is none.
fn answer(shared: &Shared, message: Message, base: Result<mounts::Base, Failure>) {
    let Ok((open, descriptors)) = wire::unpack::<Open>(message) else { return };
    let mut descriptors = descriptors.into_iter();
    let Some(socket) = descriptors.next() else { return };
    match build(shared, open, descriptors.collect(), base, &socket) {
        Ok(built) => {
            let Built { plan, rules, fence, filter, stack } = built;
            fork_calls(Common { shared, plan, rules, fence, filter, requests: socket, stack })
        }
        Err(failure) => wire::report(&socket, &Report::Failed(failure), &[]),
    }
}

struct Built {
    plan: Plan,
    rules: OwnedFd,
    fence: Option<OwnedFd>,
    filter: BpfProgram,
    stack: Stack,
}

fn build(
    shared: &Shared,
    open: Open,
    trees: Vec<OwnedFd>,
    base: Result<mounts::Base, Failure>,
    socket: &OwnedFd,
) -> Result<Built, Failure> {
    let Open { plan, identities } = open;
    let base = if plan.has_namespaces { Some(base?) } else { None };
    let own = pidfd_open(getpid(), PidfdFlags::empty()).at("hold itself")?;
    wire::report(socket, &Report::Started, &[own.as_fd()]);
    drop(own);
    let (needs, fence, sockets) = if let Some(base) = base {
        let sockets = if plan.has_network { Sockets::Internet } else { Sockets::Unix };
        (mounts::enter(base, &plan, trees, &identities)?, None, sockets)
    } else {
        do_without(shared)?;
        let needs = plan.programs.as_ref().map(|names| programs::resolve(names, PATH));
        (needs, Some(fs_rules::fence()?), Sockets::Pairs)
    };
    let has_doors = plan.has_namespaces && plan.has_network;
    let doors = if has_doors { Some(net::open()?) } else { None };
    let rules = fs_rules::ruleset(&plan, needs.as_ref())?;
    let filter = syscalls::compile(sockets);
    let stack = Stack::new().at("make a stack")?;
    let tmp = if plan.has_namespaces { Some(tmp()?) } else { None };
    let mut sent: Vec<_> = tmp.iter().map(AsFd::as_fd).collect();
    sent.extend(doors.iter().flat_map(net::Doors::descriptors));
    wire::report(socket, &Report::Ready, &sent);
    Ok(Built { plan, rules, fence, filter, stack })
}

/// What no plan changes: ids, host name, the base of the view.
fn prepare(shared: &Shared) -> Result<mounts::Base, Failure> {
    // Dies with the helper. Should the helper have died before this line, nobody is left to hold
    // the other end of the socket, and the first wait ends this.
    set_parent_process_death_signal(Some(Signal::KILL)).at("die with the helper")?;
    map_ids(shared)?;
    sethostname(b"sandbox").at("host name")?;
    drop_bounding_set()?;
    mounts::prepare(&shared.view)
}

/// Gives up what a program with file capabilities could gain, here and in all calls. Capabilities
/// that this process has stay.
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

/// As [`prepare`], without namespaces. It may be pid 1 of some all the same, which are then of no
/// use: a machine may allow them and refuse every right in them.
fn do_without(shared: &Shared) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("die with the helper")?;
    sys::ignore_child_exits().at("ignore exits")?;
    if (shared.uid, shared.gid) == (0, 0) {
        return Err(Failure::new("be somebody else than root", Errno::PERM));
    }
    set_dumpable_behavior(DumpableBehavior::Dumpable).at("dumpable")?;
    // A courtesy here: the machine may be one that lets nobody change it.
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("not dumpable")
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
        let namespaces = common.plan.has_namespaces.then_some(Namespaces::Call);
        let wait = match bear(namespaces, &common.shared.alone) {
            Ok(Born::Child(teller)) => child::run(common, teller),
            Ok(Born::Parent(taken)) => wait_taken(&common.requests, taken, None),
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

/// Starts a child, in new namespaces if there are to be any, that will wait for a request.
pub(super) fn bear(namespaces: Option<Namespaces>, alone: &SingleThread) -> Result<Born, Failure> {
    let (taken, teller) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    let is_child = match namespaces {
        Some(namespaces) => {
            matches!(sys::clone_into(namespaces, alone).at("new namespaces")?, Forked::Child)
        }
        None => matches!(sys::fork(alone).at("fork")?, Forked::Child),
    };
    Ok(if is_child { Born::Child(teller) } else { Born::Parent(taken) })
}

/// Tells the parent that its prepared child has got a request.
pub(super) fn tell_taken(teller: OwnedFd) -> Result<(), Failure> {
    rustix::io::write(&teller, b"t").at("tell that a request was taken").map(drop)
}

/// Waits until a prepared child has taken a request. Where there is a `switch` that becomes
/// readable, nobody shall wait any more.
pub(super) fn wait_taken(requests: &OwnedFd, taken: OwnedFd, switch: Option<&OwnedFd>) -> Wait {
    let mut polled = [
        PollFd::new(&taken, PollFlags::IN),
        // No event asked for: only the closing of the other end is told.
        PollFd::new(requests, PollFlags::empty()),
        // Without a switch the same end is looked at twice.
        switch.map_or_else(
            || PollFd::new(requests, PollFlags::empty()),
            |switch| PollFd::new(switch, PollFlags::IN),
        ),
    ];
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Wait::Closed,
        }
    }
    let [_, closing, switch] = &polled;
    if !closing.revents().is_empty() || !switch.revents().is_empty() {
        return Wait::Closed;
    }
    let mut byte = [0_u8; 1];
    if !matches!(rustix::io::read(&taken, &mut byte), Ok(1)) {
        poll(&mut [], Some(&PAUSE)).ok();
    }
    Wait::Another
}

/// Waits until there is a request, or the other end is closed, or the switch becomes readable.
pub(super) fn wait_asked(requests: &OwnedFd, switch: &OwnedFd) -> Wait {
    let mut polled = [PollFd::new(requests, PollFlags::IN), PollFd::new(switch, PollFlags::IN)];
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Wait::Closed,
        }
    }
    let [_, switch] = &polled;
    if switch.revents().is_empty() { Wait::Another } else { Wait::Closed }
}

/// Waits until a request is there, at most so long.
pub(super) fn wait_request(requests: &OwnedFd, at_most: &Timespec) {
    poll(&mut [PollFd::new(requests, PollFlags::IN)], Some(at_most)).ok();
}
