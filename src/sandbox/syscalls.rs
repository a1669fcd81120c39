//! Seccomp: the system calls that a tool may make.
//!
//! Invariants: what no list names answers ENOSYS, so that programs take their fallback; what is
//! listed as refused answers EPERM and says why; another architecture or the x32 table kills. It is
//! the last net, not the boundary: names and networks are kept away by the namespaces and by
//! Landlock.
//!
//! The program comes in two parts, of which the kernel asks both and obeys the stricter: the long
//! one holds the lists and is applied once, by the helper, to itself and all that comes of it; the
//! short one takes away what a sandbox is built with, and is applied by each call. As one program
//! it cost every call a third of a millisecond: the kernel compiles it, and tries it on each call
//! that it could ever be asked about.

use seccompiler::{BpfProgram, sock_filter};

use super::{
    syscall_lists::{ALLOWED, BUILDING, REFUSED},
    syscall_numbers::{
        Architecture, CLONE, CLONE3, Call, IOCTL, IOPRIO_SET, MEMFD_CREATE, NATIVE, PRLIMIT64,
        SCHED_SETAFFINITY, SCHED_SETATTR, SCHED_SETPARAM, SCHED_SETSCHEDULER, SETPRIORITY, SHMGET,
        SOCKET, SOCKETPAIR,
    },
    wire::Failure,
};

/// Flags of `clone` that make namespaces or trace the child.
const CLONE_REFUSED: u32 = 0x0002_0000 // NEWNS
    | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 // NEWCGROUP NEWUTS NEWIPC
    | 0x1000_0000 | 0x2000_0000 | 0x4000_0000 // NEWUSER NEWPID NEWNET
    | 0x0000_2000; // PTRACE
/// Puts characters into the terminal's input, and the console's equivalent (paste).
const TTY_REFUSED: [u32; 2] = [0x5412, 0x541C];

/// Bytes of one piece of System V shared memory: enough for the lock that database servers make.
/// The memory belongs to no process, so it is bounded by the number of pieces, 4,096 (`shmmni`).
const SHARED_BYTES_MAX: u32 = 4_096;

// Offsets in `struct seccomp_data`; arguments are little-endian 64-bit, of which the low half is
// what the kernel looks at for each call that is filtered by argument here.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARG0_LOW: u32 = 16;
const OFFSET_ARG1_LOW: u32 = 24;
const OFFSET_ARG1_HIGH: u32 = 28;
const OFFSET_ARG2_LOW: u32 = 32;
/// A socket's type without the flags that `socket` takes beside it.
const SOCKET_TYPE_MASK: u32 = 0xf;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_KILL: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const fn errno(number: i32) -> u32 {
    RETURN_ERRNO | number.cast_unsigned()
}

/// Which sockets a tool may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Connected pairs alone: where no network namespace keeps a name from leading outside.
    Pairs,
    /// Unix sockets too.
    Unix,
    /// TCP and UDP too: there are listeners to reach, and nothing else.
    Internet,
}

/// Calls that are decided by their arguments, and `clone3`, which hides them.
const BY_ARGUMENT: [Call; 6] = [CLONE3, CLONE, IOCTL, SOCKET, SOCKETPAIR, SHMGET];

/// What the helper and everything that it starts may call: what a tool may, and what builds a
/// sandbox.
pub(super) fn base() -> BpfProgram {
    base_for(&NATIVE)
}

fn base_for(architecture: &Architecture) -> BpfProgram {
    let mut p = Assembler::new(architecture);
    for call in BY_ARGUMENT.iter().chain(BUILDING) {
        p.when_call(call, &[(RETURN, 0, 0, RETURN_ALLOW)]);
    }
    p.lists();
    p.program
}

/// What a tool may not call of [`base`].
pub(super) fn compile(sockets: Sockets) -> BpfProgram {
    rest_for(&NATIVE, sockets)
}

fn rest_for(architecture: &Architecture, sockets: Sockets) -> BpfProgram {
    let mut p = Assembler::new(architecture);
    p.by_argument(sockets);
    for call in BUILDING {
        p.when_call(call, &[(RETURN, 0, 0, errno(libc::EPERM))]);
    }
    p.emit(RETURN, 0, 0, RETURN_ALLOW);
    p.program
}

/// Both parts as one program, which answers every call as they do together.
fn whole_for(architecture: &Architecture, sockets: Sockets) -> BpfProgram {
    let mut p = Assembler::new(architecture);
    p.by_argument(sockets);
    p.lists();
    p.program
}

/// AF_UNIX; or IPv4 and IPv6 with TCP and UDP. Landlock's port rules know TCP alone: MPTCP and SMC
/// would pass them.
const fn internet() -> [(u16, u8, u8, u32); 15] {
    [
        (LOAD, 0, 0, OFFSET_ARG0_LOW),
        (JUMP_EQUAL, 10, 0, libc::AF_UNIX.cast_unsigned()),
        (JUMP_EQUAL, 1, 0, libc::AF_INET.cast_unsigned()),
        (JUMP_EQUAL, 0, 9, libc::AF_INET6.cast_unsigned()),
        (LOAD, 0, 0, OFFSET_ARG1_LOW),
        (AND, 0, 0, SOCKET_TYPE_MASK),
        (JUMP_EQUAL, 1, 0, libc::SOCK_STREAM.cast_unsigned()),
        (JUMP_EQUAL, 0, 6, libc::SOCK_DGRAM.cast_unsigned()),
        (LOAD, 0, 0, OFFSET_ARG2_LOW),
        (JUMP_EQUAL, 2, 0, 0),
        (JUMP_EQUAL, 1, 0, libc::IPPROTO_TCP.cast_unsigned()),
        (JUMP_EQUAL, 0, 2, libc::IPPROTO_UDP.cast_unsigned()),
        (RETURN, 0, 0, RETURN_ALLOW),
        (RETURN, 0, 0, errno(libc::EAFNOSUPPORT)),
        (RETURN, 0, 0, errno(libc::EPERM)),
    ]
}

/// The program of tools, in one piece, as `struct sock_filter` after `struct sock_filter` (linux/filter.h), as
/// other sandboxes take it (`bwrap --seccomp`): to look at it, and to compare like with like.
pub fn seccomp_program() -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in whole_for(&NATIVE, Sockets::Unix) {
        bytes.extend_from_slice(&step.code.to_ne_bytes());
        bytes.extend_from_slice(&[step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_ne_bytes());
    }
    bytes
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

struct Assembler<'a> {
    program: BpfProgram,
    architecture: &'a Architecture,
}

impl<'a> Assembler<'a> {
    /// Begins with what every program does first, and has loaded the call's number then.
    fn new(architecture: &'a Architecture) -> Self {
        let mut p = Self { program: BpfProgram::new(), architecture };
        // Another architecture's numbers mean other calls.
        p.load(OFFSET_ARCH);
        p.unless_equal(architecture.audit, RETURN_KILL);
        p.load(OFFSET_NUMBER);
        if let Some(first) = architecture.foreign_from {
            p.when(JUMP_AT_LEAST, first, RETURN_KILL);
        }
        p
    }

    /// Answers each call that a list names, and ends the program for all others.
    fn lists(&mut self) {
        // A file in memory belongs to no process that could be charged for it, and could be executed
        // where files may not.
        self.when_call(&MEMFD_CREATE, &[(RETURN, 0, 0, errno(libc::ENOSYS))]);
        for call in ALLOWED.iter().flat_map(|g| g.calls) {
            self.when_call(call, &[(RETURN, 0, 0, RETURN_ALLOW)]);
        }
        for call in REFUSED.iter().flat_map(|r| r.calls) {
            self.when_call(call, &[(RETURN, 0, 0, errno(libc::EPERM))]);
        }
        self.emit(RETURN, 0, 0, errno(libc::ENOSYS));
    }

    /// Answers the calls whose arguments count.
    fn by_argument(&mut self, sockets: Sockets) {
        // `clone3` hides its flags behind a pointer; ENOSYS makes the C library use `clone`.
        self.when_call(&CLONE3, &[(RETURN, 0, 0, errno(libc::ENOSYS))]);
        self.when_call(
            &CLONE,
            &[
                (LOAD, 0, 0, OFFSET_ARG0_LOW),
                (JUMP_ANY_BIT, 0, 1, CLONE_REFUSED),
                (RETURN, 0, 0, errno(libc::EPERM)),
                (RETURN, 0, 0, RETURN_ALLOW),
            ],
        );
        let [sti, linux] = TTY_REFUSED;
        self.when_call(
            &IOCTL,
            &[
                (LOAD, 0, 0, OFFSET_ARG1_LOW),
                (JUMP_EQUAL, 1, 0, sti),
                (JUMP_EQUAL, 0, 1, linux),
                (RETURN, 0, 0, errno(libc::EPERM)),
                (RETURN, 0, 0, RETURN_ALLOW),
            ],
        );
        let no_family = errno(libc::EAFNOSUPPORT);
        let unix_only = [
            (LOAD, 0, 0, OFFSET_ARG0_LOW),
            (JUMP_EQUAL, 0, 1, libc::AF_UNIX.cast_unsigned()),
            (RETURN, 0, 0, RETURN_ALLOW),
            (RETURN, 0, 0, no_family),
        ];
        self.when_call(&SOCKETPAIR, &unix_only);
        match sockets {
            Sockets::Pairs => {
                self.when_call(&SOCKET, &[(RETURN, 0, 0, no_family)]);
                self.on_oneself();
            }
            Sockets::Unix => self.when_call(&SOCKET, &unix_only),
            Sockets::Internet => self.when_call(&SOCKET, &internet()),
        }
        self.when_call(
            &SHMGET,
            &[
                (LOAD, 0, 0, OFFSET_ARG1_HIGH),
                (JUMP_EQUAL, 0, 2, 0),
                (LOAD, 0, 0, OFFSET_ARG1_LOW),
                (JUMP_AT_LEAST, 0, 1, SHARED_BYTES_MAX + 1),
                (RETURN, 0, 0, errno(libc::EINVAL)),
                (RETURN, 0, 0, RETURN_ALLOW),
            ],
        );
    }

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

    /// Where no process namespace hides the user's other processes: what would change one of them is
    /// allowed on the caller alone, which these calls name by a zero. Landlock has no right for them.
    fn on_oneself(&mut self) {
        let refused = (RETURN, 0, 0, errno(libc::EPERM));
        let allowed = (RETURN, 0, 0, RETURN_ALLOW);
        for call in
            [PRLIMIT64, SCHED_SETAFFINITY, SCHED_SETATTR, SCHED_SETPARAM, SCHED_SETSCHEDULER]
        {
            let body = [(LOAD, 0, 0, OFFSET_ARG0_LOW), (JUMP_EQUAL, 0, 1, 0), allowed, refused];
            self.when_call(&call, &body);
        }
        // One process, and that one (PRIO_PROCESS is 0, IOPRIO_WHO_PROCESS is 1); not all of a user.
        for (call, which) in [(SETPRIORITY, 0), (IOPRIO_SET, 1)] {
            let body = [
                (LOAD, 0, 0, OFFSET_ARG0_LOW),
                (JUMP_EQUAL, 0, 3, which),
                (LOAD, 0, 0, OFFSET_ARG1_LOW),
                (JUMP_EQUAL, 0, 1, 0),
                allowed,
                refused,
            ];
            self.when_call(&call, &body);
        }
    }

    /// The body, which must return, for one call if the architecture has it. It may load: nothing
    /// after it reads the number.
    fn when_call(&mut self, call: &Call, body: &[(u16, u8, u8, u32)]) {
        let (Some(number), Ok(length)) = (self.architecture.number(call), u8::try_from(body.len()))
        else {
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
