//! What policy decided about each call. Rows are written through
//! [`Tx::decision`](super::Tx::decision), in bulk at the end of a group, since every call makes one.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{PolicyDecision, ToolCallId};

/// Access to decisions.
#[derive(Debug)]
pub struct Decisions<'c> {
    pub(super) conn: &'c mut Conn,
}

/// A place in the order of decisions: by the time of the call, then by that of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionKey {
    /// The call.
    pub call_id: ToolCallId,
    /// Number of the run's last event before the decision.
    pub n: u64,
}

impl Decisions<'_> {
    /// The decisions about one call, oldest first; only the newest `limit`.
    pub async fn of_call(
        &mut self,
        call: ToolCallId,
        limit: u32,
    ) -> Result<Vec<PolicyDecision>, StoreError> {
        let rows = query(
            "SELECT call_id, n, run_id, at, agent, policy_version, verdict, rule, layer, question, \
             body FROM decisions LEFT JOIN definitions ON hash = definition \
             WHERE call_id = $1 ORDER BY n DESC LIMIT $2",
        )
        .bind(call.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the decisions about a call"))?;
        rows.iter().rev().map(decision).collect()
    }

    /// Decisions after a place, in order.
    pub async fn after(
        &mut self,
        key: DecisionKey,
        limit: u32,
    ) -> Result<Vec<PolicyDecision>, StoreError> {
        let rows = query(
            "SELECT call_id, n, run_id, at, agent, policy_version, verdict, rule, layer, question, \
             body FROM decisions LEFT JOIN definitions ON hash = definition WHERE (call_id, n) > ($1, $2) ORDER BY call_id, n LIMIT $3",
        )
        .bind(key.call_id.to_string())
        .bind(cols::int(key.n))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read decisions"))?;
        rows.iter().map(decision).collect()
    }

    /// How many decisions come after a place, counted up to `most`.
    pub async fn count_after(&mut self, key: DecisionKey, most: u64) -> Result<u64, StoreError> {
        let count: i64 = query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM decisions WHERE (call_id, n) > ($1, $2) \
             LIMIT $3) AS behind",
        )
        .bind(key.call_id.to_string())
        .bind(cols::int(key.n))
        .bind(cols::int(most))
        .one_number(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("count decisions"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Forgets decisions about calls that are older than `first`, at most `limit` at a time; how
    /// many.
    pub async fn forget_before(
        &mut self,
        first: ToolCallId,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(
            "DELETE FROM decisions WHERE (call_id, n) IN \
             (SELECT call_id, n FROM decisions WHERE call_id < $1 ORDER BY call_id, n LIMIT $2)",
        )
        .bind(first.to_string())
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("forget decisions"))
    }
}

fn decision(row: &Row) -> Result<PolicyDecision, StoreError> {
    let mut c = Cols::new(row);
    Ok(PolicyDecision {
        call_id: c.parsed()?,
        n: c.number()?,
        run_id: c.parsed()?,
        at: c.time()?,
        agent: c.parsed()?,
        policy_version: c.parsed()?,
        verdict: c.parsed()?,
        rule: c.text()?,
        layer: c.text()?,
        question: c.text()?,
        definition: c.raw::<Option<String>>()?.unwrap_or_default(),
    })
}
