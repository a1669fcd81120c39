//! Requests that are wrong: each gets one clear answer, and nothing happens.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    scenes::{SOON, provider},
    support::daemon::{ADMIN, Answer, Daemon},
};

async fn post(daemon: &Daemon, path: &str, kind: Option<&str>, body: Vec<u8>) -> Answer {
    let mut request =
        daemon.http().post(format!("{}{path}", daemon.base())).bearer_auth(ADMIN).body(body);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    Daemon::answer(request).await.expect("an answer")
}

/// Checks what every problem promises, and returns its code and first pointer.
fn problem(answer: &Answer) -> (u16, String, String) {
    let status = answer.status.as_u16();
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.text);
    let body = answer.json();
    let code = body["code"].as_str().expect("a code").to_owned();
    assert_eq!(body["type"], format!("urn:agent-runtime:problem:{code}"));
    assert_eq!(body["status"], status);
    for text in ["title", "detail", "request_id"] {
        assert!(!body[text].as_str().unwrap_or_default().is_empty(), "{text}: {body}");
    }
    assert_eq!(answer.headers["x-request-id"].to_str().ok(), body["request_id"].as_str());
    let pointer = body["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned();
    (status, code, pointer)
}

#[tokio::test]
async fn a_body_that_is_no_json_is_400_and_a_wrong_one_422_with_a_pointer() {
    let daemon = Daemon::start("").await;
    let json = Some("application/json");
    for text in
        ["{", "", "nonsense", "{\"input\":\"x\"} trailing", "{\"input\":\"\u{1}\"}", "\u{feff}{}"]
    {
        let answer = post(&daemon, "/api/v1/runs", json, text.as_bytes().to_vec()).await;
        let found = problem(&answer);
        // No body counts as `{}`, which lacks the input.
        let wanted =
            if text.is_empty() { (422, "request.invalid") } else { (400, "request.malformed") };
        assert_eq!((found.0, found.1.as_str()), wanted, "{text:?}");
    }
    let answer = post(&daemon, "/api/v1/runs", json, vec![b'"', 0xff, 0xfe, b'"']).await;
    assert!(matches!(problem(&answer).0, 400 | 422), "{}", answer.text);
    let deep = format!("{{\"input\":\"x\",\"metadata\":{}", "[".repeat(100_000));
    let answer = post(&daemon, "/api/v1/runs", json, deep.into_bytes()).await;
    assert!(matches!(problem(&answer).0, 400 | 422), "{}", answer.text);
    for (body, pointer) in [
        (json!({"input": "x", "nonsense": 1}), "/nonsense"),
        (json!({"input": "x", "limits": {"odd": 1}}), "/limits/odd"),
        (json!({"input": 7}), "/input"),
        (json!({"input": null}), "/input"),
        (json!({"input": ""}), "/input"),
        (json!({"input": []}), "/input"),
        (json!({"agent": "open"}), "/input"),
        (json!({"agent": 1, "input": "x"}), "/agent"),
        (json!({"input": "x", "on_busy": "explode"}), "/on_busy"),
        (json!({"input": "x", "limits": {"timeout_secs": -1}}), "/limits/timeout_secs"),
        (json!({"input": "x", "limits": {"timeout_secs": "1"}}), "/limits/timeout_secs"),
        (json!({"input": "x", "limits": {"max_cost_usd": "lots"}}), "/limits/max_cost_usd"),
        (json!({"input": "x", "limits": {"max_steps": 0}}), "/limits"),
        (json!({"input": "x", "metadata": {"k": 1}}), "/metadata/k"),
        (json!({"input": "x", "metadata": {"k": "v".repeat(513)}}), "/metadata"),
        (json!({"input": "x", "conversation_id": "conv_1"}), "/conversation_id"),
        (
            json!({"input": "x", "conversation_id": "run_0190a0a0-0000-7000-8000-000000000000"}),
            "/conversation_id",
        ),
        (json!({"input": "x".repeat(600_000)}), "/input"),
    ] {
        let answer = post(&daemon, "/api/v1/runs", json, body.to_string().into_bytes()).await;
        let (status, _, found) = problem(&answer);
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!((status, found.as_str()), (422, pointer), "{shown}: {}", answer.text);
    }
    let none = daemon.get("/api/v1/runs").await.expect(200);
    assert_eq!(none["items"], json!([]), "nothing was created");
}

#[tokio::test]
async fn size_kind_method_and_path_are_checked() {
    let daemon = Daemon::start("").await;
    let json = Some("application/json");
    let check = |answer: &Answer, wanted: (u16, &str)| {
        let found = problem(answer);
        assert_eq!((found.0, found.1.as_str()), wanted, "{}", answer.text);
    };
    let huge = format!("{{\"input\":\"{}\"}}", "x".repeat(1 << 20)).into_bytes();
    check(&post(&daemon, "/api/v1/runs", json, huge.clone()).await, (413, "request.too_large"));
    // The same without saying so beforehand.
    let pieces =
        huge.chunks(60_000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = daemon.http().post(format!("{}/api/v1/runs", daemon.base())).bearer_auth(ADMIN);
    let request = request.header("content-type", "application/json").body(body);
    // The answer comes while the client still sends; it may find the connection closed instead.
    match Daemon::answer(request).await {
        Ok(answer) => check(&answer, (413, "request.too_large")),
        Err(error) => assert!(error.is_request(), "{error}"),
    }
    assert_eq!(daemon.get("/api/v1/runs").await.expect(200)["items"], json!([]));
    let body = br#"{"input":"x"}"#.to_vec();
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("json")]
    {
        let answer = post(&daemon, "/api/v1/runs", kind, body.clone()).await;
        check(&answer, (415, "request.media_type"));
    }
    for (method, path) in [
        (Method::PUT, "/api/v1/runs"),
        (Method::DELETE, "/api/v1/runs/run_0190a0a0-0000-7000-8000-000000000000"),
        (Method::POST, "/api/v1/me"),
        (Method::PATCH, "/api/v1/approvals"),
    ] {
        let answer = daemon.call(method, path, ADMIN, None).await.expect("an answer");
        assert!(answer.headers.contains_key("allow"), "{path}");
        check(&answer, (405, "route.method_not_allowed"));
    }
    for path in
        ["/", "/api", "/api/v1", "/api/v1/runs/a/b/c", "/api/v2/runs", "/metrics", "/admin/v1/runs"]
    {
        check(&daemon.get(path).await, (404, "route.not_found"));
    }
    assert_eq!(daemon.get("/api/v1/ws").await.status.as_u16(), 426);
}

#[tokio::test]
async fn ids_cursors_and_queries_that_are_none_are_refused() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:say ids").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let uuid = id.trim_start_matches("run_");
    for bad in [
        "x",
        "run_",
        "run_x",
        uuid,
        "RUN_x",
        "..",
        "%00",
        "%2e%2e",
        "run_%F0%9F%92%A9",
        &format!("conv_{uuid}"),
        &format!("run_{uuid}x"),
        &format!("run_{}", "9".repeat(5_000)),
        "run_0190a0a0-0000-7000-8000-000000000000",
        "'%20OR%201=1--",
    ] {
        for tail in ["", "/events", "/bundles"] {
            let path = format!("/api/v1/runs/{bad}{tail}");
            let answer = daemon.get(&path).await;
            // `..` never reaches the server as such: the client resolves it.
            assert_eq!(problem(&answer).0, 404, "{path}: {}", answer.text);
        }
        let path = format!("/api/v1/runs/{bad}/cancel");
        assert_eq!(problem(&daemon.post(&path, &json!({})).await).0, 404, "{path}");
        assert_eq!(problem(&daemon.get(&format!("/api/v1/approvals/{bad}")).await).0, 404);
        assert_eq!(problem(&daemon.get(&format!("/api/v1/conversations/{bad}")).await).0, 404);
    }
    for path in ["/api/v1/runs", "/api/v1/approvals", "/api/v1/conversations"] {
        for cursor in ["x", "%00", "9999999999999999999999", "eyJhIjoxfQ", "-1", "'"] {
            let answer = daemon.get(&format!("{path}?cursor={cursor}")).await;
            // Never a failure inside; a cursor that happens to be readable finds what is behind it.
            assert!(
                matches!(answer.status.as_u16(), 200 | 400 | 422),
                "{path} {cursor}: {}",
                answer.text
            );
        }
        for query in ["limit=0", "limit=501", "limit=18446744073709551616", "limit=", "odd=1"] {
            let answer = daemon.get(&format!("{path}?{query}")).await;
            assert!(matches!(answer.status.as_u16(), 200 | 422), "{path} {query}: {}", answer.text);
            let items = answer.json()["items"].as_array().map_or(0, Vec::len);
            assert!(items <= 500);
        }
    }
    for query in ["after=x", "after=-1", "after=99999999999999999999999"] {
        let answer = daemon.get(&format!("/api/v1/runs/{id}/events?{query}")).await;
        assert_eq!(problem(&answer).2, "/after", "{query}");
    }
    let beyond = daemon.get(&format!("/api/v1/runs/{id}/events?after=9223372036854775807")).await;
    assert_eq!(beyond.expect(200)["items"], json!([]));
}

/// Sends raw bytes; all that comes back before the connection ends.
async fn raw(daemon: &Daemon, bytes: &[u8]) -> String {
    let address = daemon.base().strip_prefix("http://").expect("a base");
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(bytes).await.expect("bytes are sent");
    let mut answer = Vec::new();
    let read = timeout(SOON, socket.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status: {answer:?}"))
}

#[tokio::test]
async fn headers_that_are_garbage_harm_nobody() {
    let daemon = Daemon::start("").await;
    let auth = format!("authorization: Bearer {ADMIN}\r\nconnection: close\r\n");
    let get =
        |more: &str| format!("GET /api/v1/me HTTP/1.1\r\nhost: 127.0.0.1\r\n{auth}{more}\r\n");
    assert_eq!(status(&raw(&daemon, get("").as_bytes()).await), 200, "the control works");
    for (more, wanted) in [
        ("x-request-id: \u{1F4A9}\r\n", 200),
        ("x-request-id: a b c\r\n", 200),
        ("last-event-id: x\r\nif-none-match: ,,,\"\r\n", 200),
        ("host: other.example\r\n", 400),
        ("origin: https://evil.example\r\n", 403),
        ("origin: null\r\n", 403),
    ] {
        let answer = raw(&daemon, get(more).as_bytes()).await;
        assert_eq!(status(&answer), wanted, "{more:?}: {answer}");
        assert!(!answer.contains("a b c"), "a bad request id is not taken over");
    }
    // A name that is not served, as a page that rebinds DNS would use.
    let rebound = get("").replace("host: 127.0.0.1", "host: evil.example");
    let absolute = get("").replace("/api", "http://evil.example/api");
    for request in [rebound, absolute] {
        let answer = raw(&daemon, request.as_bytes()).await;
        assert!(status(&answer) == 403 && answer.contains("host.refused"), "{answer}");
    }
    // A path may hold controls that would drive the terminal in which the log is read.
    let driving = get("").replace("/api/v1/me", "/\u{9b}2Jgone");
    raw(&daemon, driving.as_bytes()).await;
    let log = daemon.log();
    assert!(log.contains("2Jgone") && !log.contains('\u{9b}'), "{log}");
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /api/v1/me HTTP/1.1\r\nhost: 127.0.0.1\r\nbad header\r\n\r\n",
        b"GET /api/v1/me HTTP/1.1\r\nhost: 127.0.0.1\r\na\0b: c\r\n\r\n",
        b"POST /api/v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: x\r\n\r\n",
    ] {
        let answer = raw(&daemon, bytes).await;
        assert!(answer.is_empty() || (400..=505).contains(&status(&answer)), "{answer}");
    }
    let many = "x: y\r\n".repeat(2_000);
    let answer = raw(&daemon, get(&many).as_bytes()).await;
    assert_eq!(status(&answer), 431, "{answer}");
    let control = get("x-request-id: mine-1\r\n");
    let answer = raw(&daemon, control.as_bytes()).await;
    assert!(status(&answer) == 200 && answer.contains("x-request-id: mine-1"), "{answer}");
    assert_eq!(daemon.get("/api/v1/me").await.status.as_u16(), 200, "it still works");
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_browsers_and_caches_out() {
    let daemon = Daemon::start("").await;
    for path in ["/api/v1/me", "/api/v1/nothing", "/healthz"] {
        let answer = daemon.get(path).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
        assert!(!answer.headers.contains_key("server"), "{path}");
    }
    let me: Value = daemon.get("/api/v1/me").await.expect(200);
    assert_eq!(me["principal"]["role"], "admin");
    let docs = daemon.get("/docs/").await;
    assert_eq!(docs.status.as_u16(), 200);
    assert!(
        docs.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    assert!(!docs.text.contains("https://") && !docs.text.contains("//cdn"), "{}", docs.text);
}
