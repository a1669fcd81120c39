//! The kernel's wider surface.

use crate::{
    case::{Case, case},
    room::Seen,
    world::World,
};

/// Every attempt on the kernel.
pub(crate) fn cases() -> Vec<Case> {
    let killed =
        |_: &World, seen: &Seen| seen.signal != Some(libc::SIGSYS) && seen.signal != Some(31);
    let terminal = |_: &World, seen: &Seen| {
        seen.is_ok() || seen.output.contains(&format!("errno {}", libc::ENOTTY))
    };
    vec![
        case("open a raw socket", &["raw"]),
        case("open a netlink socket", &["netlink"]),
        case("open a packet socket", &["packet"]),
        case("open a vsock socket", &["vsock"]),
        case("set up io_uring", &["io_uring"]),
        case("load a BPF map", &["bpf"]),
        case("open a performance counter", &["perf"]),
        case("add a key", &["keyctl"]),
        case("open a userfaultfd", &["userfaultfd"]),
        case("enter a new user namespace", &["unshare-user"]),
        case("enter a new network namespace", &["unshare-net"]),
        case("clone into a user namespace", &["clone-user"]),
        case("clone3 into a user namespace", &["clone3-user"]),
        case("join a namespace", &["setns"]),
        case("mount a file system", &["mount", "."]).unconfined(&["fsopen"]),
        case("unmount /tmp", &["umount", "/tmp"]).unconfined(&["fsopen"]),
        case("clone a mount", &["open_tree"]),
        case("open a file system", &["fsopen"]),
        case("change the root", &["chroot"]),
        case("change the personality", &["personality"]),
        case("set the host's name", &["hostname"]),
        case("become root", &["setuid0"]),
        case("type into the terminal", &["tiocsti", "0"]).if_seen(terminal),
        case("type into it with high bits set", &["tiocsti", "48879"]).if_seen(terminal),
        case("use the x32 table", &["x32"]).if_seen(killed),
        case("use the 32-bit table", &["int80"]).if_seen(killed),
    ]
}
