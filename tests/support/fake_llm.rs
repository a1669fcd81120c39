//! A language-model server for tests: speaks both wire formats over real HTTP, says what a script
//! tells it to, fails where the script says so, and remembers all that it was asked.
//!
//! A conversation picks its script with `script:NAME` in a user message; the latest such message
//! counts. Which turn is due follows from the number of assistant messages after it, so a daemon
//! that crashed and asks again gets the same turn. Faults are spent one per request, counted per
//! conversation (the whole text of the message with the marker) and turn: keep those texts
//! distinct where runs share a script.
//!
//! The server has a thread and a runtime of its own: it outlives daemons, and a paused clock in
//! the test does not stop it. Its witness is what invariants are judged by, since it lies outside
//! the daemon.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::fake_wire::{self, Said, Wire};

/// A tool call that the fake asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The arguments as they stand on the wire: JSON, or deliberately none.
    pub(crate) args: String,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    /// What goes wrong first: the n-th request for this turn meets the n-th fault, and requests
    /// after the last fault get the answer.
    pub(crate) faults: Vec<Fault>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Nothing: this request is answered.
    None,
    /// A status with `Retry-After` (as given) and an error whose type is the last field.
    Status(u16, Option<&'static str>, &'static str),
    /// The connection breaks after so many frames.
    CutStream(usize),
    /// The stream ends politely, but after so many frames.
    EndEarly(usize),
    /// After so many frames comes one that is not JSON.
    MalformedJson(usize),
    /// After so many frames comes an error frame of that type.
    ErrorFrame(usize, &'static str),
    /// The answer comes, but every half frame takes so long.
    SlowBytes(Duration),
    /// After so many frames nothing comes any more.
    Stall(usize),
    /// Not even the head of the response comes.
    Hang,
    /// The answer holds that many further bytes of text.
    Huge(usize),
}

impl Turn {
    /// An answer in words.
    pub(crate) fn text(text: &str) -> Self {
        Self { text: text.to_owned(), calls: Vec::new(), faults: Vec::new() }
    }

    /// An answer that asks for one tool.
    pub(crate) fn call(name: &str, args: &Value) -> Self {
        Self::text("").and(name, args)
    }

    /// The same with one more tool call.
    pub(crate) fn and(self, name: &str, args: &Value) -> Self {
        self.and_raw(name, &args.to_string())
    }

    /// The same with one more tool call whose arguments are that text, JSON or not.
    pub(crate) fn and_raw(mut self, name: &str, args: &str) -> Self {
        self.calls.push(Call { name: name.to_owned(), args: args.to_owned() });
        self
    }

    /// The same, after these faults.
    pub(crate) fn after(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }
}

/// One request as the fake saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which of the two formats it came in.
    pub(crate) wire: Wire,
    /// The key that came with it.
    pub(crate) key: Option<String>,
    /// The script that was chosen; empty when none was named.
    pub(crate) script: String,
    /// The whole message that named it.
    pub(crate) conversation: String,
    /// The turn that was due, from 0.
    pub(crate) turn: usize,
    /// How often this turn had been asked for before.
    pub(crate) attempt: usize,
    /// What was said so far.
    pub(crate) said: Vec<Said>,
    /// The body.
    pub(crate) body: Value,
}

impl Seen {
    /// Ids and texts of the tool results in the request, in order.
    pub(crate) fn results(&self) -> Vec<(&str, &str)> {
        let result = |said: &'_ Said| matches!(said, Said::Result { .. });
        self.said
            .iter()
            .filter(|s| result(s))
            .map(|said| match said {
                Said::Result { id, text, .. } => (id.as_str(), text.as_str()),
                Said::User(_) | Said::Assistant { .. } => ("", ""),
            })
            .collect()
    }

    fn witness(&self) -> Value {
        let calls: Vec<Value> = self
            .said
            .iter()
            .filter_map(|said| match said {
                Said::Assistant { calls, .. } => Some(calls),
                Said::User(_) | Said::Result { .. } => None,
            })
            .flatten()
            .map(|(id, name, args)| json!({ "id": id, "name": name, "args": args }))
            .collect();
        let results: Vec<Value> =
            self.results().iter().map(|(id, text)| json!({ "id": id, "text": text })).collect();
        json!({
            "script": self.script,
            "conversation": self.conversation,
            "turn": self.turn,
            "attempt": self.attempt,
            "calls": calls,
            "results": results,
        })
    }
}

/// Chooses a turn where no script is named.
pub(crate) type Route = dyn Fn(&Seen) -> Turn + Send + Sync;

/// How the fake behaves.
#[derive(Default)]
pub(crate) struct Options {
    /// The only key that is accepted; any when none.
    pub(crate) key: Option<String>,
    /// A file that gets one JSON line per request.
    pub(crate) witness: Option<PathBuf>,
    /// Leaves out the token counts.
    pub(crate) hides_usage: bool,
    /// What to answer where no script is named; a fixed sentence when none.
    pub(crate) route: Option<Box<Route>>,
}

/// The server. Stops when dropped.
pub(crate) struct FakeLlm {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    options: Options,
    scripts: Mutex<HashMap<String, Vec<Turn>>>,
    attempts: Mutex<HashMap<(String, usize), usize>>,
    seen: Mutex<Vec<Seen>>,
    witness: Option<Mutex<File>>,
}

impl FakeLlm {
    /// A server without any script yet.
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with these options, on a free port of the loopback address.
    pub(crate) fn start_with(options: Options) -> Self {
        let witness = options.witness.as_ref().map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Mutex::new(file.expect("the witness file opens"))
        });
        let shared = Arc::new(Shared {
            options,
            scripts: Mutex::default(),
            attempts: Mutex::default(),
            seen: Mutex::default(),
            witness,
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let app = Router::new()
            .route("/chat/completions", post(openai))
            .route("/v1/chat/completions", post(openai))
            .route("/v1/messages", post(anthropic))
            // Real providers take long conversations; axum's own bound is 2 MiB.
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        #[expect(clippy::disallowed_methods, reason = "the fake must not share the test's runtime")]
        let thread = std::thread::spawn(move || serve(listener, app, stopped));
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `base_url` for provider `openai`.
    pub(crate) fn openai_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// `base_url` for provider `anthropic`.
    pub(crate) fn anthropic_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Teaches a script; `script:NAME` in a user message plays it. After its last turn the fake
    /// answers "done".
    pub(crate) fn script(&self, name: &str, turns: impl IntoIterator<Item = Turn>) {
        let turns = turns.into_iter().collect();
        self.shared.scripts.lock().expect("scripts").insert(name.to_owned(), turns);
    }

    /// Every request so far, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("seen").clone()
    }

    /// The requests of one script.
    pub(crate) fn seen_of(&self, script: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|s| s.script == script).collect()
    }
}

impl Drop for FakeLlm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(listener: std::net::TcpListener, app: Router, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        // Not graceful: hanging requests are part of the game.
        tokio::select! {
            served = axum::serve(listener, app) => served.expect("the fake serves"),
            _ = stopped => {}
        }
    });
}

async fn openai(state: State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let key = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let key = key.and_then(|v| v.strip_prefix("Bearer ")).map(str::to_owned);
    sent(state.answer(Wire::OpenAi, key, &body)).await
}

async fn anthropic(state: State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if !headers.contains_key("anthropic-version") {
        return error(StatusCode::BAD_REQUEST, None, "invalid_request_error");
    }
    let key = headers.get("x-api-key").and_then(|v| v.to_str().ok()).map(str::to_owned);
    sent(state.answer(Wire::Anthropic, key, &body)).await
}

/// The response; where there is none, nothing ever.
async fn sent(response: Option<Response>) -> Response {
    match response {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn answer(&self, wire: Wire, key: Option<String>, body: &[u8]) -> Option<Response> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Some(error(StatusCode::BAD_REQUEST, None, "invalid_request_error"));
        };
        // A real provider refuses a call without a result, or a result without a call.
        let Some(said) = fake_wire::read(wire, &body) else {
            return Some(error(StatusCode::BAD_REQUEST, None, "invalid_request_error"));
        };
        let mut seen = place(wire, key, said, body);
        let turn = self.turn(&seen);
        seen.attempt = self.count(&seen);
        let fault = turn.faults.get(seen.attempt).copied().unwrap_or(Fault::None);
        let asked = seen.body.to_string().len() / 4;
        let is_welcome = self.options.key.is_none() || self.options.key == seen.key;
        self.record(seen);
        if !is_welcome {
            return Some(error(StatusCode::UNAUTHORIZED, None, "authentication_error"));
        }
        let usage = (!self.options.hides_usage).then_some(asked);
        (fault != Fault::Hang).then(|| respond(wire, turn, fault, usage))
    }

    fn turn(&self, seen: &Seen) -> Turn {
        if seen.script.is_empty() {
            return match &self.options.route {
                Some(route) => route(seen),
                None => Turn::text("The fake was given no script."),
            };
        }
        let scripts = self.scripts.lock().expect("scripts");
        match scripts.get(&seen.script) {
            Some(turns) => turns.get(seen.turn).cloned().unwrap_or_else(|| Turn::text("done")),
            None => Turn::text(&format!("The fake knows no script {}.", seen.script)),
        }
    }

    fn count(&self, seen: &Seen) -> usize {
        let mut attempts = self.attempts.lock().expect("attempts");
        let count = attempts.entry((seen.conversation.clone(), seen.turn)).or_insert(0);
        *count += 1;
        *count - 1
    }

    fn record(&self, seen: Seen) {
        if let Some(file) = &self.witness {
            let line = format!("{}\n", seen.witness());
            file.lock().expect("witness").write_all(line.as_bytes()).expect("a line is written");
        }
        self.seen.lock().expect("seen").push(seen);
    }
}

/// Which script and turn the request is about.
fn place(wire: Wire, key: Option<String>, said: Vec<Said>, body: Value) -> Seen {
    let marked = said.iter().enumerate().rev().find_map(|(at, said)| match said {
        Said::User(text) => Some((at, text.clone(), marker(text)?)),
        Said::Assistant { .. } | Said::Result { .. } => None,
    });
    let (at, conversation, script) = marked.unwrap_or_default();
    let turn = said.iter().skip(at).filter(|s| matches!(s, Said::Assistant { .. })).count();
    Seen { wire, key, script, conversation, turn, attempt: 0, said, body }
}

/// The name behind `script:` in the text.
fn marker(text: &str) -> Option<String> {
    let name = text.split_once("script:")?.1.split_whitespace().next()?;
    Some(name.to_owned())
}

fn error(status: StatusCode, retry_after: Option<&str>, kind: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": "said the fake" } });
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(value) = retry_after.and_then(|v| v.parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn respond(wire: Wire, mut turn: Turn, fault: Fault, usage: Option<usize>) -> Response {
    match fault {
        Fault::Status(code, retry_after, kind) => {
            let status = StatusCode::from_u16(code).expect("a status");
            return error(status, retry_after, kind);
        }
        Fault::Huge(bytes) => turn.text.extend(std::iter::repeat_n('x', bytes)),
        _ => {}
    }
    let frames = fake_wire::frames(wire, &turn, usage);
    let stream = async_stream::stream! {
        for (n, frame) in frames.into_iter().enumerate() {
            match fault {
                Fault::CutStream(after) if n == after => {
                    // Whatever was written must arrive before the reset.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    yield Err(std::io::Error::other("cut by the script"));
                    return;
                }
                Fault::EndEarly(after) if n == after => return,
                Fault::Stall(after) if n == after => std::future::pending::<()>().await,
                Fault::MalformedJson(after) if n == after => {
                    yield Ok(Bytes::from_static(b"data: {\"choices\": [{]\n\n"));
                }
                Fault::ErrorFrame(after, kind) if n == after => {
                    yield Ok(Bytes::from(fake_wire::error_frame(kind)));
                    return;
                }
                Fault::SlowBytes(delay) => {
                    let mut frame = frame.into_bytes();
                    let rest = frame.split_off(frame.len() / 2);
                    tokio::time::sleep(delay).await;
                    yield Ok(Bytes::from(frame));
                    tokio::time::sleep(delay).await;
                    yield Ok(Bytes::from(rest));
                    continue;
                }
                _ => {}
            }
            yield Ok(Bytes::from(frame));
        }
    };
    let body = Body::from_stream(stream);
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
