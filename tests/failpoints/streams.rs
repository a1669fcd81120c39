//! Clients that read a run's events live, come back after each interruption from the last number
//! that they saw, and write down everything that they are sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::support::{checker::witness::Recorder, daemon::ADMIN, live::is_terminal};

/// Before a client comes back.
const AGAIN: Duration = Duration::from_millis(20);
/// A silent stream is left for a new one: the daemon may have died without a word.
const SILENCE: Duration = Duration::from_secs(5);

fn current(base: &Mutex<String>) -> String {
    base.lock().expect("the base").clone()
}

/// Server-sent events, until the run's last one.
pub(crate) async fn sse(
    http: reqwest::Client,
    base: Arc<Mutex<String>>,
    recorder: Arc<Recorder>,
    run: String,
) {
    let mut last = 0;
    loop {
        let request = http
            .get(format!("{}/api/v1/runs/{run}/events", current(&base)))
            .bearer_auth(ADMIN)
            .header("accept", "text/event-stream")
            .header("last-event-id", last.to_string());
        if let Ok(mut response) = request.send().await {
            let mut buffer = Vec::new();
            let mut is_open = response.status().as_u16() == 200;
            if response.status().as_u16() == 204 {
                return;
            }
            while is_open {
                let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
                match chunk {
                    Ok(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
                    _ => is_open = false,
                }
                while let Some(end) = buffer.windows(2).position(|w| w == b"\n\n") {
                    let block: Vec<u8> = buffer.drain(..end + 2).collect();
                    let block = String::from_utf8(block).expect("UTF-8");
                    let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name));
                    let seq = field("id: ").and_then(|id| id.parse().ok());
                    let (Some(seq), Some(kind)) = (seq, field("event: ")) else { continue };
                    recorder.saw("sse", &run, seq, kind);
                    last = seq;
                    if is_terminal(kind) {
                        return;
                    }
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A WebSocket with one subscription, until the run's last event.
pub(crate) async fn socket(base: Arc<Mutex<String>>, recorder: Arc<Recorder>, run: String) {
    let mut last = 0;
    while !listen(&current(&base), &recorder, &run, &mut last).await.unwrap_or(false) {
        tokio::time::sleep(AGAIN).await;
    }
}

/// One connection; whether the end of the run was seen.
async fn listen(base: &str, recorder: &Recorder, run: &str, last: &mut u64) -> Option<bool> {
    let address = base.strip_prefix("http://")?;
    let tcp = TcpStream::connect(address).await.ok()?;
    let mut request = format!("ws://{address}/api/v1/ws").into_client_request().ok()?;
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {ADMIN}").parse().ok()?);
    headers.insert("sec-websocket-protocol", "agent-runtime.v1".parse().ok()?);
    let opened = tokio::time::timeout(SILENCE, client_async(request, tcp)).await.ok()?;
    let (mut socket, _) = opened.ok()?;
    let subscribe = json!({"id": "s", "type": "subscribe", "run_id": run, "after": *last});
    socket.send(Message::text(subscribe.to_string())).await.ok()?;
    loop {
        let message = tokio::time::timeout(SILENCE, socket.next()).await.ok()??.ok()?;
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).ok()?;
        let (Some(seq), Some(kind)) = (frame["seq"].as_u64(), frame["event"].as_str()) else {
            continue;
        };
        recorder.saw("socket", run, seq, kind);
        *last = seq;
        if is_terminal(kind) {
            return Some(true);
        }
    }
}
