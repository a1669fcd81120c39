//! What is old: rows that go by their own age, and conversations that nobody uses.

use super::{
    super::{
        cols::Cols,
        db::{Row, query},
        error::StoreError,
    },
    Keeping,
};
use crate::domain::{ConversationId, RetentionClass, Timestamp};

impl Keeping<'_> {
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
