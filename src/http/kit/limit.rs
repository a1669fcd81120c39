//! Bounds of the listener, and the gate that keeps work in progress within them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runtime::tasks::lock;

use super::problem::{Problem, code};

/// Open connections, streams and WebSockets included; each costs about 20 KB.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Requests in progress at once; the store's writer is the narrow place behind them.
pub const REQUESTS_MAX: usize = 256;
/// Requests that wait for a run to settle; they hold no other resource.
pub const WAITERS_MAX: usize = 1_024;
/// WebSockets that have not said who they are.
pub const WEBSOCKETS_UNKNOWN_MAX: usize = 64;
/// How long a WebSocket may take to say who it is (API.md).
pub const WEBSOCKET_AUTH_WAIT: Duration = Duration::from_secs(5);
/// Bytes of one WebSocket message or frame: a request body and its envelope.
pub const WEBSOCKET_FRAME_BYTES_MAX: usize = (1 << 20) + 4_096;
/// Time to read a request's head, which also ends connections that only sit there.
pub const HEAD_WAIT: Duration = Duration::from_secs(30);
/// Time to read a request's body.
pub const BODY_WAIT: Duration = Duration::from_secs(30);
/// Time for a client to take one message off the socket.
pub const SEND_WAIT: Duration = Duration::from_secs(30);
/// The same for a WebSocket: shorter, so that what follows can still be said before it is cut.
pub const WEBSOCKET_SEND_WAIT: Duration = Duration::from_secs(20);
/// Between two comments on a silent event stream (API.md), and two pings on a WebSocket.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence after which a WebSocket is taken for dead: it answers no ping.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a request id that a caller gives.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// A gate with a fixed number of places.
#[derive(Clone, Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
}

impl Gate {
    /// A gate with this many places.
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// A place, if there is one.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place, or the answer that says to come back.
    ///
    /// # Errors
    /// When every place is taken.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.enter().ok_or_else(|| {
            Problem::new(&code::OVERLOADED, "too many requests are in progress; try again")
                .retry_after(Duration::from_secs(1))
        })
    }
}

/// Places that are counted for each subject, so that nobody takes all of them.
#[derive(Debug)]
pub struct Shares<K> {
    most: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A place of a subject; dropping it frees it.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    subject: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// So many places for each subject.
    pub fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place of this subject, if it has one left.
    pub fn enter(&self, subject: K) -> Option<Share<K>> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(subject.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { subject, taken: Arc::clone(&self.taken) })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                // Memory follows those who are here, not those who ever were.
                taken.remove(&self.subject);
            }
        }
    }
}

/// A request's place. A handler that is about to wait for long gives it back early.
#[derive(Clone, Debug)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Holds a place.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Gives the place back.
    pub fn release(&self) {
        drop(lock(&self.0).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_its_places_and_nobody_is_remembered_who_left() {
        let shares = Shares::new(2);
        let (first, second) = (shares.enter("a"), shares.enter("a"));
        assert!(first.is_some() && second.is_some() && shares.enter("a").is_none());
        let other = shares.enter("b");
        assert!(other.is_some());
        drop(first);
        assert!(shares.enter("a").is_some(), "a place that was left is free");
        drop((second, other));
        assert!(lock(&shares.taken).is_empty());
    }

    #[test]
    fn a_full_gate_answers_429_and_a_released_place_can_be_taken() {
        let gate = Gate::new(1);
        let place = Place::new(gate.admit().unwrap());
        let full = gate.admit().unwrap_err();
        assert_eq!((full.status().as_u16(), full.wait()), (429, Some(Duration::from_secs(1))));
        place.release();
        assert!(gate.admit().is_ok());
    }
}
