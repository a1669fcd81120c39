//! Tool calls.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{ConversationId, PrincipalId, RunId, Timestamp, ToolCall, ToolCallId};
use serde_json::Value;

/// The arguments of a past call, and whose they are.
#[derive(Clone, Debug, PartialEq)]
pub struct PastArgs {
    /// The arguments.
    pub args: Value,
    /// Who started its run.
    pub principal: PrincipalId,
    /// The conversation of its run.
    pub conversation: ConversationId,
}

/// Access to tool calls.
#[derive(Debug)]
pub struct Calls<'c> {
    pub(super) conn: &'c mut Conn,
    /// In a transaction: calls that this job inserted and that are not written yet.
    pub(super) new: Option<&'c mut Vec<ToolCall>>,
}

impl Calls<'_> {
    /// Inserts a call; it is written when the job ends, since most are changed before.
    pub fn insert(&mut self, call: &ToolCall) {
        if let Some(new) = self.new.as_deref_mut() {
            new.push(call.clone());
        }
    }

    /// Writes the calls that were inserted.
    pub(super) async fn write_new(&mut self) -> Result<(), StoreError> {
        let new = self.new.as_deref_mut().map(std::mem::take).unwrap_or_default();
        for call in &new {
            self.write(call).await?;
        }
        Ok(())
    }

    async fn write(&mut self, call: &ToolCall) -> Result<(), StoreError> {
        query(
            "INSERT INTO tool_calls (id, run_id, step, idx, tool, args, args_hash, effect, risk, \
             state, attempts, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(call.id.to_string())
        .bind(call.run_id.to_string())
        .bind(i64::from(call.step))
        .bind(i64::from(call.index))
        .bind(call.tool.clone())
        .bind(cols::json(&call.args)?)
        .bind(call.args_hash.clone())
        .bind(call.effect.as_str())
        .bind(call.risk.as_str())
        .bind(call.state.as_str())
        .bind(i64::from(call.attempts))
        .bind(call.outcome.as_ref().map(cols::json).transpose()?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("insert a tool call"))
    }

    /// Saves what changes about a call. The caller has saved the run under its epoch.
    pub async fn save(&mut self, call: &ToolCall) -> Result<(), StoreError> {
        let mut new = self.new.iter_mut().flat_map(|new| new.iter_mut());
        if let Some(place) = new.find(|new| new.id == call.id) {
            place.clone_from(call);
            return Ok(());
        }
        query(
            "UPDATE tool_calls SET state = $1, attempts = $2, outcome = $3, risk = $4 WHERE id = $5",
        )
        .bind(call.state.as_str())
        .bind(i64::from(call.attempts))
        .bind(call.outcome.as_ref().map(cols::json).transpose()?)
        .bind(call.risk.as_str())
        .bind(call.id.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("save a tool call"))
    }

    /// The calls of one step, in order.
    pub async fn of_step(&mut self, run: RunId, step: u32) -> Result<Vec<ToolCall>, StoreError> {
        self.write_new().await?;
        let rows = query(
            "SELECT id, run_id, step, idx, tool, args, args_hash, effect, risk, state, attempts, \
             outcome FROM tool_calls WHERE run_id = $1 AND step = $2 ORDER BY idx",
        )
        .bind(run.to_string())
        .bind(i64::from(step))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read tool calls"))?;
        rows.iter().map(call).collect()
    }

    /// The arguments of an agent's calls of one tool in runs since then, newest run first, at most
    /// `limit`.
    pub async fn args_since(
        &mut self,
        agent: &str,
        tool: &str,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<PastArgs>, StoreError> {
        self.write_new().await?;
        // An id begins with its time: the ids of later runs are a range of the index.
        let millis = u64::try_from(since.as_micros() / 1_000).unwrap_or(0);
        let first = format!("{}{:08x}-{:04x}", RunId::PREFIX, millis >> 16, millis & 0xffff);
        let rows = query(
            "SELECT c.args, r.principal, r.conversation_id FROM tool_calls c JOIN runs r ON r.id = c.run_id \
             WHERE c.run_id >= $1 AND c.tool = $2 AND r.agent = $3 \
             ORDER BY c.run_id DESC LIMIT $4",
        )
        .bind(first)
        .bind(tool.to_owned())
        .bind(agent.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the arguments of tool calls"))?;
        let past = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(PastArgs { args: c.json()?, principal: c.parsed()?, conversation: c.parsed()? })
        };
        rows.iter().map(past).collect()
    }

    /// One call.
    pub async fn get(&mut self, id: ToolCallId) -> Result<Option<ToolCall>, StoreError> {
        self.write_new().await?;
        let row = query(
            "SELECT id, run_id, step, idx, tool, args, args_hash, effect, risk, state, attempts, \
             outcome FROM tool_calls WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a tool call"))?;
        row.as_ref().map(call).transpose()
    }
}

fn call(row: &Row) -> Result<ToolCall, StoreError> {
    let mut c = Cols::new(row);
    Ok(ToolCall {
        id: c.parsed()?,
        run_id: c.parsed()?,
        step: c.number()?,
        index: c.number()?,
        tool: c.text()?,
        args: c.json()?,
        args_hash: c.text()?,
        effect: c.parsed()?,
        risk: c.parsed()?,
        state: c.parsed()?,
        attempts: c.number()?,
        outcome: c.json_opt()?,
    })
}
