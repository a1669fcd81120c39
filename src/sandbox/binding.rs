//! What of a call an approval binds, for each backend.
//!
//! Invariant: what is looked at before the question is looked at again before the start, by the same
//! code. Our own sandbox checks it a last time from inside; another backend starts by name, right
//! after this check (docs/APPROVALS.md says what that leaves).

use std::{os::fd::OwnedFd, sync::Arc};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Backend, Job, Sandbox, SandboxError,
    bound::{self, BindError, Exact},
    wire::Change,
};
use crate::{
    domain::{
        Bound, CommandRule, Confinement, EgressLimits, Grant, HostPolicy, PathRule, ToolLimits,
    },
    runtime::Tasks,
};

/// Everything that a call may touch, in a fixed order.
#[derive(Serialize)]
struct Profile<'a> {
    workspace: &'a std::path::Path,
    paths: &'a [PathRule],
    commands: &'a CommandRule,
    may_execute_files: bool,
    hosts: &'a HostPolicy,
    same_host_only: bool,
    egress: &'a EgressLimits,
    limits: &'a ToolLimits,
    backend: String,
    level: Confinement,
}

impl Sandbox {
    /// SHA-256 (hex) over what a call under this grant may touch, its limits, and what confines it.
    pub fn profile(&self, grant: &Grant) -> String {
        let profile = Profile {
            workspace: &grant.workspace,
            paths: &grant.paths,
            commands: &grant.commands,
            may_execute_files: grant.may_execute_files,
            hosts: &grant.hosts,
            same_host_only: grant.same_host_only,
            egress: &grant.egress,
            limits: &grant.limits,
            backend: self.backend(),
            level: self.status().level,
        };
        // A path that is no text cannot be written as JSON; such a grant is refused by every plan.
        let text = serde_json::to_vec(&profile).unwrap_or_default();
        data_encoding::HEXLOWER.encode(&Sha256::digest(&text))
    }

    fn backend(&self) -> String {
        match &self.inner.options.backend {
            Backend::Sandbox => "sandbox".to_owned(),
            Backend::Docker(options) => format!("docker {}", options.image),
            Backend::Local { .. } => "local".to_owned(),
        }
    }

    /// What a process call would touch. Blocking: run off the async threads.
    ///
    /// # Errors
    /// [`BindError`]: there is nothing that could be approved.
    pub fn bind(&self, grant: &Grant, program: &str, cwd: &str) -> Result<Bound, BindError> {
        let bound = match self.inner.options.backend {
            // The image brings the programs; its name stands in the profile.
            Backend::Docker(_) => bound::look_at_directory(grant, cwd)?,
            Backend::Sandbox | Backend::Local { .. } => bound::look(grant, program, cwd)?,
        };
        Ok(Bound { profile: self.profile(grant), ..bound })
    }

    /// What our own sandbox's process has to check.
    pub(super) async fn exact(
        &self,
        grant: Arc<Grant>,
        bound: Arc<Bound>,
    ) -> Result<(Exact, Option<OwnedFd>), SandboxError> {
        let exact = Tasks::spawn_blocking(move || bound::exact(&grant, &bound)).await;
        exact.ok().flatten().ok_or(SandboxError::Changed(Change::Program))
    }

    /// Looks once more, for a backend that starts by name.
    pub(super) async fn verify(&self, job: &Job) -> Result<(), SandboxError> {
        let Some(wanted) = job.bound.clone() else { return Ok(()) };
        let (sandbox, grant) = (self.clone(), Arc::clone(&job.grant));
        let (argv, cwd) = (job.argv.clone(), job.cwd.clone());
        let look = move || sandbox.bind(&grant, argv.first().map_or("", String::as_str), &cwd);
        let found = Tasks::spawn_blocking(look).await;
        let found =
            found.ok().and_then(Result::ok).ok_or(SandboxError::Changed(Change::Program))?;
        if found.cwd != wanted.cwd {
            return Err(SandboxError::Changed(Change::Directory));
        }
        if found != *wanted {
            return Err(SandboxError::Changed(Change::Program));
        }
        Ok(())
    }
}
