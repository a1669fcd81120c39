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
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::fstat,
    process::{Signal, pidfd_send_signal},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    cgroup::{Group, Groups, NotDelegated},
    quota::{self, Allowance, Known},
    space::{self, Held, Room},
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
const PERIOD_MAX: Duration = Duration::from_millis(500);
/// Looks cost one part of so many of the time.
const REST_PER_COST: u32 = 20;
/// How long a living call may stay invisible before it is ended.
const BLIND_MAX: Duration = Duration::from_secs(1);
/// Memory of the machine that is kept for the daemon and others: a part, and no more than so much.
const MEMORY_FLOOR_PART: u64 = 50;
const MEMORY_FLOOR_BYTES: u64 = 128 << 20;
/// Workspaces that are remembered while no call uses them.
const SPACES_MAX: usize = 1_024;
/// Processes of a kept sandbox that the kernel counts beside those of a call: its own pid 1, and
/// the two of the next call that are prepared.
const OTHER_TASKS: u64 = 3;
/// An address space this full was what the program ran into: in percent of the limit.
const ADDRESSES_FULL: u64 = 90;

/// A call that is to be watched.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) limits: ToolLimits,
    /// The workspace, if it can be opened.
    pub(super) workspace: Option<OwnedFd>,
    /// The private `/tmp`.
    pub(super) tmp: OwnedFd,
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
    disk_free_bytes_min: u64,
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: HashMap<u64, Arc<Call>>,
    spaces: HashMap<SpaceId, Space>,
}

/// Device and inode of a workspace.
type SpaceId = (u64, u64);

/// What is known of one workspace, over all its calls.
#[derive(Debug)]
struct Space {
    tree: Arc<OwnedFd>,
    quota: Held,
    known: Option<Known>,
    calls: usize,
    is_being_counted: bool,
    /// A call has ended since the last look.
    is_left: bool,
}

#[derive(Debug)]
struct Call {
    pid: i32,
    pidfd: OwnedFd,
    limits: ToolLimits,
    space: Option<(SpaceId, Arc<OwnedFd>)>,
    free_at_start: u64,
    tmp: OwnedFd,
    group: Option<Group>,
    verdict: watch::Sender<Option<&'static str>>,
    notes: Mutex<Notes>,
}

/// What has been seen of a call so far.
#[derive(Debug)]
struct Notes {
    reached: BTreeSet<&'static str>,
    cpu: CpuTime,
    allowance: Allowance,
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
    /// which is to be born where the daemon is. `disk_free_bytes_min` is what must stay free on a workspace's file system.
    pub(super) fn start(data_dir: &Path, disk_free_bytes_min: u64, tasks: &Tasks) -> Self {
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
        let shared =
            Arc::new(Shared { disk_free_bytes_min, wake: Notify::new(), state: Mutex::default() });
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
        tmp: &OwnedFd,
    ) -> Result<Option<Group>, Failure> {
        let Some(groups) = &self.groups else { return Ok(None) };
        let used = space::room(tmp).at("look at /tmp")?.used.bytes;
        groups.make(limits, used).map(Some).map_err(|error| not_bounded(&error))
    }

    /// Watches a call, by its pid 1, until the result is dropped. Its control group takes in what
    /// there is of it.
    ///
    /// # Errors
    /// When the group does not: nobody would bound the call.
    pub(super) fn follow(&self, pidfd: OwnedFd, subject: Subject) -> Result<Watched, Failure> {
        let Subject { limits, workspace, tmp, group } = subject;
        let pid = number(&pidfd).unwrap_or(-1);
        if let Some(group) = &group {
            let (_, processes) = usage::read(pid).at("look at a call")?;
            for process in processes {
                group.take_in(process).map_err(|error| not_bounded(&error))?;
            }
        }
        let workspace = workspace.and_then(|tree| {
            let stat = fstat(&tree).ok()?;
            Some(((stat.st_dev, stat.st_ino), Arc::new(tree)))
        });
        let free = workspace.as_ref().and_then(|(_, tree)| space::room(tree).ok());
        let quota = quota::quota(&limits);
        let call = Arc::new(Call {
            pid,
            pidfd,
            limits,
            space: workspace.clone(),
            free_at_start: free.map_or(0, |room| room.free.bytes),
            tmp,
            group,
            verdict: watch::Sender::new(None),
            notes: Mutex::new(Notes {
                reached: BTreeSet::new(),
                cpu: CpuTime::default(),
                allowance: Allowance::new(quota),
                seen_at: Instant::now(),
                memory_bytes: 0,
            }),
        });
        let mut state = lock(&self.shared.state);
        state.next += 1;
        let id = state.next;
        state.calls.insert(id, Arc::clone(&call));
        if let Some((space, tree)) = workspace {
            state.enter(space, tree, quota);
        }
        drop(state);
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

    /// The limit for which the call was killed.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        *self.call.verdict.borrow()
    }

    /// Names every limit that was seen to be reached, by name; asked when the call is over.
    pub(super) fn reached(&self) -> Vec<&'static str> {
        let mut notes = lock(&self.call.notes);
        if let Ok(room) = space::room(&self.call.tmp) {
            notes.reached.extend(full(&room));
        }
        if let Some(group) = &self.call.group {
            notes.reached.extend(group.killed_for());
            notes.reached.extend(group.refused_for());
        }
        notes.reached.extend(self.verdict());
        notes.reached.iter().copied().collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.calls.remove(&self.id);
        if let Some((space, _)) = &self.call.space {
            state.leave(*space);
        }
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl State {
    fn enter(&mut self, id: SpaceId, tree: Arc<OwnedFd>, quota: Held) {
        if self.spaces.len() >= SPACES_MAX {
            self.spaces.retain(|_, space| space.calls > 0 || space.is_being_counted);
        }
        let space = self.spaces.entry(id).or_insert_with(|| Space {
            tree: Arc::clone(&tree),
            quota,
            known: None,
            calls: 0,
            is_being_counted: false,
            is_left: false,
        });
        // The newest: a number may have been given to another directory since.
        space.tree = tree;
        space.quota = quota;
        space.calls += 1;
    }

    fn leave(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.get_mut(&id) {
            space.calls = space.calls.saturating_sub(1);
            space.is_left = true;
        }
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && !self.spaces.values().any(|space| space.is_left)
    }
}

async fn keep(shared: Arc<Shared>, groups: Option<Groups>, tasks: Tasks) {
    let mut pause = PERIOD;
    loop {
        while lock(&shared.state).is_idle() {
            pause = PERIOD;
            shared.wake.notified().await;
        }
        sleep(pause).await;
        let begun = Instant::now();
        let looking = Arc::clone(&shared);
        let swept = groups.clone();
        let look = move || {
            swept.as_ref().map(Groups::sweep);
            looking.look()
        };
        let due = match Tasks::spawn_blocking(look).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "a look at the running calls failed");
                Vec::new()
            }
        };
        pause = (begun.elapsed() * REST_PER_COST).clamp(PERIOD, PERIOD_MAX);
        for (id, tree) in due {
            let shared = Arc::clone(&shared);
            tasks.spawn(TaskKind::Helper, |_| async move {
                let counted = Tasks::spawn_blocking(move || count(&tree)).await;
                if let Some(space) = lock(&shared.state).spaces.get_mut(&id) {
                    space.is_being_counted = false;
                    if let Ok(Some(known)) = counted {
                        space.known = Some(known);
                    }
                }
            });
        }
    }
}

fn count(tree: &OwnedFd) -> Option<Known> {
    let begun = Instant::now();
    let free = space::room(tree).ok()?.free;
    let held = space::count(tree).ok()?;
    Some(Known { held, free, at: Instant::now(), cost: begun.elapsed() })
}

impl Shared {
    /// Looks at every call once; gives the workspaces that are to be counted.
    fn look(&self) -> Vec<(SpaceId, Arc<OwnedFd>)> {
        let calls: Vec<Arc<Call>> = lock(&self.state).calls.values().cloned().collect();
        for call in &calls {
            if let Some(limit) = call.look() {
                call.end(limit);
            }
        }
        spare_memory(&calls);
        let due = self.due();
        for call in &calls {
            if let Some(limit) = self.look_at_space(call) {
                call.end(limit);
            }
        }
        due
    }

    fn due(&self) -> Vec<(SpaceId, Arc<OwnedFd>)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, space) in &mut lock(&self.state).spaces {
            let is_left = std::mem::take(&mut space.is_left);
            if space.is_being_counted || (space.calls == 0 && !is_left) {
                continue;
            }
            // A number of microseconds: the answer comes from the file system's memory.
            let Ok(room) = space::room(&space.tree) else { continue };
            let is_due = match &space.known {
                // Nobody is at work: what the last call took is all that is of interest.
                Some(known) if space.calls == 0 => quota::has_shrunk(known, &room, space.quota),
                known => quota::is_due(known.as_ref(), &room, space.quota, now),
            };
            if is_due {
                space.is_being_counted = true;
                due.push((*id, Arc::clone(&space.tree)));
            }
        }
        due
    }

    fn look_at_space(&self, call: &Call) -> Option<&'static str> {
        let (id, tree) = call.space.as_ref()?;
        let room = space::room(tree).ok()?;
        if quota::is_starved(&room, self.disk_free_bytes_min, call.free_at_start) {
            return Some("disk_free");
        }
        let state = lock(&self.state);
        let space = state.spaces.get(id)?;
        let known = space.known.as_ref()?;
        let mut notes = lock(&call.notes);
        // A count that is about to be replaced says nothing about what the call began with.
        if space.is_being_counted && !notes.allowance.has_begun() {
            return None;
        }
        notes.allowance.judge(known.held)
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
        let tmp = space::room(&self.tmp).ok();
        let tmp_bytes = tmp.map_or(0, |room| room.used.bytes);
        let mut notes = lock(&self.notes);
        notes.reached.extend(tmp.as_ref().map(full).into_iter().flatten());
        let Ok((mut usage, processes)) = usage::read(self.pid) else {
            // Usually it has just ended, which whoever waits for it will notice.
            let is_blind = notes.seen_at.elapsed() > BLIND_MAX && !has_ended(&self.pidfd);
            return is_blind.then_some("watch");
        };
        notes.seen_at = Instant::now();
        let limits = &self.limits;
        // The kernel bounds it itself where there is a group, and counts better.
        let counted = self.group.as_ref().and_then(Group::memory_bytes);
        let is_bounded = counted.is_some();
        let mut memory = counted.unwrap_or_else(|| usage.resident_bytes.saturating_add(tmp_bytes));
        if !is_bounded && memory > limits.memory_total_bytes {
            let rest = limits.memory_total_bytes.saturating_sub(tmp_bytes);
            memory = usage::memory(&processes, rest).saturating_add(tmp_bytes);
        }
        notes.memory_bytes = memory;
        usage.cpu = match self.group.as_ref().and_then(Group::cpu) {
            Some(exact) => exact,
            None => notes.cpu.take(usage.cpu),
        };
        notes.reached.extend(near(&usage, limits));
        if !is_bounded && memory > limits.memory_total_bytes {
            return Some("memory_total_bytes");
        }
        if usage.cpu >= Duration::from_secs(limits.cpu_secs) {
            return Some("cpu_secs");
        }
        None
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
            pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
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
                tasks: 6,
                open_files_max: 19,
                address_bytes_max: 899,
                ..Usage::default()
            }),
            [""; 0]
        );
        assert_eq!(
            near(Usage {
                tasks: 7,
                open_files_max: 20,
                address_bytes_max: 900,
                ..Usage::default()
            }),
            ["memory_bytes", "processes", "open_files"]
        );
    }
}
