//! The workspaces that calls are at work in, and what is known of each, over all its calls.
//!
//! Invariants: one count at a time per workspace; a directory is held open only while a call is at
//! work in it or has just left, so that a file system can be unmounted afterwards.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::fs::fstat;
use tokio::time::Instant;

use super::{
    quota::{self, Allowance, Known},
    space::{self, Held},
};
use crate::{
    domain::limits::DISK_FREE_BYTES_MIN,
    runtime::{TaskKind, Tasks, tasks::lock},
};

/// Workspaces that are remembered while no call uses them.
const SPACES_MAX: usize = 1_024;

/// Device and inode of a workspace.
type Id = (u64, u64);

/// What is known of every workspace. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spaces {
    known: Arc<Mutex<HashMap<Id, Space>>>,
}

#[derive(Debug)]
struct Space {
    /// Held while somebody is or has just been at work.
    tree: Option<Arc<OwnedFd>>,
    quota: Held,
    known: Option<Known>,
    calls: usize,
    is_being_counted: bool,
}

/// One call's place in its workspace; dropping it leaves.
#[derive(Debug)]
pub(super) struct Place {
    spaces: Spaces,
    id: Id,
    tree: Arc<OwnedFd>,
    free_at_start: u64,
    allowance: Mutex<Allowance>,
}

impl Spaces {
    /// A call begins its work in a directory.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub(super) fn enter(&self, tree: OwnedFd, quota: Held) -> rustix::io::Result<Place> {
        let stat = fstat(&tree)?;
        let (id, tree) = ((stat.st_dev, stat.st_ino), Arc::new(tree));
        let free_at_start = space::room(&tree)?.free.bytes;
        let mut known = lock(&self.known);
        if known.len() >= SPACES_MAX {
            known.retain(|_, space| space.tree.is_some());
        }
        let space = known.entry(id).or_insert_with(|| Space {
            tree: None,
            quota,
            known: None,
            calls: 0,
            is_being_counted: false,
        });
        // The newest: the number may have been given to another directory since.
        space.tree = Some(Arc::clone(&tree));
        space.quota = quota;
        space.calls += 1;
        drop(known);
        let allowance = Mutex::new(Allowance::new(quota));
        Ok(Place { spaces: self.clone(), id, tree, free_at_start, allowance })
    }

    /// Whether nobody is at work or has just left.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.known).values().all(|space| space.tree.is_none())
    }

    /// Begins to count what is to be counted now, off the async threads. Blocks for a few
    /// microseconds per workspace that is in use.
    pub(super) fn count_due(&self, tasks: &Tasks) {
        for (id, tree) in self.due() {
            let spaces = self.clone();
            tasks.spawn(TaskKind::Helper, |_| async move {
                let counted = Tasks::spawn_blocking(move || count(&tree)).await;
                if let Some(space) = lock(&spaces.known).get_mut(&id) {
                    space.is_being_counted = false;
                    if let Ok(Some(known)) = counted {
                        space.known = Some(known);
                    }
                }
            });
        }
    }

    fn due(&self) -> Vec<(Id, Arc<OwnedFd>)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, space) in &mut *lock(&self.known) {
            let Some(tree) = space.tree.clone() else { continue };
            if space.calls == 0 {
                space.tree = None;
            }
            if space.is_being_counted {
                continue;
            }
            // The answer comes from the file system's memory.
            let Ok(room) = space::room(&tree) else { continue };
            space.is_being_counted = match &space.known {
                // Nobody is at work: what the last call took is all that is of interest.
                Some(known) if space.calls == 0 => quota::has_shrunk(known, &room, space.quota),
                known => quota::is_due(known.as_ref(), &room, space.quota, now),
            };
            if space.is_being_counted {
                due.push((*id, tree));
            }
        }
        due
    }
}

impl Place {
    /// Names the limit that the workspace or its file system has passed while this call ran.
    pub(super) fn look(&self) -> Option<&'static str> {
        let room = space::room(&self.tree).ok()?;
        if quota::is_starved(&room, DISK_FREE_BYTES_MIN, self.free_at_start) {
            return Some("disk_free");
        }
        let known = lock(&self.spaces.known);
        let space = known.get(&self.id)?;
        let held = space.known.as_ref()?.held;
        let mut allowance = lock(&self.allowance);
        // A count that is about to be replaced says nothing about what the call began with.
        if space.is_being_counted && !allowance.has_begun() {
            return None;
        }
        allowance.judge(held)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(space) = lock(&self.spaces.known).get_mut(&self.id) {
            space.calls = space.calls.saturating_sub(1);
        }
    }
}

fn count(tree: &OwnedFd) -> Option<Known> {
    let begun = Instant::now();
    let free = space::room(tree).ok()?.free;
    let held = space::count(tree).ok()?;
    let cost: Duration = begun.elapsed();
    Some(Known { held, free, at: Instant::now(), cost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Stop;

    #[tokio::test]
    async fn a_workspace_is_counted_for_its_calls_and_let_go_of_after_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![1_u8; 1 << 20]).unwrap();
        let tree = || OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        let (spaces, tasks) = (Spaces::default(), Tasks::new(Stop::default()));
        let quota = Held { bytes: 2 << 20, inodes: 100 };
        let place = spaces.enter(tree(), quota).unwrap();
        assert_eq!(place.look(), None, "nothing is known yet");
        let counted =
            || lock(&spaces.known).values().filter_map(|s| s.known).map(|k| k.held).next();
        spaces.count_due(&tasks);
        while counted().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!((place.look(), counted().unwrap().inodes), (None, 1));
        // Another call that finds too much may stay; this one has brought it.
        std::fs::write(dir.path().join("g"), vec![1_u8; 4 << 20]).unwrap();
        for space in lock(&spaces.known).values_mut() {
            space.known = None;
        }
        spaces.count_due(&tasks);
        while counted().is_none() {
            tokio::task::yield_now().await;
        }
        let late = spaces.enter(tree(), quota).unwrap();
        assert_eq!((place.look(), late.look()), (Some("workspace_bytes"), None));
        assert!(!spaces.is_idle());
        drop((place, late));
        spaces.count_due(&tasks);
        assert!(spaces.is_idle());
    }
}
