//! What the writer knows of rows without reading them: only it changes them.
//!
//! Invariants: a value here is what the connection that writes would read now. Whatever a job that
//! fails has touched goes back to what it was before the job; after a group that failed nothing is
//! known. Where others write too, a row is known while the group holds its lock, and no longer.

use std::collections::HashMap;

use super::runs::{RunCore, Unwritten};
use crate::domain::{ConversationId, RunId};

/// Runs in progress and numbers of last messages that are known at most.
const KNOWN_MAX: usize = 4_096;

/// The number of a thread's last message.
#[derive(Clone, Copy, Debug)]
struct LastSeq {
    value: u64,
    /// Not written yet; it is when the group is committed.
    is_new: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What this group has changed and not written yet.
    pub(super) unwritten: Unwritten,
    runs: HashMap<RunId, RunCore>,
    last_seqs: HashMap<ConversationId, LastSeq>,
    /// What the current job has touched, as it was before.
    touched_runs: Vec<RunId>,
    touched_seqs: Vec<(ConversationId, Option<LastSeq>)>,
}

impl Known {
    pub(super) fn run(&self, id: RunId) -> Option<RunCore> {
        self.unwritten.core(id).or_else(|| self.runs.get(&id)).cloned()
    }

    /// A run as it was just read.
    pub(super) fn saw_run(&mut self, run: &RunCore) {
        if run.state.is_terminal() {
            return;
        }
        if self.runs.len() >= KNOWN_MAX {
            // What is forgotten is read again.
            self.runs.clear();
        }
        self.runs.insert(run.id, run.clone());
    }

    /// A run is about to be written. Call [`saw_run`](Self::saw_run) once it is.
    pub(super) fn changes_run(&mut self, id: RunId) {
        self.runs.remove(&id);
        self.touched_runs.push(id);
    }

    pub(super) fn last_seq(&self, id: ConversationId) -> Option<u64> {
        self.last_seqs.get(&id).map(|last| last.value)
    }

    /// A thread's last message has this number now; `is_new` where no row says so yet.
    pub(super) fn set_last_seq(&mut self, id: ConversationId, value: u64, is_new: bool) {
        let before = self.last_seqs.insert(id, LastSeq { value, is_new });
        self.touched_seqs.push((id, before));
    }

    /// The numbers that no row says yet; from now on they count as written.
    pub(super) fn take_new_seqs(&mut self) -> Vec<(ConversationId, u64)> {
        let mut new = Vec::new();
        for (id, last) in &mut self.last_seqs {
            if std::mem::take(&mut last.is_new) {
                new.push((*id, last.value));
            }
        }
        new
    }

    /// A job begins: what is known now stands whatever becomes of it.
    pub(super) fn begin_job(&mut self) {
        self.touched_runs.clear();
        self.touched_seqs.clear();
        self.unwritten.begin_job();
    }

    /// The job failed. Its locks went with it where others write too.
    pub(super) fn abandon_job(&mut self, is_shared: bool) {
        self.unwritten.abandon_job();
        for id in self.touched_runs.drain(..) {
            self.runs.remove(&id);
        }
        if is_shared {
            self.runs.clear();
        }
        for (id, before) in self.touched_seqs.drain(..).rev() {
            match before {
                Some(before) => self.last_seqs.insert(id, before),
                None => self.last_seqs.remove(&id),
            };
        }
    }

    /// The group is committed. Threads are forgotten all at once when they are many: what is
    /// forgotten is read again.
    pub(super) fn committed(&mut self, is_shared: bool) {
        self.unwritten = Unwritten::default();
        if is_shared {
            self.runs.clear();
        }
        if is_shared || self.last_seqs.len() > KNOWN_MAX {
            self.last_seqs.clear();
        }
    }
}
