//! Every public route and every WebSocket command against every role, through the real daemon: what
//! the table says and nothing else. A new one that is not in the table fails the test.

use std::collections::BTreeSet;

use agent_runtime::http::api::{COMMANDS, ROUTES};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::daemon::{ADMIN, ALICE, Daemon, OPERATOR, PATIENCE, VIEWER};

const OVERLORD: &str = "overlord-token-0123456789-0123456789-0123456789";
/// Beside the principals that every test daemon knows.
const CONFIG: &str = "[[auth.tokens]]\nname = \"root\"\nrole = \"overlord\"\n\
                      token = \"overlord-token-0123456789-0123456789-0123456789\"\n";

/// Least first.
const ROLES: [(&str, &str); 5] = [
    ("viewer", VIEWER),
    ("member", ALICE),
    ("operator", OPERATOR),
    ("admin", ADMIN),
    ("overlord", OVERLORD),
];

/// Whom a thing is open to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Least {
    /// Anybody at all, without a token.
    Nobody,
    /// This role and those above it.
    Role(usize),
}

const ANY: Least = Least::Role(0);
const MEMBER: Least = Least::Role(1);
const OPERATOR_UP: Least = Least::Role(2);

/// The least role of each route, and a body that is well-formed.
const TABLE: &[(&str, &str, Least, &str)] = &[
    ("GET", "/health", Least::Nobody, ""),
    ("GET", "/healthz", Least::Nobody, ""),
    ("GET", "/live", Least::Nobody, ""),
    ("GET", "/ready", Least::Nobody, ""),
    ("GET", "/readyz", Least::Nobody, ""),
    ("POST", "/api/v1/runs", MEMBER, r#"{"agent":"reader","input":"hello"}"#),
    ("GET", "/api/v1/runs", ANY, ""),
    ("GET", "/api/v1/runs/{id}", ANY, ""),
    ("POST", "/api/v1/runs/{id}/interrupt", MEMBER, r#"{"mode":"graceful"}"#),
    ("POST", "/api/v1/runs/{id}/steer", MEMBER, r#"{"input":"hello"}"#),
    ("POST", "/api/v1/runs/{id}/resume", MEMBER, "{}"),
    ("POST", "/api/v1/runs/{id}/cancel", MEMBER, "{}"),
    ("POST", "/api/v1/runs/{id}/retry", OPERATOR_UP, "{}"),
    ("POST", "/api/v1/runs/{id}/fork", MEMBER, r#"{"input":"hello"}"#),
    ("GET", "/api/v1/runs/{id}/events", ANY, ""),
    ("GET", "/api/v1/runs/{id}/bundles", ANY, ""),
    ("GET", "/api/v1/approvals", ANY, ""),
    ("GET", "/api/v1/approvals/{id}", ANY, ""),
    ("POST", "/api/v1/approvals/{id}/decision", OPERATOR_UP, r#"{"decision":"deny"}"#),
    (
        "POST",
        "/api/v1/approvals/decisions",
        OPERATOR_UP,
        r#"{"ids":["apr_01890a5d-ac96-774b-bcce-b302099a8057"],"decision":"deny"}"#,
    ),
    ("POST", "/api/v1/approvals/{id}/pattern-preview", OPERATOR_UP, r#"{"ttl_secs":60,"uses":1}"#),
    ("GET", "/api/v1/approval-patterns", OPERATOR_UP, ""),
    ("DELETE", "/api/v1/approval-patterns/{id}", OPERATOR_UP, ""),
    ("POST", "/api/v1/conversations", MEMBER, "{}"),
    ("GET", "/api/v1/conversations", ANY, ""),
    ("GET", "/api/v1/conversations/{id}", ANY, ""),
    ("DELETE", "/api/v1/conversations/{id}", MEMBER, ""),
    ("GET", "/api/v1/conversations/{id}/messages", ANY, ""),
    ("GET", "/api/v1/agents", ANY, ""),
    ("GET", "/api/v1/tools", ANY, ""),
    ("GET", "/api/v1/me", ANY, ""),
    ("GET", "/api/v1/info", ANY, ""),
    ("GET", "/api/v1/usage", ANY, ""),
    ("GET", "/api/v1/ws", ANY, ""),
];

async fn started() -> Daemon {
    let mut daemon = Daemon::prepare_with("", CONFIG);
    daemon.run().await;
    daemon
}

/// A path with an id of the right kind that nothing has.
fn concrete(path: &str) -> String {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let prefix = ["runs", "approvals", "approval-patterns", "conversations"]
        .into_iter()
        .find(|p| path.contains(p));
    let prefix = match prefix {
        Some("runs") => "run_",
        Some("approvals") => "apr_",
        Some("approval-patterns") => "pat_",
        _ => "conv_",
    };
    path.replace("{id}", &format!("{prefix}{uuid}"))
}

#[tokio::test]
async fn every_public_route_answers_every_role_as_the_table_says() {
    let listed: BTreeSet<(&str, &str)> = TABLE.iter().map(|row| (row.0, row.1)).collect();
    let routes: BTreeSet<(&str, &str)> = ROUTES.iter().map(|(m, p)| (m.as_str(), *p)).collect();
    assert_eq!(listed.len(), TABLE.len(), "a route is listed twice");
    assert_eq!(listed, routes, "a route is missing from the table, or one in it is gone");
    let daemon = started().await;
    for (method, path, least, body) in TABLE {
        let method: Method = method.parse().unwrap();
        let url = format!("{}{}", daemon.base(), concrete(path));
        let request = || {
            let request = daemon.http().request(method.clone(), &url);
            if body.is_empty() {
                request
            } else {
                request.header("content-type", "application/json").body((*body).to_owned())
            }
        };
        let status = Daemon::answer(request()).await.unwrap().status.as_u16();
        match least {
            Least::Nobody => assert_eq!(status, 200, "{method} {path} for nobody"),
            // A handshake may say who it is in its first frame; this is none.
            Least::Role(_) if *path == "/api/v1/ws" => assert_eq!(status, 426),
            Least::Role(_) => assert_eq!(status, 401, "{method} {path} for nobody"),
        }
        for (rank, (role, token)) in ROLES.iter().enumerate() {
            let answer = Daemon::answer(request().bearer_auth(token)).await.unwrap();
            let is_open = match least {
                Least::Nobody => true,
                Least::Role(least) => rank >= *least,
            };
            let status = answer.status.as_u16();
            assert_eq!(status == 403, !is_open, "{method} {path} for {role}: {}", answer.text);
            assert!(status != 401 && status < 500, "{method} {path} for {role}: {}", answer.text);
            if !is_open {
                assert_eq!(answer.code(), "auth.forbidden", "{method} {path} for {role}");
            }
        }
    }
}

/// The least role of each command, and its fields.
const FRAMES: &[(&str, Least, &str)] = &[
    ("subscribe", ANY, r#"{"run_id":"RUN"}"#),
    ("unsubscribe", ANY, r#"{"run_id":"RUN"}"#),
    ("run.create", MEMBER, r#"{"agent":"reader","input":"hello"}"#),
    ("run.interrupt", MEMBER, r#"{"run_id":"RUN","mode":"graceful"}"#),
    ("run.steer", MEMBER, r#"{"run_id":"RUN","input":"hello"}"#),
    ("run.resume", MEMBER, r#"{"run_id":"RUN"}"#),
    ("run.cancel", MEMBER, r#"{"run_id":"RUN"}"#),
    ("run.retry", OPERATOR_UP, r#"{"run_id":"RUN"}"#),
    ("run.fork", MEMBER, r#"{"run_id":"RUN","input":"hello"}"#),
    ("approval.decide", OPERATOR_UP, r#"{"approval_id":"APR","decision":"deny"}"#),
    ("ping", ANY, "{}"),
];

#[tokio::test]
async fn every_websocket_command_answers_every_role_as_the_table_says() {
    let listed: BTreeSet<&str> = FRAMES.iter().map(|row| row.0).collect();
    assert_eq!(listed, COMMANDS.iter().copied().collect(), "a command is missing from the table");
    let daemon = started().await;
    for (rank, (role, token)) in ROLES.iter().enumerate() {
        let url = format!("{}/api/v1/ws", daemon.base().replace("http://", "ws://"));
        let mut request = url.into_client_request().unwrap();
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = connect_async(request).await.unwrap();
        for (command, least, fields) in FRAMES {
            let fields = fields
                .replace("RUN", "run_01890a5d-ac96-774b-bcce-b302099a8057")
                .replace("APR", "apr_01890a5d-ac96-774b-bcce-b302099a8057");
            let mut frame: Value = serde_json::from_str(&fields).unwrap();
            frame["type"] = json!(command);
            frame["id"] = json!(command);
            socket.send(Message::text(frame.to_string())).await.unwrap();
            let reply = loop {
                let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
                let Message::Text(text) = message else { continue };
                let got: Value = serde_json::from_str(&text).unwrap();
                if got["type"] == "reply" {
                    break got;
                }
            };
            assert_eq!(reply["id"], *command);
            let is_refused = reply["problem"]["code"] == "auth.forbidden";
            let is_open = matches!(least, Least::Role(least) if rank >= *least);
            assert_eq!(is_refused, !is_open, "{command} for {role}: {reply}");
            let code = &reply["problem"]["code"];
            assert!(code != "request.invalid" && code != "request.malformed", "{command}: {reply}");
        }
    }
}
