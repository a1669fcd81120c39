//! Live events: what the store has committed, handed on to whoever listens.
//!
//! The feed never blocks the writer. A listener that is too slow loses its place here, never an
//! event: its [`Subscription`] reads on from the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{
    domain::{
        Event, RunId,
        event::{Ephemeral, EphemeralBody},
        limits,
    },
    runtime::tasks::lock,
    store::{Committed, Store, StoreError},
};

/// Events read from the store at once while a subscription catches up.
const CATCH_UP_PAGE: u32 = 200;

/// What a listener gets.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A durable event, each once and in order.
    Event(Arc<Event>),
    /// Something that is happening and will not be stored.
    Ephemeral(Arc<Ephemeral>),
    /// The listener was too slow; what follows was read from the store again, from `after` on.
    Resync {
        /// The last event that was delivered.
        after: u64,
    },
}

/// Who listens to what.
#[derive(Debug, Default)]
pub(super) struct Feed {
    slots: Mutex<HashMap<RunId, Vec<Arc<Slot>>>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    frames: mpsc::Sender<(Frame, usize)>,
    queued_bytes: AtomicUsize,
    has_lagged: AtomicBool,
}

impl Feed {
    /// Hands on what was committed.
    pub(super) fn publish(&self, events: &[Committed]) {
        let slots = lock(&self.slots);
        if slots.is_empty() {
            return;
        }
        for Committed { event, bytes } in events {
            for slot in slots.get(&event.run_id).into_iter().flatten() {
                slot.offer(Frame::Event(Arc::clone(event)), *bytes);
            }
        }
    }

    /// Hands on what is not stored, to those with room to spare.
    pub(super) fn publish_ephemeral(&self, run_id: RunId, after_seq: u64, body: EphemeralBody) {
        let slots = lock(&self.slots);
        let Some(listeners) = slots.get(&run_id) else { return };
        let frame = Arc::new(Ephemeral { body, run_id, after_seq });
        for slot in listeners {
            // One that lags reads on from the store once its queue is empty: do not keep it full.
            let has_lagged = slot.has_lagged.load(Ordering::Acquire);
            if !has_lagged && slot.frames.capacity() > limits::SUBSCRIBER_EVENTS_MAX / 2 {
                slot.offer_or_drop(Frame::Ephemeral(Arc::clone(&frame)));
            }
        }
    }

    /// Runs that somebody listens to.
    pub(super) fn listened(&self) -> Vec<RunId> {
        lock(&self.slots).keys().copied().collect()
    }

    /// Whether anybody listens to a run.
    pub(super) fn has_listeners(&self, run_id: RunId) -> bool {
        lock(&self.slots).contains_key(&run_id)
    }

    /// Listens to a run, from the event after `after` on.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        store: Store,
        run_id: RunId,
        after: u64,
    ) -> Subscription {
        let (sender, frames) = mpsc::channel(limits::SUBSCRIBER_EVENTS_MAX);
        let slot = Arc::new(Slot {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            frames: sender,
            queued_bytes: AtomicUsize::new(0),
            has_lagged: AtomicBool::new(false),
        });
        lock(&self.slots).entry(run_id).or_default().push(Arc::clone(&slot));
        Subscription {
            feed: Arc::clone(self),
            store,
            run_id,
            last: after,
            slot,
            frames,
            backlog: VecDeque::new(),
            is_catching_up: true,
            has_ended: false,
        }
    }

    fn unsubscribe(&self, run_id: RunId, id: u64) {
        let mut slots = lock(&self.slots);
        if let Some(listeners) = slots.get_mut(&run_id) {
            listeners.retain(|slot| slot.id != id);
            if listeners.is_empty() {
                slots.remove(&run_id);
            }
        }
    }
}

impl Slot {
    fn offer(&self, frame: Frame, bytes: usize) {
        if self.has_lagged.load(Ordering::Acquire) {
            return;
        }
        let queued = self.queued_bytes.load(Ordering::Acquire);
        let fits = queued == 0 || queued + bytes <= limits::SUBSCRIBER_BYTES_MAX;
        self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if !fits || self.frames.try_send((frame, bytes)).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.has_lagged.store(true, Ordering::Release);
        }
    }

    fn offer_or_drop(&self, frame: Frame) {
        // Dropping is what ephemeral frames are for.
        drop(self.frames.try_send((frame, 0)));
    }
}

/// A run's events from one point on: first those that are stored, then live, none twice and none
/// missing. Ends after the run's last event.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    store: Store,
    run_id: RunId,
    last: u64,
    slot: Arc<Slot>,
    frames: mpsc::Receiver<(Frame, usize)>,
    backlog: VecDeque<Event>,
    is_catching_up: bool,
    has_ended: bool,
}

impl Subscription {
    /// The run that is listened to.
    pub const fn run_id(&self) -> RunId {
        self.run_id
    }

    /// The number of the last event that was delivered.
    pub const fn last_seq(&self) -> u64 {
        self.last
    }

    /// Goes on after event `last`, which was read after this began to listen: nothing that
    /// follows it can have been missed, so nothing needs to be read from the store.
    pub(super) fn going_on_after(mut self, last: u64) -> Self {
        self.last = last;
        self.is_catching_up = false;
        self
    }

    /// The next frame; `None` after the run's terminal event. Cancel-safe.
    ///
    /// # Errors
    /// When the store cannot be read; calling again tries again.
    pub async fn next(&mut self) -> Result<Option<Frame>, StoreError> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                if event.seq == self.last + 1 {
                    return Ok(Some(self.deliver(Arc::new(event))));
                }
                continue;
            }
            if self.has_ended {
                return Ok(None);
            }
            if self.is_catching_up {
                self.catch_up().await?;
                continue;
            }
            if self.frames.is_empty() && self.slot.has_lagged.swap(false, Ordering::AcqRel) {
                self.is_catching_up = true;
                return Ok(Some(Frame::Resync { after: self.last }));
            }
            let Some((frame, bytes)) = self.frames.recv().await else { return Ok(None) };
            self.slot.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match frame {
                Frame::Event(event) if event.seq <= self.last => {}
                Frame::Event(event) if event.seq == self.last + 1 => {
                    return Ok(Some(self.deliver(event)));
                }
                Frame::Event(_) => self.is_catching_up = true,
                frame @ (Frame::Ephemeral(_) | Frame::Resync { .. }) => return Ok(Some(frame)),
            }
        }
    }

    fn deliver(&mut self, event: Arc<Event>) -> Frame {
        self.last = event.seq;
        self.has_ended = event.body.is_terminal();
        Frame::Event(event)
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut reader = self.store.read().await?;
        let page = reader.events().of_run(self.run_id, self.last, CATCH_UP_PAGE).await?;
        if page.is_empty() {
            // A listener that begins at or after the end would wait for ever.
            let run = reader.runs().core(self.run_id).await?;
            self.has_ended = run.is_none_or(|r| r.state.is_terminal() && r.seq <= self.last);
        }
        self.is_catching_up = page.len() == usize::try_from(CATCH_UP_PAGE).unwrap_or(usize::MAX);
        self.backlog.extend(page);
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.unsubscribe(self.run_id, self.slot.id);
    }
}
