//! The one file that knows which database this is: how it is opened, locked and migrated.
//!
//! SQLite for now. Postgres will stand beside it here; no other file names a dialect.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::error::{OpenError, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections that read. Reads are short; two keep a slow page from blocking the rest, and each
/// costs memory that the idle daemon should not have.
const READERS: u32 = 3;

/// How much a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Survives the death of the process; power loss may take the last moments.
    Normal,
    /// Survives power loss: intents of unsafe effects, approvals, accepted requests.
    Full,
}

/// An opened database: one connection that writes, a pool that reads, and the proof that nobody
/// else has it.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
    pub(super) lock: File,
}

/// Where the database of a data directory is.
pub fn database_file(data_dir: &Path) -> PathBuf {
    data_dir.join("agent-runtime.db")
}

/// Creates the data directory, takes its lock, opens and migrates the database.
pub(super) async fn open(data_dir: &Path) -> Result<Backend, OpenError> {
    let lock = lock(data_dir)?;
    let file = database_file(data_dir);
    create_private(&file)
        .map_err(|source| OpenError::Directory { dir: data_dir.to_owned(), source })?;
    let mut writer = connect(&file)
        .connect()
        .await
        .map_err(|source| opening("open the database", &file, source))?;
    MIGRATIONS.run(&mut writer).await.map_err(|error| migrating(&file, error))?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(0)
        // A file does not hang up: asking it first would cost every read a second trip to the
        // connection's thread.
        .test_before_acquire(false)
        .idle_timeout(Duration::from_secs(60))
        .connect_lazy_with(connect(&file).read_only(true));
    Ok(Backend { writer, readers, lock })
}

/// Makes a database that is not there yet, migrated up to this number and no further: what fills it
/// has that schema.
pub(super) async fn create(data_dir: &Path, schema: i64) -> Result<SqliteConnection, OpenError> {
    let file = database_file(data_dir);
    let version = |detail: String| OpenError::Version { file: file.clone(), detail };
    if !MIGRATIONS.iter().any(|known| known.version == schema) {
        return Err(version(format!("it has schema {schema}, which this version does not know")));
    }
    let directory = |source| OpenError::Directory { dir: data_dir.to_owned(), source };
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file).map_err(directory)?;
    let mut conn = connect(&file)
        .connect()
        .await
        .map_err(|source| opening("open the database", &file, source))?;
    MIGRATIONS.run_to(schema, &mut conn).await.map_err(|error| migrating(&file, error))?;
    Ok(conn)
}

/// Leaves nothing beside the database file.
pub(super) async fn fold_log(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(FOLD_LOG)
        .execute(conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("fold the log into the database"))
}

/// Opens an existing database read-only, without its lock: for the command line, beside a daemon.
pub(super) async fn open_read_only(data_dir: &Path) -> Result<SqlitePool, OpenError> {
    let file = database_file(data_dir);
    let options = connect(&file).read_only(true).create_if_missing(false);
    SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|source| opening("open the database", &file, source))
}

/// Begins a write, and says what its commit promises where that is not what the last one did.
///
/// Each text is one trip to the connection's thread, and a trip costs more than the statement.
pub(super) const fn begin(promise: Option<Durability>) -> &'static str {
    // IMMEDIATE, because a deferred transaction that reads and then writes fails under load
    // instead of waiting. https://sqlite.org/pragma.html#pragma_synchronous: in WAL mode FULL
    // syncs the log at each commit, NORMAL only at checkpoints; not to be set in a transaction.
    match promise {
        None => "BEGIN IMMEDIATE",
        Some(Durability::Normal) => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        Some(Durability::Full) => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
    }
}

/// Moves the write-ahead log into the database file, so that after an orderly stop the one file
/// holds everything. Whoever copies only that file would otherwise lose the newest commits.
pub(super) const FOLD_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// Begins the first job of a group, so that it can be undone alone.
pub(super) const FIRST_JOB: &str = "SAVEPOINT job";
/// Keeps the job before and begins the next.
pub(super) const NEXT_JOB: &str = "RELEASE job; SAVEPOINT job";
/// Undoes a job. Its savepoint stays: the next job goes on from it.
pub(super) const UNDO_JOB: &str = "ROLLBACK TO job";
/// Commits a group, its last savepoint included.
pub(super) const COMMIT: &str = "COMMIT";
/// Sets the length of the queue and commits.
pub(super) const COUNT_AND_COMMIT: &str =
    "UPDATE counters SET value = $1 WHERE name = 'queued'; COMMIT";

/// Looks for damage; `None` when there is none.
pub(super) async fn damage(pool: &SqlitePool) -> Result<Option<String>, StoreError> {
    let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(StoreError::unavailable("check the database"))?;
    Ok((answer != "ok").then_some(answer))
}

fn connect(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(false)
        .statement_cache_capacity(192)
        .pragma("cache_size", "-4096")
        .pragma("temp_store", "MEMORY")
        // Checkpoints are the fsync that NORMAL commits wait for: fewer, larger ones.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
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

/// SQLite gives its log the mode of the database file, so this one call keeps all of them private.
fn create_private(file: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file).map(drop)
}

fn opening(doing: &'static str, file: &Path, source: sqlx::Error) -> OpenError {
    match damage_code(&source) {
        Some(detail) => OpenError::Damaged { file: file.to_owned(), detail },
        None => OpenError::Unavailable { doing, file: file.to_owned(), source },
    }
}

/// SQLITE_CORRUPT (11) and SQLITE_NOTADB (26), extended codes included.
fn damage_code(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    let code: i32 = database.code()?.parse().ok()?;
    matches!(code & 0xff, 11 | 26).then(|| database.message().to_owned())
}

fn migrating(file: &Path, error: MigrateError) -> OpenError {
    let file = file.to_owned();
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            opening("migrate the database", &file, source)
        }
        other => OpenError::Version { file, detail: other.to_string() },
    }
}
