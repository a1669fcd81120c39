//! The real daemon as a child process: started, killed and started again, as an operator would.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::app::{
    cli::Failure,
    client::Client,
    config::{ADDRESS_FILE, BOOTSTRAP_TOKEN_FILE, secret_file},
};

/// Longest time to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The directory of one demonstration and the daemon in it.
#[derive(Debug)]
pub(super) struct Daemon {
    dir: PathBuf,
    child: Option<Child>,
    keep: bool,
}

impl Daemon {
    /// Makes the directory and the configuration.
    pub(super) fn prepare(config: &str, keep: bool) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let mut random = [0_u8; 6];
        getrandom::fill(&mut random).map_err(|e| Failure::fault(format!("no randomness: {e}")))?;
        let name = format!("agent-runtime-demo-{}", data_encoding::HEXLOWER.encode(&random));
        let dir = std::env::temp_dir().join(name);
        let cannot =
            |e: std::io::Error| Failure::fault(format!("cannot write to {}: {e}", dir.display()));
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(cannot)?;
        secret_file::write(&dir.join("demo.toml"), config).map_err(cannot)?;
        Ok(Self { dir, child: None, keep })
    }

    /// Where the daemon keeps everything.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The daemon's log, all starts together.
    pub(super) fn log_file(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// The agent's workspace.
    pub(super) fn workspace(&self) -> PathBuf {
        self.data_dir().join("workspaces").join("demo")
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(super) async fn start(&mut self, is_root: bool) -> Result<Client, Failure> {
        let address = self.data_dir().join(ADDRESS_FILE);
        match fs::remove_file(&address) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::fault(format!(
                    "cannot remove {}: {error}",
                    address.display()
                )));
            }
            _ => {}
        }
        let fault =
            |e: std::io::Error| Failure::fault(format!("the daemon cannot be started: {e}"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(fault)?;
        let errors = log.try_clone().map_err(fault)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the demonstration starts the daemon itself, not a tool"
        )]
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--config")
            .arg(self.dir.join("demo.toml"))
            .arg("--data-dir")
            .arg(self.data_dir());
        command.args(["serve", "--http-addr", "127.0.0.1:0"]);
        if is_root {
            command.arg("--allow-root");
        }
        // Nothing of the caller's settings may change what is shown.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().map_err(fault)?);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = self.try_connect(&address).await? {
                return Ok(client);
            }
            if let Some(status) = self.ended()? {
                return Err(Failure::fault(format!("the daemon ended at once ({status})"))
                    .next(self.last_words()));
            }
            if Instant::now() > deadline {
                return Err(
                    Failure::fault("the daemon did not become ready").next(self.last_words())
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_connect(&self, address: &Path) -> Result<Option<Client>, Failure> {
        let Ok(text) = fs::read_to_string(address) else { return Ok(None) };
        let Ok(token) = secret_file::read(&self.data_dir().join(BOOTSTRAP_TOKEN_FILE)) else {
            return Ok(None);
        };
        let client = Client::new(&format!("http://{}", text.trim()), Some(token))?;
        // Not reachable yet, or 503 while a part of it is not ready.
        Ok(client.get::<serde_json::Value>("/readyz").await.is_ok().then_some(client))
    }

    /// How the daemon ended, if it has.
    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Failure> {
        let Some(child) = &mut self.child else { return Ok(None) };
        child.try_wait().map_err(|e| Failure::fault(format!("cannot watch the daemon: {e}")))
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child
            .kill()
            .and_then(|()| child.wait())
            .map(|_| ())
            .map_err(|e| Failure::fault(format!("the daemon cannot be killed: {e}")))
    }

    /// SIGTERM, as a service manager would; gives the exit code.
    pub(super) async fn stop(&mut self) -> Result<Option<i32>, Failure> {
        let Some(child) = &self.child else { return Ok(None) };
        #[expect(
            clippy::disallowed_methods,
            reason = "the demonstration stops the daemon that it started"
        )]
        let mut command = Command::new("/bin/sh");
        let signal = format!("kill -TERM {}", child.id());
        command.args(["-c", &signal]).stdin(Stdio::null());
        command
            .status()
            .map_err(|e| Failure::fault(format!("the daemon cannot be signalled: {e}")))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended()? {
                self.child = None;
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                return Err(Failure::fault("the daemon did not stop").next(self.last_words()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of the daemon's log.
    pub(super) fn last_words(&self) -> String {
        let mut text = String::new();
        let read = fs::File::open(self.log_file()).and_then(|mut f| f.read_to_string(&mut text));
        if read.is_err() || text.is_empty() {
            return "its log is empty".to_owned();
        }
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        format!("its log ends with:\n    {}", tail.join("\n    "))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.kill().is_err() {
            tracing::debug!("the daemon was gone already");
        }
        if !self.keep {
            fs::remove_dir_all(&self.dir).unwrap_or_default();
        }
    }
}
