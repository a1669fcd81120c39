//! Patterns of calls that people approved. A use is taken in the transaction that starts its call.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{ApprovalPattern, PatternId, Timestamp, limits};

/// Access to patterns.
#[derive(Debug)]
pub struct Patterns<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Patterns<'_> {
    /// Stores a pattern.
    pub async fn insert(&mut self, pattern: &ApprovalPattern) -> Result<(), StoreError> {
        let by: Vec<_> = pattern.approved_by.iter().map(ToString::to_string).collect();
        query(
            "INSERT INTO approval_patterns (id, approval_id, agent, tool, body, approved_by, \
             created_at, expires_at, uses_left, revoked_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(pattern.id.to_string())
        .bind(pattern.approval_id.to_string())
        .bind(pattern.agent.clone())
        .bind(pattern.tool.clone())
        .bind(cols::json(pattern)?)
        .bind(by.join(" "))
        .bind(pattern.created_at.as_micros())
        .bind(pattern.expires_at.as_micros())
        .bind(i64::from(pattern.uses_left))
        .bind(pattern.revoked_at.map(Timestamp::as_micros))
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a pattern"))
    }

    /// One pattern.
    pub async fn get(&mut self, id: PatternId) -> Result<Option<ApprovalPattern>, StoreError> {
        let row = query("SELECT body, uses_left, revoked_at FROM approval_patterns WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a pattern"))?;
        row.as_ref().map(pattern).transpose()
    }

    /// Patterns, newest first; those that are over too where `all` says so.
    pub async fn list(
        &mut self,
        all: bool,
        now: Timestamp,
        page: &Page,
    ) -> Result<Paged<ApprovalPattern>, StoreError> {
        let rows = query(
            "SELECT body, uses_left, revoked_at FROM approval_patterns WHERE id < $1 \
             AND ($2 = 1 OR (revoked_at IS NULL AND uses_left > 0 AND expires_at > $3)) \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(page.before())
        .bind(i64::from(all))
        .bind(now.as_micros())
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list patterns"))?;
        let items = rows.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |p| p.id.to_string()))
    }

    /// The patterns that may let a call of this agent and tool through, oldest first; at most
    /// [`PATTERNS_MAX`](limits::PATTERNS_MAX).
    pub async fn in_force(
        &mut self,
        agent: &str,
        tool: &str,
        now: Timestamp,
    ) -> Result<Vec<ApprovalPattern>, StoreError> {
        let rows = query(
            "SELECT body, uses_left, revoked_at FROM approval_patterns WHERE agent = $1 \
             AND tool = $2 AND revoked_at IS NULL AND uses_left > 0 AND expires_at > $3 \
             ORDER BY id LIMIT $4",
        )
        .bind(agent.to_owned())
        .bind(tool.to_owned())
        .bind(now.as_micros())
        .bind(i64::from(limits::PATTERNS_MAX))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for patterns"))?;
        rows.iter().map(pattern).collect()
    }

    /// Takes one use; whether there was one left.
    pub async fn take(&mut self, id: PatternId, now: Timestamp) -> Result<bool, StoreError> {
        query(
            "UPDATE approval_patterns SET uses_left = uses_left - 1 WHERE id = $1 \
             AND uses_left > 0 AND revoked_at IS NULL AND expires_at > $2",
        )
        .bind(id.to_string())
        .bind(now.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(|done| done == 1)
        .map_err(StoreError::unavailable("use a pattern"))
    }

    /// Takes a pattern back; whether it was there and had not been.
    pub async fn revoke(&mut self, id: PatternId, now: Timestamp) -> Result<bool, StoreError> {
        query("UPDATE approval_patterns SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
            .bind(now.as_micros())
            .bind(id.to_string())
            .execute(&mut *self.conn)
            .await
            .map(|done| done == 1)
            .map_err(StoreError::unavailable("revoke a pattern"))
    }
}

fn pattern(row: &Row) -> Result<ApprovalPattern, StoreError> {
    let mut c = Cols::new(row);
    let stored: ApprovalPattern = c.json()?;
    Ok(ApprovalPattern { uses_left: c.number()?, revoked_at: c.time_opt()?, ..stored })
}
