//! The clock that every part is handed.

use std::sync::Arc;

use crate::{
    domain::{Clock, SteadyClock, SystemClock},
    store::{AuditFilter, Store, StoreError},
};

/// A clock over those of this machine, and the same as every part is handed it.
pub(super) fn steady() -> (SteadyClock, Arc<dyn Clock>) {
    let began = tokio::time::Instant::now();
    let clock = SteadyClock::new(Arc::new(SystemClock), Arc::new(move || began.elapsed()));
    (clock.clone(), Arc::new(clock))
}

/// Time goes on where an earlier start has left it, also if the machine's clock was set back since.
pub(super) async fn go_on(clock: &SteadyClock, store: &Store) -> Result<(), StoreError> {
    let mut reader = store.read().await?;
    let mut trail = reader.audit();
    let Some((n, _)) = trail.last().await? else { return Ok(()) };
    let filter = AuditFilter { after: n.saturating_sub(1), ..AuditFilter::default() };
    let Some(row) = trail.query(&filter, 1).await?.pop() else { return Ok(()) };
    if let Some(behind) = clock.begin_after(row.at) {
        tracing::error!(
            behind_secs = behind.as_secs(),
            "the machine's clock is far behind the last moment of the store; it is believed: check \
             it, since what has expired may be valid again"
        );
    } else if clock.ahead().as_secs() > 0 {
        tracing::warn!(
            ahead_secs = clock.ahead().as_secs(),
            "the machine's clock was set back; time goes on from the last moment of the store"
        );
    }
    Ok(())
}
