//! `GET /api/v1/ws`: the handshake, and who gets in.

mod frames;
mod listening;
mod session;

use axum::{
    Extension,
    extract::{
        FromRequestParts, State, WebSocketUpgrade,
        ws::{Message, WebSocket, close_code},
    },
    http::{HeaderMap, Request, header},
    response::Response,
};
use tokio::time::timeout;

use super::{App, schema};
use crate::{
    http::kit::{
        Caller, Problem,
        edge::{Client, RequestId},
        limit::{SEND_WAIT, WEBSOCKET_AUTH_WAIT, WEBSOCKET_FRAME_BYTES_MAX},
        problem::code,
    },
    runtime::TaskKind,
};
pub use frames::COMMANDS;
use session::{Goodbye, Session, close};

/// The subprotocol that we speak.
const PROTOCOL: &str = "agent-runtime.v1";
/// Read buffer of one connection: the default of 128 KiB would be most of an idle one's memory.
const READ_BUFFER_BYTES: usize = 4_096;

/// Opens a WebSocket with subprotocol `agent-runtime.v1`.
#[utoipa::path(get, path = "/api/v1/ws", tag = "live",
    params(("Sec-WebSocket-Protocol" = Option<String>, Header,
        description = "`agent-runtime.v1`, and `bearer.<token>` where headers cannot be set")),
    responses((status = 101, description = "Frames as in the API contract"),
        (status = "default", body = schema::Problem)))]
pub(super) async fn connect(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Extension(client): Extension<Client>,
    caller: Option<Extension<Caller>>,
    request: Request<axum::body::Body>,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(&code::UPGRADE, format!("{}; use a WebSocket client", rejection.body_text()))
    })?;
    check_protocol(&parts.headers)?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(2 * WEBSOCKET_FRAME_BYTES_MAX)
        .max_message_size(WEBSOCKET_FRAME_BYTES_MAX)
        .max_frame_size(WEBSOCKET_FRAME_BYTES_MAX)
        .on_failed_upgrade(|error| tracing::debug!(%error, "a WebSocket did not open"));
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks().clone();
        // axum's own task only waits for the upgrade; the session is one that the daemon waits for.
        let caller = caller.map(|Extension(caller)| caller);
        let visitor = Visitor { app, request_id, client, caller };
        drop(tasks.spawn(TaskKind::Connection, |_| visitor.welcome(socket)));
        std::future::ready(())
    }))
}

/// Who offers protocols must offer ours; who offers none gets it anyway.
fn check_protocol(headers: &HeaderMap) -> Result<(), Problem> {
    let mut offers = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if offers.peek().is_none() || offers.any(|offer| offer == PROTOCOL) {
        return Ok(());
    }
    Err(Problem::new(&code::UPGRADE, format!("offer the subprotocol `{PROTOCOL}`")))
}

/// Somebody whose connection is open and who may not have said who they are.
struct Visitor {
    app: App,
    request_id: String,
    client: Client,
    caller: Option<Caller>,
}

impl Visitor {
    async fn welcome(self, mut socket: WebSocket) {
        let Self { app, request_id, client, caller } = self;
        let caller = match caller {
            Some(caller) => caller,
            None => match introduced(&app, &mut socket, client, &request_id).await {
                Ok(caller) => caller,
                Err(goodbye) => return close(&mut socket, &app, goodbye).await,
            },
        };
        let Some(share) = app.sockets_of().enter(caller.cx.principal.id) else {
            return close(&mut socket, &app, Goodbye::YOURS).await;
        };
        let Some(place) = app.sockets().enter() else {
            return close(&mut socket, &app, Goodbye::FULL).await;
        };
        metrics::gauge!("agent_runtime_websockets").increment(1.0);
        Box::pin(Session::new(app, caller).run(socket)).await;
        metrics::gauge!("agent_runtime_websockets").decrement(1.0);
        drop((place, share));
    }
}

/// Asks who this is; one answer, within five seconds.
async fn introduced(
    app: &App,
    socket: &mut WebSocket,
    client: Client,
    request_id: &str,
) -> Result<Caller, Goodbye> {
    let place = app.unknown_sockets().enter().ok_or(Goodbye::FULL)?;
    let ask = Message::text(frames::AUTH_REQUIRED);
    let asked = timeout(SEND_WAIT, socket.send(ask)).await;
    if !matches!(asked, Ok(Ok(()))) {
        return Err(Goodbye::GONE);
    }
    // `recv` is cancel-safe.
    let answer = tokio::select! {
        answer = timeout(WEBSOCKET_AUTH_WAIT, socket.recv()) => answer,
        () = app.stop().wait_soft() => return Err(Goodbye::DRAINING),
    };
    let presented = match answer {
        Ok(Some(Ok(Message::Text(text)))) => frames::token_of(&text),
        Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err(Goodbye::GONE),
        Ok(Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_)))) | Err(_) => None,
    };
    let presented = presented.as_ref().map(|token| token.expose().as_str());
    let recognised = app.edge().recognise(presented, client.0, request_id);
    drop(place);
    recognised.map_err(|problem| Goodbye {
        code: close_code::POLICY,
        reason: problem.code(),
        is_gone: false,
    })
}
