//! A sandbox with the real helper, and workspaces to run things in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_runtime::{
    domain::{Access, CommandRule, Confinement, Grant, PathRule, ToolLimits},
    runtime::{Stop, Tasks},
    sandbox::{self, End, Job, Options, Outcome, Sandbox, SandboxError},
};
use tokio_util::sync::CancellationToken;

/// The daemon's binary, which is also the helper.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_agent-runtime");

/// A sandbox, its data directory and one workspace.
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    pub(crate) base: tempfile::TempDir,
    pub(crate) workspace: PathBuf,
    pub(crate) stop: Stop,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let data_dir = base.path().join("data");
        std::fs::create_dir(&data_dir).unwrap();
        Self::at(base, 16).await
    }

    /// A new daemon on what an old one has left.
    pub(crate) async fn reopen(base: tempfile::TempDir) -> Self {
        Self::at(base, 16).await
    }

    pub(crate) async fn at(base: tempfile::TempDir, processes_max: usize) -> Self {
        let data_dir = base.path().join("data");
        let stop = Stop::default();
        let sandbox = start(&data_dir, processes_max, &stop).await.unwrap();
        let status = sandbox.status();
        assert!(status.usable, "these tests must not be skipped: {status:?}");
        let workspace = data_dir.join("workspaces/one");
        sandbox::prepare_workspace(&workspace).unwrap();
        Self { sandbox, base, workspace, stop }
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            workspace: self.workspace.clone(),
            paths: Vec::new(),
            commands: CommandRule::Any,
            may_execute_files: true,
            hosts: std::sync::Arc::default(),
            same_host_only: false,
            egress: agent_runtime::domain::EgressLimits::default(),
            limits: ToolLimits { wall_secs: 20, ..ToolLimits::default() },
        }
    }

    pub(crate) fn job(&self, argv: &[&str]) -> Job {
        job(self.grant(), argv)
    }

    pub(crate) async fn run(&self, argv: &[&str]) -> Outcome {
        self.run_job(self.job(argv)).await.unwrap()
    }

    pub(crate) async fn sh(&self, script: &str) -> Outcome {
        self.run(&["/bin/sh", "-c", script]).await
    }

    pub(crate) async fn run_job(&self, job: Job) -> Result<Outcome, SandboxError> {
        self.sandbox.run(job, CancellationToken::new()).await
    }
}

/// Starts a sandbox as a daemon would.
pub(crate) async fn start(
    data_dir: &Path,
    processes_max: usize,
    stop: &Stop,
) -> Result<Sandbox, SandboxError> {
    start_with(data_dir, stop, |options| options.processes_max = processes_max).await
}

/// As [`start`], with other options.
pub(crate) async fn start_with(
    data_dir: &Path,
    stop: &Stop,
    change: impl FnOnce(&mut Options),
) -> Result<Sandbox, SandboxError> {
    let options = options(data_dir, change);
    Sandbox::start_with_helper(options, HELPER.into(), &Tasks::new(stop.clone())).await
}

/// What these tests ask of a sandbox.
pub(crate) fn options(data_dir: &Path, change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options {
        enabled: true,
        min_level: Confinement::FullNoproc,
        data_dir: data_dir.to_owned(),
        processes_max: 16,
        sessions_max: 64,
        backend: sandbox::Backend::Sandbox,
    };
    change(&mut options);
    options
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.hard();
    }
}

pub(crate) fn job(grant: Grant, argv: &[&str]) -> Job {
    Job {
        wall: grant.limits.wall(),
        grant: Arc::new(grant),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: Vec::new(),
        cwd: String::new(),
        bound: None,
        stdin: Vec::new(),
        output: None,
    }
}

pub(crate) fn allow(path: &Path, access: Access) -> PathRule {
    PathRule { path: path.to_owned(), access }
}

pub(crate) fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.output).into_owned()
}

/// Asserts success and gives the output.
#[track_caller]
pub(crate) fn good(outcome: Outcome) -> String {
    let output = text(&outcome);
    assert_eq!(outcome.end, End::Exited(0), "{output}");
    output
}

/// Whether this process runs the test of that name and no other. Where it does not, one is started that
/// does, and must succeed: what counts the process's own descriptors cannot share it with other tests.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test tells its own process what to do")]
pub(crate) fn is_alone(name: &str) -> bool {
    const ALONE: &str = "AGENT_RUNTIME_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let told = std::process::Command::new(program)
        .args([name, "--exact", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && out.contains("1 passed"), "{out}");
    false
}

/// What a look shows once it has shown the same for half a second: what begins and ends by itself after
/// a call has had its time then.
pub(crate) async fn settled<T: PartialEq + std::fmt::Debug>(mut look: impl FnMut() -> T) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let (mut seen, mut same) = (look(), 0);
    while same < 50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = look();
        same = if now == seen { same + 1 } else { 0 };
        seen = now;
        assert!(tokio::time::Instant::now() < deadline, "it never settles: {seen:?}");
    }
    seen
}

/// Waits for something that another process does; fails when it does not happen in time.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
