//! Carries refusals that `auth` records to the store, in order and without blocking it.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    auth::AuditSink,
    domain::AuditEntry,
    runtime::{TaskKind, Tasks},
    store::Store,
};

/// Entries that wait for the store. Failed logins are bounded by the lockout and connections by each
/// run's quotas, so this is reached only while the store cannot write.
const WAITING_MAX: usize = 8_192;
/// Entries that are given to the store together, and so share a commit.
const TOGETHER_MAX: usize = 128;

/// The way to the store. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Trail(mpsc::Sender<Job>);

enum Job {
    Record(Box<AuditEntry>),
    Flush(oneshot::Sender<()>),
}

impl Trail {
    /// Starts the task that writes.
    pub(super) fn start(store: Store, tasks: &Tasks) -> Self {
        let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn(TaskKind::Helper, |stop| async move {
            let mut jobs = Vec::with_capacity(TOGETHER_MAX);
            loop {
                // Both are cancel-safe.
                let count = tokio::select! {
                    count = waiting.recv_many(&mut jobs, TOGETHER_MAX) => count,
                    () = stop.wait_hard() => return,
                };
                if count == 0 {
                    return;
                }
                let mut flushed = Vec::new();
                let mut entries = Vec::new();
                for job in jobs.drain(..) {
                    match job {
                        Job::Record(entry) => entries.push(store.audit(*entry)),
                        Job::Flush(done) => flushed.push(done),
                    }
                }
                // They reach the writer in this order.
                for result in join_all(entries).await {
                    if let Err(error) = result {
                        tracing::error!(%error, "an audit entry could not be stored");
                    }
                }
                for done in flushed {
                    done.send(()).ok();
                }
            }
        });
        Self(sender)
    }

    /// For `auth`.
    pub(super) fn sink(&self) -> Arc<dyn AuditSink> {
        Arc::new(self.clone())
    }

    /// Waits until everything recorded so far is stored.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.0.send(Job::Flush(done)).await.is_ok() {
            written.await.unwrap_or_default();
        }
    }
}

impl AuditSink for Trail {
    fn record(&self, entry: AuditEntry) {
        if let Err(error) = self.0.try_send(Job::Record(Box::new(entry))) {
            metrics::counter!("agent_runtime_audit_lost_total").increment(1);
            tracing::error!(%error, "an audit entry was lost: too many wait for the store");
        }
    }
}
