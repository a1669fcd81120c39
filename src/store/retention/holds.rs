//! Legal holds: what must be kept.
//!
//! Invariant: a hold on a person covers every conversation that they have part in, whosever it is.

use super::{
    super::{
        cols::Cols,
        db::{Row, query},
        error::StoreError,
    },
    Keeping,
};
use crate::domain::{ConversationId, Hold, HoldKind, PrincipalId};

impl Keeping<'_> {
    /// Every legal hold.
    pub async fn holds(&mut self) -> Result<Vec<Hold>, StoreError> {
        let rows =
            query("SELECT kind, subject, reason, at, done_by FROM holds ORDER BY kind, subject")
                .fetch_all(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("read the legal holds"))?;
        let hold = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(Hold {
                kind: c.parsed()?,
                subject: c.text()?,
                reason: c.raw()?,
                at: c.time()?,
                done_by: c.parsed()?,
            })
        };
        rows.iter().map(hold).collect()
    }

    /// Sets a hold, in the place of one that there is.
    pub async fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        query(
            "INSERT INTO holds (kind, subject, reason, at, done_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (kind, subject) DO UPDATE SET reason = excluded.reason, \
             at = excluded.at, done_by = excluded.done_by",
        )
        .bind(hold.kind.as_str())
        .bind(hold.subject.clone())
        .bind(hold.reason.clone())
        .bind(hold.at.as_micros())
        .bind(hold.done_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a legal hold"))
    }

    /// Lifts a hold; whether there was one.
    pub async fn remove_hold(&mut self, kind: HoldKind, subject: &str) -> Result<bool, StoreError> {
        query("DELETE FROM holds WHERE kind = $1 AND subject = $2")
            .bind(kind.as_str())
            .bind(subject.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(|rows| rows > 0)
            .map_err(StoreError::unavailable("lift a legal hold"))
    }

    /// Whether a conversation must be kept: it is held, or who it belongs to, or whoever worked
    /// in it.
    pub async fn is_held(&mut self, conversation: ConversationId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM holds WHERE (kind = 'conversation' AND subject = $1) \
             OR (kind = 'principal' AND (subject = (SELECT principal FROM conversations \
             WHERE id = $1) OR subject IN (SELECT principal FROM runs \
             WHERE conversation_id = $1))) LIMIT 1",
        )
        .bind(conversation.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a legal hold"))?;
        Ok(found.is_some())
    }

    /// Whether anything of a principal must be kept: they are held, or a conversation that they have
    /// part in is, or whose it is, or who has part in it too.
    pub async fn is_held_person(&mut self, principal: PrincipalId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM holds WHERE (kind = 'principal' AND (subject = $1 \
             OR EXISTS (SELECT 1 FROM conversations c JOIN runs r ON r.conversation_id = c.id \
             WHERE c.principal = $1 AND r.principal = subject) \
             OR EXISTS (SELECT 1 FROM runs own JOIN conversations c ON c.id = own.conversation_id \
             WHERE own.principal = $1 AND c.principal = subject) \
             OR EXISTS (SELECT 1 FROM runs own JOIN runs r ON r.conversation_id = own.conversation_id \
             WHERE own.principal = $1 AND r.principal = subject))) \
             OR (kind = 'conversation' AND (\
             EXISTS (SELECT 1 FROM conversations c WHERE c.id = subject AND c.principal = $1) \
             OR EXISTS (SELECT 1 FROM runs r WHERE r.conversation_id = subject \
             AND r.principal = $1))) LIMIT 1",
        )
        .bind(principal.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a legal hold"))?;
        Ok(found.is_some())
    }
}
