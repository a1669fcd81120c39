//! Removing what is old: how long things are kept, legal holds, and the batches that remove.
//!
//! Invariants: every removal takes a bounded number of rows, found by a key; a run goes with its
//! rows first and itself last, so that a crash leaves nothing that nobody finds again. What may be
//! removed is decided above; a conversation is removed only once it is marked as deleted.

use std::collections::BTreeMap;

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{
    ConversationId, Hold, HoldKind, PrincipalId, RetentionClass, RunId, Timestamp,
};

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

    /// Every legal hold.
    pub async fn holds(&mut self) -> Result<Vec<Hold>, StoreError> {
        let rows =
            query("SELECT kind, subject, reason, at, done_by FROM holds ORDER BY kind, subject")
                .fetch_all(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("read the legal holds"))?;
        let hold = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(Hold {
                kind: c.parsed()?,
                subject: c.text()?,
                reason: c.raw()?,
                at: c.time()?,
                done_by: c.parsed()?,
            })
        };
        rows.iter().map(hold).collect()
    }

    /// Sets a hold, in the place of one that there is.
    pub async fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        query(
            "INSERT INTO holds (kind, subject, reason, at, done_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (kind, subject) DO UPDATE SET reason = excluded.reason, \
             at = excluded.at, done_by = excluded.done_by",
        )
        .bind(hold.kind.as_str())
        .bind(hold.subject.clone())
        .bind(hold.reason.clone())
        .bind(hold.at.as_micros())
        .bind(hold.done_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a legal hold"))
    }

    /// Lifts a hold; whether there was one.
    pub async fn remove_hold(&mut self, kind: HoldKind, subject: &str) -> Result<bool, StoreError> {
        query("DELETE FROM holds WHERE kind = $1 AND subject = $2")
            .bind(kind.as_str())
            .bind(subject.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(|rows| rows > 0)
            .map_err(StoreError::unavailable("lift a legal hold"))
    }

    /// Whether a conversation must be kept: it is held, or who it belongs to, or whoever worked
    /// in it.
    pub async fn is_held(&mut self, conversation: ConversationId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM holds WHERE (kind = 'conversation' AND subject = $1) \
             OR (kind = 'principal' AND (subject = (SELECT principal FROM conversations \
             WHERE id = $1) OR subject IN (SELECT principal FROM runs \
             WHERE conversation_id = $1))) LIMIT 1",
        )
        .bind(conversation.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a legal hold"))?;
        Ok(found.is_some())
    }

    /// Whether anything of a principal must be kept: they are held, or a conversation of theirs.
    pub async fn is_held_person(&mut self, principal: PrincipalId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM holds WHERE (kind = 'principal' AND subject = $1) \
             OR (kind = 'conversation' AND (\
             EXISTS (SELECT 1 FROM conversations c WHERE c.id = subject AND c.principal = $1) \
             OR EXISTS (SELECT 1 FROM runs r WHERE r.conversation_id = subject \
             AND r.principal = $1))) LIMIT 1",
        )
        .bind(principal.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a legal hold"))?;
        Ok(found.is_some())
    }

    /// Conversations that were deleted before a moment, from behind a place on, oldest first.
    pub async fn deleted_before(
        &mut self,
        before: Timestamp,
        after: (Timestamp, String),
        limit: u32,
    ) -> Result<Vec<(ConversationId, Timestamp)>, StoreError> {
        let rows = query(
            "SELECT id, deleted_at FROM conversations WHERE deleted_at IS NOT NULL \
             AND deleted_at < $1 AND (deleted_at, id) > ($2, $3) ORDER BY deleted_at, id LIMIT $4",
        )
        .bind(before.as_micros())
        .bind(after.0.as_micros())
        .bind(after.1)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for deleted conversations"))?;
        let row = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((c.parsed()?, c.time()?))
        };
        rows.iter().map(row).collect()
    }

    /// Conversations that were created before an id was, from behind another on, and are not
    /// deleted. Ids sort by time.
    pub async fn created_before(
        &mut self,
        before: ConversationId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows = query(
            "SELECT id FROM conversations WHERE id > $1 AND id < $2 AND deleted_at IS NULL \
             ORDER BY id LIMIT $3",
        )
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(before.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for old conversations"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Whether somebody works in a conversation, or has since a moment: a run that has not ended,
    /// a question that waits, a run that ended later, a conversation that was made later.
    pub async fn is_in_use(
        &mut self,
        conversation: ConversationId,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM conversations c WHERE c.id = $1 AND (c.active_run_id IS NOT NULL \
             OR c.waiting > 0 OR c.created_at >= $2 OR EXISTS (\
             SELECT 1 FROM runs r WHERE r.conversation_id = $1 AND (r.ended_at IS NULL \
             OR r.ended_at >= $2 OR EXISTS (SELECT 1 FROM approvals a WHERE a.run_id = r.id \
             AND a.state = 'pending')))) LIMIT 1",
        )
        .bind(conversation.to_string())
        .bind(since.as_micros())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look whether a conversation is in use"))?;
        Ok(found.is_some())
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
    /// [`StoreError::Stale`] when it is not deleted, or a run in it has not ended.
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
        if deleted_at.is_none() || active.is_some() {
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

    /// Removes rows of a kind that are older than `before` (a moment in microseconds, or a day), up
    /// to `limit`; how many. What belongs to a held principal stays.
    pub async fn remove_old(
        &mut self,
        kind: OldRows,
        before: i64,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(kind.delete())
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("remove what is old"))
    }

    /// How many rows of a kind are older than `before`, counted up to `most`.
    pub async fn count_old(
        &mut self,
        kind: OldRows,
        before: i64,
        most: u32,
    ) -> Result<u64, StoreError> {
        let row = query(kind.count())
            .bind(before)
            .bind(i64::from(most))
            .fetch_one(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("count what is old"))?;
        Cols::new(&row).number()
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

/// Rows that are removed by their own age alone, in tables that stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldRows {
    /// Tokens that were revoked or ran out.
    Tokens,
    /// Links that were revoked.
    Links,
    /// Requests for links that were decided or ran out.
    Pairings,
    /// Patterns of calls that ran out.
    Patterns,
    /// What was used of budgets on a day, and is not held.
    BudgetUse,
    /// Sums of use of a day.
    Usage,
}

/// The rows of one kind: what is selected, and the two statements around it.
macro_rules! old {
    ($table:literal, $key:literal, $old:literal) => {
        (
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE (",
                $key,
                ") IN (SELECT ",
                $key,
                " FROM ",
                $table,
                " WHERE ",
                $old,
                " ORDER BY ",
                $key,
                " LIMIT $2)"
            ),
            concat!(
                "SELECT COUNT(*) FROM (SELECT 1 FROM ",
                $table,
                " WHERE ",
                $old,
                " LIMIT $2) old"
            ),
        )
    };
}

impl OldRows {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Tokens, Self::Links, Self::Pairings, Self::Patterns, Self::BudgetUse, Self::Usage];

    /// The table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Links => "links",
            Self::Pairings => "pairings",
            Self::Patterns => "approval_patterns",
            Self::BudgetUse => "budget_use",
            Self::Usage => "usage",
        }
    }

    /// How long they are kept.
    pub const fn class(self) -> RetentionClass {
        match self {
            Self::Tokens | Self::Links | Self::Pairings => RetentionClass::Access,
            Self::Patterns | Self::BudgetUse => RetentionClass::App,
            Self::Usage => RetentionClass::Audit,
        }
    }

    /// Whether their age is counted in days and not in microseconds.
    pub const fn is_by_day(self) -> bool {
        matches!(self, Self::BudgetUse | Self::Usage)
    }

    const fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Tokens => old!(
                "tokens",
                "id",
                "(revoked_at < $1 OR expires_at < $1) AND principal NOT IN \
                 (SELECT subject FROM holds WHERE kind = 'principal')"
            ),
            Self::Links => old!(
                "links",
                "id",
                "revoked_at < $1 AND principal NOT IN \
                 (SELECT subject FROM holds WHERE kind = 'principal')"
            ),
            Self::Pairings => old!("pairings", "id", "state <> 'pending' AND expires_at < $1"),
            Self::Patterns => old!(
                "approval_patterns",
                "id",
                "expires_at < $1 AND approved_by NOT IN \
                 (SELECT subject FROM holds WHERE kind = 'principal')"
            ),
            Self::BudgetUse => old!(
                "budget_use",
                "scope, subject, period",
                "period < $1 AND held_nanos = 0 AND held_tokens = 0"
            ),
            Self::Usage => old!(
                "usage",
                "day, principal, agent, model",
                "day < $1 AND principal NOT IN \
                 (SELECT subject FROM holds WHERE kind = 'principal')"
            ),
        }
    }

    const fn delete(self) -> &'static str {
        self.sql().0
    }

    const fn count(self) -> &'static str {
        self.sql().1
    }
}

pub(super) fn count(removed: &mut Removed, table: &str, rows: u64) {
    if rows > 0 {
        *removed.entry(table.to_owned()).or_default() += rows;
    }
}
