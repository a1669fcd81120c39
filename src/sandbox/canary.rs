//! The level of confinement is decided by trying to get out, not by reading version numbers.
//!
//! Invariants: the attempts run in a real sandbox, after the whole sequence, as the tool would;
//! one that succeeds makes the level `none`. Those whose effect can be seen from outside are
//! judged there too. Each is harmless where nothing stops it, so that it can be made there as well
//! to show that it would work.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat},
    net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with},
    process::{Pid, WaitOptions, test_kill_process, waitpid},
};
use serde::{Deserialize, Serialize};

use super::sys::{self, ExecStrings, Forked, Probe, SingleThread};
use crate::domain::Confinement;

/// How long one connection attempt may take.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// How long a sibling stands by; it is killed when the canary is done.
const STAND_BY: Duration = Duration::from_secs(15);
/// Processes that a tool without children can see: pid 1 and itself.
const PROCESSES_SEEN: usize = 2;
/// World-readable files of every Linux machine that are not in the view.
const HOST_FILES: [&str; 4] =
    ["/etc/fstab", "/etc/machine-id", "/etc/resolv.conf", "/etc/hostname"];
/// What a program of a workspace is called here.
const OWN_PROGRAM: &str = "canary-program";

/// What the canary is told to reach for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    pub(super) outside_file: PathBuf,
    pub(super) unix_path: PathBuf,
    pub(super) tcp_port: u16,
    pub(super) udp_port: u16,
    pub(super) abstract_name: String,
    pub(super) daemon_pid: i32,
    /// A file in the `/tmp` of another sandbox, and an abstract socket there.
    pub(super) sibling_file: PathBuf,
    pub(super) sibling_name: String,
}

/// One attempt and whether it got through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) attempt: String,
    pub(super) has_escaped: bool,
}

// The attempts that Landlock cannot stop by itself.
const STAT: &str = "look at a file outside";
const CHMOD: &str = "change the mode of a file outside";
const UTIME: &str = "change the times of a file outside";
const SEE_DAEMON: &str = "tell whether the daemon runs";

/// What a level is known not to hold; docs/SANDBOX.md says so.
pub(super) const fn remainder(level: Confinement) -> &'static [&'static str] {
    match level {
        Confinement::Landlock => &[STAT, CHMOD, UTIME, SEE_DAEMON],
        Confinement::Full
        | Confinement::FullNoproc
        | Confinement::Docker
        | Confinement::Local
        | Confinement::None => &[],
    }
}

/// Things outside that a confined process must not reach. They stand while the canary runs.
#[derive(Debug)]
pub(super) struct Bait {
    tcp: TcpListener,
    udp: UdpSocket,
    hidden: UnixListener,
    named: UnixListener,
    attempts: Attempts,
}

/// What stands in the file outside.
const UNTOUCHED: &str = "untouched";

impl Bait {
    /// Puts the bait out.
    pub(super) fn new(directory: &Path) -> std::io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        tcp.set_nonblocking(true)?;
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        udp.set_nonblocking(true)?;
        let port = tcp.local_addr()?.port();
        let name = format!("agent-runtime-canary-{}-{port}", std::process::id());
        let hidden = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        hidden.set_nonblocking(true)?;
        // No mode stands in the way: only the confinement does.
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        };
        let unix_path = directory.join("outside.sock");
        std::fs::remove_file(&unix_path).ok();
        let named = UnixListener::bind(&unix_path)?;
        named.set_nonblocking(true)?;
        open(&unix_path, 0o666)?;
        let outside_file = directory.join("outside");
        std::fs::write(&outside_file, UNTOUCHED)?;
        open(&outside_file, 0o666)?;
        let attempts = Attempts {
            outside_file,
            unix_path,
            tcp_port: port,
            udp_port: udp.local_addr()?.port(),
            sibling_file: Path::new("/tmp").join(&name),
            sibling_name: format!("{name}-sibling"),
            abstract_name: name,
            daemon_pid: i32::try_from(std::process::id()).unwrap_or(0),
        };
        Ok(Self { tcp, udp, hidden, named, attempts })
    }

    pub(super) const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// What was touched, seen from outside.
    pub(super) fn touched(&self) -> Option<&'static str> {
        let file = std::fs::read_to_string(&self.attempts.outside_file);
        if self.tcp.accept().is_ok() {
            Some("a TCP connection arrived outside")
        } else if self.udp.recv_from(&mut [0; 8]).is_ok() {
            Some("a datagram arrived outside")
        } else if self.hidden.accept().is_ok() {
            Some("an abstract socket connection arrived outside")
        } else if self.named.accept().is_ok() {
            Some("a connection to a socket file arrived outside")
        } else if file.is_ok_and(|text| text != UNTOUCHED) {
            Some("a file outside was changed")
        } else {
            None
        }
    }
}

/// Plays the one whom the attempts must not reach, in another sandbox, until it is killed.
pub(super) fn stand_by(attempts: &Attempts) -> ! {
    // Where there is no private `/tmp` and no socket there is nothing to be reached either.
    let _sibling = Sibling::new(attempts);
    std::io::stdout().write_all(b"ready").ok();
    std::io::stdout().flush().ok();
    std::thread::sleep(STAND_BY);
    sys::exit_now(0)
}

/// The file and the socket of [`stand_by`].
#[derive(Debug)]
pub(super) struct Sibling {
    file: PathBuf,
    _listener: Option<UnixListener>,
}

impl Sibling {
    pub(super) fn new(attempts: &Attempts) -> Self {
        let file = attempts.sibling_file.clone();
        std::fs::write(&file, "a sibling's").ok();
        let address = UnixAddr::from_abstract_name(&attempts.sibling_name);
        let listener = address.and_then(|a| UnixListener::bind_addr(&a)).ok();
        Self { file, _listener: listener }
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).ok();
    }
}

/// Makes every attempt and writes the findings to standard output as JSON.
pub(super) fn try_everything(attempts: &Attempts, alone: &SingleThread) -> std::io::Result<()> {
    let outside = &attempts.outside_file;
    let mut findings = vec![
        found("read a file outside", std::fs::read(outside).is_ok()),
        found("write a file outside", can_overwrite(outside)),
        found(STAT, std::fs::symlink_metadata(outside).is_ok()),
        found(CHMOD, can_change_mode(outside)),
        found(UTIME, can_change_times(outside)),
        found("read the host's /etc", HOST_FILES.iter().any(|f| std::fs::read(f).is_ok())),
        found("write to /usr", can_create(Path::new("/usr/agent-runtime-canary"))),
        found("write to the root", can_create(Path::new("/agent-runtime-canary"))),
        found("write to /proc/sys", can_write_settings()),
        found("execute a file of the workspace", can_execute_own_file(alone)),
        found("make a file in memory", is_let_through(Probe::MemoryFile, alone)),
        found("connect over TCP", can_connect(attempts.tcp_port)),
        found("send over UDP", can_send(attempts.udp_port)),
        found("open a raw socket", can_open(AddressFamily::INET, SocketType::RAW)),
        found("open a netlink socket", can_open(AddressFamily::NETLINK, SocketType::RAW)),
        found("connect to an abstract socket", can_reach_abstract(&attempts.abstract_name)),
        found("connect to a socket file", UnixStream::connect(&attempts.unix_path).is_ok()),
        found("see other processes", sees_processes()),
        found(SEE_DAEMON, sees(attempts.daemon_pid)),
        found("signal the daemon", signals(attempts.daemon_pid)),
        found("read another sandbox's /tmp", std::fs::read(&attempts.sibling_file).is_ok()),
        found("connect to another sandbox", can_reach_abstract(&attempts.sibling_name)),
    ];
    for (name, probe) in [
        ("make a user namespace", Probe::NewUserNamespace),
        ("trace", Probe::Trace),
        ("bpf", Probe::Bpf),
        ("io_uring", Probe::IoUring),
        ("keyring", Probe::Keyring),
        ("type into a terminal", Probe::Terminal),
    ] {
        findings.push(found(name, is_let_through(probe, alone)));
    }
    if sys::HAS_OTHER_TABLE {
        findings.push(found("use the x32 table", survives_other_table(alone)));
    }
    serde_json::to_writer(std::io::stdout(), &findings)?;
    std::io::stdout().flush()
}

fn found(attempt: &str, has_escaped: bool) -> Found {
    Found { attempt: attempt.to_owned(), has_escaped }
}

/// Without creating: the private `/tmp` may hold a directory of the same name.
fn can_overwrite(path: &Path) -> bool {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.is_ok_and(|mut f| f.write_all(b"escaped").is_ok())
}

fn can_create(path: &Path) -> bool {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.is_ok_and(|_| std::fs::remove_file(path).is_ok())
}

fn can_change_mode(path: &Path) -> bool {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).is_ok()
}

fn can_change_times(path: &Path) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, path, &times, AtFlags::empty()).is_ok()
}

/// Sets the host's name to what it is.
fn can_write_settings() -> bool {
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read(path).unwrap_or_else(|_| b"sandbox".to_vec());
    std::fs::write(path, name).is_ok()
}

fn can_execute_own_file(alone: &SingleThread) -> bool {
    let made = std::fs::write(OWN_PROGRAM, "#!/bin/sh\nexit 0\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    if made.and_then(|()| std::fs::set_permissions(OWN_PROGRAM, mode)).is_err() {
        return false;
    }
    let done = in_child(alone, || {
        let argv = ExecStrings::new(vec![c"canary".to_owned()]);
        sys::execve(c"./canary-program", &argv, &ExecStrings::new(Vec::new()));
        false
    });
    std::fs::remove_file(OWN_PROGRAM).ok();
    done
}

/// Whether the filter lets a call of another table pass, which it must answer with death.
fn survives_other_table(alone: &SingleThread) -> bool {
    in_child(alone, || {
        sys::probe(Probe::OtherTable).ok();
        true
    })
}

/// Does something in a child; whether that said so or, having become a program, ended well.
fn in_child(alone: &SingleThread, act: impl FnOnce() -> bool) -> bool {
    match sys::fork(alone) {
        Ok(Forked::Child) => {
            let code = i32::from(!act());
            sys::exit_now(code)
        }
        Ok(Forked::Parent(pid)) => {
            let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty());
            ended.is_ok_and(|found| found.is_some_and(|(_, s)| s.exit_status() == Some(0)))
        }
        Err(_) => false,
    }
}

fn can_connect(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, CONNECT_WAIT).is_ok()
}

fn can_send(port: u16) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    socket.is_ok_and(|s| s.send_to(b"escaped", (Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn can_open(family: AddressFamily, kind: SocketType) -> bool {
    let protocol = (family == AddressFamily::INET).then_some(ipproto::ICMP);
    socket_with(family, kind, SocketFlags::CLOEXEC, protocol).is_ok()
}

fn can_reach_abstract(name: &str) -> bool {
    UnixAddr::from_abstract_name(name).is_ok_and(|a| UnixStream::connect_addr(&a).is_ok())
}

fn sees_processes() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    let is_pid = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    let seen = entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_pid)).count();
    seen > PROCESSES_SEEN
}

/// Whether the daemon's number names a process here. The first numbers name our own.
fn sees(pid: i32) -> bool {
    let refused = |error| error != rustix::io::Errno::SRCH;
    beyond_own(pid).is_some_and(|pid| test_kill_process(pid).map_or_else(refused, |()| true))
}

fn signals(pid: i32) -> bool {
    beyond_own(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn beyond_own(pid: i32) -> Option<Pid> {
    let own = i32::try_from(PROCESSES_SEEN).unwrap_or(i32::MAX);
    Pid::from_raw(pid).filter(|_| pid > own)
}

/// Only the filter's own answers count as refused; any other error came from beyond it. In a child,
/// since what succeeds changes the process: the next attempts would be made by a traced one.
fn is_let_through(probe: Probe, alone: &SingleThread) -> bool {
    in_child(alone, || {
        let result = sys::probe(probe);
        let errno = result.as_ref().err().and_then(std::io::Error::raw_os_error);
        !matches!(errno, Some(libc::EPERM | libc::ENOSYS))
    })
}

/// The findings, or why they cannot be trusted.
pub(super) fn findings(output: &[u8]) -> Result<Vec<Found>, &'static str> {
    let findings: Vec<Found> =
        serde_json::from_slice(output).ok().ok_or("the canary gave no findings")?;
    if findings.is_empty() {
        return Err("the canary made no attempt");
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempts_succeed_where_nothing_confines_them() {
        // The negative control: each of these is what the sandbox must turn into a failure.
        let directory = tempfile::tempdir().unwrap();
        let bait = Bait::new(directory.path()).unwrap();
        let attempts = bait.attempts().clone();
        assert_eq!(bait.touched(), None);
        assert!(can_connect(attempts.tcp_port));
        assert_eq!(bait.touched(), Some("a TCP connection arrived outside"));
        assert!(can_send(attempts.udp_port));
        assert_eq!(bait.touched(), Some("a datagram arrived outside"));
        assert!(can_reach_abstract(&attempts.abstract_name));
        assert_eq!(bait.touched(), Some("an abstract socket connection arrived outside"));
        assert!(UnixStream::connect(&attempts.unix_path).is_ok());
        assert_eq!(bait.touched(), Some("a connection to a socket file arrived outside"));
        assert!(sees_processes() && sees(attempts.daemon_pid) && signals(attempts.daemon_pid));
        let file = &attempts.outside_file;
        assert!(can_change_mode(file) && can_change_times(file));
        assert!(can_overwrite(file));
        assert_eq!(bait.touched(), Some("a file outside was changed"));
        assert!(!can_reach_abstract(&attempts.sibling_name));
        let sibling = Sibling::new(&attempts);
        assert!(can_reach_abstract(&attempts.sibling_name));
        assert!(std::fs::read(&attempts.sibling_file).is_ok());
        drop(sibling);
        assert!(std::fs::read(&attempts.sibling_file).is_err());
    }

    #[test]
    fn silence_is_not_a_pass() {
        assert!(findings(b"").is_err());
        assert!(findings(b"[]").is_err());
        let two = br#"[{"attempt":"a","has_escaped":true},{"attempt":"b","has_escaped":false}]"#;
        assert_eq!(findings(two), Ok(vec![found("a", true), found("b", false)]));
    }
}
