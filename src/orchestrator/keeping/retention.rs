//! Removes what is old, a little at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{super::Orchestrator, Inner, Keeper, Pace, entry};
use crate::{
    auth::{
        ManageRetention, Permit, SeeRetention,
        trail::{Seal, sign},
    },
    domain::{
        AuditKind, ConversationId, Day, Hold, HoldKind, Retention, RetentionClass, Timestamp,
        audit::Checkpoint,
    },
    orchestrator::{
        commands::{Done, Idempotency},
        error::CommandError,
    },
    runtime::{LineFate, Stop, Tasks, tasks::lock},
    store::{Durability, OldRows, StoreError},
};

/// How often the daemon looks for what is old by itself; the first time a little after its start.
const EVERY: Duration = Duration::from_secs(3_600);
const FIRST: Duration = Duration::from_secs(60);
/// Conversations that are looked at in one go.
const PAGE: u32 = 200;
/// Rows that a dry run counts of one kind.
const COUNTED_MAX: u32 = 100_000;
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
    fn add(&mut self, what: &str, rows: u64) {
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
        if !inner.is_on_duty("retention").await.unwrap_or(false) {
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

    async fn remove_rows(
        &self,
        kind: OldRows,
        before: Timestamp,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let before =
            if kind.is_by_day() { i64::from(Day::of(before).number()) } else { before.as_micros() };
        if report.dry_run {
            let mut reader = self.store.read().await?;
            let rows = reader.keeping().count_old(kind, before, COUNTED_MAX).await?;
            report.add(kind.table(), rows);
            return Ok(());
        }
        let mut pace = Pace::new();
        loop {
            let limit = pace.begin();
            let rows = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move { tx.keeping().remove_old(kind, before, limit).await })
                })
                .await?;
            report.add(kind.table(), rows);
            pace.end().await;
            if rows < u64::from(limit) {
                return Ok(());
            }
        }
    }

    /// The rest of conversations that were deleted before a moment.
    async fn remove_deleted(
        &self,
        before: Timestamp,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let mut place = (Timestamp::from_micros(0), String::new());
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.keeping().deleted_before(before, place.clone(), PAGE).await?;
            let Some((last, at)) = page.last() else { return Ok(()) };
            place = (*at, last.to_string());
            for (id, _) in page {
                if reader.keeping().is_held(id).await? {
                    report.held += 1;
                } else if report.dry_run {
                    report.add("conversations", 1);
                } else if let Err(error) = self.remove_conversation(id, &mut report.removed).await {
                    report.problems.push(format!("{id}: {error}"));
                }
            }
        }
    }

    /// Conversations that nobody has used since a moment.
    async fn remove_unused(
        &self,
        before: Timestamp,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let first = ConversationId::first_at(before);
        let mut place = None;
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.keeping().created_before(first, place, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            place = Some(*last);
            for id in page {
                if reader.keeping().is_in_use(id, before).await? {
                    continue;
                }
                if reader.keeping().is_held(id).await? {
                    report.held += 1;
                    continue;
                }
                report.add("conversations.unused", 1);
                if report.dry_run {
                    continue;
                }
                // Nothing new begins in it from here on; looked at again where nobody is between.
                let is_marked = self
                    .store
                    .write(Durability::Normal, move |tx| {
                        Box::pin(async move {
                            tx.flush().await?;
                            if tx.keeping().is_in_use(id, before).await? {
                                return Ok::<_, StoreError>(false);
                            }
                            let now = tx.now();
                            tx.keeping().mark_deleted(id, now).await?;
                            Ok(true)
                        })
                    })
                    .await?;
                if is_marked
                    && let Err(error) = self.remove_conversation(id, &mut report.removed).await
                {
                    report.problems.push(format!("{id}: {error}"));
                }
            }
        }
    }

    /// Removes a deleted conversation with everything in it, a few rows at a time.
    pub(super) async fn remove_conversation(
        &self,
        id: ConversationId,
        removed: &mut BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::new();
        loop {
            let limit = pace.begin();
            let (is_gone, rows) = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        tx.flush().await?;
                        let mut rows = BTreeMap::new();
                        let is_gone = tx.keeping().remove_some(id, limit, &mut rows).await?;
                        Ok::<_, StoreError>((is_gone, rows))
                    })
                })
                .await?;
            for (table, count) in rows {
                *removed.entry(table).or_default() += count;
            }
            pace.end().await;
            if is_gone {
                return Ok(());
            }
        }
    }

    /// Cuts the audit trail behind the last signed row that is old, and removes what is before.
    async fn cut_trail(
        &self,
        before: Timestamp,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let mut reader = self.store.read().await?;
        let cut = reader.checkpoints().cut().await?;
        let newest = reader.checkpoints().last().await?.map_or(0, |newest| newest.n);
        let next = next_cut(&mut reader, cut.as_ref(), before, newest).await?;
        drop(reader);
        let begin = cut.as_ref().map_or(0, |cut| cut.n);
        let end = next.as_ref().map_or(begin, |next| next.n);
        if report.dry_run {
            report.audit_cut = next.map(|next| next.n);
            report.add("audit", end - begin);
            return Ok(());
        }
        if let Some(next) = next {
            let Some(key) = self.signer.keys().first().cloned() else { return Ok(()) };
            report.audit_cut = Some(next.n);
            self.store
                .write(Durability::Full, move |tx| {
                    Box::pin(async move {
                        let cut = sign(&key, Seal::Cut, next.n, &next.hash, tx.now());
                        tx.checkpoints().put_cut(&cut).await?;
                        let data = json!({ "what": "audit trail cut", "cut": cut });
                        tx.audit(entry(AuditKind::Retention, None, data));
                        Ok::<_, StoreError>(())
                    })
                })
                .await?;
        }
        // Also what a crash has left of the last cut.
        let mut pace = Pace::new();
        loop {
            let limit = pace.begin();
            let rows = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move { tx.keeping().remove_cut_rows(end, limit).await })
                })
                .await?;
            report.add("audit", rows);
            pace.end().await;
            if rows < u64::from(limit) {
                break;
            }
        }
        Ok(())
    }

    async fn clean_log(&self, days: Retention, now: Timestamp, report: &mut RetentionReport) {
        let Some(log) = self.keeper.options.log.clone().filter(|_| !report.dry_run) else {
            return;
        };
        let mut age = LineAge { days, now, is_dropped: false };
        let done = Tasks::spawn_blocking(move || log.rewrite(|line| age.fate(line))).await;
        match done.map_err(|e| e.to_string()).and_then(|done| done.map_err(|e| e.to_string())) {
            Ok(done) => report.add("log lines", done.dropped),
            Err(error) => report.problems.push(format!("the log file: {error}")),
        }
    }
}

/// The newest checkpoint whose row may go: it is old, and not the newest of all, so that the file
/// outside always names a row that is there.
async fn next_cut(
    reader: &mut crate::store::Reader,
    cut: Option<&Checkpoint>,
    before: Timestamp,
    newest: u64,
) -> Result<Option<Checkpoint>, StoreError> {
    let mut after = cut.map_or(0, |cut| cut.n);
    let mut found = None;
    loop {
        let page = reader.checkpoints().after(after, PAGE).await?;
        for checkpoint in page {
            // A checkpoint is younger than every row that it covers.
            if checkpoint.at >= before || checkpoint.n >= newest {
                return Ok(found);
            }
            after = checkpoint.n;
            found = Some(checkpoint);
        }
        if found.as_ref().is_none_or(|found: &Checkpoint| found.n != after) {
            return Ok(found);
        }
    }
}

/// How old lines of the log are. A line without a time belongs to the one before.
struct LineAge {
    days: Retention,
    now: Timestamp,
    is_dropped: bool,
}

impl LineAge {
    fn fate(&mut self, line: &str) -> LineFate {
        if let Some((at, class)) = line_class(line) {
            self.is_dropped =
                self.days.old_before(class, self.now).is_some_and(|before| at < before);
        }
        if self.is_dropped { LineFate::Drop } else { LineFate::Keep }
    }
}

/// When a line was written, and how long it is kept: what went wrong longest, then who came in.
fn line_class(line: &str) -> Option<(Timestamp, RetentionClass)> {
    let (at, level, target) = if line.starts_with('{') {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| line.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        (text("timestamp")?, text("level")?, text("target").unwrap_or_default())
    } else {
        let mut words = line.split_whitespace();
        let (at, level) = (words.next()?.to_owned(), words.next()?.to_owned());
        (at, level, words.next().unwrap_or_default().trim_end_matches(':').to_owned())
    };
    let is_access = ["agent_runtime::auth", "agent_runtime::http"];
    let class = match level.as_str() {
        "ERROR" => RetentionClass::Error,
        _ if is_access.iter().any(|module| target.starts_with(module)) => RetentionClass::Access,
        _ => RetentionClass::App,
    };
    Some((at.parse().ok()?, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_by_their_age_and_by_what_they_say() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let mut age = LineAge { days: Retention::default(), now, is_dropped: false };
        let mut fate = |line: &str| age.fate(line) == LineFate::Keep;
        let json = |at: &str, level: &str, target: &str| {
            format!(r#"{{"timestamp":"{at}","level":"{level}","target":"{target}"}}"#)
        };
        assert!(!fate(&json("2026-04-01T00:00:00.123456Z", "INFO", "agent_runtime::store")));
        assert!(!fate("  a second line of it"));
        assert!(fate(&json("2026-04-01T00:00:00.1Z", "ERROR", "agent_runtime::store")));
        assert!(fate(&json("2026-04-01T00:00:00.1Z", "INFO", "agent_runtime::auth::authn")));
        assert!(!fate(&json("2026-02-01T00:00:00.1Z", "INFO", "agent_runtime::auth::authn")));
        assert!(!fate(&json("2025-02-01T00:00:00.1Z", "ERROR", "agent_runtime::store")));
        assert!(fate("2026-05-31T00:00:00.000000Z  INFO agent_runtime::app: started"));
        assert!(fate("  a second line of it"));
        assert!(!fate("2026-01-31T00:00:00.000000Z  WARN agent_runtime::app: started"));
    }

    #[test]
    fn the_audit_trail_is_not_kept_for_a_day() {
        assert!(check_days(RetentionClass::Audit, 89).is_err());
        assert!(check_days(RetentionClass::Audit, 90).is_ok());
        assert!(check_days(RetentionClass::Audit, 0).is_ok());
        assert!(check_days(RetentionClass::App, 1).is_ok());
        assert!(check_days(RetentionClass::App, DAYS_MAX + 1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn batches_shrink_when_they_take_long_and_grow_again() {
        let mut pace = Pace::new();
        let first = pace.begin();
        tokio::time::advance(Duration::from_millis(50)).await;
        pace.end().await;
        let second = pace.begin();
        assert!(second < first);
        pace.end().await;
        assert!(pace.begin() > second);
        let (slow, fast) = (Duration::from_secs(1), Duration::ZERO);
        let mut rows = Pace { rows: Pace::ROWS_MIN, ..pace };
        assert_eq!(rows.next(slow), Pace::ROWS_MIN);
        rows.rows = Pace::ROWS_MAX;
        assert_eq!(rows.next(fast), Pace::ROWS_MAX);
    }
}
