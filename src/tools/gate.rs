//! Whether tools may work at all, and which calls do.
//!
//! Invariants: while the gate is shut no call begins, whoever asks; every call that was let in is
//! told to stop when it is shut, and is counted until nothing of it is left.

use std::sync::{Arc, Mutex};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::runtime::tasks::lock;

/// The gate. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Somebody left.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    /// Nobody is let in from then on; never where there is none.
    until: Option<Instant>,
    under_way: usize,
    /// Stops every call that is under way; a new one for those that come after.
    stop: CancellationToken,
}

/// A call that was let in.
#[derive(Debug)]
pub(super) struct Entered {
    inner: Arc<Inner>,
    /// Tells it to stop.
    pub(super) stop: CancellationToken,
}

impl Gate {
    /// Lets a call in; none while the gate is shut.
    pub(super) fn enter(&self) -> Option<Entered> {
        let mut state = lock(&self.inner.state);
        if state.is_shut || state.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        state.under_way += 1;
        Some(Entered { inner: Arc::clone(&self.inner), stop: state.stop.clone() })
    }

    /// Lets nobody in any more and tells everybody to stop; how many there are.
    pub(super) fn shut(&self) -> usize {
        let mut state = lock(&self.inner.state);
        state.is_shut = true;
        std::mem::take(&mut state.stop).cancel();
        state.under_way
    }

    /// Lets calls in until then at most, unless it is told so again.
    pub(super) fn let_in_until(&self, until: Instant) {
        lock(&self.inner.state).until = Some(until);
    }

    /// Lets calls in again.
    pub(super) fn open(&self) {
        lock(&self.inner.state).is_shut = false;
    }

    /// Waits until no call is under way. Cancel-safe.
    pub(super) async fn is_empty(&self) {
        loop {
            // Made before it looks: who leaves in between wakes it.
            let left = self.inner.left.notified();
            if lock(&self.inner.state).under_way == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.inner.state).under_way -= 1;
        self.inner.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_shut_gate_lets_nobody_in_and_stops_those_inside() {
        let gate = Gate::default();
        let inside = gate.enter().unwrap();
        assert_eq!(gate.shut(), 1);
        assert!(inside.stop.is_cancelled() && gate.enter().is_none());
        let waiting = gate.is_empty();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(inside);
        waiting.await;
        gate.open();
        assert!(!gate.enter().unwrap().stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_once_the_time_is_over() {
        let gate = Gate::default();
        gate.let_in_until(Instant::now() + Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(gate.enter().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.enter().is_none());
        gate.let_in_until(Instant::now() + Duration::from_secs(10));
        assert!(gate.enter().is_some());
    }
}
