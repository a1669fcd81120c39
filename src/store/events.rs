//! Reading the event log. Events are written through [`Tx::event`](super::Tx::event).

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{Event, RunId};

/// Access to events.
#[derive(Debug)]
pub struct Events<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Events<'_> {
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
