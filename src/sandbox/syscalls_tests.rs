//! The compiled program is run by a small interpreter over whole ranges of calls.

use super::*;
use crate::sandbox::syscall_numbers::{AARCH64, X86_64};

/// Runs the program as the kernel would.
fn verdict(program: &BpfProgram, arch: u32, number: u32, args: [u64; 3]) -> u32 {
    let (mut at, mut value) = (0_usize, 0_u32);
    loop {
        let step = &program[at];
        let jump = |taken: bool| at + 1 + usize::from(if taken { step.jt } else { step.jf });
        at = match step.code {
            LOAD => {
                value = match step.k {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCH => arch,
                    OFFSET_ARG0_LOW => low(args[0]),
                    OFFSET_ARG1_LOW => low(args[1]),
                    OFFSET_ARG1_HIGH => u32::try_from(args[1] >> 32).unwrap(),
                    OFFSET_ARG2_LOW => low(args[2]),
                    other => panic!("loads offset {other}"),
                };
                at + 1
            }
            JUMP_EQUAL => jump(value == step.k),
            JUMP_AT_LEAST => jump(value >= step.k),
            JUMP_ANY_BIT => jump(value & step.k != 0),
            AND => {
                value &= step.k;
                at + 1
            }
            RETURN => return step.k,
            other => panic!("unknown instruction {other:#x}"),
        };
    }
}

/// The half that the filter looks at.
fn low(argument: u64) -> u32 {
    u32::try_from(argument & 0xffff_ffff).unwrap()
}

/// The program of every architecture is interpreted, whichever one this is.
const ARCHITECTURES: [Architecture; 2] = [X86_64, AARCH64];

/// The answer to a call on every architecture, which must be the same.
fn everywhere(call: &Call, args: [u64; 3]) -> u32 {
    let answers = ARCHITECTURES.map(|a| {
        verdict(
            &whole_for(&a, Sockets::Unix),
            a.audit,
            a.number(call).expect("a call of both"),
            args,
        )
    });
    assert_eq!(answers[0], answers[1], "{}", call.name);
    answers[0]
}

#[test]
fn every_listed_call_gets_its_lists_answer_and_every_other_is_unknown() {
    let special = [CLONE, CLONE3, IOCTL, MEMFD_CREATE, SHMGET, SOCKET, SOCKETPAIR];
    for architecture in ARCHITECTURES {
        let program = whole_for(&architecture, Sockets::Unix);
        assert!(program.len() < 4_096, "the kernel's bound");
        let listed = |number, calls: &[Call]| {
            calls.iter().any(|call| architecture.number(call) == Some(number))
        };
        for number in 0..1_000 {
            if listed(number, &special) {
                continue;
            }
            let expected = if ALLOWED.iter().any(|g| listed(number, g.calls)) {
                RETURN_ALLOW
            } else if REFUSED.iter().any(|r| listed(number, r.calls)) {
                errno(libc::EPERM)
            } else {
                errno(libc::ENOSYS)
            };
            let answer = verdict(&program, architecture.audit, number, [0; 3]);
            assert_eq!(answer, expected, "call {number} of {:#x}", architecture.audit);
        }
    }
}

/// What the kernel makes of two programs: the stricter action, of equal ones that of the program
/// that was applied later.
fn of_both(earlier: u32, later: u32) -> u32 {
    let action = |answer: u32| (answer & 0xffff_0000).cast_signed();
    if action(earlier) < action(later) { earlier } else { later }
}

#[test]
fn the_two_parts_together_answer_as_the_whole_and_the_first_lets_a_sandbox_be_built() {
    assert_eq!(of_both(errno(1), errno(2)), errno(2));
    assert_eq!(of_both(errno(1), RETURN_ALLOW), errno(1));
    assert_eq!(of_both(RETURN_ALLOW, errno(1)), errno(1));
    assert_eq!(of_both(RETURN_KILL, errno(1)), RETURN_KILL);
    let number = |n: i32| u64::from(n.cast_unsigned());
    let first = [0, 1, 2, 10, 16, 4_711, number(libc::CLONE_NEWPID), number(libc::CLONE_PTRACE)];
    let second = [0, 1, 2, 3, 4, 4_096, 4_097, 0x5412, 0x541C, 1 << 32, (1 << 32) + 56];
    let third = [0, 6, 17, 262];
    for architecture in ARCHITECTURES {
        let base = base_for(&architecture);
        let by_argument: Vec<_> = BY_ARGUMENT
            .iter()
            .chain(&[PRLIMIT64, SCHED_SETAFFINITY, SCHED_SETATTR, SCHED_SETPARAM])
            .chain(&[SCHED_SETSCHEDULER, SETPRIORITY, IOPRIO_SET])
            .filter_map(|call| architecture.number(call))
            .collect();
        for sockets in [Sockets::Pairs, Sockets::Unix, Sockets::Internet] {
            let rest = rest_for(&architecture, sockets);
            let whole = whole_for(&architecture, sockets);
            assert!(rest.len() < 150, "it is applied by each call: {}", rest.len());
            let same = |arch, call, args| {
                let ask = |program| verdict(program, arch, call, args);
                let together = of_both(ask(&base), ask(&rest));
                assert_eq!(together, ask(&whole), "{call} {args:?} of {arch:#x}");
            };
            for call in (0..1_000).chain([0x4000_0001, u32::MAX]) {
                for arch in [X86_64.audit, AARCH64.audit, 0x4000_0003] {
                    same(arch, call, [0; 3]);
                    same(arch, call, [u64::MAX; 3]);
                }
            }
            for call in &by_argument {
                for a in first {
                    for b in second {
                        for c in third {
                            same(architecture.audit, *call, [a, b, c]);
                        }
                    }
                }
            }
        }
        for call in BUILDING.iter().chain([&CLONE3, &CLONE, &SOCKET]) {
            let number = architecture.number(call).unwrap();
            let args = [u64::MAX; 3];
            assert_eq!(verdict(&base, architecture.audit, number, args), RETURN_ALLOW);
        }
    }
}

#[test]
fn no_call_is_in_two_lists_and_every_list_has_a_reason() {
    let lists = ALLOWED
        .iter()
        .map(|g| (g.reason, g.calls))
        .chain(REFUSED.iter().map(|r| (r.reason, r.calls)));
    let mut names = std::collections::BTreeSet::new();
    let mut numbers = std::collections::BTreeSet::new();
    for (reason, calls) in lists {
        assert!(reason.len() > 10 && !calls.is_empty(), "{reason}");
        for call in calls {
            assert!(names.insert(call.name), "{} is listed twice", call.name);
            let places = ARCHITECTURES.map(|a| a.number(call).map(|n| (a.audit, n)));
            assert!(places.iter().any(Option::is_some), "{} is nowhere", call.name);
            for place in places.into_iter().flatten() {
                assert!(numbers.insert(place), "{} has another call's number", call.name);
            }
        }
    }
}

#[test]
fn aarch64_has_none_of_the_old_calls_and_every_modern_one() {
    let allowed: Vec<&Call> = ALLOWED.iter().flat_map(|g| g.calls).collect();
    let call = |name: &str| **allowed.iter().find(|c| c.name == name).unwrap();
    for old in ["SYS_open", "SYS_fork", "SYS_vfork", "SYS_stat", "SYS_dup2", "SYS_pipe"] {
        assert_eq!(call(old).aarch64, None, "{old}");
    }
    // The kernel's table: include/uapi/asm-generic/unistd.h.
    for (modern, number) in
        [("SYS_openat", 56), ("SYS_execve", 221), ("SYS_mmap", 222), ("SYS_renameat", 38)]
    {
        assert_eq!(call(modern).aarch64, Some(number), "{modern}");
    }
    assert!(REFUSED.iter().flat_map(|r| r.calls).all(|c| c.aarch64.is_some()));
}

#[test]
fn x32_and_other_architectures_kill() {
    const X32_BIT: u32 = 0x4000_0000;
    let program = whole_for(&X86_64, Sockets::Unix);
    assert_eq!(verdict(&program, X86_64.audit, X32_BIT | 1, [0; 3]), RETURN_KILL);
    assert_eq!(verdict(&program, X86_64.audit, 1, [0; 3]), RETURN_ALLOW);
    // i386, 32-bit ARM, and each other.
    for foreign in [0x4000_0003, 0x4000_0028, AARCH64.audit] {
        assert_eq!(verdict(&program, foreign, 1, [0; 3]), RETURN_KILL, "{foreign:#x}");
    }
    let program = whole_for(&AARCH64, Sockets::Unix);
    for foreign in [0x4000_0003, 0x4000_0028, X86_64.audit] {
        assert_eq!(verdict(&program, foreign, 64, [0; 3]), RETURN_KILL, "{foreign:#x}");
    }
    assert_eq!(verdict(&program, AARCH64.audit, 64, [0; 3]), RETURN_ALLOW);
}

#[test]
fn a_fork_is_let_through_and_a_namespace_is_not() {
    assert_eq!(everywhere(&CLONE, [u64::from(libc::SIGCHLD.cast_unsigned()), 0, 0]), RETURN_ALLOW);
    assert_eq!(everywhere(&CLONE3, [0; 3]), errno(libc::ENOSYS));
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_PTRACE] {
        assert_eq!(
            everywhere(&CLONE, [u64::from(flag.cast_unsigned()), 0, 0]),
            errno(libc::EPERM),
            "{flag:#x}"
        );
    }
}

#[test]
fn only_unix_sockets_can_be_made() {
    assert_eq!(everywhere(&SOCKET, [u64::from(libc::AF_UNIX.cast_unsigned()), 0, 0]), RETURN_ALLOW);
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK]
    {
        assert_eq!(
            everywhere(&SOCKET, [u64::from(family.cast_unsigned()), 0, 0]),
            errno(libc::EAFNOSUPPORT)
        );
    }
}

#[test]
fn with_listeners_tcp_and_udp_can_be_made_and_nothing_else() {
    let number = |n: i32| u64::from(n.cast_unsigned());
    let socket = |sockets, family: i32, kind: i32, protocol: i32| {
        let args = [number(family), number(kind), number(protocol)];
        let program = whole_for(&X86_64, sockets);
        verdict(&program, X86_64.audit, X86_64.number(&SOCKET).unwrap(), args)
    };
    let online = |family, kind, protocol| socket(Sockets::Internet, family, kind, protocol);
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            assert_eq!(online(family, kind | libc::SOCK_CLOEXEC, 0), RETURN_ALLOW);
        }
        assert_eq!(online(family, libc::SOCK_STREAM, libc::IPPROTO_TCP), RETURN_ALLOW);
        assert_eq!(online(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP), RETURN_ALLOW);
        for protocol in [libc::IPPROTO_ICMP, libc::IPPROTO_SCTP, 256, 262] {
            assert_eq!(online(family, libc::SOCK_STREAM, protocol), errno(libc::EPERM));
        }
        for kind in [libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK] {
            assert_eq!(online(family, kind, 0), errno(libc::EPERM));
        }
    }
    assert_eq!(online(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0), RETURN_ALLOW);
    for family in [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_UNSPEC] {
        assert_eq!(online(family, libc::SOCK_RAW, 0), errno(libc::EAFNOSUPPORT));
    }
    for family in [libc::AF_UNIX, libc::AF_INET] {
        let answer = socket(Sockets::Pairs, family, libc::SOCK_STREAM, 0);
        assert_eq!(answer, errno(libc::EAFNOSUPPORT));
    }
}

#[test]
fn terminal_injection_is_refused_whatever_the_high_bits_say() {
    assert_eq!(everywhere(&IOCTL, [0, 0x5401, 0]), RETURN_ALLOW);
    for request in [0x5412, 0x541C, 0xdead_0000_5412] {
        assert_eq!(everywhere(&IOCTL, [0, request, 0]), errno(libc::EPERM));
    }
}

/// Lets the sandbox be built inside a container; docs/SANDBOX.md says how.
#[test]
fn the_shipped_profile_lets_through_what_tools_may_call_and_what_builds_a_sandbox() {
    let profile = include_str!("../../ops/seccomp/agent-runtime.json");
    let profile: serde_json::Value = serde_json::from_str(profile).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let names = |group: usize| -> Vec<String> {
        let names = profile["syscalls"][group]["names"].as_array().unwrap().iter();
        names.map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let plain = |call: &Call| call.name.trim_start_matches("SYS_").to_owned();
    let mut listed: Vec<String> = ALLOWED.iter().flat_map(|g| g.calls).map(plain).collect();
    listed.sort();
    assert_eq!(names(0), listed);
    let by_argument = [CLONE, CLONE3, IOCTL, MEMFD_CREATE, SHMGET, SOCKET, SOCKETPAIR];
    assert_eq!(names(1), by_argument.iter().map(plain).collect::<Vec<_>>());
    // The rest is refused to tools by name.
    assert_eq!(names(2), BUILDING.iter().map(plain).collect::<Vec<_>>());
    let refused: Vec<&str> = REFUSED.iter().flat_map(|r| r.calls).map(|call| call.name).collect();
    assert!(BUILDING.iter().all(|call| refused.contains(&call.name)));
    assert_eq!(profile["syscalls"].as_array().unwrap().len(), 3);
}

#[test]
fn shared_memory_comes_in_small_pieces_only() {
    assert_eq!(everywhere(&SHMGET, [0, 56, 0]), RETURN_ALLOW);
    assert_eq!(everywhere(&SHMGET, [0, 4_096, 0]), RETURN_ALLOW);
    for size in [4_097, 1 << 30, 1 << 32, (1 << 32) + 56, u64::MAX] {
        assert_eq!(everywhere(&SHMGET, [0, size, 0]), errno(libc::EINVAL), "{size}");
    }
}

#[test]
fn where_other_processes_can_be_named_only_oneself_may_be_changed() {
    for architecture in ARCHITECTURES {
        let program = whole_for(&architecture, Sockets::Pairs);
        let answer = |call: &Call, args| {
            verdict(&program, architecture.audit, architecture.number(call).unwrap(), args)
        };
        let refused = errno(libc::EPERM);
        for call in
            [PRLIMIT64, SCHED_SETAFFINITY, SCHED_SETATTR, SCHED_SETPARAM, SCHED_SETSCHEDULER]
        {
            assert_eq!(answer(&call, [0, 7, 0]), RETURN_ALLOW, "{}", call.name);
            assert_eq!(answer(&call, [4711, 7, 0]), refused, "{}", call.name);
        }
        for (call, oneself) in [(SETPRIORITY, 0), (IOPRIO_SET, 1)] {
            assert_eq!(answer(&call, [oneself, 0, 0]), RETURN_ALLOW, "{}", call.name);
            assert_eq!(answer(&call, [oneself, 4711, 0]), refused, "{}", call.name);
            assert_eq!(answer(&call, [2, 0, 0]), refused, "{}: of a group or user", call.name);
        }
        // With namespaces of their own, tools may do as they like among themselves.
        let free = whole_for(&architecture, Sockets::Unix);
        let number = architecture.number(&PRLIMIT64).unwrap();
        assert_eq!(verdict(&free, architecture.audit, number, [4711, 7, 0]), RETURN_ALLOW);
    }
}
