//! Removing what is old: how long things are kept, legal holds, and the batches that remove.
//!
//! Invariants: every removal takes a bounded number of rows, found by a key; a run goes with its
//! rows first and itself last, so that a crash leaves nothing that nobody finds again. What may be
//! removed is decided above; a conversation is removed only once it is marked as deleted.

mod holds;
mod old;

use std::collections::BTreeMap;

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{ConversationId, PrincipalId, RetentionClass, RunId, Timestamp};
pub use old::OldRows;

/// Rows removed, by table.
pub type Removed = BTreeMap<String, u64>;

/// Access to what is kept how long, and to removing it.
#[derive(Debug)]
pub struct Keeping<'c> {
    pub(super) conn: &'c mut Conn,
}

/// The rows of a run, table by table, each by its key; `$1` is the run, `$2` the most rows.
const OF_RUN: &[(&str, &str)] = &[
    (
        "decisions",
        "DELETE FROM decisions WHERE call_id IN \
         (SELECT id FROM tool_calls WHERE run_id = $1 ORDER BY step, idx LIMIT $2)",
    ),
    (
        "tool_calls",
        "DELETE FROM tool_calls WHERE id IN \
         (SELECT id FROM tool_calls WHERE run_id = $1 ORDER BY step, idx LIMIT $2)",
    ),
    (
        "events",
        "DELETE FROM events WHERE run_id = $1 AND seq IN \
         (SELECT seq FROM events WHERE run_id = $1 ORDER BY seq LIMIT $2)",
    ),
    (
        "steps",
        "DELETE FROM steps WHERE run_id = $1 AND n IN \
         (SELECT n FROM steps WHERE run_id = $1 ORDER BY n LIMIT $2)",
    ),
    (
        "approvals",
        "DELETE FROM approvals WHERE id IN \
         (SELECT id FROM approvals WHERE run_id = $1 ORDER BY id LIMIT $2)",
    ),
    (
        "bundles",
        "DELETE FROM bundles WHERE id IN \
         (SELECT id FROM bundles WHERE run_id = $1 ORDER BY id LIMIT $2)",
    ),
    (
        "capabilities",
        "DELETE FROM capabilities WHERE id IN \
         (SELECT id FROM capabilities WHERE run_id = $1 ORDER BY id LIMIT $2)",
    ),
    (
        "steers",
        "DELETE FROM steers WHERE id IN \
         (SELECT id FROM steers WHERE run_id = $1 ORDER BY id LIMIT $2)",
    ),
];

const TERMINAL: &str = "('succeeded', 'failed', 'cancelled', 'expired')";

impl Keeping<'_> {
    /// Days that administrators set, by class.
    pub async fn days(&mut self) -> Result<Vec<(RetentionClass, u32)>, StoreError> {
        let rows = query("SELECT class, days FROM retention ORDER BY class")
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read how long things are kept"))?;
        let row = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((c.parsed()?, c.number()?))
        };
        rows.iter().map(row).collect()
    }

    /// Sets the days of a class; none takes the configuration's again.
    pub async fn set_days(
        &mut self,
        class: RetentionClass,
        days: Option<u32>,
        at: Timestamp,
        by: PrincipalId,
    ) -> Result<(), StoreError> {
        let query = match days {
            Some(days) => query(
                "INSERT INTO retention (class, days, updated_at, updated_by) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (class) DO UPDATE SET days = excluded.days, \
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by",
            )
            .bind(class.as_str())
            .bind(i64::from(days))
            .bind(at.as_micros())
            .bind(by.to_string()),
            None => query("DELETE FROM retention WHERE class = $1").bind(class.as_str()),
        };
        query
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("store how long things are kept"))
    }

    /// Marks a conversation as deleted, so that nothing new begins in it.
    pub async fn mark_deleted(
        &mut self,
        conversation: ConversationId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE conversations SET deleted_at = COALESCE(deleted_at, $2), title = NULL \
             WHERE id = $1",
        )
        .bind(conversation.to_string())
        .bind(at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("delete a conversation"))
    }

    /// Removes up to `limit` rows of a deleted conversation; whether it is gone. Flush the
    /// transaction first. A run that has not ended stops it.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when it is not deleted, is held, or a run in it has not ended.
    pub async fn remove_some(
        &mut self,
        conversation: ConversationId,
        limit: u32,
        removed: &mut Removed,
    ) -> Result<bool, StoreError> {
        let stale = || StoreError::Stale { what: conversation.to_string() };
        let found = query("SELECT deleted_at, active_run_id FROM conversations WHERE id = $1")
            .bind(conversation.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a conversation"))?;
        let Some(row) = found else { return Ok(true) };
        let mut c = Cols::new(&row);
        let (deleted_at, active): (Option<i64>, Option<String>) = (c.raw()?, c.raw()?);
        if deleted_at.is_none() || active.is_some() || self.is_held(conversation).await? {
            return Err(stale());
        }
        let mut left = u64::from(limit);
        let messages = "DELETE FROM messages WHERE conversation_id = $1 AND seq IN \
            (SELECT seq FROM messages WHERE conversation_id = $1 ORDER BY seq LIMIT $2)";
        left -= self.remove("messages", messages, &conversation.to_string(), left, removed).await?;
        while left > 0 {
            let run = query("SELECT id FROM runs WHERE conversation_id = $1 ORDER BY id LIMIT 1")
                .bind(conversation.to_string())
                .fetch_optional(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("read the runs of a conversation"))?;
            let Some(run) = run else {
                return self.remove_conversation(conversation, removed).await.map(|()| true);
            };
            let run = Cols::new(&run).parsed()?;
            left = left.saturating_sub(self.remove_run(run, left, removed).await?.0);
        }
        Ok(false)
    }

    async fn remove_conversation(
        &mut self,
        conversation: ConversationId,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let id = conversation.to_string();
        for (table, sql) in [
            ("budgets", "DELETE FROM budgets WHERE scope = 'conversation' AND subject = $1"),
            ("budget_use", "DELETE FROM budget_use WHERE scope = 'conversation' AND subject = $1"),
            ("conversations", "DELETE FROM conversations WHERE id = $1"),
        ] {
            let done = query(sql)
                .bind(id.clone())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("remove a conversation"))?;
            count(removed, table, done);
        }
        Ok(())
    }

    /// Removes up to `limit` rows of a run that has ended, and the run once it has none; how many,
    /// and whether it is gone. Flush the transaction first.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the run has not ended.
    pub async fn remove_run(
        &mut self,
        run: RunId,
        limit: u64,
        removed: &mut Removed,
    ) -> Result<(u64, bool), StoreError> {
        let id = run.to_string();
        let row = query("SELECT state FROM runs WHERE id = $1")
            .bind(id.clone())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a run"))?;
        let Some(row) = row else { return Ok((0, true)) };
        let state = Cols::new(&row).text()?;
        if !TERMINAL.contains(&format!("'{state}'")) {
            return Err(StoreError::Stale { what: id });
        }
        let mut left = limit;
        for (table, sql) in OF_RUN {
            // Decisions go with their calls: one list of calls for both.
            let done = self.remove(table, sql, &id, left, removed).await?;
            if *table != "decisions" {
                left = left.saturating_sub(done);
            }
            if left == 0 {
                return Ok((limit, false));
            }
        }
        for (table, sql) in [
            ("run_scopes", "DELETE FROM run_scopes WHERE run_id = $1"),
            ("runs", "DELETE FROM runs WHERE id = $1"),
        ] {
            let done = query(sql)
                .bind(id.clone())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("remove a run"))?;
            count(removed, table, done);
        }
        Ok((limit - left + 1, true))
    }

    async fn remove(
        &mut self,
        table: &str,
        sql: &'static str,
        id: &str,
        limit: u64,
        removed: &mut Removed,
    ) -> Result<u64, StoreError> {
        let done = query(sql)
            .bind(id.to_owned())
            .bind(cols::int(limit))
            .execute(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("remove what is old"))?;
        count(removed, table, done);
        Ok(done)
    }

    /// Removes rows of the audit trail up to the signed cut, and the checkpoints before it; how
    /// many rows. The cut is stored first, in a transaction before this one.
    pub async fn remove_cut_rows(&mut self, cut: u64, limit: u32) -> Result<u64, StoreError> {
        let rows = query(
            "DELETE FROM audit WHERE n IN (SELECT n FROM audit WHERE n <= $1 ORDER BY n LIMIT $2)",
        )
        .bind(cols::int(cut))
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("remove the old end of the audit trail"))?;
        query(
            "DELETE FROM audit_checkpoints WHERE n IN \
             (SELECT n FROM audit_checkpoints WHERE n < $1 ORDER BY n LIMIT $2)",
        )
        .bind(cols::int(cut))
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("remove old checkpoints"))?;
        Ok(rows)
    }
}

pub(super) fn count(removed: &mut Removed, table: &str, rows: u64) {
    if rows > 0 {
        *removed.entry(table.to_owned()).or_default() += rows;
    }
}
