//! Fault suite (a): SIGKILL at random moments, again and again, under a mixed load, while a daemon
//! recovers too: nothing that was acknowledged is lost, nothing unsafe runs twice, and the checker
//! finds every invariant whole.
//!
//! `AGENT_RUNTIME_TEST_KILLS` (200), `AGENT_RUNTIME_TEST_IN_FLIGHT` (0: three new runs a round;
//! else so many runs are open at each kill), `AGENT_RUNTIME_TEST_STORE=postgres` and
//! `AGENT_RUNTIME_TEST_SEED` make it longer or different; the seed is printed. docs/DURABILITY.md has the long form and its figures.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeMap, time::Duration};

use agent_runtime::store::Database;
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    checker::{Truth, Witness, check_no_leftovers, witness::Recorder},
    daemon::{ADMIN, Answer, Daemon, PROVIDER_KEY},
    fake_llm::{FakeLlm, Fault, Options, Turn},
    postgres,
};
use tokio::time::Instant;

/// Xorshift: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn text_setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    std::env::var(name).ok()
}

fn setting(name: &str, default: u64) -> u64 {
    text_setting(name).and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Where the daemon keeps its rows: a file, or with `AGENT_RUNTIME_TEST_STORE=postgres` a database
/// of a server that this test starts.
fn server() -> Option<postgres::Database> {
    let wanted = text_setting("AGENT_RUNTIME_TEST_STORE");
    (wanted.as_deref() == Some("postgres")).then(|| postgres::Server::shared().database())
}

/// Leaves the id of the call outside, and says so when another execution of it is not over.
const WITNESS: &str = "exec 9>>lock.$AGENT_RUNTIME_CALL_ID; \
    flock -n -E 99 9; [ $? = 99 ] && echo overlap $AGENT_RUNTIME_CALL_ID >> witness.log; \
    echo $AGENT_RUNTIME_CALL_ID >> witness.log";
/// Clients that submit at once.
const CLIENTS: usize = 16;

fn scripts(fake: &FakeLlm) {
    let sh = |script: &str| json!({"argv": ["/bin/sh", "-c", script]});
    // A model that gives away its own key.
    let leak = Turn::text(&format!("done with {PROVIDER_KEY}"));
    fake.script("once", [Turn::call("exec", &sh(WITNESS)), leak]);
    fake.script(
        "slow",
        [
            Turn::call("exec", &sh(&format!("{WITNESS}; sleep 0.05"))),
            Turn::call("exec", &sh(&format!("sleep 0.02; {WITNESS}"))),
            Turn::text("done"),
        ],
    );
    fake.script(
        "mixed",
        [
            Turn::call(
                "write_file",
                &json!({"path": "a.txt", "content": "a", "mode": "overwrite"}),
            )
            .and("read_file", &json!({"path": "a.txt"}))
            .and("exec", &sh(WITNESS)),
            Turn::call("list_files", &json!({})),
            Turn::text("done"),
        ],
    );
    // In flight for as long as a kill takes to come.
    let slow = Fault::SlowBytes(Duration::from_millis(150));
    fake.script("linger", [Turn::text("done").after([slow; 64])]);
}

/// What the test was promised.
#[derive(Default)]
struct Promises {
    /// Body and, once acknowledged, run id, by idempotency key.
    runs: BTreeMap<String, (Value, Option<String>)>,
    /// Keys that are not acknowledged yet.
    waiting: Vec<String>,
}

impl Promises {
    fn ask(&mut self, key: String, body: Value) {
        self.waiting.push(key.clone());
        self.runs.insert(key, (body, None));
    }
}

async fn send(daemon: &Daemon, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
    let request = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ADMIN)
        .header("idempotency-key", key)
        .json(body);
    Daemon::answer(request).await
}

/// Sends every request that is not acknowledged yet, some at a time.
async fn submit(daemon: &Daemon, promises: &mut Promises, recorder: &Recorder) {
    let Promises { runs, waiting } = promises;
    while !waiting.is_empty() {
        let from = waiting.len().saturating_sub(CLIENTS);
        let some = waiting.get(from..).unwrap_or_default().to_vec();
        let sent = some.iter().map(|key| send(daemon, key, &runs[key].0));
        let answers = futures_util::future::join_all(sent).await;
        for (key, answer) in some.iter().zip(answers) {
            let Ok(answer) = answer else { return };
            if answer.status.as_u16() != 202 {
                assert!([503, 429].contains(&answer.status.as_u16()), "{}", answer.text);
                continue;
            }
            let run = answer.json()["id"].as_str().expect("an id").to_owned();
            recorder.created(key, &run);
            runs.get_mut(key).expect("it was asked").1 = Some(run);
            waiting.retain(|w| w != key);
        }
    }
}

async fn list(daemon: &Daemon, path: &str) -> Vec<Value> {
    let answer = daemon.call(Method::GET, path, ADMIN, None).await;
    let Ok(answer) = answer else { return Vec::new() };
    answer.json()["items"].as_array().cloned().unwrap_or_default()
}

/// Answers what people are asked, in the ways that people do.
async fn answer_people(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
    for approval in list(daemon, "/api/v1/approvals?state=pending&limit=100").await {
        let decision = if approval["kind"] == "unknown_effect" {
            let outcome = ["happened", "run", "skip"][usize::try_from(dice.roll(3)).unwrap()];
            json!({"decision": "approve", "outcome": outcome})
        } else if dice.roll(4) == 0 {
            json!({"decision": "deny", "reason": "not today"})
        } else {
            json!({"decision": "approve"})
        };
        let id = approval["id"].as_str().unwrap();
        let path = format!("/api/v1/approvals/{id}/decision");
        let answer = daemon.call(Method::POST, &path, ADMIN, Some(&decision)).await;
        if answer.is_ok_and(|a| a.status.is_success()) {
            recorder.decided(id, decision["decision"].as_str().unwrap());
        }
    }
    for run in list(daemon, "/api/v1/runs?state=paused&limit=100").await {
        let path = format!("/api/v1/runs/{}/resume", run["id"].as_str().unwrap());
        drop(daemon.call(Method::POST, &path, ADMIN, Some(&json!({}))).await);
    }
}

/// Does something rude to a run in progress.
async fn disturb(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
    let running = list(daemon, "/api/v1/runs?state=running&limit=20").await;
    let Some(run) = running.first() else { return };
    let id = run["id"].as_str().unwrap();
    let (verb, body) = match dice.roll(6) {
        0 => ("interrupt", json!({"mode": "graceful"})),
        1 => ("interrupt", json!({"mode": "hard"})),
        2 => ("cancel", json!({})),
        3 | 4 => ("steer", json!({"input": "go on, please"})),
        _ => return,
    };
    let path = format!("/api/v1/runs/{id}/{verb}");
    let answer = daemon.call(Method::POST, &path, ADMIN, Some(&body)).await;
    let Some(answer) = answer.ok().filter(|a| a.status.is_success()) else { return };
    match verb {
        "cancel" => recorder.cancelled(id),
        "steer" => recorder.steered(id, answer.json()["steer_id"].as_str().unwrap()),
        _ => {}
    }
}

/// Recoveries as the daemon's log tells them: how many runs, how long.
fn recoveries(log: &str) -> Vec<(u64, u64)> {
    log.lines()
        .filter(|line| line.contains("recovered the runs of the last daemon"))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some((line["runs"].as_u64()?, line["duration_ms"].as_u64()?)))
        .collect()
}

async fn settle(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        answer_people(daemon, dice, recorder).await;
        let mut open = Vec::new();
        for state in ["queued", "running", "cancelling", "paused", "awaiting_approval"] {
            open.extend(list(daemon, &format!("/api/v1/runs?state={state}&limit=50")).await);
        }
        if open.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still open: {open:#?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Open runs are topped up to this number, or three are asked for.
fn ask_more(round: u64, in_flight: u64, open: u64, promises: &mut Promises, dice: &mut Dice) {
    let count = if in_flight == 0 { 3 } else { in_flight.saturating_sub(open) };
    for n in 0..count {
        // Where many are to be in flight, most of them are with the model.
        let lingers = in_flight > 0 && dice.roll(8) != 0;
        let script = ["once", "slow", "mixed"][usize::try_from(dice.roll(3)).unwrap()];
        let script = if lingers { "linger" } else { script };
        let agent = if dice.roll(4) == 0 { "careful" } else { "open" };
        let key = format!("key-{round}-{n}");
        let body = json!({
            "agent": agent,
            "input": format!("script:{script} round {round} run {n}"),
            "metadata": {"witness-key": key},
        });
        promises.ask(key, body);
    }
}

/// Runs that are not over, as far as pages tell.
async fn open_runs(daemon: &Daemon) -> u64 {
    let mut open = 0;
    for state in ["queued", "running", "cancelling", "paused", "awaiting_approval"] {
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/runs?state={state}&limit=500{cursor}");
            let Ok(answer) = daemon.call(Method::GET, &path, ADMIN, None).await else { break };
            let page = answer.json();
            open += page["items"].as_array().map_or(0, Vec::len) as u64;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
    }
    open
}

/// The middle and the largest.
fn middle_and_most(mut of: Vec<u64>) -> (u64, u64) {
    of.sort_unstable();
    (of.get(of.len() / 2).copied().unwrap_or(0), of.last().copied().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_and_repeat_nothing() {
    let kills = setting("AGENT_RUNTIME_TEST_KILLS", 200);
    let in_flight = setting("AGENT_RUNTIME_TEST_IN_FLIGHT", 0);
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("seed {seed}, {kills} kills, {in_flight} in flight");
    let mut dice = Dice(seed);
    let own = tempfile::tempdir().unwrap();
    let asked = own.path().join("asked.log");
    let recorder = Recorder::new(&own.path().join("clients.log"));
    let fake = FakeLlm::start_with(Options { witness: Some(asked.clone()), ..Options::default() });
    scripts(&fake);
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let server = server();
    if let Some(server) = &server {
        daemon.set_env("AGENT_RUNTIME_DATABASE_URL", &server.url());
    }
    let mut promises = Promises::default();
    let (mut starts, mut early) = (Vec::new(), 0);
    for round in 0..kills {
        if dice.roll(5) == 0 {
            // While it opens its store or recovers what the last one left.
            daemon.launch();
            tokio::time::sleep(Duration::from_millis(dice.roll(120))).await;
            daemon.kill();
            early += 1;
            continue;
        }
        let started = Instant::now();
        daemon.spawn().await;
        starts.push(u64::try_from(started.elapsed().as_millis()).unwrap());
        let open = if in_flight == 0 { 0 } else { open_runs(&daemon).await };
        ask_more(round, in_flight, open, &mut promises, &mut dice);
        if in_flight > 0 {
            submit(&daemon, &mut promises, &recorder).await;
        }
        let moment = Duration::from_millis(dice.roll(300));
        let busy = async {
            submit(&daemon, &mut promises, &recorder).await;
            answer_people(&daemon, &mut dice, &recorder).await;
            disturb(&daemon, &mut dice, &recorder).await;
            std::future::pending::<()>().await;
        };
        drop(tokio::time::timeout(moment, busy).await);
        daemon.kill();
    }
    let data_dir = daemon.data_dir();
    daemon.run().await;
    submit(&daemon, &mut promises, &recorder).await;
    settle(&daemon, &mut dice, &recorder).await;
    check_promises(&daemon, &promises).await;
    daemon.kill();
    drop(fake);
    check_no_leftovers(&data_dir);
    let database = server.as_ref().map_or(Database::Sqlite, |server| {
        Database::Postgres(server.url().parse().expect("an address"))
    });
    let truth = Truth::read_from(&data_dir, &database).await;
    let mut witness = Witness::default();
    witness.add_log(&own.path().join("clients.log"));
    witness.add_log(&asked);
    for agent in ["open", "careful"] {
        witness.add_executions(&daemon.workspace(agent).join("witness.log"));
    }
    witness.secrets = vec![ADMIN.to_owned(), PROVIDER_KEY.to_owned()];
    witness.texts.push(("the log".to_owned(), daemon.log()));
    truth.check(&witness);
    let recovered = truth.events.values().flatten().filter(|e| e.body.kind() == "run.recovered");
    let recovered = recovered.count();
    let told = recoveries(&daemon.log());
    let (middle, most) = middle_and_most(told.iter().map(|(_, ms)| *ms).collect());
    let (start_middle, start_most) = middle_and_most(starts);
    println!(
        "{kills} kills ({early} before it was ready), {} acknowledged requests, 0 lost, {} runs, \
         {} executions seen outside, 0 repeated, {recovered} recoveries, of at most {} runs at once, \
         recovery p50 {middle} ms max {most} ms, exec to listening p50 {start_middle} ms max {start_most} ms",
        witness.created.len()
            + witness.decided.len()
            + witness.cancelled.len()
            + witness.steered.len(),
        truth.runs.len(),
        witness.executed.len(),
        told.iter().map(|(runs, _)| *runs).max().unwrap_or(0),
    );
    assert!(kills < 50 || recovered > 0, "no kill hit a run: the test shows nothing");
    assert!(!witness.executed.is_empty());
}

/// 1: every acknowledged request is there, and its key still gives the same run.
async fn check_promises(daemon: &Daemon, promises: &Promises) {
    for (key, (body, id)) in &promises.runs {
        let again = send(daemon, key, body).await.expect("an answer").expect(202);
        assert_eq!(again["id"].as_str(), id.as_deref(), "{key} gives another run");
    }
}
