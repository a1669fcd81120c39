//! The numbers of system calls on the architectures that we run on.
//!
//! Invariants: both columns are known on every machine, so that the filter of one architecture can
//! be tested on the other; the column of the architecture that is compiled for is held against
//! `libc` by the compiler. A call that an architecture lacks is in no filter of it.

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// As `libc` calls it.
    pub(super) name: &'static str,
    pub(super) x86_64: Option<u32>,
    pub(super) aarch64: Option<u32>,
}

/// What distinguishes the filters of two architectures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_*`, which the kernel puts beside each call.
    pub(super) audit: u32,
    /// Numbers from here on belong to another table of the same architecture.
    pub(super) foreign_from: Option<u32>,
    number: fn(&Call) -> Option<u32>,
}

impl Architecture {
    /// The call's number here, if there is such a call.
    pub(super) fn number(&self, call: &Call) -> Option<u32> {
        (self.number)(call)
    }
}

/// x86-64. Its x32 table shares the audit number and is told by a bit; `int 0x80` makes calls of
/// another architecture.
#[cfg(any(test, target_arch = "x86_64"))]
pub(super) const X86_64: Architecture = Architecture {
    audit: 0xC000_003E,
    foreign_from: Some(0x4000_0000),
    number: |call| call.x86_64,
};
/// aarch64. Its 32-bit programs make calls of another architecture; there is no second table.
#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const AARCH64: Architecture =
    Architecture { audit: 0xC000_00B7, foreign_from: None, number: |call| call.aarch64 };

/// The one that is compiled for.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Architecture = X86_64;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Architecture = AARCH64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the sandbox has no table of system calls for this architecture");

/// Rows of `name x86-64 aarch64`: `_` where the architecture has no such call, `(number)` where
/// `libc` does not know it and the number comes from the kernel's own table.
macro_rules! calls {
    ($($name:ident $x86:tt $arm:tt),* $(,)?) => {
        &[$($crate::sandbox::syscall_numbers::call!($name $x86 $arm)),*]
    };
}
/// One row.
macro_rules! call {
    ($name:ident $x86:tt $arm:tt) => {{
        #[cfg(target_arch = "x86_64")]
        const { $crate::sandbox::syscall_numbers::agrees!($name $x86) };
        #[cfg(target_arch = "aarch64")]
        const { $crate::sandbox::syscall_numbers::agrees!($name $arm) };
        $crate::sandbox::syscall_numbers::Call {
            name: stringify!($name),
            x86_64: $crate::sandbox::syscall_numbers::number!($x86),
            aarch64: $crate::sandbox::syscall_numbers::number!($arm),
        }
    }};
}
macro_rules! number {
    (_) => {
        None
    };
    (($number:literal)) => {
        Some($number)
    };
    ($number:literal) => {
        Some($number)
    };
}
macro_rules! agrees {
    ($name:ident $number:literal) => {
        assert!(libc::$name == $number, "not the number that libc knows")
    };
    ($name:ident $other:tt) => {
        ()
    };
}
pub(super) use {agrees, call, calls, number};

pub(super) const CLONE: Call = call!(SYS_clone 56 220);
pub(super) const CLONE3: Call = call!(SYS_clone3 435 435);
pub(super) const MEMFD_CREATE: Call = call!(SYS_memfd_create 319 279);
pub(super) const IOPRIO_SET: Call = call!(SYS_ioprio_set 251 30);
pub(super) const PRLIMIT64: Call = call!(SYS_prlimit64 302 261);
pub(super) const SCHED_SETAFFINITY: Call = call!(SYS_sched_setaffinity 203 122);
pub(super) const SCHED_SETATTR: Call = call!(SYS_sched_setattr 314 274);
pub(super) const SCHED_SETPARAM: Call = call!(SYS_sched_setparam 142 118);
pub(super) const SCHED_SETSCHEDULER: Call = call!(SYS_sched_setscheduler 144 119);
pub(super) const SETPRIORITY: Call = call!(SYS_setpriority 141 140);
pub(super) const IOCTL: Call = call!(SYS_ioctl 16 29);
pub(super) const SHMGET: Call = call!(SYS_shmget 29 194);
pub(super) const SOCKET: Call = call!(SYS_socket 41 198);
pub(super) const SOCKETPAIR: Call = call!(SYS_socketpair 53 199);
