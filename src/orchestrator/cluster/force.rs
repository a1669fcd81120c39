//! Puts in force here what was changed anywhere, and waits until it is in force everywhere.
//!
//! Invariants: nothing here decides what is in force: it reads what is stored. A replica that cannot
//! follow gives its lease up rather than go on under what was taken back.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::super::{Inner, error::CommandError, secrets};
use crate::{domain::limits, store::StoreError};

/// Between two looks whether others have followed, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// Who has not followed by then has no lease any more: it gives it up itself after ten seconds.
const PATIENCE: Duration =
    Duration::from_secs(limits::REPLICA_TTL.as_secs() + limits::REPLICA_FENCE.as_secs() + 5);

impl Inner {
    /// Waits until every replica that lives has in force what was committed before, this one
    /// included. Call it after a change, once it is in force here.
    ///
    /// # Errors
    /// When that cannot be found out; the change stands, and comes into force.
    pub(in crate::orchestrator) async fn in_force_everywhere(&self) -> Result<(), CommandError> {
        if !self.membership.is_shared() {
            return Ok(());
        }
        let mut beside = self.store.beside().await?;
        let generation = beside.replicas().generation().await?;
        self.membership.shared.changed.notify_one();
        let (since, mut pause) = (Instant::now(), LOOK.0);
        loop {
            let now = beside.now().await?;
            let behind = beside.replicas().behind(generation, now).await?;
            if behind.is_empty() {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                tracing::error!(?behind, generation, "a change is not in force at every replica");
                let doing = "put a change in force at every replica";
                return Err(StoreError::Unavailable { doing, source: None }.into());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Reads everything that others may have changed, but for secrets, and puts it in force here.
    pub(super) async fn follow(self: &Arc<Self>) -> Result<(), CommandError> {
        self.follow_lockdown().await?;
        self.follow_policy().await.map_err(|fault| CommandError::Internal {
            source: StoreError::Corrupt { what: with_causes(&fault) },
        })?;
        self.refresh_access().await?;
        self.refresh_hosts().await?;
        let (reading, set) = self.budgets.read(&self.store).await?;
        self.budgets.replace(reading, set);
        Ok(())
    }

    /// Reads configuration and stored secrets again where somebody has stored or removed one.
    pub(super) async fn follow_secrets(&self) -> Result<(), CommandError> {
        let marks = secrets::marks(&self.store).await?;
        if self.secret_marks.are(&marks) {
            return Ok(());
        }
        let done = self.secrets.reloader.reload().await;
        done.map_err(|why| CommandError::conflict("reload.refused", why))?;
        self.secret_marks.set(marks);
        Ok(())
    }
}

/// An error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
