//! The processes of a test's Postgres: where its programs are, who runs them, and what ends them.

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::Sync;

/// The package that holds it, for Debian and what comes from Debian.
const PACKAGE: &str = "postgresql";
/// Longest time to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
pub(super) const BEAT: Duration = Duration::from_millis(5);

/// Where the programs of the newest installed version are.
pub(super) fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return bin;
    }
    // Other distributions put them where every program is.
    for bin in ["/usr/bin", "/usr/local/bin", "/usr/local/pgsql/bin"] {
        if Path::new(bin).join("initdb").exists() {
            return PathBuf::from(bin);
        }
    }
    panic!(
        "these tests need a Postgres server, and none is installed: apt-get install {PACKAGE} \
         (ops/test.sh does it)"
    );
}

/// Where its directory goes: into memory where nothing has to survive and there is room, since a
/// disk that builds are using makes each new database wait.
pub(super) fn place(sync: Sync) -> &'static str {
    const MEMORY: &str = "/dev/shm";
    const ROOM: u64 = 2 << 30;
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if sync == Sync::Off && room >= ROOM { MEMORY } else { "/tmp" }
}

pub(super) fn major(bin: &Path) -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the test asks its own server")]
    let said = run(Command::new(bin.join("postgres")).arg("--version"));
    let digits = said.chars().skip_while(|c| !c.is_ascii_digit());
    digits.take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// A command as who may run a server: it refuses root. The signal comes when the thread that
/// starts it ends; only `spawn_held` starts what stays.
pub(super) fn as_server(program: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test starts its own server")]
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .current_dir("/tmp")
        // Ctrl-C in a terminal is for the test.
        .process_group(0);
    command
}

/// A process that waits for our end, ends the server and removes its directory: our own code may
/// not get the chance.
pub(super) fn janitor(dir: &Path) -> (Child, ChildStdin) {
    const SCRIPT: &str = r#"
        trap '' HUP INT TERM
        read -r _
        pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
        alive() { grep -qs '^[0-9]* (postgres) [^ZX]' "/proc/$pid/stat"; }
        alive && kill -QUIT "$pid"
        for n in $(seq 100); do alive || break; sleep 0.05; done
        rm -rf "$1" 2>/dev/null || { sleep 0.5; rm -rf "$1"; }
    "#;
    #[expect(clippy::disallowed_methods, reason = "the test cleans up after itself")]
    let mut child = Command::new("/bin/sh")
        .args(["-c", SCRIPT, "janitor"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .expect("/bin/sh starts");
    let stdin = child.stdin.take().expect("a pipe");
    (child, stdin)
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as we do: the signal at the parent's death is
/// one at the death of the *thread* that started it, and each test has a thread of its own.
pub(super) fn spawn_held(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, work) = mpsc::sync_channel::<Order>(1);
        let thread = thread::Builder::new().name("postgres-keeper".to_owned());
        let keep = move || {
            while let Ok((mut command, answer)) = work.recv() {
                drop(answer.send(command.spawn()));
            }
        };
        thread.spawn(keep).expect("a thread");
        orders
    });
    let (answer, child) = mpsc::sync_channel(1);
    keeper.send((command, answer)).expect("the keeper lives");
    child.recv().expect("the keeper answers")
}

/// Runs a command to its end; its output.
pub(super) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a command that reads `input`; its output, or what it complained of.
pub(super) fn feed(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // A command that ends before it read everything says why.
    drop(child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A port below those that the kernel gives to outgoing connections, so that a server which starts
/// again finds its own.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    for _ in 0..1_000 {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start.wrapping_mul(7).wrapping_add(n)) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

pub(super) fn beats() -> std::ops::Range<u128> {
    0..PATIENCE.as_millis() / BEAT.as_millis()
}

/// The processes that this one started.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| status(*id).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

/// State and parent of a process, see proc(5).
fn status(id: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process ended, buried or not.
pub(super) fn is_gone(id: i32) -> bool {
    status(id).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}
