//! What a hostile model or a low token tries: each attempt is answered, and harms nothing.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::{
    scenes::{event, provider, sh, until_asked},
    support::{
        daemon::{ADMIN, ALICE, Daemon, OPERATOR},
        fake_llm::{FakeLlm, Fault, Turn},
    },
};

#[tokio::test]
async fn arguments_nested_deeply_leave_a_run_that_can_be_read_and_continued() {
    let fake = provider();
    let nested = format!("{{\"argv\":[\"true\"],\"x\":{}{}}}", "[".repeat(123), "]".repeat(123));
    let deep = Turn::text("").and_raw("exec", &nested);
    fake.script("deep", [deep, Turn::text("corrected")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("open", "script:deep").await;
    let run = daemon.wait_for(&run, &["succeeded", "failed"]).await;
    assert_eq!(run["output"], "corrected", "{run}");
    let events = daemon.events(run["id"].as_str().expect("an id")).await;
    assert!(events.iter().any(|e| e["type"] == "tool.denied"), "{events:#?}");
    let thread = run["conversation_id"].as_str().expect("an id");
    daemon.get(&format!("/api/v1/conversations/{thread}/messages")).await.expect(200);
    let body = json!({"agent": "open", "input": "script:say", "conversation_id": thread});
    let next = daemon.post("/api/v1/runs?wait=20", &body).await.expect(200);
    assert_eq!(next["state"], "succeeded", "{next}");
}

#[tokio::test]
async fn an_edit_larger_than_the_memory_is_refused_and_the_daemon_lives() {
    let fake = provider();
    // 400 GiB if it were done.
    let edit = json!({"path": "f", "old": "a", "new": "x".repeat(400 << 10), "count": 1 << 20});
    fake.script("bomb", [Turn::call("edit_file", &edit), Turn::text("went on")]);
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let pid = daemon.pid();
    fs::write(daemon.workspace("open").join("f"), "a".repeat(1 << 20)).expect("a file");
    let run = daemon.submit("open", "script:bomb").await;
    let run = daemon.wait_for(&run, &["succeeded", "failed"]).await;
    assert_eq!(run["output"], "went on", "{run}");
    assert_eq!(daemon.pid(), pid);
    daemon.stop().await;
}

#[tokio::test]
async fn an_agent_that_one_may_not_start_cannot_be_started_by_a_fork_either() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("closed", "script:say").await;
    daemon.wait_for(&run, &["succeeded"]).await;
    let body = json!({"agent": "closed", "input": "script:say"});
    let path = format!("/api/v1/runs/{run}/fork");
    let fork = json!({"input": "script:say"});
    for (token, status) in [(OPERATOR, 403), (ADMIN, 202)] {
        for (path, body) in [("/api/v1/runs", &body), (path.as_str(), &fork)] {
            let answer = daemon.call(Method::POST, path, token, Some(body)).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_owner_of_a_thread_cannot_act_upon_somebody_elses_run_in_it() {
    let fake = provider();
    let script = sh("while [ ! -e go ]; do sleep 0.02; done");
    fake.script("wait", [Turn::call("exec", &script), Turn::text("waited")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let create = async |token: &str, body: serde_json::Value| {
        daemon.call(Method::POST, "/api/v1/runs", token, Some(&body)).await.expect("an answer")
    };
    let first = create(ALICE, json!({"agent": "open", "input": "script:say"})).await.expect(202);
    let thread = &first["conversation_id"];
    daemon.wait_for(first["id"].as_str().expect("an id"), &["succeeded"]).await;
    let body = json!({"agent": "open", "input": "script:wait", "conversation_id": thread});
    let theirs = create(OPERATOR, body).await.expect(202);
    let id = theirs["id"].as_str().expect("an id");
    daemon.wait_for(id, &["running"]).await;
    for on_busy in ["steer", "interrupt"] {
        let body = json!({"agent": "open", "input": "script:say", "conversation_id": thread,
            "on_busy": on_busy});
        let refused = create(ALICE, body).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (409, "conversation.busy".into()));
        assert!(!refused.text.contains(id), "{}", refused.text);
    }
    let enqueued = json!({"agent": "open", "input": "script:say", "conversation_id": thread});
    create(ALICE, enqueued).await.expect(202);
    fs::write(daemon.workspace("open").join("go"), "").expect("a file");
    let ended = daemon.wait_for(id, &["succeeded", "paused"]).await;
    assert_eq!(ended["output"], "waited", "{ended}");
}

#[tokio::test]
async fn a_data_directory_that_others_can_write_is_not_used() {
    let daemon = Daemon::prepare("");
    let data = daemon.data_dir();
    fs::create_dir_all(&data).expect("a directory");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("a mode");
    let told = daemon.refused().await;
    assert!(told.code != Some(0) && told.err.contains("can be written by everybody"), "{told:?}");
    assert_eq!(fs::read_dir(&data).expect("a directory").count(), 0, "nothing was made in it");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut daemon = daemon;
    daemon.run().await;
}

#[tokio::test]
async fn a_late_steer_starts_no_run_of_an_agent_that_its_sender_may_not_start() {
    let fake = FakeLlm::start();
    let slow = Turn::text("done").after([Fault::SlowBytes(Duration::from_millis(150))]);
    fake.script("slow", [slow]);
    fake.script("say", [Turn::text("new")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    // One model call and no more: what is said meanwhile comes too late.
    for (sender, may_start) in [(OPERATOR, false), (ADMIN, true)] {
        let body = json!({
            "agent": "closed", "input": format!("script:slow {may_start}"),
            "limits": {"max_steps": 1},
        });
        let run = daemon.post("/api/v1/runs", &body).await.expect(202);
        let run = run["id"].as_str().unwrap();
        until_asked(&fake, "slow", usize::from(may_start) + 1).await;
        let steer = json!({"input": "script:say", "if_ended": "start_new_run"});
        let path = format!("/api/v1/runs/{run}/steer");
        daemon.call(Method::POST, &path, sender, Some(&steer)).await.unwrap().expect(202);
        let failed = event(&daemon, run, "run.steer_failed").await;
        assert_eq!(failed["data"]["started_run_id"].is_string(), may_start, "{failed}");
    }
}
