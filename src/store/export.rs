//! What is stored about a person, page by page, for them to have.
//!
//! Invariants: each page is bounded and begins behind a key; a kind names the person's rows by the
//! person alone, so that nobody else's rows come along.

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::PrincipalId;
use serde_json::{Map, Value};

/// What is exported, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exportable {
    /// Who they are.
    Principal,
    /// Their tokens: never the text.
    Tokens,
    /// Their accounts.
    Links,
    /// Their conversations.
    Conversations,
    /// What was said in these.
    Messages,
    /// Their runs.
    Runs,
    /// Model calls of these.
    Steps,
    /// Tool calls of these.
    Calls,
    /// What a person was asked in these.
    Approvals,
    /// What happened in these.
    Events,
    /// What they used.
    Usage,
}

/// How a column is shown.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Text,
    Json,
    Int,
    Time,
}

use Shown::{Int, Json, Text, Time};

const PRINCIPAL: &[(&str, Shown)] = &[
    ("id", Text),
    ("name", Text),
    ("role", Text),
    ("scopes", Json),
    ("disabled_at", Time),
    ("created_at", Time),
];
const USAGE: &[(&str, Shown)] = &[
    ("day", Int),
    ("agent", Text),
    ("model", Text),
    ("runs", Int),
    ("calls", Int),
    ("input_tokens", Int),
    ("output_tokens", Int),
    ("cost_nanos", Int),
];

/// The key of a row: a text and a number.
pub type ExportKey = (String, i64);

impl Exportable {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Principal,
        Self::Tokens,
        Self::Links,
        Self::Conversations,
        Self::Messages,
        Self::Runs,
        Self::Steps,
        Self::Calls,
        Self::Approvals,
        Self::Events,
        Self::Usage,
    ];

    /// The name of its file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Tokens => "tokens",
            Self::Links => "links",
            Self::Conversations => "conversations",
            Self::Messages => "messages",
            Self::Runs => "runs",
            Self::Steps => "steps",
            Self::Calls => "tool_calls",
            Self::Approvals => "approvals",
            Self::Events => "events",
            Self::Usage => "usage",
        }
    }

    /// `$1` is the person, `$2` and `$3` the key behind which the page begins, `$4` the most rows.
    /// The first two columns are the key.
    const fn sql(self) -> &'static str {
        match self {
            Self::Principal => {
                "SELECT id, CAST(0 AS BIGINT), id, name, role, scopes, disabled_at, created_at FROM principals \
                 WHERE id = $1 AND id > $2 AND $3 <= 0 LIMIT $4"
            }
            Self::Tokens => {
                "SELECT id, CAST(0 AS BIGINT), id, label, role, scopes, created_at, expires_at, last_used_at, \
                 revoked_at FROM tokens WHERE principal = $1 AND id > $2 AND $3 <= 0 \
                 ORDER BY id LIMIT $4"
            }
            Self::Links => {
                "SELECT id, CAST(0 AS BIGINT), id, platform, account, display, role, created_at, last_seen_at, \
                 revoked_at FROM links WHERE principal = $1 AND id > $2 AND $3 <= 0 \
                 ORDER BY id LIMIT $4"
            }
            Self::Conversations => {
                "SELECT id, CAST(0 AS BIGINT), id, title, created_at, deleted_at FROM conversations \
                 WHERE principal = $1 AND id > $2 AND $3 <= 0 ORDER BY id LIMIT $4"
            }
            Self::Messages => {
                "SELECT m.conversation_id, m.seq, m.conversation_id, m.seq, m.id, m.run_id, m.role, \
                 m.content, m.at FROM messages m JOIN conversations c ON c.id = m.conversation_id \
                 WHERE c.principal = $1 AND (m.conversation_id, m.seq) > ($2, $3) \
                 ORDER BY m.conversation_id, m.seq LIMIT $4"
            }
            Self::Runs => {
                "SELECT id, CAST(0 AS BIGINT), id, conversation_id, agent, state, input, output, error, metadata, \
                 created_at, started_at, ended_at FROM runs WHERE principal = $1 AND id > $2 \
                 AND $3 <= 0 ORDER BY id LIMIT $4"
            }
            Self::Steps => {
                "SELECT s.run_id, s.n, s.run_id, s.n, s.model, s.input_tokens, s.output_tokens, \
                 s.cost_nanos, s.at FROM runs r JOIN steps s ON s.run_id = r.id \
                 WHERE r.principal = $1 AND (s.run_id, s.n) > ($2, $3) \
                 ORDER BY s.run_id, s.n LIMIT $4"
            }
            Self::Calls => {
                "SELECT c.run_id, c.step * 1000 + c.idx, c.id, c.run_id, c.step, c.tool, c.args, \
                 c.state, c.outcome FROM runs r JOIN tool_calls c ON c.run_id = r.id \
                 WHERE r.principal = $1 AND (c.run_id, c.step * 1000 + c.idx) > ($2, $3) \
                 AND c.run_id >= $2 ORDER BY c.run_id, c.step * 1000 + c.idx LIMIT $4"
            }
            Self::Approvals => {
                "SELECT a.id, CAST(0 AS BIGINT), a.id, a.run_id, a.state, a.body, a.created_at FROM runs r \
                 JOIN approvals a ON a.run_id = r.id WHERE r.principal = $1 AND a.id > $2 \
                 AND $3 <= 0 ORDER BY a.id LIMIT $4"
            }
            Self::Events => {
                "SELECT e.run_id, e.seq, e.run_id, e.seq, e.body, e.at FROM runs r \
                 JOIN events e ON e.run_id = r.id WHERE r.principal = $1 \
                 AND (e.run_id, e.seq) > ($2, $3) AND r.id >= $2 \
                 ORDER BY e.run_id, e.seq LIMIT $4"
            }
            Self::Usage => {
                "SELECT agent || ' ' || model, day, day, agent, model, runs, calls, input_tokens, \
                 output_tokens, cost_nanos FROM usage WHERE principal = $1 \
                 AND (day, agent || ' ' || model) > ($3, $2) \
                 ORDER BY day, agent || ' ' || model LIMIT $4"
            }
        }
    }

    const fn columns(self) -> &'static [(&'static str, Shown)] {
        match self {
            Self::Principal => PRINCIPAL,
            Self::Tokens => &[
                ("id", Text),
                ("label", Text),
                ("role", Text),
                ("scopes", Json),
                ("created_at", Time),
                ("expires_at", Time),
                ("last_used_at", Time),
                ("revoked_at", Time),
            ],
            Self::Links => &[
                ("id", Text),
                ("platform", Text),
                ("account", Text),
                ("display", Text),
                ("role", Text),
                ("created_at", Time),
                ("last_seen_at", Time),
                ("revoked_at", Time),
            ],
            Self::Conversations => {
                &[("id", Text), ("title", Text), ("created_at", Time), ("deleted_at", Time)]
            }
            Self::Messages => &[
                ("conversation_id", Text),
                ("seq", Int),
                ("id", Text),
                ("run_id", Text),
                ("role", Text),
                ("content", Json),
                ("at", Time),
            ],
            Self::Runs => &[
                ("id", Text),
                ("conversation_id", Text),
                ("agent", Text),
                ("state", Text),
                ("input", Json),
                ("output", Text),
                ("error", Json),
                ("metadata", Json),
                ("created_at", Time),
                ("started_at", Time),
                ("ended_at", Time),
            ],
            Self::Steps => &[
                ("run_id", Text),
                ("n", Int),
                ("model", Text),
                ("input_tokens", Int),
                ("output_tokens", Int),
                ("cost_nanos", Int),
                ("at", Time),
            ],
            Self::Calls => &[
                ("id", Text),
                ("run_id", Text),
                ("step", Int),
                ("tool", Text),
                ("args", Json),
                ("state", Text),
                ("outcome", Json),
            ],
            Self::Approvals => &[
                ("id", Text),
                ("run_id", Text),
                ("state", Text),
                ("approval", Json),
                ("created_at", Time),
            ],
            Self::Events => &[("run_id", Text), ("seq", Int), ("event", Json), ("at", Time)],
            Self::Usage => USAGE,
        }
    }
}

/// Access to what is exported.
#[derive(Debug)]
pub struct Exports<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Exports<'_> {
    /// Rows of a kind behind a key, with their keys.
    pub async fn page(
        &mut self,
        kind: Exportable,
        person: PrincipalId,
        after: &ExportKey,
        limit: u32,
    ) -> Result<Vec<(ExportKey, Value)>, StoreError> {
        let rows = query(kind.sql())
            .bind(person.to_string())
            .bind(after.0.clone())
            .bind(after.1)
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read what is stored about a person"))?;
        rows.iter().map(|row| shown(kind, row)).collect()
    }
}

fn shown(kind: Exportable, row: &Row) -> Result<(ExportKey, Value), StoreError> {
    let mut c = Cols::new(row);
    let key = (c.text()?, c.raw()?);
    let mut out = Map::new();
    for (name, shown) in kind.columns() {
        let value = match shown {
            Text => c.raw::<Option<String>>()?.map(Value::from),
            Int => c.raw::<Option<i64>>()?.map(Value::from),
            Json => c.raw::<Option<String>>()?.map(|text| {
                // Where it is no JSON the text itself is what is stored.
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }),
            Time => c.time_opt()?.map(|at| Value::String(at.to_string())),
        };
        out.insert((*name).to_owned(), value.unwrap_or(Value::Null));
    }
    Ok((key, Value::Object(out)))
}
