//! Clients of the live surfaces: server-sent events and WebSocket. Written from API.md, and
//! independent of the client that the CLI uses.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::CloseFrame},
};

use super::daemon::{Daemon, PATIENCE};

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<u64>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// An event stream that is being read.
pub(crate) struct Sse {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Sse {
    /// Reads a run's events after `last`, as a browser comes back.
    pub(crate) async fn open(daemon: &Daemon, token: &str, run: &str, last: u64) -> Self {
        let request = daemon
            .http()
            .get(format!("{}/api/v1/runs/{run}/events", daemon.base()))
            .bearer_auth(token)
            .header("accept", "text/event-stream");
        let request =
            if last > 0 { request.header("last-event-id", last.to_string()) } else { request };
        Self::of(request).await
    }

    /// Sends a request whose answer is a stream.
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: Vec::new() }
    }

    pub(crate) fn response(&self) -> &reqwest::Response {
        &self.response
    }

    /// The next event; none when the stream has ended, politely or not.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = read_block(std::str::from_utf8(&block).expect("UTF-8")) {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            match chunk.expect("a stream that goes on or ends") {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

fn read_block(block: &str) -> Option<SseEvent> {
    let mut event = SseEvent::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.parse().expect("a number")),
            Some(("event", kind)) => kind.clone_into(&mut event.kind),
            Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
            _ => {}
        }
    }
    (!event.kind.is_empty()).then_some(event)
}

/// What comes out of a WebSocket.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Value),
    Closed(Option<u16>),
}

/// A WebSocket client.
pub(crate) struct Ws {
    socket: WebSocketStream<TcpStream>,
    /// Events that came while a reply was waited for.
    early: Vec<Value>,
    count: u32,
}

impl Ws {
    /// Connects with these headers. `window`: bytes of the receive buffer, for a slow consumer.
    pub(crate) async fn connect(
        daemon: &Daemon,
        headers: &[(&'static str, &str)],
        window: Option<u32>,
    ) -> Result<Self, tungstenite::Error> {
        let address = daemon.base().strip_prefix("http://").expect("a base");
        let tcp = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = window {
            tcp.set_recv_buffer_size(bytes).expect("a buffer");
        }
        let tcp = tcp.connect(address.parse().expect("an address")).await.expect("a connection");
        let mut request = format!("ws://{address}/api/v1/ws").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let (socket, _) = client_async(request, tcp).await?;
        Ok(Self { socket, early: Vec::new(), count: 0 })
    }

    /// Connects with a token and takes the greeting.
    pub(crate) async fn open(daemon: &Daemon, token: &str) -> Self {
        Self::open_with(daemon, token, None).await
    }

    /// The same with a small receive buffer.
    pub(crate) async fn open_with(daemon: &Daemon, token: &str, window: Option<u32>) -> Self {
        let bearer = format!("Bearer {token}");
        let headers =
            [("authorization", bearer.as_str()), ("sec-websocket-protocol", "agent-runtime.v1")];
        let mut ws = Self::connect(daemon, &headers, window).await.expect("a WebSocket");
        assert_eq!(ws.frame().await["type"], "hello");
        ws
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("a frame is sent");
    }

    /// What comes next: a frame or the end.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a frame or the end");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Frame(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(code_of)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// The next frame of any kind.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.hear().await {
            Heard::Frame(frame) => frame,
            Heard::Closed(code) => panic!("closed with {code:?}"),
        }
    }

    /// Sends a command and waits for its reply; what else comes meanwhile is kept for
    /// [`Self::next_event`].
    pub(crate) async fn ask(&mut self, mut frame: Value) -> Value {
        self.count += 1;
        let id = format!("c{}", self.count);
        frame["id"] = json!(id);
        self.send(&frame).await;
        loop {
            let frame = self.frame().await;
            if frame["type"] == "reply" {
                assert_eq!(frame["id"], json!(id), "{frame}");
                return frame;
            }
            self.early.push(frame);
        }
    }

    /// The next frame that is no reply; none when the connection has ended.
    pub(crate) async fn next_event(&mut self) -> Option<Value> {
        if !self.early.is_empty() {
            return Some(self.early.remove(0));
        }
        match self.hear().await {
            Heard::Frame(frame) => Some(frame),
            Heard::Closed(_) => None,
        }
    }

    /// Waits for the end of the connection; its close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Heard::Closed(code) = self.hear().await {
                return code;
            }
        }
    }

    /// Every durable event up to the terminal one or the end of the connection.
    pub(crate) async fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(frame) = self.next_event().await {
            if frame["type"] == "event" && frame.get("seq").is_some() {
                let kind = frame["event"].as_str().unwrap_or_default().to_owned();
                events.push(frame);
                if is_terminal(&kind) {
                    break;
                }
            }
        }
        events
    }
}

fn code_of(frame: CloseFrame) -> u16 {
    frame.code.into()
}

/// Whether an event of that type ends a run.
pub(crate) fn is_terminal(kind: &str) -> bool {
    ["run.succeeded", "run.failed", "run.cancelled", "run.expired"].contains(&kind)
}

/// A wait that is shorter than anything a test waits for, between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
