//! A client of the public API: what the commands, the demo and the health check speak through.
//!
//! Invariants: it knows only the wire; it never sees the store. A follow that loses its connection
//! goes on after the last event it gave.

mod sse;

use std::{collections::VecDeque, path::Path, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::domain::{
    Approval, ApprovalId, Event, Run, RunId, Secret,
    event::{Ephemeral, EphemeralBody},
};

/// Longest wait for the head of an answer; `?wait=` may take 60 s of it.
const ANSWER_MAX: Duration = Duration::from_secs(75);
/// The server pings every 15 s; a stream silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Attempts to reconnect a stream, a second apart.
const RECONNECTS_MAX: u32 = 10;
/// Events of one page.
const PAGE: usize = 500;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers there.
    #[error("no daemon answers at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The daemon refused.
    #[error("{0}")]
    Problem(Problem),
    /// What answered is not this API.
    #[error("the answer is not one of this API: {0}")]
    Protocol(String),
    /// The stream ended and could not be taken up again.
    #[error("the event stream ended and could not be resumed")]
    StreamLost,
}

/// An error as the daemon sends it (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) errors: Vec<FieldProblem>,
    #[serde(default)]
    pub(crate) request_id: Option<String>,
}

/// Which field of the body is wrong.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FieldProblem {
    #[serde(default)]
    pub(crate) pointer: String,
    #[serde(default)]
    pub(crate) detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.detail.trim_end_matches('.'), self.status, self.code)?;
        for field in &self.errors {
            write!(f, "; {}: {}", field.pointer, field.detail)?;
        }
        if let Some(id) = self.request_id.as_ref().filter(|_| self.status >= 500) {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
}

/// What a follow gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Live {
    /// A durable event; each comes once, in order.
    Event(Box<Event>),
    /// A piece of something that a durable event will complete.
    Piece(EphemeralBody),
}

/// Speaks to one daemon with one token. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<Secret<String>>,
}

impl Client {
    /// A client of the daemon at `base`, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str, token: Option<Secret<String>>) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none());
        // A proxy of the environment must not see a token meant for this machine.
        let is_local =
            base.contains("://127.") || base.contains("://localhost") || base.contains("://[::1]");
        let builder = if is_local { builder.no_proxy() } else { builder };
        let http = builder
            .build()
            .map_err(|source| ClientError::Unreachable { url: base.clone(), source })?;
        Ok(Self { http, base, token })
    }

    /// A client of the daemon behind a unix socket. No token: the door knows who calls.
    pub(crate) fn over_socket(socket: &Path) -> Result<Self, ClientError> {
        let base = "http://localhost".to_owned();
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| ClientError::Unreachable { url: base.clone(), source })?;
        Ok(Self { http, base, token: None })
    }

    /// Where it speaks to.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `GET path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.request(reqwest::Method::GET, path)).await
    }

    /// `POST path`, safe to repeat: it carries a fresh `Idempotency-Key`.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.act(reqwest::Method::POST, path, body).await
    }

    /// `PUT path`, in the same way.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.act(reqwest::Method::PUT, path, body).await
    }

    /// `PATCH path`, in the same way.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.act(reqwest::Method::PATCH, path, body).await
    }

    async fn act<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|e| ClientError::Protocol(e.to_string()))?;
        let key = data_encoding::HEXLOWER.encode(&random);
        let request = self.request(method, path);
        self.answer(request.header("idempotency-key", key).json(body)).await
    }

    /// `POST path` where nothing but success is told.
    pub(crate) async fn post_nothing(&self, path: &str, body: &Value) -> Result<(), ClientError> {
        let request = self.request(reqwest::Method::POST, path);
        self.send(request.timeout(ANSWER_MAX).json(body)).await.map(drop)
    }

    /// `DELETE path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let request = self.request(reqwest::Method::DELETE, path);
        self.send(request.timeout(ANSWER_MAX)).await.map(drop)
    }

    /// Starts a run.
    pub(crate) async fn create_run(&self, body: &Value) -> Result<Run, ClientError> {
        self.post("/api/v1/runs", body).await
    }

    /// One run.
    pub(crate) async fn run(&self, id: RunId) -> Result<Run, ClientError> {
        self.get(&format!("/api/v1/runs/{id}")).await
    }

    /// Interrupt, steer, resume, cancel or retry.
    pub(crate) async fn control(
        &self,
        id: RunId,
        verb: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.post(&format!("/api/v1/runs/{id}/{verb}"), body).await
    }

    /// One approval.
    pub(crate) async fn approval(&self, id: ApprovalId) -> Result<Approval, ClientError> {
        self.get(&format!("/api/v1/approvals/{id}")).await
    }

    /// The approvals that wait.
    pub(crate) async fn pending(&self) -> Result<Vec<Approval>, ClientError> {
        let page: Page<Approval> = self.get("/api/v1/approvals?state=pending&limit=500").await?;
        Ok(page.items)
    }

    /// Answers an approval.
    pub(crate) async fn decide(
        &self,
        id: ApprovalId,
        body: &Value,
    ) -> Result<Approval, ClientError> {
        self.post(&format!("/api/v1/approvals/{id}/decision"), body).await
    }

    /// Every event of a run so far.
    pub(crate) async fn events(&self, id: RunId) -> Result<Vec<Event>, ClientError> {
        let mut all: Vec<Event> = Vec::new();
        loop {
            let after = all.last().map_or(0, |e| e.seq);
            let path = format!("/api/v1/runs/{id}/events?after={after}&limit={PAGE}");
            let page: Page<Event> = self.get(&path).await?;
            if page.items.is_empty() {
                return Ok(all);
            }
            all.extend(page.items);
        }
    }

    /// Follows a run from after event `after`: first what was, then what happens.
    pub(crate) fn follow(&self, run: RunId, after: u64) -> Follow {
        Follow {
            client: self.clone(),
            run,
            after,
            stream: None,
            parser: sse::Parser::default(),
            ready: VecDeque::new(),
            failures: 0,
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self.send(request.timeout(ANSWER_MAX)).await?;
        let bytes = response.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::Protocol(e.to_string()))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|source| self.unreachable(source))?;
        let Ok(mut problem) = serde_json::from_slice::<Problem>(&bytes) else {
            let what = format!("status {status} without a problem document");
            return Err(ClientError::Protocol(what));
        };
        problem.status = status.as_u16();
        Err(ClientError::Problem(problem))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.base.clone(), source }
    }
}

/// The events of one run as they come.
#[derive(Debug)]
pub(crate) struct Follow {
    client: Client,
    run: RunId,
    after: u64,
    stream: Option<reqwest::Response>,
    parser: sse::Parser,
    ready: VecDeque<Live>,
    failures: u32,
}

impl Follow {
    /// The number of the last durable event that was given.
    pub(crate) const fn after(&self) -> u64 {
        self.after
    }

    /// The next event; reconnects by itself. Cancel-safe: what was read is kept in `self`.
    pub(crate) async fn next(&mut self) -> Result<Live, ClientError> {
        loop {
            if let Some(live) = self.ready.pop_front() {
                match &live {
                    Live::Event(event) if event.seq <= self.after => continue,
                    Live::Event(event) => self.after = event.seq,
                    Live::Piece(_) => {}
                }
                return Ok(live);
            }
            match self.read().await {
                Ok(()) => {}
                Err(ClientError::Unreachable { .. } | ClientError::StreamLost)
                    if self.failures < RECONNECTS_MAX =>
                {
                    self.failures += 1;
                    self.stream = None;
                    self.parser = sse::Parser::default();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the next bytes, connecting first where needed.
    async fn read(&mut self) -> Result<(), ClientError> {
        let Some(stream) = &mut self.stream else {
            let path = format!("/api/v1/runs/{}/events?after={}", self.run, self.after);
            let request = self
                .client
                .request(reqwest::Method::GET, &path)
                .header("accept", "text/event-stream");
            let sending = tokio::time::timeout(ANSWER_MAX, self.client.send(request));
            let Ok(answer) = sending.await else { return Err(ClientError::StreamLost) };
            self.stream = Some(answer?);
            return Ok(());
        };
        let chunk = tokio::time::timeout(SILENCE_MAX, stream.chunk()).await;
        let Ok(Ok(Some(bytes))) = chunk else { return Err(ClientError::StreamLost) };
        self.failures = 0;
        self.parser.push(&bytes).map_err(|e| ClientError::Protocol(e.to_string()))?;
        while let Some(frame) = self.parser.next() {
            self.ready.extend(live(&frame));
        }
        Ok(())
    }
}

/// A frame as this version understands it; one of a later version is left out.
fn live(frame: &sse::Frame) -> Option<Live> {
    match frame.event.as_str() {
        "message.delta" | "tool.output" => {
            serde_json::from_str::<Ephemeral>(&frame.data).ok().map(|e| Live::Piece(e.body))
        }
        _ => serde_json::from_str::<Event>(&frame.data).ok().map(|e| Live::Event(Box::new(e))),
    }
}

/// The body that starts a run with plain text.
pub(crate) fn run_body(agent: &str, text: &str) -> Value {
    json!({ "agent": agent, "input": text })
}
