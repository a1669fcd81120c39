//! Budgets that administrators set while the daemon ran.

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{BudgetLimit, BudgetSubject, PrincipalId, Timestamp, Usd};

/// A budget that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRow {
    /// Whose.
    pub subject: BudgetSubject,
    /// How much.
    pub limit: BudgetLimit,
    /// Since when.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: PrincipalId,
}

/// Access to them.
#[derive(Debug)]
pub struct Budgets<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Budgets<'_> {
    /// All of them: administrators set few.
    pub async fn all(&mut self) -> Result<Vec<BudgetRow>, StoreError> {
        let rows = query(
            "SELECT scope, subject, nanos, tokens, updated_at, updated_by FROM budgets \
             ORDER BY scope, subject",
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the budgets"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                let subject = BudgetSubject { scope: c.parsed()?, subject: c.text()? };
                let nanos: Option<i64> = c.raw()?;
                let tokens: Option<i64> = c.raw()?;
                let limit = BudgetLimit {
                    usd_per_day: nanos.map(Usd::from_nanos),
                    tokens_per_day: tokens.map(|t| u64::try_from(t).unwrap_or(0)),
                };
                let (updated_at, updated_by) = (c.time()?, c.parsed()?);
                Ok(BudgetRow { subject, limit, updated_at, updated_by })
            })
            .collect()
    }

    /// How many there are.
    pub async fn count(&mut self) -> Result<u64, StoreError> {
        let count: i64 = query("SELECT COUNT(*) FROM budgets")
            .one_number(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("count the budgets"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Sets one, in the place of what was set before.
    pub async fn put(&mut self, row: &BudgetRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO budgets (scope, subject, nanos, tokens, updated_at, updated_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope, subject) DO UPDATE SET \
             nanos = excluded.nanos, tokens = excluded.tokens, \
             updated_at = excluded.updated_at, updated_by = excluded.updated_by",
        )
        .bind(row.subject.scope.as_str())
        .bind(row.subject.subject.clone())
        .bind(row.limit.usd_per_day.map(Usd::as_nanos))
        .bind(row.limit.tokens_per_day.map(cols::int))
        .bind(row.updated_at.as_micros())
        .bind(row.updated_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("set a budget"))
    }

    /// Removes one; whether it was there.
    pub async fn remove(&mut self, subject: &BudgetSubject) -> Result<bool, StoreError> {
        query("DELETE FROM budgets WHERE scope = $1 AND subject = $2")
            .bind(subject.scope.as_str())
            .bind(subject.subject.clone())
            .execute(&mut *self.conn)
            .await
            .map(|done| done > 0)
            .map_err(StoreError::unavailable("remove a budget"))
    }
}
