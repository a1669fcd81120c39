//! A real Postgres for tests: a private server that the test process starts, gives fresh databases
//! from, breaks at will, and that cannot outlive it.
//!
//! Invariants: nothing outside one temporary directory is touched and no other server is used, so
//! tests need no set-up but the package; the server ends with the test process however that ends
//! (a signal at the parent's death, and a janitor that also removes the directory); what connects
//! is an ordinary role that owns its database, as an operator would give the daemon, so nothing
//! passes for the sake of a superuser; texts sort by a language unless a column says `COLLATE "C"`,
//! so a column that forgot it shows.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod process;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use process::{
    BEAT, as_server, beats, children, feed, free_port, is_gone, janitor, major, place, programs,
    run, spawn_held,
};
use rustix::process::{Pid, Signal};

/// Databases belong to this role, which may do nothing else.
const ROLE: &str = "agent_runtime";

/// Whether commits survive power loss. Without it tests of behaviour are several times faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Off,
    On,
}

/// How a server is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// In order, as an upgrade of its package does: connections are told, the log is folded.
    Fast,
    /// At once; the next start recovers from the log.
    Immediate,
    /// SIGKILL of the server and of each of its processes.
    Kill,
}

/// A private server. It is stopped and its directory removed when the last handle goes, or when
/// the test process ends.
#[derive(Debug)]
pub(crate) struct Server {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    sync: Sync,
    settings: Vec<String>,
    password: String,
    process: Mutex<Option<Child>>,
    databases: AtomicU32,
    janitor: Mutex<Option<(Child, ChildStdin)>>,
}

/// A database of one test, dropped with this handle.
#[derive(Debug)]
pub(crate) struct Database {
    server: Arc<Server>,
    name: String,
}

impl Server {
    /// The server of this test binary, started by whoever comes first.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::start(Sync::Off)))
    }

    /// A server of one's own, to break.
    pub(crate) fn start(sync: Sync) -> Arc<Self> {
        Self::start_with(sync, &[])
    }

    /// The same with settings (`name=value`) of the caller's.
    pub(crate) fn start_with(sync: Sync, settings: &[&str]) -> Arc<Self> {
        let bin = programs();
        let place = format!("--tmpdir={}", place(sync));
        let dir = PathBuf::from(run(as_server(Path::new("mktemp")).args([
            "--directory",
            &place,
            "agent-runtime-postgres-XXXXXXXX",
        ])));
        let janitor = janitor(&dir);
        init(&bin, &dir);
        let mut random = [0_u8; 12];
        getrandom::fill(&mut random).expect("randomness");
        let password = data_encoding::HEXLOWER.encode(&random);
        let mut server = Self {
            bin,
            dir,
            port: 0,
            sync,
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
            password,
            process: Mutex::new(None),
            databases: AtomicU32::new(0),
            janitor: Mutex::new(Some(janitor)),
        };
        // Another process may take the port between the look and the start.
        for attempt in 0.. {
            server.port = free_port();
            match server.try_resume() {
                Ok(()) => break,
                Err(log) if attempt < 5 && log.contains("could not bind") => {}
                Err(log) => panic!("Postgres does not start: {log}"),
            }
        }
        server
            .psql("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{}'", server.password));
        Arc::new(server)
    }

    /// An empty database in the language's order.
    pub(crate) fn database(self: &Arc<Self>) -> Database {
        self.create("")
    }

    /// An empty database in the order of bytes, as many servers are set up.
    pub(crate) fn database_in_c(self: &Arc<Self>) -> Database {
        let provider = if major(&self.bin) >= 15 { "LOCALE_PROVIDER libc" } else { "" };
        self.create(&format!("TEMPLATE template0 {provider} LOCALE 'C'"))
    }

    /// A copy of a database that nobody is connected to.
    pub(crate) fn copy_of(self: &Arc<Self>, template: &Database) -> Database {
        self.create(&format!("TEMPLATE {}", template.name))
    }

    fn create(self: &Arc<Self>, how: &str) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} OWNER {ROLE} {how}"));
        Database { server: Arc::clone(self), name }
    }

    /// Where it listens on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether its process lives.
    pub(crate) fn is_running(&self) -> bool {
        self.process().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The number of its process; none while it is stopped.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.process().as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// A program of its version.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the server and waits until nothing of it runs.
    pub(crate) fn stop(&self, how: Stop) {
        let Some(mut child) = self.process().take() else { return };
        let id = child.id().cast_signed();
        let mut all = vec![id];
        if how == Stop::Kill {
            all.extend(children(id));
        }
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        };
        for id in &all {
            let pid = Pid::from_raw(*id).expect("a process");
            // Gone already: that is what we want.
            rustix::process::kill_process(pid, signal).ok();
        }
        for _ in beats() {
            if matches!(child.try_wait(), Ok(Some(_))) && all.iter().all(|id| is_gone(*id)) {
                return;
            }
            thread::sleep(BEAT);
        }
        panic!("Postgres does not end: {}", self.log());
    }

    /// Starts a stopped server again, at the same place.
    pub(crate) fn resume(&self) {
        self.try_resume().unwrap_or_else(|log| panic!("Postgres does not start again: {log}"));
    }

    /// Kills one of its processes that serve connections: the server then takes down all others
    /// and recovers by itself. Says whether there was one.
    pub(crate) fn crash_a_backend(&self) -> bool {
        let backends = self.psql(
            "postgres",
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() LIMIT 1",
        );
        let Ok(id) = backends.parse::<i32>() else { return false };
        rustix::process::kill_process(Pid::from_raw(id).expect("a process"), Signal::KILL).is_ok()
    }

    /// What it said, last part.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        text.get(text.len().saturating_sub(4_000)..).unwrap_or(&text).to_owned()
    }

    /// Everything that it said.
    pub(crate) fn whole_log(&self) -> String {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs SQL as the administrator of the server; one line for each row, `|` between columns.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same, for a server that may be broken.
    pub(crate) fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        #[expect(clippy::disallowed_methods, reason = "the test asks its own server")]
        let mut command = Command::new(self.bin.join("psql"));
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.dir)
            .args(["-p", &self.port.to_string(), "-d", database, "-f", "-"])
            .env_clear()
            .env("LC_ALL", "C.UTF-8");
        feed(command, sql)
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts it; the end of its log where that fails.
    fn try_resume(&self) -> Result<(), String> {
        assert!(self.process().is_none(), "it runs already");
        let file = self.dir.join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&file).expect("a log");
        let begin = log.metadata().map_or(0, |data| data.len());
        let mut command = as_server(&self.bin.join("postgres"));
        command.arg("-D").arg(self.dir.join("data")).arg("-k").arg(&self.dir);
        let (fsync, memory) = match self.sync {
            // What a server has that nobody has set up, so that figures mean something.
            Sync::On => ("on", "128MB"),
            Sync::Off => ("off", "32MB"),
        };
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("fsync={fsync}"),
            format!("full_page_writes={fsync}"),
            "max_connections=200".to_owned(),
            format!("shared_buffers={memory}"),
            // In its directory, where nothing stays behind after a SIGKILL.
            "dynamic_shared_memory_type=mmap".to_owned(),
            "log_lock_waits=on".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        command.stdout(log.try_clone().expect("a log")).stderr(log).stdin(Stdio::null());
        let mut child = spawn_held(command).expect("setpriv of util-linux starts");
        for _ in beats() {
            let pid_file = fs::read_to_string(self.dir.join("data/postmaster.pid"));
            let lines: Vec<&str> = pid_file.as_deref().unwrap_or_default().lines().collect();
            let ours = lines.first().is_some_and(|pid| *pid == child.id().to_string());
            // Its eighth line says the state: what `pg_ctl` waits for.
            if ours && lines.get(7).is_some_and(|state| state.trim() == "ready") {
                *self.process() = Some(child);
                return Ok(());
            }
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(BEAT);
        }
        drop(child.kill());
        drop(child.wait());
        let text = fs::read(&file).unwrap_or_default();
        let text = text.get(usize::try_from(begin).unwrap_or(0)..).unwrap_or_default();
        Err(String::from_utf8_lossy(text).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process().take() {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                rustix::process::kill_process(pid, Signal::QUIT).ok();
            }
            drop(child.wait());
        }
        let janitor = self.janitor.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((mut child, work_is_over)) = janitor.take() {
            drop(work_is_over);
            drop(child.wait());
        }
    }
}

impl Database {
    /// How a daemon reaches it: over loopback, with a password.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.server.port)
    }

    /// The same through another port: that of a proxy.
    pub(crate) fn url_at(&self, port: u16) -> String {
        let password = &self.server.password;
        format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/{}", self.name)
    }

    /// The same through the socket in the server's directory, which asks for no password and so
    /// saves each connection its expensive hash.
    pub(crate) fn socket_url(&self) -> String {
        let dir = self.server.dir.display().to_string().replace('/', "%2F");
        format!("postgres://{ROLE}@{dir}:{}/{}", self.server.port, self.name)
    }

    /// The server that holds it.
    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Its name there.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL as the administrator of the server.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// Ends every connection to it, as an administrator or a failover does; how many there were.
    pub(crate) fn terminate_connections(&self) -> usize {
        let ended = self.server.psql(
            "postgres",
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
                self.name
            ),
        );
        ended.lines().filter(|line| *line == "t").count()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.server.is_running() {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            // It goes with the server in any case.
            drop(self.server.try_psql("postgres", &sql));
        }
    }
}

fn init(bin: &Path, dir: &Path) {
    let mut command = as_server(&bin.join("initdb"));
    command.arg("-D").arg(dir.join("data")).args([
        "--username=postgres",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]);
    if major(bin) >= 15 {
        command.args(["--locale-provider=icu", "--icu-locale=en-US"]);
    }
    run(&mut command);
    let access = format!("local all all trust\nhost all {ROLE} 127.0.0.1/32 scram-sha-256\n");
    fs::write(dir.join("data/pg_hba.conf"), access).expect("the server's directory");
}
