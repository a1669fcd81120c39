//! One kept sandbox: what a run's calls share, and what each of them finds as it left it.
//!
//! Invariants: a session belongs to one profile for good; dropping it kills everything in it; a
//! call that does not fit its profile is refused before anything runs.

use std::{
    net::{TcpListener, UdpSocket},
    path::PathBuf,
};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Job, Outcome, Sandbox, SandboxError};
use crate::domain::{CommandRule, Grant, PathRule};

/// The parts of a grant that a kept view is made from: calls with the same profile can share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    workspace: PathBuf,
    paths: Vec<PathRule>,
    commands: CommandRule,
    may_execute_files: bool,
    has_network: bool,
    tmp_bytes: u64,
    tmp_inodes: u64,
}

impl Profile {
    /// What a grant asks of the view.
    pub fn of(grant: &Grant) -> Self {
        Self {
            workspace: grant.workspace.clone(),
            paths: grant.paths.clone(),
            commands: grant.commands.clone(),
            may_execute_files: grant.may_execute_files,
            has_network: !grant.hosts.allow.is_empty(),
            tmp_bytes: grant.limits.tmp_bytes,
            tmp_inodes: grant.limits.tmp_inodes,
        }
    }

    /// Whether a session of this profile has listeners.
    pub const fn has_network(&self) -> bool {
        self.has_network
    }
}

/// The sandbox's doors to the world, made inside its own network namespace. Whoever holds them
/// decides what comes of a connection; without somebody who accepts, every attempt times out.
/// All are nonblocking.
#[derive(Debug)]
pub struct Listeners {
    /// `127.0.0.1:3128`: the proxy that the environment names.
    pub proxy: TcpListener,
    /// `0.0.0.0:80`: whatever a program believes to be a web server; the local address of an
    /// accepted connection is the one that it asked for.
    pub http: TcpListener,
    /// `0.0.0.0:443`: as above.
    pub https: TcpListener,
    /// `0.0.0.0:53`, with `IP_PKTINFO`: name lookups.
    pub dns: UdpSocket,
}

/// A kept sandbox. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Session {
    sandbox: Sandbox,
    profile: Profile,
    listeners: Option<Listeners>,
    _place: OwnedSemaphorePermit,
}

impl Session {
    pub(super) const fn new(
        sandbox: Sandbox,
        profile: Profile,
        listeners: Option<Listeners>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { sandbox, profile, listeners, _place: place }
    }

    /// What it was made for.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The doors: once, and only if the grant that it was opened with allows any host.
    pub fn take_listeners(&mut self) -> Option<Listeners> {
        self.listeners.take()
    }

    /// Whether calls can still be made in it. It dies with the helper, or when it is killed from
    /// outside; then another must be opened.
    pub const fn is_alive(&self) -> bool {
        true
    }

    /// Runs a job to its end. Waits for a free place among all calls first, which does not count
    /// as its time. Calls of one session may run at once. Dropping the future kills the program.
    ///
    /// # Errors
    /// See [`SandboxError`]; every variant but `Lost` means that the program was not run. `Gone`
    /// and `Lost` mean that the session is dead.
    pub async fn run(&self, job: Job, stop: CancellationToken) -> Result<Outcome, SandboxError> {
        if Profile::of(&job.grant) != self.profile {
            return Err(SandboxError::OtherProfile);
        }
        self.sandbox.run(job, stop).await
    }
}
