//! Removes rows that are old, and conversations with everything in them, a few rows at a time.

use std::collections::BTreeMap;

use super::{Inner, Pace, retention::RetentionReport};
use crate::{
    domain::{ConversationId, Day, RunId, Timestamp},
    store::{Durability, OldRows, StoreError},
};

/// Conversations that are looked at in one go.
const PAGE: u32 = 200;
/// Rows that a dry run counts of one kind.
const COUNTED_MAX: u32 = 100_000;

impl Inner {
    pub(super) async fn remove_rows(
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
    pub(super) async fn remove_deleted(
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
    pub(super) async fn remove_unused(
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

    /// Removes a run that has ended, a few rows at a time, unless its conversation is held.
    pub(super) async fn remove_run(
        &self,
        run: RunId,
        conversation: ConversationId,
        removed: &mut BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::new();
        loop {
            let limit = u64::from(pace.begin());
            let (is_gone, rows) = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        tx.flush().await?;
                        if tx.keeping().is_held(conversation).await? {
                            return Err(StoreError::Stale { what: conversation.to_string() });
                        }
                        let mut rows = BTreeMap::new();
                        let (_, is_gone) = tx.keeping().remove_run(run, limit, &mut rows).await?;
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
}
