//! What may carry out jobs instead of our own sandbox.
//!
//! Invariant: chosen by the operator, never fallen back to.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{
    Job, Outcome, SandboxError, Status,
    docker::{self, Docker, DockerOptions},
    local,
    plan::Plan,
};
use crate::{domain::Grant, runtime::Tasks};

/// What carries out tool processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Our own sandbox.
    #[default]
    Sandbox,
    /// A container of a Docker engine for each kept sandbox.
    Docker(DockerOptions),
    /// Plain processes: nothing is confined.
    Local {
        /// Whether this is a development machine; otherwise nothing runs.
        development: bool,
    },
}

/// A backend that is not our own.
#[derive(Debug)]
pub(super) enum Other {
    Docker(Docker),
    Local(Status),
}

impl Other {
    /// Starts the backend; none if it is our own.
    pub(super) async fn start(
        backend: &Backend,
        data_dir: &Path,
        tasks: &Tasks,
    ) -> Result<Option<Self>, SandboxError> {
        Ok(match backend {
            Backend::Sandbox => None,
            Backend::Docker(options) => {
                Some(Self::Docker(Docker::start(options.clone(), data_dir, tasks).await?))
            }
            Backend::Local { development } => Some(Self::Local(local::status(*development))),
        })
    }

    pub(super) fn status(&self) -> Status {
        match self {
            Self::Docker(docker) => docker.status(),
            Self::Local(status) => status.clone(),
        }
    }

    /// What a session of this backend keeps.
    pub(super) fn open(&self, grant: &Grant, data_dir: &Path) -> Result<OtherKept, SandboxError> {
        let status = self.status();
        if !status.usable {
            return Err(status.refusal());
        }
        Ok(match self {
            Self::Docker(docker) => OtherKept::Docker(Box::new(docker.open(grant)?)),
            Self::Local(_) => OtherKept::Local(Box::new(local::open(grant, data_dir)?)),
        })
    }
}

/// What a session of another backend keeps.
#[derive(Debug)]
pub(super) enum OtherKept {
    Docker(Box<docker::Kept>),
    Local(Box<Plan>),
}

impl OtherKept {
    pub(super) async fn run(
        &self,
        job: Job,
        stop: &CancellationToken,
    ) -> Result<Outcome, SandboxError> {
        match self {
            Self::Docker(kept) => Box::pin(kept.run(job, stop)).await,
            Self::Local(plan) => Box::pin(local::run(plan, job, stop)).await,
        }
    }

    /// Ends what it keeps and waits until that is gone.
    pub(super) async fn close(self) {
        match self {
            Self::Docker(kept) => kept.close().await,
            Self::Local(_) => {}
        }
    }
}
