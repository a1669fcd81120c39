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

    /// Where the trail begins, when its old end was cut off: the last row that is gone, signed.
    pub async fn cut(&mut self) -> Result<Option<Checkpoint>, StoreError> {
        let row = query("SELECT n, hash, at, key_id, mac FROM audit_cut WHERE id = 1")
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read where the audit trail begins"))?;
        row.as_ref().map(checkpoint).transpose()
    }

    /// Stores where the trail begins from now on; whether it did: never before where it begins already,
    /// since what is older may be gone.
    pub async fn put_cut(&mut self, cut: &Checkpoint) -> Result<bool, StoreError> {
        query(
            "INSERT INTO audit_cut (id, n, hash, at, key_id, mac) VALUES (1, $1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET n = excluded.n, hash = excluded.hash, \
             at = excluded.at, key_id = excluded.key_id, mac = excluded.mac \
             WHERE audit_cut.n < excluded.n",
        )
        .bind(cols::int(cut.n))
        .bind(cut.hash.clone())
        .bind(cut.at.as_micros())
        .bind(cut.key_id.clone())
        .bind(cut.mac.clone())
        .execute(&mut *self.conn)
        .await
        .map(|rows| rows > 0)
        .map_err(StoreError::unavailable("store where the audit trail begins"))
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
