//! The docker backend: one container of a local Docker engine per kept sandbox.
//!
//! Invariants: the same plan, the same limits and the same outcome as our own sandbox, or a refusal
//! that says what cannot be had. A call is over only when nothing of it is alive: a container in
//! which anything is left, or which had to be stopped, is removed and the next call gets a new one.
//! Without an engine nothing runs, and the status says why. See docs/SANDBOX.md, "Other backends".

mod api;
mod canary;
mod container;
mod exec;
mod spec;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{getegid, geteuid};
use serde::Deserialize;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    api::{Api, ApiError},
    container::Container,
    exec::Exec,
};
use super::{
    End, Job, LockError, Outcome, SandboxError, Status, TOOL_UID,
    output::Capture,
    plan::{self, Plan, Program},
    prepare_workspace,
};
use crate::{
    domain::{CommandRule, Confinement, Grant},
    runtime::{TaskKind, Tasks, tasks::lock},
};

/// How often the keeper looks whether the engine is there.
const TICK: Duration = Duration::from_secs(5);
/// How long the canary may take.
const CANARY_WALL: Duration = Duration::from_secs(15);
/// What is always said of this backend.
const NOTE: &str = "containers of the docker engine: programs have no network, whatever hosts an \
                    agent may reach; the workspace is executable";

/// Which engine, and what tools see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOptions {
    /// The engine's unix socket. It must be on this machine: trees are mounted from here.
    pub socket: PathBuf,
    /// The image that tools see, which must be there. It needs `sh`, `cat` and `stat`.
    pub image: String,
}

/// The engine. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Docker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    api: Api,
    options: DockerOptions,
    data_dir: PathBuf,
    state: Mutex<State>,
    /// Names of containers that nobody holds any more.
    doomed: Mutex<Vec<String>>,
    wake: Notify,
}

#[derive(Clone, Debug)]
struct State {
    status: Status,
    /// Whether it may be different later, without anybody changing the configuration.
    may_change: bool,
}

/// Why the engine cannot be used.
#[derive(Debug)]
struct Trouble {
    reason: String,
    may_change: bool,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self { reason: error.to_string(), may_change: true }
    }
}

impl From<ApiError> for SandboxError {
    fn from(error: ApiError) -> Self {
        Self::Unavailable { reason: error.to_string() }
    }
}

impl Docker {
    /// Removes what an older daemon on this data directory left and lets the canary loose.
    ///
    /// # Errors
    /// Only when an older daemon's containers are there and cannot be removed.
    pub(super) async fn start(
        options: DockerOptions,
        data_dir: &Path,
        tasks: &Tasks,
    ) -> Result<Self, SandboxError> {
        let status = super::unusable("it was not looked at yet".to_owned());
        let inner = Arc::new(Inner {
            api: Api::new(options.socket.clone()),
            options,
            data_dir: data_dir.to_owned(),
            state: Mutex::new(State { status, may_change: true }),
            doomed: Mutex::default(),
            wake: Notify::new(),
        });
        match container::remove_leftovers(&inner).await {
            // Without an engine there is nothing to remove: containers end with the connections of
            // the daemon that made them, and with the engine.
            Ok(0) | Err(ApiError::Unreachable { .. }) => {}
            Ok(count) => {
                tracing::warn!(count, "removed the containers of a daemon that is gone");
            }
            Err(error) => {
                tracing::error!(%error, "an older daemon's containers cannot be removed");
                return Err(SandboxError::Lock(LockError::Held));
            }
        }
        inner.look().await;
        let docker = Self { inner };
        let keeper = Arc::clone(&docker.inner);
        tasks.spawn(TaskKind::Helper, |stop| async move {
            // Both branches are cancel-safe: a removal that is cut short is begun again by the
            // next daemon.
            tokio::select! {
                () = keeper.keep() => {}
                () = stop.wait_hard() => {}
            }
        });
        Ok(docker)
    }

    pub(super) fn status(&self) -> Status {
        lock(&self.inner.state).status.clone()
    }

    /// A kept sandbox for calls under this grant. Its container is made by the first call.
    pub(super) fn open(&self, grant: &Grant) -> Result<Kept, SandboxError> {
        let status = self.status();
        if !status.usable {
            let reason = status.reason.unwrap_or_else(|| "it is not usable".to_owned());
            return Err(SandboxError::Unavailable { reason });
        }
        match grant.commands {
            CommandRule::None => return Err(SandboxError::NotGranted),
            CommandRule::Only(_) => {
                let reason = "the docker backend cannot keep a program out of the image: it does \
                              not carry out a list of allowed commands"
                    .to_owned();
                return Err(SandboxError::Unavailable { reason });
            }
            CommandRule::Any => {}
        }
        let plan = plan::plan(grant, &self.inner.data_dir)?;
        Ok(Kept {
            inner: Arc::clone(&self.inner),
            plan,
            may_execute_files: grant.may_execute_files,
            container: Mutex::new(None),
            turn: Semaphore::new(1),
        })
    }
}

impl Inner {
    /// Looks whether the engine can be used, and remembers it.
    async fn look(self: &Arc<Self>) {
        let state = match Box::pin(self.measure()).await {
            Ok(()) => {
                let level = Confinement::Docker;
                let status = Status { level, usable: true, reason: Some(NOTE.to_owned()) };
                State { status, may_change: true }
            }
            Err(Trouble { reason, may_change }) => {
                State { status: super::unusable(format!("docker: {reason}")), may_change }
            }
        };
        *lock(&self.state) = state;
    }

    async fn measure(self: &Arc<Self>) -> Result<(), Trouble> {
        #[derive(Deserialize)]
        struct Image {
            #[serde(rename = "Os")]
            system: String,
        }
        let image = self.options.image.as_str();
        let path = format!("/images/{}/json", api::in_query(image));
        let found: Image = match self.api.get("look at the image", &path).await {
            Err(ApiError::Refused { status: 404, .. }) => {
                let reason = format!("there is no image `{image}`: pull or import it");
                return Err(Trouble { reason, may_change: true });
            }
            found => found?,
        };
        let broken = |reason: String| Trouble { reason, may_change: false };
        if found.system != "linux" {
            return Err(broken(format!("the image `{image}` is not for Linux")));
        }
        let directory = self.data_dir.join("canary");
        let workspace = directory.join("workspace");
        prepare_workspace(&workspace).map_err(|e| broken(e.to_string()))?;
        let outside = directory.join("outside-docker");
        std::fs::write(&outside, "untouched").map_err(|e| broken(e.to_string()))?;
        let bait =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| broken(e.to_string()))?;
        let port = bait.local_addr().map_err(|e| broken(e.to_string()))?.port();
        let grant = Grant::new(workspace, CommandRule::Any);
        let plan = plan::plan(&grant, &self.data_dir).map_err(|e| broken(e.to_string()))?;
        let started = Container::start(self, &plan, grant.limits, false).await;
        let container = started.map_err(|e| Trouble { reason: e.to_string(), may_change: true })?;
        let exec = Exec {
            argv: canary::command(&outside, port),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: tool_ids(),
            stdin: Vec::new(),
            wall: CANARY_WALL,
            capture: Capture::new(16 << 10, None),
        };
        let ended = exec::run(&container, exec, &CancellationToken::new()).await;
        let ended = ended.map_err(|e| Trouble {
            reason: format!("the canary did not run: {e}"),
            may_change: true,
        })?;
        container.remove().await?;
        if ended.end != End::Exited(0) {
            return Err(broken(format!("the canary ended with {:?}", ended.end)));
        }
        canary::judge(&String::from_utf8_lossy(&ended.output)).map_err(broken)?;
        bait.set_nonblocking(true).map_err(|e| broken(e.to_string()))?;
        let is_untouched = std::fs::read_to_string(&outside).is_ok_and(|t| t == "untouched");
        if bait.accept().is_ok() || !is_untouched {
            return Err(broken("the canary was seen outside".to_owned()));
        }
        Ok(())
    }

    /// Removes what nobody holds any more, and looks after the engine.
    async fn keep(self: Arc<Self>) {
        let mut look_at = Instant::now() + TICK;
        loop {
            // Times out when there is nothing to be removed.
            timeout(look_at - Instant::now(), self.wake.notified()).await.ok();
            let doomed = std::mem::take(&mut *lock(&self.doomed));
            for name in doomed {
                if let Err(error) = container::remove(&self, &name).await {
                    tracing::warn!(%error, name, "cannot remove a container yet");
                    lock(&self.doomed).push(name);
                }
            }
            if Instant::now() >= look_at {
                self.tend().await;
                look_at = Instant::now() + TICK;
            }
        }
    }

    async fn tend(self: &Arc<Self>) {
        let State { status, may_change } = lock(&self.state).clone();
        if !status.usable {
            if may_change {
                self.look().await;
                if lock(&self.state).status.usable {
                    tracing::info!("the docker engine can be used again");
                }
            }
        } else if let Err(error) = self.api.act("answer", "GET", "/_ping").await {
            tracing::error!(%error, "the docker engine is gone");
            let status = super::unusable(format!("docker: {error}"));
            *lock(&self.state) = State { status, may_change: true };
        }
        if !lock(&self.doomed).is_empty() {
            self.wake.notify_one();
        }
    }
}

/// A kept sandbox: at most one container at a time, and one call at a time in it.
#[derive(Debug)]
pub(super) struct Kept {
    inner: Arc<Inner>,
    plan: Plan,
    may_execute_files: bool,
    container: Mutex<Option<Container>>,
    /// One call at a time: what a call leaves behind can be told from another call only so.
    turn: Semaphore,
}

impl Kept {
    /// Runs a job to its end. Waiting for the call before it and for the container does not count
    /// as its time. Dropping the future ends the container.
    pub(super) async fn run(
        &self,
        job: Job,
        stop: &CancellationToken,
    ) -> Result<Outcome, SandboxError> {
        let limits = job.grant.limits;
        let call = plan::call(&job.grant, &self.plan, job.argv, &job.env, &job.cwd)?;
        let Program::Exec { argv, env } = call.program else {
            return Err(SandboxError::NotGranted);
        };
        // Both branches are cancel-safe: a semaphore permit and a token.
        let _turn = tokio::select! {
            turn = self.turn.acquire() => turn,
            () = stop.cancelled() => return Err(SandboxError::Stopped),
        };
        let kept = lock(&self.container).take().filter(|c| c.limits == limits);
        let is_new = kept.is_none();
        let mut container = match kept {
            Some(container) => container,
            None => self.container(limits).await?,
        };
        let exec = |container: &Container| Exec {
            argv: argv.clone(),
            // The image knows where its programs are.
            env: env.iter().filter(|(name, _)| name != "PATH").cloned().collect(),
            cwd: call.cwd.display().to_string(),
            user: tool_ids(),
            stdin: job.stdin.clone(),
            wall: job.wall,
            capture: Capture::new(container.limits.output_bytes, job.output.clone()),
        };
        let mut started = Instant::now();
        let mut ran = Box::pin(exec::run(&container, exec(&container), stop)).await;
        if matches!(ran, Err(SandboxError::Gone)) && !is_new {
            // It ended between two calls: the engine was started again, or a person removed it.
            container = self.container(limits).await?;
            started = Instant::now();
            ran = Box::pin(exec::run(&container, exec(&container), stop)).await;
        }
        let ended = match ran {
            Ok(ended) => ended,
            Err(error @ (SandboxError::NotExecuted { .. } | SandboxError::Setup { .. })) => {
                *lock(&self.container) = Some(container);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if ended.is_own_end && container.is_clean().await {
            *lock(&self.container) = Some(container);
        } else if let Err(error) = container.remove().await {
            tracing::error!(%error, "a container may still run");
            return Err(SandboxError::Lost);
        }
        Ok(Outcome {
            end: ended.end,
            output: ended.output,
            truncated: ended.is_truncated,
            duration: started.elapsed(),
            level: Confinement::Docker,
            limits_reached: ended.end.limit().into_iter().collect(),
        })
    }

    /// Removes the container, if there is one, and waits until it is gone.
    pub(super) async fn close(self) {
        let container = lock(&self.container).take();
        if let Some(container) = container
            && let Err(error) = container.remove().await
        {
            tracing::error!(%error, "a container may still run; the keeper goes on trying");
        }
    }

    async fn container(
        &self,
        limits: crate::domain::ToolLimits,
    ) -> Result<Container, SandboxError> {
        let started = Container::start(&self.inner, &self.plan, limits, self.may_execute_files);
        Box::pin(started).await
    }
}

/// The ids of a tool's process: those that the workspace belongs to.
fn tool_ids() -> (u32, u32) {
    if geteuid().is_root() {
        (TOOL_UID, TOOL_UID)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}
