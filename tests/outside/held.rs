//! (g) Another process holds the database's write lock, for longer than SQLite waits. Writes wait
//! or are refused with 503, reads go on, and when the lock is given back everything goes on by
//! itself.
//!
//! `AGENT_RUNTIME_TEST_HOLDS` (`7`) are the seconds of each hold. Long: `3,10,30`.

use std::{path::Path, time::Duration};

use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::time::Instant;

use crate::{
    dice::{Dice, seed},
    load::{self, UnderWay},
    support::{
        daemon::{ADMIN, Daemon},
        live::Sse,
    },
};

/// Longest answer: what SQLite waits for the lock, for a group of ours and for one more.
const ANSWER_MAX: Duration = Duration::from_secs(13);

/// Requests that are made meanwhile.
const REQUESTS: usize = 12;

fn holds() -> Vec<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var("AGENT_RUNTIME_TEST_HOLDS").unwrap_or_else(|_| "7".to_owned());
    text.split(',').map(|secs| secs.trim().parse().expect("seconds")).collect()
}

/// The write lock, in this process and not in the daemon's.
struct Held(SqliteConnection);

impl Held {
    async fn take(data_dir: &Path) -> Self {
        let file = format!("sqlite://{}", data_dir.join("agent-runtime.db").display());
        let mut conn = SqliteConnection::connect(&file).await.expect("a connection");
        conn.execute("PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE").await.expect("the lock");
        Self(conn)
    }

    async fn give_back(mut self) {
        self.0.execute("ROLLBACK").await.expect("the end");
        self.0.close().await.expect("an end");
    }
}

/// Reads go on while the lock is held, and the probe says what is wrong. Then it is given back.
async fn watch(daemon: &Daemon, held: Held, run: &str, secs: u64) {
    let began = Instant::now();
    let mut probes = Vec::new();
    while began.elapsed() < Duration::from_secs(secs) {
        let asked = Instant::now();
        assert_eq!(daemon.run_of(run).await["state"], "running");
        assert!(asked.elapsed() < Duration::from_secs(2), "a read waits for the writer");
        probes.push(load::ready(daemon).await);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    held.give_back().await;
    let tells = |body: &Value| body["checks"]["store"]["ok"] == false;
    let has_seen = probes.iter().any(|(status, body)| *status == 503 && tells(body));
    assert!(has_seen, "no probe saw it: {probes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_else_holds_delays_everything_and_loses_nothing() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    daemon.run().await;
    for secs in holds() {
        let under_way = UnderWay::begin(&daemon, &fake, &secs.to_string()).await;
        let mut stream = Sse::open(&daemon, ADMIN, &under_way.run, 0).await;
        let held = Held::take(&daemon.data_dir()).await;
        // Its result has to wait.
        under_way.let_go(&daemon);
        let wrong = daemon.call(Method::GET, "/api/v1/runs", "a-wrong-token-0123456789", None);
        assert_eq!(wrong.await.expect("an answer").status.as_u16(), 401);
        let requests = (0..REQUESTS).map(|n| {
            let (key, body) = (format!("held-{secs}-{n}"), load::body(&mut dice, n));
            let daemon = &daemon;
            async move {
                let asked = Instant::now();
                let answer = load::send(daemon, &key, &body).await.expect("an answer");
                (key, body, answer, asked.elapsed())
            }
        });
        let requests = futures_util::future::join_all(requests);
        let (answers, ()) = tokio::join!(requests, watch(&daemon, held, &under_way.run, secs));
        let released = Instant::now();
        let mut refused = 0;
        let mut slowest = Duration::ZERO;
        for (key, body, answer, took) in answers {
            slowest = slowest.max(took);
            assert!(took < ANSWER_MAX, "{key} took {took:?}");
            if answer.status.as_u16() != 202 {
                refused += 1;
                load::assert_unavailable(&answer);
            }
            // Whatever was said: under its key there is one run now.
            let first = load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
            let again = load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
            assert_eq!(first["id"], again["id"]);
        }
        under_way.succeeds(&daemon).await;
        let stored = released.elapsed();
        while stream.next().await.is_some_and(|event| event.kind != "run.succeeded") {}
        load::settle(&daemon, &mut dice).await;
        assert_eq!(load::ready(&daemon).await.0, 200);
        println!(
            "held for {secs} s: {refused} of {REQUESTS} refused, slowest answer {slowest:?}, the \
             held result was stored {stored:?} after the end"
        );
    }
    let export = daemon.cli(&["audit", "export"]).await;
    let failures = export.out.matches("\"auth_failed\"").count();
    assert_eq!(failures, holds().len(), "an audit row waited and was not lost");
    load::end(&mut daemon, &mut dice, holds().len(), holds().len() * (2 + REQUESTS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_lock_that_is_given_back_and_names_one_that_is_not() {
    let mut daemon = Daemon::start("").await;
    let id = daemon.submit("reader", "hello").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(daemon.stop().await, Some(0));
    let held = Held::take(&daemon.data_dir()).await;
    let refused = daemon.refused().await;
    assert!(!matches!(refused.code, Some(0) | None), "{refused:?}");
    assert!(
        refused.err.contains("agent-runtime.db") && refused.err.contains("locked"),
        "{refused:?}"
    );
    let given_back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        held.give_back().await;
    };
    tokio::join!(daemon.run(), given_back);
    assert_eq!(daemon.run_of(&id).await["state"], "succeeded");
}
