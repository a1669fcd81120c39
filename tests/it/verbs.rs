//! Every control verb in every state, and what each does where it is allowed.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    scenes::{
        approval_of, event, kinds, pid_of, provider, sh, until, until_alive, until_asked,
        until_heard, verb, workspace_text,
    },
    support::{
        checker::Truth,
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
    },
};

/// A state that a run can be found in, by what it is doing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Queued,
    InModel,
    InTool,
    Awaiting,
    Interrupted,
    Input,
    Budget,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

const SCENES: [Scene; 11] = [
    Scene::Queued,
    Scene::InModel,
    Scene::InTool,
    Scene::Awaiting,
    Scene::Interrupted,
    Scene::Input,
    Scene::Budget,
    Scene::Cancelling,
    Scene::Succeeded,
    Scene::Failed,
    Scene::Cancelled,
];

const VERBS: [(&str, &str); 8] = [
    ("interrupt", r#"{"mode": "graceful"}"#),
    ("interrupt", r#"{"mode": "hard"}"#),
    ("steer", r#"{"input": "also this", "if_ended": "fail"}"#),
    ("resume", "{}"),
    ("resume", r#"{"input": "red"}"#),
    ("cancel", r#"{"reason": "enough"}"#),
    ("retry", "{}"),
    ("fork", r#"{"input": "script:say fork"}"#),
];

/// What API.md and RUNS.md promise: status and code. Written as a table of its own, not derived
/// from the code.
fn promised(scene: Scene, verb: &str, body: &Value) -> (u16, &'static str) {
    use Scene as S;
    let refused = |code| (409, code);
    let is_over = matches!(scene, S::Succeeded | S::Failed | S::Cancelled | S::Expired);
    // What has reached a safe point has a bundle to begin from.
    let is_safe =
        matches!(scene, S::Awaiting | S::Interrupted | S::Input | S::Budget | S::Succeeded);
    let answer = match verb {
        "retry" if !matches!(scene, S::Failed | S::Expired) => refused("run.not_failed"),
        "fork" if !is_safe => refused("run.no_bundle"),
        "retry" | "fork" => (202, ""),
        _ if is_over => refused("run.terminal"),
        "interrupt" if !matches!(scene, S::InModel | S::InTool) => refused("run.not_running"),
        "steer" if scene == S::Cancelling => refused("run.cancelling"),
        "resume" => match scene {
            S::Input if body.get("input").is_none() => (422, "run.input_required"),
            S::Input | S::Interrupted => (202, ""),
            S::Budget => refused("run.awaiting_decision"),
            _ => refused("run.not_paused"),
        },
        _ => (202, ""),
    };
    assert!(VERBS.iter().any(|(known, _)| *known == verb), "no such verb: {verb}");
    answer
}

struct Stage<'a> {
    daemon: &'a Daemon,
    fake: &'a FakeLlm,
    scenes: u32,
}

impl Stage<'_> {
    async fn submit(&mut self, agent: &str, script: &str) -> String {
        self.scenes += 1;
        self.daemon.submit(agent, &format!("script:{script} scene {}", self.scenes)).await
    }

    /// A run that waits for a model that does not answer.
    async fn hang(&mut self) -> String {
        self.scenes += 1;
        let input = format!("script:stuck scene {}", self.scenes);
        let id = self.daemon.submit("open", &input).await;
        until_heard(self.fake, &input).await;
        id
    }

    /// A run whose tool runs until it is killed, and the text that names its process.
    async fn sleeper(&mut self) -> (String, String) {
        self.scenes += 1;
        let marker = format!("7{}.{}", std::process::id(), self.scenes);
        let script = format!("sleep{}", self.scenes);
        let exec = json!({"argv": ["/bin/sleep", marker], "timeout_secs": 60});
        self.fake.script(&script, [Turn::call("exec", &exec), Turn::text("slept")]);
        let id = self.submit("open", &script).await;
        until_alive(&marker, true).await;
        (id, marker)
    }

    /// Brings a run into the scene.
    async fn set(&mut self, scene: Scene) -> String {
        let daemon = self.daemon;
        match scene {
            Scene::Queued => {
                let first = self.hang().await;
                let conversation = daemon.run_of(&first).await["conversation_id"].clone();
                let body = json!({"agent": "open", "input": "script:say behind",
                    "conversation_id": conversation});
                let run = daemon.post("/api/v1/runs", &body).await.expect(202);
                run["id"].as_str().expect("an id").to_owned()
            }
            Scene::InModel => self.hang().await,
            Scene::InTool => self.sleeper().await.0,
            Scene::Awaiting => {
                let id = self.submit("careful", "exec").await;
                daemon.wait_for(&id, &["awaiting_approval"]).await;
                id
            }
            Scene::Interrupted => {
                let id = self.hang().await;
                assert_eq!(verb(daemon, &id, "interrupt", &json!({})).await.0, 202);
                let run = daemon.wait_for(&id, &["paused"]).await;
                assert_eq!(run["wait_reason"], "interrupted");
                id
            }
            Scene::Input => {
                let id = self.submit("open", "ask").await;
                assert_eq!(daemon.wait_for(&id, &["paused"]).await["wait_reason"], "input");
                id
            }
            Scene::Budget => {
                let id = self.submit("short", &format!("say {}", "word ".repeat(60))).await;
                assert_eq!(daemon.wait_for(&id, &["paused"]).await["wait_reason"], "budget");
                id
            }
            // Each needs more than a request: see there.
            Scene::Cancelling | Scene::Expired => panic!("set elsewhere"),
            Scene::Succeeded => {
                let id = self.submit("open", "say").await;
                daemon.wait_for(&id, &["succeeded"]).await;
                id
            }
            Scene::Failed => {
                self.scenes += 1;
                let body = json!({"agent": "reader", "limits": {"max_steps": 1},
                    "input": format!("script:loop scene {}", self.scenes)});
                let run = daemon.post("/api/v1/runs", &body).await.expect(202);
                let id = run["id"].as_str().expect("an id").to_owned();
                daemon.wait_for(&id, &["failed"]).await;
                id
            }
            Scene::Cancelled => {
                let id = self.hang().await;
                assert_eq!(verb(daemon, &id, "cancel", &json!({})).await.0, 202);
                daemon.wait_for(&id, &["cancelled"]).await;
                id
            }
        }
    }
}

/// Compares the answer with the promise and ends whatever goes on.
async fn try_verb(daemon: &Daemon, id: &str, scene: Scene, name: &str, body: &str) {
    let body: Value = serde_json::from_str(body).expect("JSON");
    let before = daemon.run_of(id).await;
    let found = verb(daemon, id, name, &body).await;
    let wanted = promised(scene, name, &body);
    assert_eq!((found.0, found.1.as_str()), wanted, "{name} {body} while {scene:?}: {before}");
    let after = daemon.run_of(id).await;
    if found.0 != 202 && scene != Scene::InModel && scene != Scene::InTool {
        assert_eq!(before, after, "a refused {name} changed a run that was {scene:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_in_every_state() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let mut stage = Stage { daemon: &daemon, fake: &fake, scenes: 0 };
    let mut tried = 0;
    for scene in SCENES {
        if scene == Scene::Cancelling {
            continue;
        }
        for (name, body) in VERBS {
            let id = stage.set(scene).await;
            try_verb(&daemon, &id, scene, name, body).await;
            tried += 1;
        }
    }
    assert_eq!(tried, 80);
    end_everything(&daemon).await;
    let dir = daemon.data_dir();
    assert_eq!(daemon.stop().await, Some(0));
    let truth = Truth::read(&dir).await;
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
}

/// Cancels until no run is left.
async fn end_everything(daemon: &Daemon) {
    let mut rounds = 0;
    loop {
        let mut open = 0;
        for state in ["queued", "running", "awaiting_approval", "paused", "cancelling"] {
            let path = format!("/api/v1/runs?limit=500&state={state}");
            let page = daemon.get(&path).await.expect(200);
            for run in page["items"].as_array().into_iter().flatten() {
                open += 1;
                verb(daemon, run["id"].as_str().unwrap_or_default(), "cancel", &json!({})).await;
            }
        }
        if open == 0 {
            return;
        }
        rounds += 1;
        assert!(rounds < 500, "runs are left");
        tokio::time::sleep(crate::support::live::LOOK).await;
    }
}

/// A process inside the tool's pid namespace whose parent, outside, does not reap it: until it
/// does, the namespace does not die and the killed call is not over.
struct Anchor {
    child: std::process::Child,
}

impl Anchor {
    fn hold(marker: &str) -> Self {
        let tool = pid_of(marker).expect("the tool lives").to_string();
        #[expect(clippy::disallowed_methods, reason = "no tool: the test holds a namespace open")]
        let mut command = std::process::Command::new("nsenter");
        let args = ["--target", &tool, "--pid", "/bin/sleep", "5000"];
        let child = command.args(args).spawn().expect("nsenter starts");
        Self { child }
    }

    /// Whether the process inside lives: nsenter's only child.
    fn is_set(&self) -> bool {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let child = children.unwrap_or_default().trim().to_owned();
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        line.starts_with(b"/bin/sleep\0")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn every_verb_while_the_cancelled_work_is_being_stopped() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let mut stage = Stage { daemon: &daemon, fake: &fake, scenes: 0 };
    let (id, marker) = stage.sleeper().await;
    let anchor = Anchor::hold(&marker);
    until("the anchor", || anchor.is_set().then_some(())).await;
    anchor.signal(Signal::STOP);
    assert_eq!(verb(&daemon, &id, "cancel", &json!({})).await.0, 202);
    until_alive(&marker, false).await;
    for (name, body) in VERBS {
        try_verb(&daemon, &id, Scene::Cancelling, name, body).await;
    }
    assert_eq!(daemon.run_of(&id).await["state"], "cancelling", "all of it was seen in this state");
    anchor.signal(Signal::CONT);
    let run = daemon.wait_for(&id, &["cancelled"]).await;
    assert_eq!(run["error"]["code"], "run.cancelled");
    let ended = event(&daemon, &id, "run.cancelled").await;
    let unknown = ended["data"]["unknown_effects"].as_array().map(Vec::len);
    assert_eq!(unknown, Some(1), "a killed unsafe call is named: {ended}");
}

#[tokio::test]
async fn every_verb_on_a_run_that_expired() {
    let fake = provider();
    let more = "[limits]\nwait_for_person_secs = 1\n";
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), more);
    daemon.run().await;
    let mut ids = BTreeMap::new();
    for (name, body) in VERBS {
        let input = format!("script:ask expire {name} {body}");
        ids.insert((name, body), daemon.submit("open", &input).await);
    }
    for ((name, body), id) in ids {
        let run = daemon.wait_for(&id, &["expired"]).await;
        assert_eq!(run["error"]["code"], "run.expired");
        let body: Value = serde_json::from_str(body).expect("JSON");
        // It waited at a safe point, so it can be forked.
        let wanted = match name {
            "fork" => (202, ""),
            _ => promised(Scene::Expired, name, &body),
        };
        let found = verb(&daemon, &id, name, &body).await;
        assert_eq!((found.0, found.1.as_str()), wanted, "{name}");
    }
}

#[tokio::test]
async fn a_steer_is_heard_before_the_next_model_call_and_skips_the_rest_of_the_batch() {
    let fake = provider();
    fake.script(
        "batch",
        [
            Turn::call("exec", &sh("touch begun; while [ ! -e go ]; do sleep 0.02; done"))
                .and("exec", &sh("echo second >> ran.log"))
                .and("exec", &sh("echo third >> ran.log")),
            Turn::text("as you wish"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:batch steer").await;
    let begun = daemon.workspace("open").join("begun");
    until("the tool", || begun.exists().then_some(())).await;
    let path = format!("/api/v1/runs/{id}/steer");
    let answer = daemon.post(&path, &json!({"input": "stop that"})).await;
    let steer = answer.expect(202)["steer_id"].clone();
    std::fs::write(daemon.workspace("open").join("go"), "").expect("a file");
    let run = daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(run["output"], "as you wish");
    assert_eq!(workspace_text(&daemon, "open", "ran.log"), "", "the rest was skipped");
    let applied = event(&daemon, &id, "run.steer_applied").await;
    assert_eq!((&applied["data"]["steer_id"], &applied["data"]["step"]), (&steer, &json!(2)));
    let seen = fake.seen_of("batch");
    let results = seen[1].results();
    assert_eq!(results.len(), 3);
    assert!(results[1].1.contains("Skipped") && results[2].1.contains("Skipped"), "{results:?}");
    let said = format!("{:?}", seen[1].said.last());
    assert!(said.contains("stop that"), "{said}");
    let kinds = kinds(&daemon, &id).await;
    assert!(!kinds.contains(&"run.steer_failed".to_owned()));
    assert_eq!(kinds.iter().filter(|k| *k == "tool.started").count(), 1);
}

#[tokio::test]
async fn a_steer_that_comes_too_late_fails_or_starts_a_new_run_as_asked() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    for (if_ended, starts) in [("fail", false), ("start_new_run", true)] {
        let id = daemon.submit("careful", &format!("script:exec late {if_ended}")).await;
        approval_of(&daemon, &id).await;
        let body = json!({"input": "script:say too late", "if_ended": if_ended});
        assert_eq!(verb(&daemon, &id, "steer", &body).await.0, 202);
        assert_eq!(verb(&daemon, &id, "cancel", &json!({})).await.0, 202);
        let failed = event(&daemon, &id, "run.steer_failed").await;
        let started = failed["data"]["started_run_id"].as_str();
        assert_eq!(started.is_some(), starts, "{failed}");
        if let Some(started) = started {
            let run = daemon.wait_for(started, &["succeeded"]).await;
            let first = daemon.run_of(&id).await;
            assert_eq!(run["conversation_id"], first["conversation_id"]);
        }
    }
    // The queue of steers has an end.
    let id = daemon.submit("careful", "script:exec many").await;
    approval_of(&daemon, &id).await;
    for n in 0..16 {
        let body = json!({"input": format!("steer {n}"), "if_ended": "fail"});
        assert_eq!(verb(&daemon, &id, "steer", &body).await.0, 202, "{n}");
    }
    let full = verb(&daemon, &id, "steer", &json!({"input": "one more"})).await;
    assert_eq!(full, (429, "queue.full".to_owned()));
}

#[tokio::test]
async fn an_interrupt_lets_a_tool_finish_and_a_hard_one_kills_it() {
    let fake = provider();
    fake.script(
        "finish",
        [
            Turn::call(
                "exec",
                &sh("touch begun; while [ ! -e go ]; do sleep 0.02; done; echo x > end"),
            ),
            Turn::text("went on"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:finish graceful").await;
    let place = daemon.workspace("open");
    until("the tool", || place.join("begun").exists().then_some(())).await;
    assert_eq!(verb(&daemon, &id, "interrupt", &json!({"mode": "graceful"})).await.0, 202);
    assert_eq!(daemon.run_of(&id).await["state"], "running", "the tool still runs");
    std::fs::write(place.join("go"), "").expect("a file");
    let run = daemon.wait_for(&id, &["paused"]).await;
    assert_eq!(run["wait_reason"], "interrupted");
    assert_eq!(workspace_text(&daemon, "open", "end"), "x\n", "its work is kept");
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": "go on"})).await.0, 202);
    assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["output"], "went on");
    let seen = fake.seen_of("finish");
    assert_eq!(seen.len(), 2, "the tool was not asked for again");

    let mut stage = Stage { daemon: &daemon, fake: &fake, scenes: 0 };
    let (id, marker) = stage.sleeper().await;
    assert_eq!(verb(&daemon, &id, "interrupt", &json!({"mode": "hard"})).await.0, 202);
    daemon.wait_for(&id, &["paused"]).await;
    until_alive(&marker, false).await;
    let done = event(&daemon, &id, "tool.completed").await;
    assert_eq!(done["data"]["status"], "killed");
    assert_eq!(verb(&daemon, &id, "resume", &json!({})).await.0, 202);
    daemon.wait_for(&id, &["succeeded"]).await;
}

#[tokio::test]
async fn an_interrupted_model_call_is_asked_again_and_keeps_the_work() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:hang interrupt").await;
    until_asked(&fake, "hang", 1).await;
    assert_eq!(verb(&daemon, &id, "interrupt", &json!({})).await.0, 202);
    let paused = daemon.wait_for(&id, &["paused"]).await;
    assert!(paused["usage"]["input_tokens"].as_u64().unwrap() > 0, "the hold is charged");
    assert_eq!(verb(&daemon, &id, "resume", &json!({})).await.0, 202);
    assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["output"], "late but here");
}

#[tokio::test]
async fn cancel_kills_the_running_tool_and_voids_what_was_asked() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let mut stage = Stage { daemon: &daemon, fake: &fake, scenes: 0 };
    let (id, marker) = stage.sleeper().await;
    let body = json!({"reason": "wrong machine"});
    assert_eq!(verb(&daemon, &id, "cancel", &body).await.0, 202);
    daemon.wait_for(&id, &["cancelled"]).await;
    until_alive(&marker, false).await;
    assert_eq!(
        event(&daemon, &id, "run.cancel_requested").await["data"]["reason"],
        "wrong machine"
    );

    let id = daemon.submit("careful", "script:exec void").await;
    let approval = approval_of(&daemon, &id).await;
    assert_eq!(verb(&daemon, &id, "cancel", &json!({})).await.0, 202);
    daemon.wait_for(&id, &["cancelled"]).await;
    let path = format!("/api/v1/approvals/{}", approval["id"].as_str().unwrap());
    assert_eq!(daemon.get(&path).await.expect(200)["state"], "voided");
    let late = daemon.decide(&approval, &json!({"decision": "approve"})).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "approval.stale".to_owned()));
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "");
}

#[tokio::test]
async fn an_answer_reaches_the_agent_and_a_retry_names_what_it_repeats() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:ask answer").await;
    daemon.wait_for(&id, &["paused"]).await;
    assert!(
        event(&daemon, &id, "run.paused").await["data"]["detail"]
            .as_str()
            .unwrap()
            .contains("red / blue")
    );
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": "blue"})).await.0, 202);
    daemon.wait_for(&id, &["succeeded"]).await;
    let seen = fake.seen_of("ask");
    assert_eq!(seen[1].results().last().map(|r| r.1), Some("blue"));

    let body = json!({"agent": "reader", "limits": {"max_steps": 1}, "input": "script:loop retry"});
    let run = daemon.post("/api/v1/runs?wait=30", &body).await.expect(200);
    let id = run["id"].as_str().unwrap();
    let again = daemon.post(&format!("/api/v1/runs/{id}/retry"), &json!({})).await.expect(202);
    assert_eq!((&again["retry_of"], &again["input"]), (&json!(id), &run["input"]));
    assert_eq!(again["conversation_id"], run["conversation_id"]);
    assert_eq!(daemon.run_of(id).await, run, "the failed one stays as it was");
}
