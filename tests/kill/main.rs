//! Fault suite (a): SIGKILL at random moments, again and again, under a mixed load, while a daemon
//! recovers too: nothing that was acknowledged is lost, nothing unsafe runs twice, and the checker
//! finds every invariant whole.
//!
//! `AGENT_RUNTIME_TEST_KILLS` (200), `AGENT_RUNTIME_TEST_IN_FLIGHT` (0: three new runs a round;
//! else so many runs are open at each kill), `AGENT_RUNTIME_TEST_STORE=postgres` and
//! `AGENT_RUNTIME_TEST_SEED` make it longer or different; the seed is printed. docs/DURABILITY.md has
//! the long form and its figures. Replicas that are killed in turn: `tests/cluster/deaths.rs`.
#![cfg(test)]

mod load;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use agent_runtime::store::Database;
use load::{
    Dice, Promises, answer_people, ask_more, check_promises, disturb, middle_and_most, scripts,
    setting, settle, submit, text_setting,
};
use reqwest::Method;
use serde_json::Value;
use support::{
    checker::{Truth, Witness, check_no_leftovers, witness::Recorder},
    daemon::{ADMIN, Daemon, PROVIDER_KEY},
    fake_llm::{FakeLlm, Options},
    postgres,
};
use tokio::time::Instant;

/// Where the daemon keeps its rows: a file, or with `AGENT_RUNTIME_TEST_STORE=postgres` a database
/// of a server that this test starts.
fn server() -> Option<postgres::Database> {
    let wanted = text_setting("AGENT_RUNTIME_TEST_STORE");
    (wanted.as_deref() == Some("postgres")).then(|| postgres::Server::shared().database())
}

/// Recoveries as the daemon's log tells them: how many runs, how long.
fn recoveries(log: &str) -> Vec<(u64, u64)> {
    log.lines()
        .filter(|line| line.contains("recovered the runs of a daemon that is gone"))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some((line["runs"].as_u64()?, line["duration_ms"].as_u64()?)))
        .collect()
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
