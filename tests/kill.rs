//! SIGKILL at random moments, again and again, under a mixed load: nothing that was acknowledged
//! is lost, nothing unsafe runs twice, and every invariant of RUNS.md that one node can break
//! holds afterwards.
//!
//! `AGENT_RUNTIME_TEST_KILLS` (200) and `AGENT_RUNTIME_TEST_SEED` make it longer or different; the
//! seed is printed.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use support::{
    checker::{Truth, check_no_leftovers},
    daemon::{ADMIN, Answer, Daemon, PROVIDER_KEY},
    fake_llm::{FakeLlm, Turn},
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

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var(name);
    text.ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

const WITNESS: &str = "echo $AGENT_RUNTIME_CALL_ID >> witness.log";

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
}

/// What the test was promised.
#[derive(Default)]
struct Promises {
    /// Body and, once acknowledged, run id, by idempotency key.
    runs: BTreeMap<String, (Value, Option<String>)>,
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

/// Sends every request that is not acknowledged yet.
async fn submit(daemon: &Daemon, promises: &mut Promises) {
    for (key, (body, id)) in &mut promises.runs {
        if id.is_some() {
            continue;
        }
        let Ok(answer) = send(daemon, key, body).await else { return };
        if answer.status.as_u16() == 202 {
            *id = answer.json()["id"].as_str().map(str::to_owned);
        } else {
            assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
        }
    }
}

async fn list(daemon: &Daemon, path: &str) -> Vec<Value> {
    let answer = daemon.call(Method::GET, path, ADMIN, None).await;
    let Ok(answer) = answer else { return Vec::new() };
    answer.json()["items"].as_array().cloned().unwrap_or_default()
}

/// Answers what people are asked, in the ways that people do.
async fn answer_people(daemon: &Daemon, dice: &mut Dice) {
    for approval in list(daemon, "/api/v1/approvals?state=pending&limit=100").await {
        let decision = if approval["kind"] == "unknown_effect" {
            let outcome = ["happened", "run", "skip"][usize::try_from(dice.roll(3)).unwrap()];
            json!({"decision": "approve", "outcome": outcome})
        } else if dice.roll(4) == 0 {
            json!({"decision": "deny", "reason": "not today"})
        } else {
            json!({"decision": "approve"})
        };
        let path = format!("/api/v1/approvals/{}/decision", approval["id"].as_str().unwrap());
        drop(daemon.call(Method::POST, &path, ADMIN, Some(&decision)).await);
    }
    for run in list(daemon, "/api/v1/runs?state=paused&limit=100").await {
        let path = format!("/api/v1/runs/{}/resume", run["id"].as_str().unwrap());
        drop(daemon.call(Method::POST, &path, ADMIN, Some(&json!({}))).await);
    }
}

/// Does something rude to a run in progress.
async fn disturb(daemon: &Daemon, dice: &mut Dice) {
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
    drop(daemon.call(Method::POST, &path, ADMIN, Some(&body)).await);
}

fn witness(daemon: &Daemon) -> Vec<String> {
    ["open", "careful"]
        .iter()
        .filter_map(|a| std::fs::read_to_string(daemon.workspace(a).join("witness.log")).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

async fn settle(daemon: &Daemon, dice: &mut Dice) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        answer_people(daemon, dice).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_and_repeat_nothing() {
    let kills = setting("AGENT_RUNTIME_TEST_KILLS", 200);
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("seed {seed}, {kills} kills");
    let mut dice = Dice(seed);
    let fake = FakeLlm::start();
    scripts(&fake);
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let mut promises = Promises::default();
    for round in 0..kills {
        daemon.spawn().await;
        for n in 0..3 {
            let script = ["once", "slow", "mixed"][usize::try_from(dice.roll(3)).unwrap()];
            let agent = if dice.roll(4) == 0 { "careful" } else { "open" };
            let input = format!("script:{script} round {round} run {n}");
            let body = json!({"agent": agent, "input": input});
            promises.runs.insert(format!("key-{round}-{n}"), (body, None));
        }
        let moment = Duration::from_millis(dice.roll(300));
        let busy = async {
            submit(&daemon, &mut promises).await;
            answer_people(&daemon, &mut dice).await;
            disturb(&daemon, &mut dice).await;
            std::future::pending::<()>().await;
        };
        drop(tokio::time::timeout(moment, busy).await);
        daemon.kill();
    }
    let data_dir = daemon.data_dir();
    daemon.run().await;
    submit(&daemon, &mut promises).await;
    settle(&daemon, &mut dice).await;
    check_promises(&daemon, &promises).await;
    daemon.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    check_no_leftovers(&data_dir);
    let truth = Truth::read(&data_dir).await;
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
    truth.check_settled();
    truth.check_secrets(&[ADMIN, PROVIDER_KEY]);
    assert!(!daemon.log().contains(PROVIDER_KEY) && !daemon.log().contains(ADMIN));
    let witness = witness(&daemon);
    truth.check_witness(&witness);
    let recovered = truth.events.values().flatten().filter(|e| e.body.kind() == "run.recovered");
    let recovered = recovered.count();
    println!(
        "{} runs, {} executions seen outside, {recovered} recoveries",
        truth.runs.len(),
        witness.len()
    );
    assert!(kills < 50 || recovered > 0, "no kill hit a run: the test shows nothing");
    assert!(!witness.is_empty());
}

/// 1: every acknowledged request is there, and its key still gives the same run.
async fn check_promises(daemon: &Daemon, promises: &Promises) {
    for (key, (body, id)) in &promises.runs {
        let again = send(daemon, key, body).await.expect("an answer").expect(202);
        assert_eq!(again["id"].as_str(), id.as_deref(), "{key} gives another run");
    }
}
