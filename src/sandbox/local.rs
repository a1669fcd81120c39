//! The local backend: plain processes, for development on machines that have nothing better.
//!
//! Invariants: it does not exist outside of development; it confines nothing and says so in its
//! status, at start and in every outcome. What it does have: an explicit environment, resource
//! limits per process, an unprivileged uid when the daemon is root, and an end for the process
//! group. A program that leaves its session outlives the call.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat2},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, fchdir, geteuid, kill_process_group, pidfd_open,
        set_parent_process_death_signal, setsid,
    },
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    End, Job, Outcome, SandboxError, Status, TOOL_UID,
    output::{Capture, Flow},
    plan::{self, Plan, Program},
    sys,
    wire::{AtStep, Failure},
};
use crate::{
    domain::{CommandRule, Confinement, Grant, event::OutputStream},
    runtime::failpoint::{Point, reach},
};

/// What is always said of this backend.
const WARNING: &str = "NOTHING IS CONFINED: tools run as plain processes with every file and \
                       network of their user; the backend `local` is for development alone";
/// How long output is still read when the program has ended and something holds its pipes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// What the local backend is at present.
pub(super) fn status(is_development: bool) -> Status {
    if !is_development {
        let reason = "the backend `local` confines nothing and exists in development alone";
        return super::unusable(reason.to_owned());
    }
    tracing::warn!("{WARNING}");
    Status { level: Confinement::Local, usable: true, reason: Some(WARNING.to_owned()) }
}

/// Checks a grant as far as it means anything here.
pub(super) fn open(grant: &Grant, data_dir: &std::path::Path) -> Result<Plan, SandboxError> {
    match grant.commands {
        CommandRule::None => Err(SandboxError::NotGranted),
        // The policy has compared the program that the call names; what that one starts is free.
        CommandRule::Only(_) | CommandRule::Any => {
            // There are no listeners that a proxy variable could name.
            Ok(Plan { has_network: false, ..plan::plan(grant, data_dir)? })
        }
    }
}

/// Runs a job to its end. Dropping the future kills the process group.
pub(super) async fn run(
    plan: &Plan,
    job: Job,
    stop: &CancellationToken,
) -> Result<Outcome, SandboxError> {
    let call = plan::call(&job.grant, plan, job.argv, &job.env, &job.cwd)?;
    let Program::Exec { argv, env } = call.program else { return Err(SandboxError::NotGranted) };
    let Some((program, arguments)) = argv.split_first() else {
        return Err(SandboxError::NotGranted);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cwd = openat2(CWD, &call.cwd, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .at(format!("enter {}", call.cwd.display()))?;
    let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC).at("pipe")?;
    #[expect(clippy::disallowed_methods, reason = "a backend of the sandbox starts processes")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(env)
        .stdin(Stdio::from(memory_file(&job.stdin)?))
        .stdout(Stdio::from(stdout_end))
        .stderr(Stdio::from(stderr_end));
    if geteuid().is_root() {
        command.uid(TOOL_UID).gid(TOOL_UID);
    }
    // Processes are counted for the uid, and this one may be a person's.
    let limits = call.limits.with_any_number_of_processes();
    sys::before_exec(&mut command, move || {
        // Only plain calls of the kernel, in the order in which a later one may need an earlier.
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        fchdir(&cwd)?;
        limits.apply().map_err(|failure| io::Error::from_raw_os_error(failure.errno))
    });
    let failed = |error: io::Error| SandboxError::NotExecuted {
        failure: Failure::from_io(program.as_str(), &error),
    };
    reach(Point::SandboxCallBefore).await.map_err(|fault| failed(fault.into()))?;
    let started = Instant::now();
    let child = command.spawn().map_err(failed)?;
    drop(command);
    let mut running = Running {
        group: Group(Some(child)),
        stdout: Some(Receiver::from_owned_fd(stdout).at("watch a pipe")?),
        stderr: Some(Receiver::from_owned_fd(stderr).at("watch a pipe")?),
        capture: Capture::new(job.grant.limits.output_bytes, job.output),
    };
    let forced = running.follow(started + job.wall, stop).await?;
    reach(Point::SandboxCallAfter).await.map_err(|_injected| SandboxError::Lost)?;
    let Running { group, capture, .. } = running;
    let end = forced.map_or_else(|| group.end(), Ok)?;
    let (output, truncated) = capture.finish();
    Ok(Outcome {
        end,
        output,
        truncated,
        duration: started.elapsed(),
        level: Confinement::Local,
        limits_reached: end.limit().into_iter().collect(),
    })
}

/// A process group; dropping it kills it.
#[derive(Debug)]
struct Group(Option<Child>);

impl Group {
    fn pid(&self) -> Option<Pid> {
        let child = self.0.as_ref()?;
        i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(pid) = self.pid() {
            // Fails only when all of it is dead already. The leader is not reaped before, so the
            // number cannot mean another group.
            kill_process_group(pid, Signal::KILL).ok();
        }
    }

    /// How the leader ended, which it has.
    fn end(mut self) -> Result<End, SandboxError> {
        self.kill();
        let status = self.0.take().and_then(|mut child| child.wait().ok());
        let Some(status) = status else { return Err(SandboxError::Lost) };
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => End::Exited(code),
            (None, Some(libc::SIGXCPU)) => End::Limit("cpu_secs"),
            (None, Some(libc::SIGXFSZ)) => End::Limit("file_bytes"),
            (None, signal) => End::Signaled(signal.unwrap_or(libc::SIGKILL)),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        // Dead by now, or about to be: this only collects it.
        if let Some(mut child) = self.0.take() {
            child.wait().ok();
        }
    }
}

struct Running {
    group: Group,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    capture: Capture,
}

impl Running {
    /// Reads until the leader has ended and the pipes are empty; gives the reason if it is to be
    /// killed.
    async fn follow(
        &mut self,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<Option<End>, SandboxError> {
        let pid = self.group.pid().ok_or(SandboxError::Lost)?;
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).at("watch a process")?;
        let pidfd = sys::watch(pidfd).at("watch a process")?;
        let (mut out, mut err) = (vec![0_u8; READ_BYTES], vec![0_u8; READ_BYTES]);
        let mut quiet_at: Option<Instant> = None;
        while quiet_at.is_none() || self.stdout.is_some() || self.stderr.is_some() {
            let give_up = quiet_at.unwrap_or(deadline);
            // Cancel-safe branches all: readiness, reads that take nothing unless they return, a
            // timer and a token.
            tokio::select! {
                ended = pidfd.readable(), if quiet_at.is_none() => {
                    if ended.is_err() {
                        return Err(SandboxError::Lost);
                    }
                    self.group.kill();
                    quiet_at = Some(Instant::now() + LAST_WORDS);
                }
                count = read(self.stdout.as_mut(), &mut out) => {
                    if self.collect(OutputStream::Stdout, count, &out) == Flow::TooMuch {
                        return Ok(Some(End::Limit("output_bytes")));
                    }
                }
                count = read(self.stderr.as_mut(), &mut err) => {
                    if self.collect(OutputStream::Stderr, count, &err) == Flow::TooMuch {
                        return Ok(Some(End::Limit("output_bytes")));
                    }
                }
                () = sleep_until(give_up) => {
                    return Ok(quiet_at.is_none().then_some(End::TimedOut));
                }
                () = stop.cancelled(), if quiet_at.is_none() => return Ok(Some(End::Stopped)),
            }
        }
        Ok(None)
    }

    fn collect(&mut self, stream: OutputStream, count: io::Result<usize>, buffer: &[u8]) -> Flow {
        let bytes = count.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n));
        match (bytes, stream) {
            (Some(bytes), stream) => return self.capture.push(stream, bytes),
            (None, OutputStream::Stdout) => self.stdout = None,
            (None, OutputStream::Stderr) => self.stderr = None,
        }
        Flow::Continue
    }
}

async fn read(pipe: Option<&mut Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Standard input: a file in memory, which cannot fill up as a pipe can.
fn memory_file(content: &[u8]) -> Result<OwnedFd, Failure> {
    use std::io::{Seek, Write};
    let step = "standard input";
    let mut file = std::fs::File::from(memfd_create("stdin", MemfdFlags::CLOEXEC).at(step)?);
    file.write_all(content).at(step)?;
    file.rewind().at(step)?;
    Ok(file.into())
}
