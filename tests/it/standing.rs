//! Rights that change while work goes on: who asked, who answered and who spoke are looked at again
//! before each call, and a rule that wants more than there was asks again.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, workspace_text},
    support::{
        daemon::{ADMIN, ALICE, Daemon, OPERATOR},
        fake_llm::{FakeLlm, Turn},
    },
};

/// A second administrator.
const TOM: &str = "tom-token-0123456789-0123456789-0123456789abc";

const MORE: &str = r#"
[[auth.tokens]]
name = "tom"
role = "admin"
token = "tom-token-0123456789-0123456789-0123456789abc"
[agents.builder]
system_prompt = "test"
tools = ["exec", "ask_user"]
roles = ["operator"]
"#;

async fn start(fake: &FakeLlm) -> Daemon {
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), MORE);
    daemon.run().await;
    daemon
}

async fn said(daemon: &Daemon, args: &[&str]) {
    let told = daemon.cli(args).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

/// Starts a run as somebody; its id.
async fn submit(daemon: &Daemon, token: &str, body: Value) -> String {
    let run = daemon.call(Method::POST, "/api/v1/runs", token, Some(&body)).await.unwrap();
    run.expect(202)["id"].as_str().unwrap().to_owned()
}

async fn decide(daemon: &Daemon, token: &str, card: &Value, body: &Value) -> Value {
    let path = format!("/api/v1/approvals/{}/decision", card["id"].as_str().unwrap());
    daemon.call(Method::POST, &path, token, Some(body)).await.unwrap().expect(200)
}

async fn put_policy(daemon: &Daemon, rules: &str) {
    let file = daemon.dir().join("policy.toml");
    fs::write(&file, format!("version = 1\n{rules}")).unwrap();
    said(daemon, &["policy", "put", file.to_str().unwrap()]).await;
}

fn yes() -> Value {
    json!({"decision": "approve"})
}

#[tokio::test]
async fn what_somebody_asked_for_who_is_disabled_by_now_is_not_executed() {
    let fake = provider();
    let daemon = start(&fake).await;
    let ask = |n: u32| json!({"agent": "careful", "input": format!("script:exec {n}")});
    let id = submit(&daemon, ALICE, ask(1)).await;
    let card = approval_of(&daemon, &id).await;
    said(&daemon, &["principal", "disable", "alice"]).await;
    decide(&daemon, ADMIN, &card, &yes()).await;
    let run = daemon.wait_for(&id, &["failed", "succeeded"]).await;
    assert_eq!(run["error"]["code"], "run.requester_disabled", "{run:#}");
    assert!(!kinds(&daemon, &id).await.contains(&"tool.started".to_owned()));
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "");
    // The same with somebody who is there.
    said(&daemon, &["principal", "enable", "alice"]).await;
    let id = submit(&daemon, ALICE, ask(2)).await;
    let card = approval_of(&daemon, &id).await;
    decide(&daemon, ADMIN, &card, &yes()).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\n");
}

#[tokio::test]
async fn a_run_ends_whose_starter_may_not_start_it_any_more() {
    let fake = provider();
    let daemon = start(&fake).await;
    fake.script(
        "talks",
        [Turn::call("ask_user", &json!({"question": "well?"})), Turn::text("never said")],
    );
    let ask = json!({"agent": "builder", "input": "script:talks"});
    let id = submit(&daemon, OPERATOR, ask).await;
    daemon.wait_for(&id, &["paused"]).await;
    // `builder` is for operators.
    said(&daemon, &["principal", "update", "operator", "--role", "member"]).await;
    let path = format!("/api/v1/runs/{id}/resume");
    daemon.post(&path, &json!({"input": "go on"})).await.expect(202);
    let run = daemon.wait_for(&id, &["failed", "succeeded"]).await;
    assert_eq!(run["error"]["code"], "run.requester_narrowed", "{run:#}");
    assert_eq!(fake.seen_of("talks").len(), 1, "the model is not asked for them");
}

#[tokio::test]
async fn an_answer_of_somebody_else_taints_a_run_and_ones_own_does_not() {
    let fake = provider();
    let daemon = start(&fake).await;
    for (token, wanted) in [(ALICE, false), (TOM, true)] {
        let body = json!({"agent": "careful", "input": format!("script:ask {wanted}")});
        let id = submit(&daemon, ALICE, body).await;
        daemon.wait_for(&id, &["paused"]).await;
        let path = format!("/api/v1/runs/{id}/resume");
        let answer = json!({"input": "red"});
        daemon.call(Method::POST, &path, token, Some(&answer)).await.unwrap().expect(202);
        assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["tainted"], wanted);
    }
}

#[tokio::test]
async fn a_run_that_has_read_untrusted_content_gets_nothing_by_a_pattern_of_one_that_had_not() {
    let fake = provider();
    let daemon = start(&fake).await;
    let id = daemon.submit("careful", "script:exec clean").await;
    let card = approval_of(&daemon, &id).await;
    assert_eq!(card["tainted"], false);
    let pattern = json!({"ttl_secs": 600, "uses": 9});
    let body = json!({"decision": "approve", "scope": "pattern", "pattern": pattern});
    decide(&daemon, TOM, &card, &body).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    // It lets the same call of a clean run through.
    let id = daemon.submit("careful", "script:exec clean again").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\nran\n");
    // Somebody else's message stands in this conversation.
    let body = json!({"agent": "careful", "input": "script:say hello"});
    let first = daemon.call(Method::POST, "/api/v1/runs?wait=30", ALICE, Some(&body)).await;
    let thread = first.unwrap().expect(200)["conversation_id"].clone();
    let body = json!({
        "agent": "careful", "input": "script:exec tainted", "conversation_id": thread,
    });
    let id = submit(&daemon, ADMIN, body).await;
    let card = approval_of(&daemon, &id).await;
    assert_eq!(card["tainted"], true);
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\nran\n");
    let list = daemon.get("/api/v1/approval-patterns").await.expect(200);
    assert_eq!(list["items"][0]["uses_left"], 8, "no use was taken: {list}");
}

/// One person for whatever is written, two below `guarded`.
const EYES: &str = r#"
[[rule]]
name = "written"
effect = "ask"
paths = ["**"]
access = "write"
reason = "somebody looks at this"
[[rule]]
name = "guarded"
effect = "ask"
paths = ["guarded"]
access = "write"
quorum = 2
reason = "two people look at this"
"#;

fn write(path: &str) -> Turn {
    Turn::call("write_file", &json!({"path": path, "content": "x", "mode": "overwrite"}))
}

#[tokio::test]
async fn the_yes_of_one_is_not_enough_where_a_rule_wants_two() {
    let fake = provider();
    let daemon = start(&fake).await;
    put_policy(&daemon, EYES).await;
    fake.script("free", [write("free.txt"), Turn::text("done")]);
    let id = daemon.submit("careful", "script:free").await;
    let card = approval_of(&daemon, &id).await;
    assert_eq!(card["quorum"], 1);
    let pattern = json!({"args": {"path": "**"}, "ttl_secs": 600, "uses": 9});
    let body = json!({"decision": "approve", "scope": "pattern", "pattern": pattern});
    decide(&daemon, TOM, &card, &body).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    // Like calls pass by the pattern of one person, and this one does not.
    fake.script("both", [write("also.txt"), write("guarded/f"), Turn::text("done")]);
    let id = daemon.submit("careful", "script:both").await;
    let card = approval_of(&daemon, &id).await;
    assert_eq!((&card["args"]["path"], &card["quorum"]), (&json!("guarded/f"), &json!(2)));
    assert_eq!(workspace_text(&daemon, "careful", "also.txt"), "x");
    assert!(!daemon.workspace("careful").join("guarded").exists());
    decide(&daemon, TOM, &card, &yes()).await;
    decide(&daemon, ADMIN, &card, &yes()).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "guarded/f"), "x");
}

#[tokio::test]
async fn a_pattern_writes_where_its_card_wrote_and_not_behind_a_link() {
    let fake = provider();
    let daemon = start(&fake).await;
    put_policy(&daemon, EYES).await;
    let at = |name: &str| daemon.workspace("careful").join(name);
    for name in ["public", "deploy"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let content = |text: &str| {
        let args = json!({"path": "public/status.md", "content": text, "mode": "overwrite"});
        Turn::call("write_file", &args)
    };
    let play = async |name: &str| {
        fake.script(name, [content(name), Turn::text("done")]);
        daemon.submit("careful", &format!("script:{name}")).await
    };
    let id = play("first").await;
    let card = approval_of(&daemon, &id).await;
    let pattern = json!({"args": {"content": "**"}, "ttl_secs": 600, "uses": 9});
    let body = json!({"decision": "approve", "scope": "pattern", "pattern": pattern});
    decide(&daemon, TOM, &card, &body).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let id = play("second").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "public/status.md"), "second");
    fs::rename(at("public"), at("old")).unwrap();
    std::os::unix::fs::symlink("deploy", at("public")).unwrap();
    let id = play("third").await;
    approval_of(&daemon, &id).await;
    assert!(!at("deploy/status.md").exists());
    assert_eq!(workspace_text(&daemon, "careful", "old/status.md"), "second");
}

#[tokio::test]
async fn a_retry_repeats_the_words_of_another_with_their_rights_and_limits_and_says_so() {
    let fake = provider();
    let daemon = start(&fake).await;
    // A person raised the limit for one run alone.
    fake.script(
        "fails",
        [sh_call("exit 0"), Turn::call("list_files", &json!({})), Turn::text("done")],
    );
    let made = daemon.cli(&["token", "create", "alice", "--tool", "list_files", "--json"]).await;
    let narrow = made.json()["token"].as_str().unwrap().to_owned();
    let body = json!({"agent": "open", "input": "script:fails", "limits": {"max_steps": 1}});
    let id = submit(&daemon, &narrow, body).await;
    daemon.wait_for(&id, &["failed"]).await;
    let path = format!("/api/v1/runs/{id}/retry");
    let retried = daemon.call(Method::POST, &path, TOM, Some(&json!({}))).await.unwrap();
    let retried = retried.expect(202);
    assert_eq!(retried["tainted"], true, "they are not Tom's words: {retried}");
    let again = retried["id"].as_str().unwrap();
    daemon.wait_for(again, &["failed"]).await;
    let denied = event(&daemon, again, "tool.denied").await;
    assert_eq!(denied["data"]["rule"], "scope.tool", "{denied}");
    assert!(!kinds(&daemon, again).await.contains(&"tool.started".to_owned()));
}

fn sh_call(script: &str) -> Turn {
    Turn::call("exec", &sh(script))
}

#[tokio::test]
async fn who_decides_no_approvals_learns_nothing_of_other_peoples_calls_from_a_preview() {
    let fake = provider();
    let daemon = start(&fake).await;
    // The administrator's own call of the same tool.
    let id = daemon.submit("careful", "script:exec mine").await;
    let card = approval_of(&daemon, &id).await;
    decide(&daemon, TOM, &card, &json!({"decision": "deny"})).await;
    let body = json!({"agent": "careful", "input": "script:exec alices"});
    let own = submit(&daemon, ALICE, body).await;
    let card = approval_of(&daemon, &own).await;
    let path = format!("/api/v1/approvals/{}/pattern-preview", card["id"].as_str().unwrap());
    let bounds = json!({"ttl_secs": 60, "uses": 1});
    let ask =
        async |token: &str| daemon.call(Method::POST, &path, token, Some(&bounds)).await.unwrap();
    let refused = ask(ALICE).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "auth.forbidden"));
    // An operator of this conversation alone counts only what is there.
    let thread = daemon.run_of(&own).await["conversation_id"].as_str().unwrap().to_owned();
    let made =
        daemon.cli(&["token", "create", "operator", "--conversation", &thread, "--json"]).await;
    let narrow = made.json()["token"].as_str().unwrap().to_owned();
    let (all, some) = (ask(OPERATOR).await.expect(200), ask(&narrow).await.expect(200));
    assert_eq!((&all["calls"], &some["calls"]), (&json!(2), &json!(1)), "{all} {some}");
}
