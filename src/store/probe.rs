//! Whether the store can do its work, found out by doing some of it.

use super::{Durability, Store, StoreError, query};

impl Store {
    /// Reads, and writes a row until it is durable. An empty transaction would not touch the disk,
    /// and succeed where it is full, broken or may not be written.
    ///
    /// # Errors
    /// When either cannot be done.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.read().await?.runs().claimants(None, 1).await?;
        self.write(Durability::Full, |tx| Box::pin(tx.count_probe())).await
    }
}

impl super::Tx {
    async fn count_probe(&mut self) -> Result<(), StoreError> {
        query(
            "INSERT INTO counters (name, value) VALUES ('probes', 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
        )
        .execute(self.conn())
        .await
        .map(drop)
        .map_err(StoreError::unavailable("write to the store"))
    }
}
