//! One call, from the daemon's side: sends the job, reads what comes back, ends it in time.
//!
//! Invariants: a call is over only when pid 1 of its sandbox is dead, and with it every process
//! that the tool started; a call that is dropped half-way is killed all the same.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::RecvFlags,
    pipe::{PipeFlags, pipe_with},
    process::{Signal, geteuid, pidfd_send_signal},
};
use tokio::{
    io::{AsyncReadExt, unix::AsyncFd},
    net::unix::pipe::Receiver,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    End, SandboxError, mounts,
    output::{Capture, Flow},
    parent::Helper,
    plan::Plan,
    sys,
    watch::{Subject, Watch, Watched},
    wire::{self, AtStep, Failure, Message, Report},
};
use crate::domain::{ToolLimits, event::OutputStream};

/// How long a killed sandbox may take to be gone before the call is given up.
const DEATH_WAIT: Duration = Duration::from_secs(10);
/// Bytes read from a pipe at once: its usual capacity.
const READ_BYTES: usize = 64 << 10;

/// What came of a call.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) output: Vec<u8>,
    pub(super) is_truncated: bool,
    pub(super) duration: Duration,
    pub(super) limits_reached: Vec<&'static str>,
}

/// Everything a call needs.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) plan: Plan,
    pub(super) stdin: Vec<u8>,
    pub(super) wall: Duration,
    pub(super) capture: Capture,
    pub(super) limits: ToolLimits,
}

/// Runs one job to its end.
pub(super) async fn run(
    helper: &Helper,
    watch: &Watch,
    request: Request,
    stop: &CancellationToken,
) -> Result<Ended, SandboxError> {
    let Request { plan, stdin, wall, capture, limits } = request;
    let started = Instant::now();
    let trees = trees(&plan)?;
    let (status, theirs) = wire::pair().at("socketpair")?;
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let plan_file = memory_file("plan", &serde_json::to_vec(&plan).unwrap_or_default())?;
    let input = memory_file("stdin", &stdin)?;
    let mut descriptors = vec![
        theirs.as_fd(),
        plan_file.as_fd(),
        input.as_fd(),
        stdout_end.as_fd(),
        stderr_end.as_fd(),
    ];
    descriptors.extend(trees.iter().map(AsFd::as_fd));
    if let Err(errno) = helper.send_job(&descriptors).await {
        tracing::warn!(error = %errno, "a tool call could not be handed to the sandbox helper");
        return Err(SandboxError::Unavailable { reason: helper.failure() });
    }
    drop((theirs, stdout_end, stderr_end));
    let mut call = Call {
        status: Some(sys::watch(status).at("watch the status")?),
        pidfd: None,
        is_dead: false,
        stdout: Some(stdout),
        stderr: Some(stderr),
        capture,
        deadline: started + wall,
        forced: None,
        told: None,
        watch: watch.clone(),
        watched: None,
        limits,
        workspace: plan.home,
    };
    call.follow(stop).await?;
    let (output, is_truncated) = call.capture.finish();
    let watched = call.watched.take();
    let mut limits_reached = watched.as_ref().map(Watched::reached).unwrap_or_default();
    // The watchdog kills at once; its word may come later than the death.
    let verdict = watched.and_then(|watched| watched.verdict()).map(End::Limit);
    let end = match (call.forced.or(verdict), call.told) {
        // The program's own end came first, however close the kill was.
        (_, Some(Report::Exited(code))) => End::Exited(code),
        (None, Some(Report::Signaled(signal))) => signaled(signal),
        (Some(end), _) => end,
        (None, Some(Report::NotExecuted(failure))) => {
            return Err(SandboxError::NotExecuted { failure });
        }
        (None, Some(Report::Failed(failure))) => return Err(SandboxError::Setup { failure }),
        (None, Some(Report::Started | Report::Mounted) | None) => return Err(SandboxError::Lost),
    };
    if let End::Limit(limit) = end
        && !limits_reached.contains(&limit)
    {
        limits_reached.push(limit);
    }
    Ok(Ended { end, output, is_truncated, duration: started.elapsed(), limits_reached })
}

/// Signals that the kernel sends for a limit mean the limit.
const fn signaled(signal: i32) -> End {
    match signal {
        libc::SIGXCPU => End::Limit("cpu_secs"),
        libc::SIGXFSZ => End::Limit("file_bytes"),
        other => End::Signaled(other),
    }
}

struct Call {
    status: Option<AsyncFd<OwnedFd>>,
    pidfd: Option<Victim>,
    is_dead: bool,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    capture: Capture,
    /// When it is killed; once killed, when it is given up.
    deadline: Instant,
    forced: Option<End>,
    told: Option<Report>,
    watch: Watch,
    watched: Option<Watched>,
    limits: ToolLimits,
    workspace: PathBuf,
}

impl Call {
    /// Reads until everything is closed and pid 1 is dead, killing when it is time.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), SandboxError> {
        let mut out = vec![0_u8; READ_BYTES];
        let mut err = vec![0_u8; READ_BYTES];
        while !self.is_over() {
            // Cancel-safe branches all: readiness, reads that take nothing unless they return,
            // a timer and a token.
            tokio::select! {
                message = receive(self.status.as_ref()) => self.take(message)?,
                count = read(self.stdout.as_mut(), &mut out) => {
                    self.collect(OutputStream::Stdout, count, &out);
                }
                count = read(self.stderr.as_mut(), &mut err) => {
                    self.collect(OutputStream::Stderr, count, &err);
                }
                () = dead(self.pidfd.as_ref(), self.is_dead) => self.is_dead = true,
                () = sleep_until(self.deadline) => {
                    if self.forced.is_some() {
                        return Err(SandboxError::Lost);
                    }
                    self.kill(End::TimedOut);
                }
                () = stop.cancelled(), if self.forced.is_none() => self.kill(End::Stopped),
                limit = limited(self.watched.as_ref()), if self.forced.is_none() => {
                    self.kill(End::Limit(limit));
                }
            }
        }
        Ok(())
    }

    const fn is_over(&self) -> bool {
        let is_silent = self.status.is_none() && self.stdout.is_none() && self.stderr.is_none();
        is_silent && (self.is_dead || self.pidfd.is_none())
    }

    fn take(&mut self, message: rustix::io::Result<Message>) -> Result<(), SandboxError> {
        let Message { bytes, mut descriptors } = message.unwrap_or_default();
        let Ok(report) = serde_json::from_slice(&bytes) else {
            self.status = None;
            return Ok(());
        };
        if report == Report::Started {
            if let Some(pidfd) = descriptors.pop() {
                self.watched = self.follow_with(&pidfd);
                self.pidfd = Some(Victim(sys::watch(pidfd).at("watch the sandbox")?));
            }
            if self.forced.is_some() {
                self.strike();
            }
            return Ok(());
        }
        if report == Report::Mounted {
            if let (Some(watched), Some(tmp)) = (&self.watched, descriptors.pop()) {
                watched.has_tmp(tmp);
            }
            return Ok(());
        }
        // The first word counts: pid 1 also tells the end of a process that could not execute.
        self.told.get_or_insert(report);
        Ok(())
    }

    fn follow_with(&mut self, pidfd: &OwnedFd) -> Option<Watched> {
        let subject = Subject {
            pidfd: pidfd.try_clone().ok()?,
            limits: self.limits,
            workspace: mounts::held(&self.workspace).ok(),
            tmp: None,
            group: None,
        };
        Some(self.watch.follow(subject))
    }

    fn collect(&mut self, stream: OutputStream, count: std::io::Result<usize>, buffer: &[u8]) {
        let bytes = count.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n));
        let Some(bytes) = bytes else {
            match stream {
                OutputStream::Stdout => self.stdout = None,
                OutputStream::Stderr => self.stderr = None,
            }
            return;
        };
        if self.capture.push(stream, bytes) == Flow::TooMuch && self.forced.is_none() {
            self.kill(End::Limit("output_bytes"));
        }
    }

    fn kill(&mut self, why: End) {
        self.forced = Some(why);
        self.deadline = Instant::now() + DEATH_WAIT;
        self.strike();
    }

    fn strike(&mut self) {
        match &self.pidfd {
            Some(victim) => victim.kill(),
            // Not started yet: pid 1 ends when it finds this end closed.
            None => self.status = None,
        }
    }
}

/// Pid 1 of a sandbox; dropping it kills it, and with it everything in its namespace.
#[derive(Debug)]
struct Victim(AsyncFd<OwnedFd>);

impl Victim {
    fn kill(&self) {
        // Fails only when it is dead already.
        pidfd_send_signal(self.0.get_ref(), Signal::KILL).ok();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn receive(status: Option<&AsyncFd<OwnedFd>>) -> rustix::io::Result<Message> {
    let Some(status) = status else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = status.readable().await else { return Err(Errno::IO) };
        match wire::receive(status.get_ref(), RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => ready.clear_ready(),
            message => return message,
        }
    }
}

async fn limited(watched: Option<&Watched>) -> &'static str {
    match watched {
        Some(watched) => watched.limit().await,
        None => std::future::pending().await,
    }
}

async fn read(pipe: Option<&mut Receiver>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn dead(victim: Option<&Victim>, is_dead: bool) {
    match victim {
        Some(victim) if !is_dead => {
            if victim.0.readable().await.is_err() {
                tracing::warn!("cannot watch a sandbox any more");
            }
        }
        _ => std::future::pending().await,
    }
}

fn pipe() -> Result<(Receiver, OwnedFd), Failure> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    Ok((Receiver::from_owned_fd(reader).at("watch a pipe")?, writer))
}

/// A sealed file in memory, positioned at its beginning.
fn memory_file(name: &str, content: &[u8]) -> Result<OwnedFd, Failure> {
    let step = "memory file";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create(name, flags).at(step)?);
    file.write_all(content).at(step)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).at(step)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).at(step)?;
    Ok(file.into())
}

/// Clones the trees if this is root: root's helper has become somebody who may not be able to walk
/// to them. Without the capability to clone, the sandbox opens them itself. Neither follows a link:
/// one that was no link when an operator named it may have been put there by a tool that can write
/// above it, and root would follow it anywhere.
fn trees(plan: &Plan) -> Result<Vec<OwnedFd>, SandboxError> {
    if !geteuid().is_root() {
        return Ok(Vec::new());
    }
    let clones: Result<Vec<_>, Failure> =
        plan.trees.iter().map(|t| mounts::detach(&t.source, t.access)).collect();
    match clones {
        Err(failure) if failure.errno == libc::EPERM => Ok(Vec::new()),
        other => Ok(other?),
    }
}
