//! Fills a store with many copies of one run that a daemon has really done: every row of it, in every
//! table, with ids and times of its own, spread over the last hours.
//!
//! The rows are read and written as they stand, whatever their columns, so that a copy never lacks
//! what a new column holds. Only the hashes of the audit trail are not true.

use std::{collections::BTreeMap, path::Path, time::Duration};

use agent_runtime::{
    domain::{Clock, SystemClock},
    store::database_file,
};
use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection,
    sqlite::SqliteConnectOptions,
};
use tokio::time::Instant;

use crate::place::Place;

/// Tables with rows of a run, and how they are found.
const TABLES: [(&str, &str); 10] = [
    ("conversations", "id IN (SELECT conversation_id FROM runs)"),
    ("messages", "1 = 1"),
    ("runs", "1 = 1"),
    ("steps", "1 = 1"),
    ("tool_calls", "1 = 1"),
    ("events", "1 = 1"),
    ("bundles", "1 = 1"),
    ("decisions", "1 = 1"),
    ("capabilities", "1 = 1"),
    ("audit", "run_id IS NOT NULL"),
];
/// Runs of one transaction.
const CHUNK: usize = 1_000;
/// Over which time the copies are spread. Less than the time after which the daemon forgets rows.
const SPREAD: Duration = Duration::from_secs(6 * 3_600);
/// Numbers above are moments, in microseconds.
const MOMENT: i64 = 1_500_000_000_000_000;

/// A connection of our own: the daemon does not run meanwhile.
enum Conn {
    Sqlite(Box<SqliteConnection>),
    Postgres(PgConnection),
}

impl Conn {
    async fn open(data_dir: &Path, place: &Place) -> anyhow::Result<Self> {
        if let Some(database) = place.on_server() {
            let mut conn = PgConnection::connect(&database.url()).await?;
            conn.execute("SET synchronous_commit = off").await?;
            return Ok(Self::Postgres(conn));
        }
        let options = SqliteConnectOptions::new()
            .filename(database_file(data_dir))
            .pragma("synchronous", "OFF")
            .pragma("cache_size", "-262144");
        Ok(Self::Sqlite(Box::new(SqliteConnection::connect_with(&options).await?)))
    }

    async fn run(&mut self, texts: String) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(conn) => {
                let texts = format!("BEGIN; {texts}; COMMIT");
                sqlx::raw_sql(AssertSqlSafe(texts)).execute(&mut **conn).await?;
            }
            Self::Postgres(conn) => {
                sqlx::raw_sql(AssertSqlSafe(texts)).execute(conn).await?;
            }
        }
        Ok(())
    }

    async fn texts(&mut self, sql: String) -> anyhow::Result<Vec<String>> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(match self {
            Self::Sqlite(conn) => {
                let rows = sql.fetch_all(&mut **conn).await?;
                rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?
            }
            Self::Postgres(conn) => {
                let rows = sql.fetch_all(conn).await?;
                rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?
            }
        })
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(conn) => conn.close().await?,
            Self::Postgres(conn) => conn.close().await?,
        }
        Ok(())
    }

    /// Rows as JSON objects.
    async fn rows(&mut self, table: &str, which: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
        let sql = match self {
            Self::Postgres(_) => {
                format!("SELECT to_jsonb(t)::TEXT FROM {table} t WHERE {which}")
            }
            Self::Sqlite(_) => {
                let sql = format!("SELECT name FROM pragma_table_info('{table}')");
                let columns = self.texts(sql).await?;
                let pairs: Vec<_> = columns.iter().map(|c| format!("'{c}', {c}")).collect();
                format!("SELECT json_object({}) FROM {table} WHERE {which}", pairs.join(", "))
            }
        };
        let rows = self.texts(sql).await?;
        rows.iter().map(|row| serde_json::from_str(row).context("a row")).collect()
    }

    /// The numbers of the copies, and what is each one's own in ids and times.
    async fn number(&mut self, copies: usize) -> anyhow::Result<()> {
        let now = SystemClock.now().as_micros();
        let step = i64::try_from(SPREAD.as_micros())? / i64::try_from(copies)?;
        let first = now - i64::try_from(SPREAD.as_micros())?;
        // Ids are UUIDs of version 7: their first half is the time.
        let (series, head, tail) = match self {
            Self::Sqlite(_) => (
                format!(
                    "WITH RECURSIVE c(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM c WHERE k + 1 < {copies})"
                ),
                "printf('%08x-%04x-7%03x-', at / 1000 / 65536, at / 1000 % 65536, k % 4096)",
                "printf('-%012x', k * 2654435761 % 281474976710656)",
            ),
            Self::Postgres(_) => (
                format!("WITH c(k) AS (SELECT generate_series(0, {copies} - 1)::BIGINT)"),
                "lpad(to_hex(at / 1000 / 65536), 8, '0') || '-' || lpad(to_hex(at / 1000 % 65536), 4, '0') \
                 || '-7' || lpad(to_hex(k % 4096), 3, '0') || '-'",
                "'-' || lpad(to_hex(k * 2654435761 % 281474976710656), 12, '0')",
            ),
        };
        self.run(format!(
            "CREATE TEMP TABLE copies (k BIGINT PRIMARY KEY, head TEXT, tail TEXT, at BIGINT); \
             INSERT INTO copies {series} SELECT k, {head}, {tail}, at \
             FROM (SELECT k, {first} + k * {step} AS at FROM c) t"
        ))
        .await
    }
}

/// How the rows of the sample become those of a copy.
struct Template {
    /// The ids that each run has of its own; their place is the copy's number for them.
    ids: BTreeMap<String, usize>,
    began: i64,
    last_audit: i64,
    audit_rows: usize,
}

impl Template {
    /// A value as SQL over a row of `copies`, named `c`.
    fn value(&self, table: &str, column: &str, value: &Value, place: usize) -> String {
        match (table, column, value) {
            ("audit", "n", _) => {
                format!("{} + c.k * {} + {}", self.last_audit + 1, self.audit_rows, place)
            }
            (_, "hash" | "prev_hash", Value::String(hash)) => {
                let half: String = hash.chars().take(52).collect();
                format!("'{half}' || substr(c.tail, 2)")
            }
            (_, _, Value::Number(number)) => match number.as_i64() {
                Some(moment) if moment > MOMENT => format!("c.at + {}", moment - self.began),
                _ => number.to_string(),
            },
            (_, _, Value::String(text)) => self.text(text),
            _ => "NULL".to_owned(),
        }
    }

    fn text(&self, text: &str) -> String {
        let mut sql = String::from("'");
        let mut rest = text;
        while let Some(at) = next_uuid(rest) {
            let (before, from) = rest.split_at(at);
            let (uuid, after) = from.split_at(UUID);
            sql.push_str(&before.replace('\'', "''"));
            match self.ids.get(uuid) {
                // Its fourth group says which id of the run it is.
                Some(n) => {
                    let group = (8_000 + n).to_string();
                    sql += &["' || c.head || '", &group, "' || c.tail || '"].concat();
                }
                None => sql.push_str(uuid),
            }
            rest = after;
        }
        sql.push_str(&rest.replace('\'', "''"));
        sql.push('\'');
        sql
    }
}

const UUID: usize = 36;

/// Where a text holds a UUID.
fn next_uuid(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.windows(UUID).position(|window| {
        window.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

fn uuids(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = next_uuid(rest) {
        let (uuid, after) = rest.split_at(at).1.split_at(UUID);
        found.push(uuid.to_owned());
        rest = after;
    }
    found
}

/// Copies the one run of a store until there are `wanted`; how many rows a run has.
pub(crate) async fn fill(data_dir: &Path, place: &Place, wanted: usize) -> anyhow::Result<usize> {
    let mut conn = Conn::open(data_dir, place).await?;
    let copies = wanted.saturating_sub(1).max(1);
    let began = Instant::now();
    let mut sample = Vec::new();
    for (table, which) in TABLES {
        for row in conn.rows(table, which).await? {
            sample.push((table, row));
        }
    }
    let run = sample.iter().find(|(table, _)| *table == "runs").context("no run to copy")?;
    let owner = run.1["principal"].as_str().unwrap_or_default().to_owned();
    let began_at = run.1["created_at"].as_i64().context("no time")?;
    let mut ids = BTreeMap::new();
    for value in sample.iter().flat_map(|(_, row)| row.values()) {
        for uuid in value.as_str().map(uuids).unwrap_or_default() {
            let next = ids.len();
            if !owner.contains(&uuid) {
                ids.entry(uuid).or_insert(next);
            }
        }
    }
    ensure!(ids.len() < 1_000, "a run of {} ids", ids.len());
    let last = conn.texts("SELECT CAST(MAX(n) AS TEXT) FROM audit".to_owned()).await?;
    let last_audit = last.first().and_then(|n| n.parse().ok()).unwrap_or(0);
    let audit_rows = sample.iter().filter(|(table, _)| *table == "audit").count();
    let template = Template { ids, began: began_at, last_audit, audit_rows };
    let mut inserts = Vec::new();
    let mut of_audit = 0;
    for (table, row) in &sample {
        let columns: Vec<&str> = row.keys().map(String::as_str).collect();
        let values: Vec<String> =
            row.iter().map(|(c, v)| template.value(table, c, v, of_audit)).collect();
        of_audit += usize::from(*table == "audit");
        inserts.push(format!(
            "INSERT INTO {table} ({}) SELECT {} FROM copies c",
            columns.join(", "),
            values.join(", ")
        ));
    }
    conn.number(copies).await?;
    let mut shown = Instant::now();
    for first in (0..copies).step_by(CHUNK) {
        let which = format!(" WHERE c.k >= {first} AND c.k < {} ORDER BY c.k", first + CHUNK);
        let texts: Vec<String> = inserts.iter().map(|insert| format!("{insert}{which}")).collect();
        conn.run(texts.join("; ")).await?;
        if shown.elapsed() > Duration::from_secs(5) {
            let seconds = began.elapsed().as_secs();
            eprintln!("    {} of {copies} runs stored after {seconds} s", first + CHUNK);
            shown = Instant::now();
        }
    }
    conn.close().await?;
    if let Some(database) = place.on_server() {
        // As the server does by itself after a while.
        database.psql("VACUUM ANALYZE");
        database.psql("CHECKPOINT");
    }
    Ok(sample.len())
}
