//! The system calls that a tool may make: an allowlist, as reviewed data.
//!
//! Invariants: what no list names answers ENOSYS, so that programs take their fallback; what is
//! listed as refused answers EPERM and says why; another architecture or the x32 table kills. The
//! program is compiled once, when the helper starts. It is the last net, not the boundary: names
//! and networks are kept away by the namespaces and by Landlock.

use seccompiler::{BpfProgram, sock_filter};

use super::wire::Failure;

/// System calls that belong together, with the reason why they are let through.
struct Group {
    #[cfg_attr(not(test), expect(dead_code, reason = "documentation that a test reads"))]
    reason: &'static str,
    calls: &'static [libc::c_long],
}

/// System calls that are refused by name.
struct Refusal {
    #[cfg_attr(not(test), expect(dead_code, reason = "documentation that a test reads"))]
    reason: &'static str,
    calls: &'static [libc::c_long],
}

const ALLOWED: &[Group] = &[
    Group {
        reason: "reading and writing open descriptors: bounded by what could be opened",
        calls: &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_lseek,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup,
            libc::SYS_dup3,
            libc::SYS_fcntl,
            libc::SYS_flock,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync_file_range,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_fadvise64,
            libc::SYS_readahead,
            libc::SYS_sendfile,
            libc::SYS_splice,
            libc::SYS_tee,
            libc::SYS_vmsplice,
            libc::SYS_copy_file_range,
            libc::SYS_pipe2,
        ],
    },
    Group {
        reason: "names of files: bounded by the mounts of the view and by Landlock",
        calls: &[
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_fstatfs,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_readlinkat,
            libc::SYS_getdents64,
            libc::SYS_getcwd,
            libc::SYS_chdir,
            libc::SYS_fchdir,
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_truncate,
            libc::SYS_utimensat,
            libc::SYS_umask,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            libc::SYS_listxattr,
            libc::SYS_llistxattr,
            libc::SYS_flistxattr,
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_removexattr,
            libc::SYS_lremovexattr,
            libc::SYS_fremovexattr,
            SYS_FCHMODAT2,
        ],
    },
    Group {
        reason: "make and npm create fifos; device nodes need a capability that no tool has, and \
                 Landlock refuses them",
        calls: &[libc::SYS_mknodat],
    },
    Group {
        reason: "own memory; writable and executable pages are what language runtimes compile into",
        calls: &[
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_madvise,
            libc::SYS_mincore,
            libc::SYS_msync,
            libc::SYS_mlock,
            libc::SYS_mlock2,
            libc::SYS_munlock,
            libc::SYS_mlockall,
            libc::SYS_munlockall,
            libc::SYS_memfd_create,
            libc::SYS_membarrier,
            libc::SYS_pkey_alloc,
            libc::SYS_pkey_free,
            libc::SYS_pkey_mprotect,
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
        ],
    },
    Group {
        reason: "processes: bounded by the pid namespace and RLIMIT_NPROC; a program that is \
                 executed keeps every restriction",
        calls: &[
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_wait4,
            libc::SYS_waitid,
            libc::SYS_getpid,
            libc::SYS_getppid,
            libc::SYS_gettid,
            libc::SYS_getpgid,
            libc::SYS_setpgid,
            libc::SYS_getsid,
            libc::SYS_setsid,
            libc::SYS_set_tid_address,
            libc::SYS_set_robust_list,
            libc::SYS_get_robust_list,
            libc::SYS_rseq,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
        ],
    },
    Group {
        reason: "signals: bounded by the pid namespace and by Landlock's scope",
        calls: &[
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigsuspend,
            libc::SYS_rt_sigpending,
            libc::SYS_rt_sigtimedwait,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_sigaltstack,
            libc::SYS_signalfd4,
            libc::SYS_restart_syscall,
        ],
    },
    Group {
        reason: "ids: one uid is mapped, and no capability is left to change it",
        calls: &[
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_getresuid,
            libc::SYS_getresgid,
            libc::SYS_getgroups,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setreuid,
            libc::SYS_setregid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setfsuid,
            libc::SYS_setfsgid,
            libc::SYS_setgroups,
            libc::SYS_capget,
            libc::SYS_capset,
        ],
    },
    Group {
        reason: "own limits, priority and scheduling: an unprivileged process can only lower them",
        calls: &[
            libc::SYS_prlimit64,
            libc::SYS_getrlimit,
            libc::SYS_setrlimit,
            libc::SYS_getrusage,
            libc::SYS_times,
            libc::SYS_getpriority,
            libc::SYS_setpriority,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_getparam,
            libc::SYS_sched_setparam,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_getattr,
            libc::SYS_sched_setattr,
            libc::SYS_sched_get_priority_max,
            libc::SYS_sched_get_priority_min,
            libc::SYS_sched_rr_get_interval,
            libc::SYS_ioprio_get,
            libc::SYS_ioprio_set,
            libc::SYS_getcpu,
        ],
    },
    Group {
        reason: "waiting and time: own descriptors and own timers",
        calls: &[
            libc::SYS_futex,
            libc::SYS_futex_waitv,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_eventfd2,
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_gettimeofday,
            libc::SYS_timer_create,
            libc::SYS_timer_settime,
            libc::SYS_timer_gettime,
            libc::SYS_timer_getoverrun,
            libc::SYS_timer_delete,
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_settime,
            libc::SYS_timerfd_gettime,
            libc::SYS_getitimer,
            libc::SYS_setitimer,
            libc::SYS_inotify_init1,
            libc::SYS_inotify_add_watch,
            libc::SYS_inotify_rm_watch,
        ],
    },
    Group {
        reason: "sockets between processes of the sandbox; `socket` itself is filtered to AF_UNIX",
        calls: &[
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_sendto,
            libc::SYS_recvfrom,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
            libc::SYS_shutdown,
            libc::SYS_setsockopt,
            libc::SYS_getsockopt,
        ],
    },
    Group {
        reason: "IPC objects live in the sandbox's own IPC namespace and die with it",
        calls: &[
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_shmdt,
            libc::SYS_shmctl,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_semtimedop,
            libc::SYS_semctl,
        ],
    },
    Group {
        reason: "plain facts about the system and own process settings; nothing to widen",
        calls: &[
            libc::SYS_uname,
            libc::SYS_sysinfo,
            libc::SYS_getrandom,
            libc::SYS_prctl,
            libc::SYS_seccomp,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_restrict_self,
            libc::SYS_sync,
            libc::SYS_syncfs,
        ],
    },
    Group { reason: "what only this architecture has", calls: ARCH_ALLOWED },
];

/// Added in Linux 6.6; `libc` knows it for some targets only. The number is the same everywhere.
const SYS_FCHMODAT2: libc::c_long = 452;

#[cfg(target_arch = "x86_64")]
const ARCH_ALLOWED: &[libc::c_long] = &[
    // Older forms of calls allowed above, which the C library and static programs still use.
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_mknod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_signalfd,
    libc::SYS_inotify_init,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_pause,
    libc::SYS_alarm,
    libc::SYS_time,
    // Thread-local storage of every program.
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ARCH_ALLOWED: &[libc::c_long] = &[];

const REFUSED: &[Refusal] = &[
    Refusal {
        reason: "a second look at other processes' memory, descriptors or execution",
        calls: &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            libc::SYS_process_madvise,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
        ],
    },
    Refusal {
        reason: "operations that seccomp cannot see into",
        calls: &[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_io_setup,
            libc::SYS_io_submit,
            libc::SYS_bpf,
        ],
    },
    Refusal {
        reason: "another view of the file system or another namespace",
        calls: &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_fanotify_init,
            libc::SYS_fanotify_mark,
            libc::SYS_quotactl,
        ],
    },
    Refusal {
        reason: "keyrings are shared with processes outside",
        calls: &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
    },
    Refusal {
        reason: "the machine itself",
        calls: &[
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_syslog,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
            libc::SYS_clock_adjtime,
            libc::SYS_vhangup,
            libc::SYS_personality,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
        ],
    },
    Refusal {
        reason: "POSIX message queues have no use here and their own file system",
        calls: &[libc::SYS_mq_open, libc::SYS_mq_unlink],
    },
];

/// Flags of `clone` that make namespaces or trace the child.
const CLONE_REFUSED: u32 = 0x0002_0000 // NEWNS
    | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 // NEWCGROUP NEWUTS NEWIPC
    | 0x1000_0000 | 0x2000_0000 | 0x4000_0000 // NEWUSER NEWPID NEWNET
    | 0x0000_2000; // PTRACE
/// Puts characters into the terminal's input, and the console's equivalent (paste).
const TTY_REFUSED: [u32; 2] = [0x5412, 0x541C];

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;
/// Numbers from here on belong to the x32 table of x86-64.
const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`; arguments are little-endian 64-bit, of which the low half is
// what the kernel looks at for each call that is filtered by argument here.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARG0_LOW: u32 = 16;
const OFFSET_ARG1_LOW: u32 = 24;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_KILL: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const fn errno(number: i32) -> u32 {
    RETURN_ERRNO | number.cast_unsigned()
}

/// Compiles the lists into a program for `seccomp(2)`.
pub(super) fn compile() -> BpfProgram {
    let mut p = Assembler::default();
    // Another architecture's numbers mean other calls.
    p.load(OFFSET_ARCH);
    p.unless_equal(AUDIT_ARCH, RETURN_KILL);
    p.load(OFFSET_NUMBER);
    p.when(JUMP_AT_LEAST, X32_BIT, RETURN_KILL);
    // `clone3` hides its flags behind a pointer; ENOSYS makes the C library use `clone`.
    p.when_call(libc::SYS_clone3, &[(RETURN, 0, 0, errno(libc::ENOSYS))]);
    p.when_call(
        libc::SYS_clone,
        &[
            (LOAD, 0, 0, OFFSET_ARG0_LOW),
            (JUMP_ANY_BIT, 0, 1, CLONE_REFUSED),
            (RETURN, 0, 0, errno(libc::EPERM)),
            (RETURN, 0, 0, RETURN_ALLOW),
        ],
    );
    let [sti, linux] = TTY_REFUSED;
    p.when_call(
        libc::SYS_ioctl,
        &[
            (LOAD, 0, 0, OFFSET_ARG1_LOW),
            (JUMP_EQUAL, 1, 0, sti),
            (JUMP_EQUAL, 0, 1, linux),
            (RETURN, 0, 0, errno(libc::EPERM)),
            (RETURN, 0, 0, RETURN_ALLOW),
        ],
    );
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        p.when_call(
            call,
            &[
                (LOAD, 0, 0, OFFSET_ARG0_LOW),
                (JUMP_EQUAL, 0, 1, libc::AF_UNIX.cast_unsigned()),
                (RETURN, 0, 0, RETURN_ALLOW),
                (RETURN, 0, 0, errno(libc::EAFNOSUPPORT)),
            ],
        );
    }
    for call in ALLOWED.iter().flat_map(|g| g.calls) {
        p.when_call(*call, &[(RETURN, 0, 0, RETURN_ALLOW)]);
    }
    for call in REFUSED.iter().flat_map(|r| r.calls) {
        p.when_call(*call, &[(RETURN, 0, 0, errno(libc::EPERM))]);
    }
    p.emit(RETURN, 0, 0, errno(libc::ENOSYS));
    p.program
}

/// Applies the program to this thread, for good.
pub(super) fn apply(program: &BpfProgram) -> Result<(), Failure> {
    seccompiler::apply_filter(program).map_err(|error| {
        let errno = match error {
            seccompiler::Error::Seccomp(e) | seccompiler::Error::Prctl(e) => e.raw_os_error(),
            _ => None,
        };
        Failure { step: "seccomp".to_owned(), errno: errno.unwrap_or(libc::EINVAL) }
    })
}

#[derive(Default)]
struct Assembler {
    program: BpfProgram,
}

impl Assembler {
    fn emit(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.program.push(sock_filter { code, jt, jf, k });
    }

    fn load(&mut self, offset: u32) {
        self.emit(LOAD, 0, 0, offset);
    }

    fn unless_equal(&mut self, value: u32, result: u32) {
        self.emit(JUMP_EQUAL, 1, 0, value);
        self.emit(RETURN, 0, 0, result);
    }

    fn when(&mut self, comparison: u16, value: u32, result: u32) {
        self.emit(comparison, 0, 1, value);
        self.emit(RETURN, 0, 0, result);
    }

    /// The body, which must return, for one call. It may load: nothing after it reads the number.
    fn when_call(&mut self, call: libc::c_long, body: &[(u16, u8, u8, u32)]) {
        let (Ok(number), Ok(length)) = (u32::try_from(call), u8::try_from(body.len())) else {
            return;
        };
        self.emit(JUMP_EQUAL, 0, length, number);
        for (code, jt, jf, k) in body {
            self.emit(*code, *jt, *jf, *k);
        }
    }
}

#[cfg(test)]
#[path = "syscalls_tests.rs"]
mod tests;
