//! The level of confinement is decided by trying to get out, not by reading version numbers.
//!
//! Invariants: the attempts run in a real sandbox, after the whole sequence, as the tool would;
//! one that succeeds makes the level `none`. Those whose effect can be seen from outside are
//! judged there too.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::sys::{self, Probe};

/// How long one connection attempt may take.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// Processes that a tool without children can see: pid 1 and itself.
const PROCESSES_SEEN: usize = 2;
/// World-readable files of every Linux machine that are not in the view.
const HOST_FILES: [&str; 4] = ["/etc/fstab", "/etc/machine-id", "/etc/os-release", "/etc/hostname"];

/// What the canary is told to reach for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    pub(super) outside_file: PathBuf,
    pub(super) tcp_port: u16,
    pub(super) abstract_name: String,
    pub(super) daemon_pid: i32,
}

/// One attempt and whether it got through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) attempt: String,
    pub(super) has_escaped: bool,
}

/// Things outside that a confined process must not reach. They stand while the canary runs.
#[derive(Debug)]
pub(super) struct Bait {
    tcp: TcpListener,
    unix: UnixListener,
    file: PathBuf,
    attempts: Attempts,
}

/// What stands in the file outside.
const UNTOUCHED: &str = "untouched";

impl Bait {
    /// Puts the bait out.
    pub(super) fn new(directory: &Path) -> std::io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        tcp.set_nonblocking(true)?;
        let port = tcp.local_addr()?.port();
        let name = format!("agent-runtime-canary-{}-{port}", std::process::id());
        let unix = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        unix.set_nonblocking(true)?;
        let file = directory.join("outside");
        std::fs::write(&file, UNTOUCHED)?;
        let attempts = Attempts {
            outside_file: file.clone(),
            tcp_port: port,
            abstract_name: name,
            daemon_pid: i32::try_from(std::process::id()).unwrap_or(0),
        };
        Ok(Self { tcp, unix, file, attempts })
    }

    pub(super) const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// What was touched, seen from outside.
    pub(super) fn touched(&self) -> Option<&'static str> {
        if self.tcp.accept().is_ok() {
            Some("a TCP connection arrived outside")
        } else if self.unix.accept().is_ok() {
            Some("an abstract socket connection arrived outside")
        } else if std::fs::read_to_string(&self.file).is_ok_and(|text| text != UNTOUCHED) {
            Some("a file outside was changed")
        } else {
            None
        }
    }
}

/// Makes every attempt and writes the findings to standard output as JSON.
pub(super) fn try_everything(attempts: &Attempts) -> std::io::Result<()> {
    let mut findings = vec![
        finding("read a file outside", std::fs::read(&attempts.outside_file).is_ok()),
        finding("write a file outside", can_overwrite(&attempts.outside_file)),
        finding("read the host's /etc", HOST_FILES.iter().any(|f| std::fs::read(f).is_ok())),
        finding("write to /usr", std::fs::write("/usr/agent-runtime-canary", "").is_ok()),
        finding("write to the root", std::fs::write("/agent-runtime-canary", "").is_ok()),
        finding("write to /proc/sys", std::fs::write("/proc/sys/kernel/hostname", "x").is_ok()),
        finding("connect over TCP", can_connect(attempts.tcp_port)),
        finding("make a UDP socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()),
        finding("connect to an abstract socket", can_reach_abstract(&attempts.abstract_name)),
        finding("see other processes", sees_processes()),
        finding("see the daemon", sees(attempts.daemon_pid)),
    ];
    for (name, probe) in [
        ("make a user namespace", Probe::NewUserNamespace),
        ("trace", Probe::Trace),
        ("bpf", Probe::Bpf),
        ("io_uring", Probe::IoUring),
        ("keyring", Probe::Keyring),
    ] {
        findings.push(finding(name, !is_refused(&sys::probe(probe))));
    }
    serde_json::to_writer(std::io::stdout(), &findings)?;
    std::io::stdout().flush()
}

fn finding(attempt: &str, has_escaped: bool) -> Finding {
    Finding { attempt: attempt.to_owned(), has_escaped }
}

/// Without creating: the private `/tmp` may hold a directory of the same name.
fn can_overwrite(path: &Path) -> bool {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.is_ok_and(|mut f| f.write_all(b"escaped").is_ok())
}

fn can_connect(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, CONNECT_WAIT).is_ok()
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
    let own = i32::try_from(PROCESSES_SEEN).unwrap_or(i32::MAX);
    let refused = |error| error != rustix::io::Errno::SRCH;
    pid > own
        && Pid::from_raw(pid)
            .is_some_and(|pid| test_kill_process(pid).map_or_else(refused, |()| true))
}

/// Only the filter's own answers count as refused; any other error came from beyond it.
fn is_refused(result: &std::io::Result<()>) -> bool {
    let errno = result.as_ref().err().and_then(std::io::Error::raw_os_error);
    matches!(errno, Some(libc::EPERM | libc::ENOSYS))
}

/// The attempts that got through, or why the findings cannot be trusted.
pub(super) fn escapes(output: &[u8]) -> Result<Vec<String>, &'static str> {
    let findings: Vec<Finding> =
        serde_json::from_slice(output).ok().ok_or("the canary gave no findings")?;
    if findings.is_empty() {
        return Err("the canary made no attempt");
    }
    Ok(findings.into_iter().filter(|f| f.has_escaped).map(|f| f.attempt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempts_succeed_where_nothing_confines_them() {
        // The negative control: each of these is what the sandbox must turn into a failure.
        let directory = tempfile::tempdir().unwrap();
        let bait = Bait::new(directory.path()).unwrap();
        assert_eq!(bait.touched(), None);
        assert!(can_connect(bait.attempts().tcp_port));
        assert_eq!(bait.touched(), Some("a TCP connection arrived outside"));
        assert!(can_reach_abstract(&bait.attempts().abstract_name));
        assert_eq!(bait.touched(), Some("an abstract socket connection arrived outside"));
        assert!(sees_processes());
        assert!(sees(bait.attempts().daemon_pid));
        assert!(can_overwrite(&bait.attempts().outside_file));
        assert_eq!(bait.touched(), Some("a file outside was changed"));
    }

    #[test]
    fn silence_is_not_a_pass() {
        assert!(escapes(b"").is_err());
        assert!(escapes(b"[]").is_err());
        let one = br#"[{"attempt":"a","has_escaped":true},{"attempt":"b","has_escaped":false}]"#;
        assert_eq!(escapes(one), Ok(vec!["a".to_owned()]));
    }
}
