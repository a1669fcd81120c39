//! Threads, and the messages in them.

use super::{
    cols::{self, Cols},
    db::{Conn, Lock, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{
    Author, BundleId, ConversationId, Message, PrincipalId, RunId, Timestamp, run::UnknownName,
};

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Id.
    pub id: ConversationId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// The owner's label.
    pub title: Option<String>,
    /// Number of its last message.
    pub last_seq: u64,
    /// The one run that may work in it now.
    pub active_run_id: Option<RunId>,
    /// Runs that wait behind it.
    pub waiting: u64,
    /// The bundle that a continuation starts from.
    pub head_bundle_id: Option<BundleId>,
    /// The bundle that it was forked from.
    pub forked_from: Option<BundleId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Conversation {
    /// A new, empty thread.
    pub const fn new(id: ConversationId, principal: PrincipalId, at: Timestamp) -> Self {
        Self {
            id,
            principal,
            title: None,
            last_seq: 0,
            active_run_id: None,
            waiting: 0,
            head_bundle_id: None,
            forked_from: None,
            created_at: at,
            deleted_at: None,
        }
    }
}

/// Access to threads.
#[derive(Debug)]
pub struct Conversations<'c> {
    pub(super) conn: &'c mut Conn,
    /// In a transaction: what is read may be changed.
    pub(super) changes: bool,
}

macro_rules! columns {
    () => {
        "id, principal, title, last_seq, active_run_id, waiting, head_bundle_id, forked_from, \
         created_at, deleted_at"
    };
}

impl Conversations<'_> {
    /// Stores a thread, new or changed. The number of its last message is the transaction's to
    /// change once it exists.
    pub async fn put(&mut self, c: &Conversation) -> Result<(), StoreError> {
        const SQL: &str = concat!(
            "INSERT INTO conversations (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET \
             title = excluded.title, active_run_id = excluded.active_run_id, waiting = excluded.waiting, \
             head_bundle_id = excluded.head_bundle_id, deleted_at = excluded.deleted_at"
        );
        query(SQL)
            .bind(c.id.to_string())
            .bind(c.principal.to_string())
            .bind(c.title.clone())
            .bind(cols::int(c.last_seq))
            .bind(c.active_run_id.map(|id| id.to_string()))
            .bind(cols::int(c.waiting))
            .bind(c.head_bundle_id.map(|id| id.to_string()))
            .bind(c.forked_from.map(|id| id.to_string()))
            .bind(c.created_at.as_micros())
            .bind(c.deleted_at.map(Timestamp::as_micros))
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("store a conversation"))
    }

    /// Takes a thread from the run that has it, which leaves `head`, if it has one. `false`:
    /// nothing was done, because the run does not have it or others wait for it.
    pub async fn release(
        &mut self,
        id: ConversationId,
        from: RunId,
        head: Option<BundleId>,
    ) -> Result<bool, StoreError> {
        query(
            "UPDATE conversations SET active_run_id = NULL, \
             head_bundle_id = COALESCE($1, head_bundle_id) \
             WHERE id = $2 AND active_run_id = $3 AND waiting = 0",
        )
        .bind(head.map(|id| id.to_string()))
        .bind(id.to_string())
        .bind(from.to_string())
        .execute(&mut *self.conn)
        .await
        .map(|done| done == 1)
        .map_err(StoreError::unavailable("release a conversation"))
    }

    /// The number of a thread's last message, as its row says.
    pub(super) async fn last_seq(&mut self, id: ConversationId) -> Result<u64, StoreError> {
        let last: Option<i64> = query("SELECT last_seq FROM conversations WHERE id = $1")
            .bind(id.to_string())
            .lock(Lock::when(self.changes))
            .number(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("number a message"))?;
        last.and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| StoreError::Missing { what: id.to_string() })
    }

    /// One thread; deleted ones too.
    pub async fn get(&mut self, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
        const SQL: &str = concat!("SELECT ", columns!(), " FROM conversations WHERE id = $1");
        let row = query(SQL)
            .bind(id.to_string())
            .lock(Lock::when(self.changes))
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a conversation"))?;
        row.as_ref().map(conversation).transpose()
    }

    /// Threads that are not deleted, newest first; of one principal where it is given.
    pub async fn list(
        &mut self,
        principal: Option<PrincipalId>,
        page: &Page,
    ) -> Result<Paged<Conversation>, StoreError> {
        const OF_PRINCIPAL: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM conversations WHERE principal = $2 AND id < $1 AND deleted_at IS NULL \
             ORDER BY id DESC LIMIT $3"
        );
        const ALL: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM conversations WHERE id < $1 AND ($2 IS NULL OR principal = $2) \
             AND deleted_at IS NULL ORDER BY id DESC LIMIT $3"
        );
        let rows = query(if principal.is_some() { OF_PRINCIPAL } else { ALL })
            .bind(page.before())
            .bind(principal.map(|p| p.to_string()))
            .bind(page.rows())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("list conversations"))?;
        let items = rows.iter().map(conversation).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |c| c.id.to_string()))
    }

    /// Messages after number `after`, oldest first.
    pub async fn messages(
        &mut self,
        id: ConversationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = query(
            "SELECT conversation_id, seq, id, run_id, role, content, at FROM messages \
             WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(id.to_string())
        .bind(cols::int(after))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read messages"))?;
        rows.iter().map(message).collect()
    }

    /// The last `limit` messages, oldest first: what a model is shown.
    pub async fn last_messages(
        &mut self,
        id: ConversationId,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = query(
            "SELECT conversation_id, seq, id, run_id, role, content, at FROM messages \
             WHERE conversation_id = $1 ORDER BY seq DESC LIMIT $2",
        )
        .bind(id.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read messages"))?;
        rows.iter().rev().map(message).collect()
    }

    /// Whether a run whose messages stand in the thread has read untrusted content, or is somebody
    /// else's than `principal`'s; also one of the thread that this one was forked from.
    pub async fn is_tainted(
        &mut self,
        id: ConversationId,
        principal: PrincipalId,
    ) -> Result<bool, StoreError> {
        let found: Option<i64> = query(
            "SELECT CAST(1 AS BIGINT) FROM runs WHERE (tainted = 1 OR principal <> $2) AND id IN \
             (SELECT DISTINCT run_id FROM messages WHERE conversation_id = $1) LIMIT 1",
        )
        .bind(id.to_string())
        .bind(principal.to_string())
        .number(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for untrusted content"))?;
        Ok(found.is_some())
    }

    /// Copies the messages up to number `to` into another thread. Flush the transaction first.
    pub async fn copy_messages(
        &mut self,
        from: ConversationId,
        to_seq: u64,
        into: ConversationId,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO messages (conversation_id, seq, id, run_id, role, content, at) \
             SELECT $1, seq, id, run_id, role, content, at FROM messages \
             WHERE conversation_id = $2 AND seq <= $3",
        )
        .bind(into.to_string())
        .bind(from.to_string())
        .bind(cols::int(to_seq))
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("copy messages"))
    }

    /// Removes the messages of a deleted thread.
    pub async fn delete_messages(&mut self, id: ConversationId) -> Result<(), StoreError> {
        query("DELETE FROM messages WHERE conversation_id = $1")
            .bind(id.to_string())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("delete messages"))
    }
}

fn conversation(row: &Row) -> Result<Conversation, StoreError> {
    let mut c = Cols::new(row);
    Ok(Conversation {
        id: c.parsed()?,
        principal: c.parsed()?,
        title: c.raw()?,
        last_seq: c.number()?,
        active_run_id: c.parsed_opt()?,
        waiting: c.number()?,
        head_bundle_id: c.parsed_opt()?,
        forked_from: c.parsed_opt()?,
        created_at: c.time()?,
        deleted_at: c.time_opt()?,
    })
}

fn message(row: &Row) -> Result<Message, StoreError> {
    let mut c = Cols::new(row);
    Ok(Message {
        conversation_id: c.parsed()?,
        seq: c.number()?,
        id: c.parsed()?,
        run_id: c.parsed()?,
        role: c.parsed::<AuthorName>()?.0,
        content: c.json()?,
        at: c.time()?,
    })
}

struct AuthorName(Author);

impl std::str::FromStr for AuthorName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Author::User, Author::Assistant, Author::Tool]
            .into_iter()
            .find(|a| a.as_str() == text)
            .map(Self)
            .ok_or(UnknownName { what: "author" })
    }
}
