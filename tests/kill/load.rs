//! The load under which daemons are killed, and what its clients were promised.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    checker::witness::Recorder,
    daemon::{ADMIN, Answer, Daemon, PROVIDER_KEY},
    fake_llm::{FakeLlm, Fault, Turn},
};

/// Xorshift: small, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

pub(crate) fn text_setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    std::env::var(name).ok()
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    text_setting(name).and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Leaves the id of the call outside, and says so when another execution of it is not over.
pub(crate) const WITNESS: &str = "exec 9>>lock.$AGENT_RUNTIME_CALL_ID; \
    flock -n -E 99 9; [ $? = 99 ] && echo overlap $AGENT_RUNTIME_CALL_ID >> witness.log; \
    echo $AGENT_RUNTIME_CALL_ID >> witness.log";
/// Clients that submit at once.
pub(crate) const CLIENTS: usize = 16;

pub(crate) fn scripts(fake: &FakeLlm) {
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
pub(crate) struct Promises {
    /// Body and, once acknowledged, run id, by idempotency key.
    pub(crate) runs: BTreeMap<String, (Value, Option<String>)>,
    /// Keys that are not acknowledged yet.
    pub(crate) waiting: Vec<String>,
}

impl Promises {
    pub(crate) fn ask(&mut self, key: String, body: Value) {
        self.waiting.push(key.clone());
        self.runs.insert(key, (body, None));
    }
}

pub(crate) async fn send(
    daemon: &Daemon,
    key: &str,
    body: &Value,
) -> Result<Answer, reqwest::Error> {
    let request = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ADMIN)
        .header("idempotency-key", key)
        .json(body);
    Daemon::answer(request).await
}

/// Sends every request that is not acknowledged yet, some at a time.
pub(crate) async fn submit(daemon: &Daemon, promises: &mut Promises, recorder: &Recorder) {
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

pub(crate) async fn list(daemon: &Daemon, path: &str) -> Vec<Value> {
    let answer = daemon.call(Method::GET, path, ADMIN, None).await;
    let Ok(answer) = answer else { return Vec::new() };
    answer.json()["items"].as_array().cloned().unwrap_or_default()
}

/// Answers what people are asked, in the ways that people do.
pub(crate) async fn answer_people(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
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
pub(crate) async fn disturb(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
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

pub(crate) async fn settle(daemon: &Daemon, dice: &mut Dice, recorder: &Recorder) {
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
pub(crate) fn ask_more(
    round: u64,
    in_flight: u64,
    open: u64,
    promises: &mut Promises,
    dice: &mut Dice,
) {
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

/// The middle and the largest.
pub(crate) fn middle_and_most(mut of: Vec<u64>) -> (u64, u64) {
    of.sort_unstable();
    (of.get(of.len() / 2).copied().unwrap_or(0), of.last().copied().unwrap_or(0))
}

/// 1: every acknowledged request is there, and its key still gives the same run.
pub(crate) async fn check_promises(daemon: &Daemon, promises: &Promises) {
    for (key, (body, id)) in &promises.runs {
        let again = send(daemon, key, body).await.expect("an answer").expect(202);
        assert_eq!(again["id"].as_str(), id.as_deref(), "{key} gives another run");
    }
}
