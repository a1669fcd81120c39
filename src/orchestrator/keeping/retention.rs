//! Removes what is old, a little at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{super::Orchestrator, Inner, Keeper, entry};
use crate::{
    auth::{ManageRetention, Permit, SeeRetention},
    domain::{AuditKind, Hold, HoldKind, Retention, RetentionClass, Timestamp},
    orchestrator::{
        Duty,
        commands::{Done, Idempotency},
        error::CommandError,
    },
    runtime::{Stop, tasks::lock},
    store::{OldRows, StoreError},
};

/// How often the daemon looks for what is old by itself; the first time a little after its start.
const EVERY: Duration = Duration::from_secs(3_600);
const FIRST: Duration = Duration::from_secs(60);
/// The audit trail is not kept shorter than this, so that nobody removes what was just done.
const AUDIT_DAYS_MIN: u32 = 90;
/// A hundred years.
const DAYS_MAX: u32 = 36_500;

/// How long things are kept now.
#[derive(Clone, Debug, Serialize)]
pub struct RetentionView {
    /// Days of each class in force; 0: for good.
    pub days: Retention,
    /// As the configuration says.
    pub configured: Retention,
    /// Legal holds.
    pub holds: Vec<Hold>,
    /// When this daemon last removed what is old, and what.
    pub last: Option<RetentionReport>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RetentionReport {
    /// When it was done.
    pub at: Option<Timestamp>,
    /// Whether nothing was removed, only counted (each kind up to 100,000).
    pub dry_run: bool,
    /// Rows by table, and lines of the log.
    pub removed: BTreeMap<String, u64>,
    /// The last row of the audit trail that was cut off.
    pub audit_cut: Option<u64>,
    /// Conversations that are old and under a legal hold.
    pub held: u64,
    /// What could not be done, and is tried again.
    pub problems: Vec<String>,
    /// How long it took.
    pub took_ms: u64,
}

impl RetentionReport {
    pub(super) fn add(&mut self, what: &str, rows: u64) {
        if rows > 0 {
            *self.removed.entry(what.to_owned()).or_default() += rows;
        }
    }
}

impl Orchestrator {
    /// How long things are kept, and what must be.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn retention(
        &self,
        _permit: &Permit<SeeRetention>,
    ) -> Result<RetentionView, CommandError> {
        Ok(self.inner.retention_view().await?)
    }

    /// Sets the days of a class, in the place of the configuration's; none takes those again.
    ///
    /// # Errors
    /// When they are too few or too many.
    pub async fn set_retention(
        &self,
        permit: Permit<ManageRetention>,
        class: RetentionClass,
        days: Option<u32>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Retention>, CommandError> {
        if let Some(days) = days {
            check_days(class, days)?;
        }
        let cx = permit.context().clone();
        let configured = self.inner.keeper.options.retention;
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let cx = permit.context();
                    let before = in_force(configured, &tx.keeping().days().await?);
                    let now = tx.now();
                    tx.keeping().set_days(class, days, now, cx.principal.id).await?;
                    let after = in_force(configured, &tx.keeping().days().await?);
                    let data = json!({
                        "what": "changed", "class": class,
                        "before": before.days(class), "after": after.days(class),
                    });
                    tx.audit(entry(AuditKind::Retention, Some(cx), data));
                    Ok(after)
                })
            })
            .await
    }

    /// Removes what is old now, or counts it.
    ///
    /// # Errors
    /// When somebody does so already, or the store fails.
    pub async fn run_retention(
        &self,
        permit: Permit<ManageRetention>,
        dry_run: bool,
    ) -> Result<RetentionReport, CommandError> {
        let inner = Arc::clone(&self.inner);
        self.inner
            .detached(async move {
                let data = json!({ "what": "asked to remove what is old", "dry_run": dry_run });
                inner
                    .store
                    .audit(entry(AuditKind::Retention, Some(permit.context()), data))
                    .await?;
                inner.remove_old(dry_run).await
            })
            .await
    }
}

fn check_days(class: RetentionClass, days: u32) -> Result<(), CommandError> {
    let least = if class == RetentionClass::Audit { AUDIT_DAYS_MIN } else { 1 };
    if days == 0 || (least..=DAYS_MAX).contains(&days) {
        return Ok(());
    }
    Err(CommandError::Invalid {
        code: "request.invalid",
        pointer: Some("/days"),
        detail: format!("{class}: {least} to {DAYS_MAX} days, or 0 to keep them for good"),
    })
}

/// What administrators set stands before what is configured.
fn in_force(mut days: Retention, set: &[(RetentionClass, u32)]) -> Retention {
    for (class, set) in set {
        days.set(*class, *set);
    }
    days
}

/// Removes what is old from time to time, until the daemon stops.
pub(in crate::orchestrator) async fn keep(inner: Arc<Inner>, stop: Stop) {
    let mut wait = FIRST;
    loop {
        // Both are cancel-safe; a removal that is dropped stands as far as it came.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.wait_soft() => return,
        }
        wait = EVERY;
        if !inner.membership.has(Duty::Forgetting) {
            continue;
        }
        tokio::select! {
            done = inner.remove_old(false) => if let Err(error) = done {
                tracing::warn!(%error, "what is old was not removed; it is tried again");
            },
            () = stop.wait_soft() => return,
        }
    }
}

impl Keeper {
    fn remember(&self, report: &RetentionReport) {
        *lock(&self.last) = Some(report.clone());
    }
}

impl Inner {
    async fn retention_view(&self) -> Result<RetentionView, StoreError> {
        let configured = self.keeper.options.retention;
        let mut reader = self.store.read().await?;
        let days = in_force(configured, &reader.keeping().days().await?);
        let holds = reader.keeping().holds().await?;
        let last = lock(&self.keeper.last).clone();
        Ok(RetentionView { days, configured, holds, last })
    }

    /// Removes what is old, or counts it.
    pub(in crate::orchestrator) async fn remove_old(
        &self,
        dry_run: bool,
    ) -> Result<RetentionReport, CommandError> {
        let Some(_turn) = self.keeper.take_turn() else {
            let detail = "what is old is being removed just now; ask again in a while";
            return Err(CommandError::conflict("retention.running", detail));
        };
        let began = Instant::now();
        let RetentionView { days, holds, .. } = self.retention_view().await?;
        let now = self.clock.now();
        let mut report = RetentionReport { dry_run, at: Some(now), ..RetentionReport::default() };
        for kind in OldRows::ALL {
            if let Some(before) = days.old_before(kind.class(), now) {
                self.remove_rows(kind, before, &mut report).await?;
            }
        }
        if let Some(before) = days.old_before(RetentionClass::App, now) {
            self.remove_deleted(before, &mut report).await?;
        }
        if let Some(before) = days.old_before(RetentionClass::Conversations, now) {
            self.remove_unused(before, &mut report).await?;
        }
        if let Some(before) = days.old_before(RetentionClass::Audit, now) {
            // Rows about somebody who is held may stand anywhere in it.
            if holds.iter().any(|hold| hold.kind == HoldKind::Principal) {
                report
                    .problems
                    .push("the audit trail is kept whole: a principal is held".to_owned());
            } else {
                self.cut_trail(before, &mut report).await?;
            }
        }
        self.clean_log(days, now, &mut report).await;
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !dry_run {
            self.tell_removed(&report).await?;
        }
        Ok(report)
    }

    async fn tell_removed(&self, report: &RetentionReport) -> Result<(), StoreError> {
        for (table, rows) in &report.removed {
            metrics::counter!("agent_runtime_retention_removed_total", "table" => table.clone())
                .increment(*rows);
        }
        metrics::counter!("agent_runtime_retention_passes_total").increment(1);
        self.keeper.remember(report);
        if report.removed.is_empty() {
            return Ok(());
        }
        tracing::info!(removed = ?report.removed, took_ms = report.took_ms, "removed what is old");
        let data = json!({
            "what": "removed", "rows": report.removed, "audit_cut": report.audit_cut,
            "held": report.held, "took_ms": report.took_ms,
        });
        self.store.audit(entry(AuditKind::Retention, None, data)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_trail_is_not_kept_for_a_day() {
        assert!(check_days(RetentionClass::Audit, 89).is_err());
        assert!(check_days(RetentionClass::Audit, 90).is_ok());
        assert!(check_days(RetentionClass::Audit, 0).is_ok());
        assert!(check_days(RetentionClass::App, 1).is_ok());
        assert!(check_days(RetentionClass::App, DAYS_MAX + 1).is_err());
    }
}
