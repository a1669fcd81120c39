//! Keeps the lease: says to the database every five seconds that this replica lives.
//!
//! Invariant: what counts is when a beat was sent, not when its answer came: the database begins to
//! count later than we do.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Duty, Membership};
use crate::{
    domain::limits,
    runtime::{Stop, tasks::lock},
    store::{Beat, StoreError},
};

/// How long one beat may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after one that failed.
const AGAIN: Duration = Duration::from_millis(500);

const TAKEN_OVER: &str = "this replica was taken over by another one";
const NOT_CONFIRMED: &str =
    "the database did not confirm in time that this replica lives: it stopped its work";

impl Membership {
    /// Beats, and fences this replica when they are not confirmed, until the hard stop.
    pub(super) async fn keep(self, stop: Stop) {
        // Both branches are cancel-safe: a beat that is dropped was one that is not confirmed.
        tokio::select! {
            () = self.beats(&stop) => {}
            () = self.deadlines() => {}
            () = stop.wait_hard() => {}
        }
    }

    async fn beats(&self, stop: &Stop) {
        loop {
            let mut pause = limits::REPLICA_BEAT;
            if !self.is_lost() {
                match timeout(PATIENCE, self.say()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the database does not confirm that this replica lives"
                        );
                        pause = AGAIN;
                    }
                    Err(_) => {
                        tracing::warn!("the database does not answer this replica's beat");
                        pause = AGAIN;
                    }
                }
            }
            let drains = stop.is_soft() && !lock(&self.shared.state).is_draining;
            if drains {
                self.drain();
                continue;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shared.beat.notified() => {}
                () = stop.wait_soft(), if !lock(&self.shared.state).is_draining => self.drain(),
            }
        }
    }

    fn drain(&self) {
        let mut state = lock(&self.shared.state);
        state.is_draining = true;
        state.duties.clear();
    }

    /// One beat: that this replica lives, and which duties it has.
    pub(super) async fn say(&self) -> Result<(), StoreError> {
        let store = &self.shared.store;
        let boot_epoch = store.boot_epoch();
        let (beat, is_draining) = {
            let state = lock(&self.shared.state);
            let is_draining = state.is_draining;
            (Beat { address: state.address.clone(), is_draining }, is_draining)
        };
        let sent = Instant::now();
        let mut beside = store.beside().await?;
        let now = beside.now().await?;
        if !beside.replicas().beat(boot_epoch, &beat, now).await? {
            if store.boot_epoch() == boot_epoch {
                self.fence(TAKEN_OVER);
            }
            return Ok(());
        }
        let mut held = Vec::new();
        if is_draining {
            beside.leases().release(boot_epoch).await?;
        } else {
            for duty in Duty::ALL {
                if beside.leases().hold(duty.as_str(), boot_epoch, now).await?.is_some() {
                    held.push((duty, sent + limits::REPLICA_FENCE));
                }
            }
        }
        self.confirmed(boot_epoch, sent, held);
        Ok(())
    }

    fn confirmed(&self, boot_epoch: u64, sent: Instant, held: Vec<(Duty, Instant)>) {
        let mut state = lock(&self.shared.state);
        if self.is_lost() || self.shared.store.boot_epoch() != boot_epoch {
            return;
        }
        state.confirmed = state.confirmed.max(sent);
        state.duties = held.into_iter().collect();
        let confirmed = state.confirmed;
        drop(state);
        if let Some(tools) = self.shared.tools.get()
            && let Err(error) = tools.let_live(confirmed)
        {
            // They die at the time that was set before.
            tracing::error!(%error, "the lease of the tools could not be extended");
        }
    }

    /// Fences this replica when the last confirmation is too old.
    async fn deadlines(&self) {
        loop {
            let until = lock(&self.shared.state).confirmed + limits::REPLICA_FENCE;
            sleep_until(until).await;
            let is_over = !self.is_confirmed();
            if is_over && !self.is_lost() {
                self.fence(NOT_CONFIRMED);
            }
            if is_over {
                // Until it has joined again there is nothing to wait for.
                sleep(AGAIN).await;
            }
        }
    }
}
