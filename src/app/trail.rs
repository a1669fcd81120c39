//! Carries refusals that `auth` records to the store, in order and without blocking it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    auth::AuditSink,
    domain::AuditEntry,
    runtime::{TaskKind, Tasks},
    store::Store,
};

/// Entries that wait for the store. Failed logins are bounded by the lockout, so this is reached
/// only while the store cannot write.
const WAITING_MAX: usize = 1_024;

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
            loop {
                // Both are cancel-safe.
                let job = tokio::select! {
                    job = waiting.recv() => job,
                    () = stop.wait_hard() => return,
                };
                match job {
                    Some(Job::Record(entry)) => {
                        if let Err(error) = store.audit(*entry).await {
                            tracing::error!(%error, "an audit entry could not be stored");
                        }
                    }
                    Some(Job::Flush(done)) => drop(done.send(())),
                    None => return,
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
