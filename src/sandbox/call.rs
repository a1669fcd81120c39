//! One call, from the daemon's side: sends the job, reads what comes back, ends it in time.
//!
//! Invariants: a call is over only when none of its processes is left: its pid 1 has killed and
//! reaped the others, or is dead and has taken them along. A call that is dropped half-way is
//! killed all the same.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    net::{RecvFlags, SendFlags},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, pidfd_send_signal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::unix::pipe::{Receiver, Sender},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    End, SandboxError, mounts,
    output::{Capture, Flow},
    plan::CallPlan,
    session::Kept,
    sys,
    watch::{Subject, Watch, Watched},
    wire::{self, AtStep, Failure, GO, Message, Report},
};
use crate::{
    domain::{ToolLimits, event::OutputStream},
    runtime::failpoint::{Point, reach},
};

/// How long a killed sandbox may take to be gone before the call is given up.
const DEATH_WAIT: Duration = Duration::from_secs(10);
/// Bytes read from a pipe at once: its usual capacity.
const READ_BYTES: usize = 64 << 10;
/// Reads from a pipe after the end: more than the largest one an unprivileged user can have.
const PIPE_READS_MAX: u32 = 64;

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
    pub(super) plan: CallPlan,
    /// The program itself, where it is executed from a sealed copy.
    pub(super) program: Option<OwnedFd>,
    pub(super) stdin: Vec<u8>,
    pub(super) wall: Duration,
    pub(super) capture: Capture,
    pub(super) limits: ToolLimits,
}

/// Runs one job to its end.
pub(super) async fn run(
    kept: &Kept,
    watch: &Watch,
    mut request: Request,
    stop: &CancellationToken,
) -> Result<Ended, SandboxError> {
    let started = Instant::now();
    let begin = Begin::new(kept, watch, &request)?;
    request.plan.waits = begin.subject.group.is_some();
    let Request { plan, program, stdin, wall, capture, limits: _ } = request;
    let (status, theirs) = wire::pair().at("socketpair")?;
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (input, feed) = input(stdin)?;
    let request = wire::pack(&plan)?;
    let streams = [theirs.as_fd(), input.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
    let descriptors: Vec<_> =
        streams.into_iter().chain(program.as_ref().map(AsFd::as_fd)).collect();
    reach(Point::SandboxCallBefore).await.map_err(|_injected| SandboxError::Gone)?;
    kept.ask(&request, &descriptors).await?;
    drop(descriptors);
    drop((request, input, program));
    drop((theirs, stdout_end, stderr_end));
    let mut call = Call {
        status: Some(sys::watch(status).at("watch the status")?),
        has_namespaces: kept.plan.has_namespaces,
        pid_1: None,
        is_dead: false,
        stdin: feed,
        stdout: Some(stdout),
        stderr: Some(stderr),
        capture,
        deadline: started + wall,
        forced: None,
        told: None,
        begin: Some(begin),
        watched: None,
    };
    if let Err(error) = call.follow(stop).await {
        // Nobody knows how far it came: the sandbox ends, and with it whatever still runs.
        kept.pid_1.kill();
        return Err(match error {
            SandboxError::Setup { .. } => SandboxError::Lost,
            other => other,
        });
    }
    if call.forced.is_some() && call.pid_1.is_none() {
        // Ended before it was known to have begun: its request must not be taken up later.
        kept.pid_1.kill();
        let gone = tokio::time::timeout(DEATH_WAIT, kept.pid_1.dead()).await;
        gone.map_err(|_elapsed| SandboxError::Lost)?;
    }
    // The program has ended, and nobody knows yet.
    reach(Point::SandboxCallAfter).await.map_err(|_injected| SandboxError::Lost)?;
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
        (None, Some(Report::Changed(what))) => return Err(SandboxError::Changed(what)),
        (None, Some(Report::Failed(failure))) => return Err(SandboxError::Setup { failure }),
        (None, Some(Report::Started | Report::Ready) | None) if call.pid_1.is_none() => {
            return Err(SandboxError::Gone);
        }
        (None, _) => return Err(SandboxError::Lost),
    };
    if let Some(limit) = end.limit()
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
    has_namespaces: bool,
    pid_1: Option<Victim>,
    is_dead: bool,
    stdin: Option<Feed>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    capture: Capture,
    /// When it is killed; once killed, when it is given up.
    deadline: Instant,
    forced: Option<End>,
    told: Option<Report>,
    begin: Option<Begin>,
    watched: Option<Watched>,
}

impl Call {
    /// Reads until the call is over, killing when it is time.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), SandboxError> {
        let mut out = vec![0_u8; READ_BYTES];
        let mut err = vec![0_u8; READ_BYTES];
        while !self.is_over() {
            // Cancel-safe branches all: readiness, reads that take nothing unless they return,
            // a timer and a token.
            tokio::select! {
                message = report(self.status.as_ref()) => self.take(message)?,
                count = read(self.stdout.as_mut(), &mut out) => {
                    self.collect(OutputStream::Stdout, count, &out);
                }
                count = read(self.stderr.as_mut(), &mut err) => {
                    self.collect(OutputStream::Stderr, count, &err);
                }
                written = feed(self.stdin.as_mut()) => self.fed(written),
                () = dead(self.pid_1.as_ref(), self.is_dead) => self.is_dead = true,
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
        // What is still open belongs to somebody else: a tool may have passed its output on to
        // another call of the run. What was written before the end is there. Read past the runtime,
        // which answers "not ready" until it has been told of what is there.
        for (stream, pipe, buffer) in [
            (OutputStream::Stdout, self.stdout.take(), &mut out),
            (OutputStream::Stderr, self.stderr.take(), &mut err),
        ] {
            let mut left = PIPE_READS_MAX;
            while let Some(Ok(count @ 1..)) =
                pipe.as_ref().map(|pipe| rustix::io::read(pipe, buffer.as_mut_slice()))
            {
                self.collect(stream, Ok(count), buffer);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Over when no process of the call is left: pid 1 has said so, or is dead itself. Before pid 1
    /// is known, when its end of the socket is closed.
    fn is_over(&self) -> bool {
        match (&self.told, &self.pid_1) {
            (Some(Report::Exited(_) | Report::Signaled(_)), _) => true,
            (_, Some(_)) => self.is_dead && self.status.is_none(),
            (_, None) => self.status.is_none(),
        }
    }

    fn take(&mut self, message: rustix::io::Result<Message>) -> Result<(), SandboxError> {
        let Message { bytes, mut descriptors } = message.unwrap_or_default();
        let Ok(report) = serde_json::from_slice(&bytes) else {
            self.status = None;
            return Ok(());
        };
        if report == Report::Started {
            if let Some(pidfd) = descriptors.pop() {
                if let (Some(begin), Some(status)) = (self.begin.take(), &self.status) {
                    self.watched = Some(begin.follow(&pidfd, status.get_ref())?);
                }
                self.pid_1 = Some(Victim::new(pidfd, self.has_namespaces)?);
            }
            if self.forced.is_some() {
                self.strike();
            }
            return Ok(());
        }
        // The first word counts: pid 1 also tells the end of a process that could not execute.
        self.told.get_or_insert(report);
        Ok(())
    }

    /// A tool that reads no more, or not to the end, is none the worse for it.
    fn fed(&mut self, written: std::io::Result<usize>) {
        let Some(feed) = &mut self.stdin else { return };
        let written = written.unwrap_or(0);
        feed.written += written;
        if written == 0 || feed.written >= feed.content.len() {
            self.stdin = None;
        }
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
        match &self.pid_1 {
            Some(victim) => victim.kill(),
            // Not started yet: pid 1 ends when it finds this end closed.
            None => self.status = None,
        }
    }
}

/// What the watchdog needs of a call, until the call has begun.
struct Begin {
    watch: Watch,
    subject: Subject,
}

impl Begin {
    fn new(kept: &Kept, watch: &Watch, request: &Request) -> Result<Self, Failure> {
        let tmp = kept.tmp.as_ref().map(OwnedFd::try_clone).transpose().at("hold /tmp")?;
        let subject = Subject {
            limits: request.limits,
            signal: Victim::signal(kept.plan.has_namespaces),
            workspace: mounts::held(&kept.plan.home).ok(),
            group: watch.group(&request.limits, tmp.as_ref())?,
            tmp,
        };
        Ok(Self { watch: watch.clone(), subject })
    }

    /// Puts the call into its control group, if there are any, lets it go on and watches it.
    fn follow(self, pidfd: &OwnedFd, status: &OwnedFd) -> Result<Watched, Failure> {
        let has_group = self.subject.group.is_some();
        let watched = self.watch.follow(pidfd.try_clone().at("hold a sandbox")?, self.subject)?;
        if has_group {
            wire::send(status, GO, &[], SendFlags::DONTWAIT).at("let the call go on")?;
        }
        Ok(watched)
    }
}

/// A pid 1; dropping it ends it, and with it everything that it is responsible for.
#[derive(Debug)]
pub(super) struct Victim {
    pidfd: AsyncFd<OwnedFd>,
    signal: Signal,
}

impl Victim {
    /// What ends it: with namespaces the kernel ends what is in them. Without, the process does it
    /// when it is asked to end: killed, it could not.
    const fn signal(has_namespaces: bool) -> Signal {
        if has_namespaces { Signal::KILL } else { Signal::TERM }
    }

    pub(super) fn new(pidfd: OwnedFd, has_namespaces: bool) -> Result<Self, Failure> {
        let signal = Self::signal(has_namespaces);
        Ok(Self { pidfd: sys::watch(pidfd).at("watch a sandbox")?, signal })
    }

    pub(super) fn kill(&self) {
        // Fails only when it is dead already.
        pidfd_send_signal(self.pidfd.get_ref(), self.signal).ok();
    }

    /// Waits for its death. Cancel-safe.
    pub(super) async fn dead(&self) {
        if self.pidfd.readable().await.is_err() {
            tracing::warn!("cannot watch a sandbox any more");
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())) == Ok(0)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn report(status: Option<&AsyncFd<OwnedFd>>) -> rustix::io::Result<Message> {
    match status {
        Some(status) => receive(status).await,
        None => std::future::pending().await,
    }
}

/// Receives one message. Cancel-safe.
pub(super) async fn receive(socket: &AsyncFd<OwnedFd>) -> rustix::io::Result<Message> {
    loop {
        let Ok(mut ready) = socket.readable().await else { return Err(Errno::IO) };
        match wire::receive(socket.get_ref(), RecvFlags::DONTWAIT) {
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
        Some(victim) if !is_dead => victim.dead().await,
        _ => std::future::pending().await,
    }
}

fn pipe() -> Result<(Receiver, OwnedFd), Failure> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    Ok((Receiver::from_owned_fd(reader).at("watch a pipe")?, writer))
}

/// What a tool reads from its standard input, on the way.
#[derive(Debug)]
struct Feed {
    pipe: Sender,
    content: Vec<u8>,
    written: usize,
}

/// Standard input: a pipe, since a file in memory could be executed, whatever else may not.
fn input(content: Vec<u8>) -> Result<(OwnedFd, Option<Feed>), Failure> {
    if content.is_empty() {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = openat(CWD, "/dev/null", flags, Mode::empty()).at("open /dev/null")?;
        return Ok((null, None));
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    let pipe = Sender::from_owned_fd(writer).at("watch a pipe")?;
    Ok((reader, Some(Feed { pipe, content, written: 0 })))
}

/// Writes a piece. Cancel-safe: what is not told as written was not.
async fn feed(feed: Option<&mut Feed>) -> std::io::Result<usize> {
    match feed {
        Some(Feed { pipe, content, written }) => {
            pipe.write(content.get(*written..).unwrap_or_default()).await
        }
        None => std::future::pending().await,
    }
}
