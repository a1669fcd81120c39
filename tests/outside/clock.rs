//! (h) The wall clock jumps by an hour, forward and back, while the daemon works and between two
//! starts. Time never runs backwards: ids sort, what has expired stays so, timers come when they are
//! due. What runs is timed by a clock that nobody sets.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    dice::{Dice, seed},
    load::{self, sh},
    shim::Shim,
    support::{
        daemon::{ADMIN, BOB, Daemon, PATIENCE},
        fake_llm::{FakeLlm, Fault, Turn},
        live::Ws,
    },
};

const HOUR: Duration = Duration::from_secs(3_600);

/// One model call a second for everybody, after a minute's worth at once.
const SLOWLY: &str = "[limits]\nmodel_requests_per_minute_per_principal = 60\n";

fn scripts(fake: &FakeLlm, tag: &str) {
    let gate = format!("touch begun-{tag}; while [ ! -e go-{tag} ]; do sleep 0.02; done");
    fake.script(
        &format!("gate-{tag}"),
        [
            Turn::call("exec", &sh(&gate)),
            Turn::call("exec", &sh(&format!("echo {tag} >> ran.log"))),
            Turn::text("through"),
        ],
    );
    let ask = json!({"question": "Which colour?", "options": ["red", "blue"]});
    fake.script("ask", [Turn::call("ask_user", &ask), Turn::text("thanks")]);
    let slow = Fault::SlowBytes(Duration::from_millis(60));
    fake.script("slow", [Turn::text("slowly").after([slow])]);
}

async fn status(daemon: &Daemon, token: &str) -> u16 {
    let answer = daemon.call(Method::GET, "/api/v1/me", token, None).await;
    answer.expect("an answer").status.as_u16()
}

/// A token that ends after half an hour.
async fn short_token(daemon: &Daemon, name: &str) -> String {
    let made = daemon.cli(&["principal", "create", name, "--role", "member", "--json"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let made = daemon.cli(&["token", "create", name, "--expires", "30m", "--json"]).await;
    made.json()["token"].as_str().expect("a token").to_owned()
}

/// Runs that are under way, each in another way, when the clock jumps.
struct Work {
    tag: &'static str,
    gate: String,
    approval: String,
    question: String,
    slow: String,
}

impl Work {
    async fn begin(daemon: &Daemon, fake: &FakeLlm, tag: &'static str) -> Self {
        scripts(fake, tag);
        let gate = daemon.submit("open", &format!("script:gate-{tag}")).await;
        let approval = daemon.submit("careful", &format!("script:once {tag}")).await;
        let question = daemon.submit("open", &format!("script:ask {tag}")).await;
        daemon.wait_for(&approval, &["awaiting_approval"]).await;
        daemon.wait_for(&question, &["paused"]).await;
        let begun = daemon.workspace("open").join(format!("begun-{tag}"));
        let deadline = Instant::now() + PATIENCE;
        while !begun.exists() {
            assert!(Instant::now() < deadline, "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let slow = daemon.submit("open", &format!("script:slow {tag}")).await;
        Self { tag, gate, approval, question, slow }
    }

    /// What is timed by the monotonic clock or may wait for a day has not noticed.
    async fn goes_on(&self, daemon: &Daemon) {
        let go = daemon.workspace("open").join(format!("go-{}", self.tag));
        fs::write(go, "").expect("a file");
        let run = daemon.wait_for(&self.gate, &["succeeded", "failed", "paused", "expired"]).await;
        assert_eq!(
            (&run["state"], &run["output"]),
            (&json!("succeeded"), &json!("through")),
            "{run}"
        );
        let run = daemon.wait_for(&self.slow, &["succeeded", "failed", "paused", "expired"]).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(daemon.run_of(&self.question).await["state"], "paused");
        let path = format!("/api/v1/runs/{}/resume", self.question);
        daemon.post(&path, &json!({"input": "red"})).await.expect(202);
        daemon.wait_for(&self.question, &["succeeded"]).await;
    }
}

fn at(run: &Value) -> String {
    run["created_at"].as_str().expect("a time").to_owned()
}

/// A run of now; later than every one before, by its id, its time and in the list.
async fn next_run(daemon: &Daemon, before: &mut Vec<Value>) {
    let id = daemon.submit("reader", "script:say next").await;
    let run = daemon.wait_for(&id, &["succeeded"]).await;
    for earlier in before.iter() {
        let (a, b) = (earlier["id"].as_str().expect("an id"), id.as_str());
        assert!(a < b, "{a} does not sort before {b}");
        assert!(at(earlier) <= at(&run), "{} is later than {}", at(earlier), at(&run));
    }
    let first = daemon.get("/api/v1/runs?limit=1").await.expect(200);
    assert_eq!(first["items"][0]["id"], json!(id), "the newest comes first");
    before.push(run);
}

async fn expired(daemon: &Daemon, run: &str) -> usize {
    let events = daemon.events(run).await;
    events.iter().filter(|e| e["type"] == "approval.expired").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_forward_and_an_hour_back_lose_no_timer_and_revive_nothing() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), SLOWLY);
    let shim = Shim::load(&mut daemon);
    daemon.run().await;
    let mut runs = Vec::new();
    next_run(&daemon, &mut runs).await;
    let token = short_token(&daemon, "ann").await;
    assert_eq!(status(&daemon, &token).await, 200);
    let mut socket = Ws::open(&daemon, &token).await;
    let first = Work::begin(&daemon, &fake, "forward").await;

    shim.shift_clock(true, HOUR);
    assert_eq!(status(&daemon, &token).await, 401, "a token outlives its time");
    assert_eq!(socket.closed().await, Some(1008), "so does an open connection");
    assert_eq!(status(&daemon, ADMIN).await, 200, "one without an end goes on");
    // Ten minutes are over: nobody answered, which is a no, and once.
    let run = daemon.wait_for(&first.approval, &["succeeded", "failed", "paused"]).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(expired(&daemon, &first.approval).await, 1);
    first.goes_on(&daemon).await;
    next_run(&daemon, &mut runs).await;

    // Back where it was. A run that waits for a moment of then is not forgotten for an hour.
    let second = Work::begin(&daemon, &fake, "back").await;
    let waiting = wait_for_their_turn(&daemon).await;
    shim.shift_clock(true, Duration::ZERO);
    assert_eq!(status(&daemon, &token).await, 401, "the clock has revived a token");
    next_run(&daemon, &mut runs).await;
    assert_eq!(expired(&daemon, &second.approval).await, 0, "it has nine minutes left");
    second.goes_on(&daemon).await;
    for run in &waiting {
        daemon.wait_for(run, &["succeeded"]).await;
    }

    // And behind it, over a start.
    shim.shift_clock(false, HOUR);
    next_run(&daemon, &mut runs).await;
    daemon.kill();
    daemon.run().await;
    assert_eq!(status(&daemon, &token).await, 401, "the start has revived a token");
    next_run(&daemon, &mut runs).await;
    let third = Work::begin(&daemon, &fake, "behind").await;
    third.goes_on(&daemon).await;
    assert!(daemon.log().contains("was set back"), "{}", daemon.log());
    assert_eq!(expired(&daemon, &first.approval).await, 1, "twice");
    load::settle(&daemon, &mut dice).await;
    let ran = fs::read_to_string(daemon.workspace("open").join("ran.log")).expect("a log");
    assert_eq!(ran, "forward\nback\nbehind\n", "each once");
    assert_eq!(daemon.stop().await, Some(0));
    let truth = load::read_and_check(&daemon.data_dir()).await;
    load::check_effects(&daemon, &truth);
}

/// More runs at once than the rate of model calls lets through; the ids of those that wait.
async fn wait_for_their_turn(daemon: &Daemon) -> Vec<String> {
    let bodies = (0..80).map(|n| json!({"agent": "reader", "input": format!("script:say {n}")}));
    let asked = bodies.map(|body| async move {
        let answer = daemon.call(Method::POST, "/api/v1/runs", BOB, Some(&body)).await;
        answer.expect("an answer").expect(202)
    });
    futures_util::future::join_all(asked).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let paused = load::list(daemon, "/api/v1/runs?state=paused&limit=100").await;
        let waits = paused.iter().filter(|run| run["wait_reason"] == "backoff");
        let ids: Vec<String> =
            waits.map(|run| run["id"].as_str().expect("an id").to_owned()).collect();
        if ids.len() > 3 {
            return ids;
        }
        assert!(Instant::now() < deadline, "nothing waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
