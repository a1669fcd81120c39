//! A sandbox of the real helper, and a workspace.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agent_runtime::{
    domain::{CommandRule, Confinement, Grant},
    runtime::{Stop, Tasks},
    sandbox::{End, Job, Options, Sandbox, Session, prepare_workspace},
};
use anyhow::ensure;
use tokio_util::sync::CancellationToken;

/// Everything that is measured runs here.
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    pub(crate) tasks: Tasks,
    pub(crate) workspace: PathBuf,
    stop: Stop,
    _dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
        let data_dir = dir.path().join("data");
        std::fs::create_dir(&data_dir)?;
        let workspace = data_dir.join("workspaces/bench");
        prepare_workspace(&workspace)?;
        let stop = Stop::default();
        let tasks = Tasks::new(stop.clone());
        let options = Options {
            backend: agent_runtime::sandbox::Backend::Sandbox,
            enabled: true,
            min_level: Confinement::FullNoproc,
            data_dir,
            processes_max: 32,
            sessions_max: 64,
        };
        let program = PathBuf::from(env!("CARGO_BIN_EXE_agent-runtime"));
        let sandbox = Sandbox::start_with_helper(options, program, &tasks).await?;
        let status = sandbox.status();
        ensure!(status.usable, "the sandbox is not usable: {:?}", status.reason);
        Ok(Self { sandbox, tasks, workspace, stop, _dir: dir })
    }

    /// Any program, no network.
    pub(crate) fn grant(&self) -> Arc<Grant> {
        Arc::new(Grant::new(self.workspace.clone(), CommandRule::Any))
    }

    pub(crate) async fn open(&self, grant: &Grant) -> anyhow::Result<Session> {
        Ok(self.sandbox.open(grant, &CancellationToken::new()).await?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.hard();
    }
}

/// Runs a program in a session; its output.
pub(crate) async fn run(
    session: &Session,
    grant: &Arc<Grant>,
    argv: &[&str],
) -> anyhow::Result<String> {
    let job = Job {
        bound: None,
        grant: Arc::clone(grant),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: Vec::new(),
        cwd: String::new(),
        stdin: Vec::new(),
        wall: Duration::from_secs(60),
        output: None,
    };
    let outcome = session.run(job, CancellationToken::new()).await?;
    let output = String::from_utf8_lossy(&outcome.output).into_owned();
    ensure!(outcome.end == End::Exited(0), "{argv:?} ended with {:?}: {output}", outcome.end);
    Ok(output)
}
