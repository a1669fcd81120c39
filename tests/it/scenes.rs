//! What several areas set up: scripts that the fake provider knows, and waits for what a test can
//! see from outside.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    daemon::{Daemon, PATIENCE},
    fake_llm::{FakeLlm, Fault, Turn},
    live::LOOK,
};

/// Arguments of `exec` for a line of shell.
pub(crate) fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script]})
}

/// A provider that knows the scripts that most tests need.
pub(crate) fn provider() -> FakeLlm {
    let fake = FakeLlm::start();
    fake.script("say", [Turn::text("All is well.")]);
    fake.script("exec", [Turn::call("exec", &sh("echo ran >> ran.log")), Turn::text("done")]);
    fake.script(
        "ask",
        [
            Turn::call(
                "ask_user",
                &json!({"question": "Which colour?", "options": ["red", "blue"]}),
            ),
            Turn::text("thanks"),
        ],
    );
    // Hangs once per input; the next request is answered.
    fake.script("hang", [Turn::text("late but here").after([Fault::Hang])]);
    // Never answers.
    fake.script("stuck", [Turn::text("never").after([Fault::Hang; 64])]);
    fake.script("loop", vec![Turn::call("list_files", &json!({})); 60]);
    fake
}

/// Polls until `look` gives something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(LOOK).await;
    }
}

/// A process with that text among its arguments, as seen from outside every sandbox.
pub(crate) fn pid_of(marker: &str) -> Option<i32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|arg| arg == marker.as_bytes())
    })
}

/// Whether there is such a process.
pub(crate) fn is_alive(marker: &str) -> bool {
    pid_of(marker).is_some()
}

/// Waits until a process with that argument lives, or is gone.
pub(crate) async fn until_alive(marker: &str, wanted: bool) {
    until(&format!("process {marker}, alive: {wanted}"), || {
        (is_alive(marker) == wanted).then_some(())
    })
    .await;
}

/// The types of a run's events, in order.
pub(crate) async fn kinds(daemon: &Daemon, run: &str) -> Vec<String> {
    let events = daemon.events(run).await;
    events.iter().map(|e| e["type"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The first event of that type, waited for.
pub(crate) async fn event(daemon: &Daemon, run: &str, kind: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = daemon.events(run).await;
        if let Some(found) = events.iter().find(|e| e["type"] == kind) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{run} has no {kind}: {events:#?}\n{}", daemon.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the provider was asked that often under a script.
pub(crate) async fn until_asked(fake: &FakeLlm, script: &str, times: usize) {
    until(&format!("request {times} of {script}"), || {
        (fake.seen_of(script).len() >= times).then_some(())
    })
    .await;
}

/// Waits until the provider was asked about exactly this input.
pub(crate) async fn until_heard(fake: &FakeLlm, input: &str) {
    until(&format!("a request about {input:?}"), || {
        fake.seen().iter().any(|seen| seen.conversation == input).then_some(())
    })
    .await;
}

/// The approval that a run waits for.
pub(crate) async fn approval_of(daemon: &Daemon, run: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(approval) = daemon.pending(run).await.into_iter().next() {
            return approval;
        }
        assert!(Instant::now() < deadline, "{run} asks nothing: {}", daemon.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// Sends a control verb as admin; status and problem code.
pub(crate) async fn verb(daemon: &Daemon, run: &str, verb: &str, body: &Value) -> (u16, String) {
    let answer = daemon.post(&format!("/api/v1/runs/{run}/{verb}"), body).await;
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

/// Text of an agent's workspace file; empty when there is none.
pub(crate) fn workspace_text(daemon: &Daemon, agent: &str, file: &str) -> String {
    fs::read_to_string(daemon.workspace(agent).join(file)).unwrap_or_default()
}

/// Bound of what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(5);
