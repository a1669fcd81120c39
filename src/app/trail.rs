//! Carries refusals that `auth` records to the store, in order and without blocking it.
//!
//! Invariant: nothing that was recorded is lost while the daemon lives. A write that fails is tried
//! again until it succeeds; where more comes than the store takes, rows alike become one row that
//! says how many there were.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::{
    auth::AuditSink,
    domain::{AuditEntry, AuditKind, Surface},
    runtime::{RetryPolicy, Stop, TaskKind, Tasks, tasks::lock},
    store::{Durability, Store, StoreError},
};

/// Entries that wait for the store one by one; from then on those alike are counted.
const WAITING_MAX: usize = 8_192;
/// Kinds of rows that are counted apart.
const ALIKE_MAX: usize = 1_024;
/// Entries that are given to the store together, and so share a commit.
const TOGETHER_MAX: usize = 128;
/// Characters of a reason that tell rows apart.
const REASON_CHARS_MAX: usize = 64;
/// Waits before a failed write is tried again; there is no last attempt.
const AGAIN: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};

/// The way to the store. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Trail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    has_more: Notify,
    /// Recorded entries that are stored.
    stored: watch::Sender<u64>,
}

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<AuditEntry>,
    alike: BTreeMap<Alike, More>,
    /// How many were recorded since the start.
    recorded: u64,
}

/// What rows that are counted together have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    kind: &'static str,
    /// None: too many different ones.
    details: Option<(String, &'static str, Option<String>, String)>,
}

#[derive(Debug)]
struct More {
    count: u64,
    first: AuditEntry,
}

/// Entries for one commit, and how many recorded ones they stand for.
#[derive(Clone, Debug, Default)]
struct Batch {
    entries: Vec<AuditEntry>,
    recorded: u64,
}

impl Trail {
    /// Starts the task that writes.
    pub(super) fn start(store: Store, tasks: &Tasks) -> Self {
        let write = move |entries| write(store.clone(), entries);
        Self::start_with(write, tasks)
    }

    fn start_with<W>(
        write: impl Fn(Vec<AuditEntry>) -> W + Send + Sync + 'static,
        tasks: &Tasks,
    ) -> Self
    where
        W: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let trail = Self(Arc::new(Shared {
            waiting: Mutex::default(),
            has_more: Notify::new(),
            stored: watch::Sender::new(0),
        }));
        let shared = Arc::clone(&trail.0);
        tasks.spawn(TaskKind::Helper, |stop| work(shared, write, stop));
        trail
    }

    /// For `auth`.
    pub(super) fn sink(&self) -> Arc<dyn AuditSink> {
        Arc::new(self.clone())
    }

    /// Waits until everything recorded so far is stored.
    pub(super) async fn flush(&self) {
        let wanted = lock(&self.0.waiting).recorded;
        let mut stored = self.0.stored.subscribe();
        // Fails only when the sender is gone, and we hold it.
        stored.wait_for(|stored| *stored >= wanted).await.map(drop).unwrap_or_default();
    }
}

impl AuditSink for Trail {
    fn record(&self, entry: AuditEntry) {
        let is_counted = lock(&self.0.waiting).add(entry);
        if is_counted {
            metrics::counter!("agent_runtime_audit_aggregated_total").increment(1);
        }
        self.0.has_more.notify_one();
    }
}

impl Waiting {
    /// Takes an entry; whether it is only counted.
    fn add(&mut self, entry: AuditEntry) -> bool {
        self.recorded += 1;
        // Behind what is counted already, so that rows stay in order.
        if self.entries.len() < WAITING_MAX && self.alike.is_empty() {
            self.entries.push_back(entry);
            return false;
        }
        let mut alike = Alike::of(&entry);
        if self.alike.len() >= ALIKE_MAX && !self.alike.contains_key(&alike) {
            alike.details = None;
        }
        self.alike.entry(alike).or_insert(More { count: 0, first: entry }).count += 1;
        true
    }

    /// What to write next.
    fn take(&mut self) -> Batch {
        if self.entries.is_empty() {
            let counted = std::mem::take(&mut self.alike);
            let recorded = counted.values().map(|more| more.count).sum();
            return Batch { entries: counted.into_iter().map(row).collect(), recorded };
        }
        let count = self.entries.len().min(TOGETHER_MAX);
        let entries: Vec<_> = self.entries.drain(..count).collect();
        Batch { recorded: count as u64, entries }
    }
}

impl Alike {
    fn of(entry: &AuditEntry) -> Self {
        let reason =
            ["reason", "what", "code"].iter().find_map(|name| entry.data.get(name)?.as_str());
        let reason = reason.unwrap_or_default().chars().take(REASON_CHARS_MAX).collect();
        let run = entry.run_id.map(|id| id.to_string());
        let details = (entry.actor.clone(), entry.surface.as_str(), run, reason);
        Self { kind: entry.kind.as_str(), details: Some(details) }
    }
}

/// The row for rows alike.
fn row((alike, More { count, first }): (Alike, More)) -> AuditEntry {
    if count == 1 {
        return first;
    }
    let is_mixed = alike.details.is_none();
    let data = json!({ "rows_alike": count, "first": first.data });
    let actor = if is_mixed { "several".to_owned() } else { first.actor };
    let run_id = first.run_id.filter(|_| !is_mixed);
    AuditEntry { actor, run_id, request_id: None, data, ..first }
}

async fn work<W>(
    shared: Arc<Shared>,
    write: impl Fn(Vec<AuditEntry>) -> W + Send + Sync,
    stop: Stop,
) where
    W: Future<Output = Result<(), StoreError>> + Send,
{
    loop {
        let batch = lock(&shared.waiting).take();
        if batch.entries.is_empty() {
            // Both are cancel-safe.
            tokio::select! {
                () = shared.has_more.notified() => continue,
                () = stop.wait_hard() => return,
            }
        }
        let mut attempt = 1;
        while let Err(error) = write(batch.entries.clone()).await {
            metrics::counter!("agent_runtime_audit_retries_total").increment(1);
            tracing::error!(%error, attempt, rows = batch.entries.len(), "audit rows wait: they cannot be stored");
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(AGAIN.wait(attempt, 0)) => {}
                () = stop.wait_hard() => return give_up(&shared, batch),
            }
        }
        shared.stored.send_modify(|stored| *stored += batch.recorded);
    }
}

/// The daemon ends and the store takes nothing: the log is what is left.
fn give_up(shared: &Shared, mut batch: Batch) {
    loop {
        for entry in &batch.entries {
            let (kind, data) = (entry.kind.as_str(), entry.data.to_string());
            tracing::error!(kind, actor = entry.actor, data, "an audit row was not stored");
        }
        batch = lock(&shared.waiting).take();
        if batch.entries.is_empty() {
            return;
        }
    }
}

async fn write(store: Store, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
    store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                for entry in entries {
                    tx.audit(entry);
                }
                Ok(())
            })
        })
        .await
}

/// An entry of the daemon itself.
pub(super) fn entry(kind: AuditKind, data: Value) -> AuditEntry {
    AuditEntry {
        kind,
        actor: "system".to_owned(),
        surface: Surface::System,
        run_id: None,
        request_id: None,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(n: usize, reason: &str) -> AuditEntry {
        entry(AuditKind::AuthFailed, json!({ "n": n, "reason": reason }))
    }

    fn stands_for(entry: &AuditEntry) -> u64 {
        entry.data.get("rows_alike").and_then(Value::as_u64).unwrap_or(1)
    }

    #[test]
    fn a_flood_is_counted_and_no_row_is_lost() {
        let mut waiting = Waiting::default();
        let extra = 3 * ALIKE_MAX;
        for n in 0..WAITING_MAX {
            assert!(!waiting.add(failed(n, "wrong")));
        }
        for n in 0..extra {
            assert!(waiting.add(failed(n, "wrong")));
            // So many different ones that they cannot all be told apart.
            assert!(waiting.add(failed(n, &format!("reason {n}"))));
        }
        let mut written = Vec::new();
        loop {
            let batch = waiting.take();
            let sum: u64 = batch.entries.iter().map(stands_for).sum();
            assert_eq!(sum, batch.recorded);
            if batch.entries.is_empty() {
                break;
            }
            written.extend(batch.entries);
        }
        let sum: u64 = written.iter().map(stands_for).sum();
        assert_eq!(sum, waiting.recorded);
        assert_eq!(sum, (WAITING_MAX + 2 * extra) as u64);
        assert!(written.len() <= WAITING_MAX + ALIKE_MAX + 1, "{}", written.len());
        assert!(written.iter().any(|e| e.data["rows_alike"] == json!(extra)));
        // Afterwards rows stand alone again.
        assert!(!waiting.add(failed(0, "wrong")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_gets_every_row_later_and_once() {
        let tasks = Tasks::new(Stop::default());
        let kept: Arc<Mutex<(u32, Vec<AuditEntry>)>> = Arc::default();
        let shared = Arc::clone(&kept);
        let write = move |entries: Vec<AuditEntry>| {
            let mut kept = lock(&shared);
            kept.0 += 1;
            let result = if kept.0 <= 5 {
                Err(StoreError::Unavailable { doing: "test", source: None })
            } else {
                kept.1.extend(entries);
                Ok(())
            };
            std::future::ready(result)
        };
        let trail = Trail::start_with(write, &tasks);
        let entries: Vec<_> = (0..300).map(|n| failed(n, "wrong")).collect();
        for entry in &entries {
            trail.sink().record(entry.clone());
        }
        trail.flush().await;
        assert_eq!(lock(&kept).1, entries);
        tasks.stop().hard();
    }
}
