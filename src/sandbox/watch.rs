//! The watchdog: adds up what the calls use, ends the one that uses too much, and names the limit.
//!
//! Invariants: one task for all calls, and nothing runs while there is none; no look at a call
//! blocks an async thread; looking costs at most a twentieth of one processor, counting a
//! workspace another tenth. A call that cannot be looked at is ended. It is killed through its pid
//! file descriptor, so never anybody else.

use std::{
    collections::{BTreeSet, HashMap},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
    time::{ClockId, clock_gettime},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    cgroup::{Group, Groups, NotDelegated},
    quota,
    space::{self, Room},
    spaces::{Place, Spaces},
    usage::{self, Usage},
    wire::{AtStep, Failure},
};
use crate::{
    domain::ToolLimits,
    runtime::{TaskKind, Tasks, tasks::lock},
};

/// Time between two looks, at least and at most. A program that takes 4 GB/s of memory gets 100 MB
/// too much in the shorter one.
const PERIOD: Duration = Duration::from_millis(25);
const PERIOD_MAX: Duration = Duration::from_millis(250);
/// Looks cost one part of so many of the time.
const REST_PER_COST: u32 = 20;
/// How long a living call may stay invisible before it is ended.
const BLIND_MAX: Duration = Duration::from_secs(1);
/// Memory of the machine that is kept for the daemon and others: a part, and no more than so much.
const MEMORY_FLOOR_PART: u64 = 50;
const MEMORY_FLOOR_BYTES: u64 = 128 << 20;
/// Processes of a kept sandbox that the kernel counts beside those of a call: its own pid 1, and
/// that of the next call, which is prepared.
const OTHER_TASKS: u64 = 2;
/// An address space this full was what the program ran into: in percent of the limit.
const ADDRESSES_FULL: u64 = 90;

/// A call that is to be watched.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) limits: ToolLimits,
    /// What ends the call when its pid 1 gets it.
    pub(super) signal: Signal,
    /// The workspace, if it can be opened.
    pub(super) workspace: Option<OwnedFd>,
    /// The private `/tmp`, if there is one.
    pub(super) tmp: Option<OwnedFd>,
    /// Its control group, where those can be had.
    pub(super) group: Option<Group>,
}

/// Watches calls. Clones share the task.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    groups: Option<Groups>,
}

#[derive(Debug)]
struct Shared {
    wake: Notify,
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Arc<Call>>>,
    spaces: Spaces,
}

#[derive(Debug)]
struct Call {
    pid: i32,
    pidfd: OwnedFd,
    signal: Signal,
    limits: ToolLimits,
    place: Option<Place>,
    tmp: Option<OwnedFd>,
    group: Option<Group>,
    verdict: watch::Sender<Option<&'static str>>,
    notes: Mutex<Notes>,
}

/// What has been seen of a call so far.
#[derive(Debug)]
struct Notes {
    reached: BTreeSet<&'static str>,
    cpu: CpuTime,
    seen_at: Instant,
    memory_bytes: u64,
}

/// A call under watch; dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Watched {
    shared: Arc<Shared>,
    id: u64,
    call: Arc<Call>,
}

impl Watch {
    /// Takes control groups if they can be had, and starts the task. Before the helper is started,
    /// which is to be born where the daemon is.
    pub(super) fn start(data_dir: &Path, tasks: &Tasks) -> Self {
        let groups = match Groups::take(data_dir) {
            Ok(groups) => {
                tracing::info!("the kernel bounds tools by control groups");
                Some(groups)
            }
            Err(reason) => {
                tracing::info!(%reason, "a watchdog adds up what tools use");
                None
            }
        };
        let shared = Arc::new(Shared {
            wake: Notify::new(),
            next: AtomicU64::new(0),
            calls: Mutex::default(),
            spaces: Spaces::default(),
        });
        let keeper = Arc::clone(&shared);
        let own_tasks = tasks.clone();
        let swept = groups.clone();
        tasks.spawn(TaskKind::Helper, |stop| async move {
            // Both branches are cancel-safe: looks leave no half-done state, and a token.
            tokio::select! {
                () = keep(keeper, swept, own_tasks) => {}
                () = stop.wait_hard() => {}
            }
        });
        Self { shared, groups }
    }

    /// Makes the control group of a call, if there are any.
    ///
    /// # Errors
    /// When it cannot be made: nobody would bound the call.
    pub(super) fn group(
        &self,
        limits: &ToolLimits,
        tmp: Option<&OwnedFd>,
    ) -> Result<Option<Group>, Failure> {
        let Some(groups) = &self.groups else { return Ok(None) };
        let room = tmp.map(space::room).transpose().at("look at /tmp")?;
        let used = room.map_or(0, |room| room.used.bytes);
        groups.make(limits, used).map(Some).map_err(|error| not_bounded(&error))
    }

    /// Watches a call, by its pid 1, until the result is dropped. Its control group takes in what
    /// there is of it.
    ///
    /// # Errors
    /// When the group does not: nobody would bound the call.
    pub(super) fn follow(&self, pidfd: OwnedFd, subject: Subject) -> Result<Watched, Failure> {
        let Subject { limits, signal, workspace, tmp, group } = subject;
        let pid = number(&pidfd).unwrap_or(-1);
        if let Some(group) = &group {
            let (_, processes) = usage::read(pid).at("look at a call")?;
            for process in processes {
                group.take_in(process).map_err(|error| not_bounded(&error))?;
            }
        }
        let quota = quota::quota(&limits);
        let place = workspace.and_then(|tree| self.shared.spaces.enter(tree, quota).ok());
        let call = Arc::new(Call {
            pid,
            pidfd,
            signal,
            limits,
            place,
            tmp,
            group,
            verdict: watch::Sender::new(None),
            notes: Mutex::new(Notes {
                reached: BTreeSet::new(),
                cpu: CpuTime::default(),
                seen_at: Instant::now(),
                memory_bytes: 0,
            }),
        });
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.calls).insert(id, Arc::clone(&call));
        self.shared.wake.notify_one();
        Ok(Watched { shared: Arc::clone(&self.shared), id, call })
    }
}

impl Watched {
    /// Waits until the call is killed for a limit, which is named; for ever if it is not.
    /// Cancel-safe.
    pub(super) async fn limit(&self) -> &'static str {
        let mut verdict = self.call.verdict.subscribe();
        let told = verdict.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match told {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// The limit for which the call was killed, by us or by the kernel.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        let ours = *self.call.verdict.borrow();
        ours.or_else(|| self.call.group.as_ref().and_then(Group::killed_for))
    }

    /// Names every limit that was seen to be reached, by name; asked when the call is over.
    pub(super) fn reached(&self) -> Vec<&'static str> {
        let mut reached = lock(&self.call.notes).reached.clone();
        if let Some(Ok(room)) = self.call.tmp.as_ref().map(space::room) {
            reached.extend(full(&room));
        }
        reached.extend(self.call.group.as_ref().and_then(Group::refused_for));
        reached.extend(self.verdict());
        reached.into_iter().collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.shared.calls).remove(&self.id);
        // One more look, for what it has left in its workspace.
        self.shared.wake.notify_one();
    }
}

async fn keep(shared: Arc<Shared>, groups: Option<Groups>, tasks: Tasks) {
    let mut pause = PERIOD;
    loop {
        while shared.is_idle() {
            pause = PERIOD;
            shared.wake.notified().await;
        }
        sleep(pause).await;
        let looking = Arc::clone(&shared);
        let (swept, counting) = (groups.clone(), tasks.clone());
        let look = move || {
            let begun = spent();
            swept.as_ref().map(Groups::sweep);
            looking.look(&counting);
            spent().saturating_sub(begun)
        };
        pause = match Tasks::spawn_blocking(look).await {
            Ok(cost) => (cost * REST_PER_COST).clamp(PERIOD, PERIOD_MAX),
            Err(error) => {
                tracing::error!(%error, "a look at the running calls failed");
                PERIOD_MAX
            }
        };
    }
}

/// Processor time of this thread. Not the clock's: on a machine that a bomb keeps busy a look takes
/// long without costing much, and is most needed.
fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

impl Shared {
    fn is_idle(&self) -> bool {
        lock(&self.calls).is_empty() && self.spaces.is_idle()
    }

    /// Looks at every call once.
    fn look(&self, tasks: &Tasks) {
        let calls: Vec<Arc<Call>> = lock(&self.calls).values().cloned().collect();
        for call in &calls {
            if let Some(limit) = call.look() {
                call.end(limit);
            }
        }
        spare_memory(&calls);
        self.spaces.count_due(tasks);
        for call in &calls {
            if let Some(limit) = call.place.as_ref().and_then(Place::look) {
                call.end(limit);
            }
        }
    }
}

/// When the machine itself runs out, the call that uses most goes before the kernel chooses.
fn spare_memory(calls: &[Arc<Call>]) {
    let Some((available, all)) = usage::machine_memory() else { return };
    if available >= (all / MEMORY_FLOOR_PART).min(MEMORY_FLOOR_BYTES) {
        return;
    }
    let alive = calls.iter().filter(|call| call.verdict.borrow().is_none());
    if let Some(largest) = alive.max_by_key(|call| lock(&call.notes).memory_bytes) {
        largest.end("memory_free");
    }
}

impl Call {
    /// Looks at the processes and `/tmp`; names a limit that is passed.
    fn look(&self) -> Option<&'static str> {
        let tmp = self.tmp.as_ref().and_then(|tmp| space::room(tmp).ok());
        let tmp_bytes = tmp.map_or(0, |room| room.used.bytes);
        let Ok((usage, processes)) = usage::read(self.pid) else {
            // Usually it has just ended, which whoever waits for it will notice.
            let is_late = lock(&self.notes).seen_at.elapsed() > BLIND_MAX;
            return (is_late && !has_ended(&self.pidfd)).then_some("watch");
        };
        let limits = &self.limits;
        // The kernel bounds memory itself where there is a group, and counts better.
        let counted = self.group.as_ref().and_then(Group::memory_bytes);
        let memory = counted.unwrap_or_else(|| {
            let quick = usage.resident_bytes.saturating_add(tmp_bytes);
            if quick <= limits.memory_total_bytes {
                return quick;
            }
            let rest = limits.memory_total_bytes.saturating_sub(tmp_bytes);
            usage::memory(&processes, rest).saturating_add(tmp_bytes)
        });
        let exact = self.group.as_ref().and_then(Group::cpu);
        let mut notes = lock(&self.notes);
        notes.seen_at = Instant::now();
        notes.memory_bytes = memory;
        notes.reached.extend(near(&usage, limits));
        notes.reached.extend(tmp.as_ref().map(full).into_iter().flatten());
        let cpu = exact.unwrap_or_else(|| notes.cpu.take(usage.cpu));
        if counted.is_none() && memory > limits.memory_total_bytes {
            Some("memory_total_bytes")
        } else if cpu >= Duration::from_secs(limits.cpu_secs) {
            Some("cpu_secs")
        } else {
            None
        }
    }

    /// Kills the call, once.
    fn end(&self, limit: &'static str) {
        let is_first = self.verdict.send_if_modified(|verdict| {
            let is_first = verdict.is_none();
            *verdict = verdict.or(Some(limit));
            is_first
        });
        if is_first {
            // Fails only when it is dead already.
            pidfd_send_signal(&self.pidfd, self.signal).ok();
        }
    }
}

/// As a step of the call.
fn not_bounded(error: &NotDelegated) -> Failure {
    let errno = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    Failure { step: format!("bound the call: {error}"), errno: errno.unwrap_or(libc::EIO) }
}

/// Limits that do not kill: the program met them as an error, which it may have survived.
fn near(usage: &Usage, limits: &ToolLimits) -> impl Iterator<Item = &'static str> {
    let addresses = limits.memory_bytes / 100 * ADDRESSES_FULL;
    [
        ("memory_bytes", usage.address_bytes_max >= addresses),
        ("processes", usage.tasks.saturating_add(OTHER_TASKS) >= limits.processes),
        ("open_files", usage.open_files_max >= limits.open_files),
    ]
    .into_iter()
    .filter_map(|(name, is_reached)| is_reached.then_some(name))
}

/// Limits of `/tmp` that nothing more fits under.
fn full(room: &Room) -> impl Iterator<Item = &'static str> + use<> {
    [("tmp_bytes", room.free.bytes == 0), ("tmp_inodes", room.free.inodes == 0)]
        .into_iter()
        .filter_map(|(name, is_full)| is_full.then_some(name))
}

/// CPU time of a call as it can be seen: it never goes down, although the time of a process that
/// nobody waited for vanishes with it.
#[derive(Clone, Copy, Debug, Default)]
struct CpuTime {
    last: Duration,
    seen: Duration,
    lost: Duration,
}

impl CpuTime {
    /// Takes what is visible now. One look may miss a process that is given to another parent at
    /// that moment, so a loss counts when the next look sees it too.
    fn take(&mut self, now: Duration) -> Duration {
        let seen = now.max(self.last);
        self.lost += self.seen.saturating_sub(seen);
        self.seen = seen;
        self.last = now;
        self.lost + seen
    }
}

/// Whether the process is dead, its descriptor readable.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The number that this process sees a process by, from its pid file descriptor.
fn number(pidfd: &OwnedFd) -> Option<i32> {
    let fd = pidfd.as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_vanished_processes_stays_counted() {
        let secs = Duration::from_secs;
        let mut cpu = CpuTime::default();
        assert_eq!(cpu.take(secs(5)), secs(5));
        assert_eq!(cpu.take(secs(9)), secs(9));
        // One look misses a process that moves; the next finds it again.
        assert_eq!(cpu.take(secs(1)), secs(9));
        assert_eq!(cpu.take(secs(10)), secs(10));
        // A process that nobody waits for is gone for good.
        assert_eq!(cpu.take(secs(2)), secs(10));
        assert_eq!(cpu.take(secs(2)), secs(10));
        assert_eq!(cpu.take(secs(6)), secs(14));
    }

    #[test]
    fn errors_that_a_program_met_are_told_from_room_that_was_left() {
        let limits = ToolLimits {
            processes: 10,
            open_files: 20,
            memory_bytes: 1_000,
            ..ToolLimits::default()
        };
        let near = |usage: Usage| near(&usage, &limits).collect::<Vec<_>>();
        assert_eq!(
            near(Usage {
                tasks: 7,
                open_files_max: 19,
                address_bytes_max: 899,
                ..Usage::default()
            }),
            [""; 0]
        );
        assert_eq!(
            near(Usage {
                tasks: 8,
                open_files_max: 20,
                address_bytes_max: 900,
                ..Usage::default()
            }),
            ["memory_bytes", "processes", "open_files"]
        );
    }
}
