//! Messages that wait to be injected into a run.

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{PrincipalId, RunId, SteerId, Timestamp, UserInput};

/// A message that waits to be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steer {
    /// Id.
    pub id: SteerId,
    /// The run that it is for.
    pub run_id: RunId,
    /// Who sent it.
    pub principal: PrincipalId,
    /// What it says.
    pub input: UserInput,
    /// Whether it starts a new run when this one ends first; otherwise it comes back.
    pub starts_new_run: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// Access to steers.
#[derive(Debug)]
pub struct Steers<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Steers<'_> {
    /// Stores a steer.
    pub async fn insert(&mut self, steer: &Steer) -> Result<(), StoreError> {
        query(
            "INSERT INTO steers (id, run_id, principal, input, if_ended, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(steer.id.to_string())
        .bind(steer.run_id.to_string())
        .bind(steer.principal.to_string())
        .bind(cols::json(&steer.input)?)
        .bind(if steer.starts_new_run { "start_new_run" } else { "fail" })
        .bind(steer.created_at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a steer"))
    }

    /// Takes every steer of a run, oldest first.
    pub async fn take(&mut self, run: RunId) -> Result<Vec<Steer>, StoreError> {
        let rows = query(
            "SELECT id, run_id, principal, input, if_ended, created_at FROM steers \
             WHERE run_id = $1 ORDER BY id",
        )
        .bind(run.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read steers"))?;
        query("DELETE FROM steers WHERE run_id = $1")
            .bind(run.to_string())
            .execute(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("take steers"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                Ok(Steer {
                    id: c.parsed()?,
                    run_id: c.parsed()?,
                    principal: c.parsed()?,
                    input: c.json()?,
                    starts_new_run: c.text()? == "start_new_run",
                    created_at: c.time()?,
                })
            })
            .collect()
    }
}
