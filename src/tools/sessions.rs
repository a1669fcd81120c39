//! What a run keeps between its calls: one sandbox per profile, and its way to other machines.
//!
//! Invariants: a sandbox in use belongs to the call that uses it, so that a dropped call drops it;
//! only idle ones are held here. After [`Sessions::end`] nothing of a run is left here, and what a
//! call of that time still holds is not taken back. No lock is held while anything waits or dies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{AgentName, Grant, RunId},
    egress::{Channel, Doors, Egress, Serving},
    runtime::{TaskKind, Tasks, tasks::lock},
    sandbox::{Listeners, Profile, Room, Sandbox, SandboxError, Session},
};

/// Idle sandboxes of one run: one for each way in which its calls differ, such as with and without
/// network.
const IDLE_PER_RUN_MAX: usize = 4;
/// How often somebody who waits for a place looks for an idle sandbox to give up.
const GIVE_UP_EVERY: Duration = Duration::from_millis(50);
/// The reaper looks that often within the idle time.
const LOOKS_PER_IDLE: u32 = 4;

/// The kept sandboxes of all runs. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sandbox: Sandbox,
    egress: Egress,
    idle_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<RunId, Kept>,
    /// Distinguishes what a run keeps now from what it kept before it last ended here.
    generation: u64,
    /// Calls that wait for a place.
    waiting: usize,
}

/// What one run keeps.
#[derive(Debug)]
struct Kept {
    generation: u64,
    channel: Channel,
    idle: Vec<Idle>,
}

/// A sandbox with its doors served.
#[derive(Debug)]
pub(super) struct Housed {
    pub(super) session: Session,
    /// Open doors keep the sandbox's network alive: they close with it.
    _serving: Option<Serving>,
}

#[derive(Debug)]
struct Idle {
    housed: Housed,
    since: Instant,
}

/// A run's place here, as a call found it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    run: RunId,
    generation: u64,
    /// The run's way to other machines.
    pub(super) channel: Channel,
}

/// A sandbox in use by one call.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) housed: Housed,
    place: Place,
}

impl Sessions {
    /// Where every connection is decided.
    pub(super) fn egress(&self) -> &Egress {
        &self.inner.egress
    }

    /// Keeps sandboxes for as long as `idle_max` between two calls.
    pub(super) fn start(
        sandbox: Sandbox,
        egress: Egress,
        idle_max: Duration,
        tasks: &Tasks,
    ) -> Self {
        let state = Mutex::default();
        let inner = Arc::new(Inner { sandbox, egress, idle_max, state });
        let reaped = Arc::downgrade(&inner);
        let every = (idle_max / LOOKS_PER_IDLE).max(Duration::from_millis(10));
        tasks.spawn(TaskKind::Helper, |stop| async move {
            loop {
                // Both are cancel-safe.
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = stop.wait_hard() => return,
                }
                let Some(inner) = reaped.upgrade() else { return };
                inner.reap();
            }
        });
        Self { inner }
    }

    /// What the run keeps; made at its first call.
    pub(super) fn place(&self, run: RunId, agent: &AgentName, grant: &Grant) -> Place {
        let mut state = lock(&self.inner.state);
        let generation = state.generation + 1;
        let mut is_new = false;
        let kept = state.runs.entry(run).or_insert_with(|| {
            is_new = true;
            let channel = self.inner.egress.open(agent.clone(), run.to_string(), grant.egress);
            Kept { generation, channel, idle: Vec::new() }
        });
        let place = Place { run, generation: kept.generation, channel: kept.channel.clone() };
        if is_new {
            state.generation = generation;
        }
        place
    }

    /// A sandbox for a call under this grant: a kept one of the run, or a new one, for which the
    /// call may have to wait. Idle ones of other runs are given up first.
    ///
    /// # Errors
    /// As [`Sandbox::open`]; nothing was run.
    pub(super) async fn lease(
        &self,
        place: &Place,
        grant: &Grant,
        stop: &CancellationToken,
    ) -> Result<Lease, SandboxError> {
        let profile = Profile::of(grant);
        if let Some(housed) = self.inner.take_idle(place, &profile) {
            return Ok(Lease { housed, place: place.clone() });
        }
        let mut session = self.inner.open(grant, stop).await?;
        let serve = |listeners| place.channel.listen(doors(listeners));
        let serving = session.take_listeners().map(serve).transpose();
        let serving = serving.map_err(|error| SandboxError::Unavailable {
            reason: format!("its network cannot be served: {error}"),
        })?;
        let housed = Housed { session, _serving: serving };
        Ok(Lease { housed, place: place.clone() })
    }

    /// Takes a sandbox back after a call, for the run's next one.
    pub(super) fn give_back(&self, lease: Lease) {
        let Lease { housed, place } = lease;
        // Dropped after the lock: whatever is not kept dies there.
        let _dead = self.inner.keep(&place, housed);
    }

    /// Ends what a run keeps: kills its sandboxes, cuts its connections. Its next call, if there is
    /// one, begins anew.
    pub(super) fn end(&self, run: RunId) {
        let kept = lock(&self.inner.state).runs.remove(&run);
        if let Some(kept) = kept {
            kept.channel.close();
        }
    }

    /// Ends what every run keeps: cuts all connections at once, and hands out the idle sandboxes to
    /// be closed. What a call under way still holds dies with the call.
    pub(super) fn end_all(&self) -> Vec<Session> {
        let runs = std::mem::take(&mut lock(&self.inner.state).runs);
        let mut idle = Vec::new();
        for kept in runs.into_values() {
            kept.channel.close();
            idle.extend(kept.idle.into_iter().map(|idle| idle.housed.session));
        }
        idle
    }
}

impl Inner {
    fn take_idle(&self, place: &Place, profile: &Profile) -> Option<Housed> {
        let mut dead = Vec::new();
        let mut state = lock(&self.state);
        let kept = state.runs.get_mut(&place.run).filter(|k| k.generation == place.generation)?;
        let mut found = None;
        while let Some(n) = kept.idle.iter().position(|i| i.housed.session.profile() == profile) {
            let idle = kept.idle.swap_remove(n);
            if idle.housed.session.is_alive() {
                found = Some(idle.housed);
                break;
            }
            dead.push(idle);
        }
        drop(state);
        drop(dead);
        found
    }

    async fn open(&self, grant: &Grant, stop: &CancellationToken) -> Result<Session, SandboxError> {
        let room = self.room(stop).await?;
        self.sandbox.open_in(room, grant, stop).await
    }

    /// A place for one more sandbox. What is idle is given up only while there is none.
    async fn room(&self, stop: &CancellationToken) -> Result<Room, SandboxError> {
        let _waiting = Waiting::new(self);
        let room = self.sandbox.room(stop);
        tokio::pin!(room);
        loop {
            // `room` is only polled here; the timers are cancel-safe. First it is only asked.
            tokio::select! {
                biased;
                room = &mut room => return room,
                () = std::future::ready(()) => {}
            }
            drop(self.oldest_idle());
            tokio::select! {
                room = &mut room => return room,
                () = tokio::time::sleep(GIVE_UP_EVERY) => {}
            }
        }
    }

    /// What was idle longest, of whatever run.
    fn oldest_idle(&self) -> Option<Idle> {
        let mut state = lock(&self.state);
        let kept = state.runs.values_mut().filter(|kept| !kept.idle.is_empty());
        let oldest = kept.min_by_key(|kept| kept.idle.iter().map(|i| i.since).min())?;
        oldest_of(&mut oldest.idle)
    }

    /// What must die instead of being kept, if anything.
    fn keep(&self, place: &Place, housed: Housed) -> Option<Housed> {
        if !housed.session.is_alive() {
            return Some(housed);
        }
        let is_scarce = self.sandbox.sessions_free() == 0;
        let mut state = lock(&self.state);
        let is_wanted = state.waiting > 0 && is_scarce;
        let kept = state.runs.get_mut(&place.run).filter(|k| k.generation == place.generation);
        let Some(kept) = kept.filter(|_| !is_wanted) else { return Some(housed) };
        kept.idle.push(Idle { housed, since: Instant::now() });
        if kept.idle.len() > IDLE_PER_RUN_MAX {
            return oldest_of(&mut kept.idle).map(|idle| idle.housed);
        }
        None
    }

    /// Gives up what has been idle for too long. A run's channel stays: its quotas are the run's.
    fn reap(&self) {
        let mut dead = Vec::new();
        let mut state = lock(&self.state);
        for kept in state.runs.values_mut() {
            let late = |idle: &mut Idle| {
                idle.since.elapsed() >= self.idle_max || !idle.housed.session.is_alive()
            };
            dead.extend(kept.idle.extract_if(.., late));
        }
        drop(state);
        if !dead.is_empty() {
            tracing::debug!(count = dead.len(), "gave up idle sandboxes");
        }
    }
}

fn oldest_of(idle: &mut Vec<Idle>) -> Option<Idle> {
    let (oldest, _) = idle.iter().enumerate().min_by_key(|(_, idle)| idle.since)?;
    Some(idle.swap_remove(oldest))
}

pub(super) fn doors(listeners: Listeners) -> Doors {
    let Listeners { proxy, http, https, dns } = listeners;
    Doors { proxy, http, https, dns }
}

/// Somebody who waits for a place, for as long as this lives.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        lock(&inner.state).waiting += 1;
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.waiting = state.waiting.saturating_sub(1);
    }
}
