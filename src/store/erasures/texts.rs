//! Texts of a run and of a conversation, as they are stored: read, masked, put back.

use super::{
    super::{
        cols::Cols,
        db::{Row, query},
        error::StoreError,
    },
    Erasures,
};
use crate::domain::{ConversationId, PrincipalId, RunId};

/// A row that holds texts, by its key within a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Its id, or its number.
    pub key: String,
    /// The texts, as stored.
    pub texts: Vec<Option<String>>,
}

impl Erasures<'_> {
    /// Puts `content` in the place of what a conversation holds of runs that are a person's or stand
    /// in a conversation of theirs, up to `limit` messages; how many. Flush the transaction first.
    pub async fn mask_messages(
        &mut self,
        conversation: ConversationId,
        person: PrincipalId,
        content: &str,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(
            "UPDATE messages SET content = $3 WHERE conversation_id = $1 AND seq IN (\
             SELECT m.seq FROM messages m JOIN runs r ON r.id = m.run_id \
             LEFT JOIN conversations c ON c.id = r.conversation_id \
             WHERE m.conversation_id = $1 AND m.content <> $3 \
             AND (r.principal = $2 OR c.principal = $2) ORDER BY m.seq LIMIT $4)",
        )
        .bind(conversation.to_string())
        .bind(person.to_string())
        .bind(content.to_owned())
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("mask messages"))
    }

    /// Rows of a run that hold texts, from behind a key on. `$1` is the run, `$2` the key, `$3` the
    /// most rows.
    pub async fn texts(
        &mut self,
        kind: TextsOf,
        run: RunId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Texts>, StoreError> {
        let is_number = matches!(kind, TextsOf::Events | TextsOf::Messages);
        let query = query(kind.read()).bind(run.to_string());
        let query = if is_number {
            query.bind(after.parse::<i64>().unwrap_or(0))
        } else {
            query.bind(after.to_owned())
        };
        let rows = query
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read texts of a run"))?;
        let texts = |row: &Row| {
            let mut c = Cols::new(row);
            let key = if is_number { c.raw::<i64>()?.to_string() } else { c.text()? };
            let texts = (0..kind.columns()).map(|_| c.raw()).collect::<Result<_, _>>()?;
            Ok(Texts { key, texts })
        };
        rows.iter().map(texts).collect()
    }

    /// Puts texts back in the place where they were read.
    pub async fn put_texts(
        &mut self,
        kind: TextsOf,
        run: RunId,
        row: &Texts,
    ) -> Result<(), StoreError> {
        let is_number = matches!(kind, TextsOf::Events | TextsOf::Messages);
        let mut query = query(kind.write()).bind(run.to_string());
        query = if is_number {
            query.bind(row.key.parse::<i64>().unwrap_or(0))
        } else {
            query.bind(row.key.clone())
        };
        for text in &row.texts {
            query = query.bind(text.clone());
        }
        query
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("mask texts of a run"))
    }
}

/// Which rows of a run hold texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextsOf {
    /// Its events.
    Events,
    /// Its messages, in its own conversation.
    Messages,
    /// Its tool calls: arguments and outcome.
    Calls,
    /// Its approvals.
    Approvals,
    /// The run itself: input, output, error.
    Run,
}

impl TextsOf {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Events, Self::Messages, Self::Calls, Self::Approvals, Self::Run];

    const fn columns(self) -> usize {
        match self {
            Self::Events | Self::Messages | Self::Approvals => 1,
            Self::Calls => 2,
            Self::Run => 3,
        }
    }

    const fn read(self) -> &'static str {
        match self {
            Self::Events => {
                "SELECT seq, body FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
            }
            Self::Messages => {
                "SELECT seq, content FROM messages WHERE conversation_id = \
                 (SELECT conversation_id FROM runs WHERE id = $1) AND run_id = $1 AND seq > $2 \
                 ORDER BY seq LIMIT $3"
            }
            Self::Calls => {
                "SELECT id, args, outcome FROM tool_calls WHERE run_id = $1 AND id > $2 \
                 ORDER BY id LIMIT $3"
            }
            Self::Approvals => {
                "SELECT id, body FROM approvals WHERE run_id = $1 AND id > $2 ORDER BY id LIMIT $3"
            }
            Self::Run => {
                "SELECT id, input, output, error FROM runs WHERE id = $1 AND id > $2 LIMIT $3"
            }
        }
    }

    const fn write(self) -> &'static str {
        match self {
            Self::Events => "UPDATE events SET body = $3 WHERE run_id = $1 AND seq = $2",
            Self::Messages => {
                "UPDATE messages SET content = $3 WHERE conversation_id = \
                 (SELECT conversation_id FROM runs WHERE id = $1) AND run_id = $1 AND seq = $2"
            }
            Self::Calls => {
                "UPDATE tool_calls SET args = $3, outcome = $4 WHERE run_id = $1 AND id = $2"
            }
            Self::Approvals => "UPDATE approvals SET body = $3 WHERE run_id = $1 AND id = $2",
            Self::Run => {
                "UPDATE runs SET input = $3, output = $4, error = $5 WHERE id = $1 AND id = $2"
            }
        }
    }
}
