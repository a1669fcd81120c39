//! Other processes, sockets of the machine, and what is left after a call.

use std::{fs, time::Duration};

use crate::{
    case::{Case, case},
    world::World,
};

/// How long a left-over process waits before it shows itself.
const LATER_MS: u64 = 400;
/// How much later than that it may come.
const LATE_MS: u64 = 2_500;
/// How often it is looked for.
const LOOK_MS: u64 = 20;

/// `VICTIM` stands for the number of a process outside that is alive at that moment.
fn kills(name: &'static str, probe: &str) -> Case {
    case(name, &[probe, "VICTIM"]).if_seen(|world, _| world.is_victim_dead())
}

/// Every attempt on processes and sockets.
pub(crate) fn cases(world: &World) -> Vec<Case> {
    let victim = world.victim().to_string();
    let victim = victim.as_str();
    let proc = |name: &str| format!("/proc/{victim}/{name}");
    let tcp = world.tcp.local_addr().unwrap().port().to_string();
    let udp = world.udp.local_addr().unwrap().port().to_string();
    let knocked = |case: Case| {
        case.if_seen(|world, _| world.knocked()).reset(|world| while world.knocked() {})
    };
    let left = world.at("left");
    let later = LATER_MS.to_string();
    vec![
        case("read a process's environment", &["read", &proc("environ")]).if_leaks(),
        case("read a process's command line", &["read", &proc("cmdline")]),
        case("read the memory map of a process", &["read", &proc("maps")]),
        case("trace a process", &["ptrace", victim]),
        case("take a descriptor of a process", &["pidfd_getfd", victim]),
        case("lower a process's priority", &["priority", victim])
            .if_seen(|world, _| world.victims_nice() == 19),
        case("bind a process to one core", &["sched", victim]),
        case("lower a process's limits", &["prlimit", victim]).control_as_tool(),
        case("see other processes", &["see-all"]).if_seen(|_, seen| seen.number("seen") > 3),
        knocked(case("connect over TCP", &["tcp", &tcp])),
        knocked(case("send over UDP", &["udp", &udp])),
        knocked(case("connect to a socket file", &["unix", &world.at("socket")])),
        knocked(case("connect to an abstract socket", &["abstract", &world.hidden_name])),
        case("leave a process behind", &["double-fork", &left, &later])
            .if_seen(|world, _| {
                // As long for the one that is free as for the confined one: on a busy machine the
                // orphan comes late, and must not be missed.
                for _ in 0..(LATER_MS + LATE_MS) / LOOK_MS {
                    if world.path("left").exists() {
                        return true;
                    }
                    std::thread::sleep(Duration::from_millis(LOOK_MS));
                }
                false
            })
            .reset(|world| drop(fs::remove_file(world.path("left")))),
        kills("kill a process", "kill"),
        kills("kill a process by a thread's signal", "signal-as-thread"),
        kills("kill a process by a descriptor", "pidfd-kill"),
    ]
}
