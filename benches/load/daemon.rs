//! The real daemon as a process: started, measured, killed.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    client::{Client, PATIENCE},
    fake::Fake,
    place::{Place, server_cpu},
};

/// The program under test, unless another build of it is named.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// What the daemon's clients present.
pub(crate) const TOKEN: &str = "bench-token-0123456789-0123456789-0123456789";
/// One token at one address stands for all clients of a measurement: its share is all there is.
const SHARES: [(&str, &str); 7] = [
    ("AGENT_RUNTIME_LIMITS_QUEUED_RUNS_PER_PRINCIPAL", "10000"),
    ("AGENT_RUNTIME_LIMITS_REQUESTS_PER_MINUTE_PER_PRINCIPAL", "0"),
    ("AGENT_RUNTIME_LIMITS_REQUESTS_PER_MINUTE_PER_ADDRESS", "0"),
    ("AGENT_RUNTIME_LIMITS_CONNECTIONS_PER_ADDRESS", "4096"),
    ("AGENT_RUNTIME_LIMITS_WEBSOCKETS_PER_PRINCIPAL", "500"),
    ("AGENT_RUNTIME_LIMITS_STREAMS_PER_PRINCIPAL", "2048"),
    ("AGENT_RUNTIME_LIMITS_MODEL_REQUESTS_PER_MINUTE_PER_PRINCIPAL", "0"),
];
/// How often a start is looked at.
const LOOK: Duration = Duration::from_micros(200);

/// The program under test: this build's, or the one that was chosen first.
pub(crate) fn program() -> &'static Path {
    PROGRAM.get_or_init(|| PathBuf::from(env!("CARGO_BIN_EXE_agent-runtime")))
}

/// Measures another build, to compare two in turn on a noisy machine.
pub(crate) fn choose(program: PathBuf) {
    PROGRAM.get_or_init(|| program);
}

/// A daemon and its directory.
pub(crate) struct Daemon {
    dir: TempDir,
    child: Option<Child>,
    addr: SocketAddr,
    place: Place,
}

/// What a daemon has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Processor time of the daemon, its helper and the tools that have ended.
    pub(crate) cpu: Duration,
    /// Resident memory of the daemon itself.
    pub(crate) rss: u64,
    /// Proportional share of memory of its helper.
    pub(crate) helper: u64,
    /// Processor time of the database server, which all share.
    pub(crate) server: Duration,
}

impl Daemon {
    /// A directory and a configuration; nothing runs yet.
    pub(crate) fn prepare(fake: &Fake) -> anyhow::Result<Self> {
        Self::prepare_with(fake, "")
    }

    /// The same with more configuration at the end.
    pub(crate) fn prepare_with(fake: &Fake, more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
        let config = format!(
            "[auth]\ntoken = \"{TOKEN}\"\n[llm]\nprovider = \"openai\"\nbase_url = \"{}\"\n\
             model = \"fake\"\napi_key = \"sk-bench-0123456789\"\ntimeout_secs = 60\n\
             [agents.bench]\nsystem_prompt = \"bench\"\ntools = [\"read_file\", \"exec\"]\n\
             allowed_commands = [\"*\"]\n{more}",
            fake.url()
        );
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(dir.path().join("bench.toml"))?;
        std::io::Write::write_all(&mut file, config.as_bytes())?;
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { dir, child: None, addr, place: Place::fresh() })
    }

    /// A daemon that is ready, with a file for its tool to read.
    pub(crate) async fn start(fake: &Fake) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(fake)?;
        daemon.run().await?;
        Ok(daemon)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where its store is.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts the process and waits until it says that it is ready; the time that took.
    pub(crate) async fn run(&mut self) -> anyhow::Result<Duration> {
        let address = self.data_dir().join("http-addr");
        drop(fs::remove_file(&address));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let errors = log.try_clone()?;
        let mut command = Command::new(program());
        command
            .arg("--config")
            .arg(self.dir.path().join("bench.toml"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["serve", "--http-addr", "127.0.0.1:0", "--allow-root"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(SHARES)
            .envs(self.place.on_server().map(|d| ("AGENT_RUNTIME_DATABASE_URL", d.url())))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let began = Instant::now();
        self.child = Some(command.spawn().context("the daemon does not start")?);
        while began.elapsed() < PATIENCE {
            let text = fs::read_to_string(&address).unwrap_or_default();
            if let Ok(addr) = text.trim().parse() {
                self.addr = addr;
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let mut client = match Client::connect(self.addr, TOKEN).await {
            Ok(client) => client,
            Err(error) => bail!("not listening ({error}): {}", self.log()),
        };
        while began.elapsed() < PATIENCE {
            if client.get("/readyz").await?.status == 200 {
                let took = began.elapsed();
                let workspace = self.data_dir().join("workspaces/bench");
                fs::write(workspace.join("note.txt"), "a note\n")?;
                return Ok(took);
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("not ready: {}", self.log())
    }

    /// SIGKILL, and the wait for the end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way it is gone after this.
            drop(child.kill());
            drop(child.wait());
        }
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.addr, TOKEN).await
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    /// The last lines that it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.join("\n")
    }

    /// What it has used so far.
    pub(crate) fn used(&self) -> Used {
        let Some(pid) = self.child.as_ref().map(Child::id) else { return Used::default() };
        let mut used =
            Used { cpu: cpu_of(pid), rss: memory_of(pid, "Rss:"), helper: 0, server: server_cpu() };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let of_threads = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
        let mut seen = Vec::new();
        for text in children.into_iter().chain(of_threads) {
            for helper in text.split_whitespace().filter_map(|p| p.parse::<u32>().ok()) {
                if !seen.contains(&helper) {
                    seen.push(helper);
                    used.cpu += cpu_of(helper);
                    used.helper += memory_of(helper, "Pss:");
                }
            }
        }
        used
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processor time of a process and of its children that have ended.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold spaces; fields count from behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(4).filter_map(|f| f.parse::<u64>().ok()).sum();
    // The kernel's clock tick as user space sees it is 10 ms on every Linux that we run on.
    Duration::from_millis(ticks * 10)
}

/// Busy time of all processors together.
pub(crate) fn machine_busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let total: u64 = fields.iter().take(8).sum();
    Duration::from_millis((total - idle) * 10)
}

fn memory_of(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Time of `agent-runtime --version`: what starting the program costs before it does anything.
pub(crate) fn bare_start(dir: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let status = Command::new(program())
        .arg("--version")
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "--version failed");
    Ok(began.elapsed())
}
