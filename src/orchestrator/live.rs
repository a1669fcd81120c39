//! What lives only in memory: who listens, which runs have a task here, which runs wait to be
//! looked at. All of it can be lost; the store recovers it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::feed::Feed;
use crate::{
    domain::{EventBody, InterruptMode, RunId, ToolCallId, limits},
    runtime::tasks::lock,
    store::{CommitHook, Committed},
};

/// What somebody wants of a run in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) is_cancelled: bool,
    pub(super) interrupt: Option<InterruptMode>,
    /// Nothing may be worked on here.
    pub(super) halted: Option<Halted>,
    /// What the run was given was taken away.
    pub(super) is_revoked: bool,
    /// What this call was given was taken away.
    pub(super) revoked_call: Option<ToolCallId>,
}

/// Why nothing may be worked on here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halted {
    /// The daemon is locked down.
    Locked,
    /// This replica's lease is over: the run is not ours any more.
    Fenced,
}

impl Wish {
    /// Whether the run is not ours any more.
    pub(super) const fn is_fenced(self) -> bool {
        matches!(self.halted, Some(Halted::Fenced))
    }

    /// Whether a model call in flight should be dropped.
    pub(super) const fn stops_model(self) -> bool {
        let is_ended = self.halted.is_some() || self.is_revoked;
        self.is_cancelled || self.interrupt.is_some() || is_ended
    }

    /// Whether this running tool should be killed.
    pub(super) fn stops_tool(self, call: ToolCallId) -> bool {
        let is_hard = matches!(self.interrupt, Some(InterruptMode::Hard));
        let is_revoked = self.is_revoked || self.revoked_call == Some(call);
        self.is_cancelled || is_hard || self.halted.is_some() || is_revoked
    }
}

/// A run with a task here.
#[derive(Debug)]
struct Active {
    wishes: watch::Sender<Wish>,
    /// Somebody said that the run is ready while its task was still leaving: look again after.
    is_hinted: bool,
}

/// Live state, made before the store because the store's commits feed it.
#[derive(Debug, Default)]
pub struct Live {
    pub(super) feed: Arc<Feed>,
    active: Mutex<HashMap<RunId, Active>>,
    hints: Mutex<VecDeque<RunId>>,
    shall_look: AtomicBool,
    pub(super) wake: Notify,
    /// A task left.
    left: Notify,
}

impl Live {
    /// What the store calls after each commit.
    pub fn hook(self: &Arc<Self>) -> CommitHook {
        let live = Arc::clone(self);
        Arc::new(move |events: &[Committed]| live.committed(events))
    }

    /// Tells listeners and tasks of events that are durable, written here or by another replica.
    pub(super) fn committed(&self, events: &[Committed]) {
        self.feed.publish(events);
        for Committed { event, .. } in events {
            match &event.body {
                EventBody::RunCreated { .. }
                | EventBody::RunResumed { .. }
                | EventBody::ApprovalDecided { .. }
                | EventBody::ApprovalExpired { .. }
                | EventBody::RunRecovered { paused: None, .. } => self.hint(event.run_id),
                EventBody::InterruptRequested { mode } => {
                    self.wish(event.run_id, |wish| wish.interrupt = Some(*mode));
                }
                // Ended by a person or a timer: the run that waited behind it is ready, and no event
                // of its own says so. Of the runs that it ends itself, a task names the next.
                EventBody::RunFailed { .. }
                | EventBody::RunCancelled { .. }
                | EventBody::RunExpired { .. } => self.look(),
                EventBody::CapabilityRevoked { call_id, .. } => {
                    self.wish(event.run_id, |wish| match call_id {
                        Some(call) => wish.revoked_call = Some(*call),
                        None => wish.is_revoked = true,
                    });
                }
                EventBody::CancelRequested { .. } => {
                    self.wish(event.run_id, |wish| wish.is_cancelled = true);
                }
                _ => {}
            }
        }
    }

    /// Says that a run may be ready to be worked on. A lost hint costs a second: the supervisor
    /// also looks by itself.
    pub(super) fn hint(&self, run_id: RunId) {
        let mut hints = lock(&self.hints);
        if hints.len() < limits::WRITER_QUEUE_MAX {
            hints.push_back(run_id);
        }
        drop(hints);
        self.wake.notify_one();
    }

    pub(super) fn take_hint(&self) -> Option<RunId> {
        lock(&self.hints).pop_front()
    }

    /// Says that runs may be ready which nobody named.
    pub(super) fn look(&self) {
        self.shall_look.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether somebody said so since the last time.
    pub(super) fn take_look(&self) -> bool {
        self.shall_look.swap(false, Ordering::AcqRel)
    }

    fn wish(&self, run_id: RunId, change: impl FnOnce(&mut Wish)) {
        if let Some(active) = lock(&self.active).get(&run_id) {
            active.wishes.send_modify(change);
        }
    }

    /// Registers a task for a run, unless there is one already or there is no room.
    pub(super) fn enter(&self, run_id: RunId, active_max: usize) -> Entered {
        let mut active = lock(&self.active);
        if let Some(there) = active.get_mut(&run_id) {
            there.is_hinted = true;
            return Entered::Already;
        }
        if active.len() >= active_max {
            return Entered::Full;
        }
        let (sender, wishes) = watch::channel(Wish::default());
        active.insert(run_id, Active { wishes: sender, is_hinted: false });
        Entered::New(wishes)
    }

    pub(super) fn leave(&self, run_id: RunId) {
        let left = lock(&self.active).remove(&run_id);
        self.left.notify_waiters();
        if left.is_some_and(|active| active.is_hinted) {
            self.hint(run_id);
        } else {
            self.wake.notify_one();
        }
    }

    /// Tells every task that the daemon is locked down.
    pub(super) fn lock_all(&self) {
        for active in lock(&self.active).values() {
            active.wishes.send_modify(|wish| {
                wish.halted.get_or_insert(Halted::Locked);
            });
        }
    }

    /// Tells every task that its run is not ours any more.
    pub(super) fn fence_all(&self) {
        for active in lock(&self.active).values() {
            active.wishes.send_modify(|wish| wish.halted = Some(Halted::Fenced));
        }
    }

    /// Keeps the runs that have no task here.
    pub(super) fn retain_elsewhere(&self, runs: &mut Vec<RunId>) {
        let active = lock(&self.active);
        runs.retain(|run| !active.contains_key(run));
    }

    /// Waits until no run has a task here. Cancel-safe.
    pub(super) async fn all_left(&self) {
        loop {
            // Made before it looks: who leaves in between wakes it.
            let left = self.left.notified();
            if self.active_count() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Runs with a task here.
    /// Whether a run has a task. One that shall end is told so again: what told it may be lost with
    /// the answer of a commit.
    pub(super) fn remind(&self, run_id: RunId, is_cancelled: bool) -> bool {
        if is_cancelled {
            self.wish(run_id, |wish| wish.is_cancelled = true);
        }
        lock(&self.active).contains_key(&run_id)
    }

    pub(super) fn active_count(&self) -> usize {
        lock(&self.active).len()
    }
}

/// What became of an attempt to start a task.
#[derive(Debug)]
pub(super) enum Entered {
    /// It may start; this is how it hears what people want.
    New(watch::Receiver<Wish>),
    /// It runs already.
    Already,
    /// No room now.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConversationId, Event, IdSource, ManualClock, RunError, Timestamp, Usage};

    fn ids() -> IdSource {
        IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| bytes.fill(7))
    }

    fn committed(run_id: RunId, body: EventBody) -> Committed {
        let conversation_id = ConversationId::new(&ids());
        let at = Timestamp::from_micros(0);
        let event = Event { body, run_id, conversation_id, seq: 1, at, epoch: 0 };
        Committed { event: Arc::new(event), bytes: 0 }
    }

    #[test]
    fn a_run_that_is_ready_before_its_task_left_is_looked_at_afterwards() {
        let (live, id) = (Live::default(), RunId::new(&ids()));
        assert!(matches!(live.enter(id, 8), Entered::New(_)));
        assert!(matches!(live.enter(id, 8), Entered::Already));
        assert_eq!(live.take_hint(), None);
        live.leave(id);
        assert_eq!(live.take_hint(), Some(id));
    }

    #[test]
    fn an_end_that_no_task_brought_about_makes_the_supervisor_look() {
        let (live, id) = (Live::default(), RunId::new(&ids()));
        assert!(!live.take_look());
        let error = RunError { code: "run.expired".to_owned(), message: String::new() };
        let usage = Usage::default();
        for body in [
            EventBody::RunCancelled { reason: None, unknown_effects: Vec::new(), usage },
            EventBody::RunFailed { error: error.clone(), usage },
            EventBody::RunExpired { error, usage },
        ] {
            live.committed(&[committed(id, body)]);
            assert!(live.take_look());
        }
        assert!(!live.take_look());
    }
}
