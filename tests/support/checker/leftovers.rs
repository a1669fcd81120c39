//! 12: what a dead daemon left.

use std::{fs, path::Path, time::Duration};

use super::Violation;

/// How long the kernel may take to end what belonged to the daemon, on a busy machine; a new daemon
/// waits as long before it recovers anything.
const PATIENCE_MS: u64 = 10_000;

/// 12: nobody holds the data directory's tool lock, no process works in it, nothing is mounted there.
pub(super) fn leftovers(data_dir: &Path) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let lock = data_dir.join("tools.lock");
    match fs::File::open(&lock) {
        Err(error) => wrong.push(Violation::of(12, format!("{}: {error}", lock.display()))),
        Ok(lock) => {
            let is_free = (0..PATIENCE_MS / 5).any(|_| {
                let is_free = lock.try_lock().is_ok();
                if !is_free {
                    std::thread::sleep(Duration::from_millis(5));
                }
                is_free
            });
            if !is_free {
                wrong.push(Violation::of(12, "a tool process of the dead daemon lives"));
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = data_dir.display().to_string();
    for line in mounts.lines().filter(|l| l.contains(&place)) {
        wrong.push(Violation::of(12, format!("a mount is left: {line}")));
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        if cwd.starts_with(data_dir) {
            let pid = process.file_name();
            let what = format!("process {} works in the directory", pid.display());
            wrong.push(Violation::of(12, what));
        }
    }
    wrong
}
