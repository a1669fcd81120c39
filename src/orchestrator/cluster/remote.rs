//! Events that other replicas have written: for those who listen here, and for tasks here that they
//! concern.
//!
//! Invariants: every event comes out of the log; who listens gets each once and in order, since a
//! [`Subscription`](super::super::Subscription) drops what it has and reads what it lacks. What is
//! not stored, pieces of answers and of output, stays at the replica that works on the run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::super::Inner;
use crate::{
    domain::{Event, RunId},
    store::{Beside, Committed, StoreError},
};

/// Events of one run read at once.
const PAGE: u32 = 200;
/// Runs asked about at once.
const RUNS: usize = 100;

/// How far the events of each run that somebody listens to were handed on.
#[derive(Debug, Default)]
pub(super) struct Remote {
    handed_on: HashMap<RunId, u64>,
    /// Runs here that others wrote to, and the number of the first event to look at: taken from the
    /// store, and looked at once it can be read.
    nudges: HashMap<RunId, u64>,
}

impl Remote {
    /// Hands on what was written elsewhere since the last time.
    pub(super) async fn look(
        &mut self,
        inner: &Arc<Inner>,
        beside: &mut Beside,
    ) -> Result<(), StoreError> {
        self.nudged(inner, beside).await?;
        self.listened(inner, beside).await
    }

    /// What others wrote to runs that this replica works on: told to their tasks as if it had been
    /// written here.
    async fn nudged(&mut self, inner: &Inner, beside: &mut Beside) -> Result<(), StoreError> {
        for (run, seq) in beside.replicas().take_nudges(inner.store.boot_epoch()).await? {
            let first = self.nudges.entry(run).or_insert(seq);
            *first = seq.min(*first);
        }
        while let Some((run, seq)) = self.nudges.iter().next().map(|(run, seq)| (*run, *seq)) {
            let mut after = seq.saturating_sub(1);
            loop {
                let page = beside.events().of_run(run, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                inner.live.committed(&committed(page));
            }
            self.nudges.remove(&run);
        }
        Ok(())
    }

    async fn listened(&mut self, inner: &Inner, beside: &mut Beside) -> Result<(), StoreError> {
        let mut runs = inner.live.feed.listened();
        inner.live.retain_elsewhere(&mut runs);
        let wanted: HashSet<RunId> = runs.iter().copied().collect();
        self.handed_on.retain(|run, _| wanted.contains(run));
        if runs.is_empty() {
            return Ok(());
        }
        for chunk in runs.chunks(RUNS) {
            for (run, end) in beside.events().ends(chunk).await? {
                // Who began to listen before has read up to some event: the newest one tells it
                // whether it lacks any.
                let mut after =
                    self.handed_on.get(&run).copied().unwrap_or_else(|| end.saturating_sub(1));
                while after < end {
                    let page = beside.events().of_run(run, after, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    after = last.seq;
                    inner.live.feed.publish(&committed(page));
                }
                self.handed_on.insert(run, after);
            }
        }
        Ok(())
    }
}

fn committed(events: Vec<Event>) -> Vec<Committed> {
    let bytes = |event: &Event| serde_json::to_string(&event.body).map_or(0, |text| text.len());
    events.into_iter().map(|e| Committed { bytes: bytes(&e), event: Arc::new(e) }).collect()
}
