//! What the daemon asks of its database costs the same whether ten runs are stored or ten
//! thousand: no statement of a run's life, of a claim, of a feed or of a list reads a big table from
//! end to end.
//!
//! Nothing is listed here by hand: Postgres itself writes down the plan of every statement that a
//! daemon really runs (`auto_explain`), with how many rows it really read. The same texts are then
//! put before SQLite's planner, which goes by its indexes alone.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use regex::Regex;
use serde_json::json;
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    scenes::{approval_of, provider, until_asked, verb},
    support::{
        daemon::{ADMIN, Daemon, PATIENCE},
        fake_llm::FakeLlm,
        live::Sse,
        postgres::{Database, Server, Sync},
    },
};

/// Tables that grow with every run.
const BIG: [&str; 13] = [
    "approvals",
    "audit",
    "bundles",
    "capabilities",
    "conversations",
    "decisions",
    "events",
    "idempotency",
    "messages",
    "runs",
    "steers",
    "steps",
    "tool_calls",
];
/// Each stored run becomes so many.
const COPIES: usize = 300;
/// With fewer, reading all of a table would be no fault.
const ROWS_LEAST: usize = 1_000;
/// The longest page is 500 rows; nothing needs to look at more to give one.
const ROWS_MAX: f64 = 1_100.0;
/// After five times Postgres may take one plan for all values of a prepared statement.
const TIMES: usize = 7;

/// Goes through what runs go through, and looks at everything that can be looked at.
async fn live(fake: &FakeLlm, daemon: &Daemon) {
    for n in 0..TIMES {
        let said = keyed(daemon, &format!("key-{n}-{}", fake.seen_of("stuck").len())).await;
        daemon.wait_for(&said, &["succeeded"]).await;
        let done = daemon.submit("careful", "script:exec b").await;
        let asked = approval_of(daemon, &done).await;
        let path = format!("/api/v1/approvals/{}", asked["id"].as_str().expect("an id"));
        daemon.get(&path).await.expect(200);
        let decision = if n == 0 { "deny" } else { "approve" };
        daemon.decide(&asked, &json!({"decision": decision})).await.expect(200);
        daemon.wait_for(&done, &["succeeded"]).await;
        let question = daemon.submit("open", "script:ask c").await;
        daemon.wait_for(&question, &["paused"]).await;
        assert_eq!(verb(daemon, &question, "resume", &json!({"input": "red"})).await.0, 202);
        daemon.wait_for(&question, &["succeeded"]).await;
        let before = fake.seen_of("stuck").len();
        let stuck = daemon.submit("open", "script:stuck d").await;
        until_asked(fake, "stuck", before + 1).await;
        assert_eq!(verb(daemon, &stuck, "steer", &json!({"input": "script:say e"})).await.0, 202);
        assert_eq!(verb(daemon, &stuck, "interrupt", &json!({})).await.0, 202);
        daemon.wait_for(&stuck, &["paused"]).await;
        assert_eq!(verb(daemon, &stuck, "cancel", &json!({})).await.0, 202);
        daemon.wait_for(&stuck, &["cancelled"]).await;
        look(daemon, &done).await;
        let mut feed = Sse::open(daemon, ADMIN, &done, 3).await;
        while feed.next().await.is_some() {}
    }
}

/// A run under a key, asked for twice.
async fn keyed(daemon: &Daemon, key: &str) -> String {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let body = json!({"agent": "open", "input": "script:say a"});
        let url = format!("{}/api/v1/runs", daemon.base());
        let request = daemon.http().post(url).bearer_auth(ADMIN).header("idempotency-key", key);
        let answer = Daemon::answer(request.json(&body)).await.expect("an answer").expect(202);
        ids.push(answer["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids[0], ids[1], "one key, one run");
    ids.remove(0)
}

/// Nothing is left to do: what a daemon finds at its start it recovers, copies included.
async fn until_idle(database: &Database) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let open = database.psql(
            "SELECT id, state, input FROM runs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')",
        );
        if open.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still at work: {open}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every list and every page of it, narrowed in each way.
async fn look(daemon: &Daemon, run: &str) {
    let of = daemon.run_of(run).await;
    let conversation = of["conversation_id"].as_str().expect("an id");
    for path in [
        "/api/v1/runs?limit=50".to_owned(),
        "/api/v1/runs?limit=500&state=succeeded".to_owned(),
        "/api/v1/runs?limit=50&state=queued".to_owned(),
        "/api/v1/runs?limit=50&state=paused".to_owned(),
        "/api/v1/runs?limit=50&agent=open".to_owned(),
        format!("/api/v1/runs?limit=50&conversation_id={conversation}"),
        format!("/api/v1/runs/{run}/events?limit=500"),
        format!("/api/v1/runs/{run}/bundles"),
        "/api/v1/approvals?state=pending&limit=50".to_owned(),
        "/api/v1/approvals?state=approved&limit=50".to_owned(),
        "/api/v1/approvals?limit=50".to_owned(),
        "/api/v1/conversations?limit=50".to_owned(),
        format!("/api/v1/conversations/{conversation}"),
        format!("/api/v1/conversations/{conversation}/messages?limit=50"),
        "/api/v1/usage".to_owned(),
        "/api/v1/me".to_owned(),
    ] {
        let page = daemon.get(&path).await.expect(200);
        if let Some(cursor) = page["next_cursor"].as_str() {
            daemon.get(&format!("{path}&cursor={cursor}")).await.expect(200);
        }
    }
    for args in [
        &["audit", "query", "--limit", "100"][..],
        &["audit", "query", "--run", run],
        &["audit", "query", "--kind", "control", "--limit", "100"],
        &["capability", "list"],
        &["capability", "list", "--agent", "open"],
        &["capability", "list", "--run", run],
        &["capability", "list", "--live"],
        &["budget", "show"],
        &["policy", "explain", "--", "true"],
    ] {
        let told = daemon.cli(args).await;
        assert_ne!(told.code, Some(2), "{args:?}: {told:?}");
        assert!(!told.err.contains("(503"), "{args:?}: {told:?}");
    }
}

/// Makes many of what is stored: the same rows under other ids, a little older each.
fn multiply(database: &Database) {
    for table in BIG {
        let columns = database.psql(&format!(
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
        ));
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for line in columns.lines() {
            let (name, kind) = line.split_once('|').expect("two columns");
            names.push(name.to_owned());
            values.push(match (table, name) {
                // The end of the trail stays where it is: nobody reads the copies' hashes.
                ("audit", "n") => "-(copy * 100000 + n)".to_owned(),
                ("idempotency", "idem_key") => "idem_key || copy".to_owned(),
                (_, name) if name.ends_with("_at") || name == "at" => {
                    format!("{name} - copy * 1000000")
                }
                _ if kind == "text" && name != "principal" => format!(
                    "REGEXP_REPLACE({name}, '([a-z]+_[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-\
                     [0-9a-f]{{4}}-[0-9a-f]{{6}})[0-9a-f]{{6}}', \
                     '\\1' || LPAD(TO_HEX(copy), 6, '0'), 'g')"
                ),
                _ => name.to_owned(),
            });
        }
        assert!(!names.is_empty(), "there is no table {table}");
        let chosen = if table == "audit" { "WHERE n > 0" } else { "" };
        database.psql(&format!(
            "INSERT INTO {table} ({}) SELECT {} FROM \
             (SELECT * FROM {table} {chosen}) AS of, GENERATE_SERIES(1, {COPIES}) AS copy",
            names.join(", "),
            values.join(", ")
        ));
    }
    // What waits is gone with its run: some of the copies have their steers still.
    database.psql(
        "INSERT INTO steers (id, run_id, principal, input, if_ended, created_at) \
         SELECT 'stq' || SUBSTR(id, 4), id, principal, '\"left\"', 'fail', created_at FROM runs \
         ORDER BY id LIMIT 5000",
    );
    for table in BIG {
        let rows = database.psql(&format!("SELECT COUNT(*) FROM {table}"));
        let rows: usize = rows.parse().expect("a number");
        assert!(rows >= ROWS_LEAST, "{rows} rows of {table} show nothing");
    }
    database.psql("ANALYZE");
}

/// A statement that was run, and what the server did for it.
struct Ran {
    text: String,
    plan: String,
}

/// What `auto_explain` wrote.
fn explained(log: &str) -> Vec<Ran> {
    let mut all = Vec::new();
    for entry in log.split(" plan:\n").skip(1) {
        let lines: Vec<&str> = entry.lines().take_while(|line| line.starts_with('\t')).collect();
        let is_plan = |line: &&str| line.contains("(cost=");
        let begin = lines.iter().position(is_plan).unwrap_or(lines.len());
        let text = lines[..begin].join(" ").replace('\t', "");
        let text = text.trim_start_matches("Query Text:").trim().to_owned();
        all.push(Ran { text, plan: lines[begin..].join("\n") });
    }
    all
}

static NODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        "(Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan)(?: Backward)?(?: using [a-z_0-9]+)? \
         on ([a-z_0-9]+).*actual rows=([0-9.]+) loops=([0-9]+)",
    )
    .expect("a pattern")
});
static REMOVED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("Rows Removed by [A-Za-z]+(?: [A-Za-z]+)?: ([0-9]+)").expect("a pattern")
});

/// What a plan reads too much of.
fn too_much(plan: &str) -> Option<String> {
    let mut of_big = false;
    for line in plan.lines() {
        if let Some(found) = NODE.captures(line) {
            of_big = BIG.contains(&&found[2]);
            let rows: f64 = found[3].parse().expect("a number");
            let loops: f64 = found[4].parse().expect("a number");
            if of_big && &found[1] == "Seq Scan" {
                return Some(format!("reads all of {}", &found[2]));
            }
            if of_big && rows * loops > ROWS_MAX {
                return Some(format!("reads {} rows of {}", rows * loops, &found[2]));
            }
        } else if let Some(found) = REMOVED.captures(line)
            && of_big
            && found[1].parse::<f64>().expect("a number") > ROWS_MAX
        {
            return Some(format!("looks at {} rows for nothing", &found[1]));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_a_runs_life_or_of_a_list_reads_a_big_table_from_end_to_end() {
    let server = Server::start(Sync::Off);
    let database = server.database();
    let fake = provider();
    // Copies of runs that wait count as waiting.
    let more = "[limits]\nqueued_runs = 1000000\nqueued_runs_per_principal = 1000000\n";
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), more);
    daemon.use_database(&database.url());
    daemon.run().await;
    live(&fake, &daemon).await;
    until_idle(&database).await;
    assert_eq!(daemon.stop().await, Some(0));
    multiply(&database);
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_timing = off",
    ] {
        database.psql(&format!("ALTER DATABASE {} SET {setting}", database.name()));
    }
    let begin = server.whole_log().len();
    daemon.run().await;
    live(&fake, &daemon).await;
    assert_eq!(daemon.stop().await, Some(0));
    let ran = explained(server.whole_log().get(begin..).expect("the log grew"));
    let texts: BTreeSet<&str> = ran.iter().map(|ran| ran.text.as_str()).collect();
    println!("{} statements, {} texts", ran.len(), texts.len());
    assert!(texts.len() > 60, "only {} texts: this shows nothing", texts.len());
    for word in ["FOR UPDATE", "ORDER BY", "INSERT INTO events", "UPDATE runs"] {
        assert!(texts.iter().any(|text| text.contains(word)), "nothing with {word}");
    }
    let mut bad = BTreeSet::new();
    for Ran { text, plan } in &ran {
        if let Some(what) = too_much(plan) {
            bad.insert(format!("{what}\n{text}\n{plan}\n"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.into_iter().collect::<Vec<_>>().join("\n"));
    on_sqlite(&texts).await;
}

/// The same texts before SQLite's planner.
async fn on_sqlite(texts: &BTreeSet<&str>) {
    let dir = tempfile::tempdir().expect("a directory");
    let options =
        SqliteConnectOptions::new().filename(dir.path().join("plans.db")).create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options).await.expect("a database");
    sqlx::migrate!("./migrations").run(&mut conn).await.expect("tables");
    let (mut checked, mut bad) = (0, Vec::new());
    for text in texts {
        // What only Postgres is told: locks of rows, columns as arrays, its own functions.
        let own = [
            "current_",
            "to_regclass",
            "UNNEST",
            "pg_",
            "NOTIFY",
            "::",
            "clock_timestamp",
            "EXTRACT",
        ];
        if own.iter().any(|word| text.contains(word)) {
            continue;
        }
        let text = text.replace(" FOR UPDATE SKIP LOCKED", "").replace(" FOR UPDATE", "");
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let rows = sqlx::query(explain).fetch_all(&mut conn).await;
        checked += 1;
        if let Err(error) = &rows {
            bad.push(format!("{error}: {text}"));
        }
        for row in rows.unwrap_or_default() {
            let step: String = row.get(3);
            let scans = |table: &&str| step == format!("SCAN {table}");
            if BIG.iter().any(scans) {
                bad.push(format!("{step}: {text}"));
            }
        }
    }
    assert!(checked > 40, "only {checked} texts: this shows nothing");
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_plan_that_reads_too_much_is_found() {
    let scan = "\tLimit  (cost=0..1 rows=1 width=8) (actual rows=1 loops=1)\n\
                \t  ->  Seq Scan on runs  (cost=0..1 rows=1 width=8) (actual rows=1 loops=1)";
    assert_eq!(too_much(scan), Some("reads all of runs".to_owned()));
    let wide = "\tIndex Scan using runs_pkey on runs  (cost=0..1 rows=1 width=8) \
                (actual rows=20000 loops=1)";
    assert!(too_much(wide).is_some());
    let filter = "\tIndex Scan Backward using runs_pkey on runs  (cost=0..1 rows=1 width=8) \
                  (actual rows=3 loops=1)\n\t  Filter: (agent = 'x')\n\
                  \t  Rows Removed by Filter: 9000";
    assert!(too_much(filter).is_some());
    let good = "\tIndex Scan using runs_pkey on runs  (cost=0..1 rows=1 width=8) \
                (actual rows=50 loops=1)\n\t  Rows Removed by Filter: 20";
    assert_eq!(too_much(good), None);
    let small = "\tSeq Scan on counters  (cost=0..1 rows=1 width=8) (actual rows=3 loops=1)";
    assert_eq!(too_much(small), None);
    let log = "2026 UTC [1] LOG:  duration: 0.1 ms  plan:\n\tQuery Text: SELECT 1\n\tResult  \
               (cost=0..1 rows=1 width=4) (actual rows=1 loops=1)\n2026 UTC [1] LOG:  other\n";
    let ran = explained(log);
    assert_eq!((ran.len(), ran[0].text.as_str()), (1, "SELECT 1"));
    assert!(ran[0].plan.starts_with("\tResult"));
}
