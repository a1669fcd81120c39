//! The live policy: what a rule does to a call, how it is changed while runs are under way, why a call
//! was decided as it was, and what another policy would have decided.

use std::{fs, path::PathBuf};

use agent_runtime::http::admin::SOCKET;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, until, workspace_text},
    support::{
        daemon::{Answer, Daemon, Told},
        fake_llm::{FakeLlm, Turn},
    },
};

const POLICY: &str = "/admin/v1/policy";

const NO_ECHO: &str = r#"version = 1
[[rule]]
name = "no-echo"
effect = "deny"
command = [["/bin/echo"]]
reason = "nobody echoes here"
"#;
const ASK_ECHO: &str = r#"version = 1
[[rule]]
name = "echo-asks"
effect = "ask"
command = [["/bin/echo"]]
reason = "an echo is heard"
"#;
const LET_ECHO: &str = r#"version = 1
[[rule]]
name = "echo-runs"
effect = "allow"
command = [["/bin/echo", "hello"]]
match = [["/bin/echo", "hello", "world"]]
not_match = [["/bin/echo", "goodbye"]]
"#;
const WRONG: &str =
    "version = 1\n[[rule]]\nname = \"a\"\nefect = \"deny\"\n[[rule]]\neffect = \"deny\"\n";

/// A provider whose agents say hello and goodbye with a program.
fn speaker() -> FakeLlm {
    let fake = provider();
    let echo = |word: &str| json!({"argv": ["/bin/echo", word]});
    fake.script("hello", [Turn::call("exec", &echo("hello")), Turn::text("done")]);
    fake.script("goodbye", [Turn::call("exec", &echo("goodbye")), Turn::text("done")]);
    fake
}

async fn door(daemon: &Daemon, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let socket = daemon.data_dir().join(SOCKET);
    let client = reqwest::Client::builder().unix_socket(socket).build().expect("a client");
    let mut request = client.request(method, format!("http://localhost{path}"));
    if let Some(body) = body {
        request = request.json(body);
    }
    Daemon::answer(request).await.expect("an answer")
}

async fn put(daemon: &Daemon, source: &str) -> Value {
    let body = json!({ "source": source, "note": "a test" });
    door(daemon, Method::PUT, POLICY, Some(&body)).await.expect(200)
}

async fn active(daemon: &Daemon) -> Value {
    door(daemon, Method::GET, POLICY, None).await.expect(200)
}

async fn explain(daemon: &Daemon, question: &Value) -> Value {
    door(daemon, Method::POST, &format!("{POLICY}/explain"), Some(question)).await.expect(200)
}

async fn replay(daemon: &Daemon, body: &Value) -> Value {
    door(daemon, Method::POST, &format!("{POLICY}/replay"), Some(body)).await.expect(200)
}

/// The audit rows of a kind, oldest first.
async fn trail(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let told = daemon.cli(&["audit", "query", "--kind", kind, "--json"]).await;
    match told.json() {
        Value::Array(rows) => rows,
        page => page["items"].as_array().cloned().expect("rows"),
    }
}

async fn rule_of(daemon: &Daemon, run: &str, kind: &str) -> (String, String) {
    let data = event(daemon, run, kind).await["data"].clone();
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    (text("rule"), text("layer"))
}

async fn ran(daemon: &Daemon, agent: &str, script: &str) -> String {
    let id = daemon.submit(agent, script).await;
    daemon.wait_for(&id, &["succeeded", "failed", "awaiting_approval"]).await;
    id
}

fn policy_file(daemon: &Daemon, text: &str) -> PathBuf {
    let file = daemon.dir().join("policy.toml");
    fs::write(&file, text).expect("written");
    file
}

#[tokio::test]
async fn a_rule_denies_asks_or_lets_through_from_the_next_decision_on_without_a_restart() {
    let fake = speaker();
    let daemon = Daemon::start(&fake.openai_url()).await;
    // Nothing but the agent's own definition: it may run everything.
    let id = ran(&daemon, "open", "script:hello one").await;
    assert_eq!(kinds(&daemon, &id).await.iter().filter(|k| *k == "tool.completed").count(), 1);

    let denied = put(&daemon, NO_ECHO).await;
    let id = ran(&daemon, "open", "script:hello two").await;
    assert_eq!(rule_of(&daemon, &id, "tool.denied").await, ("no-echo".into(), "rules".into()));
    assert!(!kinds(&daemon, &id).await.contains(&"tool.started".to_owned()));
    let seen = fake.seen_of("hello");
    let told = seen.last().and_then(|s| s.results().last().map(|r| r.1.to_owned())).unwrap();
    assert!(told.contains("nobody echoes here") && told.contains("no-echo"), "{told}");
    let rows = trail(&daemon, "tool_denied").await;
    let data = &rows.last().unwrap()["data"];
    assert_eq!(
        (&data["rule"], &data["layer"], &data["policy_version"]),
        (&json!("no-echo"), &json!("rules"), &denied["version"])
    );

    put(&daemon, ASK_ECHO).await;
    let id = ran(&daemon, "open", "script:hello three").await;
    let card = approval_of(&daemon, &id).await;
    assert!(card["reasons"].to_string().contains("an echo is heard"), "{card}");
    let rows = trail(&daemon, "approval_requested").await;
    assert_eq!(rows.last().unwrap()["data"]["rule"], "echo-asks");
    daemon.decide(&card, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(rule_of(&daemon, &id, "tool.started").await.0, "echo-asks");

    // An agent that asks about every program runs this one unasked, and no other argument of it.
    put(&daemon, LET_ECHO).await;
    let id = ran(&daemon, "careful", "script:hello four").await;
    assert_eq!(rule_of(&daemon, &id, "tool.started").await, ("echo-runs".into(), "rules".into()));
    let id = ran(&daemon, "careful", "script:goodbye five").await;
    assert_eq!(daemon.run_of(&id).await["state"], "awaiting_approval");
    assert_eq!(kinds(&daemon, &id).await.iter().filter(|k| *k == "tool.started").count(), 0);
}

#[tokio::test]
async fn a_wrong_policy_changes_nothing_and_every_problem_is_told() {
    let fake = speaker();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let before = put(&daemon, NO_ECHO).await["version"].clone();
    let rows = trail(&daemon, "policy").await.len();
    let body = json!({ "source": WRONG });
    let problem = door(&daemon, Method::PUT, POLICY, Some(&body)).await.expect(422);
    assert_eq!(problem["code"], "policy.invalid");
    let details: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().filter_map(|e| e["detail"].as_str()).collect();
    assert!(details.len() >= 3, "{details:?}");
    assert!(details.iter().any(|d| d.starts_with("line 4") && d.contains("did you mean `effect`")));
    let checked = door(&daemon, Method::POST, &format!("{POLICY}/validate"), Some(&body)).await;
    let checked = checked.expect(200);
    assert_eq!((&checked["valid"], &checked["version"]), (&json!(false), &json!(null)));
    assert_eq!(checked["problems"].as_array().unwrap().len(), details.len());
    // From the command line: one readable line each, and wrong usage.
    let file = policy_file(&daemon, WRONG);
    let told = daemon.cli(&["policy", "put", file.to_str().unwrap()]).await;
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(told.err.contains("line 4") && told.err.contains("nothing was changed"), "{told:?}");
    assert_eq!(active(&daemon).await["version"], before);
    assert_eq!(trail(&daemon, "policy").await.len(), rows, "what changed nothing is no change");
    let id = ran(&daemon, "open", "script:hello still").await;
    assert_eq!(rule_of(&daemon, &id, "tool.denied").await.0, "no-echo");
}

#[tokio::test]
async fn sighup_takes_over_the_file_and_a_wrong_file_leaves_what_is_in_force() {
    let fake = speaker();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let file = policy_file(&daemon, NO_ECHO);
    daemon.set_env("AGENT_RUNTIME_POLICY_FILE", file.to_str().unwrap());
    daemon.run().await;
    let first = active(&daemon).await;
    assert_eq!((&first["in_force"]["origin"], &first["source"]), (&json!("file"), &json!(NO_ECHO)));
    let id = ran(&daemon, "open", "script:hello one").await;
    assert_eq!(rule_of(&daemon, &id, "tool.denied").await.0, "no-echo");
    // Wrong: told with file and line, nothing else happens.
    policy_file(&daemon, WRONG);
    daemon.signal(1);
    until("the refusal in the log", || {
        let log = daemon.log();
        (log.contains("policy.toml:4") && log.contains("was not reloaded")).then_some(())
    })
    .await;
    assert_eq!(active(&daemon).await["version"], first["version"]);
    // Right: in force for the next decision.
    policy_file(&daemon, LET_ECHO);
    daemon.signal(1);
    let deadline = tokio::time::Instant::now() + crate::support::daemon::PATIENCE;
    while active(&daemon).await["source"] != LET_ECHO {
        assert!(tokio::time::Instant::now() < deadline, "{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let id = ran(&daemon, "careful", "script:hello two").await;
    assert_eq!(rule_of(&daemon, &id, "tool.started").await.0, "echo-runs");
    let rows = trail(&daemon, "policy").await;
    let last = rows.last().unwrap();
    assert_eq!((&last["actor"], &last["data"]["before"]), (&json!("system"), &first["version"]));
    // An administrator's later change outlives a restart while the file stays as it is.
    put(&daemon, ASK_ECHO).await;
    assert_eq!(daemon.stop().await, Some(0));
    daemon.run().await;
    assert_eq!(active(&daemon).await["source"], ASK_ECHO);
    // A wrong file at start is a refusal, not a daemon without its policy.
    assert_eq!(daemon.stop().await, Some(0));
    policy_file(&daemon, WRONG);
    let told: Told = daemon.refused().await;
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(told.err.contains("policy.toml:4"), "{told:?}");
}

#[tokio::test]
async fn a_change_of_policy_outlives_kill_9_and_an_older_version_comes_back() {
    let fake = speaker();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let first = put(&daemon, NO_ECHO).await["version"].as_str().unwrap().to_owned();
    let second = put(&daemon, ASK_ECHO).await["version"].clone();
    // The answer has come: it is durable.
    daemon.kill();
    daemon.run().await;
    assert_eq!(active(&daemon).await["version"], second);
    let id = ran(&daemon, "open", "script:hello one").await;
    approval_of(&daemon, &id).await;
    let told =
        daemon.cli(&["policy", "activate", first.get(..12).unwrap(), "--note", "roll back"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let id = ran(&daemon, "open", "script:hello two").await;
    assert_eq!(rule_of(&daemon, &id, "tool.denied").await.0, "no-echo");
    let page = daemon.cli(&["policy", "versions", "--json"]).await.json();
    let items = page["items"].as_array().unwrap();
    let states: Vec<(u64, bool)> =
        items.iter().map(|i| (i["n"].as_u64().unwrap(), i["active"].as_bool().unwrap())).collect();
    assert_eq!(states, [(3, false), (2, true), (1, false)], "the program's own is the first");
    let rows = trail(&daemon, "policy").await;
    let last = rows.last().unwrap();
    assert_eq!(
        (&last["data"]["before"], &last["data"]["after"], &last["data"]["note"]),
        (&second, &json!(first), &json!("roll back"))
    );
    assert!(last["actor"].as_str().unwrap().starts_with("prn_"), "{last}");
    let table = daemon.cli(&["policy", "versions"]).await;
    assert!(
        table.out.contains("in force") && table.out.contains(first.get(..12).unwrap()),
        "{table:?}"
    );
    let shown = daemon.cli(&["policy", "show"]).await;
    assert_eq!((shown.out.as_str(), shown.code), (NO_ECHO, Some(0)));
}

#[tokio::test]
async fn what_was_approved_under_another_policy_is_asked_again_and_not_executed() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec one").await;
    let card = approval_of(&daemon, &id).await;
    // Another policy that says the same about this call.
    put(&daemon, LET_ECHO).await;
    daemon.decide(&card, &json!({"decision": "approve"})).await.expect(200);
    let again = loop {
        let pending = daemon.pending(&id).await;
        if let Some(again) = pending.into_iter().find(|a| a["id"] != card["id"]) {
            break again;
        }
        let run = daemon.run_of(&id).await;
        assert_ne!(run["state"], "succeeded", "it ran under a policy that nobody approved");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "");
    assert_ne!(again["policy_version"], card["policy_version"]);
    // A policy that denies it by now denies it, approved or not.
    put(&daemon, "version = 1\n[[rule]]\nname = \"no-shells\"\neffect = \"deny\"\ncommand = [[\"/bin/sh\"]]\n")
        .await;
    daemon.decide(&again, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(rule_of(&daemon, &id, "tool.denied").await.0, "no-shells");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "", "it never ran");
}

#[tokio::test]
async fn a_past_call_and_a_hypothetical_one_are_explained() {
    let fake = speaker();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let denying = put(&daemon, NO_ECHO).await["version"].clone();
    let id = ran(&daemon, "open", "script:hello one").await;
    let call = event(&daemon, &id, "tool.denied").await["data"]["call_id"].clone();
    let letting = put(&daemon, LET_ECHO).await["version"].clone();
    let answer = explain(&daemon, &json!({ "call_id": call })).await;
    assert_eq!(answer["call"]["run_id"], json!(id));
    let past = &answer["call"]["decisions"][0];
    assert_eq!(
        (&past["verdict"], &past["rule"], &past["layer"], &past["policy_version"]),
        (&json!("deny"), &json!("no-echo"), &json!("rules"), &denying)
    );
    assert_eq!(
        (&answer["then"]["verdict"], &answer["then"]["rule"], &answer["then"]["policy_version"]),
        (&json!("deny"), &json!("no-echo"), &denying)
    );
    assert!(answer["then"]["change"].as_str().unwrap().contains("no-echo"), "{answer:#}");
    assert_eq!(
        (&answer["now"]["verdict"], &answer["now"]["policy_version"]),
        (&json!("allow"), &letting)
    );
    let told = daemon.cli(&["policy", "explain", call.as_str().unwrap()]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for wanted in ["then: deny", "no-echo", "now: allow", "change"] {
        assert!(told.out.contains(wanted), "{wanted}: {}", told.out);
    }
    // A call that nobody has made: under the policy in force, and under a draft.
    let question =
        ["policy", "explain", "--agent", "careful", "--json", "--", "/bin/echo", "hello"];
    let answer = daemon.cli(&question).await.json();
    assert_eq!((&answer["call"], &answer["then"]), (&json!(null), &json!(null)));
    assert_eq!(
        (&answer["now"]["verdict"], &answer["now"]["rule"]),
        (&json!("allow"), &json!("echo-runs"))
    );
    let file = policy_file(&daemon, NO_ECHO);
    let answer = explain(
        &daemon,
        &json!({ "agent": "careful", "tool": "exec", "args": {"argv": ["/bin/echo", "hello"]},
            "source": fs::read_to_string(file).unwrap() }),
    )
    .await;
    assert_eq!(
        (&answer["now"]["verdict"], &answer["with"]["verdict"]),
        (&json!("allow"), &json!("deny"))
    );
    // Nothing is known of a call that never was.
    let nobody = "call_01890a5d-ac96-774b-bcce-b302099a8057";
    let told = daemon.cli(&["policy", "explain", nobody]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for (wrong, pointer) in [
        (json!({}), "/call_id"),
        (json!({ "agent": "nobody", "tool": "exec" }), "/agent"),
        (json!({ "agent": "open", "tool": "exec", "args": {"argv": 1} }), "/args"),
        (json!({ "agent": "open", "tool": "teleport" }), "/tool"),
        (json!({ "tool": "exec", "role": "king" }), "/role"),
    ] {
        let problem = door(&daemon, Method::POST, &format!("{POLICY}/explain"), Some(&wrong))
            .await
            .expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}");
    }
}

#[tokio::test]
async fn a_call_that_no_rule_has_decided_about_says_so_and_why() {
    let fake = speaker();
    let words = json!({"argv": "rm -rf"});
    fake.script("muddle", [Turn::call("exec", &words), Turn::text("oh")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = ran(&daemon, "open", "script:muddle one").await;
    let denied = event(&daemon, &id, "tool.denied").await;
    assert_eq!(denied["data"]["rule"], "tool.bad_arguments", "{denied:#}");
    let call = denied["data"]["call_id"].as_str().unwrap();
    let told = daemon.cli(&["policy", "explain", call]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for wanted in ["no rule decided", "tool.bad_arguments", "argv"] {
        assert!(told.err.contains(wanted), "{wanted}: {}", told.err);
    }
    let asked = json!({ "call_id": call });
    let problem =
        door(&daemon, Method::POST, &format!("{POLICY}/explain"), Some(&asked)).await.expect(409);
    assert_eq!(problem["code"], "policy.not_asked");
}

#[tokio::test]
async fn a_replay_shows_exactly_what_another_policy_would_have_decided() {
    let fake = speaker();
    let daemon = Daemon::start(&fake.openai_url()).await;
    for n in 0..3 {
        ran(&daemon, "open", &format!("script:hello {n}")).await;
    }
    ran(&daemon, "open", "script:goodbye four").await;
    let asked = ran(&daemon, "careful", "script:hello five").await;
    // Under what decided them, nothing differs.
    let same = replay(&daemon, &json!({ "days": 1 })).await;
    assert_eq!((&same["counts"]["examined"], &same["counts"]["same"]), (&json!(5), &json!(5)));
    assert_eq!((&same["items"], &same["next_cursor"]), (&json!([]), &json!(null)));
    // The rule lets one call of `careful` run that was asked about; `open` runs them all anyway.
    let looser = replay(&daemon, &json!({ "days": 1, "source": LET_ECHO })).await;
    let items = looser["items"].as_array().unwrap();
    let changed: Vec<&Value> =
        items.iter().filter(|i| i["before"]["verdict"] != i["after"]["verdict"]).collect();
    assert_eq!((changed.len(), &looser["counts"]["looser"]), (1, &json!(1)), "{looser:#}");
    assert_eq!(
        (&changed[0]["run_id"], &changed[0]["before"]["verdict"], &changed[0]["after"]["rule"]),
        (&json!(asked), &json!("ask"), &json!("echo-runs"))
    );
    // Everything denied, a page of two at a time.
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    loop {
        let body = json!({ "days": 1, "source": NO_ECHO, "limit": 2, "cursor": cursor });
        let page = replay(&daemon, &body).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|i| i["call_id"].as_str().unwrap().to_owned()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (5, 5), "each once");
    // Nothing was changed by looking.
    assert_eq!(active(&daemon).await["in_force"]["origin"], "builtin");
    let file = policy_file(&daemon, NO_ECHO);
    let told =
        daemon.cli(&["policy", "replay", "--days", "1", "--with", file.to_str().unwrap()]).await;
    assert_eq!(told.code, Some(1), "some would differ: {told:?}");
    assert!(told.out.contains("5 decisions") && told.out.contains("5 stricter"), "{told:?}");
    assert!(
        told.out.contains("deny by no-echo") && told.out.contains("/bin/echo hello"),
        "{told:?}"
    );
    let told = daemon.cli(&["policy", "replay", "--days", "1", "--json"]).await;
    assert_eq!(told.json()["counts"]["same"], 5);
    let problem =
        door(&daemon, Method::POST, &format!("{POLICY}/replay"), Some(&json!({"days": 31})))
            .await
            .expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/days");
}

#[tokio::test]
async fn two_authors_do_not_overwrite_each_other_and_a_repeated_request_changes_nothing() {
    let fake = speaker();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let base = active(&daemon).await["version"].clone();
    put(&daemon, NO_ECHO).await;
    let body = json!({ "source": ASK_ECHO, "base": base });
    let problem = door(&daemon, Method::PUT, POLICY, Some(&body)).await.expect(409);
    assert_eq!(problem["code"], "policy.changed");
    let again = put(&daemon, NO_ECHO).await;
    assert_eq!((&again["stored"], &again["activation"]), (&json!(false), &json!(null)));
    let kept = json!({ "source": ASK_ECHO, "activate": false });
    let kept = door(&daemon, Method::PUT, POLICY, Some(&kept)).await.expect(200);
    assert_eq!((&kept["stored"], &kept["active"]), (&json!(true), &again["version"]));
    assert_eq!(active(&daemon).await["source"], NO_ECHO);
    let rows = trail(&daemon, "policy").await;
    let whats: Vec<&str> = rows.iter().filter_map(|r| r["data"]["what"].as_str()).collect();
    assert_eq!(whats, ["builtin_taken_up", "activated", "stored"]);
}

#[tokio::test]
async fn policy_sees_the_least_role_that_a_run_has_heard_and_not_its_owners() {
    let fake = speaker();
    let question = Turn::call("ask_user", &json!({"question": "Shall I?"}));
    let hello = Turn::call("exec", &json!({"argv": ["/bin/echo", "hello"]}));
    fake.script("asked", [question, hello, Turn::text("done")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    put(
        &daemon,
        &LET_ECHO.replace("effect = \"allow\"", "effect = \"allow\"\nroles = [\"operator\"]"),
    )
    .await;
    let made = daemon.cli(&["principal", "create", "olga", "--role", "operator", "--json"]).await;
    made.json();
    let token = async |args: &[&str]| {
        let made = daemon.cli(&[&["token", "create", "olga", "--json"], args].concat()).await;
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let (full, low) = (token(&[]).await, token(&["--role", "member"]).await);
    let start = async |token: &str, input: &str| {
        let body = json!({ "agent": "careful", "input": input });
        let run = daemon.call(Method::POST, "/api/v1/runs", token, Some(&body)).await.unwrap();
        run.expect(202)["id"].as_str().unwrap().to_owned()
    };
    let settled = ["succeeded", "failed", "awaiting_approval"];
    let by_full = start(&full, "script:hello one").await;
    assert_eq!(daemon.wait_for(&by_full, &settled).await["state"], "succeeded");
    let by_low = start(&low, "script:hello two").await;
    assert_eq!(daemon.wait_for(&by_low, &settled).await["state"], "awaiting_approval");
    // Started with the full token, answered with the low one.
    let heard = start(&full, "script:asked three").await;
    daemon.wait_for(&heard, &["paused"]).await;
    let resume = format!("/api/v1/runs/{heard}/resume");
    let said = json!({ "input": "yes" });
    daemon.call(Method::POST, &resume, &low, Some(&said)).await.unwrap().expect(202);
    assert_eq!(daemon.wait_for(&heard, &settled).await["state"], "awaiting_approval");
}
