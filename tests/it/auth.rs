//! Who gets in: every route without and with a bad token, roles, lockout, what strangers and
//! other members may know.

use std::net::{IpAddr, Ipv4Addr};

use agent_runtime::http::ROUTES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, provider, until},
    support::{
        daemon::{ADMIN, ALICE, Answer, BOB, Daemon, OPERATOR, VIEWER},
        live::Ws,
    },
};

/// An id that nothing has.
const NOBODY: &str = "0190a0a0-0000-7000-8000-000000000000";

/// A client with an address of its own on the loopback net: lockouts count by address.
fn from(host: u8) -> reqwest::Client {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 7, host));
    let builder = reqwest::Client::builder().no_proxy().local_address(address);
    builder.build().expect("a client")
}

fn concrete(path: &str) -> String {
    let prefix = if path.contains("/approvals/") {
        "apr"
    } else if path.contains("/conversations/") {
        "conv"
    } else {
        "run"
    };
    path.replace("{id}", &format!("{prefix}_{NOBODY}"))
}

/// Routes that need a token.
fn guarded() -> impl Iterator<Item = (&'static Method, String)> {
    ROUTES.iter().filter(|(_, path)| path.starts_with("/api/")).map(|(m, p)| (m, concrete(p)))
}

async fn send(
    client: &reqwest::Client,
    daemon: &Daemon,
    method: &Method,
    path: &str,
    authorization: &[&str],
) -> Answer {
    let mut request = client.request(method.clone(), format!("{}{path}", daemon.base()));
    for value in authorization {
        request = request.header("authorization", *value);
    }
    if *method == Method::POST {
        request = request.json(&json!({}));
    }
    Daemon::answer(request).await.expect("an answer")
}

fn assert_unauthenticated(answer: &Answer, what: &str) {
    assert_eq!(answer.status.as_u16(), 401, "{what}: {}", answer.text);
    assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    let problem = answer.json();
    assert_eq!(problem["code"], "auth.required", "{what}");
    assert_eq!(problem["type"], "urn:agent-runtime:problem:auth.required", "{what}");
    assert_eq!(problem["status"], 401, "{what}");
    let id = answer.headers["x-request-id"].to_str().expect("text");
    assert_eq!(problem["request_id"], id, "{what}");
}

#[tokio::test]
async fn no_route_answers_without_a_token_and_probes_do() {
    let daemon = Daemon::start("").await;
    let mut seen = 0;
    for (method, path) in guarded() {
        let what = format!("{method} {path}");
        if path.ends_with("/ws") {
            // A handshake may bring its token in the first frame; without one nothing is told.
            let mut ws = Ws::connect(&daemon, &[], None).await.expect("a WebSocket");
            assert_eq!(ws.frame().await, json!({"type": "auth_required"}));
            continue;
        }
        let answer = send(daemon.http(), &daemon, method, &path, &[]).await;
        assert_unauthenticated(&answer, &what);
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} routes");
    for path in ["/api/v1/nothing", "/nothing", "/api/v1/runs/x/y/z", "/metrics", "/admin/v1/x"] {
        let answer = send(daemon.http(), &daemon, &Method::GET, path, &[]).await;
        assert_unauthenticated(&answer, path);
    }
    for path in ["/health", "/healthz", "/live"] {
        let answer = send(daemon.http(), &daemon, &Method::GET, path, &[]).await;
        assert_eq!(answer.expect(200), json!({"status": "ok"}), "{path}");
    }
    for path in ["/ready", "/readyz"] {
        let ready = send(daemon.http(), &daemon, &Method::GET, path, &[]).await.expect(200);
        assert_eq!(ready["status"], "ready");
        for check in ["store", "llm", "sandbox"] {
            assert_eq!(ready["checks"][check]["ok"], true, "{path}: {ready}");
        }
    }
    let document = send(daemon.http(), &daemon, &Method::GET, "/openapi.json", &[]).await;
    let document = document.expect(200);
    for (method, path) in ROUTES {
        let method = method.as_str().to_ascii_lowercase();
        assert!(document["paths"][path].get(&method).is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn no_route_answers_to_a_bad_token() {
    let daemon = Daemon::start("").await;
    let bad = ["Bearer wrong", "Basic YTpi", "Bearer", "wrong", "Bearer art_x_y"];
    for (n, (method, path)) in guarded().enumerate() {
        let what = format!("{method} {path}");
        let host = u8::try_from(n).expect("few routes") + 1;
        if path.ends_with("/ws") {
            let headers = [("authorization", "Bearer wrong")];
            assert!(Ws::connect(&daemon, &headers, None).await.is_err());
            continue;
        }
        let answer = send(&from(host), &daemon, method, &path, &[bad[n % bad.len()]]).await;
        assert_unauthenticated(&answer, &what);
    }
    let both = [format!("Bearer {ADMIN}"), format!("Bearer {BOB}")];
    let two = both.each_ref().map(String::as_str);
    let answer = send(&from(200), &daemon, &Method::GET, "/api/v1/me", &two).await;
    assert_unauthenticated(&answer, "two headers");
    // A token in the query is no token.
    let path = format!("/api/v1/me?token={ADMIN}&access_token={ADMIN}");
    let answer = send(&from(201), &daemon, &Method::GET, &path, &[]).await;
    assert_unauthenticated(&answer, "query");
}

#[tokio::test]
async fn a_viewer_reads_and_does_nothing_else() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("open", "script:say viewer").await;
    daemon.wait_for(&run, &["succeeded"]).await;
    let id = |kind: &str| format!("{kind}_{NOBODY}");
    let commands = [
        ("/api/v1/runs".to_owned(), json!({"agent": "open", "input": "x"})),
        (format!("/api/v1/runs/{run}/interrupt"), json!({})),
        (format!("/api/v1/runs/{run}/steer"), json!({"input": "x"})),
        (format!("/api/v1/runs/{run}/resume"), json!({})),
        (format!("/api/v1/runs/{run}/cancel"), json!({})),
        (format!("/api/v1/runs/{run}/retry"), json!({})),
        (format!("/api/v1/runs/{run}/fork"), json!({"input": "x"})),
        ("/api/v1/conversations".to_owned(), json!({})),
        (format!("/api/v1/approvals/{}/decision", id("apr")), json!({"decision": "approve"})),
    ];
    for (path, body) in &commands {
        let answer = daemon.call(Method::POST, path, VIEWER, Some(body)).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "auth.forbidden".to_owned()));
    }
    let path = format!("/api/v1/conversations/{}", id("conv"));
    let answer = daemon.call(Method::DELETE, &path, VIEWER, None).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 403);
    // It sees its own only, which is nothing.
    for path in ["/api/v1/runs", "/api/v1/approvals", "/api/v1/conversations", "/api/v1/agents"] {
        let answer = daemon.call(Method::GET, path, VIEWER, None).await.expect("an answer");
        assert_eq!(answer.expect(200)["items"], json!([]), "{path}");
    }
    let me = daemon.call(Method::GET, "/api/v1/me", VIEWER, None).await.expect("an answer");
    assert_eq!(me.expect(200)["role"], "viewer");
    let path = format!("/api/v1/runs/{run}");
    let answer = daemon.call(Method::GET, &path, VIEWER, None).await.expect("an answer");
    assert_eq!(answer.code(), "run.not_found");
    // Refusals are on record.
    let denied = daemon.cli(&["audit", "query", "--kind", "access_denied", "--json"]).await.json();
    assert_eq!(denied.as_array().map(Vec::len), Some(commands.len() + 1), "{denied}");
}

#[tokio::test]
async fn members_may_not_retry_or_decide_and_agents_are_open_to_listed_roles_only() {
    let daemon = Daemon::start("").await;
    let ask = async |token, path: &str, body: Value| {
        let answer = daemon.call(Method::POST, path, token, Some(&body)).await;
        let answer = answer.expect("an answer");
        (answer.status.as_u16(), answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let forbidden = (403, "auth.forbidden".to_owned());
    let retry = format!("/api/v1/runs/run_{NOBODY}/retry");
    assert_eq!(ask(ALICE, &retry, json!({})).await, forbidden);
    assert_eq!(ask(OPERATOR, &retry, json!({})).await, (404, "run.not_found".to_owned()));
    let decision = format!("/api/v1/approvals/apr_{NOBODY}/decision");
    assert_eq!(ask(ALICE, &decision, json!({"decision": "approve"})).await, forbidden);
    let closed = json!({"agent": "closed", "input": "list files"});
    assert_eq!(ask(ALICE, "/api/v1/runs", closed.clone()).await, forbidden);
    assert_eq!(ask(OPERATOR, "/api/v1/runs", closed.clone()).await, forbidden);
    assert_eq!(ask(ADMIN, "/api/v1/runs", closed).await.0, 202);
    let names = async |token| {
        let answer = daemon.call(Method::GET, "/api/v1/agents", token, None).await;
        let items = answer.expect("an answer").expect(200)["items"].clone();
        let items = items.as_array().cloned().unwrap_or_default();
        items.iter().any(|a| a["name"] == "closed")
    };
    assert_eq!((names(ALICE).await, names(ADMIN).await), (false, true));
}

#[tokio::test]
async fn five_failures_lock_an_address_and_a_token_id_and_leave_a_trace() {
    let daemon = Daemon::start("").await;
    let (guesser, other) = (from(1), from(2));
    let admin = format!("Bearer {ADMIN}");
    for n in 0..5 {
        let guess = format!("Bearer guess-{n}");
        let answer = send(&guesser, &daemon, &Method::GET, "/api/v1/me", &[&guess]).await;
        assert_eq!(answer.status.as_u16(), 401, "{n}");
    }
    // Locked, even with a right token: nobody learns whether a guess was right.
    for token in ["Bearer guess", &admin] {
        let answer = send(&guesser, &daemon, &Method::GET, "/api/v1/me", &[token]).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "auth.locked".to_owned()));
        let secs: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&secs), "{secs}");
        assert_eq!(answer.json()["retry_after"], secs);
    }
    let answer = send(&other, &daemon, &Method::GET, "/api/v1/me", &[&admin]).await;
    assert_eq!(answer.status.as_u16(), 200, "another address is not locked");
    let probe = send(&guesser, &daemon, &Method::GET, "/healthz", &[]).await;
    assert_eq!(probe.status.as_u16(), 200);
    // The same token id from changing addresses.
    let token = "Bearer art_abcdef_wrong";
    for host in 10..15 {
        let answer = send(&from(host), &daemon, &Method::GET, "/api/v1/me", &[token]).await;
        assert_eq!(answer.status.as_u16(), 401);
    }
    let answer = send(&from(15), &daemon, &Method::GET, "/api/v1/me", &[token]).await;
    assert_eq!(answer.status.as_u16(), 429);
    let answer = send(&from(15), &daemon, &Method::GET, "/api/v1/me", &[&admin]).await;
    assert_eq!(answer.status.as_u16(), 200);
    // Without a token nobody guesses: a stray health check locks nobody out.
    let stray = from(20);
    for _ in 0..20 {
        let answer = send(&stray, &daemon, &Method::GET, "/api/v1/me", &[]).await;
        assert_eq!(answer.status.as_u16(), 401);
    }
    let answer = send(&stray, &daemon, &Method::GET, "/api/v1/me", &[&admin]).await;
    assert_eq!(answer.status.as_u16(), 200);
    let rows = daemon.cli(&["audit", "query", "--kind", "auth_failed", "--json"]).await.json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let invalid = |r: &&Value| r["data"]["reason"] == "invalid";
    assert_eq!(rows.iter().filter(invalid).count(), 10, "{rows:#?}");
    assert!(rows.iter().any(|r| r["data"]["token_id"] == "abcdef"));
    assert!(rows.iter().any(|r| r["data"]["address"] == "127.0.7.1"));
    let log = daemon.log();
    assert!(log.contains("authentication failed") && log.contains("127.0.7.1"), "{log}");
    for secret in ["guess-", "art_abcdef_wrong", ADMIN] {
        assert!(!log.contains(secret), "a presented token is in the log");
        assert!(!rows.iter().any(|r| r.to_string().contains(secret)));
    }
}

#[tokio::test]
async fn without_a_configured_token_one_is_made_shown_once_and_kept() {
    let mut daemon = Daemon::prepare("");
    let file = daemon.dir().join("test.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    let auth = config.find("[llm]").expect("a section");
    std::fs::write(&file, config.split_at(auth).1).expect("a configuration");
    daemon.run().await;
    let path = daemon.data_dir().join("bootstrap-token");
    let token = std::fs::read_to_string(&path).expect("a token").trim().to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("it").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(token.starts_with("art_") && token.len() >= 43, "{} bytes", token.len());
    let log = daemon.log();
    assert_eq!(log.matches(&token).count(), 1, "shown once");
    assert!(log.contains("generated") && log.contains("WARN"), "{log}");
    let me = daemon.call(Method::GET, "/api/v1/me", &token, None).await.expect("an answer");
    assert_eq!(me.expect(200)["role"], "admin");
    // A restart keeps it and does not show it again.
    daemon.stop().await;
    daemon.run().await;
    let me = daemon.call(Method::GET, "/api/v1/me", &token, None).await.expect("an answer");
    assert_eq!(me.status.as_u16(), 200);
    assert_eq!(daemon.log().matches(&token).count(), 1);
    assert_eq!(std::fs::read_to_string(&path).expect("a token").trim(), token);
}

#[tokio::test]
async fn configured_tokens_are_named_in_the_log_and_never_shown() {
    let daemon = Daemon::start("").await;
    let log = daemon.log();
    assert!(log.contains("\"configured\""), "{log}");
    for token in [ADMIN, OPERATOR, ALICE, BOB, VIEWER] {
        assert!(!log.contains(token));
    }
    assert!(!daemon.data_dir().join("bootstrap-token").exists());
}

#[tokio::test]
async fn what_belongs_to_others_does_not_exist() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let body = json!({"agent": "careful", "input": "script:exec alice's"});
    let run = daemon.call(Method::POST, "/api/v1/runs", ALICE, Some(&body)).await;
    let run = run.expect("an answer").expect(202);
    let (id, conversation) =
        (run["id"].as_str().unwrap(), run["conversation_id"].as_str().unwrap());
    let approval = approval_of(&daemon, id).await;
    let approval = approval["id"].as_str().unwrap();
    let reads = [
        format!("/api/v1/runs/{id}"),
        format!("/api/v1/runs/{id}/events"),
        format!("/api/v1/runs/{id}/bundles"),
        format!("/api/v1/approvals/{approval}"),
        format!("/api/v1/conversations/{conversation}"),
        format!("/api/v1/conversations/{conversation}/messages"),
    ];
    for path in &reads {
        let status = async |token| {
            let answer = daemon.call(Method::GET, path, token, None).await;
            answer.expect("an answer").status.as_u16()
        };
        assert_eq!(status(ALICE).await, 200, "{path}");
        assert_eq!(status(OPERATOR).await, 200, "{path}");
        assert_eq!(status(BOB).await, 404, "{path}");
        assert_eq!(status(VIEWER).await, 404, "{path}");
    }
    let stream = daemon
        .http()
        .get(format!("{}/api/v1/runs/{id}/events", daemon.base()))
        .bearer_auth(BOB)
        .header("accept", "text/event-stream");
    assert_eq!(Daemon::answer(stream).await.expect("an answer").status.as_u16(), 404);
    let writes = [
        (format!("/api/v1/runs/{id}/cancel"), json!({})),
        (format!("/api/v1/runs/{id}/interrupt"), json!({})),
        (format!("/api/v1/runs/{id}/steer"), json!({"input": "x"})),
        (format!("/api/v1/runs/{id}/resume"), json!({})),
        (format!("/api/v1/runs/{id}/fork"), json!({"input": "x"})),
        (
            "/api/v1/runs".to_owned(),
            json!({"agent": "open", "input": "x", "conversation_id": conversation}),
        ),
    ];
    for (path, body) in &writes {
        let answer = daemon.call(Method::POST, path, BOB, Some(body)).await.expect("an answer");
        assert_eq!(answer.status.as_u16(), 404, "{path}: {}", answer.text);
    }
    let path = format!("/api/v1/conversations/{conversation}");
    let answer = daemon.call(Method::DELETE, &path, BOB, None).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 404);
    for path in ["/api/v1/runs", "/api/v1/approvals", "/api/v1/conversations"] {
        let list = daemon.call(Method::GET, path, BOB, None).await.expect("an answer").expect(200);
        assert_eq!(list["items"], json!([]), "{path}");
    }
    let mut ws = Ws::open(&daemon, BOB).await;
    let reply = ws.ask(json!({"type": "subscribe", "run_id": id, "after": 0})).await;
    assert_eq!((&reply["ok"], &reply["problem"]["code"]), (&json!(false), &json!("run.not_found")));
    let reply = ws.ask(json!({"type": "run.cancel", "run_id": id})).await;
    assert_eq!(reply["problem"]["status"], 404);
    let run = daemon.run_of(id).await;
    assert_eq!(run["state"], "awaiting_approval", "nothing was changed");
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_its_live_connections() {
    let daemon = Daemon::start("").await;
    let mut ws = Ws::open(&daemon, BOB).await;
    let file = daemon.dir().join("test.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, config.replace(BOB, &BOB.replace("bob", "rob"))).expect("written");
    daemon.signal(1);
    assert_eq!(ws.closed().await, Some(1008));
    let me = daemon.call(Method::GET, "/api/v1/me", BOB, None).await.expect("an answer");
    assert_eq!(me.status.as_u16(), 401);
    until("the reload in the log", || daemon.log().contains("reloaded").then_some(())).await;
}

#[tokio::test]
async fn failures_are_counted_where_a_scraper_can_read_them() {
    let mut daemon = Daemon::prepare_with("", "[http]\nmetrics_addr = \"127.0.0.1:0\"\n");
    daemon.run().await;
    for _ in 0..2 {
        let answer = daemon.call(Method::GET, "/api/v1/me", "wrong", None).await.unwrap();
        assert_eq!(answer.status.as_u16(), 401);
    }
    let log = daemon.log();
    let line = log.lines().find(|l| l.contains("\"message\":\"metrics\"")).expect("the address");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let url = format!("http://{}/metrics", line["address"].as_str().unwrap());
    let answer = Daemon::answer(daemon.http().get(url)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    let counted = answer.text.lines().find(|l| l.starts_with("agent_runtime_auth_failures_total"));
    assert!(counted.is_some_and(|l| l.ends_with(" 2")), "{}", answer.text);
    let public = daemon.get("/metrics").await;
    assert_eq!(public.status.as_u16(), 404, "the public listener has no metrics");
}
