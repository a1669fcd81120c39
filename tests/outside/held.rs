//! (g) Another process holds the database's write lock, for longer than SQLite waits. Writes wait
//! or are refused with 503, reads go on, and when the lock is given back everything goes on by
//! itself.
//!
//! `AGENT_RUNTIME_TEST_HOLDS` (`7`) are the seconds of each hold. Long: `3,10,30`.

use std::{fs, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::time::Instant;

use crate::{
    dice::{Dice, seed},
    load::{self, sh},
    support::{
        daemon::{ADMIN, Daemon, PATIENCE},
        fake_llm::Turn,
        live::Sse,
    },
};

/// Longest answer: what SQLite waits for the lock, for a group of ours and for one more.
const ANSWER_MAX: Duration = Duration::from_secs(13);

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

async fn ready(daemon: &Daemon) -> (u16, Value) {
    let answer = daemon.http().get(format!("{}/readyz", daemon.base())).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_else_holds_delays_everything_and_loses_nothing() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let gate = "touch begun-$0; while [ ! -e go-$0 ]; do sleep 0.02; done; echo $0 >> ran.log";
    let mut daemon = Daemon::prepare(&fake.openai_url());
    daemon.run().await;
    let workspace = daemon.workspace("open");
    let mut accepted = 0;
    for secs in holds() {
        let script = gate.replace("$0", &secs.to_string());
        fake.script(
            &format!("gate{secs}"),
            [Turn::call("exec", &sh(&script)), Turn::text("through")],
        );
        let run = daemon.submit("open", &format!("script:gate{secs}")).await;
        let asks = daemon.submit("careful", &format!("script:once asks {secs}")).await;
        accepted += 2;
        daemon.wait_for(&asks, &["awaiting_approval"]).await;
        let deadline = Instant::now() + PATIENCE;
        while !workspace.join(format!("begun-{secs}")).exists() {
            assert!(Instant::now() < deadline, "the tool does not begin: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut stream = Sse::open(&daemon, ADMIN, &run, 0).await;

        let held = Held::take(&daemon.data_dir()).await;
        let began = Instant::now();
        // Its result has to wait.
        fs::write(workspace.join(format!("go-{secs}")), "").expect("a file");
        let wrong =
            daemon.call(Method::GET, "/api/v1/runs", "a-wrong-token-0123456789", None).await;
        assert_eq!(wrong.expect("an answer").status.as_u16(), 401);
        let requests = (0..12).map(|n| {
            let (key, body) = (format!("held-{secs}-{n}"), load::body(&mut dice, n));
            let daemon = &daemon;
            async move {
                let asked = Instant::now();
                let answer = load::send(daemon, &key, &body).await.expect("an answer");
                (key, body, answer, asked.elapsed())
            }
        });
        let watch = async {
            // Reads go on meanwhile, and the probe says what is wrong.
            let mut probes = Vec::new();
            while began.elapsed() < Duration::from_secs(secs) {
                let asked = Instant::now();
                assert_eq!(daemon.run_of(&run).await["state"], "running");
                assert!(asked.elapsed() < Duration::from_secs(2), "a read waits for the writer");
                probes.push(ready(&daemon).await);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            held.give_back().await;
            probes
        };
        let requests = futures_util::future::join_all(requests);
        let (answers, probes) = tokio::join!(requests, watch);
        let released = Instant::now();
        assert!(
            probes
                .iter()
                .any(|(status, body)| *status == 503 && body["checks"]["store"]["ok"] == false),
            "no probe saw it: {probes:?}"
        );
        let mut refused = 0;
        let mut slowest = Duration::ZERO;
        for (key, body, answer, took) in answers {
            slowest = slowest.max(took);
            assert!(took < ANSWER_MAX, "{key} took {took:?}");
            if answer.status.as_u16() == 503 {
                refused += 1;
                assert_eq!(answer.code(), "store.unavailable");
                assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
            } else {
                assert_eq!(answer.status.as_u16(), 202, "{}", answer.text);
            }
            // Whatever was said: under its key there is one run now.
            let first = load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
            let again = load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
            assert_eq!(first["id"], again["id"]);
            accepted += 1;
        }
        let run = daemon.wait_for(&run, &["succeeded", "failed", "paused"]).await;
        assert_eq!((&run["state"], &run["output"]), (&json!("succeeded"), &json!("through")));
        let recovered = released.elapsed();
        while stream.next().await.is_some_and(|event| event.kind != "run.succeeded") {}
        load::settle(&daemon, &mut dice).await;
        assert_eq!(ready(&daemon).await.0, 200);
        println!(
            "held for {secs} s: {refused} of 12 refused, slowest answer {slowest:?}, the held result \
             was stored {recovered:?} after the end"
        );
    }
    let ran = fs::read_to_string(workspace.join("ran.log")).expect("a log");
    assert_eq!(ran.lines().count(), holds().len(), "each tool ran once: {ran}");
    let export = daemon.cli(&["audit", "export"]).await;
    let failures = export.out.matches("\"auth_failed\"").count();
    assert_eq!(failures, holds().len(), "an audit row waited and was not lost");
    assert_eq!(daemon.stop().await, Some(0));
    let truth = load::read_and_check(&daemon.data_dir()).await;
    truth.check_settled();
    let witness: Vec<String> = load::witness(&daemon).into_iter().map(|(call, _)| call).collect();
    truth.check_witness(&witness);
    assert_eq!(truth.runs.len(), accepted);
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
