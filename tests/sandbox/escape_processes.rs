//! Attempts on other processes, the network, the kernel and the machine's resources.

use std::{
    cell::RefCell,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    process::Child,
    rc::Rc,
};

use agent_runtime::{
    domain::ToolLimits,
    sandbox::{self, End},
};

use crate::{
    attempt::{Seen, attempt, is_root, judge},
    support::{Lab, good, text},
};

const SECRET: &str = "a-secret-in-an-environment";

/// A process outside that tools must not reach. It has the tools' uid, so that not the uid alone
/// protects it.
fn victim() -> Child {
    #[expect(clippy::disallowed_methods, reason = "a process outside of the sandbox")]
    let mut command = std::process::Command::new("/bin/sleep");
    command.arg("600").env("VICTIM", SECRET);
    if is_root() {
        command.uid(sandbox::TOOL_UID).gid(sandbox::TOOL_UID);
    }
    command.spawn().unwrap()
}

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn other_processes_are_neither_seen_nor_touched() {
    let lab = Lab::new().await;
    // A number that cannot be one of the sandbox's own.
    let target = Rc::new(RefCell::new(Guard(victim())));
    let pid = target.borrow().0.id().to_string();
    assert!(pid.parse::<u32>().unwrap() > 100);
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let leaks = |seen: &Seen| seen.output.contains(SECRET);
    let daemon = std::process::id();
    let attempts = vec![
        attempt("read a process's environment", &[&"read", &proc("environ")]).if_seen(leaks),
        attempt("read a process's command line", &[&"read", &proc("cmdline")]),
        attempt("read through a process's root", &[&"read", &proc("root/etc/fstab")]),
        attempt("read the daemon's status", &[&"read", &format!("/proc/{daemon}/status")]),
        attempt("see other processes", &[&"see-all"]).if_seen(|seen| seen.number("seen") > 2),
        attempt("trace a process", &[&"ptrace", &pid]),
        attempt("take a descriptor of a process", &[&"pidfd_getfd", &pid]),
        attempt("lower a process's priority", &[&"priority", &pid]),
        attempt("kill a process", &[&"kill", &pid]).if_seen({
            let target = Rc::clone(&target);
            move |_| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                target.borrow_mut().0.try_wait().unwrap().is_some()
            }
        }),
    ];
    judge(&lab, attempts).await;
}

#[tokio::test]
async fn pid_1_and_the_sandbox_itself_cannot_be_turned() {
    let lab = Lab::new().await;
    let script = "exec 2>&1; kill -9 1; kill -9 -1; cat /proc/1/environ /proc/1/mem /proc/1/maps; \
                  ls -l /proc/1/root /proc/1/fd; echo still here";
    let output = text(&lab.sh(script).await);
    assert!(output.ends_with("still here\n"), "{output}");
    for forbidden in ["socket:", "lock", "->"] {
        assert!(!output.contains(forbidden), "{output}");
    }
}

#[tokio::test]
async fn a_descriptor_that_the_daemon_leaks_does_not_reach_a_tool() {
    // Before the helper starts, so that it would inherit it.
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("leaked");
    std::fs::write(&path, SECRET).unwrap();
    let leaked = std::fs::File::open(&path).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let lab = Lab::new().await;
    let attempts = vec![
        attempt("find an inherited descriptor", &[&"fds"])
            .if_seen(|seen| seen.output.contains(SECRET)),
    ];
    judge(&lab, attempts).await;
    let fds = good(lab.sh("ls /proc/self/fd").await);
    assert_eq!(fds, "0\n1\n2\n3\n", "3 is the directory that ls reads");
}

#[tokio::test]
async fn nothing_is_reachable_over_any_socket() {
    let lab = Lab::new().await;
    std::fs::set_permissions(lab.base.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let tcp = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    tcp.set_nonblocking(true).unwrap();
    let udp = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    udp.set_nonblocking(true).unwrap();
    let path = lab.base.path().join("daemon.sock");
    let unix = Rc::new(UnixListener::bind(&path).unwrap());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    unix.set_nonblocking(true).unwrap();
    let name = format!("agent-runtime-escape-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let hidden = Rc::new(UnixListener::bind_addr(&address).unwrap());
    hidden.set_nonblocking(true).unwrap();
    let tcp_port = tcp.local_addr().unwrap().port().to_string();
    let udp_port = udp.local_addr().unwrap().port().to_string();
    let accepts = |listener: &Rc<UnixListener>| {
        let listener = Rc::clone(listener);
        move |_: &Seen| listener.accept().is_ok()
    };
    let attempts = vec![
        attempt("connect over TCP", &[&"tcp", &tcp_port]).if_seen(move |_| tcp.accept().is_ok()),
        attempt("send over UDP", &[&"udp", &udp_port])
            .if_seen(move |_| udp.recv_from(&mut [0; 8]).is_ok()),
        attempt("connect to a socket file", &[&"unix", &path]).if_seen(accepts(&unix)),
        attempt("connect to an abstract socket", &[&"abstract", &name]).if_seen(accepts(&hidden)),
        attempt("open a raw socket", &[&"raw"]).needs_root(),
        attempt("open a netlink socket", &[&"netlink"]),
        attempt("open a packet socket", &[&"packet"]).needs_root(),
        attempt("open a vsock socket", &[&"vsock"]),
    ];
    judge(&lab, attempts).await;
    let devices = good(lab.sh("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '").await);
    assert_eq!(devices, "lo\n", "no device but a loopback that is down");
}

#[tokio::test]
async fn the_kernels_wider_surface_is_closed() {
    let lab = Lab::new().await;
    let here = lab.workspace.clone();
    let attempts = vec![
        attempt("set up io_uring", &[&"io_uring"]),
        attempt("load a BPF map", &[&"bpf"]).needs_root(),
        attempt("open a performance counter", &[&"perf"]).needs_root(),
        attempt("add a key", &[&"keyctl"]),
        attempt("open a userfaultfd", &[&"userfaultfd"]).needs_root(),
        attempt("enter a new user namespace", &[&"unshare-user"]),
        attempt("enter a new network namespace", &[&"unshare-net"]),
        attempt("clone into a user namespace", &[&"clone-user"]),
        attempt("clone3 into a user namespace", &[&"clone3-user"]),
        attempt("join a namespace", &[&"setns"]).needs_root(),
        attempt("mount a file system", &[&"mount", &here])
            .needs_root()
            .after(|| {})
            .unconfined(&[&"fsopen"]),
        attempt("unmount /tmp", &[&"umount", &"/tmp"]).needs_root().unconfined(&[&"fsopen"]),
        attempt("clone a mount", &[&"open_tree"]).needs_root(),
        attempt("open a file system", &[&"fsopen"]).needs_root(),
        attempt("change the root", &[&"chroot"]).needs_root(),
        attempt("change the personality", &[&"personality"]),
        attempt("set the host's name", &[&"hostname"]).needs_root(),
        // The call reaches the kernel without the sandbox: no terminal there, hence ENOTTY.
        attempt("type into the terminal", &[&"tiocsti", &"0"]).if_seen(reaches_the_terminal),
        attempt("type into it with high bits set", &[&"tiocsti", &"48879"])
            .if_seen(reaches_the_terminal),
        attempt("use the x32 table", &[&"x32"]).if_seen(|seen| seen.signal != Some(libc::SIGSYS)),
        attempt("use the 32-bit table", &[&"int80"])
            .if_seen(|seen| seen.signal != Some(libc::SIGSYS)),
    ];
    judge(&lab, attempts).await;
}

fn reaches_the_terminal(seen: &Seen) -> bool {
    seen.is_ok() || seen.output.contains(&format!("errno {}", libc::ENOTTY))
}

#[tokio::test]
async fn resources_are_bounded() {
    let lab = Lab::new().await;
    let with = |change: fn(&mut ToolLimits)| {
        let mut grant = lab.grant();
        change(&mut grant.limits);
        grant
    };
    let bomb = lab.base.path().join("bomb");
    let inodes = lab.base.path().join("inodes");
    std::fs::create_dir(&inodes).unwrap();
    let attempts = vec![
        attempt("start 300 processes", &[&"fork-bomb", &"300"])
            .if_seen(|seen| seen.number("made") > 50)
            .under(with(|l| l.processes = 50)),
        attempt("take 512 MiB of memory", &[&"memory-bomb", &"512"])
            .if_seen(|seen| seen.number("got") >= 256)
            .under(with(|l| l.memory_bytes = 256 << 20)),
        attempt("fill /tmp", &[&"disk-bomb", &"40", &"/tmp/bomb"])
            .unconfined(&[&"disk-bomb", &"40", &bomb])
            .if_seen(|seen| seen.number("got") > 16)
            .under(with(|l| l.tmp_bytes = 16 << 20)),
        attempt("fill /dev/shm", &[&"disk-bomb", &"40", &"/dev/shm/bomb"])
            .unconfined(&[&"disk-bomb", &"40", &bomb])
            .if_seen(|seen| seen.number("got") > 16)
            .under(with(|l| l.tmp_bytes = 16 << 20)),
        attempt("make 2,000 files in /tmp", &[&"inode-bomb", &"2000", &"/tmp"])
            .unconfined(&[&"inode-bomb", &"2000", &inodes])
            .if_seen(|seen| seen.number("got") > 1_000)
            .under(with(|l| l.tmp_inodes = 1_000)),
        attempt("write a large file", &[&"disk-bomb", &"40", &lab.workspace.join("large")])
            .unconfined(&[&"disk-bomb", &"40", &bomb])
            .if_seen(|seen| seen.number("got") > 8)
            .under(with(|l| l.file_bytes = 8 << 20)),
        attempt("open 500 files", &[&"fd-bomb", &"500"])
            .if_seen(|seen| seen.number("got") > 64)
            .under(with(|l| l.open_files = 64)),
    ];
    judge(&lab, attempts).await;
    // The processes of a bomb are gone with the call, and the next call works.
    let bombed = lab.sh(":(){ :|:& };: ; sleep 0.3; exit 0").await;
    assert!(matches!(bombed.end, End::Exited(_)), "{bombed:?}");
    assert_eq!(good(lab.sh("echo fine").await), "fine\n");
}

#[tokio::test]
async fn the_process_is_as_bare_as_it_should_be() {
    // Layers that stand behind others: no attempt shows them missing while the first one holds.
    let lab = Lab::new().await;
    let status = good(lab.sh("cat /proc/self/status").await);
    let field = |name: &str| {
        status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    if is_root() {
        // Another user cannot give up its groups; docs/SANDBOX.md says so.
        assert_eq!(field("Groups:"), "", "a group of the daemon's is left");
    }
    let mounts = good(lab.sh("cat /proc/self/mounts").await);
    let options = |path: &str| {
        let mut fields = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
        let found = fields.find(|f| f.get(1) == Some(&path)).unwrap();
        found[3].split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let workspace = lab.workspace.to_str().unwrap().to_owned();
    for (path, wanted) in [
        ("/", &["ro", "nosuid", "nodev"][..]),
        ("/usr", &["ro", "nosuid", "nodev"]),
        ("/proc", &["nosuid", "nodev", "noexec"]),
        ("/tmp", &["rw", "nosuid", "nodev"]),
        ("/dev/null", &["nosuid", "noexec"]),
        (workspace.as_str(), &["rw", "nosuid", "nodev"]),
    ] {
        let options = options(path);
        assert!(wanted.iter().all(|w| options.iter().any(|o| o == w)), "{path}: {options:?}");
    }
    let own = good(lab.sh("cut -d' ' -f1,6 /proc/$$/stat; cat /proc/$$/oom_score_adj").await);
    assert_eq!(own, "2 2\n1000\n", "leads its own session, goes first when memory is out");
    assert_eq!(
        good(lab.sh("hostname 2>/dev/null || cat /proc/sys/kernel/hostname").await),
        "sandbox\n"
    );
}

#[tokio::test]
async fn a_link_in_a_workspace_directs_no_mount() {
    let lab = Lab::new().await;
    let tree = lab.base.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let target = lab.workspace.join("vendor");
    let grant = || {
        let mut grant = lab.grant();
        grant.paths = vec![crate::support::allow(&target, agent_runtime::domain::Access::Ro)];
        grant
    };
    // The control: a directory is mounted over itself, read-only.
    std::fs::create_dir(&target).unwrap();
    let script = ["sh", "-c", "ls vendor && ! mkdir vendor/x"];
    good(lab.run_job(crate::support::job(grant(), &script)).await.unwrap());
    std::fs::remove_dir(&target).unwrap();
    std::os::unix::fs::symlink("/etc", &target).unwrap();
    let refused = lab.run_job(crate::support::job(grant(), &script)).await;
    assert!(matches!(refused, Err(sandbox::SandboxError::Setup { .. })), "{refused:?}");
}

#[tokio::test]
async fn landlock_stands_where_the_mounts_would_let_through() {
    // The node is writable by its mode and by its mount: only the Landlock rule refuses.
    let lab = Lab::new().await;
    let script =
        "echo x > /dev/null && echo null; (echo x > /dev/urandom) 2>/dev/null && echo BAD; true";
    assert_eq!(good(lab.sh(script).await), "null\n");
    std::fs::OpenOptions::new().write(true).open("/dev/urandom").unwrap();
}
