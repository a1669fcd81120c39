//! Work for a daemon, and what it promised about it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use agent_runtime::{
    domain::{EventBody, RunState},
    store::{Database, ReadOnlyStore, outside},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    dice::Dice,
    support::{
        checker::{Truth, Witness},
        daemon::{ADMIN, Answer, Daemon, PATIENCE, PROVIDER_KEY},
        fake_llm::{FakeLlm, Turn},
    },
};

pub(crate) fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script]})
}

/// Appends the call's id to the witness, with how long the disk's log was when it ran. What a person
/// has approved starts no other program, and says nothing about the log.
const WITNESS: &str = "echo $AGENT_RUNTIME_CALL_ID $(stat -c %s disk.log) >> witness.log";

/// A provider with a few kinds of work: of one unsafe call, of several, of calls that people are
/// asked about, of plain talk.
pub(crate) fn provider() -> FakeLlm {
    let fake = FakeLlm::start();
    fake.script("say", [Turn::text("All is well.")]);
    fake.script("once", [Turn::call("exec", &sh(WITNESS)), Turn::text("done")]);
    fake.script(
        "mixed",
        [
            Turn::call("list_files", &json!({}))
                .and("exec", &sh(WITNESS))
                .and("exec", &sh(&format!("sleep 0.02; {WITNESS}"))),
            Turn::call("list_files", &json!({})),
            Turn::text("done"),
        ],
    );
    fake
}

/// What the daemon said, and how long the disk's log was when it was heard.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// By idempotency key: what was asked, and once accepted the run's id and the position.
    pub(crate) runs: BTreeMap<String, (Value, Option<(String, u64)>)>,
    /// Decisions on approvals that were accepted: approval and position.
    pub(crate) decisions: Vec<(String, u64)>,
    /// Calls that ran, and a position by which they had.
    pub(crate) effects: BTreeMap<(String, usize), u64>,
    /// Runs that were seen to have ended, and the position.
    pub(crate) ended: Vec<(String, u64)>,
}

impl Promises {
    /// Notes which calls have run by now, at this position.
    pub(crate) fn note_effects(&mut self, daemon: &Daemon, position: u64) {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for (call, at) in witness(daemon) {
            let time = times.entry(call.clone()).or_default();
            *time += 1;
            self.effects.entry((call, *time)).or_insert(at.unwrap_or(position));
        }
    }

    /// Calls that had run by this position, once for each time.
    pub(crate) fn ran(&self, position: u64) -> impl Iterator<Item = &String> {
        let is_before = move |(_, at): &(_, &u64)| **at <= position;
        self.effects.iter().filter(is_before).map(|((call, _), _)| call)
    }

    /// Where the daemon said something that must hold from then on.
    pub(crate) fn positions(&self) -> Vec<u64> {
        let runs = self.runs.values().filter_map(|(_, accepted)| accepted.as_ref());
        let decisions = self.decisions.iter().map(|(_, at)| *at);
        runs.map(|(_, at)| *at).chain(decisions).chain(self.effects.values().copied()).collect()
    }

    /// What was promised before this position and is not there.
    pub(crate) fn broken(&self, truth: &Truth, position: u64) -> Vec<String> {
        let stored: Vec<String> = truth.runs.iter().map(|run| run.id.to_string()).collect();
        let mut broken = Vec::new();
        for (key, (_, accepted)) in &self.runs {
            let Some((id, at)) = accepted else { continue };
            if *at <= position && !stored.contains(id) {
                broken.push(format!("{key} was accepted as {id} at {at}"));
            }
        }
        let decided: Vec<String> = truth
            .events
            .values()
            .flatten()
            .filter_map(|event| match &event.body {
                EventBody::ApprovalDecided { approval_id, .. } => Some(approval_id.to_string()),
                _ => None,
            })
            .collect();
        for (approval, at) in &self.decisions {
            if *at <= position && !decided.contains(approval) {
                broken.push(format!("{approval} was decided at {at}"));
            }
        }
        broken
    }

    /// Runs that were seen to have ended before this position and have not: what NORMAL loses.
    pub(crate) fn taken_back(&self, truth: &Truth, position: u64) -> usize {
        let open = |id: &String| {
            let run = truth.runs.iter().find(|run| run.id.to_string() == *id);
            run.is_none_or(|run| !run.state.is_terminal())
        };
        self.ended.iter().filter(|(id, at)| *at <= position && open(id)).count()
    }
}

/// Each line of the witness: a call that ran, and the position then where it could be seen.
pub(crate) fn witness(daemon: &Daemon) -> Vec<(String, Option<u64>)> {
    let read = |agent| std::fs::read_to_string(daemon.workspace(agent).join("witness.log"));
    ["open", "careful"]
        .into_iter()
        .filter_map(|agent| read(agent).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| {
            let (call, at) = line.split_once(' ').unwrap_or((&line, ""));
            (call.to_owned(), at.parse().ok())
        })
        .collect()
}

/// Everything that holds whatever happened.
pub(crate) fn check(truth: &Truth) {
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
    truth.check_secrets(&[ADMIN, PROVIDER_KEY]);
}

/// Reads the store and checks it; also that the checkpoints outside fit.
pub(crate) async fn read_and_check(data_dir: &Path) -> Truth {
    let truth = Truth::read(data_dir).await;
    check(&truth);
    let file = data_dir.join("audit-checkpoints.jsonl");
    let outside = outside::read(&file).expect("the checkpoints are read");
    let store = ReadOnlyStore::open(data_dir, &Database::Sqlite).await.expect("it opens");
    let mut reader = store.read().await.expect("a reader");
    let report = agent_runtime::orchestrator::audit::verify_trail(&mut reader, outside, None).await;
    let report = report.expect("the trail is read");
    assert!(report.ok, "the audit trail: {report:?}");
    truth
}

/// Asks for a run under its key.
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

/// What one of many runs is to do.
pub(crate) fn body(dice: &mut Dice, n: usize) -> Value {
    let script = ["once", "mixed", "say"][dice.below(3)];
    let agent = if dice.roll(4) == 0 { "careful" } else { "open" };
    json!({"agent": agent, "input": format!("script:{script} number {n}")})
}

pub(crate) async fn list(daemon: &Daemon, path: &str) -> Vec<Value> {
    let answer = daemon.call(Method::GET, path, ADMIN, None).await;
    let Ok(answer) = answer else { return Vec::new() };
    if !answer.status.is_success() {
        return Vec::new();
    }
    answer.json()["items"].as_array().cloned().unwrap_or_default()
}

/// Answers what people are asked; the approvals whose decision was accepted.
pub(crate) async fn answer_people(daemon: &Daemon, dice: &mut Dice) -> Vec<String> {
    let mut decided = Vec::new();
    for approval in list(daemon, "/api/v1/approvals?state=pending&limit=100").await {
        let decision = if approval["kind"] == "unknown_effect" {
            let outcome = ["happened", "run", "skip"][dice.below(3)];
            json!({"decision": "approve", "outcome": outcome})
        } else if dice.roll(4) == 0 {
            json!({"decision": "deny", "reason": "not today"})
        } else {
            json!({"decision": "approve"})
        };
        let id = approval["id"].as_str().expect("an id").to_owned();
        let path = format!("/api/v1/approvals/{id}/decision");
        let answer = daemon.call(Method::POST, &path, ADMIN, Some(&decision)).await;
        if answer.is_ok_and(|a| a.status.is_success()) {
            decided.push(id);
        }
    }
    for run in list(daemon, "/api/v1/runs?state=paused&limit=100").await {
        let path = format!("/api/v1/runs/{}/resume", run["id"].as_str().expect("an id"));
        drop(daemon.call(Method::POST, &path, ADMIN, Some(&json!({}))).await);
    }
    decided
}

/// Answers people until nothing is open any more.
pub(crate) async fn settle(daemon: &Daemon, dice: &mut Dice) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        answer_people(daemon, dice).await;
        let mut open = Vec::new();
        for state in RunState::ALL.iter().filter(|state| !state.is_terminal()) {
            open.extend(list(daemon, &format!("/api/v1/runs?state={state}&limit=50")).await);
        }
        if open.is_empty() {
            return;
        }
        let is_late = Instant::now() > deadline;
        assert!(!is_late, "still open: {open:#?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What `/readyz` says.
pub(crate) async fn ready(daemon: &Daemon) -> (u16, Value) {
    let answer = daemon.http().get(format!("{}/readyz", daemon.base())).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// A run whose tool has begun and waits until it is let go, and another one that waits for a person.
pub(crate) struct UnderWay {
    tag: String,
    pub(crate) run: String,
    pub(crate) approval: Value,
}

impl UnderWay {
    pub(crate) async fn begin(daemon: &Daemon, fake: &FakeLlm, tag: &str) -> Self {
        let script = format!(
            "touch begun-{tag}; while [ ! -e go-{tag} ]; do sleep 0.02; done; echo {tag} >> ran.log"
        );
        let turns = [Turn::call("exec", &sh(&script)), Turn::text("through")];
        fake.script(&format!("gate-{tag}"), turns);
        let run = daemon.submit("open", &format!("script:gate-{tag}")).await;
        let asks = daemon.submit("careful", &format!("script:once asks {tag}")).await;
        daemon.wait_for(&asks, &["awaiting_approval"]).await;
        let begun = daemon.workspace("open").join(format!("begun-{tag}"));
        let deadline = Instant::now() + PATIENCE;
        while !begun.exists() {
            assert!(Instant::now() < deadline, "the tool does not begin: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let approval = daemon.pending(&asks).await.remove(0);
        Self { tag: tag.to_owned(), run, approval }
    }

    /// The tool ends.
    pub(crate) fn let_go(&self, daemon: &Daemon) {
        let go = daemon.workspace("open").join(format!("go-{}", self.tag));
        std::fs::write(go, "").expect("a file");
    }

    /// The run ends as if nothing had been.
    pub(crate) async fn succeeds(&self, daemon: &Daemon) {
        let run = daemon.wait_for(&self.run, &["succeeded", "failed", "paused", "expired"]).await;
        let (state, output) = (&run["state"], &run["output"]);
        assert_eq!((state, output), (&json!("succeeded"), &json!("through")), "{run}");
    }
}

/// A refusal because the store is not there: when to come again, and a code.
#[track_caller]
pub(crate) fn assert_unavailable(answer: &Answer) {
    let told = (answer.status.as_u16(), answer.code());
    assert_eq!(told, (503, "store.unavailable".to_owned()), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
}

/// The end of a suite: nothing is open, each of these tools ran once, and the checker is content.
pub(crate) async fn end(daemon: &mut Daemon, dice: &mut Dice, tools: usize, runs: usize) {
    settle(daemon, dice).await;
    let ran = std::fs::read_to_string(daemon.workspace("open").join("ran.log")).expect("a log");
    assert_eq!(ran.lines().count(), tools, "each tool ran once: {ran}");
    assert_eq!(daemon.stop().await, Some(0));
    let truth = read_and_check(&daemon.data_dir()).await;
    check_effects(daemon, &truth);
    assert_eq!(truth.runs.len(), runs, "one run for each request");
}

/// Every invariant, with what the tools of this daemon have really done.
pub(crate) fn check_effects(daemon: &Daemon, truth: &Truth) {
    check_ran(truth, witness(daemon).into_iter().map(|(call, _)| call).collect());
}

/// Every invariant, with these executions.
pub(crate) fn check_ran(truth: &Truth, executed: Vec<String>) {
    let secrets = vec![ADMIN.to_owned(), PROVIDER_KEY.to_owned()];
    truth.check(&Witness { executed, secrets, ..Witness::default() });
}
