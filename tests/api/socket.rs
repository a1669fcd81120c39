//! WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderValue, Response},
        protocol::frame::coding::CloseCode,
    },
};

use crate::support::daemon::{ADMIN, ALICE, BOB, Daemon, OPERATOR, PATIENCE, VIEWER};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a socket with these headers.
async fn open(
    daemon: &Daemon,
    headers: &[(&'static str, String)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let url = format!("{}/api/v1/ws", daemon.base().replace("http://", "ws://"));
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a header");
        request.headers_mut().insert(*name, value);
    }
    connect_async(request).await
}

async fn signed_in(daemon: &Daemon, token: &str) -> Socket {
    let headers = [("authorization", format!("Bearer {token}"))];
    let (mut socket, _) = open(daemon, &headers).await.expect("a socket");
    let hello = next(&mut socket).await;
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["limits"]["messages_per_minute"], 600);
    socket
}

/// As [`signed_in`], with so little room in the kernel that the daemon soon waits for us to read.
async fn narrow(daemon: &Daemon) -> Socket {
    let address = daemon.base().trim_start_matches("http://").parse().expect("an address");
    let stream = TcpSocket::new_v4().expect("a socket");
    stream.set_recv_buffer_size(4_096).expect("a small buffer");
    let stream = stream.connect(address).await.expect("a connection");
    let url = format!("ws://{address}/api/v1/ws");
    let mut request = url.into_client_request().expect("a request");
    let bearer = HeaderValue::from_str(&format!("Bearer {ADMIN}")).expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let opened = client_async(request, MaybeTlsStream::Plain(stream)).await;
    let (mut socket, _) = opened.expect("a socket");
    assert_eq!(next(&mut socket).await["type"], "hello");
    socket
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("a frame in time");
        match message.expect("an open socket").expect("a frame") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.expect("it is sent");
}

/// Sends a frame and waits for its reply; what else comes is put into `events`.
async fn ask(socket: &mut Socket, frame: &Value, events: &mut Vec<Value>) -> Value {
    send(socket, frame).await;
    loop {
        let got = next(socket).await;
        if got["type"] == "reply" && got["id"] == frame["id"] {
            return got;
        }
        events.push(got);
    }
}

/// The close code, past whatever comes before it.
async fn closed(socket: &mut Socket) -> CloseCode {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a close in time") {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code,
            Some(Ok(_)) => {}
            other => panic!("no close frame: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_run_is_created_followed_and_decided_over_one_socket() {
    let daemon = Daemon::start("").await;
    let mut socket = signed_in(&daemon, ADMIN).await;
    let mut events = Vec::new();
    let frame =
        json!({"id": "c1", "type": "run.create", "agent": "careful", "input": "run echo hi"});
    let reply = ask(&mut socket, &frame, &mut events).await;
    assert_eq!((&reply["ok"], &reply["data"]["agent"]), (&json!(true), &json!("careful")));
    let run = reply["data"]["id"].clone();
    let frame = json!({"id": "c2", "type": "subscribe", "run_id": run, "after": 0});
    assert_eq!(ask(&mut socket, &frame, &mut events).await["ok"], true);
    let approval = loop {
        let event = next(&mut socket).await;
        assert_eq!(event["type"], "event");
        events.push(event.clone());
        if event["event"] == "approval.requested" {
            break event["data"]["id"].clone();
        }
    };
    let frame = json!({"id": "c3", "type": "approval.decide", "approval_id": approval, "decision": "deny", "reason": "not now"});
    let reply = ask(&mut socket, &frame, &mut events).await;
    assert_eq!(reply["data"]["state"], "denied", "{reply}");
    let frame = json!({"id": "c4", "type": "approval.decide", "approval_id": approval, "decision": "approve"});
    let reply = ask(&mut socket, &frame, &mut events).await;
    assert_eq!(
        (&reply["ok"], &reply["problem"]["code"]),
        (&json!(false), &json!("approval.stale"))
    );
    while !events.iter().any(|e| e["event"] == "run.succeeded" || e["event"] == "run.failed") {
        events.push(next(&mut socket).await);
    }
    let seqs: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    let count = u64::try_from(seqs.len()).unwrap();
    assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "no gap, no repeat");
    let frame = json!({"id": "c5", "type": "ping"});
    assert_eq!(ask(&mut socket, &frame, &mut events).await["ok"], true);
}

#[tokio::test]
async fn a_bad_frame_gets_a_problem_and_the_socket_stays_open() {
    let daemon = Daemon::start("").await;
    let theirs = daemon.submit("open", "hello").await;
    let mut socket = signed_in(&daemon, ALICE).await;
    let mut events = Vec::new();
    for (frame, code) in [
        (json!({"id": "1", "type": "dance"}), "request.invalid"),
        (json!({"id": "2"}), "request.invalid"),
        (json!({"id": "3", "type": "subscribe", "run_id": theirs}), "run.not_found"),
        (json!({"id": "4", "type": "run.cancel", "run_id": theirs}), "run.not_found"),
        (
            json!({"id": "5", "type": "run.create", "agent": "closed", "input": "x"}),
            "auth.forbidden",
        ),
        (
            json!({"id": "6", "type": "run.create", "agent": "open", "input": "x", "y": 1}),
            "request.invalid",
        ),
        (json!({"id": "7", "type": "run.cancel"}), "request.invalid"),
    ] {
        let reply = ask(&mut socket, &frame, &mut events).await;
        assert_eq!(reply["problem"]["code"], code, "{frame}");
    }
    for raw in ["{", "[]", "7"] {
        socket.send(Message::text(raw)).await.expect("it is sent");
        assert_eq!(next(&mut socket).await["ok"], false, "{raw}");
    }
    assert_eq!(
        ask(&mut socket, &json!({"id": "8", "type": "ping"}), &mut events).await["ok"],
        true
    );
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test]
async fn a_token_comes_in_a_header_a_subprotocol_or_the_first_frame() {
    let daemon = Daemon::start("").await;
    let offer = format!("agent-runtime.v1, bearer.{BOB}");
    let (mut socket, response) =
        open(&daemon, &[("sec-websocket-protocol", offer)]).await.expect("a socket");
    assert_eq!(response.headers()["sec-websocket-protocol"], "agent-runtime.v1");
    assert_eq!(next(&mut socket).await["principal"]["name"], "bob");

    let (mut socket, _) = open(&daemon, &[]).await.expect("a socket");
    assert_eq!(next(&mut socket).await, json!({"type": "auth_required"}));
    send(&mut socket, &json!({"type": "auth", "token": BOB})).await;
    assert_eq!(next(&mut socket).await["principal"]["name"], "bob");

    let (mut socket, _) = open(&daemon, &[]).await.expect("a socket");
    assert_eq!(next(&mut socket).await["type"], "auth_required");
    send(&mut socket, &json!({"id": "c1", "type": "ping"})).await;
    assert_eq!(closed(&mut socket).await, CloseCode::Policy);

    let (mut socket, _) = open(&daemon, &[]).await.expect("a socket");
    assert_eq!(next(&mut socket).await["type"], "auth_required");
    send(&mut socket, &json!({"type": "auth", "token": "wrong"})).await;
    assert_eq!(closed(&mut socket).await, CloseCode::Policy);

    for headers in [
        [("authorization", "Bearer wrong".to_owned()), ("x-a", String::new())],
        [("origin", "https://evil.example".to_owned()), ("authorization", format!("Bearer {BOB}"))],
        [("host", "evil.example".to_owned()), ("authorization", format!("Bearer {BOB}"))],
        [
            ("sec-websocket-protocol", "other.v9".to_owned()),
            ("authorization", format!("Bearer {BOB}")),
        ],
    ] {
        let refused = open(&daemon, &headers).await.expect_err("it is refused");
        let Error::Http(response) = refused else { panic!("{refused:?}") };
        assert!([401, 403, 426].contains(&response.status().as_u16()), "{headers:?}");
    }
}

#[tokio::test]
async fn silence_too_much_and_too_often_are_told_by_their_close_codes() {
    let daemon = Daemon::start("").await;
    let (mut silent, _) = open(&daemon, &[]).await.expect("a socket");
    let mut large = signed_in(&daemon, ADMIN).await;
    large.send(Message::text("x".repeat(2 << 20))).await.ok();
    assert_eq!(closed(&mut large).await, CloseCode::Size);
    let mut often = signed_in(&daemon, ADMIN).await;
    for _ in 0..=600 {
        often.send(Message::text("{\"type\":\"ping\"}")).await.expect("it is sent");
    }
    assert_eq!(closed(&mut often).await, CloseCode::Policy);
    assert_eq!(closed(&mut silent).await, CloseCode::Policy);
}

/// Waits until the daemon can write no more to this client: its send queue is long and stays as it
/// is.
async fn blocked(daemon: &Daemon, socket: &Socket) {
    let MaybeTlsStream::Plain(stream) = socket.get_ref() else { panic!("no TLS here") };
    let ours = stream.local_addr().expect("an address").port();
    let (_, theirs) = daemon.base().rsplit_once(':').expect("a port");
    let theirs: u16 = theirs.parse().expect("a port");
    let deadline = Instant::now() + PATIENCE;
    let mut before = 0;
    loop {
        assert!(Instant::now() < deadline, "the daemon is never blocked");
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Columns of proc_net_tcp(5): number, local, remote, state, tx_queue:rx_queue, in hex.
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
        let queue = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|l| {
            l.len() > 4
                && l[1].ends_with(&format!(":{theirs:04X}"))
                && l[2].ends_with(&format!(":{ours:04X}"))
        });
        let sent = queue.and_then(|l| l[4].split_once(':')).map_or("0", |(sent, _)| sent);
        let sent = u64::from_str_radix(sent, 16).expect("a number");
        // What the daemon lets the kernel keep of a connection is some hundred kilobytes.
        if sent > 64 << 10 && sent == before {
            return;
        }
        before = sent;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_place_but_no_event() {
    let daemon = Daemon::start("").await;
    let mut socket = narrow(&daemon).await;
    let run = daemon.submit("careful", "run echo hi").await;
    daemon.wait_for(&run, &["awaiting_approval"]).await;
    let mut events = Vec::new();
    let frame = json!({"id": "c1", "type": "subscribe", "run_id": run});
    ask(&mut socket, &frame, &mut events).await;
    // More than the kernel's buffers hold, from runs that have ended: the daemon waits for us.
    let body = json!({"agent": "open", "input": "x".repeat(400_000)});
    let mut unread = Vec::new();
    for _ in 0..20 {
        let other = daemon.post("/api/v1/runs?wait=20", &body).await.expect(200);
        unread.push(other["id"].clone());
    }
    for id in &unread {
        send(&mut socket, &json!({"id": "more", "type": "subscribe", "run_id": id})).await;
    }
    blocked(&daemon, &socket).await;
    // More than the bytes that one subscription may lag behind.
    for _ in 0..12 {
        let steer = json!({"input": "y".repeat(300_000)});
        daemon.post(&format!("/api/v1/runs/{run}/steer"), &steer).await.expect(202);
    }
    let last = daemon.run_of(&run).await["seq"].as_u64();
    while events.iter().all(|e| e["run_id"] != run.as_str() || e["seq"].as_u64() != last) {
        events.push(next(&mut socket).await);
    }
    let resync = |e: &&Value| e["type"] == "resync" && e["run_id"] == run.as_str();
    let after = events.iter().find(resync).expect("a resync")["after"].as_u64();
    assert!(after < last, "{after:?} < {last:?}");
    let own = events.iter().filter(|e| e["run_id"] == run.as_str());
    let seqs: Vec<u64> = own.filter_map(|e| e["seq"].as_u64()).collect();
    let count = u64::try_from(seqs.len()).unwrap();
    assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "no gap, no repeat");
}

#[tokio::test]
async fn the_five_hundred_and_first_socket_is_told_to_come_back() {
    let daemon = Daemon::start("").await;
    let mut sockets = Vec::new();
    // Nobody may have more than half of them.
    for token in [ADMIN, OPERATOR].repeat(250) {
        sockets.push(signed_in(&daemon, token).await);
    }
    let headers = [("authorization", format!("Bearer {VIEWER}"))];
    let (mut full, _) = open(&daemon, &headers).await.expect("a socket");
    assert_eq!(closed(&mut full).await, CloseCode::Again);
    drop(sockets.pop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(signed_in(&daemon, VIEWER).await);
}

#[tokio::test]
async fn a_stopping_daemon_says_so_and_the_client_reads_on_after_its_restart() {
    let mut daemon = Daemon::start("").await;
    let id = daemon.submit("careful", "run echo hi").await;
    let mut socket = signed_in(&daemon, ADMIN).await;
    let mut events = Vec::new();
    let frame = json!({"id": "c1", "type": "subscribe", "run_id": id, "after": 0});
    ask(&mut socket, &frame, &mut events).await;
    while !events.iter().any(|e| e["event"] == "approval.requested") {
        events.push(next(&mut socket).await);
    }
    daemon.signal(15);
    assert_eq!(closed(&mut socket).await, CloseCode::Away);
    assert_eq!(daemon.exit_code().await, Some(0));

    daemon.run().await;
    let mut socket = signed_in(&daemon, ADMIN).await;
    let last = events.iter().filter_map(|e| e["seq"].as_u64()).max();
    let frame = json!({"id": "c2", "type": "subscribe", "run_id": id, "after": last});
    ask(&mut socket, &frame, &mut events).await;
    let approvals = daemon.pending(&id).await;
    daemon.decide(&approvals[0], &json!({"decision": "deny"})).await.expect(200);
    while !events.iter().any(|e| e["event"] == "run.succeeded" || e["event"] == "run.failed") {
        events.push(next(&mut socket).await);
    }
    let seqs: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    let count = u64::try_from(seqs.len()).unwrap();
    assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "no gap and no repeat through a restart");
}
