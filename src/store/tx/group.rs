//! How a group of jobs begins and ends, on either database.
//!
//! Invariants: after [`Tx::begin`] the transaction is open; after [`Tx::commit`] either everything
//! of the group is durable, or nothing of it is. Where the answer of a commit was lost with the
//! connection, [`Tx::settle`] asks the database which of the two it is. What is remembered of rows
//! lives no longer than the group where others may write, and as long as the process where nobody
//! else does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    super::{
        audit::Chain,
        backend::{Durability, Postgres, Session, postgres, sqlite},
        beside::database_now,
        cols,
        db::{Conn, Hold, query},
        error::StoreError,
        known::Known,
    },
    Committed, Counter, Pending, Savepoint, Tx,
};
use crate::{
    domain::Timestamp,
    runtime::failpoint::{Point, reach},
};

/// Begins the first job of a group, so that it can be undone alone.
pub(super) const FIRST_JOB: &str = "SAVEPOINT job";
/// Keeps the job before and begins the next.
pub(super) const NEXT_JOB: &str = "RELEASE SAVEPOINT job; SAVEPOINT job";
/// Undoes a job. Its savepoint stays: the next job goes on from it.
pub(super) const UNDO_JOB: &str = "ROLLBACK TO SAVEPOINT job";

/// How long a connection that may be dead is asked whether it lives.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// The group under way, and what outlives it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else about the group")]
pub(in crate::store) struct Group {
    /// Whose groups they are: another replica's once this daemon has joined again.
    boot_epoch: Arc<AtomicU64>,
    /// Where to connect again; none for a file.
    server: Option<Postgres>,
    /// The connection as the server knows it.
    session: Option<Session>,
    /// What the last commit on SQLite promised.
    promised: Option<Durability>,
    /// How many were begun.
    number: u64,
    /// Whose group it is.
    owner: u64,
    is_alone: bool,
    /// The commit was sent and not answered yet.
    is_committing: bool,
    /// An fsync of the log has failed, and what it was about is not in the database yet.
    pub(super) has_forgotten: bool,
    /// The newest generation that a group has seen.
    generation: u64,
    /// Rows of other jobs could not be written: the group cannot be committed without them.
    pub(super) is_broken: bool,
    /// The connection stopped in the middle of something.
    is_lost: bool,
    /// The end of the trail is ours until the commit.
    pub(super) holds_trail: bool,
}

impl Group {
    pub(in crate::store) fn new(
        boot_epoch: Arc<AtomicU64>,
        server: Option<(Postgres, Session)>,
    ) -> Self {
        let (server, session) = server.unzip();
        Self {
            boot_epoch,
            server,
            session,
            promised: None,
            number: 0,
            owner: 0,
            is_alone: false,
            is_committing: false,
            has_forgotten: false,
            generation: 0,
            is_broken: false,
            is_lost: false,
            holds_trail: false,
        }
    }
}

impl Tx {
    /// The replica that this group is written by.
    pub(super) fn own_epoch(&self) -> u64 {
        self.group.owner
    }

    /// The database's time, by which leases are measured.
    pub async fn database_now(&mut self) -> Result<Timestamp, StoreError> {
        database_now(&mut self.conn, &*self.clock).await
    }

    /// Runs a text without values.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), StoreError> {
        let done = if self.conn.is_shared() {
            self.conn.run(text.to_owned()).await.map(drop)
        } else {
            query(text).execute(&mut self.conn).await.map(drop)
        };
        done.map_err(StoreError::unavailable("write to the store"))
    }

    /// Opens the transaction of a group. One that `is_alone` runs while no other replica writes.
    pub(in crate::store) async fn begin(
        &mut self,
        promise: Durability,
        is_alone: bool,
    ) -> Result<(), StoreError> {
        let group = &mut self.group;
        group.is_alone = is_alone;
        group.number += 1;
        group.owner = group.boot_epoch.load(Ordering::Acquire);
        if !self.conn.is_shared() {
            if group.has_forgotten {
                self.remember().await?;
            }
            let group = &self.group;
            let changed = (group.promised != Some(promise)).then_some(promise);
            self.script(sqlite::begin(changed)).await?;
            self.group.promised = Some(promise);
            return Ok(());
        }
        let texts = postgres::begin(promise, is_alone, group.owner);
        let rows = self.conn.run(texts).await;
        let rows = rows.map_err(StoreError::unavailable("begin to write"))?;
        let number = |place| rows.last().and_then(|row| row.column::<i64>(place).ok());
        let (Some(generation), Some(queued), Some(lives)) = (number(0), number(1), number(2))
        else {
            return Err(StoreError::Corrupt { what: "the counters".to_owned() });
        };
        if lives == 0 {
            return Err(StoreError::Fenced);
        }
        self.queued = Counter { stored: queued, added: 0 };
        let generation = u64::try_from(generation).unwrap_or(0);
        if generation != self.group.generation {
            // Somebody may have revoked something, here or elsewhere.
            self.revoked.load(&mut self.conn, self.clock.now()).await?;
            self.group.generation = generation;
        }
        Ok(())
    }

    /// Writes what was gathered and commits; what became durable, for the live feed.
    pub(in crate::store) async fn commit(&mut self) -> Result<Vec<Committed>, StoreError> {
        if self.group.is_broken {
            return Err(StoreError::Unavailable { doing: "write a group's rows", source: None });
        }
        self.write_gathered().await?;
        self.write_trail().await?;
        let added = self.queued.added;
        if self.conn.is_shared() {
            self.waiting.write(&mut self.conn).await?;
            let group = &mut self.group;
            let texts = postgres::commit(group.owner, group.number, added, group.is_alone);
            group.is_committing = true;
            let done = self.conn.run(texts).await;
            done.map_err(StoreError::unavailable("commit to the store"))?;
            // A failure here is an answer that was lost on its way.
            reach(Point::StoreCommitAfter).await?;
            self.group.is_committing = false;
        } else {
            self.commit_file().await?;
        }
        Ok(self.keep())
    }

    /// What the group did stands.
    fn keep(&mut self) -> Vec<Committed> {
        let is_shared = self.conn.is_shared();
        self.queued = Counter { stored: self.queued.stored + self.queued.added, added: 0 };
        self.savepoint = Savepoint::None;
        self.known.committed(is_shared);
        self.waiting.committed();
        self.uses.committed(is_shared);
        self.revoked.committed();
        self.chain.keep();
        self.group.holds_trail = false;
        std::mem::take(&mut self.pending.committed)
    }

    /// Undoes the group, and makes the connection fit for the next.
    pub(in crate::store) async fn roll_back(&mut self) {
        self.abandon_group();
        if self.group.is_lost {
            return;
        }
        let is_shared = self.conn.is_shared();
        // A server may be gone without a word: then so is the connection.
        let bound = if is_shared { PROBE_MAX } else { Duration::MAX };
        match tokio::time::timeout(bound, self.script("ROLLBACK")).await {
            Ok(Ok(())) => {}
            // SQLite has already rolled back by itself after some errors; then this one says so.
            Ok(Err(error)) if !is_shared => tracing::debug!(%error, "nothing to roll back"),
            Ok(Err(_)) | Err(_) => self.lose(),
        }
    }

    /// Nothing of the group is stored.
    pub(super) fn abandon_group(&mut self) {
        self.pending = Pending::default();
        self.queued.added = 0;
        self.waiting.abandon_group();
        self.uses.abandon_group();
        self.savepoint = Savepoint::None;
        self.known = Known::default();
        self.revoked.abandon_group();
        self.new_calls.clear();
        self.chain.abandon();
        self.group.holds_trail = false;
        self.group.is_broken = false;
        self.group.promised = None;
    }

    /// Whether the last commit went out and its answer did not come.
    pub(in crate::store) const fn is_in_doubt(&self) -> bool {
        self.group.is_committing
    }

    /// Whether the connection can be lost without the process.
    pub(in crate::store) const fn is_shared(&self) -> bool {
        self.conn.is_shared()
    }

    /// Connects again where the connection is lost, and makes sure that nothing more is done over
    /// the old one: a commit that is still on its way there must not arrive after it was decided
    /// that it did not.
    pub(in crate::store) async fn reconnect(&mut self) -> Result<(), sqlx::Error> {
        let Some(server) = &self.group.server else { return Ok(()) };
        if !self.group.is_lost {
            let probe = tokio::time::timeout(PROBE_MAX, self.conn.run("SELECT 1".to_owned()));
            if matches!(probe.await, Ok(Ok(_))) {
                return Ok(());
            }
            self.group.is_lost = true;
        }
        let (conn, session) = server.connect().await?;
        let mut conn = Conn::Postgres(Hold::Own(conn));
        if let Some(old) = &self.group.session {
            conn.run(old.end()).await?;
        }
        self.conn = conn;
        self.group.session = Some(session);
        self.group.is_lost = false;
        Ok(())
    }

    /// What became of the commit whose answer was lost: its events if it stands, nothing if it does
    /// not. Connect again first.
    pub(in crate::store) async fn settle(&mut self) -> Result<Option<Vec<Committed>>, StoreError> {
        let last = query("SELECT last_group FROM replicas WHERE boot_epoch = $1")
            .bind(cols::int(self.group.owner))
            .number(&mut self.conn)
            .await
            .map_err(StoreError::unavailable("ask what was committed"))?;
        self.group.is_committing = false;
        if last.and_then(|n| u64::try_from(n).ok()) == Some(self.group.number) {
            return Ok(Some(self.keep()));
        }
        self.abandon_group();
        Ok(None)
    }

    /// Nothing came back in time: the connection is not used again.
    pub(in crate::store) const fn lose(&mut self) {
        self.group.is_lost = true;
    }

    /// The answer of the commit is not to be had any more: the lease is over.
    pub(in crate::store) fn give_up(&mut self) {
        self.group.is_committing = false;
        self.abandon_group();
    }

    /// The daemon stops.
    pub(in crate::store) async fn close(&mut self) {
        if self.conn.is_shared() {
            return;
        }
        if let Err(error) = self.script(sqlite::FOLD_LOG).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the log stays beside the database"
            );
        }
    }

    /// Writes the audit trail's rows, the last thing before a commit.
    pub(super) async fn write_trail(&mut self) -> Result<(), StoreError> {
        if self.pending.audit.is_empty() {
            return Ok(());
        }
        self.hold_trail().await?;
        self.flush_audit().await
    }

    /// Where others append to the trail too: nobody does before the commit, and its end is known.
    pub(super) async fn hold_trail(&mut self) -> Result<(), StoreError> {
        if self.conn.is_shared() && !self.group.holds_trail {
            self.chain = Chain::lock(&mut self.conn).await?;
            self.group.holds_trail = true;
        }
        Ok(())
    }
}
