//! The daemon's hold on the helper: starts it, notices its death, starts it again.
//!
//! Invariants: the only place that starts a process. A helper that dies takes its sandboxes with
//! it; calls that were under way end with an error, later ones find the new helper.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    deadman::DeadMan,
    lock::Lock,
    sys,
    wire::{self, AtStep, Failure, Packed, Report},
    zygote,
};
use crate::runtime::{
    TaskKind, Tasks,
    failpoint::{Point, pass},
    tasks::lock,
};

/// How long a call waits for a helper that is being started again.
const HELPER_WAIT: Duration = Duration::from_secs(3);
/// Wait before the next start, doubled each time the helper dies young.
const RESTART_FIRST: Duration = Duration::from_millis(20);
const RESTART_LONGEST: Duration = Duration::from_secs(5);
/// A helper that lived this long did not die of its start.
const YOUNG: Duration = Duration::from_secs(10);
/// Times that a request is offered: once, and again to a new helper.
const OFFERS: u32 = 3;
/// Wait while a queue is full.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(2);

/// The daemon's end of the helper's socket.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    pid: u32,
}

/// The helper, whichever process it currently is.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    link: watch::Receiver<Option<Arc<Link>>>,
    failure: Arc<Mutex<Option<String>>>,
    dead_man: Arc<DeadMan>,
}

impl Helper {
    /// Starts the helper and the task that keeps it alive.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub(super) fn start(program: PathBuf, lock: Arc<Lock>, tasks: &Tasks) -> Result<Self, Failure> {
        let (sender, link) = watch::channel(None);
        let failure = Arc::new(Mutex::new(None));
        let dead_man = Arc::new(DeadMan::new()?);
        let shared = Arc::clone(&dead_man);
        let keeper =
            Keeper { program, lock, dead_man: shared, link: sender, failure: Arc::clone(&failure) };
        tasks.spawn(TaskKind::Helper, |stop| async move {
            // Both branches are cancel-safe: dropping the keeper closes the socket, which ends
            // the helper.
            tokio::select! {
                () = keeper.keep() => {}
                () = stop.wait_hard() => {}
            }
        });
        Ok(Self { link, failure, dead_man })
    }

    /// It ends, and every sandbox with it, when so much time has passed.
    pub(super) fn let_live(&self, span: Duration) -> Result<(), Failure> {
        self.dead_man.set(span)
    }

    /// The helper's process id, while there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        self.link.borrow().as_ref().map(|l| l.pid)
    }

    /// Why there is no helper, if there is none and it does not simply start.
    pub(super) fn trouble(&self) -> Option<String> {
        let has_link = self.link.borrow().is_some();
        if has_link { None } else { lock(&self.failure).clone() }
    }

    /// Why there is no helper, as far as known.
    pub(super) fn failure(&self) -> String {
        lock(&self.failure)
            .clone()
            .unwrap_or_else(|| "the sandbox helper is not running".to_owned())
    }

    /// Hands a request to the helper. Cancel-safe: it is either sent whole or not.
    pub(super) async fn ask(
        &self,
        request: &Packed,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let mut links = self.link.clone();
        let mut last = Errno::PIPE;
        let patience = Instant::now() + HELPER_WAIT;
        for _ in 0..OFFERS {
            let current = timeout(HELPER_WAIT, links.wait_for(Option::is_some)).await;
            let Ok(Ok(Some(link))) = current.map(|r| r.map(|l| l.clone())) else {
                return Err(last);
            };
            last = loop {
                match request.send(&link.socket, descriptors) {
                    Ok(()) => return Ok(()),
                    // The queue holds ten requests, unless the machine's settings say more.
                    Err(Errno::AGAIN) if Instant::now() < patience => sleep(FULL_PAUSE).await,
                    Err(error) => break error,
                }
            };
            let gone = links.wait_for(|l| l.as_ref().is_none_or(|l| !Arc::ptr_eq(l, &link)));
            if last == Errno::AGAIN || timeout(HELPER_WAIT, gone).await.is_err() {
                return Err(last);
            }
        }
        Err(last)
    }
}

/// Owns the helper's process.
struct Keeper {
    program: PathBuf,
    lock: Arc<Lock>,
    dead_man: Arc<DeadMan>,
    link: watch::Sender<Option<Arc<Link>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    async fn keep(self) {
        let mut pause = RESTART_FIRST;
        loop {
            let started = Instant::now();
            if let Err(failure) = self.run_once().await {
                tracing::error!(%failure, "the sandbox helper failed");
                *lock(&self.failure) = Some(format!("the sandbox helper failed: {failure}"));
            }
            pause = if started.elapsed() > YOUNG { RESTART_FIRST } else { pause * 2 };
            sleep(pause.min(RESTART_LONGEST)).await;
        }
    }

    /// Starts one helper and waits for its end.
    async fn run_once(&self) -> Result<(), Failure> {
        let (mut process, link) = spawn(&self.program, &self.lock, &self.dead_man)?;
        let link = Arc::new(link);
        let published = Published { link: &self.link };
        self.link.send_replace(Some(Arc::clone(&link)));
        let ended = wait_for(&process).await;
        drop(published);
        if ended.is_err() {
            process.kill().at("end the helper")?;
        }
        // Its pid file descriptor has told that it is dead, so this only collects the status.
        let status = process.wait().at("reap the helper")?;
        tracing::warn!(pid = process.id(), %status, "the sandbox helper died; starting another");
        let last_words = wire::receive(&link.socket, RecvFlags::DONTWAIT).unwrap_or_default();
        *lock(&self.failure) = Some(format!("the sandbox helper died ({status})"));
        match serde_json::from_slice(&last_words.bytes) {
            Ok(Report::Failed(failure)) => Err(failure),
            _ => ended,
        }
    }
}

/// Withdraws the link when the helper is gone or its keeper is dropped.
struct Published<'k> {
    link: &'k watch::Sender<Option<Arc<Link>>>,
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.link.send_replace(None);
    }
}

async fn wait_for(process: &Child) -> Result<(), Failure> {
    let step = "watch the helper";
    let pid = i32::try_from(process.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure { step: step.to_owned(), errno: libc::ESRCH })?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).at(step)?;
    let pidfd = sys::watch(pidfd).at(step)?;
    pidfd.readable().await.map(drop).at(step)
}

/// Starts a process that makes the canary's attempts without any confinement; its working directory
/// is one that a file can be made in.
pub(super) fn spawn_control(program: &Path, attempts: &[u8]) -> Result<Child, Failure> {
    let input = wire::memory_file("attempts", attempts)?;
    pass(Point::HelperSpawnBefore).map_err(std::io::Error::from).at("start the control")?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts a process")]
    std::process::Command::new(program)
        .arg(zygote::CONTROL_MARKER)
        .env_clear()
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .at(format!("start {}", program.display()))
}

fn spawn(program: &Path, lock: &Lock, dead_man: &DeadMan) -> Result<(Child, Link), Failure> {
    let (ours, theirs) = wire::pair().at("socketpair")?;
    pass(Point::HelperSpawnBefore).map_err(std::io::Error::from).at("start the helper")?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts a process")]
    let process = std::process::Command::new(program)
        .arg(zygote::MARKER)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .at(format!("start {}", program.display()))?;
    pass(Point::HelperSpawnAfter).map_err(std::io::Error::from).at("start the helper")?;
    let hello = [lock.file().as_fd(), dead_man.timer().as_fd()];
    wire::send(&ours, zygote::HELLO, &hello, SendFlags::empty()).at("greet the helper")?;
    if let Err(error) = lock.record(process.id()) {
        tracing::warn!(%error, "cannot record the sandbox helper");
    }
    let pid = process.id();
    Ok((process, Link { socket: ours, pid }))
}
