//! One kept sandbox: what a run's calls share, and what each of them finds as it left it.
//!
//! Invariants: a session belongs to one profile for good; dropping it kills everything in it; a
//! call that does not fit its profile is refused before anything runs.

use std::{
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    time::Duration,
};

use rustix::process::geteuid;
use tokio::{
    io::unix::AsyncFd,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Job, Outcome, Sandbox, SandboxError,
    backend::OtherKept,
    call::{self, Victim},
    kept::Open,
    mounts, net, net_canary,
    parent::{FULL_PAUSE, Helper},
    plan::Plan,
    protected, sys,
    wire::{self, AtStep, Failure, Message, Packed, Report},
};
use crate::{
    domain::{CommandRule, Grant, PathRule},
    runtime::failpoint::{Injected, Point, reach},
};

/// How long a sandbox may take to be built.
const BUILD_WAIT: Duration = Duration::from_secs(10);
/// Times that a sandbox is built when the helper died meanwhile, or had prepared one before the
/// machine's mounts changed.
const BUILDS: u32 = 3;
/// How long a request waits while the sandbox is slow to take earlier ones.
const QUEUE_WAIT: Duration = Duration::from_secs(3);

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
    home: Home,
    sandbox: Sandbox,
    profile: Profile,
    listeners: Option<Listeners>,
    _place: OwnedSemaphorePermit,
}

/// What a session's calls run in.
#[derive(Debug)]
pub(super) enum Home {
    Own(Kept),
    Other(OtherKept),
}

impl Session {
    pub(super) const fn new(
        sandbox: Sandbox,
        profile: Profile,
        home: Home,
        listeners: Option<Listeners>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { home, sandbox, profile, listeners, _place: place }
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
    pub fn is_alive(&self) -> bool {
        match &self.home {
            Home::Own(kept) => kept.pid_1.is_alive(),
            // What died of it is replaced at the next call.
            Home::Other(_) => true,
        }
    }

    /// Runs a job to its end. Waits for a free place among all calls first, which does not count
    /// as its time. Calls of one session may run at once. Dropping the future kills the program.
    ///
    /// # Errors
    /// See [`SandboxError`]; every variant but `Lost` means that the program was not run. `Gone`
    /// means that the session is dead, `Lost` that it may be.
    pub async fn run(&self, job: Job, stop: CancellationToken) -> Result<Outcome, SandboxError> {
        if Profile::of(&job.grant) != self.profile {
            return Err(SandboxError::OtherProfile);
        }
        self.sandbox.run_in(&self.home, job, stop).await
    }

    /// Tries every way out of this sandbox from inside, while somebody serves its doors under a
    /// policy that allows no name that the canary asks for.
    ///
    /// # Errors
    /// What got through, or why nobody knows.
    pub async fn check_network(&self, grant: &Grant) -> Result<(), String> {
        match &self.home {
            Home::Own(kept) => net_canary::check(kept, self.sandbox.watch(), grant).await,
            Home::Other(_) => Err("this backend has no doors to try".to_owned()),
        }
    }

    /// Kills everything in it and waits until it is gone.
    pub async fn close(self) {
        match self.home {
            Home::Own(Kept { pid_1, requests, .. }) => {
                drop(requests);
                pid_1.kill();
                pid_1.dead().await;
            }
            Home::Other(kept) => kept.close().await,
        }
    }
}

/// The daemon's hold on a kept sandbox; dropping it kills everything in it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) plan: Plan,
    /// How full its `/tmp` is can be asked here, if it has one of its own.
    pub(super) tmp: Option<OwnedFd>,
    pub(super) pid_1: Victim,
    requests: OwnedFd,
}

impl Kept {
    /// Has one built by the helper. Cancel-safe: dropping the future leaves nothing behind.
    pub(super) async fn build(
        helper: &Helper,
        plan: Plan,
    ) -> Result<(Self, Option<Listeners>), SandboxError> {
        let mut builds = 1;
        loop {
            let built = Self::build_once(helper, &plan).await;
            let is_worth_another = match &built {
                Err(SandboxError::Gone) => true,
                Err(SandboxError::Setup { failure }) => failure.errno == libc::ESTALE,
                _ => false,
            };
            match built {
                Ok((Built { pid_1, tmp, listeners }, requests)) => {
                    return Ok((Self { plan, tmp, pid_1, requests }, listeners));
                }
                Err(_) if is_worth_another && builds < BUILDS => builds += 1,
                Err(SandboxError::Gone) => {
                    return Err(SandboxError::Unavailable { reason: helper.failure() });
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn build_once(helper: &Helper, plan: &Plan) -> Result<(Built, OwnedFd), SandboxError> {
        let (socket, theirs) = wire::pair().at("socketpair")?;
        let trees = trees(plan)?;
        let request = wire::pack(&Open { plan: plan.clone(), identities: identities(plan)? })?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(trees.iter().map(AsFd::as_fd));
        reach(Point::SandboxBuildBefore).await.map_err(injected)?;
        if let Err(errno) = helper.ask(&request, &descriptors).await {
            tracing::warn!(error = %errno, "a sandbox could not be asked of the helper");
            return Err(SandboxError::Unavailable { reason: helper.failure() });
        }
        drop((theirs, trees));
        let socket = sys::watch(socket).at("watch the sandbox")?;
        let ready = ready(&socket, plan.has_namespaces);
        match timeout_at(Instant::now() + BUILD_WAIT, ready).await {
            Ok(built) => {
                let built = built?;
                reach(Point::SandboxBuildAfter).await.map_err(injected)?;
                Ok((built, socket.into_inner()))
            }
            Err(_) => Err(SandboxError::Unavailable {
                reason: format!("a sandbox was not ready after {BUILD_WAIT:?}"),
            }),
        }
    }

    /// Hands over a request for a call. Cancel-safe: it is either sent whole or not.
    pub(super) async fn ask(
        &self,
        request: &Packed,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), SandboxError> {
        let patience = Instant::now() + QUEUE_WAIT;
        loop {
            match request.send(&self.requests, descriptors) {
                Ok(()) => return Ok(()),
                // The queue holds ten requests, unless the machine's settings say more.
                Err(rustix::io::Errno::AGAIN) if Instant::now() < patience => {
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                Err(_) => return Err(SandboxError::Gone),
            }
        }
    }
}

fn injected(fault: Injected) -> SandboxError {
    SandboxError::Unavailable { reason: fault.to_string() }
}

/// What comes with a sandbox's word that it takes calls.
struct Built {
    pid_1: Victim,
    tmp: Option<OwnedFd>,
    listeners: Option<Listeners>,
}

/// Waits for a sandbox's word that it takes calls.
async fn ready(socket: &AsyncFd<OwnedFd>, has_namespaces: bool) -> Result<Built, SandboxError> {
    let mut pid_1 = None;
    loop {
        let Message { bytes, mut descriptors } = call::receive(socket).await.unwrap_or_default();
        match (serde_json::from_slice(&bytes), pid_1.take()) {
            (Ok(Report::Started), _) => {
                let pidfd = descriptors.pop().ok_or(SandboxError::Gone)?;
                pid_1 = Some(Victim::new(pidfd, has_namespaces)?);
            }
            (Ok(Report::Ready), Some(pid_1)) => {
                let mut descriptors = descriptors.into_iter();
                let tmp = if has_namespaces {
                    Some(descriptors.next().ok_or(SandboxError::Gone)?)
                } else {
                    None
                };
                let listeners = net::listeners(descriptors.collect())?;
                return Ok(Built { pid_1, tmp, listeners });
            }
            (Ok(Report::Failed(failure)), _) => return Err(SandboxError::Setup { failure }),
            // Closed: it died, or the helper did.
            _ => return Err(SandboxError::Gone),
        }
    }
}

/// Makes the protected names of the workspace, and clones the trees if this is root: root's helper
/// has become somebody who may not be able to walk to them. Without the capability to clone, the
/// sandbox opens them itself. Neither follows a link: one that was no link when an operator named
/// it may have been put there by a tool that can write above it, and root would follow it anywhere.
fn trees(plan: &Plan) -> Result<Vec<OwnedFd>, SandboxError> {
    protected::prepare(&plan.home)?;
    if !plan.has_namespaces || !geteuid().is_root() {
        return Ok(Vec::new());
    }
    let clones: Result<Vec<_>, Failure> = plan.trees.iter().map(mounts::detach).collect();
    match clones {
        Err(failure) if failure.errno == libc::EPERM => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// What the sandbox must find where it opens the trees itself: it may have been prepared before
/// something was mounted there.
fn identities(plan: &Plan) -> Result<Vec<(u64, u64)>, Failure> {
    let identity = |tree: &super::plan::Tree| {
        let found = std::fs::symlink_metadata(&tree.source)
            .at(format!("open {}", tree.source.display()))?;
        Ok((found.dev(), found.ino()))
    };
    plan.trees.iter().map(identity).collect()
}
