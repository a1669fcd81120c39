//! Duties that one replica has at a time.
//!
//! Invariants: a duty has at most one holder whose lease is not over by the database's clock; its
//! epoch rises with each new holder, so that what an old one still writes can be told.

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{Timestamp, limits};

/// A duty as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub boot_epoch: u64,
    /// How often it changed hands.
    pub epoch: u64,
    /// From then on another may take it.
    pub expires_at: Timestamp,
}

/// Access to duties.
#[derive(Debug)]
pub struct Leases<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Leases<'_> {
    /// Takes a duty that nobody has, whose holder's lease is over or whose holder has ended, or goes
    /// on with one's own; its epoch, or none while somebody else has it.
    pub async fn hold(
        &mut self,
        name: &'static str,
        boot_epoch: u64,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let row = query(
            "INSERT INTO leases (name, boot_epoch, epoch, expires_at) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at, \
             epoch = leases.epoch + CASE WHEN leases.boot_epoch = excluded.boot_epoch \
             THEN 0 ELSE 1 END, boot_epoch = excluded.boot_epoch \
             WHERE leases.boot_epoch = excluded.boot_epoch OR leases.expires_at < $4 \
             OR NOT EXISTS (SELECT 1 FROM replicas WHERE replicas.boot_epoch = leases.boot_epoch \
             AND replicas.ended_at IS NULL) RETURNING epoch",
        )
        .bind(name)
        .bind(cols::int(boot_epoch))
        .bind(now.plus(limits::REPLICA_TTL).as_micros())
        .bind(now.as_micros())
        .fetch_optional(self.conn)
        .await
        .map_err(StoreError::unavailable("take a duty"))?;
        row.map(|row| Cols::new(&row).number()).transpose()
    }

    /// Gives up every duty of a replica.
    pub async fn release(&mut self, boot_epoch: u64) -> Result<(), StoreError> {
        query("UPDATE leases SET expires_at = 0 WHERE boot_epoch = $1")
            .bind(cols::int(boot_epoch))
            .execute(self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("give up duties"))
    }

    /// A duty as it is held; none where nobody ever had it.
    pub async fn get(&mut self, name: &'static str) -> Result<Option<Lease>, StoreError> {
        let row = query("SELECT boot_epoch, epoch, expires_at FROM leases WHERE name = $1")
            .bind(name)
            .fetch_optional(self.conn)
            .await
            .map_err(StoreError::unavailable("look for a duty"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            Ok(Lease { boot_epoch: c.number()?, epoch: c.number()?, expires_at: c.time()? })
        })
        .transpose()
    }
}
