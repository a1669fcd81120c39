//! The only truth: runs, messages, approvals, events and the audit trail, durable.
//!
//! Invariants: a transition, its event and its audit row are one transaction, predicated on the
//! run's epoch; one writer; nothing is delivered before its commit. The store decides nothing and
//! hands out domain types, never rows.

mod approvals;
pub mod archive;
pub mod audit;
mod backend;
mod backups;
mod beside;
mod budget_use;
mod budgets;
mod bulk;
mod bundles;
mod calls;
mod capabilities;
mod checkpoints;
mod cols;
mod conversations;
mod db;
mod decisions;
mod definitions;
pub mod dump;
mod egress_rules;
mod erasures;
mod error;
mod events;
mod export;
mod idempotency;
mod identity;
mod known;
mod leases;
mod links;
mod lockdown;
mod members;
pub mod outside;
mod page;
mod pairings;
mod patterns;
mod policies;
mod principals;
mod replicas;
mod retention;
mod run_scopes;
mod runs;
mod secrets;
mod steers;
mod steps;
mod tokens;
mod tx;
mod usage;
mod waiting;
mod writer;

use std::{fs::File, path::PathBuf, sync::Arc};

pub use approvals::Approvals;
pub use audit::{Audit, AuditFilter};
pub use backend::{
    AddressError, CHANNEL, Database, Durability, Postgres, database_file, hold, upgrade,
};
pub use backups::Backups;
pub use beside::{Beside, Wakeups};
pub use budget_use::{BudgetUse, BudgetUses};
pub use budgets::{BudgetRow, Budgets};
pub use bundles::{Bundle, BundleKind, Bundles, HistoryRef};
pub use calls::{Calls, PastArgs};
pub use capabilities::{Capabilities, CapabilityFilter};
pub use checkpoints::Checkpoints;
pub use conversations::{Conversation, Conversations};
pub use decisions::{DecisionKey, Decisions};
pub use definitions::Definitions;
pub use egress_rules::EgressRules;
pub use erasures::{Erasures, FileCall, RunOfPerson, Texts, TextsOf};
pub use error::{OpenError, StoreError};
pub use events::Events;
pub use export::{ExportKey, Exportable, Exports};
pub use idempotency::{IdempotencyKeys, StoredAnswer};
pub use identity::{ClusterIdentities, ClusterIdentity};
pub use leases::{Lease, Leases};
pub use links::Links;
pub use lockdown::Lockdowns;
pub use page::{Page, Paged};
pub use pairings::Pairings;
pub use patterns::Patterns;
pub use policies::{Named, Policies};
pub use principals::Principals;
pub use replicas::{Beat, NewReplica, Replica, Replicas};
pub use retention::{Keeping, OldRows, Removed};
pub use run_scopes::{Narrowed, RunScopes};
pub use runs::{Ending, RunCore, RunFilter, Runs};
pub use secrets::Secrets;
pub use steers::{Steer, Steers};
pub use steps::StepRow;
pub use tokens::Tokens;
pub use tx::{Committed, Tx};
pub use usage::{UsageBy, UsageFilter, UsageKey, UsageRows, UsageSum};
pub use writer::{CommitHook, JobFuture};

use crate::{
    domain::{AuditEntry, Clock, IdSource},
    runtime::{
        Redactor, Tasks,
        failpoint::{Point, reach},
    },
};
use backend::Pool;
use db::Conn;
use members::Member;
use tx::{Found, Group};
use waiting::Waiting;
use writer::Writer;

/// Where the store is and what it needs from outside.
#[derive(Clone)]
pub struct Options {
    /// The directory that holds the lock, and the database if that is a file.
    pub data_dir: PathBuf,
    /// Which database.
    pub database: Database,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: IdSource,
    /// Secrets to keep out of rows.
    pub redactor: Redactor,
    /// Called after each commit with its events.
    pub on_commit: CommitHook,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Writer,
    readers: Pool,
    member: Member,
    /// For what a replica says and asks beside its writer.
    beside: Pool,
    clock: Arc<dyn Clock>,
    is_shared: bool,
    /// Held until the process ends: nobody else may open the database for writing.
    _lock: Arc<File>,
}

impl Store {
    /// Opens the store of a data directory, migrates it and starts its writer.
    ///
    /// # Errors
    /// When another daemon has it, or it cannot be opened; each error says what to do.
    pub async fn open(options: Options, tasks: &Tasks) -> Result<Self, OpenError> {
        let Options { data_dir, database, clock, ids, redactor, on_commit } = options;
        let mut backend = backend::open(&data_dir, &database).await?;
        let place = match &database {
            Database::Sqlite => database_file(&data_dir).display().to_string(),
            Database::Postgres(server) => server.place(),
        };
        let reading = |error: StoreError| OpenError::at(&place, error);
        let conn = &mut backend.writer;
        reach(Point::StoreOpenBefore).await.map_err(StoreError::from).map_err(&reading)?;
        let member = members::register(conn, &*clock, &ids, &data_dir);
        let member = member.await.map_err(&reading)?;
        reach(Point::StoreOpenAfter).await.map_err(StoreError::from).map_err(&reading)?;
        let (queued, waiting) = if conn.is_shared() {
            // The first group of writes reads the length of the queue.
            (0, Waiting::shared())
        } else {
            runs::queued(conn).await.map_err(&reading)?
        };
        let chain = audit::Chain::load(conn).await.map_err(&reading)?;
        let group = Group::new(Arc::clone(&member.boot_epoch), backend.server);
        let beside = beside::pool(&database, &backend.readers);
        let found = Found { chain, queued, waiting, group };
        let tx = Tx::new(backend.writer, Arc::clone(&clock), ids, redactor, found);
        Ok(Self {
            writer: Writer::start(tx, on_commit, tasks),
            readers: backend.readers,
            member,
            beside,
            clock,
            is_shared: matches!(database, Database::Postgres(_)),
            _lock: Arc::new(backend.lock),
        })
    }

    /// Whether other replicas may work on the same store.
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Runs `job` in a transaction and waits until it is durable. A job that returns an error
    /// leaves nothing behind. Dropping the future does not undo a job that was handed over.
    pub async fn write<T, E, F>(&self, durability: Durability, job: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.run(durability, false, job).await
    }

    /// Runs `job` like [`write`](Self::write) with [`Durability::Full`], while nobody else writes:
    /// for what an administrator changes, and for what every group of writes relies on. It raises
    /// the generation, by which other replicas see that they must read again.
    pub async fn change<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.run(Durability::Full, true, job).await
    }

    /// Records something that changes nothing else.
    pub async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write(Durability::Normal, move |tx| {
            Box::pin(async move {
                tx.audit(entry);
                Ok(())
            })
        })
        .await
    }

    /// A connection that reads what is committed.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader { conn: self.readers.get().await? })
    }
}

/// Reads the store of a data directory beside a running daemon.
#[derive(Debug)]
pub struct ReadOnlyStore {
    readers: Pool,
}

impl ReadOnlyStore {
    /// Opens an existing database.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn open(data_dir: &std::path::Path, database: &Database) -> Result<Self, OpenError> {
        Ok(Self { readers: backend::open_read_only(data_dir, database).await? })
    }

    /// A connection that reads what is committed.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader { conn: self.readers.get().await? })
    }

    /// Looks for damage in the database file; `None` when there is none, or it is no file.
    pub async fn damage(&self) -> Result<Option<String>, StoreError> {
        match &self.readers {
            Pool::Sqlite(pool) => backend::sqlite::damage(pool).await,
            Pool::Postgres(_) => Ok(None),
        }
    }
}

/// A connection that reads.
#[derive(Debug)]
pub struct Reader {
    conn: Conn,
}

impl Reader {
    /// Runs.
    pub fn runs(&mut self) -> Runs<'_> {
        Runs { conn: &mut self.conn, known: None }
    }

    /// Tool calls.
    pub fn calls(&mut self) -> Calls<'_> {
        Calls { conn: &mut self.conn, new: None }
    }

    /// Questions to people.
    pub fn approvals(&mut self) -> Approvals<'_> {
        Approvals { conn: &mut self.conn, changes: false }
    }

    /// Patterns of calls that people approved.
    pub fn patterns(&mut self) -> Patterns<'_> {
        Patterns { conn: &mut self.conn }
    }

    /// Threads.
    pub fn conversations(&mut self) -> Conversations<'_> {
        Conversations { conn: &mut self.conn, changes: false }
    }

    /// The event log.
    pub fn events(&mut self) -> Events<'_> {
        Events { conn: &mut self.conn }
    }

    /// What runs and their calls may do.
    pub fn capabilities(&mut self) -> Capabilities<'_> {
        Capabilities { conn: &mut self.conn, revoked: None }
    }

    /// Whether the daemon is locked down.
    pub fn lockdown(&mut self) -> Lockdowns<'_> {
        Lockdowns { conn: &mut self.conn }
    }

    /// Snapshots.
    pub fn bundles(&mut self) -> Bundles<'_> {
        Bundles { conn: &mut self.conn }
    }

    /// Which machines agents may reach.
    pub fn egress_rules(&mut self) -> EgressRules<'_> {
        EgressRules { conn: &mut self.conn }
    }

    /// Backups that were made.
    pub fn backups(&mut self) -> Backups<'_> {
        Backups { conn: &mut self.conn }
    }

    /// Budgets that administrators set.
    pub fn budgets(&mut self) -> Budgets<'_> {
        Budgets { conn: &mut self.conn }
    }

    /// What was used of them.
    pub fn budget_uses(&mut self) -> BudgetUses<'_> {
        BudgetUses { conn: &mut self.conn }
    }

    /// What was used by whom on which day.
    pub fn usage(&mut self) -> UsageRows<'_> {
        UsageRows { conn: &mut self.conn }
    }

    /// Who may act.
    pub fn principals(&mut self) -> Principals<'_> {
        Principals { conn: &mut self.conn }
    }

    /// Their tokens.
    pub fn tokens(&mut self) -> Tokens<'_> {
        Tokens { conn: &mut self.conn }
    }

    /// Accounts that stand for them.
    pub fn links(&mut self) -> Links<'_> {
        Links { conn: &mut self.conn }
    }

    /// Requests for such links.
    pub fn pairings(&mut self) -> Pairings<'_> {
        Pairings { conn: &mut self.conn }
    }

    /// Versions of the policy, and which one is in force.
    pub fn policies(&mut self) -> Policies<'_> {
        Policies { conn: &mut self.conn }
    }

    /// What policy decided.
    pub fn decisions(&mut self) -> Decisions<'_> {
        Decisions { conn: &mut self.conn }
    }

    /// Stored secrets and the ages of all.
    pub fn secrets(&mut self) -> Secrets<'_> {
        Secrets { conn: &mut self.conn }
    }

    /// Signed ends of the audit trail.
    pub fn checkpoints(&mut self) -> Checkpoints<'_> {
        Checkpoints { conn: &mut self.conn }
    }

    /// How long things are kept, and what must be.
    pub fn keeping(&mut self) -> Keeping<'_> {
        Keeping { conn: &mut self.conn }
    }

    /// What is stored about a person, for them to have.
    pub fn exports(&mut self) -> Exports<'_> {
        Exports { conn: &mut self.conn }
    }

    /// Erasures, and what is stored about a person.
    pub fn erasures(&mut self) -> Erasures<'_> {
        Erasures { conn: &mut self.conn }
    }

    /// Daemons that work on this database.
    pub fn replicas(&mut self) -> Replicas<'_> {
        Replicas { conn: &mut self.conn }
    }

    /// What all of them have in common.
    pub fn cluster(&mut self) -> ClusterIdentities<'_> {
        ClusterIdentities { conn: &mut self.conn }
    }

    /// Who has which duty.
    pub fn leases(&mut self) -> Leases<'_> {
        Leases { conn: &mut self.conn }
    }

    /// The audit trail.
    pub fn audit(&mut self) -> Audit<'_> {
        Audit { conn: &mut self.conn }
    }
}

#[cfg(test)]
impl Reader {
    /// The database's plan for a query, to hold hot queries to their indexes.
    async fn plan(&mut self, sql: &'static str) -> Result<String, StoreError> {
        let rows = db::built(format!("EXPLAIN QUERY PLAN {sql}"))
            .fetch_all(&mut self.conn)
            .await
            .map_err(StoreError::unavailable("explain a query"))?;
        Ok(rows.iter().map(|row| row.column::<String>(3).unwrap()).collect::<Vec<_>>().join("; "))
    }
}

/// A real server for tests.
#[cfg(test)]
#[path = "../../tests/support/postgres/mod.rs"]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_one;
/// Every test of the store once more: the same text on the other database.
#[cfg(test)]
#[path = "tests.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, two databases")]
mod tests_on_postgres;
