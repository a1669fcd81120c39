//! What lies outside: files that every user of the machine may change, sockets that anybody may
//! reach, a process of the tools' own user. Only the sandbox stands in the way.

use std::{
    cell::RefCell,
    fs,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::room::User;

/// What stands in every file and environment outside.
pub(crate) const SECRET: &str = "the-secret-outside";

/// The world outside of one room.
pub(crate) struct World {
    base: tempfile::TempDir,
    user: User,
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
    pub(crate) unix: UnixListener,
    pub(crate) hidden: UnixListener,
    pub(crate) hidden_name: String,
    victim: RefCell<Child>,
}

impl World {
    pub(crate) fn new(user: User) -> Self {
        let base = tempfile::Builder::new().prefix("art-outside-").tempdir().unwrap();
        open_up(base.path());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_nonblocking(true).unwrap();
        let path = base.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        open_up(&path);
        unix.set_nonblocking(true).unwrap();
        let hidden_name = format!("art-escape-{}", base.path().display());
        let address = SocketAddr::from_abstract_name(&hidden_name).unwrap();
        let hidden = UnixListener::bind_addr(&address).unwrap();
        hidden.set_nonblocking(true).unwrap();
        let victim = RefCell::new(victim(user.tool_uid()));
        let world = Self { base, user, tcp, udp, unix, hidden, hidden_name, victim };
        fs::create_dir(world.path("bin")).unwrap();
        world.compile("tests/sandbox/probes/probes.c", "bin/probes");
        world.compile("tests/escape/cage.c", "bin/cage");
        let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape/net_probe.py");
        fs::copy(probe, world.path("bin/net_probe.py")).unwrap();
        // The program itself too: a checkout may lie below a directory that only root enters.
        fs::copy(env!("CARGO_BIN_EXE_agent-runtime"), world.path("bin/agent-runtime")).unwrap();
        world
    }

    fn compile(&self, source: &str, name: &str) {
        let status = command("gcc")
            .args(["-O1", "-o"])
            .arg(self.path(name))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source))
            .status();
        assert!(status.expect("gcc is installed by ops/test.sh").success(), "{source}");
    }

    pub(crate) const fn user(&self) -> User {
        self.user
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// The path as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file that everybody may read and write, with the secret in it.
    pub(crate) fn fill(&self, name: &str) {
        fill(&self.path(name));
    }

    /// A process outside, of the tools' uid; another one when it was killed.
    pub(crate) fn victim(&self) -> i32 {
        let mut child = self.victim.borrow_mut();
        if child.try_wait().unwrap().is_some() {
            *child = victim(self.user.tool_uid());
        }
        i32::try_from(child.id()).unwrap()
    }

    pub(crate) fn is_victim_dead(&self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(30));
        self.victim.borrow_mut().try_wait().unwrap().is_some()
    }

    pub(crate) fn victims_nice(&self) -> i32 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.borrow().id())).unwrap();
        let rest = stat.rsplit(") ").next().unwrap();
        rest.split(' ').nth(16).unwrap().parse().unwrap()
    }

    /// Whether somebody came to a listener since the last look.
    pub(crate) fn knocked(&self) -> bool {
        let mut buffer = [0_u8; 64];
        let tcp = self.tcp.accept().is_ok();
        let udp = self.udp.recv_from(&mut buffer).is_ok();
        let unix = self.unix.accept().is_ok();
        let hidden = self.hidden.accept().is_ok();
        tcp || udp || unix || hidden
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let child = self.victim.get_mut();
        drop(child.kill());
        drop(child.wait());
    }
}

fn victim(uid: u32) -> Child {
    let mut command = command("/bin/sleep");
    command.arg("600").env("VICTIM", SECRET).uid(uid).gid(uid).stdin(Stdio::null());
    command.spawn().unwrap()
}

/// A process outside of any sandbox.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

pub(crate) fn fill(path: &Path) {
    drop(fs::remove_file(path));
    fs::write(path, SECRET).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
}

pub(crate) fn open_up(path: &Path) {
    fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}
