//! The liveness lock: whoever holds it knows that no process of an older daemon is alive.
//!
//! Invariants: one open file description is shared by the daemon, the helper and every sandbox's
//! pid 1, and closed by the kernel when the last of them is gone. A recorded helper is killed only
//! when the daemon that started it is dead; a number that now names another process is left alone.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::time::{Instant, sleep};

/// How long processes of a dead daemon may take to vanish.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often to look.
const PAUSE: Duration = Duration::from_millis(20);
/// The file beneath the data directory.
const FILE: &str = "tools.lock";
/// Longest record.
const RECORD_BYTES_MAX: u64 = 200;

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be used.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody holds it.
    #[error(
        "tool processes of another daemon on this data directory are still alive after {WAIT_MAX:?}"
    )]
    Held,
}

/// The held lock.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, killing the helper of a dead daemon if need be. Cancel-safe.
    pub(super) async fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join(FILE);
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, path }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if Instant::now() >= deadline {
                return Err(LockError::Held);
            }
            let mut record = String::new();
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            // A record that is no text is no record: then there is nothing to kill, only to wait.
            if (&file).take(RECORD_BYTES_MAX).read_to_string(&mut record).is_ok() {
                kill_leftover(&record);
            }
            sleep(PAUSE).await;
        }
    }

    /// Records the helper, so that the next daemon can end it.
    pub(super) fn record(&self, helper: u32) -> Result<(), LockError> {
        let line = |pid| Some(format!("{pid} {}\n", start_time(pid)?));
        let text = line(helper).zip(line(std::process::id())).map(|(h, d)| h + &d);
        let failed = |source| LockError::File { path: self.path.clone(), source };
        let mut file = &self.file;
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(text.unwrap_or_default().as_bytes()).map_err(failed)
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }
}

/// Kills the recorded helper if it lives and its daemon does not.
fn kill_leftover(record: &str) {
    let mut lines = record.lines().map(parse);
    let (Some(Some(helper)), Some(Some(daemon))) = (lines.next(), lines.next()) else { return };
    if is_alive(daemon) {
        return;
    }
    // The descriptor is opened first: whatever it names cannot be replaced by another process
    // between the check and the signal.
    let pid = i32::try_from(helper.0).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|p| pidfd_open(p, PidfdFlags::empty())) else { return };
    if is_alive(helper) && pidfd_send_signal(pidfd, Signal::KILL).is_ok() {
        tracing::warn!(pid = helper.0, "killed the sandbox helper of a daemon that is gone");
    }
}

fn parse(line: &str) -> Option<(u32, u64)> {
    let (pid, start) = line.split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

fn is_alive((pid, start): (u32, u64)) -> bool {
    start_time(pid) == Some(start)
}

/// When the process started, in ticks since boot; none when it is gone or only its exit status is
/// left. With the number it names a process for good (proc(5), fields 3 and 22).
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lock_is_exclusive_until_the_last_holder_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(directory.path()).await.unwrap();
        let heir = lock.file().try_clone().unwrap();
        let other = File::open(directory.path().join(FILE)).unwrap();
        let attempt = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        drop(lock);
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK), "the heir still lives");
        drop(heir);
        assert_eq!(attempt(), Ok(()));
    }

    #[test]
    fn a_helper_whose_daemon_lives_is_left_alone() {
        let own = std::process::id();
        let start = start_time(own).unwrap();
        assert!(is_alive((own, start)));
        assert!(!is_alive((own, start + 1)), "another process with the same number");
        // Would end this test if it were wrong.
        kill_leftover(&format!("{own} {start}\n{own} {start}\n"));
        kill_leftover(&format!("{own} {}\n{own} 1\n", start + 1));
        kill_leftover("nonsense");
    }
}
