//! The compiled program is run by a small interpreter over whole ranges of calls.

use super::*;

/// Runs the program as the kernel would.
fn verdict(program: &BpfProgram, arch: u32, number: u32, args: [u64; 2]) -> u32 {
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
                    other => panic!("loads offset {other}"),
                };
                at + 1
            }
            JUMP_EQUAL => jump(value == step.k),
            JUMP_AT_LEAST => jump(value >= step.k),
            JUMP_ANY_BIT => jump(value & step.k != 0),
            RETURN => return step.k,
            other => panic!("unknown instruction {other:#x}"),
        };
    }
}

/// The half that the filter looks at.
fn low(argument: u64) -> u32 {
    u32::try_from(argument & 0xffff_ffff).unwrap()
}

fn native(call: libc::c_long, args: [u64; 2]) -> u32 {
    verdict(&compile(true), AUDIT_ARCH, u32::try_from(call).unwrap(), args)
}

#[test]
fn every_listed_call_gets_its_lists_answer_and_every_other_is_unknown() {
    let program = compile(true);
    assert!(program.len() < 4_096, "the kernel's bound");
    let listed = |n: u32, calls: &[libc::c_long]| calls.contains(&libc::c_long::from(n));
    let special = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_ioctl,
        libc::SYS_socket,
        libc::SYS_socketpair,
    ];
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
        assert_eq!(verdict(&program, AUDIT_ARCH, number, [0, 0]), expected, "call {number}");
    }
}

#[test]
fn no_call_is_in_two_lists_and_every_list_has_a_reason() {
    let mut seen = std::collections::BTreeSet::new();
    for group in ALLOWED {
        assert!(group.reason.len() > 20 || !group.calls.is_empty());
        assert!(group.calls.iter().all(|c| seen.insert(*c)), "{}", group.reason);
    }
    for refusal in REFUSED {
        assert!(refusal.reason.len() > 10);
        assert!(refusal.calls.iter().all(|c| seen.insert(*c)), "{}", refusal.reason);
    }
}

#[test]
fn x32_and_other_architectures_kill() {
    let program = compile(true);
    assert_eq!(verdict(&program, AUDIT_ARCH, X32_BIT | 1, [0, 0]), RETURN_KILL);
    assert_eq!(verdict(&program, 0x4000_0003, 1, [0, 0]), RETURN_KILL);
    assert_eq!(verdict(&program, AUDIT_ARCH, 1, [0, 0]), RETURN_ALLOW);
}

#[test]
fn a_fork_is_let_through_and_a_namespace_is_not() {
    assert_eq!(
        native(libc::SYS_clone, [u64::from(libc::SIGCHLD.cast_unsigned()), 0]),
        RETURN_ALLOW
    );
    assert_eq!(native(libc::SYS_clone3, [0, 0]), errno(libc::ENOSYS));
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_PTRACE] {
        assert_eq!(
            native(libc::SYS_clone, [u64::from(flag.cast_unsigned()), 0]),
            errno(libc::EPERM),
            "{flag:#x}"
        );
    }
}

#[test]
fn only_unix_sockets_can_be_made() {
    assert_eq!(
        native(libc::SYS_socket, [u64::from(libc::AF_UNIX.cast_unsigned()), 0]),
        RETURN_ALLOW
    );
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK]
    {
        assert_eq!(
            native(libc::SYS_socket, [u64::from(family.cast_unsigned()), 0]),
            errno(libc::EAFNOSUPPORT)
        );
    }
}

#[test]
fn terminal_injection_is_refused_whatever_the_high_bits_say() {
    assert_eq!(native(libc::SYS_ioctl, [0, 0x5401]), RETURN_ALLOW);
    for request in [0x5412, 0x541C, 0xdead_0000_5412] {
        assert_eq!(native(libc::SYS_ioctl, [0, request]), errno(libc::EPERM));
    }
}
