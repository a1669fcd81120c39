//! One WebSocket connection: commands in, replies and events out, until one side ends it.
//!
//! While a client does not read, nothing is taken from its subscriptions: their bounded queues
//! fill, the feed lets go of them, and they read on from the store behind a `resync`.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite;

use super::{
    super::{
        App, commands, dto,
        runs::{no_run, refused},
    },
    frames::{self, Kind, Request},
    listening::{Listening, Live},
};
use crate::{
    domain::{ApprovalId, RunId, limits},
    http::kit::{
        Caller, Problem, Reply,
        extract::{fingerprint, is_key, key_invalid},
        limit::{PING_EVERY, SILENCE_MAX, WEBSOCKET_SEND_WAIT},
        problem::code,
    },
    orchestrator::{Frame, Idempotency},
    runtime::failpoint::{Point, reach},
};

/// Frames written before the socket is flushed, so that a replay is not one packet per event.
const BATCH: usize = 16;
/// How long to wait for the client's half of a close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// The same for a client that does not read.
const SLOW_CLOSE_WAIT: Duration = Duration::from_secs(10);
/// The window of the message rate.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goodbye {
    /// Close code (RFC 6455, 7.4).
    pub(super) code: u16,
    /// For a person who reads the client's log.
    pub(super) reason: &'static str,
    /// Nobody is there to be told.
    pub(super) is_gone: bool,
}

impl Goodbye {
    const fn told(code: u16, reason: &'static str) -> Self {
        Self { code, reason, is_gone: false }
    }

    pub(super) const GONE: Self = Self { code: close_code::NORMAL, reason: "", is_gone: true };
    pub(super) const FULL: Self =
        Self::told(close_code::AGAIN, "too many connections; try again later");
    pub(super) const YOURS: Self =
        Self::told(close_code::AGAIN, "you have too many connections; close some");
    pub(super) const DRAINING: Self =
        Self::told(close_code::AWAY, "the daemon is stopping; connect again and read on");
    /// The client's half of a farewell does not come from who does not read either.
    const SLOW: Self = Self::told(
        close_code::AGAIN,
        "you do not read; connect again and subscribe after the last event that you saw",
    );
    const RATE: Self = Self::told(close_code::POLICY, "too many messages per minute");
    const TOO_LARGE: Self = Self::told(close_code::SIZE, "the message is too large");
    const REVOKED: Self = Self::told(close_code::POLICY, "the token is no longer valid");
    const BROKEN: Self = Self::told(close_code::PROTOCOL, "the frame breaks the protocol");
}

/// Says goodbye and waits a moment for the client's half.
pub(super) async fn close(socket: &mut WebSocket, app: &App, goodbye: Goodbye) {
    if goodbye.is_gone {
        return;
    }
    let frame = CloseFrame { code: goodbye.code, reason: goodbye.reason.into() };
    // Who was too slow gets longer: nothing else tells them why, or from where to go on.
    let wait = if goodbye == Goodbye::SLOW { SLOW_CLOSE_WAIT } else { CLOSE_WAIT };
    let farewell = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Whoever does not answer in time is dropped with the socket.
    tokio::select! {
        farewell = timeout(wait, farewell) => drop(farewell),
        () = app.stop().wait_hard() => {}
    }
}

/// A recognised client's connection.
pub(super) struct Session {
    app: App,
    caller: Caller,
    listening: Listening,
    messages: u32,
    window_began: Instant,
    last_heard: Instant,
}

impl Session {
    pub(super) fn new(app: App, caller: Caller) -> Self {
        let now = Instant::now();
        let listening = Listening::new(app.tasks().clone());
        Self { app, caller, listening, messages: 0, window_began: now, last_heard: now }
    }

    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let app = self.app.clone();
        let revoked = until_revoked(app.clone(), self.caller.clone());
        // Both also end a send that nobody reads. A right that is gone counts before what is ready
        // to be sent.
        let goodbye = tokio::select! {
            biased;
            () = app.stop().wait_hard() => return,
            () = revoked => Goodbye::REVOKED,
            goodbye = self.talk(&mut socket) => goodbye,
        };
        // What it listened to keeps no memory meanwhile.
        drop(self);
        close(&mut socket, &app, goodbye).await;
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> Goodbye {
        let hello = frames::hello(&self.caller.cx.principal);
        if let Err(goodbye) = send(socket, Message::text(hello)).await {
            return goodbye;
        }
        let mut ping = pinger();
        loop {
            // Every branch is cancel-safe: the socket and the queue keep what they have.
            let step = tokio::select! {
                message = socket.recv() => match message {
                    // A change and a command may come together: the change comes first.
                    Some(Ok(_)) if !self.app.still_stands(&self.caller) => Err(Goodbye::REVOKED),
                    Some(Ok(message)) => self.hear(socket, message).await,
                    Some(Err(error)) => Err(of_error(error)),
                    None => Err(Goodbye::GONE),
                },
                (run_id, live) = self.listening.next() => self.pass_on(socket, run_id, live).await,
                _ = ping.tick() => {
                    if self.last_heard.elapsed() > SILENCE_MAX {
                        Err(Goodbye::GONE)
                    } else {
                        send(socket, Message::Ping(bytes::Bytes::new())).await
                    }
                }
                () = self.app.stop().wait_soft() => Err(Goodbye::DRAINING),
            };
            if let Err(goodbye) = step {
                return goodbye;
            }
        }
    }

    /// Passes a frame on, and whatever else is ready, before the socket is flushed.
    async fn pass_on(
        &mut self,
        socket: &mut WebSocket,
        run_id: RunId,
        live: Live,
    ) -> Result<(), Goodbye> {
        let mut next = Some((run_id, live));
        let mut written = 0;
        while let Some((run_id, live)) = next.take() {
            if let Some(text) = written_frame(run_id, &live) {
                reach(Point::SocketSendBefore).await.map_err(|_injected| Goodbye::GONE)?;
                bounded(socket.feed(Message::text(text))).await?;
            }
            written += 1;
            if written < BATCH {
                next = self.listening.ready();
            }
        }
        bounded(socket.flush()).await?;
        reach(Point::SocketSendAfter).await.map_err(|_injected| Goodbye::GONE)
    }

    async fn hear(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), Goodbye> {
        self.last_heard = Instant::now();
        // Answers to our own pings are not the client's doing.
        if !matches!(message, Message::Pong(_)) && !self.is_within_rate() {
            return Err(Goodbye::RATE);
        }
        let text = match message {
            Message::Close(_) => return Err(Goodbye::GONE),
            // The socket answers pings by itself.
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return self.reply(socket, None, Err(frames::not_text())).await,
            Message::Text(text) => text,
        };
        let mut request = match Request::read(&text) {
            Ok(request) => request,
            Err(problem) => return self.reply(socket, None, Err(problem)).await,
        };
        let answer = match self.app.edge().count(&self.caller.cx) {
            Ok(()) => Box::pin(self.answer(&mut request)).await,
            Err(problem) => Err(problem),
        };
        self.reply(socket, request.id.as_deref(), answer).await
    }

    fn is_within_rate(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.window_began) >= RATE_WINDOW {
            (self.window_began, self.messages) = (now, 0);
        }
        self.messages = self.messages.saturating_add(1);
        self.messages <= limits::WEBSOCKET_MESSAGES_PER_MINUTE
    }

    async fn reply(
        &mut self,
        socket: &mut WebSocket,
        id: Option<&str>,
        answer: Result<Value, Problem>,
    ) -> Result<(), Goodbye> {
        let text = frames::reply(id, answer, &self.caller.cx.request_id);
        // A problem may quote what was sent; whatever holds a secret stays JSON without it.
        let text = self.app.orchestrator().redactor().redact(&text).into_owned();
        send(socket, Message::text(text)).await
    }

    async fn answer(&mut self, request: &mut Request) -> Result<Value, Problem> {
        let kind = request.kind.clone()?;
        let (app, cx) = (&self.app, &self.caller.cx);
        let key = key_of(kind, request)?;
        let reply: Result<Reply, Problem> = match kind {
            Kind::Ping => return Ok(json!({ "pong": true })),
            Kind::Subscribe => return self.subscribe(request).await,
            Kind::Unsubscribe => return self.unsubscribe(request),
            Kind::RunCreate => {
                let body: dto::CreateRun = request.body()?;
                commands::create(app, cx, body, key).await
            }
            Kind::RunInterrupt => {
                let id: RunId = request.take("run_id")?;
                commands::interrupt(app, cx, id, request.body()?, key).await
            }
            Kind::RunSteer => {
                let id: RunId = request.take("run_id")?;
                commands::steer(app, cx, id, request.body()?, key).await
            }
            Kind::RunResume => {
                let id: RunId = request.take("run_id")?;
                commands::resume(app, cx, id, request.body()?, key).await
            }
            Kind::RunCancel => {
                let id: RunId = request.take("run_id")?;
                commands::cancel(app, cx, id, request.body()?, key).await
            }
            Kind::RunRetry => {
                let id: RunId = request.take("run_id")?;
                let dto::Nothing {} = request.body()?;
                commands::retry(app, cx, id, key).await
            }
            Kind::RunFork => {
                let id: RunId = request.take("run_id")?;
                commands::fork(app, cx, id, request.body()?, key).await
            }
            Kind::ApprovalDecide => {
                let id: ApprovalId = request.take("approval_id")?;
                commands::decide(app, cx, id, request.body()?, key).await
            }
        };
        reply.map(|reply| reply.json)
    }

    async fn subscribe(&mut self, request: &mut Request) -> Result<Value, Problem> {
        let frames::Subscribe { run_id, after } = request.body()?;
        let max = limits::WEBSOCKET_SUBSCRIPTIONS_MAX;
        if !self.listening.has_room_for(run_id) {
            let detail = format!("a connection has at most {max} subscriptions; unsubscribe first");
            return Err(Problem::new(&code::OVERLOADED, detail));
        }
        let permit = self.app.authorizer().read(&self.caller.cx)?;
        let subscription = self.app.orchestrator().subscribe(&permit, run_id, after).await;
        let subscription = subscription.map_err(refused)?.ok_or_else(no_run)?;
        // Subscribing again moves the cursor: the older subscription is dropped.
        self.listening.add(subscription);
        Ok(json!({ "run_id": run_id, "after": after }))
    }

    fn unsubscribe(&mut self, request: &mut Request) -> Result<Value, Problem> {
        let frames::OneRun { run_id } = request.body()?;
        let was_subscribed = self.listening.remove(run_id);
        Ok(json!({ "run_id": run_id, "was_subscribed": was_subscribed }))
    }
}

/// Waits until the caller's token no longer gives what it gave. However many changes come at once,
/// and whatever was missed, what counts is how it stands now.
async fn until_revoked(app: App, caller: Caller) {
    // Watched first, asked then: what changed since the handshake is not missed.
    let mut tokens = app.tokens().watch();
    while app.still_stands(&caller) {
        if tokens.changed().await.is_err() {
            return;
        }
    }
}

/// The idempotency of a frame; its fingerprint covers what is asked and every field.
fn key_of(kind: Kind, request: &Request) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = &request.key else { return Ok(None) };
    if !is_key(key) {
        return Err(key_invalid());
    }
    let fields = serde_json::to_vec(&request.fields).unwrap_or_default();
    let fingerprint = fingerprint(&axum::http::Method::POST, kind.as_str(), &fields);
    Ok(Some(Idempotency { key: key.clone(), fingerprint }))
}

fn written_frame(run_id: RunId, live: &Live) -> Option<String> {
    match live {
        Live::Frame(Frame::Event(event)) => frames::event(event),
        Live::Frame(Frame::Ephemeral(frame)) => frames::ephemeral(frame),
        Live::Frame(Frame::Resync { after }) => Some(frames::resync(run_id, *after)),
        Live::Ended => None,
        Live::Failed { after } => Some(frames::ended(run_id, *after, code::UNAVAILABLE.name)),
    }
}

fn pinger() -> Interval {
    let mut ping = interval(PING_EVERY);
    ping.reset();
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Goodbye> {
    reach(Point::SocketSendBefore).await.map_err(|_injected| Goodbye::GONE)?;
    bounded(socket.send(message)).await?;
    reach(Point::SocketSendAfter).await.map_err(|_injected| Goodbye::GONE)
}

/// A client that takes nothing for so long is told to come back.
async fn bounded(sent: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Goodbye> {
    match timeout(WEBSOCKET_SEND_WAIT, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Goodbye::GONE),
        Err(_) => {
            metrics::counter!("agent_runtime_slow_clients_total").increment(1);
            tracing::info!("a WebSocket client does not read; it is told to come back");
            Err(Goodbye::SLOW)
        }
    }
}

fn of_error(error: axum::Error) -> Goodbye {
    use tungstenite::Error as E;
    match error.into_inner().downcast_ref::<E>() {
        Some(E::Capacity(_)) => Goodbye::TOO_LARGE,
        Some(E::Protocol(_) | E::Utf8(_)) => Goodbye::BROKEN,
        Some(_) | None => Goodbye::GONE,
    }
}
