//! SQLite: one file in the data directory, one writer.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    super::{
        db::{Conn, Hold},
        error::{OpenError, StoreError},
    },
    Durability, MIGRATIONS, Pool, database_file, migrating,
};

/// Connections that read. Reads are short; two keep a slow page from blocking the rest, and each
/// costs memory that the idle daemon should not have.
const READERS: u32 = 3;

/// Opens and migrates the database.
pub(super) async fn open(data_dir: &Path) -> Result<(Conn, Pool), OpenError> {
    let file = database_file(data_dir);
    create_private(&file)
        .map_err(|source| OpenError::Directory { dir: data_dir.to_owned(), source })?;
    let mut writer = connect(&file)
        .connect()
        .await
        .map_err(|source| opening("open the database", &file, source))?;
    MIGRATIONS.run(&mut writer).await.map_err(|error| {
        migrating(&file.display().to_string(), error, |doing, source| opening(doing, &file, source))
    })?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(0)
        // A file does not hang up: asking it first would cost every read a second trip to the
        // connection's thread.
        .test_before_acquire(false)
        .idle_timeout(Duration::from_secs(60))
        .connect_lazy_with(connect(&file).read_only(true));
    Ok((Conn::Sqlite(Hold::Own(writer)), Pool::Sqlite(readers)))
}

/// Makes a database that is not there yet.
pub(super) async fn create(data_dir: &Path, schema: i64) -> Result<Conn, OpenError> {
    let file = database_file(data_dir);
    let directory = |source| OpenError::Directory { dir: data_dir.to_owned(), source };
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file).map_err(directory)?;
    let mut conn = connect(&file)
        .connect()
        .await
        .map_err(|source| opening("open the database", &file, source))?;
    MIGRATIONS.run_to(schema, &mut conn).await.map_err(|error| {
        migrating(&file.display().to_string(), error, |doing, source| opening(doing, &file, source))
    })?;
    Ok(Conn::Sqlite(Hold::Own(conn)))
}

/// Every column of every table: table, column, type, place in the primary key or 0.
pub(in crate::store) const CATALOGUE: &str = "SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t, pragma_table_info(t.name) c \
     WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
     ORDER BY t.name, c.name";

/// Opens an existing database read-only, without its lock.
pub(super) async fn open_read_only(data_dir: &Path) -> Result<Pool, OpenError> {
    let file = database_file(data_dir);
    let options = connect(&file).read_only(true).create_if_missing(false);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|source| opening("open the database", &file, source))?;
    Ok(Pool::Sqlite(pool))
}

/// Begins a write, and says what its commit promises where that is not what the last one did.
///
/// Each text is one trip to the connection's thread, and a trip costs more than the statement.
pub(in crate::store) const fn begin(promise: Option<Durability>) -> &'static str {
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
pub(in crate::store) const FOLD_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// Writes the database anew without what was removed from it. Outside of a transaction. What it
/// holds meanwhile goes to a file, not to memory: it may be large.
pub(in crate::store) const REWRITE: &str =
    "PRAGMA temp_store = FILE; VACUUM; PRAGMA temp_store = MEMORY";
/// Commits a group, its last savepoint included.
pub(in crate::store) const COMMIT: &str = "COMMIT";
/// Sets the length of the queue and commits.
pub(in crate::store) const COUNT_AND_COMMIT: &str =
    "UPDATE counters SET value = $1 WHERE name = 'queued'; COMMIT";

/// Looks for damage; `None` when there is none.
pub(in crate::store) async fn damage(pool: &SqlitePool) -> Result<Option<String>, StoreError> {
    let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(StoreError::unavailable("check the database"))?;
    Ok((answer != "ok").then_some(answer))
}

/// SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC: the kernel may have forgotten what it was to write.
pub(in crate::store) fn has_forgotten(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("1034" | "1290"))
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

/// SQLite gives its log the mode of the database file, so this one call keeps all of them private.
fn create_private(file: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file).map(drop)
}

fn opening(doing: &'static str, file: &Path, source: sqlx::Error) -> OpenError {
    match damage_code(&source) {
        Some(detail) => OpenError::Damaged { place: file.display().to_string(), detail },
        None => OpenError::Unavailable {
            doing,
            place: file.display().to_string(),
            source: Some(source),
        },
    }
}

/// SQLITE_CORRUPT (11) and SQLITE_NOTADB (26), extended codes included.
fn damage_code(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    let code: i32 = database.code()?.parse().ok()?;
    matches!(code & 0xff, 11 | 26).then(|| database.message().to_owned())
}
