//! Signed ends of the audit trail.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::audit::Checkpoint;

/// Access to the checkpoints.
#[derive(Debug)]
pub struct Checkpoints<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Checkpoints<'_> {
    /// Checkpoints after a row, in order.
    pub async fn after(&mut self, n: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        let rows = query(
            "SELECT n, hash, at, key_id, mac FROM audit_checkpoints WHERE n > $1 \
             ORDER BY n LIMIT $2",
        )
        .bind(cols::int(n))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the checkpoints"))?;
        rows.iter().map(checkpoint).collect()
    }

    /// The newest one.
    pub async fn last(&mut self) -> Result<Option<Checkpoint>, StoreError> {
        let row =
            query("SELECT n, hash, at, key_id, mac FROM audit_checkpoints ORDER BY n DESC LIMIT 1")
                .fetch_optional(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("read the last checkpoint"))?;
        row.as_ref().map(checkpoint).transpose()
    }

    /// Stores one. There must be none for its row.
    pub async fn insert(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        query(
            "INSERT INTO audit_checkpoints (n, hash, at, key_id, mac) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(cols::int(checkpoint.n))
        .bind(checkpoint.hash.clone())
        .bind(checkpoint.at.as_micros())
        .bind(checkpoint.key_id.clone())
        .bind(checkpoint.mac.clone())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a checkpoint"))
    }
}

fn checkpoint(row: &Row) -> Result<Checkpoint, StoreError> {
    let mut c = Cols::new(row);
    Ok(Checkpoint {
        n: c.number()?,
        hash: c.text()?,
        at: c.time()?,
        key_id: c.text()?,
        mac: c.text()?,
    })
}
