//! Requests and answers.

use std::time::Duration;

use agent_runtime::http::ROUTES;
use reqwest::{Method, RequestBuilder, header};
use serde_json::{Value, json};

use crate::support::daemon::{ADMIN, ALICE, Answer, BOB, Daemon, OPERATOR, VIEWER};

const PROBES: [&str; 5] = ["/health", "/healthz", "/live", "/ready", "/readyz"];

async fn send(request: RequestBuilder) -> Answer {
    Daemon::answer(request).await.expect("an answer")
}

fn url(daemon: &Daemon, path: &str) -> String {
    format!("{}{}", daemon.base(), path.replace("{id}", "run_01890a5d-ac96-774b-bcce-b302099a8057"))
}

#[tokio::test]
async fn every_route_but_the_probes_needs_a_valid_token() {
    let daemon = Daemon::start("").await;
    for (method, path) in ROUTES {
        // The handshake may come without a token: its first frame is asked for one.
        let is_open = PROBES.contains(path);
        let without = send(daemon.http().request(method.clone(), url(&daemon, path))).await;
        let status = without.status.as_u16();
        if is_open {
            assert_eq!(status, 200, "{path}");
            continue;
        }
        if *path == "/api/v1/ws" {
            assert_eq!((status, without.code().as_str()), (426, "request.upgrade_required"));
            continue;
        }
        assert_eq!((status, without.code().as_str()), (401, "auth.required"), "{method} {path}");
        assert_eq!(without.headers[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(without.headers[header::CONTENT_TYPE], "application/problem+json");
        let basic =
            daemon.http().request(method.clone(), url(&daemon, path)).basic_auth("a", Some(ADMIN));
        assert_eq!(send(basic).await.status, 401, "{method} {path}");
        let query = format!("{}?token={ADMIN}&access_token={ADMIN}", url(&daemon, path));
        assert_eq!(send(daemon.http().request(method.clone(), query)).await.status, 401);
    }
    // Strangers cannot tell what exists.
    for path in ["/", "/nope", "/api/v1/nope", "/admin/v1/runs", "/metrics", "/api/v1/runs/"] {
        let stranger = send(daemon.http().get(url(&daemon, path))).await;
        assert_eq!((stranger.status.as_u16(), stranger.code().as_str()), (401, "auth.required"));
        let known = daemon.get(path).await;
        assert_eq!(
            (known.status.as_u16(), known.code().as_str()),
            (404, "route.not_found"),
            "{path}"
        );
    }
    let wrong = daemon.call(Method::DELETE, "/api/v1/runs", ADMIN, None).await.expect("an answer");
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (405, "route.method_not_allowed"));
    let allowed = wrong.headers[header::ALLOW].to_str().expect("text");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn five_wrong_tokens_lock_the_address_and_leave_the_probes_open() {
    let daemon = Daemon::start("").await;
    for n in 0..5 {
        let wrong = daemon.call(Method::GET, "/api/v1/me", "art_abc_wrong", None).await;
        assert_eq!(wrong.expect("an answer").status, 401, "try {n}");
    }
    for token in ["art_abc_wrong", ADMIN] {
        let locked = daemon.call(Method::GET, "/api/v1/me", token, None).await.expect("an answer");
        assert_eq!((locked.status.as_u16(), locked.code().as_str()), (429, "auth.locked"));
        let wait: u64 = locked.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(locked.json()["retry_after"], wait);
    }
    assert_eq!(send(daemon.http().get(url(&daemon, "/healthz"))).await.status, 200);
    assert!(!daemon.log().contains("art_abc_wrong"), "the log shows a token");
    assert!(daemon.log().contains("authentication failed"));
    let query = ["audit", "query", "--kind", "auth_failed", "--json"];
    let mut rows = Vec::new();
    for _ in 0..100 {
        let out = daemon.command(&query).output().expect("it runs").stdout;
        let text = String::from_utf8(out).expect("UTF-8");
        rows = serde_json::from_str::<Vec<Value>>(&text).expect("a list");
        if rows.len() == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows.len(), 5, "one row for each failure, none while locked");
    assert_eq!(rows[0]["data"]["token_id"], "abc");
    assert!(!rows.iter().any(|row| row.to_string().contains("art_abc_wrong")));
}

#[tokio::test]
async fn a_bad_request_gets_one_clear_problem() {
    let daemon = Daemon::start("").await;
    let raw = |body: &str, kind: &str| {
        let request = daemon.http().post(url(&daemon, "/api/v1/runs")).bearer_auth(ADMIN);
        request.header(header::CONTENT_TYPE, kind).body(body.to_owned())
    };
    let json_kind = "application/json";
    for (body, kind, status, code, pointer) in [
        ("{", json_kind, 400, "request.malformed", None),
        ("not json", json_kind, 400, "request.malformed", None),
        ("{\"input\":\"x\"} y", json_kind, 400, "request.malformed", None),
        ("{}", "text/plain", 415, "request.media_type", None),
        ("{}", json_kind, 422, "request.invalid", Some("/input")),
        ("{\"input\":\"x\",\"colour\":1}", json_kind, 422, "request.invalid", Some("/colour")),
        (
            "{\"input\":\"x\",\"limits\":{\"timeout_secs\":\"1\"}}",
            json_kind,
            422,
            "request.invalid",
            Some("/limits/timeout_secs"),
        ),
        ("{\"input\":7}", json_kind, 422, "request.invalid", Some("/input")),
        ("{\"input\":\"x\",\"agent\":\"nobody\"}", json_kind, 422, "agent.unknown", Some("/agent")),
        ("{\"input\":\"  \",\"agent\":\"open\"}", json_kind, 422, "run.invalid", Some("/input")),
    ] {
        let answer = send(raw(body, kind)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{body}");
        let problem = answer.json();
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer, "{body}");
        assert_eq!(problem["type"], format!("urn:agent-runtime:problem:{code}"));
        assert_eq!(problem["request_id"], answer.headers["x-request-id"].to_str().unwrap());
    }
    let huge = format!("{{\"input\":\"{}\"}}", "x".repeat(2 << 20));
    let answer = Daemon::answer(raw(&huge, json_kind)).await;
    if let Ok(answer) = answer {
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "request.too_large"));
    }
    for query in ["limit=x", "colour=1", "state=happy"] {
        let answer = daemon.get(&format!("/api/v1/runs?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "request.invalid"));
    }
    let late = daemon.post("/api/v1/runs?wait=61", &json!({"agent": "open", "input": "x"})).await;
    assert_eq!(late.status, 422);
    assert_eq!(daemon.get("/api/v1/runs/conv_x").await.status, 404);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_retry_safe_and_belongs_to_one_principal() {
    let daemon = Daemon::start("").await;
    let create = |token: &str, key: &str, input: &str| {
        let request = daemon.http().post(url(&daemon, "/api/v1/runs")).bearer_auth(token);
        request.header("idempotency-key", key).json(&json!({"agent": "open", "input": input}))
    };
    let first = send(create(ALICE, "k1", "hello")).await;
    let location = first.headers[header::LOCATION].to_str().unwrap().to_owned();
    let run = first.expect(202);
    assert_eq!(location, format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
    let again = send(create(ALICE, "k1", "hello")).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(202), run);
    let other = send(create(ALICE, "k1", "other")).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (422, "idempotency.mismatch"));
    let stranger = send(create(BOB, "k1", "hello")).await.expect(202);
    assert_ne!(stranger["id"], run["id"]);
    assert_eq!(send(create(ALICE, "a b", "hello")).await.status, 400);
    assert_eq!(send(create(ALICE, &"k".repeat(201), "hello")).await.status, 400);
}

#[tokio::test]
async fn what_is_not_yours_does_not_exist_for_you() {
    let daemon = Daemon::start("").await;
    let body = json!({"agent": "open", "input": "hello"});
    let run = daemon.call(Method::POST, "/api/v1/runs?wait=20", ALICE, Some(&body)).await;
    let run = run.expect("an answer").expect(200);
    let (id, thread) = (run["id"].as_str().unwrap(), run["conversation_id"].as_str().unwrap());
    let input = json!({"input": "x"});
    let empty = json!({});
    let calls: [(Method, String, Option<&Value>); 9] = [
        (Method::GET, format!("/api/v1/runs/{id}"), None),
        (Method::GET, format!("/api/v1/runs/{id}/events"), None),
        (Method::GET, format!("/api/v1/runs/{id}/bundles"), None),
        (Method::POST, format!("/api/v1/runs/{id}/steer"), Some(&input)),
        (Method::POST, format!("/api/v1/runs/{id}/cancel"), Some(&empty)),
        (Method::POST, format!("/api/v1/runs/{id}/fork"), Some(&input)),
        (Method::GET, format!("/api/v1/conversations/{thread}"), None),
        (Method::GET, format!("/api/v1/conversations/{thread}/messages"), None),
        (Method::DELETE, format!("/api/v1/conversations/{thread}"), None),
    ];
    for (method, path, body) in calls {
        let answer = daemon.call(method.clone(), &path, BOB, body).await.expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    let listed = daemon.call(Method::GET, "/api/v1/runs", BOB, None).await.expect("an answer");
    assert_eq!(listed.expect(200)["items"], json!([]));
    let seen = daemon.call(Method::GET, &format!("/api/v1/runs/{id}"), OPERATOR, None).await;
    assert_eq!(seen.expect("an answer").status, 200);

    for (token, agent, status) in
        [(VIEWER, "open", 403), (ALICE, "closed", 403), (ADMIN, "closed", 202)]
    {
        let body = json!({"agent": agent, "input": "hello"});
        let answer = daemon.call(Method::POST, "/api/v1/runs", token, Some(&body)).await;
        assert_eq!(answer.expect("an answer").status, status, "{agent}");
    }
    let me = daemon.call(Method::GET, "/api/v1/me", VIEWER, None).await.expect("an answer");
    assert_eq!(me.expect(200)["role"], "viewer");
    let agents = daemon.call(Method::GET, "/api/v1/agents", VIEWER, None).await.expect("an answer");
    assert_eq!(agents.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_run_has_a_tag_and_a_list_has_pages() {
    let daemon = Daemon::start("").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let body = json!({"agent": "open", "input": "hello", "metadata": {"k": "v"}});
        let run = daemon.post("/api/v1/runs?wait=20", &body).await.expect(200);
        assert_eq!((&run["state"], &run["metadata"]["k"]), (&json!("succeeded"), &json!("v")));
        ids.push(run["id"].as_str().unwrap().to_owned());
    }
    let path = format!("/api/v1/runs/{}", ids[0]);
    let answer = daemon.get(&path).await;
    let tag = answer.headers[header::ETAG].clone();
    let run = answer.expect(200);
    assert_eq!(tag.to_str().unwrap(), format!("\"{}.{}\"", run["epoch"], run["seq"]));
    for (sent, status) in [(tag.to_str().unwrap(), 304), ("\"0.0\"", 200)] {
        let request = daemon.http().get(url(&daemon, &path)).bearer_auth(ADMIN);
        assert_eq!(send(request.header(header::IF_NONE_MATCH, sent)).await.status, status);
    }
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("/api/v1/runs?limit=2{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|r| r["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.reverse();
    assert_eq!(seen, ids, "newest first, each once");
    let thread = run["conversation_id"].as_str().unwrap();
    let messages = daemon.get(&format!("/api/v1/conversations/{thread}/messages?limit=1")).await;
    let messages = messages.expect(200);
    assert_eq!(
        (messages["items"][0]["role"].as_str(), messages["next_cursor"].as_str()),
        (Some("user"), Some("1"))
    );
    let path = format!("/api/v1/conversations/{thread}");
    let deleted = daemon.call(Method::DELETE, &path, ADMIN, None);
    assert_eq!(deleted.await.expect("an answer").status, 204);
    assert_eq!(daemon.get(&format!("/api/v1/conversations/{thread}")).await.status, 404);
}

#[tokio::test]
async fn host_origin_and_headers_protect_against_other_pages() {
    let daemon = Daemon::prepare_with("", "");
    let mut daemon = daemon;
    daemon.run().await;
    let me = || daemon.http().get(url(&daemon, "/api/v1/me")).bearer_auth(ADMIN);
    let evil = send(me().header(header::HOST, "evil.example")).await;
    assert_eq!((evil.status.as_u16(), evil.code().as_str()), (403, "host.refused"));
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let answer = send(me().header(header::ORIGIN, origin)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "origin.refused"));
        assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
    let own = send(me().header(header::ORIGIN, daemon.base())).await;
    assert_eq!(own.status, 200);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(own.headers[name], value);
    }
    let echoed = send(me().header("x-request-id", "trace-1.a:b_c")).await;
    assert_eq!(echoed.headers["x-request-id"], "trace-1.a:b_c");
    for bad in ["a b", "", &"x".repeat(200)] {
        let answer = send(me().header("x-request-id", bad)).await;
        assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{bad}");
    }
}

#[tokio::test]
async fn the_description_and_the_docs_page_need_no_token_and_no_network() {
    let daemon = Daemon::start("").await;
    let openapi = send(daemon.http().get(url(&daemon, "/openapi.json"))).await.expect(200);
    assert_eq!(openapi["openapi"].as_str().map(|v| v.starts_with("3.1")), Some(true));
    let page = send(daemon.http().get(url(&daemon, "/docs/"))).await;
    assert_eq!(page.status, 200);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        let answer = send(daemon.http().get(url(&daemon, &format!("/docs/{file}")))).await;
        assert_eq!(answer.status, 200, "{file}");
    }
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
    let info = daemon.get("/api/v1/info").await.expect(200);
    assert_eq!((&info["name"], &info["store"]), (&json!("agent-runtime"), &json!("sqlite")));
    let tools = daemon.get("/api/v1/tools").await.expect(200);
    assert!(tools["items"].as_array().unwrap().iter().any(|t| t["name"] == "exec"));
}

#[tokio::test]
async fn a_stopping_daemon_finishes_requests_in_progress() {
    let mut daemon = Daemon::start("").await;
    let body = json!({"agent": "careful", "input": "run echo hi"});
    let run = daemon.post("/api/v1/runs?wait=20", &body).await.expect(200);
    assert_eq!(run["state"], "awaiting_approval");
    let blocked = daemon.http().post(url(&daemon, "/api/v1/runs?wait=30")).bearer_auth(ADMIN);
    let thread = run["conversation_id"].clone();
    let waiting = json!({"agent": "careful", "input": "hello", "conversation_id": thread});
    let pending = Daemon::answer(blocked.json(&waiting));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.signal(15);
    };
    let (answer, ()) = tokio::join!(pending, stop);
    assert_eq!(answer.expect("the waiting request is answered").expect(202)["state"], "queued");
    assert_eq!(daemon.exit_code().await, Some(0));
}
