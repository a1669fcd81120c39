//! Reading the event log. Events are written through [`Tx::event`](super::Tx::event).

use super::{
    cols::{self, Cols},
    db::{Conn, built, query},
    error::StoreError,
};
use crate::domain::{Event, RunId};

/// Access to events.
#[derive(Debug)]
pub struct Events<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Events<'_> {
    /// The numbers of the last events of these runs; a few at a time. One that has none is left out.
    pub async fn ends(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, u64)>, StoreError> {
        let places: Vec<String> = (1..=runs.len()).map(|n| format!("${n}")).collect();
        // The run's own row has the number: no event needs to be looked at.
        let text = format!("SELECT id, seq FROM runs WHERE id IN ({})", places.join(", "));
        let query = runs.iter().fold(built(text), |query, run| query.bind(run.to_string()));
        let rows = query
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for new events"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                Ok((c.parsed()?, c.number()?))
            })
            .collect()
    }

    /// Events of a run after number `after`, in order.
    pub async fn of_run(
        &mut self,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = query(
            "SELECT run_id, seq, conversation_id, epoch, at, body FROM events \
             WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(run.to_string())
        .bind(cols::int(after))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read events"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                let run_id = c.parsed()?;
                let seq = c.number()?;
                let conversation_id = c.parsed()?;
                let epoch = c.number()?;
                let at = c.time()?;
                Ok(Event { body: c.json()?, run_id, conversation_id, seq, at, epoch })
            })
            .collect()
    }
}
