//! How long things are kept, whose data is erased, and what a person is given of their own.
//!
//! Invariants: what is removed is removed in small transactions, so that nobody else waits longer
//! than for one; a crash between two of them leaves rows that the next start finds again. Nothing is
//! touched that has not ended, that waits for a person, or that is under a legal hold. The audit
//! trail loses rows only at its old end and only by a signed cut, and names only by a signed list.

mod cut;
mod erase;
mod export;
mod files;
mod foreign;
mod hold;
mod log_age;
mod removal;
mod retention;
mod rows;
mod steps;
mod trail;
mod words;

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;
/// The same text on the other database.
#[cfg(test)]
#[path = "keeping_tests.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, two databases")]
mod tests_on_postgres;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

pub(super) use erase::keep as keep_erasing;
pub use erase::{ErasureView, NewErasure};
pub use export::{ExportPiece, ExportPlace, ExportPlaceError};
pub(super) use retention::keep as keep_retention;
pub use retention::{RetentionReport, RetentionView};

use super::{Inner, transition::Actor};
use crate::{
    auth::CallContext,
    domain::{AuditEntry, AuditKind, PrincipalId, Retention},
    runtime::LogFile,
};

/// What the operator says about keeping.
#[derive(Clone, Default)]
pub struct KeepingOptions {
    /// Days, as configured.
    pub retention: Retention,
    /// The file that log lines go to.
    pub log: Option<LogFile>,
}

impl std::fmt::Debug for KeepingOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepingOptions").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// What the parts of this module share.
#[derive(Debug)]
pub(super) struct Keeper {
    options: KeepingOptions,
    /// Somebody is removing what is old.
    is_removing: AtomicBool,
    last: Mutex<Option<RetentionReport>>,
    /// There is an erasure to carry out.
    erasures: Notify,
    /// Exports that go on: who asked for whose data, and when they did last.
    exports: Mutex<BTreeMap<(PrincipalId, PrincipalId), Instant>>,
}

impl Keeper {
    pub(super) fn new(options: KeepingOptions) -> Self {
        Self {
            options,
            is_removing: AtomicBool::new(false),
            last: Mutex::default(),
            erasures: Notify::new(),
            exports: Mutex::default(),
        }
    }

    /// The turn to remove what is old; none while somebody has it.
    fn take_turn(&self) -> Option<Turn<'_>> {
        (!self.is_removing.swap(true, Ordering::SeqCst)).then_some(Turn(&self.is_removing))
    }
}

/// Given back when it is dropped.
struct Turn<'k>(&'k AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Rows of one transaction: fewer when they take long, so that no other writer waits longer than
/// about [`BATCH_TIME`](Self::BATCH_TIME) for one.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rows: u32,
    began: Instant,
}

impl Pace {
    const ROWS_MIN: u32 = 20;
    const ROWS_MAX: u32 = 500;
    /// What a transaction may take, waiting for its turn included.
    const BATCH_TIME: Duration = Duration::from_millis(20);
    /// Between two of them, so that who waits goes first.
    const PAUSE: Duration = Duration::from_millis(2);

    fn new() -> Self {
        Self { rows: 100, began: Instant::now() }
    }

    /// Rows of the next transaction, which begins now.
    fn begin(&mut self) -> u32 {
        self.began = Instant::now();
        self.rows
    }

    /// The transaction is over.
    async fn end(&mut self) {
        let took = self.began.elapsed();
        metrics::histogram!("agent_runtime_keeping_batch_seconds").record(took.as_secs_f64());
        self.rows = self.next(took);
        tokio::time::sleep(Self::PAUSE).await;
    }

    fn next(self, took: Duration) -> u32 {
        let rows = if took > Self::BATCH_TIME { self.rows / 2 } else { self.rows * 2 };
        rows.clamp(Self::ROWS_MIN, Self::ROWS_MAX)
    }
}

/// A row of the audit trail by whoever asked; by the daemon where nobody did.
fn entry(kind: AuditKind, cx: Option<&CallContext>, data: Value) -> AuditEntry {
    let actor = cx.map_or_else(Actor::system, Actor::from);
    AuditEntry {
        kind,
        actor: actor.id,
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id,
        data,
    }
}
