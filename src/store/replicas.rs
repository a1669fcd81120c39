//! Replicas: each start of a daemon is one.

use super::{
    db::{Conn, query},
    error::StoreError,
    waiting,
};
use crate::domain::Timestamp;

/// Counts this start, and notes that it lives. Its number is the owner of what it claims.
pub(super) async fn register(conn: &mut Conn, now: Timestamp) -> Result<u64, StoreError> {
    let failed = || StoreError::unavailable("count this start");
    let number =
        query("UPDATE counters SET value = value + 1 WHERE name = 'boot_epoch' RETURNING value")
            .one_number(conn)
            .await
            .map_err(failed())?;
    query(
        "INSERT INTO replicas (boot_epoch, name, address, version, schema, started_at, beat_at, \
         expires_at, seen_generation, draining, recovered, last_group) \
         VALUES ($1, '', '', $2, 0, $3, $3, $3, 0, 0, 0, 0)",
    )
    .bind(number)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(now.as_micros())
    .execute(conn)
    .await
    .map_err(failed())?;
    if conn.is_shared() {
        waiting::recount(conn).await.map_err(failed())?;
    }
    Ok(u64::try_from(number).unwrap_or(0))
}
