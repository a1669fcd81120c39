//! Who may act, changed while the daemon runs: principals, tokens, scopes, pairing, links.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::provider,
    support::{
        daemon::{ALICE, Answer, Daemon, OPERATOR, Told},
        fake_llm::Turn,
        live::{Sse, Ws},
    },
};

/// A command of ours, as JSON, after it succeeded.
async fn said(daemon: &Daemon, args: &[&str]) -> Value {
    daemon.cli(&[args, &["--json"]].concat()).await.json()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}`: {value:#}")).to_owned()
}

/// Somebody new with a token; their id and the token's id and text.
async fn somebody(daemon: &Daemon, name: &str, args: &[&str]) -> (String, String, String) {
    let made = said(daemon, &[&["principal", "create", name], args].concat()).await;
    let token = said(daemon, &["token", "create", name]).await;
    (text(&made, "id"), text(&token, "id"), text(&token, "token"))
}

async fn get(daemon: &Daemon, path: &str, token: &str) -> Answer {
    daemon.call(Method::GET, path, token, None).await.unwrap()
}

async fn me(daemon: &Daemon, token: &str) -> Answer {
    get(daemon, "/api/v1/me", token).await
}

/// A refused command: its code, and its words on one line.
#[track_caller]
fn refused(told: &Told, code: i32, word: &str) {
    assert_eq!(told.code, Some(code), "{told:?}");
    assert!(told.err.contains(word), "`{word}` is not in {told:?}");
}

async fn audit(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let rows = said(daemon, &["audit", "query", "--kind", kind]).await;
    rows.as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_token_acts_within_its_role_and_scopes_outlives_a_restart_and_ends_when_revoked() {
    let mut daemon = Daemon::start("").await;
    let (id, _, full) = somebody(&daemon, "ann", &["--role", "operator"]).await;
    let narrow = said(
        &daemon,
        &["token", "create", "ann", "--role", "member", "--agent", "reader", "--label", "laptop"],
    )
    .await;
    let (narrow_id, narrow) = (text(&narrow, "id"), text(&narrow, "token"));
    assert!(narrow.starts_with("art_"), "{narrow}");
    let shown = me(&daemon, &narrow).await.expect(200);
    assert_eq!((&shown["role"], &shown["principal"]["id"]), (&json!("member"), &json!(id)));
    assert_eq!(shown["scopes"], json!({ "agents": ["reader"] }));
    let shown = me(&daemon, &full).await.expect(200);
    assert_eq!((&shown["role"], &shown["scopes"]), (&json!("operator"), &json!({})));
    // The agents in scope alone.
    let agents = get(&daemon, "/api/v1/agents", &narrow).await.expect(200);
    let names: Vec<String> =
        agents["items"].as_array().unwrap().iter().map(|a| text(a, "name")).collect();
    assert_eq!(names, ["reader"]);
    let start = |agent: &str| json!({ "agent": agent, "input": "hello" });
    let answer =
        daemon.call(Method::POST, "/api/v1/runs", &narrow, Some(&start("open"))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "auth.forbidden"));
    assert!(text(&answer.json(), "detail").contains("agent `open`"), "{}", answer.text);
    let run =
        daemon.call(Method::POST, "/api/v1/runs", &narrow, Some(&start("reader"))).await.unwrap();
    run.expect(202);
    // What another agent did does not exist for them, not even their own.
    let hidden =
        daemon.call(Method::POST, "/api/v1/runs", &full, Some(&start("open"))).await.unwrap();
    let hidden = text(&hidden.expect(202), "id");
    assert_eq!(get(&daemon, &format!("/api/v1/runs/{hidden}"), &narrow).await.status, 404);
    let listed = get(&daemon, "/api/v1/runs", &narrow).await.expect(200);
    let agents: Vec<String> =
        listed["items"].as_array().unwrap().iter().map(|r| text(r, "agent")).collect();
    assert_eq!(agents, ["reader"]);
    // Nothing of a token is kept but its hash.
    let tokens = said(&daemon, &["token", "list", "--principal", "ann"]).await;
    let secret = narrow.rsplit('_').next().unwrap();
    assert!(!tokens.to_string().contains(secret));
    assert_eq!(tokens["items"].as_array().unwrap().len(), 2);
    assert!(tokens["items"][0]["last_used_at"].is_string(), "{tokens:#}");
    assert_eq!(daemon.stop().await, Some(0));
    for file in std::fs::read_dir(daemon.data_dir()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "a token's secret is in {}", path.display());
    }
    daemon.run().await;
    me(&daemon, &narrow).await.expect(200);
    let tokens = said(&daemon, &["token", "list"]).await;
    assert!(tokens["items"][0]["last_used_at"].is_string(), "the last use was kept: {tokens:#}");
    said(&daemon, &["token", "revoke", &narrow_id]).await;
    assert_eq!(me(&daemon, &narrow).await.status, 401);
    me(&daemon, &full).await.expect(200);
    said(&daemon, &["token", "revoke", &narrow_id]).await;
    let rows = audit(&daemon, "rbac").await;
    let what: Vec<String> = rows.iter().map(|row| text(&row["data"], "what")).collect();
    let expected = ["principal created", "token created", "token created", "token revoked"];
    assert_eq!(what, expected, "a second revocation changes nothing");
    assert_eq!(rows[3]["data"]["before"]["revoked_at"], json!(null));
    assert!(rows[3]["data"]["after"]["revoked_at"].is_string());
    let wrong = daemon.cli(&["token", "revoke", "tok_01890a5d-ac96-774b-bcce-b302099a8057"]).await;
    refused(&wrong, 1, "token.not_found");
}

#[tokio::test]
async fn revoking_a_token_cuts_its_websocket_and_its_event_stream_and_nobody_elses() {
    let fake = provider();
    fake.script("asks", [Turn::call("ask_user", &json!({ "question": "well?" }))]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let (_, token_id, token) = somebody(&daemon, "ann", &["--role", "operator"]).await;
    let run = daemon.submit("open", "script:asks").await;
    daemon.wait_for(&run, &["paused"]).await;
    let mut ws = Ws::open(&daemon, &token).await;
    let mut other = Ws::open(&daemon, OPERATOR).await;
    let mut sse = Sse::open(&daemon, &token, &run, 0).await;
    assert!(sse.next().await.is_some());
    said(&daemon, &["token", "revoke", &token_id]).await;
    assert_eq!(ws.closed().await, Some(1008));
    while sse.next().await.is_some() {}
    let pong = other.ask(json!({ "type": "ping" })).await;
    assert_eq!(pong["ok"], true, "{pong}");
    assert_eq!(me(&daemon, &token).await.status, 401);
}

#[tokio::test]
async fn a_role_that_falls_cuts_connections_and_one_that_rises_does_not() {
    let daemon = Daemon::start("").await;
    // A token keeps the role that it was made with: it does not rise with its principal.
    let (_, _, token) = somebody(&daemon, "ann", &["--role", "operator"]).await;
    said(&daemon, &["principal", "update", "ann", "--role", "member"]).await;
    let mut ws = Ws::open(&daemon, &token).await;
    said(&daemon, &["principal", "update", "ann", "--role", "admin"]).await;
    assert_eq!(ws.ask(json!({ "type": "ping" })).await["ok"], true);
    // New connections have the new role.
    let mut risen = Ws::open(&daemon, &token).await;
    assert_eq!(me(&daemon, &token).await.expect(200)["role"], "operator");
    said(&daemon, &["principal", "update", "ann", "--role", "member"]).await;
    assert_eq!(risen.closed().await, Some(1008));
    assert_eq!(ws.ask(json!({ "type": "ping" })).await["ok"], true, "it never had more");
    said(&daemon, &["principal", "update", "ann", "--agent", "reader"]).await;
    assert_eq!(ws.closed().await, Some(1008), "scopes shrank");
    let mut narrow = Ws::open(&daemon, &token).await;
    said(&daemon, &["principal", "disable", "ann"]).await;
    assert_eq!(narrow.closed().await, Some(1008));
    assert_eq!(me(&daemon, &token).await.status, 401);
    said(&daemon, &["principal", "enable", "ann"]).await;
    me(&daemon, &token).await.expect(200);
}

#[tokio::test]
async fn a_token_ends_by_itself_on_open_connections_too() {
    let daemon = Daemon::start("").await;
    said(&daemon, &["principal", "create", "ann", "--role", "member"]).await;
    let made = said(&daemon, &["token", "create", "ann", "--expires", "2s"]).await;
    let token = text(&made, "token");
    let mut ws = Ws::open(&daemon, &token).await;
    assert_eq!(ws.closed().await, Some(1008));
    assert_eq!(me(&daemon, &token).await.status, 401);
}

#[tokio::test]
async fn somebody_of_the_configuration_is_narrowed_but_never_raised_and_the_local_door_stays_open()
{
    let mut daemon = Daemon::start("").await;
    let raised = daemon.cli(&["principal", "update", "alice", "--role", "operator"]).await;
    refused(&raised, 2, "stands in the configuration as member");
    said(&daemon, &["principal", "update", "operator", "--role", "viewer"]).await;
    assert_eq!(me(&daemon, OPERATOR).await.expect(200)["role"], "viewer");
    said(&daemon, &["principal", "disable", "alice"]).await;
    assert_eq!(me(&daemon, ALICE).await.status, 401);
    for args in [
        &["principal", "disable", "local operator"][..],
        &["principal", "update", "local operator", "--role", "viewer"],
    ] {
        let told = daemon.cli(args).await;
        refused(&told, 1, "nobody changes their own rights");
    }
    let token = daemon.cli(&["token", "create", "local operator"]).await;
    refused(&token, 2, "the local operator has no tokens");
    // What was changed outlives a restart, and SIGHUP changes nothing about it.
    assert_eq!(daemon.stop().await, Some(0));
    daemon.run().await;
    daemon.signal(1);
    while !daemon.log().contains("reloaded the log level") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(me(&daemon, ALICE).await.status, 401);
    assert_eq!(me(&daemon, OPERATOR).await.expect(200)["role"], "viewer");
    said(&daemon, &["principal", "enable", "alice"]).await;
    me(&daemon, ALICE).await.expect(200);
    let list = daemon.cli(&["principal", "list"]).await;
    for word in ["local operator", "overlord", "config", "viewer", "LAST SEEN"] {
        assert!(list.out.contains(word), "{word}: {}", list.out);
    }
}

#[tokio::test]
async fn who_left_the_configuration_is_cut_at_sighup() {
    let mut daemon = Daemon::prepare("");
    let file = daemon.dir().join("test.toml");
    let original = std::fs::read_to_string(&file).unwrap();
    daemon.run().await;
    // Also a token that an administrator made for them.
    let made = said(&daemon, &["token", "create", "alice"]).await;
    let token = text(&made, "token");
    me(&daemon, &token).await.expect(200);
    let mut ws = Ws::open(&daemon, &token).await;
    let alice = format!("name = \"alice\"\nrole = \"member\"\ntoken = {ALICE:?}\n");
    assert!(original.contains(&alice));
    let without = original.replace(&format!("[[auth.tokens]]\n{alice}"), "");
    std::fs::write(&file, without).unwrap();
    daemon.signal(1);
    assert_eq!(ws.closed().await, Some(1008));
    assert_eq!(me(&daemon, &token).await.status, 401);
    assert_eq!(me(&daemon, ALICE).await.status, 401);
}

#[tokio::test]
async fn a_tool_out_of_scope_is_refused_in_the_run_whoever_speaks_to_it() {
    let fake = provider();
    let list = || Turn::call("list_files", &json!({}));
    fake.script("looks", [list(), Turn::text("done")]);
    fake.script(
        "waits",
        [Turn::call("ask_user", &json!({ "question": "well?" })), list(), Turn::text("done")],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    somebody(&daemon, "ann", &["--role", "operator"]).await;
    let made = said(&daemon, &["token", "create", "ann", "--tool", "read_file"]).await;
    let narrow = text(&made, "token");
    let denied = async |run: &str| -> Vec<String> {
        let events = daemon.events(run).await;
        let of_kind = events.iter().filter(|e| e["type"] == "tool.denied");
        of_kind.map(|e| text(&e["data"], "rule")).collect()
    };
    let body = json!({ "agent": "open", "input": "script:looks" });
    let run = daemon.call(Method::POST, "/api/v1/runs", &narrow, Some(&body)).await.unwrap();
    let run = text(&run.expect(202), "id");
    daemon.wait_for(&run, &["succeeded"]).await;
    assert_eq!(denied(&run).await, ["scope.tool"], "by the token that started it");
    // Asked why, the daemon says that it was refused before policy was asked, and what that says.
    let events = daemon.events(&run).await;
    let call = events.iter().find(|e| e["type"] == "tool.denied").unwrap();
    let call = text(&call["data"], "call_id");
    let why = daemon.cli(&["policy", "explain", &call, "--json"]).await.json();
    let decision = &why["call"]["decisions"][0];
    assert_eq!(
        (&decision["verdict"], &decision["rule"], &decision["layer"]),
        (&json!("deny"), &json!("scope.tool"), &json!("before_policy")),
        "{why:#}"
    );
    let replayed = daemon.cli(&["policy", "replay", "--days", "1", "--json"]).await;
    assert!(!replayed.out.contains(&call), "another policy changes nothing about it: {replayed:?}");
    // A narrow token cannot have somebody else's run do what it may not.
    let other = daemon.submit("open", "script:waits").await;
    daemon.wait_for(&other, &["paused"]).await;
    let answer = json!({ "input": "list the files" });
    let path = format!("/api/v1/runs/{other}/resume");
    daemon.call(Method::POST, &path, &narrow, Some(&answer)).await.unwrap().expect(202);
    daemon.wait_for(&other, &["succeeded"]).await;
    assert_eq!(denied(&other).await, ["scope.tool"], "by the token that answered it");
    let free = daemon.submit("open", "script:looks free").await;
    daemon.wait_for(&free, &["succeeded"]).await;
    assert_eq!(denied(&free).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_work_of_somebody_disabled_ends_before_it_asks_a_model_again() {
    let fake = provider();
    fake.script(
        "asks",
        [Turn::call("ask_user", &json!({ "question": "well?" })), Turn::text("done")],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let (id, _, token) = somebody(&daemon, "ann", &["--role", "member"]).await;
    let body = json!({ "agent": "open", "input": "script:asks" });
    let run = daemon.call(Method::POST, "/api/v1/runs", &token, Some(&body)).await.unwrap();
    let run = text(&run.expect(202), "id");
    daemon.wait_for(&run, &["paused"]).await;
    said(&daemon, &["principal", "disable", &id]).await;
    let answer = json!({ "input": "go on" });
    daemon.post(&format!("/api/v1/runs/{run}/resume"), &answer).await.expect(202);
    let ended = daemon.wait_for(&run, &["failed", "succeeded"]).await;
    assert_eq!(ended["error"]["code"], "run.requester_disabled", "{ended:#}");
    assert_eq!(fake.seen_of("asks").len(), 1, "the model was not asked again");
}

async fn code(daemon: &Daemon, account: &str) -> (String, String) {
    let args = ["pair", "request", "--platform", "telegram", "--account", account, "--name", "Ann"];
    let made = said(daemon, &args).await;
    (text(&made, "id"), text(&made, "code"))
}

async fn resolve(daemon: &Daemon, account: &str) -> Told {
    let args = ["link", "resolve", "--platform", "telegram", "--account", account, "--json"];
    daemon.cli(&args).await
}

#[tokio::test]
async fn an_account_is_linked_by_its_code_once_and_with_an_explicit_role() {
    let mut daemon = Daemon::start("").await;
    refused(&resolve(&daemon, "1").await, 1, "link.not_found");
    let (_, old) = code(&daemon, "1").await;
    let (id, new) = code(&daemon, "1").await;
    assert_eq!(new.len(), 19, "sixteen characters in four groups: {new}");
    let approve = async |code: &str, args: &[&str]| {
        daemon.cli(&[&["pair", "approve", code], args].concat()).await
    };
    refused(&approve(&new, &[]).await, 2, "--role");
    refused(&approve(&old, &["--role", "member"]).await, 1, "pairing.not_found");
    // As somebody types it.
    let typed = new.to_lowercase().replace('-', " ");
    let told = approve(&typed, &["--role", "member", "--json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let link = told.json()["link"].clone();
    refused(&approve(&new, &["--role", "member"]).await, 1, "pairing.not_found");
    let who = resolve(&daemon, "1").await.json();
    assert_eq!((&who["name"], &who["role"]), (&json!("Ann"), &json!("member")));
    assert_eq!(who["id"], link["principal"]);
    let again = ["pair", "request", "--platform", "telegram", "--account", "1"];
    refused(&daemon.cli(&again).await, 1, "link.exists");
    // To somebody who is there, with no more than they have.
    let (_, second) = code(&daemon, "2").await;
    let wrong = approve(&second, &["--role", "operator", "--principal", "alice"]).await;
    refused(&wrong, 2, "`alice` is member");
    approve(&second, &["--role", "viewer", "--principal", "alice"]).await;
    let who = resolve(&daemon, "2").await.json();
    assert_eq!((&who["name"], &who["role"]), (&json!("alice"), &json!("viewer")));
    // Denied, and then worth nothing.
    let (third_id, third) = code(&daemon, "3").await;
    said(&daemon, &["pair", "deny", &third_id, "--reason", "nobody we know"]).await;
    refused(&approve(&third, &["--role", "member"]).await, 1, "pairing.not_found");
    let states = said(&daemon, &["pair", "list"]).await;
    let states: Vec<String> =
        states["items"].as_array().unwrap().iter().map(|p| text(p, "state")).collect();
    assert_eq!(states, ["denied", "approved", "approved", "voided"]);
    assert!(!said(&daemon, &["pair", "list"]).await.to_string().contains(&new));
    // It outlives a restart; a revocation counts at once.
    assert_eq!(daemon.stop().await, Some(0));
    daemon.run().await;
    assert_eq!(resolve(&daemon, "1").await.json()["name"], "Ann");
    said(&daemon, &["link", "revoke", &text(&link, "id")]).await;
    refused(&resolve(&daemon, "1").await, 1, "link.not_found");
    said(&daemon, &["principal", "disable", "alice"]).await;
    refused(&resolve(&daemon, "2").await, 1, "link.not_found");
    let rows = audit(&daemon, "pairing").await;
    let what: Vec<String> = rows.iter().map(|row| text(&row["data"], "what")).collect();
    let expected = [
        "requested",
        "requested again",
        "approved",
        "requested",
        "approved",
        "requested",
        "denied",
    ];
    assert_eq!(what, expected);
    assert_eq!(rows[2]["data"]["after"]["id"], json!(id));
    assert_eq!(audit(&daemon, "pairing_failed").await.len(), 3, "each wrong code left a row");
}

#[tokio::test]
async fn five_wrong_codes_lock_the_approver_even_for_the_right_one() {
    let mut daemon = Daemon::start("").await;
    let (id, right) = code(&daemon, "1").await;
    let approve =
        async |code: &str| daemon.cli(&["pair", "approve", code, "--role", "member"]).await;
    for wrong in
        ["AAAA-AAAA-AAAA-AAAA", "nonsense", "AAAA-AAAA-AAAA-AAAB", "", "AAAA-AAAA-AAAA-AAAC"]
    {
        refused(&approve(wrong).await, 1, "pairing.not_found");
    }
    refused(&approve(&right).await, 1, "auth.locked");
    let rows = audit(&daemon, "pairing_failed").await;
    let reasons: Vec<String> = rows.iter().map(|row| text(&row["data"], "reason")).collect();
    assert_eq!(reasons, ["wrong", "wrong", "wrong", "wrong", "wrong", "locked"]);
    assert!(!rows.iter().any(|row| row.to_string().contains("AAAA")), "no code is recorded");
    said(&daemon, &["pair", "deny", &id]).await;
    assert_eq!(daemon.stop().await, Some(0));
}

#[tokio::test]
async fn what_is_made_is_safe_to_repeat_and_shows_its_secret_once() {
    let daemon = Daemon::start("").await;
    let socket = daemon.data_dir().join("admin.sock");
    let door = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let post = async |path: &str, key: &str, body: &Value| {
        let url = format!("http://localhost/admin/v1/{path}");
        let request = door.post(url).header("idempotency-key", key).json(body);
        Daemon::answer(request).await.unwrap()
    };
    let ann = json!({ "name": "ann", "role": "member" });
    let first = post("principals", "k1", &ann).await.expect(201);
    let again = post("principals", "k1", &ann).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(201)["id"], first["id"]);
    assert_eq!(post("principals", "k2", &ann).await.code(), "principal.exists");
    let token = json!({ "principal": "ann" });
    let first = post("tokens", "k3", &token).await.expect(201);
    assert!(first["token"].is_string());
    let again = post("tokens", "k3", &token).await.expect(201);
    assert_eq!((&again["id"], &again["token"]), (&first["id"], &json!(null)));
    let account = json!({ "platform": "telegram", "account": "1" });
    let first = post("pairings", "k4", &account).await.expect(201);
    let again = post("pairings", "k4", &account).await.expect(201);
    assert_eq!((&again["id"], &again["code"]), (&first["id"], &json!(null)));
    // By its id, as an operator's own tool does, with the code and without.
    let path = format!("pairings/{}/approve", text(&first, "id"));
    let wrong = json!({ "role": "member", "code": "AAAA-AAAA-AAAA-AAAA" });
    assert_eq!(post(&path, "k5", &wrong).await.code(), "pairing.not_found");
    let right = json!({ "role": "member", "code": first["code"], "name": "bob of telegram" });
    assert_eq!(post(&path, "k6", &right).await.expect(200)["pairing"]["state"], "approved");
    assert_eq!(post(&path, "k7", &right).await.code(), "pairing.not_found");
    // What is wrong is named.
    for (path, body, pointer) in [
        ("principals", json!({ "name": " x", "role": "member" }), "/name"),
        ("principals", json!({ "name": "x", "role": "chief" }), "/role"),
        (
            "principals",
            json!({ "name": "x", "role": "member", "scopes": { "agent": [] } }),
            "/scopes/agent",
        ),
        (
            "principals",
            json!({ "name": "x", "role": "member", "scopes": { "tools": ["rm"] } }),
            "/scopes/tools/0",
        ),
        ("tokens", json!({ "principal": "nobody" }), "/principal"),
        ("tokens", json!({ "principal": "ann", "role": "operator" }), "/role"),
        ("tokens", json!({ "principal": "ann", "ttl_secs": 0 }), "/ttl_secs"),
        ("tokens", json!({ "principal": "ann", "label": "a\nb" }), "/label"),
        ("pairings", json!({ "platform": "Tele gram", "account": "1" }), "/platform"),
        ("pairings", json!({ "platform": "telegram", "account": "" }), "/account"),
        ("pairings/approve", json!({ "code": "x" }), "/role"),
    ] {
        let answer = post(path, "k8", &body).await;
        assert_eq!(answer.status.as_u16(), 422, "{path} {body}: {}", answer.text);
        let found = answer.json()["errors"][0]["pointer"].clone();
        assert_eq!(found, json!(pointer), "{path} {body}: {}", answer.text);
    }
}

#[tokio::test]
async fn rights_that_nobody_uses_are_reported_with_what_ends_them() {
    let daemon = Daemon::start("").await;
    let (_, _, token) = somebody(&daemon, "ann", &["--role", "member"]).await;
    said(&daemon, &["principal", "create", "idle", "--role", "member"]).await;
    me(&daemon, &token).await.expect(200);
    let names = async |days: &str| -> Vec<String> {
        let report = said(&daemon, &["principal", "stale", "--days", days]).await;
        report["items"].as_array().unwrap().iter().map(|item| text(item, "name")).collect()
    };
    // Who was made or seen just now is not stale; who stands in the configuration and was never
    // here is, since nobody knows for how long.
    let stale = names("90").await;
    assert!(stale.contains(&"bob".to_owned()), "{stale:?}");
    assert!(!stale.iter().any(|name| name == "ann" || name == "idle"), "{stale:?}");
    // Of today: everybody but who was here within the day's zero hours.
    let stale = names("0").await;
    assert!(stale.contains(&"idle".to_owned()) && stale.contains(&"ann".to_owned()), "{stale:?}");
    let told = daemon.cli(&["principal", "stale"]).await;
    assert!(told.out.contains("agent-runtime principal disable"), "{}", told.out);
}
