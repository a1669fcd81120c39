//! The admin door: its routes exist there and nowhere else, and keep the conventions of the API.

use agent_runtime::http::admin::{ROUTES, SOCKET};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::support::daemon::{ADMIN, Answer, Daemon};

const DOMAINS: &str = "/admin/v1/egress/domains";

fn door(daemon: &Daemon) -> reqwest::Client {
    let socket = daemon.data_dir().join(SOCKET);
    reqwest::Client::builder().unix_socket(socket).build().unwrap()
}

async fn call(
    door: &reqwest::Client,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = door.request(method, format!("http://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    Daemon::answer(request).await.unwrap()
}

fn id_of(headers: &HeaderMap) -> String {
    headers["x-request-id"].to_str().unwrap().to_owned()
}

/// The first line of the answer to a body of this size, none of which is sent: what is refused for
/// its size is refused before it is read.
async fn announced(daemon: &Daemon, bytes: usize) -> String {
    let mut stream = UnixStream::connect(daemon.data_dir().join(SOCKET)).await.unwrap();
    let head = format!(
        "POST {DOMAINS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn admin_routes_do_not_exist_on_the_public_listener_nor_public_ones_at_the_door() {
    let daemon = Daemon::start("").await;
    let door = door(&daemon);
    for (method, path) in ROUTES {
        let path = path.replace("{id}", "egr_01890a5d-ac96-774b-bcce-b302099a8057");
        let public = daemon.call(method.clone(), &path, ADMIN, Some(&json!({}))).await.unwrap();
        assert_eq!(
            (public.status.as_u16(), public.code().as_str()),
            (404, "route.not_found"),
            "{path}"
        );
        let here = call(&door, method.clone(), &path, &[], Some(&json!({}))).await;
        assert!(!here.text.contains("route.not_found"), "{method} {path}: {}", here.text);
    }
    for path in ["/api/v1/runs", "/api/v1/me", "/health", "/metrics", "/docs", "/"] {
        let answer = call(&door, Method::GET, path, &[], None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "route.not_found"),
            "{path}"
        );
    }
    let document = call(&door, Method::GET, "/openapi.json", &[], None).await.expect(200);
    let paths: std::collections::BTreeSet<&str> = ROUTES.iter().map(|(_, path)| *path).collect();
    assert_eq!(document["paths"].as_object().unwrap().len(), paths.len());
    let public = daemon.get("/openapi.json").await.expect(200);
    assert!(public["paths"].as_object().unwrap().keys().all(|path| !path.starts_with("/admin")));
}

#[tokio::test]
async fn the_door_keeps_the_conventions_of_the_api() {
    let daemon = Daemon::start("").await;
    let door = door(&daemon);
    let post = async |headers: &[(&'static str, &str)], body: Value| {
        call(&door, Method::POST, DOMAINS, headers, Some(&body)).await
    };
    // A request id in and out, problem+json, a pointer to what is wrong.
    let wrong = post(&[("x-request-id", "mine-1")], json!({"rule": "a..example"})).await;
    assert_eq!(id_of(&wrong.headers), "mine-1");
    assert_eq!(wrong.headers["content-type"], "application/problem+json");
    let problem = wrong.expect(422);
    assert_eq!(
        (&problem["request_id"], &problem["code"]),
        (&json!("mine-1"), &json!("request.invalid"))
    );
    assert_eq!(problem["errors"][0]["pointer"], "/rule");
    for (body, pointer) in [
        (json!({}), "/rule"),
        (json!({"rule": "a.example", "verdikt": "deny"}), "/verdikt"),
        (json!({"rule": "a.example", "verdict": "perhaps"}), "/verdict"),
        (json!({"rule": "a.example", "agent": "nobody"}), "/agent"),
        (json!({"rule": "a.example", "note": "x".repeat(1_001)}), "/note"),
        (json!({"rule": {"host": "a.example", "port": 0}}), "/rule"),
    ] {
        let problem = post(&[], body.clone()).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(announced(&daemon, 2 << 20).await, "HTTP/1.1 413 Payload Too Large");
    // The same key and body give the stored answer; another body is refused.
    let key = [("idempotency-key", "once")];
    let body = json!({"rule": {"host": "a.example", "port": 8443}, "agent": "open", "note": "n"});
    let first = post(&key, body.clone()).await;
    let location = first.headers["location"].to_str().unwrap().to_owned();
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let made = first.expect(201);
    assert_eq!((&made["rule"], &made["verdict"]), (&json!("a.example:8443"), &json!("allow")));
    assert_eq!(location, format!("{DOMAINS}/{}", made["id"].as_str().unwrap()));
    let again = post(&key, body).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(201), made);
    let other = post(&key, json!({"rule": "b.example"})).await.expect(422);
    assert_eq!(other["code"], "idempotency.mismatch");
    let list = call(&door, Method::GET, DOMAINS, &[], None).await.expect(200);
    assert_eq!((list["items"].as_array().unwrap().len(), &list["next_cursor"]), (1, &json!(null)));
    let gone = call(&door, Method::DELETE, &location, &[], None).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    let missing = call(&door, Method::DELETE, &location, &[], None).await.expect(404);
    assert_eq!(missing["code"], "egress.not_found");
    let strange = call(&door, Method::DELETE, &format!("{DOMAINS}/run_1"), &[], None).await;
    assert_eq!(strange.status.as_u16(), 404);
    let method = call(&door, Method::PUT, DOMAINS, &[], None).await;
    assert_eq!((method.status.as_u16(), method.code().as_str()), (405, "route.method_not_allowed"));
}

#[tokio::test]
async fn the_door_says_how_tools_are_confined() {
    let daemon = Daemon::start("").await;
    let report =
        call(&door(&daemon), Method::GET, "/admin/v1/sandbox", &[], None).await.expect(200);
    let public = daemon.get("/api/v1/info").await.expect(200);
    assert_eq!(report["level"], public["sandbox_level"]);
    assert_eq!(report["usable"], true);
    assert_eq!(report["limits"]["backend"], "sandbox");
    assert_eq!(report["limits"]["sessions_max"], 64);
    assert!(report["sessions"].as_u64().unwrap() <= 64, "{report}");
}
