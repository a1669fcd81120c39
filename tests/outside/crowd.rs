//! (j) Everybody at once: fifty clients decide on, cancel and resume one run, and two hundred runs
//! want a budget that fits ten. One decision wins, everybody gets a clear answer, and nothing is
//! overspent.
//!
//! `AGENT_RUNTIME_TEST_CROWD_ROUNDS` (8) rounds of the first. Long: `200`.

use std::{collections::BTreeMap, time::Duration};

use agent_runtime::{
    domain::{BudgetSubject, Clock as _, Day, SystemClock},
    store::{BudgetUse, Database, ReadOnlyStore},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    dice::{Dice, seed, setting},
    load,
    support::{
        daemon::{ADMIN, Answer, Daemon, OPERATOR, PATIENCE},
        fake_llm::{Fault, Turn},
    },
};

const CLIENTS: usize = 50;

/// What one client does to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Approve,
    Deny,
    Cancel,
    Resume,
}

async fn act(daemon: &Daemon, run: &str, approval: &str, wish: Wish, n: usize) -> (Wish, Answer) {
    let (path, body) = match wish {
        Wish::Approve => {
            (format!("/api/v1/approvals/{approval}/decision"), json!({"decision": "approve"}))
        }
        Wish::Deny => (
            format!("/api/v1/approvals/{approval}/decision"),
            json!({"decision": "deny", "reason": format!("client {n}")}),
        ),
        Wish::Cancel => (format!("/api/v1/runs/{run}/cancel"), json!({})),
        Wish::Resume => (format!("/api/v1/runs/{run}/resume"), json!({})),
    };
    // An operator controls runs, and does not decide on them.
    let token = if n.is_multiple_of(2) || is_decision(wish) { ADMIN } else { OPERATOR };
    let answer = daemon.call(Method::POST, &path, token, Some(&body)).await;
    (wish, answer.expect("an answer"))
}

fn is_decision(wish: Wish) -> bool {
    matches!(wish, Wish::Approve | Wish::Deny)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_who_decide_cancel_and_resume_at_once_one_decides_and_all_are_told() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    daemon.run().await;
    let mut told: BTreeMap<(Wish, u16, String), u32> = BTreeMap::new();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..setting("AGENT_RUNTIME_TEST_CROWD_ROUNDS", 8) {
        let has_cancel = round % 2 == 1;
        let run = daemon.submit("careful", &format!("script:once round {round}")).await;
        daemon.wait_for(&run, &["awaiting_approval"]).await;
        let approval = daemon.pending(&run).await.remove(0);
        let approval = approval["id"].as_str().expect("an id");
        let wishes: Vec<Wish> = (0..CLIENTS)
            .map(|n| match (n, dice.roll(10)) {
                // One of each, whatever the dice say.
                (0, _) | (2.., 0..4) => Wish::Approve,
                (1, _) | (2.., 4..7) => Wish::Deny,
                (2.., 7) if has_cancel => Wish::Cancel,
                (2.., _) => Wish::Resume,
            })
            .collect();
        let has_cancel = wishes.contains(&Wish::Cancel);
        let all = wishes.iter().enumerate().map(|(n, wish)| act(&daemon, &run, approval, *wish, n));
        let answers = join_all(all).await;
        let end = daemon.wait_for(&run, &["succeeded", "failed", "cancelled"]).await;
        let mut winners = Vec::new();
        for (wish, answer) in answers {
            let status = answer.status.as_u16();
            let code = if answer.status.is_success() { String::new() } else { answer.code() };
            *told.entry((wish, status, code.clone())).or_default() += 1;
            match (wish, status) {
                (Wish::Approve | Wish::Deny, 200) => winners.push(wish),
                (Wish::Cancel, 202) => {}
                // Everybody else is told by a conflict what is the case, in words.
                (_, 409) => assert!(!code.is_empty() && !answer.json()["detail"].is_null()),
                _ => panic!("{wish:?} was answered {status}: {}", answer.text),
            }
        }
        assert!(winners.len() <= 1, "{winners:?} all won");
        assert!(has_cancel || winners.len() == 1, "nobody decided");
        let events = daemon.events(&run).await;
        let decided: Vec<&Value> =
            events.iter().filter(|e| e["type"] == "approval.decided").collect();
        let by_people = decided.iter().filter(|e| {
            let state = e["data"]["state"].as_str().unwrap_or_default();
            state == "approved" || state == "denied"
        });
        let states: Vec<&str> =
            by_people.map(|e| e["data"]["state"].as_str().unwrap_or_default()).collect();
        let wanted: Vec<&str> = winners
            .iter()
            .map(|wish| if *wish == Wish::Approve { "approved" } else { "denied" })
            .collect();
        assert_eq!(states, wanted, "{events:#?}");
        let started = events.iter().filter(|e| e["type"] == "tool.started").count();
        assert!(started <= usize::from(winners == [Wish::Approve]), "{events:#?}");
        if has_cancel {
            assert!(["cancelled", "succeeded"].contains(&end["state"].as_str().expect("a state")));
        } else {
            assert_eq!(end["state"], "succeeded");
            assert_eq!(started, usize::from(winners == [Wish::Approve]));
        }
        *ends.entry(end["state"].as_str().expect("a state").to_owned()).or_default() += 1;
    }
    println!("answers: {told:?}; ends: {ends:?}");
    assert!(told.keys().any(|(wish, status, _)| is_decision(*wish) && *status == 409));
    assert_eq!(daemon.stop().await, Some(0));
    let truth = load::read_and_check(&daemon.data_dir()).await;
    load::check_effects(&daemon, &truth);
}

/// Room for more than an answer takes: what is held is more than what is used then.
const THRIFTY: &str = r#"
[agents.thrifty]
system_prompt = "test"
tools = []
max_output_tokens = 40
"#;

const RUNS: usize = 200;
const FIT: usize = 10;

/// Today's use of everybody, read beside the daemon.
async fn used(store: &ReadOnlyStore) -> BudgetUse {
    let today = Day::of(SystemClock.now());
    let mut reader = store.read().await.expect("a reader");
    reader.budget_uses().get(&BudgetSubject::ORG, today).await.expect("what was used")
}

async fn all_runs(daemon: &Daemon) -> Vec<Value> {
    let page = daemon.get("/api/v1/runs?limit=500").await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runs_for_whom_a_budget_fits_ten_are_ten_that_run_and_a_rest_that_waits() {
    let fake = load::provider();
    // Long enough under way to be seen held, and alike for all of the same length.
    let slow = || Turn::text("slow").after([Fault::SlowBytes(Duration::from_millis(4))]);
    fake.script("slow", [slow()]);
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), THRIFTY);
    daemon.run().await;
    let body = |n: usize| json!({"agent": "thrifty", "input": format!("script:slow {n:03}")});
    let store =
        ReadOnlyStore::open(&daemon.data_dir(), &Database::Sqlite).await.expect("the store opens");
    // What one run takes, and what is held for it meanwhile.
    let (mut each, mut held) = (Vec::new(), 0);
    for n in [998, 999] {
        let before = used(&store).await.used_tokens;
        let run = daemon.post("/api/v1/runs", &body(n)).await.expect(202);
        let id = run["id"].as_str().expect("an id").to_owned();
        while daemon.run_of(&id).await["state"] != "succeeded" {
            held = held.max(used(&store).await.held_tokens);
        }
        each.push(used(&store).await.used_tokens - before);
    }
    assert!(each[0] == each[1] && held > each[0], "one run takes {each:?} and holds {held}");
    let limit = used(&store).await.used_tokens + (FIT as u64 - 1) * each[0] + held;
    let told = daemon.cli(&["budget", "set", "org", "--tokens-per-day", &limit.to_string()]).await;
    assert_eq!(told.code, Some(0), "{told:?}");

    let asked = join_all((0..RUNS).map(|n| {
        let (daemon, body) = (&daemon, body(n));
        async move { daemon.post("/api/v1/runs", &body).await.expect(202) }
    }));
    let (mut most, mut samples) = (0, 0);
    let watch = async {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            for _ in 0..5 {
                let now = used(&store).await;
                let sum = now.used_tokens + now.held_tokens;
                assert!(sum <= limit, "overspent: {now:?} of {limit}");
                (most, samples) = (most.max(sum), samples + 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let runs = all_runs(&daemon).await;
            let open = runs.iter().filter(|run| {
                run["state"] != "succeeded"
                    && !(run["state"] == "paused" && run["wait_reason"] == "budget")
            });
            if runs.len() == RUNS + 2 && open.count() == 0 {
                return runs;
            }
            assert!(Instant::now() < deadline, "{}", daemon.log());
        }
    };
    let (_, runs) = tokio::join!(asked, watch);
    let count = |state: &str| runs.iter().filter(|run| run["state"] == state).count();
    println!(
        "{} ran and {} wait; at most {most} of {limit} tokens were used or held in {samples} looks",
        count("succeeded") - 2,
        count("paused"),
    );
    assert_eq!((count("succeeded"), count("paused")), (FIT + 2, RUNS - FIT));
    let now = used(&store).await;
    assert_eq!((now.held_tokens, now.used_tokens), (0, (FIT as u64 + 2) * each[0]));

    // With room for them they all go on by themselves.
    let told = daemon.cli(&["budget", "set", "org", "--tokens-per-day", "none"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let deadline = Instant::now() + 2 * PATIENCE;
    while all_runs(&daemon).await.iter().any(|run| run["state"] != "succeeded") {
        assert!(Instant::now() < deadline, "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(used(&store).await.used_tokens, (RUNS as u64 + 2) * each[0]);
    drop(store);
    assert_eq!(daemon.stop().await, Some(0));
    load::read_and_check(&daemon.data_dir()).await;
}
