//! Questions to people: who may answer, what an answer does, when it is too late.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, workspace_text},
    support::{
        checker::Truth,
        daemon::{ADMIN, ALICE, Daemon, OPERATOR},
        fake_llm::Turn,
    },
};

async fn decide_as(daemon: &Daemon, token: &str, approval: &Value, body: &Value) -> (u16, Value) {
    let path = format!("/api/v1/approvals/{}/decision", approval["id"].as_str().expect("an id"));
    let answer = daemon.call(Method::POST, &path, token, Some(body)).await.expect("an answer");
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn an_approved_call_runs_once_and_a_denied_one_never() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec approve").await;
    let run = daemon.wait_for(&id, &["awaiting_approval"]).await;
    assert_eq!(run["wait_reason"], Value::Null);
    let approval = approval_of(&daemon, &id).await;
    assert_eq!((&approval["kind"], &approval["tool"]), (&json!("tool"), &json!("exec")));
    assert_eq!(approval["args"], sh("echo ran >> ran.log"));
    assert_eq!((&approval["risk"], &approval["required_role"]), (&json!("high"), &json!("admin")));
    assert_eq!(approval["quorum"], 1);
    assert!(approval["reasons"][0].as_str().unwrap().contains("/bin/sh"), "{approval}");
    assert!(
        approval["cwd"]
            .as_str()
            .unwrap()
            .starts_with(daemon.workspace("careful").to_str().unwrap())
    );
    assert!(approval["args_hash"].as_str().unwrap().len() == 64);
    assert_eq!(event(&daemon, &id, "approval.requested").await["data"]["id"], approval["id"]);
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "", "nothing runs before the answer");
    let decided = daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    assert_eq!(decided["state"], "approved");
    assert_eq!(
        (&decided["decisions"][0]["decision"], &decided["decisions"][0]["surface"]),
        (&json!("approve"), &json!("api"))
    );
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\n");

    let id = daemon.submit("careful", "script:exec deny").await;
    let approval = approval_of(&daemon, &id).await;
    let no = json!({"decision": "deny", "reason": "use the staging machine"});
    assert_eq!(daemon.decide(&approval, &no).await.expect(200)["state"], "denied");
    assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["output"], "done");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\n", "not run again");
    let seen = fake.seen_of("exec");
    let told = seen.last().and_then(|s| s.results().last().map(|r| r.1.to_owned())).unwrap();
    assert!(told.contains("use the staging machine"), "the reason reaches the model: {told}");
    assert!(!kinds(&daemon, &id).await.contains(&"tool.started".to_owned()));
    let dir = daemon.data_dir();
    assert_eq!(daemon.stop().await, Some(0));
    let truth = Truth::read(&dir).await;
    truth.check_audit();
    truth.check_approvals();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_deciders_exactly_one_decides() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec race").await;
    let approval = approval_of(&daemon, &id).await;
    let (yes, no) = (json!({"decision": "approve"}), json!({"decision": "deny"}));
    let all = (0..50).map(|n| {
        let body = if n % 2 == 0 { &yes } else { &no };
        decide_as(&daemon, ADMIN, &approval, body)
    });
    let mut outcomes: BTreeMap<(u16, String), u32> = BTreeMap::new();
    for (status, answer) in futures_util::future::join_all(all).await {
        let code = answer["code"].as_str().unwrap_or_default().to_owned();
        *outcomes.entry((status, code)).or_default() += 1;
    }
    let wanted = [((200, String::new()), 1), ((409, "approval.stale".to_owned()), 49)];
    assert_eq!(outcomes, BTreeMap::from(wanted));
    daemon.wait_for(&id, &["succeeded"]).await;
    let decided = kinds(&daemon, &id).await.iter().filter(|k| *k == "approval.decided").count();
    assert_eq!(decided, 1);
    let path = format!("/api/v1/approvals/{}", approval["id"].as_str().unwrap());
    assert_eq!(daemon.get(&path).await.expect(200)["decisions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn only_the_role_on_the_card_may_decide() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let body = json!({"agent": "careful", "input": "script:exec roles"});
    let run = daemon.call(Method::POST, "/api/v1/runs", ALICE, Some(&body)).await;
    let run = run.expect("an answer").expect(202);
    let approval = approval_of(&daemon, run["id"].as_str().unwrap()).await;
    let yes = json!({"decision": "approve"});
    for token in [ALICE, OPERATOR] {
        let (status, problem) = decide_as(&daemon, token, &approval, &yes).await;
        assert_eq!((status, &problem["code"]), (403, &json!("auth.forbidden")));
    }
    let seen = daemon.pending(run["id"].as_str().unwrap()).await;
    assert_eq!(seen[0]["state"], "pending", "a refused decision decides nothing");
    for (bad, code) in [
        (json!({"decision": "approve", "outcome": "run"}), "approval.outcome"),
        (json!({"decision": "approve", "scope": "pattern"}), "approval.scope"),
        (json!({"decision": "deny", "reason": "x".repeat(1_001)}), "request.too_long"),
        (json!({"decision": "maybe"}), "request.invalid"),
        (json!({}), "request.invalid"),
    ] {
        let (status, problem) = decide_as(&daemon, ADMIN, &approval, &bad).await;
        assert_eq!((status, &problem["code"]), (422, &json!(code)), "{bad}");
    }
    // A budget is of medium risk: an operator decides it, a member never.
    let input = format!("script:say {}", "word ".repeat(60));
    let body = json!({"agent": "short", "input": input});
    let run = daemon.call(Method::POST, "/api/v1/runs", ALICE, Some(&body)).await;
    let run = run.expect("an answer").expect(202);
    let budget = approval_of(&daemon, run["id"].as_str().unwrap()).await;
    assert_eq!(decide_as(&daemon, ALICE, &budget, &yes).await.0, 403);
    assert_eq!(decide_as(&daemon, OPERATOR, &budget, &yes).await.0, 200);
    assert_eq!(decide_as(&daemon, ADMIN, &approval, &yes).await.0, 200);
}

#[tokio::test]
async fn who_started_a_run_may_not_decide_it_in_production() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), "");
    let file = daemon.dir().join("test.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, format!("env = \"production\"\n{config}")).expect("written");
    daemon.set_env("PERMISSION_SECRET", "permission-secret-0123456789-0123456789");
    daemon.run().await;
    let id = daemon.submit("careful", "script:exec four eyes").await;
    let approval = approval_of(&daemon, &id).await;
    let (status, problem) =
        decide_as(&daemon, ADMIN, &approval, &json!({"decision": "approve"})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("auth.forbidden")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("somebody else"), "{problem}");
    // Nor may who only steered it: the call may be what they asked for.
    let body = json!({"agent": "careful", "input": "script:exec six eyes"});
    let run = daemon.call(Method::POST, "/api/v1/runs", ALICE, Some(&body)).await.unwrap();
    let id = run.expect(202)["id"].as_str().unwrap().to_owned();
    let approval = approval_of(&daemon, &id).await;
    let steer = daemon.post(&format!("/api/v1/runs/{id}/steer"), &json!({"input": "more"})).await;
    assert_eq!(steer.status.as_u16(), 202);
    let (status, problem) =
        decide_as(&daemon, ADMIN, &approval, &json!({"decision": "approve"})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("auth.forbidden")), "{problem}");
}

#[tokio::test]
async fn silence_counts_as_no() {
    let fake = provider();
    let more = "[limits]\napproval_ttl_secs = 1\n";
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), more);
    daemon.run().await;
    let id = daemon.submit("careful", "script:exec silence").await;
    let approval = approval_of(&daemon, &id).await;
    let run = daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(run["output"], "done");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "");
    event(&daemon, &id, "approval.expired").await;
    let path = format!("/api/v1/approvals/{}", approval["id"].as_str().unwrap());
    assert_eq!(daemon.get(&path).await.expect(200)["state"], "expired");
    let late = daemon.decide(&approval, &json!({"decision": "approve"})).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "approval.stale".to_owned()));
    let seen = fake.seen_of("exec");
    assert!(seen[1].results()[0].1.contains("Nobody approved"), "{:?}", seen[1].results());
}

#[tokio::test]
async fn a_yes_for_the_run_covers_the_same_call_and_no_other() {
    let fake = provider();
    let (same, other) = (sh("echo same >> ran.log"), sh("echo other >> ran.log"));
    fake.script(
        "again",
        [
            Turn::call("exec", &same),
            Turn::call("exec", &same),
            Turn::call("exec", &other),
            Turn::text("done"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:again run").await;
    let first = approval_of(&daemon, &id).await;
    daemon.decide(&first, &json!({"decision": "approve", "scope": "run"})).await.expect(200);
    // The second is the same call and is not asked; the third is another one.
    let next = approval_of(&daemon, &id).await;
    assert_eq!(next["args"], other);
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "same\nsame\n");
    daemon.decide(&next, &json!({"decision": "deny"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    // `once` is once; and another run starts from nothing.
    let id = daemon.submit("careful", "script:again once").await;
    let first = approval_of(&daemon, &id).await;
    daemon.decide(&first, &json!({"decision": "approve"})).await.expect(200);
    let second = approval_of(&daemon, &id).await;
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&second["args"], &second["args_hash"]), (&same, &first["args_hash"]));
}

#[tokio::test]
async fn a_question_outlives_the_daemon() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec restart").await;
    let approval = approval_of(&daemon, &id).await;
    daemon.kill();
    daemon.run().await;
    assert_eq!(approval_of(&daemon, &id).await, approval, "nothing changed");
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    daemon.kill();
    daemon.run().await;
    let late = daemon.decide(&approval, &json!({"decision": "deny"})).await;
    assert_eq!(late.code(), "approval.stale", "an answer that was acknowledged stands");
    // The kill may have hit the call itself; then a person is asked, and nothing runs twice.
    let run = daemon.wait_for(&id, &["succeeded", "paused"]).await;
    if run["state"] == "paused" {
        assert_eq!(run["wait_reason"], "effect_unknown");
        let unknown = approval_of(&daemon, &id).await;
        let body = json!({"decision": "approve", "outcome": "happened"});
        daemon.decide(&unknown, &body).await.expect(200);
        daemon.wait_for(&id, &["succeeded"]).await;
    }
    let ran = workspace_text(&daemon, "careful", "ran.log");
    assert!(ran.lines().count() <= 1, "{ran}");
}

#[tokio::test]
async fn an_approval_is_void_when_the_agent_was_defined_anew() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec redefined").await;
    let first = approval_of(&daemon, &id).await;
    daemon.kill();
    let file = daemon.dir().join("test.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    let (head, careful) = config.split_once("[agents.careful]\n").expect("the agent");
    let careful = careful.replacen("\"test\"", "\"another\"", 1);
    std::fs::write(&file, format!("{head}[agents.careful]\n{careful}")).expect("written");
    daemon.run().await;
    daemon.decide(&first, &json!({"decision": "approve"})).await.expect(200);
    let second = approval_of(&daemon, &id).await;
    assert_ne!(second["id"], first["id"], "asked again under the new definition");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "");
    daemon.decide(&second, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\n");
}
