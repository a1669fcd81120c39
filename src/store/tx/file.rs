//! What only a file needs: proof that it can be written, and care for what a failed fsync forgot.
//!
//! Invariant: after an fsync of the log has failed, nothing is promised until everything that was
//! committed stands in the database file. The kernel forgets that what it could not write is dirty,
//! and the next fsync succeeds over a hole: what follows the hole in the log would be lost with the
//! power, although it was acknowledged.

use super::{
    super::{Durability, Store, backend::sqlite, db::query, error::StoreError},
    Tx,
};
use crate::runtime::failpoint::{Point, reach};

impl Store {
    /// Reads, and writes a row until it is durable. An empty transaction would not touch the disk,
    /// and succeed where that is full, broken or may not be written.
    ///
    /// # Errors
    /// When either cannot be done.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.read().await?.runs().claimants(None, 1).await?;
        self.write(Durability::Full, |tx| Box::pin(tx.count_probe())).await
    }
}

impl Tx {
    async fn count_probe(&mut self) -> Result<(), StoreError> {
        query(
            "INSERT INTO counters (name, value) VALUES ('probes', 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
        )
        .execute(&mut self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("write to the store"))
    }

    /// Commits the group's transaction in the file.
    pub(super) async fn commit_file(&mut self) -> Result<(), StoreError> {
        let added = self.queued.added;
        let done = if added == 0 {
            query(sqlite::COMMIT).execute(&mut self.conn).await
        } else {
            let all = self.queued.stored + added;
            query(sqlite::COUNT_AND_COMMIT).bind(all).execute(&mut self.conn).await
        };
        if let Err(error) = &done {
            self.group.has_forgotten |= sqlite::has_forgotten(error);
        }
        done.map_err(StoreError::unavailable("commit to the store"))?;
        // No answer of a file is lost: there are crashes and delays here, and no failures.
        reach(Point::StoreCommitAfter).await.unwrap_or_default();
        Ok(())
    }

    /// Copies what is committed into the database file, where an fsync of the log has failed.
    pub(super) async fn remember(&mut self) -> Result<(), StoreError> {
        let is_busy = query(sqlite::FOLD_LOG).one_number(&mut self.conn).await;
        match is_busy.map_err(StoreError::unavailable("write the log to the database"))? {
            0 => {
                tracing::warn!("the log, which an fsync had failed on, is in the database now");
                self.group.has_forgotten = false;
                Ok(())
            }
            _ => Err(StoreError::Busy),
        }
    }
}
