//! What one connection listens to: a task for each subscription, one bounded queue for all.
//!
//! A subscription reads from the store under way, with one of the store's few connections. It must
//! not be left half-way while its client does not read, or a few such clients would take every
//! connection from everybody. So each runs in a task of its own, and only waits, holding nothing,
//! for room in the queue.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    domain::{RunId, limits},
    orchestrator::{Frame, Subscription},
    runtime::{TaskKind, Tasks},
};

/// Frames that wait in the connection, enough to write a few with one flush. The subscriptions have
/// queues of their own, bounded in bytes too, which is why this one is short.
const QUEUE: usize = 4;

/// What a subscription gives.
#[derive(Debug)]
pub(super) enum Live {
    /// The next frame.
    Frame(Frame),
    /// The run has ended, and so has the subscription.
    Ended,
    /// The store could not be read; nothing after this event was delivered.
    Failed { after: u64 },
}

struct Delivery {
    run_id: RunId,
    generation: u64,
    live: Live,
}

struct Held {
    generation: u64,
    _task: DropGuard,
}

/// The subscriptions of one connection. Dropping it ends them.
pub(super) struct Listening {
    tasks: Tasks,
    sender: mpsc::Sender<Delivery>,
    queue: mpsc::Receiver<Delivery>,
    held: HashMap<RunId, Held>,
    generation: u64,
}

impl Listening {
    pub(super) fn new(tasks: Tasks) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        Self { tasks, sender, queue, held: HashMap::new(), generation: 0 }
    }

    /// Whether one more run can be listened to.
    pub(super) fn has_room_for(&self, run_id: RunId) -> bool {
        self.held.len() < limits::WEBSOCKET_SUBSCRIPTIONS_MAX || self.held.contains_key(&run_id)
    }

    /// Listens to a run; an older subscription to it ends.
    pub(super) fn add(&mut self, subscription: Subscription) {
        let run_id = subscription.run_id();
        self.generation = self.generation.wrapping_add(1);
        let (generation, stop) = (self.generation, CancellationToken::new());
        let held = Held { generation, _task: stop.clone().drop_guard() };
        self.held.insert(run_id, held);
        let sender = self.sender.clone();
        self.tasks.spawn(TaskKind::Connection, |_| async move {
            // Dropping the work at any point loses nothing: the client's cursor is what counts.
            tokio::select! {
                () = forward(subscription, generation, &sender) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Stops listening to a run; whether it was listened to.
    pub(super) fn remove(&mut self, run_id: RunId) -> bool {
        self.held.remove(&run_id).is_some()
    }

    /// The next that any subscription gives. Cancel-safe. Waits for ever while there is none.
    pub(super) async fn next(&mut self) -> (RunId, Live) {
        loop {
            match self.queue.recv().await {
                Some(delivery) => {
                    if let Some(current) = self.current(delivery) {
                        return current;
                    }
                }
                // Not while we hold a sender ourselves.
                None => std::future::pending().await,
            }
        }
    }

    /// What is ready now.
    pub(super) fn ready(&mut self) -> Option<(RunId, Live)> {
        loop {
            let delivery = self.queue.try_recv().ok()?;
            if let Some(current) = self.current(delivery) {
                return Some(current);
            }
        }
    }

    /// Drops what a subscription that has been replaced or ended still had in the queue.
    fn current(&mut self, delivery: Delivery) -> Option<(RunId, Live)> {
        let Delivery { run_id, generation, live } = delivery;
        if self.held.get(&run_id)?.generation != generation {
            return None;
        }
        if matches!(live, Live::Ended | Live::Failed { .. }) {
            self.held.remove(&run_id);
        }
        Some((run_id, live))
    }
}

async fn forward(mut subscription: Subscription, generation: u64, sender: &mpsc::Sender<Delivery>) {
    let run_id = subscription.run_id();
    loop {
        let live = match subscription.next().await {
            Ok(Some(frame)) => Live::Frame(frame),
            Ok(None) => Live::Ended,
            Err(error) => {
                tracing::warn!(%error, run.id = %run_id, "a subscription ended early");
                Live::Failed { after: subscription.last_seq() }
            }
        };
        let is_last = !matches!(live, Live::Frame(_));
        if sender.send(Delivery { run_id, generation, live }).await.is_err() || is_last {
            return;
        }
    }
}
