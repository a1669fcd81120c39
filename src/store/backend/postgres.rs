//! Postgres: one server that several replicas share.
//!
//! Every text here that has no place holder travels by the simple protocol, so that what belongs
//! together is one trip. In READ COMMITTED each statement of such a text sees what was committed
//! before it began, not before the transaction did.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Row as _, SqlSafeStr,
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::{
    super::{
        db::{Conn, Hold},
        error::OpenError,
    },
    Durability, MIGRATIONS, Pool, WORKS_BESIDE, migrating,
};

/// Connections that read. They are short, and the server pays for each of them.
const READERS: u32 = 8;
/// How long a reader waits for one of them.
const READER_PATIENCE: Duration = Duration::from_secs(5);
/// Connections beside the writer's: one hears of commits, the others say that we live and look at
/// what others did.
const BESIDE: u32 = 6;
/// How long one may take to be had.
const BESIDE_PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked whether it is still there before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// What all groups of writes share and an administrative change takes alone; the number is ours
/// (`agent` in ASCII), <https://www.postgresql.org/docs/15/explicit-locking.html#ADVISORY-LOCKS>.
const WRITERS: i64 = 0x61_67_65_6e_74;
/// Who has it appends to the audit trail.
const TRAIL: i64 = WRITERS + 1;

/// The channel on which every group says that it was committed.
pub const CHANNEL: &str = "agent_runtime";

/// A server, and how to log in there.
#[derive(Clone)]
pub struct Postgres {
    options: Box<PgConnectOptions>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// Why a text is no address of a Postgres database.
#[derive(Debug, thiserror::Error)]
#[error("is no address of a Postgres database (postgres://user@host:5432/name): {0}")]
pub struct AddressError(String);

impl FromStr for Postgres {
    type Err = AddressError;

    /// `postgres://user:password@host:port/database`, with the parameters of libpq's URI.
    fn from_str(url: &str) -> Result<Self, AddressError> {
        let options = PgConnectOptions::from_str(url).map_err(|e| AddressError(e.to_string()))?;
        let options = options
            .application_name("agent-runtime")
            .statement_cache_capacity(256)
            .disable_statement_logging()
            .options([
                // No statement of ours takes long. A replica that was stopped in the middle of a
                // transaction must not hold its locks for longer than its lease.
                ("statement_timeout", "15s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "10s"),
                ("default_transaction_isolation", "read committed"),
                ("client_min_messages", "warning"),
            ]);
        Ok(Self { options: Box::new(options) })
    }
}

impl Postgres {
    /// Where it is, without the password.
    pub fn place(&self) -> String {
        let o = &self.options;
        let host =
            o.get_socket().map_or_else(|| o.get_host().to_owned(), |s| s.display().to_string());
        let name = o.get_database().unwrap_or(o.get_username());
        format!("postgres://{}@{host}:{}/{name}", o.get_username(), o.get_port())
    }

    fn opening(&self, doing: &'static str, source: sqlx::Error) -> OpenError {
        OpenError::Unavailable { doing, place: self.place(), source: Some(source) }
    }

    /// Connects to write.
    pub(in crate::store) async fn connect(&self) -> Result<(PgConnection, Session), sqlx::Error> {
        let mut conn = self.options.connect().await?;
        let row = sqlx::query(
            "SELECT pid, backend_start::TEXT FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        )
        .fetch_one(&mut conn)
        .await?;
        let session = Session { pid: row.try_get(0)?, since: row.try_get(1)? };
        Ok((conn, session))
    }

    /// Connects and migrates the database.
    pub(super) async fn open(&self) -> Result<(Conn, Session, Pool), OpenError> {
        let connecting = |source| self.opening("connect to the database", source);
        let (mut writer, session) = self.connect().await.map_err(connecting)?;
        self.check_others(&mut writer).await?;
        migrations().run(&mut writer).await.map_err(|error| {
            migrating(&self.place(), error, |doing, source| self.opening(doing, source))
        })?;
        Ok((Conn::Postgres(Hold::Own(writer)), session, self.open_read_only()))
    }

    /// Connects to a database that is to be filled, and migrates it.
    pub(super) async fn create(&self, schema: i64) -> Result<Conn, OpenError> {
        let (mut conn, _) = self
            .connect()
            .await
            .map_err(|source| self.opening("connect to the database", source))?;
        migrations().run_to(schema, &mut conn).await.map_err(|error| {
            migrating(&self.place(), error, |doing, source| self.opening(doing, source))
        })?;
        Ok(Conn::Postgres(Hold::Own(conn)))
    }

    /// Refuses to change the schema under a replica that could not go on with it.
    async fn check_others(&self, conn: &mut PgConnection) -> Result<(), OpenError> {
        let asking = |source| self.opening("look at the other replicas of", source);
        let row = sqlx::query("SELECT to_regclass('replicas') IS NOT NULL")
            .fetch_one(&mut *conn)
            .await
            .map_err(asking)?;
        if !row.try_get::<bool, _>(0).map_err(asking)? {
            return Ok(());
        }
        let old = sqlx::query(
            "SELECT name, version, schema FROM replicas WHERE recovered = 0 \
             AND ended_at IS NULL AND schema < $1 \
             AND expires_at >= EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 LIMIT 1",
        )
        .bind(i64::try_from(WORKS_BESIDE).unwrap_or(i64::MAX))
        .fetch_optional(&mut *conn)
        .await
        .map_err(asking)?;
        let Some(old) = old else { return Ok(()) };
        let name: String = old.try_get(0).map_err(asking)?;
        let version: String = old.try_get(1).map_err(asking)?;
        let schema: i64 = old.try_get(2).map_err(asking)?;
        Err(OpenError::Version {
            place: self.place(),
            detail: format!(
                "replica `{name}` (version {version}, schema {schema}) works on it and is too old to \
                 go on beside this version, which needs schema {WORKS_BESIDE} at least everywhere: \
                 upgrade every replica to a version between the two first, or stop it"
            ),
        })
    }

    /// Whether nothing was said about encryption on a way that others may be on: then it is tried
    /// without a look at the certificate, and done without where the server has none
    /// (<https://www.postgresql.org/docs/15/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>).
    pub fn may_be_overheard(&self) -> bool {
        let o = &self.options;
        let host = o.get_host();
        let is_near = o.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        !is_near && matches!(o.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer)
    }

    /// Connections for what a replica says and asks beside its writer. One that does not answer is
    /// given up soon: its lease depends on it.
    pub(in crate::store) fn pool_beside(&self) -> Pool {
        self.pool(BESIDE, BESIDE_PATIENCE)
    }

    pub(super) fn open_read_only(&self) -> Pool {
        self.pool(READERS, READER_PATIENCE)
    }

    /// Up to `size` connections, each made when it is first needed.
    fn pool(&self, size: u32, patience: Duration) -> Pool {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .min_connections(0)
            .acquire_timeout(patience)
            .idle_timeout(Duration::from_secs(300))
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        sqlx::Connection::ping(conn).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with((*self.options).clone());
        Pool::Postgres(pool)
    }
}

/// A connection as the server knows it. Process numbers come again; with the start they do not.
#[derive(Debug)]
pub(in crate::store) struct Session {
    pid: i32,
    since: String,
}

impl Session {
    /// Ends it, and waits until it has ended. Nothing happens where it has already.
    pub(in crate::store) fn end(&self) -> String {
        // https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL: for
        // sessions of one's own role; the second argument is in milliseconds.
        format!(
            "SELECT pg_terminate_backend(pid, 10000)::TEXT FROM pg_stat_activity \
             WHERE pid = {} AND backend_start = '{}'",
            self.pid, self.since
        )
    }
}

/// The same migrations. Text sorts by its bytes, as it does in SQLite, whatever the server's locale:
/// pages walk by ids.
fn migrations() -> Migrator {
    let collated = MIGRATIONS.iter().map(|m| {
        let sql = collated(m.sql.as_str());
        let (version, kind) = (m.version, m.migration_type);
        Migration::new(
            version,
            m.description.clone(),
            kind,
            AssertSqlSafe(sql).into_sql_str(),
            m.no_tx,
        )
    });
    Migrator { migrations: Cow::Owned(collated.collect()), ..Migrator::DEFAULT }
}

fn collated(sql: &str) -> String {
    let line = |line: &str| {
        let (code, comment) = line.split_once("--").map_or((line, None), |(a, b)| (a, Some(b)));
        let code = code.replace(" TEXT", " TEXT COLLATE \"C\"");
        comment.map_or_else(|| code.clone(), |comment| format!("{code}--{comment}"))
    };
    sql.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Every column of every table: table, column, type, place in the primary key or 0.
pub(in crate::store) const CATALOGUE: &str = "SELECT c.table_name::TEXT, c.column_name::TEXT, \
     c.data_type::TEXT, COALESCE(k.ordinal_position, 0)::BIGINT \
     FROM information_schema.columns c \
     JOIN information_schema.tables t ON t.table_schema = c.table_schema \
     AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' \
     LEFT JOIN information_schema.table_constraints p ON p.table_schema = c.table_schema \
     AND p.table_name = c.table_name AND p.constraint_type = 'PRIMARY KEY' \
     LEFT JOIN information_schema.key_column_usage k ON k.constraint_schema = p.constraint_schema \
     AND k.constraint_name = p.constraint_name AND k.table_name = c.table_name \
     AND k.column_name = c.column_name \
     WHERE c.table_schema = current_schema() \
     ORDER BY c.table_name::TEXT COLLATE \"C\", c.column_name::TEXT COLLATE \"C\"";

/// Long work over a connection of its own: the bounds of short statements are none for it.
pub(in crate::store) const UNHURRIED: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0";
/// Begins to read one moment.
pub(in crate::store) const MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Begins a group. Its one row: the generation, the length of the queue, and whether this replica
/// still has its lease.
pub(in crate::store) fn begin(promise: Durability, is_alone: bool, boot_epoch: u64) -> String {
    // https://www.postgresql.org/docs/15/wal-async-commit.html: without waiting, the last moments
    // are lost when the server crashes, and nothing else; an acknowledged commit that waits takes
    // everything before it along.
    let sync = match promise {
        Durability::Normal => "SET LOCAL synchronous_commit = off; ",
        Durability::Full => "",
    };
    let lock = if is_alone { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" };
    format!(
        "BEGIN; {sync}SELECT 1 FROM {lock}({WRITERS}); SELECT \
         (SELECT value FROM counters WHERE name = 'generation'), \
         (SELECT value FROM counters WHERE name = 'queued'), \
         (SELECT COUNT(*) FROM replicas WHERE boot_epoch = {boot_epoch} AND ended_at IS NULL)"
    )
}

/// Waits until nobody else writes, and keeps it so until the end of the transaction.
pub(in crate::store) fn lock_writers() -> String {
    format!("SELECT 1 FROM pg_advisory_xact_lock({WRITERS})")
}

/// Locks the end of the audit trail. Its last row, if there is one: number and hash of the end.
pub(in crate::store) fn lock_trail() -> String {
    format!(
        "SELECT 1 FROM pg_advisory_xact_lock({TRAIL}); \
         SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1"
    )
}

/// Commits group number `group` of a replica.
pub(in crate::store) fn commit(boot_epoch: u64, group: u64, queued: i64, is_alone: bool) -> String {
    let queue = if queued == 0 {
        String::new()
    } else {
        format!("UPDATE counters SET value = value + {queued} WHERE name = 'queued'; ")
    };
    let generation = if is_alone {
        "UPDATE counters SET value = value + 1 WHERE name = 'generation'; "
    } else {
        ""
    };
    format!(
        "UPDATE replicas SET last_group = {group} WHERE boot_epoch = {boot_epoch}; \
         {queue}{generation}NOTIFY {CHANNEL}; COMMIT"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let server: Postgres = "postgres://me:hunter2@db.example:5433/agents".parse().unwrap();
        assert_eq!(server.place(), "postgres://me@db.example:5433/agents");
        assert!(!format!("{server:?}").contains("hunter2"));
    }

    #[test]
    fn a_way_that_others_are_on_needs_a_word_about_encryption() {
        for (url, may_be) in [
            ("postgres://me@db.example/a", true),
            ("postgres://me@10.0.0.7/a?sslmode=prefer", true),
            ("postgres://me@localhost.example/a", true),
            ("postgres://me@db.example/a?sslmode=verify-full", false),
            ("postgres://me@db.example/a?sslmode=require", false),
            ("postgres://me@db/a?sslmode=disable", false),
            ("postgres://me@localhost/a", false),
            ("postgres://me@127.0.0.1:5433/a", false),
            ("postgres://me@[::1]:5433/a", false),
            ("postgres:///a?host=/run/postgresql&user=me", false),
        ] {
            assert_eq!(url.parse::<Postgres>().unwrap().may_be_overheard(), may_be, "{url}");
        }
    }

    #[test]
    fn every_column_of_text_sorts_by_bytes() {
        for migration in migrations().iter() {
            for line in migration.sql.as_str().lines().filter(|l| !l.trim().starts_with("--")) {
                let texts = line.matches(" TEXT").count();
                assert_eq!(texts, line.matches("TEXT COLLATE \"C\"").count(), "{line}");
            }
        }
    }
}
