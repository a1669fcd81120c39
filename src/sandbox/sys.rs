//! The only `unsafe` code: system calls for which no safe wrapper exists elsewhere.
//!
//! Invariants: one call per block; every function here is safe to call with any arguments its
//! types admit, except that [`clone_into`] and [`fork`] must only be called by a process with a
//! single thread, of which both want a proof.

#![expect(unsafe_code, reason = "the one file that may; every block states its conditions")]

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Which side of a fork this is.
#[derive(Debug)]
pub(super) enum Forked<T> {
    /// The new process.
    Child,
    /// The old process, with its hold on the new one.
    Parent(T),
}

/// `struct clone_args` of `clone3(2)`, first version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Which namespaces a child gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Namespaces {
    /// A kept sandbox: user, mount, pid, network, IPC and host name.
    Session,
    /// One call in it: mount, pid and IPC.
    Call,
}

impl Namespaces {
    const fn flags(self) -> i32 {
        let each = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        match self {
            Self::Session => each | libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWUTS,
            Self::Call => each,
        }
    }
}

/// Whether this process has exactly one thread.
fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Starts a child as pid 1 of new namespaces.
pub(super) fn clone_into(namespaces: Namespaces, _proof: &SingleThread) -> io::Result<Forked<()>> {
    let args = CloneArgs {
        flags: u64::from(namespaces.flags().cast_unsigned()),
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a valid `clone_args` of the given size and outlives the call; without
    // CLONE_VM the child gets its own copy of the memory, and no other thread exists (the proof)
    // that could hold a lock in that copy.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size_of::<CloneArgs>())
    };
    match pid {
        0 => Ok(Forked::Child),
        1.. => Ok(Forked::Parent(())),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `fork(2)`.
pub(super) fn fork(_proof: &SingleThread) -> io::Result<Forked<i32>> {
    // SAFETY: no other thread exists (the proof), so the child's copy of the memory is whole.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid @ 1.. => Ok(Forked::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of a [`Stack`], and of the part below it that cannot be touched. Only touched pages exist.
const STACK_BYTES: usize = 256 << 10;
const GUARD_BYTES: usize = 64 << 10;

/// Memory for a child that shares the rest of it; never given back.
#[derive(Debug)]
pub(super) struct Stack {
    top: *mut libc::c_void,
}

impl Stack {
    pub(super) fn new() -> io::Result<Self> {
        let bytes = GUARD_BYTES + STACK_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: asks for new memory anywhere, which no other value refers to.
        let lowest =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let bottom = lowest.wrapping_byte_add(GUARD_BYTES);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is whole pages of what was mapped above; both sizes are multiples of 64
        // KiB, the largest page of any machine that we run on.
        if unsafe { libc::mprotect(bottom, STACK_BYTES, access) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { top: bottom.wrapping_byte_add(STACK_BYTES) })
    }
}

/// Starts a child that has this process's memory instead of a copy of it, and waits until it has
/// executed a program or ended: `vfork(2)`, with a stack of its own, since a function cannot return
/// twice here. `child` gives the exit code. It has its own descriptors, signals, limits and working
/// directory; what it allocates and does not give back stays with this process.
pub(super) fn fork_until_exec(
    stack: &Stack,
    _proof: &SingleThread,
    child: &dyn Fn() -> i32,
) -> io::Result<i32> {
    extern "C" fn begin(child: *mut libc::c_void) -> i32 {
        // SAFETY: points to the argument of `fork_until_exec`, whose frame waits for this process to
        // end or to leave this memory, and which nobody else uses meanwhile. A panic cannot leave an
        // `extern "C"` function: it ends this process.
        let child = unsafe { &*child.cast::<&dyn Fn() -> i32>() };
        exit_now(child())
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = std::ptr::from_ref(&child).cast_mut().cast();
    // SAFETY: `begin` fits the argument, which is only read. The stack is large enough, aligned, grows
    // down, and is in use by this one child: no second thread exists (the proof), and this one is
    // stopped until the child has another memory or is dead, so the two never touch anything at
    // once. Memory is then as after a call of `child` that did not return.
    let pid = unsafe { libc::clone(begin, stack.top, flags, argument) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// Proof that the process had one thread when it was made; the helper starts none.
#[derive(Debug)]
pub(super) struct SingleThread(());

/// Checks that this process has one thread.
pub(super) fn single_thread() -> Option<SingleThread> {
    is_single_threaded().then_some(SingleThread(()))
}

/// Ends this process at once: no destructors, no `atexit`.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Strings as `execve(2)` wants them: a null-terminated array of pointers, with their owner.
#[derive(Debug)]
pub(super) struct ExecStrings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl ExecStrings {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let pointers =
            strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
        Self { _owned: strings, pointers }
    }
}

/// Replaces this process by a program; returns only with the reason why not.
pub(super) fn execve(program: &CStr, argv: &ExecStrings, env: &ExecStrings) -> io::Error {
    // SAFETY: `program` is a C string; both arrays end with a null pointer and point to C strings
    // that `ExecStrings` keeps alive during the call.
    unsafe { libc::execve(program.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// As [`execve`], of an open file.
pub(super) fn execve_descriptor(
    program: &OwnedFd,
    argv: &ExecStrings,
    env: &ExecStrings,
) -> io::Error {
    // SAFETY: the descriptor is open and the path an empty C string; both arrays end with a null
    // pointer and point to C strings that `ExecStrings` keeps alive during the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Restricts this process by a Landlock ruleset, for good. The caller has set `no_new_privs`.
pub(super) fn landlock_restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes a descriptor that is open and no pointers.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Kills every other process of the pid namespace that this process is pid 1 of.
pub(super) fn kill_all_others() -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: takes no pointers. -1 means every process but the caller that it can see, and pid 1
    // of a namespace sees nothing beyond it.
    let done = unsafe { libc::kill(-1, libc::SIGKILL) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Proof that this process and what it starts can signal nobody else.
#[derive(Debug)]
pub(super) struct Fenced(());

/// Restricts this process by a ruleset that scopes signals, and tries it on a process beyond: one
/// of the same user, which could be signalled before.
pub(super) fn fence(ruleset: &OwnedFd, beyond: Pid) -> io::Result<Fenced> {
    if test_kill_process(beyond).is_err() {
        return Err(io::ErrorKind::NotFound.into());
    }
    landlock_restrict(ruleset)?;
    match test_kill_process(beyond) {
        Err(Errno::PERM) => Ok(Fenced(())),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Kills every process within the fence but the caller.
pub(super) fn kill_fenced(_proof: &Fenced) -> io::Result<()> {
    // SAFETY: takes no pointers. -1 means every process that the caller may signal but itself;
    // the proof says that these are the ones that it started.
    let done = unsafe { libc::kill(-1, libc::SIGKILL) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets an IPv4 socket tell for each datagram which address it was sent to.
pub(super) fn tell_packet_addresses(socket: impl AsFd) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the descriptor is open; `on` is an i32 of the given size and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            std::ptr::from_ref(&on).cast(),
            4,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a process that is about to be started do something before its program replaces it.
/// `prepare` must make plain system calls only: it runs in a copy of a process with many threads,
/// where a lock may be held for ever.
pub(super) fn before_exec(
    command: &mut std::process::Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: what `prepare` must be is stated above; its one user, the local backend, makes system
    // calls with values that were computed before, and allocates only to tell a failure.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, prepare) };
}

/// Closes every descriptor from 3 up except one.
pub(super) fn close_all_but(kept: &OwnedFd) -> io::Result<()> {
    let kept = kept.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.saturating_add(1), u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: takes no pointers. The helper calls this first thing, when the only descriptor
        // that any of its values owns is the one that is kept.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Marks every descriptor from `first` up close-on-exec.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: changes only flags of descriptors; takes no pointers.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adds mount attributes (`MOUNT_ATTR_*`) to the mount that `mount` is the root of; with
/// `is_recursive` to every mount below it too. They all become private: what is mounted on a
/// clone must not appear where it was cloned from.
pub(super) fn add_mount_attributes(
    mount: impl AsFd,
    attributes: u64,
    is_recursive: bool,
) -> io::Result<()> {
    let attr =
        MountAttr { attr_set: attributes, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    let recursive = if is_recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open, the path is a C string, `attr` is a valid `mount_attr` of
    // the given size; all outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            (libc::AT_EMPTY_PATH | recursive).cast_unsigned(),
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel check this thread's file accesses as those of another user; ids of other
/// threads do not change.
pub(super) fn set_thread_fs_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: takes no pointers; changes only this thread (setfsgid(2)).
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
    // The calls tell no error, but an id that cannot be gives the current one.
    // SAFETY: as above; -1 is no id, so nothing is changed.
    let group = unsafe { libc::setfsgid(u32::MAX) };
    // SAFETY: as above.
    let user = unsafe { libc::setfsuid(u32::MAX) };
    let has_changed = user.cast_unsigned() == uid && group.cast_unsigned() == gid;
    if has_changed { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Lets the kernel reap this process's children by itself.
pub(super) fn ignore_child_exits() -> io::Result<()> {
    // SAFETY: SIG_IGN is a valid disposition; no handler of ours is involved.
    let old = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    if old == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets every signal come.
pub(super) fn unblock_signals() {
    set_mask(libc::SIG_SETMASK, &empty_set());
}

/// Gives every signal its default action and unblocks all of them.
pub(super) fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; signals that cannot be changed (KILL, STOP, the
        // two of the C library) are refused by the call, which is all right.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Blocks SIGCHLD and SIGTERM and returns a descriptor that becomes readable when a child ends or
/// this process is asked to end: `struct signalfd_siginfo`, which begins with the signal's number.
pub(super) fn signal_descriptor() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    for signal in [libc::SIGCHLD, libc::SIGTERM] {
        // SAFETY: `set` is an initialised signal set.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: SIG_DFL is a valid disposition; an ignored SIGCHLD would lose the exit status.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    set_mask(libc::SIG_BLOCK, &set);
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the async runtime watch a descriptor for input.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, is not handed out mutably by `AsyncFd<OwnedFd>` users here, and
    // is closed only when the `AsyncFd` that owns it has deregistered it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: points to memory of the right size, which the call fills.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has initialised it; it cannot fail with a valid pointer.
    unsafe { set.assume_init() }
}

fn set_mask(how: i32, set: &libc::sigset_t) {
    // SAFETY: `set` is an initialised signal set; the old mask is not asked for.
    unsafe { libc::sigprocmask(how, std::ptr::from_ref(set), std::ptr::null_mut()) };
}

/// Calls that the canary makes to see them fail. Each is harmless should it succeed: it has no
/// pointer that the kernel would write through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    /// `unshare(CLONE_NEWUSER)`.
    NewUserNamespace,
    /// `ptrace(PTRACE_TRACEME)`.
    Trace,
    /// `bpf(2)` with a null attribute.
    Bpf,
    /// `io_uring_setup(2)` with null parameters.
    IoUring,
    /// `keyctl(KEYCTL_GET_KEYRING_ID, …)`.
    Keyring,
    /// `ioctl(0, TIOCSTI, …)`: the kernel looks at the terminal before it looks at the pointer.
    Terminal,
    /// `memfd_create(2)` with a null name.
    MemoryFile,
    /// `getpid` by a number of another table of this architecture, where it has one.
    OtherTable,
}

/// The bit that x86-64 marks the calls of x32 with.
#[cfg(target_arch = "x86_64")]
const OTHER_TABLE: libc::c_long = 0x4000_0000;
/// Nothing elsewhere: the plain call.
#[cfg(not(target_arch = "x86_64"))]
const OTHER_TABLE: libc::c_long = 0;
/// Whether this architecture has another table at all.
pub(super) const HAS_OTHER_TABLE: bool = OTHER_TABLE != 0;

/// Makes a probe's call.
pub(super) fn probe(probe: Probe) -> io::Result<()> {
    let (number, first, second): (libc::c_long, u64, u64) = match probe {
        Probe::NewUserNamespace => {
            (libc::SYS_unshare, u64::from(libc::CLONE_NEWUSER.cast_unsigned()), 0)
        }
        Probe::Trace => (libc::SYS_ptrace, 0, 0),
        Probe::Bpf => (libc::SYS_bpf, 0, 0),
        Probe::IoUring => (libc::SYS_io_uring_setup, 1, 0),
        Probe::Keyring => (libc::SYS_keyctl, 0, u64::from(u32::MAX)),
        Probe::Terminal => (libc::SYS_ioctl, 0, libc::TIOCSTI),
        Probe::MemoryFile => (libc::SYS_memfd_create, 0, 0),
        Probe::OtherTable => (OTHER_TABLE | libc::SYS_getpid, 0, 0),
    };
    // SAFETY: every pointer argument of these calls is null, so nothing of ours is read or written.
    let done = unsafe { libc::syscall(number, first, second, 0_u64, 0_u64, 0_u64) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
