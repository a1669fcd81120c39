//! Control groups (version 2), where a subtree of them was given to the daemon: the kernel then
//! counts and bounds a call's memory, processes and CPU time itself.
//!
//! Invariants: nothing is touched unless our own group is ours alone (delegated, writable, holding
//! no process but the daemon and its helper); every call has its own group, which is
//! killed as a whole and removed; what an older daemon left there is killed first. Without a
//! subtree the watchdog adds up, which is never a silent difference: the log says which it is.
//!
//! The layout below the delegated group: `daemon/` with the daemon and its helper (a group that
//! hands out controllers may hold no process itself), `tools-…/` with one group per call; its name
//! says whose data directory it serves, so that nobody ends another daemon's calls.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{domain::ToolLimits, runtime::tasks::lock};

/// Where the daemon's own processes go.
const DAEMON: &str = "daemon";
/// Where the groups of calls are made: the beginning of its name.
const TOOLS: &str = "tools";
/// Controllers that are of use here; each is optional but memory.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Share of the processors next to everything else's 100 each.
const CPU_WEIGHT: &str = "10";
/// How long a killed group may take to be empty, and between two looks.
const EMPTY_WAIT: Duration = Duration::from_secs(5);
const EMPTY_LOOK: Duration = Duration::from_millis(5);
/// Groups of an older daemon that are looked at.
const LEFTOVERS_MAX: usize = 10_000;

/// Why control groups are not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDelegated {
    /// There is no hierarchy of version 2, or we are not in it.
    #[error("this process is in no control group of version 2")]
    Absent,
    /// We are at the top of the hierarchy, which belongs to whoever starts services.
    #[error("this process is in the root control group, which is not ours to divide")]
    Root,
    /// Other processes are in our group: it is not ours alone.
    #[error("process {0} is in our control group too, so that it is not ours alone")]
    Shared(u32),
    /// The memory controller is not among those handed down.
    #[error("the memory controller was not delegated to our control group")]
    NoMemory,
    /// A file could not be read or written.
    #[error("cannot {doing} {path}", path = path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The subtree that is ours.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    tools: Arc<PathBuf>,
    next: Arc<AtomicU64>,
    litter: Litter,
}

/// Groups that were not empty yet when they were given up.
type Litter = Arc<Mutex<Vec<PathBuf>>>;

/// The group of one call; dropping it kills what is left in it and removes it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    litter: Litter,
}

impl Groups {
    /// Takes our own group's subtree, if it was delegated: moves the daemon into a leaf, where its
    /// helper is born too, hands out the controllers, and ends what an older daemon of the same
    /// data directory has left. To be called only by the daemon that holds its liveness lock, and
    /// before the helper is started. It blocks until leftovers are gone, at most some seconds.
    ///
    /// # Errors
    /// See [`NotDelegated`]: control groups cannot be used.
    pub(super) fn take(data_dir: &Path) -> Result<Self, NotDelegated> {
        let failed =
            |source| NotDelegated::File { doing: "look at", path: data_dir.to_owned(), source };
        let found = fs::metadata(data_dir).map_err(failed)?;
        let name = format!("{TOOLS}-{:x}-{:x}", found.dev(), found.ino());
        let own = read(Path::new("/proc/self/cgroup"))?;
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        let path = own_group(&own, &mounts).ok_or(NotDelegated::Absent)?;
        Self::take_at(&path, &name)
    }

    /// As [`Groups::take`], of a group that is known. Our processes may be in it or in its
    /// `daemon` leaf, where an older daemon was started from the same service.
    fn take_at(group: &Path, name: &str) -> Result<Self, NotDelegated> {
        let group = if group.ends_with(DAEMON) { group.parent().unwrap_or(group) } else { group };
        if !group.join("cgroup.events").exists() {
            return Err(NotDelegated::Root);
        }
        let offered = read(&group.join("cgroup.controllers"))?;
        let wanted = wanted(&offered).ok_or(NotDelegated::NoMemory)?;
        let own = std::process::id();
        let inside = read(&group.join("cgroup.procs"))?;
        if let Some(other) = stranger(&inside, own) {
            return Err(NotDelegated::Shared(other));
        }
        let daemon = group.join(DAEMON);
        make(&daemon)?;
        write(&daemon.join("cgroup.procs"), &own.to_string())?;
        let tools = group.join(name);
        make(&tools)?;
        for at in [group, &tools] {
            write(&at.join("cgroup.subtree_control"), &wanted)?;
        }
        // Tools together weigh less than the daemon, however many they are.
        if wanted.contains("cpu") {
            write(&tools.join("cpu.weight"), CPU_WEIGHT)?;
        }
        let groups = Self::below(tools);
        groups.end_leftovers();
        Ok(groups)
    }

    fn below(tools: PathBuf) -> Self {
        Self { tools: Arc::new(tools), next: Arc::default(), litter: Litter::default() }
    }

    /// Groups of an older daemon, with whatever still runs in them.
    fn end_leftovers(&self) {
        let entries = fs::read_dir(&*self.tools).into_iter().flatten().flatten();
        for entry in entries.take(LEFTOVERS_MAX) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                tracing::warn!(group = %entry.path().display(), "ending what an older daemon left");
                drop(self.group(entry.path()));
            }
        }
        let deadline = Instant::now() + EMPTY_WAIT;
        while !self.sweep() && Instant::now() < deadline {
            std::thread::sleep(EMPTY_LOOK);
        }
    }

    /// Removes given-up groups that are empty by now; tells whether none is left. The watchdog
    /// calls it now and then.
    pub(super) fn sweep(&self) -> bool {
        let mut litter = lock(&self.litter);
        litter.retain(|path| match fs::remove_dir(path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        litter.is_empty()
    }

    fn group(&self, path: PathBuf) -> Group {
        Group { path, litter: Arc::clone(&self.litter) }
    }

    /// Makes the group of a call, bounded but empty.
    ///
    /// # Errors
    /// When it cannot be made or bounded: the call must not run, since nobody else would bound it.
    pub(super) fn make(&self, limits: &ToolLimits, used_bytes: u64) -> Result<Group, NotDelegated> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.tools.join(format!("call-{}-{number}", std::process::id()));
        make(&path)?;
        let group = self.group(path);
        for (file, value) in bounds(limits, used_bytes) {
            let path = group.path.join(file);
            // A controller that was not delegated has no files; swap and its file may be absent.
            if path.exists() {
                write(&path, &value)?;
            }
        }
        Ok(group)
    }
}

impl Group {
    /// Puts a process into the group; what it starts from then on is in it too.
    ///
    /// # Errors
    /// When it cannot: the process must not go on.
    pub(super) fn take_in(&self, pid: i32) -> Result<(), NotDelegated> {
        write(&self.path.join("cgroup.procs"), &pid.to_string())
    }

    /// CPU time of everything that ever was in the group.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        number(&stat, "usage_usec").map(Duration::from_micros)
    }

    /// Memory in use, if the controller is there.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// The limit at which the kernel has killed in this group.
    pub(super) fn killed_for(&self) -> Option<&'static str> {
        let events = fs::read_to_string(self.path.join("memory.events")).ok()?;
        (number(&events, "oom_kill")? > 0).then_some("memory_total_bytes")
    }

    /// The limit at which the kernel has refused a process in this group.
    pub(super) fn refused_for(&self) -> Option<&'static str> {
        let events = fs::read_to_string(self.path.join("pids.events")).ok()?;
        (number(&events, "max")? > 0).then_some("processes")
    }

    /// Kills everything in the group at once.
    pub(super) fn kill(&self) {
        // Fails only when it is gone, or before Linux 5.14, where pid 1's death does the same.
        fs::write(self.path.join("cgroup.kill"), "1").ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Usually it is empty: pid 1 is dead, and everything with it.
        if fs::remove_dir(&self.path).is_err() {
            self.kill();
            lock(&self.litter).push(std::mem::take(&mut self.path));
        }
    }
}

/// What is written to which file. `used_bytes` is memory that counts for the call but was charged
/// to others: the `/tmp` that earlier calls of the run have filled.
fn bounds(limits: &ToolLimits, used_bytes: u64) -> Vec<(&'static str, String)> {
    let memory = limits.memory_total_bytes.saturating_sub(used_bytes);
    vec![
        ("memory.max", memory.to_string()),
        ("memory.swap.max", "0".to_owned()),
        // All of the call or nothing: half a program is no use.
        ("memory.oom.group", "1".to_owned()),
        // Pid 1 is ours.
        ("pids.max", limits.processes.saturating_add(1).to_string()),
    ]
}

/// The directory of our own group: `0::<path>` of `/proc/self/cgroup`, below a mount of the
/// hierarchy that shows it (proc(5): field 4 is the root of the mount, field 5 where it is, and
/// after ` - ` comes the type).
fn own_group(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let own = Path::new(cgroup.lines().find_map(|line| line.strip_prefix("0::"))?);
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = left.split(' ').skip(3);
        let (root, at) = (unescape(fields.next()?), unescape(fields.next()?));
        // A path that climbs is outside of what our namespace shows.
        let below = own.strip_prefix(root).ok().filter(|_| !cgroup.contains("/.."))?;
        Some(PathBuf::from(at).join(below))
    })
}

/// Spaces and such are written as octal numbers.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// What is to be handed out of what is offered; `None` without memory, for which this is done.
fn wanted(offered: &str) -> Option<String> {
    let offered: Vec<&str> = offered.split_ascii_whitespace().collect();
    let wanted = CONTROLLERS.iter().filter(|name| offered.contains(name));
    let text = wanted.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    offered.contains(&"memory").then_some(text)
}

/// A process in the group that is none of ours.
fn stranger(inside: &str, own: u32) -> Option<u32> {
    inside.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| *pid != own)
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn make(path: &Path) -> Result<(), NotDelegated> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(NotDelegated::File { doing: "make", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, NotDelegated> {
    let failed = |source| NotDelegated::File { doing: "read", path: path.to_owned(), source };
    fs::read_to_string(path).map_err(failed)
}

fn write(path: &Path, value: &str) -> Result<(), NotDelegated> {
    let failed = |source| NotDelegated::File { doing: "write to", path: path.to_owned(), source };
    // No creation: in a tree that only looks like the real one a missing file must show.
    let mut file = fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
    io::Write::write_all(&mut file, value.as_bytes()).map_err(failed)
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
