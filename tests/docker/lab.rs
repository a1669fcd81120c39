//! The engine under test, sandboxes on it, and what the host sees of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_runtime::{
    domain::{CommandRule, Confinement, Grant, ToolLimits},
    runtime::{Stop, Tasks},
    sandbox::{self, Backend, DockerOptions, End, Job, Options, Outcome, Sandbox, SandboxError},
};
use tokio_util::sync::CancellationToken;

/// The image that `ops/docker-engine.sh` makes.
pub(crate) const IMAGE: &str = "agent-runtime-test:base";

/// The private engine's socket.
pub(crate) fn socket() -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/docker-engine/socket");
    let text = std::fs::read_to_string(&file)
        .expect("an engine is needed: start one with `ops/docker-engine.sh start`");
    text.trim().into()
}

/// Runs the engine's client, outside of what is tested.
pub(crate) fn docker(args: &[&str]) -> std::process::Output {
    #[expect(clippy::disallowed_methods, reason = "the test looks at the engine from outside")]
    let mut command = std::process::Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket().display())).args(args);
    command.output().expect("the docker client runs")
}

/// What the client wrote, after it succeeded.
#[track_caller]
pub(crate) fn docker_says(args: &[&str]) -> String {
    let ran = docker(args);
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    pub(crate) base: tempfile::TempDir,
    pub(crate) workspace: PathBuf,
    pub(crate) stop: Stop,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let lab = Self::with(socket(), IMAGE).await;
        let status = lab.sandbox.status();
        assert!(status.usable, "these tests must not be skipped: {status:?}");
        assert_eq!(status.level, Confinement::Docker);
        lab
    }

    pub(crate) async fn with(socket: PathBuf, image: &str) -> Self {
        let base = tempfile::tempdir().unwrap();
        let data_dir = base.path().join("data");
        std::fs::create_dir(&data_dir).unwrap();
        let stop = Stop::default();
        let options = Options {
            enabled: true,
            min_level: Confinement::Full,
            data_dir: data_dir.clone(),
            processes_max: 4,
            sessions_max: 8,
            backend: Backend::Docker(DockerOptions { socket, image: image.to_owned() }),
        };
        let sandbox = Sandbox::start(options, &Tasks::new(stop.clone())).await.unwrap();
        let workspace = data_dir.join("workspaces/one");
        sandbox::prepare_workspace(&workspace).unwrap();
        Self { sandbox, base, workspace, stop }
    }

    pub(crate) fn grant(&self) -> Grant {
        let mut grant = Grant::new(self.workspace.clone(), CommandRule::Any);
        grant.limits = ToolLimits { wall_secs: 30, ..ToolLimits::default() };
        grant
    }

    /// A shell script as a job.
    pub(crate) fn script(&self, text: &str) -> Job {
        job(self.grant(), &["sh", "-c", text])
    }

    pub(crate) async fn sh(&self, text: &str) -> Outcome {
        self.run(self.script(text)).await.unwrap()
    }

    pub(crate) async fn run(&self, job: Job) -> Result<Outcome, SandboxError> {
        self.sandbox.run(job, CancellationToken::new()).await
    }

    /// The ids of this lab's containers.
    pub(crate) fn containers(&self) -> Vec<String> {
        containers(&self.base.path().join("data"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.hard();
    }
}

/// The ids of the containers that a daemon on this data directory has made.
pub(crate) fn containers(data_dir: &Path) -> Vec<String> {
    let label = format!("label=agent-runtime.data-dir={}", data_dir.display());
    let listed = docker_says(&["ps", "--all", "--quiet", "--filter", &label]);
    listed.lines().map(str::to_owned).collect()
}

pub(crate) fn job(grant: Grant, argv: &[&str]) -> Job {
    Job {
        bound: None,
        wall: grant.limits.wall(),
        grant: Arc::new(grant),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: Vec::new(),
        cwd: String::new(),
        stdin: Vec::new(),
        output: None,
    }
}

pub(crate) fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.output).into_owned()
}

/// Asserts success and gives the output.
#[track_caller]
pub(crate) fn good(outcome: &Outcome) -> String {
    assert_eq!(outcome.end, End::Exited(0), "{}", text(outcome));
    text(outcome)
}

/// How many processes of this machine have this text in their arguments, seen from the host.
pub(crate) fn alive(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let has = |path: PathBuf| {
        std::fs::read(path.join("cmdline"))
            .is_ok_and(|line| line.split(|b| *b == 0).any(|argument| argument == marker.as_bytes()))
    };
    entries.filter(|e| has(e.path())).count()
}

/// Waits for something that another process does; fails when it does not happen in time.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
