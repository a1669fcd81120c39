//! Whether the daemon is locked down: one row, or none.

use super::{
    cols::Cols,
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::capability::LockdownRecord;

/// Access to the lockdown.
#[derive(Debug)]
pub struct Lockdowns<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Lockdowns<'_> {
    /// The lockdown, while there is one.
    pub async fn get(&mut self) -> Result<Option<LockdownRecord>, StoreError> {
        let row = query("SELECT at, done_by, reason FROM lockdown WHERE id = 1")
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the lockdown"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            Ok(LockdownRecord { since: c.time()?, by: c.text()?, reason: c.raw()? })
        })
        .transpose()
    }

    /// Locks down. There must be no lockdown.
    pub async fn put(&mut self, record: &LockdownRecord) -> Result<(), StoreError> {
        query("INSERT INTO lockdown (id, at, done_by, reason) VALUES (1, $1, $2, $3)")
            .bind(record.since.as_micros())
            .bind(record.by.clone())
            .bind(record.reason.clone())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("store the lockdown"))
    }

    /// Lifts it.
    pub async fn remove(&mut self) -> Result<(), StoreError> {
        query("DELETE FROM lockdown WHERE id = 1")
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("lift the lockdown"))
    }
}
