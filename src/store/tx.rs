//! One unit of work inside a group commit.
//!
//! Rows that are only ever appended (messages, events, audit) are gathered and written in bulk at
//! the end of the group: the same transaction, a fraction of the statements.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{
    approvals::Approvals,
    audit::Chain,
    bundles::Bundles,
    calls::Calls,
    cols,
    conversations::Conversations,
    error::StoreError,
    idempotency::IdempotencyKeys,
    runs::{RunCore, Runs},
    steers::Steers,
    steps::Steps,
};
use crate::{
    domain::{
        AuditEntry, Author, Clock, ConversationId, Event, EventBody, EventId, IdSource, Message,
        MessageId, Part, RunId, Timestamp,
    },
    runtime::Redactor,
};

/// Rows of one bulk insert; also the width of its cached statement.
const BULK: usize = 16;

/// A transaction in progress. Only the writer makes one.
pub struct Tx {
    conn: SqliteConnection,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    redactor: Redactor,
    now: Timestamp,
    pending: Pending,
    mark: Mark,
    chain: Chain,
    queued: Counter,
    /// Whether the job at work has a savepoint of its own.
    has_savepoint: bool,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("now", &self.now).finish_non_exhaustive()
    }
}

/// An event that is durable now.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The event.
    pub event: Arc<Event>,
    /// Size of its body as JSON.
    pub bytes: usize,
}

#[derive(Default)]
struct Pending {
    messages: Vec<Message>,
    events: Vec<(Arc<Event>, String)>,
    audit: Vec<(Timestamp, AuditEntry)>,
    committed: Vec<Committed>,
}

/// Where a job began, so that its rows alone can be dropped.
#[derive(Clone, Copy, Default)]
struct Mark {
    messages: usize,
    events: usize,
    audit: usize,
    queued: i64,
}

/// A counter row and what the group adds to it.
#[derive(Clone, Copy, Default)]
struct Counter {
    stored: i64,
    added: i64,
}

impl Tx {
    pub(super) fn new(
        conn: SqliteConnection,
        clock: Arc<dyn Clock>,
        ids: IdSource,
        redactor: Redactor,
        chain: Chain,
        queued: i64,
    ) -> Self {
        let now = clock.now();
        let queued = Counter { stored: queued, added: 0 };
        let (pending, mark) = (Pending::default(), Mark::default());
        let has_savepoint = false;
        Self { conn, clock, ids, redactor, now, pending, mark, chain, queued, has_savepoint }
    }

    /// The moment of this job; the same for everything that it writes.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The source of ids.
    pub const fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// Whether a text holds a registered secret.
    pub fn finds_secret(&self, text: &str) -> bool {
        self.redactor.finds_secret(text)
    }

    /// Runs.
    pub const fn runs(&mut self) -> Runs<'_> {
        Runs { conn: &mut self.conn }
    }

    /// Tool calls.
    pub const fn calls(&mut self) -> Calls<'_> {
        Calls { conn: &mut self.conn }
    }

    /// Messages that wait to be injected.
    pub const fn steers(&mut self) -> Steers<'_> {
        Steers { conn: &mut self.conn }
    }

    /// Model calls and what they used.
    pub const fn steps(&mut self) -> Steps<'_> {
        Steps { conn: &mut self.conn }
    }

    /// Questions to people.
    pub const fn approvals(&mut self) -> Approvals<'_> {
        Approvals { conn: &mut self.conn }
    }

    /// Threads.
    pub const fn conversations(&mut self) -> Conversations<'_> {
        Conversations { conn: &mut self.conn }
    }

    /// Snapshots.
    pub const fn bundles(&mut self) -> Bundles<'_> {
        Bundles { conn: &mut self.conn }
    }

    /// Answers that a repeated request gets again.
    pub const fn idempotency(&mut self) -> IdempotencyKeys<'_> {
        IdempotencyKeys { conn: &mut self.conn }
    }

    /// Appends an event to a run; the run must be saved in the same job.
    pub fn event(&mut self, run: &mut RunCore, body: EventBody) -> Result<(), StoreError> {
        run.seq += 1;
        let json = cols::json(&body)?;
        let (body, json) = if self.redactor.finds_secret(&json) {
            // A backstop: the callers redact what they let in. The live copy must match the row.
            let clean = self.redactor.redact(&json).into_owned();
            let body = serde_json::from_str(&clean)
                .map_err(|e| StoreError::Corrupt { what: format!("a redacted event: {e}") })?;
            (body, clean)
        } else {
            (body, json)
        };
        let event = Event {
            body,
            run_id: run.id,
            conversation_id: run.conversation_id,
            seq: run.seq,
            at: self.now,
            epoch: run.epoch,
        };
        self.pending.events.push((Arc::new(event), json));
        Ok(())
    }

    /// Appends a message; `seq` comes from the conversation's row, which the caller saves.
    pub fn message(
        &mut self,
        conversation_id: ConversationId,
        seq: u64,
        run_id: RunId,
        role: Author,
        content: Vec<Part>,
    ) -> Message {
        let id = MessageId::new(&self.ids);
        let message = Message { id, conversation_id, seq, run_id, role, content, at: self.now };
        self.pending.messages.push(message.clone());
        message
    }

    /// Records something in the audit trail.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.pending.audit.push((self.now, entry));
    }

    /// Runs that wait in the queue, this group included.
    pub fn queued(&self) -> u64 {
        u64::try_from(self.queued.stored + self.queued.added).unwrap_or(0)
    }

    /// A run joined the queue.
    pub const fn joined_queue(&mut self) {
        self.queued.added += 1;
    }

    /// A run left the queue.
    pub const fn left_queue(&mut self) {
        self.queued.added -= 1;
    }

    pub(super) const fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    pub(super) async fn execute(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::query(sql)
            .execute(&mut self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("write to the store"))
    }

    pub(super) fn begin_job(&mut self, has_savepoint: bool) {
        self.has_savepoint = has_savepoint;
        self.now = self.clock.now();
        self.mark = Mark {
            messages: self.pending.messages.len(),
            events: self.pending.events.len(),
            audit: self.pending.audit.len(),
            queued: self.queued.added,
        };
    }

    pub(super) fn abandon_job(&mut self) {
        self.pending.messages.truncate(self.mark.messages);
        self.pending.events.truncate(self.mark.events);
        self.pending.audit.truncate(self.mark.audit);
        self.queued.added = self.mark.queued;
    }

    pub(super) fn abandon_group(&mut self) {
        self.pending = Pending::default();
        self.queued.added = 0;
        self.chain.abandon();
    }

    /// What became durable, for the live feed. Call once after the commit.
    pub(super) fn committed(&mut self) -> Vec<Committed> {
        self.queued = Counter { stored: self.queued.stored + self.queued.added, added: 0 };
        self.chain.keep();
        std::mem::take(&mut self.pending.committed)
    }

    /// Writes the rows that earlier jobs of the group gathered. A job that reads messages in SQL
    /// calls it before it writes anything: the rows must stand even when the job then fails, so
    /// its savepoint begins anew behind them.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.has_savepoint {
            self.execute("RELEASE job").await?;
        }
        self.write_gathered().await?;
        if self.has_savepoint {
            self.execute("SAVEPOINT job").await?;
        }
        Ok(())
    }

    pub(super) async fn write_gathered(&mut self) -> Result<(), StoreError> {
        self.flush_messages().await?;
        self.flush_events().await?;
        self.flush_audit().await?;
        if self.queued.added != 0 {
            sqlx::query("UPDATE counters SET value = $1 WHERE name = 'queued'")
                .bind(self.queued.stored + self.queued.added)
                .execute(&mut self.conn)
                .await
                .map_err(StoreError::unavailable("count the queue"))?;
        }
        self.mark = Mark { queued: self.queued.added, ..Mark::default() };
        Ok(())
    }

    async fn flush_messages(&mut self) -> Result<(), StoreError> {
        const INSERT: &str =
            "INSERT INTO messages (conversation_id, seq, id, run_id, role, content, at) VALUES ";
        let rows = std::mem::take(&mut self.pending.messages);
        bulk(&mut self.conn, INSERT, 7, &rows, |query, m| {
            Ok(query
                .bind(m.conversation_id.to_string())
                .bind(cols::int(m.seq))
                .bind(m.id.to_string())
                .bind(m.run_id.to_string())
                .bind(m.role.as_str())
                .bind(cols::json(&m.content)?)
                .bind(m.at.as_micros()))
        })
        .await
    }

    async fn flush_events(&mut self) -> Result<(), StoreError> {
        const INSERT: &str =
            "INSERT INTO events (run_id, seq, conversation_id, epoch, at, body) VALUES ";
        let rows = std::mem::take(&mut self.pending.events);
        bulk(&mut self.conn, INSERT, 6, &rows, |query, (event, body)| {
            Ok(query
                .bind(event.run_id.to_string())
                .bind(cols::int(event.seq))
                .bind(event.conversation_id.to_string())
                .bind(cols::int(event.epoch))
                .bind(event.at.as_micros())
                .bind(body.clone()))
        })
        .await?;
        self.pending
            .committed
            .extend(rows.into_iter().map(|(event, body)| Committed { event, bytes: body.len() }));
        Ok(())
    }

    async fn flush_audit(&mut self) -> Result<(), StoreError> {
        const INSERT: &str = "INSERT INTO audit (n, id, at, kind, actor, surface, run_id, \
            request_id, data, prev_hash, hash) VALUES ";
        let mut rows = Vec::with_capacity(self.pending.audit.len());
        for (at, entry) in std::mem::take(&mut self.pending.audit) {
            let id = EventId::new(&self.ids);
            rows.push(self.chain.append(id, at, entry, &self.redactor)?);
        }
        bulk(&mut self.conn, INSERT, 11, &rows, |query, (row, data)| {
            Ok(query
                .bind(cols::int(row.n))
                .bind(row.id.to_string())
                .bind(row.at.as_micros())
                .bind(row.kind.clone())
                .bind(row.actor.clone())
                .bind(row.surface.clone())
                .bind(row.run_id.map(|id| id.to_string()))
                .bind(row.request_id.clone())
                .bind(data.clone())
                .bind(row.prev_hash.clone())
                .bind(row.hash.clone()))
        })
        .await
    }
}

type Bound<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// Inserts rows, [`BULK`] to a statement and the rest one by one, so that both statements stay in
/// the connection's cache.
async fn bulk<R: Sync>(
    conn: &mut SqliteConnection,
    insert: &str,
    columns: usize,
    rows: &[R],
    mut bind: impl for<'q> FnMut(Bound<'q>, &R) -> Result<Bound<'q>, StoreError> + Send,
) -> Result<(), StoreError> {
    let mut chunks = rows.chunks_exact(BULK);
    for chunk in &mut chunks {
        insert_rows(conn, insert, columns, chunk, &mut bind).await?;
    }
    for row in chunks.remainder() {
        insert_rows(conn, insert, columns, std::slice::from_ref(row), &mut bind).await?;
    }
    Ok(())
}

async fn insert_rows<R: Sync>(
    conn: &mut SqliteConnection,
    insert: &str,
    columns: usize,
    rows: &[R],
    bind: &mut (impl for<'q> FnMut(Bound<'q>, &R) -> Result<Bound<'q>, StoreError> + Send),
) -> Result<(), StoreError> {
    let tuple = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|c| format!("${}", row * columns + c)).collect();
        format!("({})", places.join(", "))
    };
    let tuples: Vec<String> = (0..rows.len()).map(tuple).collect();
    // Only our own constant text and place holders: every value is bound.
    let sql = AssertSqlSafe(format!("{insert}{}", tuples.join(", ")));
    let mut query = sqlx::query(sql);
    for row in rows {
        query = bind(query, row)?;
    }
    query.execute(conn).await.map(drop).map_err(StoreError::unavailable("append to the store"))
}
