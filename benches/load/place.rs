//! Where the daemons under test keep their store: a file in their directory, or a database each on
//! one private Postgres of this run, with fsync on.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use agent_runtime::store;
use anyhow::{Context as _, ensure};

use crate::{
    daemon::cpu_of,
    postgres::{Database, Server, Sync},
};

static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
static COUNTS_STATEMENTS: OnceLock<()> = OnceLock::new();

/// From now on every place is on Postgres, which counts statements if that is wanted: that costs it
/// some time.
pub(crate) fn use_postgres(counts_statements: bool) {
    let settings: &[&str] = if counts_statements {
        COUNTS_STATEMENTS.get_or_init(|| ());
        &["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on"]
    } else {
        &[]
    };
    SERVER.get_or_init(|| Server::start_with(Sync::On, settings));
}

/// From now on statements count anew.
pub(crate) fn count_statements(place: &Place) {
    if let (Some(database), Some(())) = (place.on_server(), COUNTS_STATEMENTS.get()) {
        database.psql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
        database.psql("SELECT pg_stat_statements_reset()");
    }
}

/// Says which statements so many runs took, where they are counted: how often a run makes each, and
/// the server's time for it.
pub(crate) fn show_statements(place: &Place, what: &str, runs: usize) {
    let (Some(database), Some(())) = (place.on_server(), COUNTS_STATEMENTS.get()) else { return };
    let rows = database.psql(
        "SELECT calls, round((total_exec_time + total_plan_time) * 1000)::BIGINT, rows, \
         regexp_replace(left(query, 400), '\\s+', ' ', 'g') FROM pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND query NOT LIKE '%pg_stat%' ORDER BY 2 DESC LIMIT 60",
    );
    let per_run = |n: &str| n.parse::<f64>().unwrap_or(0.0) / runs.max(1) as f64;
    let (mut all_calls, mut all_micros) = (0.0, 0.0);
    eprintln!("    {what}, of each run: calls, µs in the server, rows, statement");
    for row in rows.lines() {
        let mut parts = row.splitn(4, '|');
        let mut next = || parts.next().unwrap_or_default();
        let (calls, micros, rows, text) = (next(), next(), next(), next());
        all_calls += per_run(calls);
        all_micros += per_run(micros);
        let (calls, micros, rows) = (per_run(calls), per_run(micros), per_run(rows));
        let text: String = text.chars().take(150).collect();
        eprintln!("    {calls:7.3} {micros:8.1} {rows:7.2}  {text}");
    }
    eprintln!("    {all_calls:7.3} {all_micros:8.1}  together");
}

/// The server; none on SQLite.
pub(crate) fn server() -> Option<&'static Arc<Server>> {
    SERVER.get()
}

pub(crate) fn is_postgres() -> bool {
    SERVER.get().is_some()
}

/// Processor time of the server so far, its processes included.
pub(crate) fn server_cpu() -> Duration {
    let Some(pid) = server().and_then(|s| s.pid()) else { return Duration::ZERO };
    // What has ended counts as the first process's.
    let first = u32::try_from(pid).map_or(Duration::ZERO, cpu_of);
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let living = children.split_whitespace().filter_map(|p| p.parse().ok()).map(cpu_of);
    first + living.sum::<Duration>()
}

/// A store of its own.
#[derive(Debug)]
pub(crate) struct Place(Option<Database>);

impl Place {
    pub(crate) fn fresh() -> Self {
        Self(server().map(Server::database))
    }

    /// Its database on the server.
    pub(crate) fn on_server(&self) -> Option<&Database> {
        self.0.as_ref()
    }

    /// As the store's options name it.
    pub(crate) fn database(&self) -> anyhow::Result<store::Database> {
        Ok(match &self.0 {
            Some(database) => store::Database::Postgres(database.url().parse()?),
            None => store::Database::Sqlite,
        })
    }

    /// How much it holds.
    pub(crate) fn bytes(&self, data_dir: &Path) -> u64 {
        match &self.0 {
            Some(database) => {
                let sql = "SELECT pg_database_size(current_database())";
                database.psql(sql).parse().unwrap_or(0)
            }
            None => std::fs::metadata(store::database_file(data_dir)).map_or(0, |m| m.len()),
        }
    }
}

/// How much `pgbench` does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    For(Duration),
    /// Transactions of each client.
    Each(usize),
}

/// What PostgreSQL's own benchmark does in a second: `script` again and again, by so many clients,
/// as one who needs no password.
pub(crate) fn pgbench(
    database: &Database,
    script: &str,
    clients: usize,
    amount: Amount,
    waits_for_disk: bool,
) -> anyhow::Result<f64> {
    let server = database.server();
    let dir = tempfile::Builder::new().prefix("art-pgbench-").tempdir()?;
    let file = dir.path().join("script.sql");
    std::fs::write(&file, script)?;
    let output = Command::new(server.program("pgbench"))
        .args(["-n", "-M", "prepared", "-j", "1", "-U", "postgres", "-h"])
        .arg(server.dir())
        .args(["-p", &server.port().to_string(), "-c", &clients.to_string()])
        .args(match amount {
            Amount::For(span) => ["-T".to_owned(), span.as_secs().max(1).to_string()],
            Amount::Each(count) => ["-t".to_owned(), count.to_string()],
        })
        .arg("-f")
        .arg(&file)
        .arg(database.name())
        .env_clear()
        .env("PGOPTIONS", if waits_for_disk { "" } else { "-c synchronous_commit=off" })
        .stdin(Stdio::null())
        .output()
        .context("pgbench, of the package postgresql, does not start")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pgbench: {error}");
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    rate.and_then(|n| n.parse().ok()).with_context(|| format!("pgbench says no rate: {said}"))
}
