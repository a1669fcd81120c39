//! Runs a program so that it reaches nothing beyond its grant.
//!
//! Invariants: this module decides nothing about what is allowed, it carries out a `Grant`;
//! nothing ever runs with less confinement than the canary measured at start; nothing of a call
//! outlives it. See `docs/SANDBOX.md` for the sequence and for what does not hold.

mod attest;
mod backend;
mod binding;
mod bound;
mod call;
mod canary;
mod cgroup;
mod child;
mod cover;
mod deadman;
pub mod dir;
mod docker;
mod fs_rules;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod kept;
mod levels;
mod limits;
mod local;
mod lock;
mod mounts;
mod net;
mod net_canary;
mod output;
mod parent;
mod plan;
mod programs;
mod protected;
mod quota;
mod session;
mod space;
mod spaces;
mod sys;
mod syscall_lists;
mod syscall_numbers;
mod syscalls;
mod target;
mod usage;
pub mod walk;
mod watch;
mod wire;
mod workspace;
mod zygote;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use attest::{Attestation, Finding, Shown, attest, attest_with_helper};
pub use backend::Backend;
pub use bound::BindError;
pub use docker::DockerOptions;
pub use lock::LockError;
pub use output::Live;
pub use plan::{ARGUMENT_BYTES_MAX, PlanError};
pub use protected::ProtectedError;
pub use session::{Listeners, Profile, Session};
pub use syscalls::seccomp_program;
pub use wire::{Change, Failure};
pub use workspace::{WorkspaceError, give_to_tools, prepare_workspace};
pub use zygote::{TOOL_UID, helper_main, helper_requested};

use self::{
    backend::{Other, OtherKept},
    levels::{judge, measure, unusable},
    lock::Lock,
    output::Capture,
    parent::Helper,
    session::{Home, Kept},
    watch::Watch,
};
use crate::{
    domain::{Bound, CommandRule, Confinement, Grant},
    runtime::Tasks,
};

/// Our own program, which the helper is another run of.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long the canary may take.
const CANARY_WALL: Duration = Duration::from_secs(15);

/// What the operator wants of the sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether process tools are offered at all.
    pub enabled: bool,
    /// The weakest level at which they are.
    pub min_level: Confinement,
    /// The daemon's data directory: the lock lies there, and tools never see it.
    pub data_dir: PathBuf,
    /// Tool processes at once; further calls wait.
    pub processes_max: usize,
    /// Kept sandboxes at once; whoever opens a further one waits for a place.
    pub sessions_max: usize,
    /// What carries out the calls. `min_level` concerns our own sandbox only.
    pub backend: Backend,
}

/// Whether process tools can run, and how well confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the canary measured.
    pub level: Confinement,
    /// Whether calls are carried out.
    pub usable: bool,
    /// Why not, or why the level is not full.
    pub reason: Option<String>,
}

impl Status {
    /// The answer to a call when this is not usable.
    fn refusal(self) -> SandboxError {
        let reason = self.reason.unwrap_or_else(|| "it is not usable".to_owned());
        SandboxError::Unavailable { reason }
    }
}

/// A program to run.
#[derive(Debug)]
pub struct Job {
    /// What it may touch.
    pub grant: Arc<Grant>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables beside those that the sandbox sets.
    pub env: Vec<(String, String)>,
    /// Working directory: relative to the workspace, or absolute inside a granted tree.
    pub cwd: String,
    /// What a person was shown; anything else is not run.
    pub bound: Option<Arc<Bound>>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Wall clock before it is killed.
    pub wall: Duration,
    /// Where pieces of output go while it runs; dropped when nobody keeps up.
    pub output: Option<Live>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Killed at the wall clock bound.
    TimedOut,
    /// Killed because the call was stopped.
    Stopped,
    /// Killed at a limit, which is named.
    Limit(&'static str),
}

impl End {
    /// The limit at which it was killed.
    pub const fn limit(self) -> Option<&'static str> {
        match self {
            Self::Limit(name) => Some(name),
            Self::Exited(_) | Self::Signaled(_) | Self::TimedOut | Self::Stopped => None,
        }
    }
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Both streams, as they came, bounded by the grant.
    pub output: Vec<u8>,
    /// Whether output was left out.
    pub truncated: bool,
    /// Time from request to death.
    pub duration: Duration,
    /// How it was confined.
    pub level: Confinement,
    /// Names of the limits that it was seen to reach, the one that it was killed for among them.
    pub limits_reached: Vec<&'static str>,
}

/// Why a job did not run or nobody knows how it ended.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The confinement cannot be had; nothing was run.
    #[error("the sandbox is not available: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The job itself cannot be; nothing was run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The grant lets no program run.
    #[error("the grant allows no program")]
    NotGranted,
    /// A step of the sequence failed; nothing was run.
    #[error("the sandbox could not be built: {failure}")]
    Setup {
        /// Which step, and why.
        #[from]
        failure: Failure,
    },
    /// The program could not be started.
    #[error("cannot run {failure}")]
    NotExecuted {
        /// The program, and why.
        failure: Failure,
    },
    /// Something is not what was approved; nothing was run.
    #[error("{0}")]
    Changed(Change),
    /// A protected name of the workspace cannot be held; nothing was run.
    #[error(transparent)]
    Protected(#[from] ProtectedError),
    /// The call was stopped before it began.
    #[error("the call was stopped before it began")]
    Stopped,
    /// The session had died before the call began; nothing was run. Another one can be opened.
    #[error("the kept sandbox of the run is gone; nothing was run")]
    Gone,
    /// The grant does not fit the session's profile; nothing was run.
    #[error("the call's grant is not the one that the kept sandbox was made for")]
    OtherProfile,
    /// The sandbox was killed from outside: the program may have run in part.
    #[error("the sandbox was killed from outside; how far the program came is not known")]
    Lost,
    /// The liveness lock cannot be had: an older daemon's tools may still run.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// A place for one session.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

/// The sandbox. Clones share the helper.
#[derive(Clone, Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    status: Status,
    helper: Option<Helper>,
    watch: Watch,
    other: Option<Other>,
    permits: Semaphore,
    places: Arc<Semaphore>,
    _lock: Arc<Lock>,
}

impl Sandbox {
    /// Ends what an older daemon left, starts the helper and measures the confinement.
    ///
    /// # Errors
    /// Only when the liveness lock cannot be had: then tools of an older daemon may be alive and
    /// recovery must not begin. A missing confinement is no error but [`Sandbox::status`].
    pub async fn start(options: Options, tasks: &Tasks) -> Result<Self, SandboxError> {
        Self::start_with_helper(options, PathBuf::from(OWN_PROGRAM), tasks).await
    }

    /// As [`Sandbox::start`], with another program as helper: one whose `main` begins with
    /// [`helper_requested`] and [`helper_main`].
    pub async fn start_with_helper(
        mut options: Options,
        helper: PathBuf,
        tasks: &Tasks,
    ) -> Result<Self, SandboxError> {
        // Real and absolute, so that it can be compared with what a grant names.
        options.data_dir = std::fs::canonicalize(&options.data_dir)
            .map_err(|source| LockError::File { path: options.data_dir.clone(), source })?;
        // Tools share no user namespace with us, but other processes of our user might.
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "the daemon's memory stays readable for its own user");
        }
        let lock = Arc::new(Lock::acquire(&options.data_dir).await?);
        let watch = Watch::start(&options.data_dir, tasks);
        let (mut helper_used, mut other) = (None, None);
        let status = if !options.enabled {
            unusable("it is turned off by configuration".to_owned())
        } else if let Some(backend) =
            Box::pin(Other::start(&options.backend, &options.data_dir, tasks)).await?
        {
            other.insert(backend).status()
        } else {
            let helper = Helper::start(helper, Arc::clone(&lock), tasks)?;
            let helper = helper_used.insert(helper);
            let measured =
                Box::pin(measure(helper, &watch, &options.data_dir, options.min_level)).await;
            judge(measured, options.min_level)
        };
        match &status.reason {
            None => tracing::info!(level = status.level.as_str(), "sandbox measured"),
            Some(reason) => {
                tracing::warn!(level = status.level.as_str(), usable = status.usable, %reason, "sandbox measured");
            }
        }
        let permits = Semaphore::new(options.processes_max.clamp(1, Semaphore::MAX_PERMITS));
        let places = Semaphore::new(options.sessions_max.clamp(1, Semaphore::MAX_PERMITS));
        let places = Arc::new(places);
        let inner = Inner {
            options,
            status,
            helper: helper_used,
            watch,
            other,
            permits,
            places,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What was measured at start; not usable while the helper cannot be started again.
    pub fn status(&self) -> Status {
        let Inner { status, helper, other, .. } = &*self.inner;
        if let Some(other) = other {
            return other.status();
        }
        match helper.as_ref().and_then(Helper::trouble) {
            Some(reason) if status.usable => unusable(reason),
            _ => status.clone(),
        }
    }

    /// The helper's process id, while there is one; for `doctor` and tests.
    pub fn helper_pid(&self) -> Option<u32> {
        self.inner.helper.as_ref().and_then(Helper::pid)
    }

    /// Every tool dies when so much time has passed and this was not called again, even when the
    /// daemon stands still. Never called: they live as long as the daemon. It concerns our own
    /// sandbox alone.
    ///
    /// # Errors
    /// When the kernel refuses: then nothing but the daemon itself would end them.
    pub fn let_live(&self, span: Duration) -> Result<(), SandboxError> {
        match &self.inner.helper {
            Some(helper) => Ok(helper.let_live(span)?),
            None => Ok(()),
        }
    }

    /// How many sessions could be opened at once now without waiting.
    pub fn sessions_free(&self) -> usize {
        self.inner.places.available_permits()
    }

    /// Builds a kept sandbox for calls under this grant. Waits for a place under `sessions_max`
    /// first, in order of asking. Cancel-safe: dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// See [`SandboxError`]; nothing of the grant was run.
    pub async fn open(
        &self,
        grant: &Grant,
        stop: &CancellationToken,
    ) -> Result<Session, SandboxError> {
        let room = self.room(stop).await?;
        self.open_in(room, grant, stop).await
    }

    /// Waits for a place for one more session, in order of asking. Cancel-safe.
    ///
    /// # Errors
    /// `Stopped` when the token came first.
    pub async fn room(&self, stop: &CancellationToken) -> Result<Room, SandboxError> {
        // Both branches are cancel-safe: a semaphore permit and a token.
        let place = tokio::select! {
            place = Arc::clone(&self.inner.places).acquire_owned() => place,
            () = stop.cancelled() => return Err(SandboxError::Stopped),
        };
        place.map(Room).map_err(|_closed| SandboxError::Stopped)
    }

    /// As [`Sandbox::open`], in a place that was waited for before.
    pub async fn open_in(
        &self,
        Room(place): Room,
        grant: &Grant,
        stop: &CancellationToken,
    ) -> Result<Session, SandboxError> {
        let Inner { options, status, other, .. } = &*self.inner;
        // Another backend may become usable again: it is asked how it is now.
        if other.is_none() {
            self.usable()?;
        }
        match grant.commands {
            CommandRule::None => return Err(SandboxError::NotGranted),
            CommandRule::Only(_) | CommandRule::Any => {}
        }
        let mut listeners = None;
        let home = if let Some(other) = other {
            Home::Other(other.open(grant, &options.data_dir)?)
        } else {
            let helper = self.usable()?;
            let mut plan = plan::plan(grant, &options.data_dir)?;
            levels::shape(&mut plan, status.level);
            plan.holds_without_mounts()?;
            // Cancel-safe branches both: a build that is given up, and a token.
            tokio::select! {
                built = Kept::build(helper, plan) => {
                    let (kept, doors) = built?;
                    listeners = doors;
                    Home::Own(kept)
                }
                () = stop.cancelled() => return Err(SandboxError::Stopped),
            }
        };
        Ok(Session::new(self.clone(), Profile::of(grant), home, listeners, place))
    }

    /// Runs a job in a sandbox of its own. Waits for free places first, which does not count as
    /// its time. Dropping the future kills the program.
    ///
    /// # Errors
    /// See [`SandboxError`]; every variant but `Lost` means that the program was not run.
    pub async fn run(&self, job: Job, stop: CancellationToken) -> Result<Outcome, SandboxError> {
        let session = self.open(&job.grant, &stop).await?;
        Box::pin(session.run(job, stop)).await
    }

    /// The helper, if calls are carried out.
    fn usable(&self) -> Result<&Helper, SandboxError> {
        let Inner { status, helper, .. } = &*self.inner;
        helper.as_ref().filter(|_| status.usable).ok_or_else(|| status.clone().refusal())
    }

    /// Runs a job in a session's home.
    async fn run_in(
        &self,
        home: &Home,
        job: Job,
        stop: CancellationToken,
    ) -> Result<Outcome, SandboxError> {
        match home {
            Home::Own(kept) => Box::pin(self.run_in_own(kept, job, stop)).await,
            Home::Other(kept) => Box::pin(self.run_in_other(kept, job, stop)).await,
        }
    }

    /// What looks after calls while they run.
    fn watch(&self) -> &Watch {
        &self.inner.watch
    }

    async fn run_in_own(
        &self,
        kept: &Kept,
        job: Job,
        stop: CancellationToken,
    ) -> Result<Outcome, SandboxError> {
        let mut plan = plan::call(&job.grant, &kept.plan, job.argv, &job.env, &job.cwd)?;
        let program = match job.bound {
            Some(bound) => {
                let (exact, program) = self.exact(Arc::clone(&job.grant), bound).await?;
                plan.exact = Some(exact);
                program
            }
            None => None,
        };
        let request = call::Request {
            plan,
            program,
            stdin: job.stdin,
            wall: job.wall,
            capture: Capture::new(job.grant.limits.output_bytes, job.output),
            limits: job.grant.limits,
        };
        // Both branches are cancel-safe: a semaphore permit and a token.
        let _permit = tokio::select! {
            permit = self.inner.permits.acquire() => permit,
            () = stop.cancelled() => return Err(SandboxError::Stopped),
        };
        let ended = Box::pin(call::run(kept, &self.inner.watch, request, &stop)).await?;
        Ok(Outcome {
            end: ended.end,
            output: ended.output,
            truncated: ended.is_truncated,
            duration: ended.duration,
            level: self.inner.status.level,
            limits_reached: ended.limits_reached,
        })
    }

    /// Runs a job in what another backend keeps, under the same bound of calls at once.
    async fn run_in_other(
        &self,
        kept: &OtherKept,
        job: Job,
        stop: CancellationToken,
    ) -> Result<Outcome, SandboxError> {
        // Both branches are cancel-safe: a semaphore permit and a token.
        let _permit = tokio::select! {
            permit = self.inner.permits.acquire() => permit,
            () = stop.cancelled() => return Err(SandboxError::Stopped),
        };
        self.verify(&job).await?;
        kept.run(job, &stop).await
    }
}
