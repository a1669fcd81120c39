//! The one place that knows which database this is: how it is opened, locked and migrated, and how
//! a group of writes begins and ends.
//!
//! Invariants: SQLite has one writer, proven by the lock of the data directory. On Postgres several
//! replicas write at the same time: every group of writes holds a shared lock, an administrative
//! change runs alone under the exclusive one, and rows that are read to be changed are locked.

pub(super) mod postgres;
pub(super) mod sqlite;

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions, PgPool, SqlitePool,
    migrate::{MigrateError, Migrator},
};

use super::{
    db::{Conn, Hold},
    error::{OpenError, StoreError},
};
pub(super) use postgres::Session;
pub use postgres::{AddressError, CHANNEL, Postgres};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Which database holds the store.
#[derive(Clone, Debug, Default)]
pub enum Database {
    /// A file in the data directory, for one daemon.
    #[default]
    Sqlite,
    /// A server that several replicas share.
    Postgres(Postgres),
}

/// The oldest program that can go on beside this one, by the newest migration that it knows. A
/// migration that takes something away which older programs use raises it: every replica must know
/// the one before it first (expand, then contract; docs/SCALING.md).
const WORKS_BESIDE: u64 = 4;

/// The newest migration that this program knows.
pub(super) fn newest_migration() -> u64 {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    newest.and_then(|version| u64::try_from(version).ok()).unwrap_or(0)
}

/// How much a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Survives the death of the process; power loss may take the last moments.
    Normal,
    /// Survives power loss: intents of unsafe effects, approvals, accepted requests.
    Full,
}

/// An opened database: one connection that writes, a pool that reads, and the proof that nobody
/// else has the data directory.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) writer: Conn,
    /// The server and the writer's session there.
    pub(super) server: Option<(Postgres, Session)>,
    pub(super) readers: Pool,
    pub(super) lock: File,
}

/// Connections that read.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    pub(super) async fn get(&self) -> Result<Conn, StoreError> {
        let lent = match self {
            Self::Sqlite(pool) => pool.acquire().await.map(|c| Conn::Sqlite(Hold::Lent(c))),
            Self::Postgres(pool) => pool.acquire().await.map(|c| Conn::Postgres(Hold::Lent(c))),
        };
        lent.map_err(StoreError::unavailable("open a connection"))
    }

    /// A connection of one's own, for longer than those of the pool are lent.
    pub(super) async fn own(&self) -> Result<Conn, StoreError> {
        let own = match self {
            Self::Sqlite(pool) => {
                pool.connect_options().connect().await.map(|c| Conn::Sqlite(Hold::Own(c)))
            }
            Self::Postgres(pool) => {
                pool.connect_options().connect().await.map(|c| Conn::Postgres(Hold::Own(c)))
            }
        };
        own.map_err(StoreError::unavailable("open a connection of its own"))
    }
}

/// Where the SQLite database of a data directory is.
pub fn database_file(data_dir: &Path) -> PathBuf {
    data_dir.join("agent-runtime.db")
}

/// Creates the data directory, takes its lock, opens and migrates the database.
pub(super) async fn open(data_dir: &Path, database: &Database) -> Result<Backend, OpenError> {
    let lock = lock(data_dir)?;
    Ok(match database {
        Database::Sqlite => {
            let (writer, readers) = sqlite::open(data_dir).await?;
            Backend { writer, server: None, readers, lock }
        }
        Database::Postgres(server) => {
            let (writer, session, readers) = server.open().await?;
            Backend { writer, server: Some((server.clone(), session)), readers, lock }
        }
    })
}

/// Opens an existing database to be read, without the lock: for the command line, beside a daemon.
pub(super) async fn open_read_only(
    data_dir: &Path,
    database: &Database,
) -> Result<Pool, OpenError> {
    match database {
        Database::Sqlite => sqlite::open_read_only(data_dir).await,
        Database::Postgres(server) => Ok(server.open_read_only()),
    }
}

/// A database that nothing was stored in yet, migrated up to this number and no further: what fills
/// it has that schema.
pub(super) async fn create(
    data_dir: &Path,
    database: &Database,
    schema: i64,
) -> Result<Conn, OpenError> {
    if !MIGRATIONS.iter().any(|known| known.version == schema) {
        let place = match database {
            Database::Sqlite => database_file(data_dir).display().to_string(),
            Database::Postgres(server) => server.place(),
        };
        let detail = format!("it has schema {schema}, which this version does not know");
        return Err(OpenError::Version { place, detail });
    }
    match database {
        Database::Sqlite => sqlite::create(data_dir, schema).await,
        Database::Postgres(server) => server.create(schema).await,
    }
}

/// Brings the database of a data directory that no daemon has to the schema of this version.
///
/// # Errors
/// When a daemon has it, it is newer, or it cannot be changed.
pub async fn upgrade(data_dir: &Path) -> Result<(), OpenError> {
    let held = lock(data_dir)?;
    sqlite::open(data_dir).await?;
    drop(held);
    Ok(())
}

/// Proves that no daemon has this data directory, as long as it is kept.
///
/// # Errors
/// When a daemon has it, or it cannot be written.
pub fn hold(data_dir: &Path) -> Result<File, OpenError> {
    lock(data_dir)
}

fn lock(data_dir: &Path) -> Result<File, OpenError> {
    let directory = |source| OpenError::Directory { dir: data_dir.to_owned(), source };
    // The root daemon's tool user must be able to pass through, but not list.
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir).map_err(directory)?;
    let file = data_dir.join("daemon.lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&file)
        .map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: data_dir.to_owned(), file }),
        Err(TryLockError::Error(source)) => Err(directory(source)),
    }
}

/// What went wrong while the database was brought to this version.
fn migrating(
    place: &str,
    error: MigrateError,
    opening: impl FnOnce(&'static str, sqlx::Error) -> OpenError,
) -> OpenError {
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            opening("migrate the database", source)
        }
        MigrateError::VersionMissing(found) => {
            OpenError::Newer { place: place.to_owned(), found, known: newest_migration() }
        }
        other => OpenError::Version { place: place.to_owned(), detail: other.to_string() },
    }
}
