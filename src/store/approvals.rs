//! Questions to people. Only a pending one changes; the first valid decision wins.

use super::{
    cols::{self, Cols},
    db::{Conn, Lock, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{Approval, ApprovalId, ApprovalState, PrincipalId, RunId, Timestamp};

/// Access to approvals.
#[derive(Debug)]
pub struct Approvals<'c> {
    pub(super) conn: &'c mut Conn,
    /// In a transaction: what is read may be changed.
    pub(super) changes: bool,
}

impl Approvals<'_> {
    /// Stores a question; `principal` is whose run asks it.
    pub async fn insert(&mut self, a: &Approval, principal: PrincipalId) -> Result<(), StoreError> {
        query(
            "INSERT INTO approvals (id, run_id, call_id, principal, kind, state, body, created_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(a.id.to_string())
        .bind(a.run_id.to_string())
        .bind(a.call_id.map(|id| id.to_string()))
        .bind(principal.to_string())
        .bind(a.kind.as_str())
        .bind(a.state.as_str())
        .bind(cols::json(a)?)
        .bind(a.created_at.as_micros())
        .bind(a.expires_at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an approval"))
    }

    /// Saves a changed question, if it is still pending in the store.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when somebody was faster.
    pub async fn save(&mut self, approval: &Approval) -> Result<(), StoreError> {
        let done =
            query("UPDATE approvals SET state = $1, body = $2 WHERE id = $3 AND state = 'pending'")
                .bind(approval.state.as_str())
                .bind(cols::json(approval)?)
                .bind(approval.id.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("save an approval"))?;
        if done == 1 { Ok(()) } else { Err(StoreError::Stale { what: approval.id.to_string() }) }
    }

    /// Takes a question or the answer to it out of force, if the store still has it so.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when it was neither waiting nor approved.
    pub async fn void(&mut self, approval: &Approval) -> Result<(), StoreError> {
        let done = query(
            "UPDATE approvals SET state = $1, body = $2 WHERE id = $3 \
             AND state IN ('pending', 'approved')",
        )
        .bind(approval.state.as_str())
        .bind(cols::json(approval)?)
        .bind(approval.id.to_string())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("void an approval"))?;
        if done == 1 { Ok(()) } else { Err(StoreError::Stale { what: approval.id.to_string() }) }
    }

    /// One question.
    pub async fn get(&mut self, id: ApprovalId) -> Result<Option<Approval>, StoreError> {
        let row = query("SELECT body FROM approvals WHERE id = $1")
            .bind(id.to_string())
            .lock(Lock::when(self.changes))
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read an approval"))?;
        row.as_ref().map(approval).transpose()
    }

    /// The questions of a run, oldest first.
    pub async fn of_run(&mut self, run: RunId) -> Result<Vec<Approval>, StoreError> {
        let rows = query("SELECT body FROM approvals WHERE run_id = $1 ORDER BY id")
            .bind(run.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the approvals of a run"))?;
        rows.iter().map(approval).collect()
    }

    /// Questions, newest first; of one principal's runs where `principal` is given.
    pub async fn list(
        &mut self,
        state: Option<ApprovalState>,
        principal: Option<PrincipalId>,
        page: &Page,
    ) -> Result<Paged<Approval>, StoreError> {
        let sql = if state.is_some() {
            "SELECT body FROM approvals WHERE state = $2 AND id < $1 \
             AND ($3 IS NULL OR principal = $3) ORDER BY id DESC LIMIT $4"
        } else {
            "SELECT body FROM approvals WHERE id < $1 AND ($2 IS NULL OR state = $2) \
             AND ($3 IS NULL OR principal = $3) ORDER BY id DESC LIMIT $4"
        };
        let rows = query(sql)
            .bind(page.before())
            .bind(state.map(ApprovalState::as_str))
            .bind(principal.map(|p| p.to_string()))
            .bind(page.rows())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("list approvals"))?;
        let items = rows.iter().map(approval).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |a| a.id.to_string()))
    }

    /// Pending questions whose time is up.
    pub async fn overdue(
        &mut self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ApprovalId>, StoreError> {
        let rows = query(
            "SELECT id FROM approvals WHERE state = 'pending' AND expires_at <= $1 \
             ORDER BY expires_at LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for overdue approvals"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }
}

fn approval(row: &Row) -> Result<Approval, StoreError> {
    Cols::new(row).json()
}
