//! What runs and their calls may do, as it was signed, and what was taken away.
//!
//! Rows are written through [`Tx::capability`](super::Tx::capability), in bulk at the end of a
//! group, since every call makes one. A job that reads what another of its group may have written
//! flushes the transaction first.

use std::collections::HashMap;

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    definitions::with_shared,
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{
    CapabilityId, RunId, Timestamp,
    capability::{CapabilityRecord, Revocation},
};

/// Revoked ids that are remembered before the expired ones among them are dropped.
const REMEMBERED: usize = 1_024;

/// Which capabilities to list.
#[derive(Clone, Debug, Default)]
pub struct CapabilityFilter {
    /// Only those of one run.
    pub run: Option<RunId>,
    /// Only those of one agent.
    pub agent: Option<String>,
    /// Only those that can be used at this time.
    pub live_at: Option<Timestamp>,
}

/// Access to capabilities.
#[derive(Debug)]
pub struct Capabilities<'c> {
    pub(super) conn: &'c mut Conn,
    /// In a transaction: what was revoked and can still be held by a run in progress.
    pub(super) revoked: Option<&'c mut Revoked>,
}

macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT c.id, c.parent_id, c.run_id, c.call_id, c.agent, c.token, c.issued_at, \
             c.expires_at, c.revoked_at, c.revoked_by, c.revoked_for, c.reason, \
             CAST(CASE WHEN r.state IS NULL \
             OR r.state IN ('succeeded', 'failed', 'cancelled', 'expired') \
             OR (c.call_id IS NOT NULL AND COALESCE(t.state, 'done') <> 'started') \
             THEN 1 ELSE 0 END AS BIGINT), d.body ",
            $from
        )
    };
}

impl Capabilities<'_> {
    /// One capability.
    pub async fn get(&mut self, id: CapabilityId) -> Result<Option<CapabilityRecord>, StoreError> {
        const SQL: &str = select!(
            "FROM capabilities c LEFT JOIN runs r ON r.id = c.run_id \
             LEFT JOIN tool_calls t ON t.id = c.call_id \
             LEFT JOIN definitions d ON d.hash = c.definition WHERE c.id = $1"
        );
        let row = query(SQL)
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a capability"))?;
        row.as_ref().map(record).transpose()
    }

    /// What a run was given when it was last taken up.
    pub async fn of_run(&mut self, run: RunId) -> Result<Option<CapabilityRecord>, StoreError> {
        const SQL: &str = select!(
            "FROM capabilities c LEFT JOIN runs r ON r.id = c.run_id \
             LEFT JOIN tool_calls t ON t.id = c.call_id \
             LEFT JOIN definitions d ON d.hash = c.definition \
             WHERE c.run_id = $1 AND c.parent_id IS NULL ORDER BY c.id DESC LIMIT 1"
        );
        let row = query(SQL)
            .bind(run.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a run's capability"))?;
        row.as_ref().map(record).transpose()
    }

    /// Capabilities, newest first.
    pub async fn list(
        &mut self,
        filter: &CapabilityFilter,
        page: &Page,
    ) -> Result<Paged<CapabilityRecord>, StoreError> {
        // One text per leading filter, so that each page walks an index from its cursor.
        const SQL: &str = select!(
            "FROM capabilities c LEFT JOIN runs r ON r.id = c.run_id \
             LEFT JOIN tool_calls t ON t.id = c.call_id \
             LEFT JOIN definitions d ON d.hash = c.definition \
             WHERE c.id < $1 AND ($2 IS NULL OR c.run_id = $2) AND ($3 IS NULL OR c.agent = $3) \
             AND $4 IS NULL ORDER BY c.id DESC LIMIT $5"
        );
        const SQL_OF_RUN: &str = select!(
            "FROM capabilities c LEFT JOIN runs r ON r.id = c.run_id \
             LEFT JOIN tool_calls t ON t.id = c.call_id \
             LEFT JOIN definitions d ON d.hash = c.definition \
             WHERE c.run_id = $2 AND c.id < $1 AND ($3 IS NULL OR c.agent = $3) \
             AND $4 IS NULL ORDER BY c.id DESC LIMIT $5"
        );
        // Only runs that have not ended can hold a live one: they are few.
        const SQL_LIVE: &str = select!(
            "FROM runs r CROSS JOIN capabilities c \
             LEFT JOIN tool_calls t ON t.id = c.call_id \
             LEFT JOIN definitions d ON d.hash = c.definition \
             WHERE c.run_id = r.id AND r.state IN ('queued', 'running', 'awaiting_approval', 'paused', 'cancelling') \
             AND c.revoked_at IS NULL AND c.expires_at > $4 \
             AND (c.call_id IS NULL OR t.state = 'started') AND c.id < $1 \
             AND ($2 IS NULL OR c.run_id = $2) AND ($3 IS NULL OR c.agent = $3) \
             ORDER BY c.id DESC LIMIT $5"
        );
        let sql = match filter {
            CapabilityFilter { live_at: Some(_), .. } => SQL_LIVE,
            CapabilityFilter { run: Some(_), .. } => SQL_OF_RUN,
            CapabilityFilter { .. } => SQL,
        };
        let rows = query(sql)
            .bind(page.before())
            .bind(filter.run.map(|run| run.to_string()))
            .bind(filter.agent.clone())
            .bind(filter.live_at.map(Timestamp::as_micros))
            .bind(page.rows())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("list capabilities"))?;
        let items = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |record| record.id.to_string()))
    }

    /// Takes a capability away, and every one that was made out of it; those that were taken away
    /// now. What a lockdown has taken away, a person can take away for good.
    pub async fn revoke(
        &mut self,
        id: CapabilityId,
        run: RunId,
        revocation: &Revocation,
    ) -> Result<Vec<CapabilityId>, StoreError> {
        let rows = query(
            "UPDATE capabilities SET revoked_at = $1, revoked_by = $2, revoked_for = $3, \
             reason = $4 WHERE run_id = $5 AND (id = $6 OR parent_id = $6) \
             AND (revoked_at IS NULL OR (revoked_for = 'lockdown' AND $3 = 'person')) \
             RETURNING id, expires_at",
        )
        .bind(revocation.at.as_micros())
        .bind(revocation.by.clone())
        .bind(revocation.cause.as_str())
        .bind(revocation.reason.clone())
        .bind(run.to_string())
        .bind(id.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("revoke a capability"))?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut c = Cols::new(row);
            let (id, expires_at) = (c.parsed()?, c.time()?);
            ids.push(id);
            if let Some(revoked) = self.revoked.as_deref_mut() {
                revoked.add(id, expires_at, revocation.at);
            }
        }
        Ok(ids)
    }

    /// Takes away what every run that has not ended was given; how many.
    pub async fn revoke_all(&mut self, revocation: &Revocation) -> Result<u64, StoreError> {
        query(
            "UPDATE capabilities SET revoked_at = $1, revoked_by = $2, revoked_for = $3, \
             reason = $4 WHERE run_id IN (SELECT id FROM runs WHERE state IN \
             ('queued', 'running', 'awaiting_approval', 'paused', 'cancelling')) \
             AND revoked_at IS NULL AND expires_at > $1",
        )
        .bind(revocation.at.as_micros())
        .bind(revocation.by.clone())
        .bind(revocation.cause.as_str())
        .bind(revocation.reason.clone())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("revoke every capability"))
    }

    /// Ends what a run was given before: it is given another one.
    pub async fn supersede(&mut self, run: RunId, now: Timestamp) -> Result<(), StoreError> {
        query(
            "UPDATE capabilities SET expires_at = $1 \
             WHERE run_id = $2 AND expires_at > $1 AND revoked_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(run.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("end a run's capabilities"))
    }

    /// Forgets what was given before `first` and has expired by `now`, at most `limit` at a time;
    /// how many. What a run had that goes on is kept: it says whether a person took it away.
    pub async fn forget_before(
        &mut self,
        first: CapabilityId,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(
            "DELETE FROM capabilities WHERE id IN (SELECT id FROM capabilities \
             WHERE id < $1 AND expires_at <= $2 AND NOT EXISTS (SELECT 1 FROM runs \
             WHERE runs.id = run_id AND runs.state IN \
             ('queued', 'running', 'awaiting_approval', 'paused', 'cancelling')) \
             ORDER BY id LIMIT $3)",
        )
        .bind(first.to_string())
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("forget capabilities"))
    }
}

fn record(row: &Row) -> Result<CapabilityRecord, StoreError> {
    let mut c = Cols::new(row);
    let mut record = CapabilityRecord {
        id: c.parsed()?,
        parent: c.parsed_opt()?,
        run: c.parsed()?,
        call: c.parsed_opt()?,
        agent: c.text()?,
        token: c.text()?,
        issued_at: c.time()?,
        expires_at: c.time()?,
        revoked: revocation(&mut c)?,
        is_over: c.flag()?,
    };
    let shared: Option<String> = c.raw()?;
    if let Some(shared) = shared {
        record.token = with_shared(&record.token, &shared);
    }
    Ok(record)
}

fn revocation(c: &mut Cols<'_>) -> Result<Option<Revocation>, StoreError> {
    let (at, by): (Option<Timestamp>, Option<String>) = (c.time_opt()?, c.raw()?);
    let (cause, reason) = (c.parsed_opt()?, c.raw()?);
    match (at, by, cause) {
        (Some(at), Some(by), Some(cause)) => Ok(Some(Revocation { at, by, cause, reason })),
        (None, None, None) => Ok(None),
        _ => Err(StoreError::Corrupt { what: "half a revocation".to_owned() }),
    }
}

/// What was revoked while this daemon runs: asked at every call, so it is known without reading.
/// Only the writer changes it. What an older daemon revoked is read when a run is taken up; what
/// another replica has revoked, before the first group of writes behind it.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    until: HashMap<CapabilityId, Timestamp>,
    /// Of the job under way, and of the jobs of the group before it.
    job: Vec<CapabilityId>,
    group: Vec<CapabilityId>,
}

impl Revoked {
    pub(super) fn holds(&self, id: CapabilityId) -> bool {
        self.until.contains_key(&id)
    }

    /// Learns what others have revoked: what can still be used otherwise.
    pub(super) async fn load(&mut self, conn: &mut Conn, now: Timestamp) -> Result<(), StoreError> {
        let rows = query(
            "SELECT id, expires_at FROM capabilities WHERE revoked_at IS NOT NULL \
             AND expires_at > $1",
        )
        .bind(now.as_micros())
        .fetch_all(conn)
        .await
        .map_err(StoreError::unavailable("read what was revoked"))?;
        for row in &rows {
            let mut c = Cols::new(row);
            self.until.insert(c.parsed()?, c.time()?);
        }
        Ok(())
    }

    fn add(&mut self, id: CapabilityId, until: Timestamp, now: Timestamp) {
        if self.until.len() >= REMEMBERED {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.insert(id, until).is_none() {
            self.job.push(id);
        }
    }

    pub(super) fn begin_job(&mut self) {
        self.group.append(&mut self.job);
    }

    pub(super) fn abandon_job(&mut self) {
        for id in self.job.drain(..) {
            self.until.remove(&id);
        }
    }

    pub(super) fn abandon_group(&mut self) {
        for id in self.job.drain(..).chain(self.group.drain(..)) {
            self.until.remove(&id);
        }
    }

    pub(super) fn committed(&mut self) {
        self.job.clear();
        self.group.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{IdSource, ManualClock};

    fn id(n: u8) -> CapabilityId {
        static RANDOM: std::sync::Mutex<u8> = std::sync::Mutex::new(0);
        *RANDOM.lock().unwrap() = n;
        let clock = Arc::new(ManualClock::at_secs(i64::from(n)));
        CapabilityId::new(&IdSource::new(clock, |bytes| bytes.fill(7)))
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    #[test]
    fn what_was_not_committed_is_not_revoked() {
        let mut revoked = Revoked::default();
        revoked.add(id(1), at(10), at(0));
        revoked.begin_job();
        revoked.add(id(2), at(10), at(0));
        revoked.abandon_job();
        assert!(revoked.holds(id(1)) && !revoked.holds(id(2)));
        revoked.add(id(3), at(10), at(0));
        revoked.abandon_group();
        assert!(!revoked.holds(id(1)) && !revoked.holds(id(3)));
        revoked.add(id(4), at(10), at(0));
        revoked.begin_job();
        revoked.committed();
        revoked.abandon_group();
        assert!(revoked.holds(id(4)));
    }

    #[test]
    fn what_has_expired_is_forgotten_before_memory_grows() {
        let mut revoked = Revoked::default();
        let clock = Arc::new(ManualClock::at_secs(1));
        let ids = IdSource::new(Arc::clone(&clock) as Arc<dyn crate::domain::Clock>, |b| b.fill(1));
        for _ in 0..3 * REMEMBERED {
            clock.advance(std::time::Duration::from_secs(1));
            let now = crate::domain::Clock::now(&*clock);
            revoked.add(CapabilityId::new(&ids), now.plus(std::time::Duration::from_secs(5)), now);
        }
        assert!(revoked.until.len() <= REMEMBERED, "{}", revoked.until.len());
    }
}
