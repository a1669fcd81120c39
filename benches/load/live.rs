//! From commit to WebSocket: each client listens to its own runs while the model ticks.
//!
//! The start is the event's own time, taken in its transaction before the commit, so a figure
//! here holds the group commit too.

use std::{collections::HashMap, time::Duration};

use agent_runtime::{
    domain::{Clock, RunId, SystemClock, Timestamp},
    store::ReadOnlyStore,
};
use anyhow::{Context as _, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    Plan,
    client::{PATIENCE, body},
    daemon::{Daemon, TOKEN},
    fake::Fake,
    report::{Met, Report, Times, megabytes, millis, rate},
};

type Socket = WebSocketStream<TcpStream>;

async fn connect(daemon: &Daemon) -> anyhow::Result<Socket> {
    let addr = daemon.addr();
    let mut request = format!("ws://{addr}/api/v1/ws").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse()?);
    request.headers_mut().insert("sec-websocket-protocol", "agent-runtime.v1".parse()?);
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (socket, _) = timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await??;
    Ok(socket)
}

/// What a client saw: the run, the number of the event, and when.
type Sight = (RunId, u64, Timestamp);

/// Reads until every run that is listened to has ended.
async fn listen(mut socket: Socket, mut open: usize) -> anyhow::Result<Vec<Sight>> {
    let mut seen = Vec::new();
    while open > 0 {
        let frame = timeout(PATIENCE, socket.next()).await.context("a silent socket")?;
        let now = SystemClock.now();
        let Message::Text(text) = frame.context("the socket was closed")?? else { continue };
        let frame: serde_json::Value = serde_json::from_str(&text)?;
        let kind = frame["type"].as_str().unwrap_or_default();
        ensure!(kind != "reply" || frame["ok"] == true, "refused: {text}");
        let event = if frame["event"].is_object() { &frame["event"] } else { &frame };
        if let (Some(run), Some(seq)) = (event["run_id"].as_str(), event["seq"].as_u64()) {
            seen.push((run.parse()?, seq, now));
        }
        open -= usize::from(text.contains("run.succeeded"));
    }
    Ok(seen)
}

/// The cost of a socket that says nothing, and the shortest way there and back.
async fn round_trip(daemon: &Daemon) -> anyhow::Result<Times> {
    let mut socket = connect(daemon).await?;
    let mut times = Vec::new();
    for n in 0..200 {
        let began = Instant::now();
        socket.send(Message::text(format!(r#"{{"id":"p{n}","type":"ping"}}"#))).await?;
        loop {
            let frame = timeout(PATIENCE, socket.next()).await?.context("closed")??;
            if matches!(&frame, Message::Text(text) if text.contains(&format!("\"p{n}\""))) {
                break;
            }
        }
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

struct Shape {
    sockets: usize,
    runs_each: usize,
    ticks: u32,
    millis: u32,
}

async fn one(report: &mut Report, daemon: &Daemon, shape: &Shape) -> anyhow::Result<()> {
    let Shape { sockets, runs_each, ticks, millis: wait } = *shape;
    let floor = round_trip(daemon).await?;
    let before = daemon.used();
    let mut connected = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        connected.push(connect(daemon).await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let idle = daemon.used().rss.saturating_sub(before.rss) / u64::try_from(sockets)?;
    let body = body(&format!("tick:{ticks}:{wait}"));
    let mut creator = daemon.client().await?;
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    // Spread over one period of the ticks, so that they do not all fall on one moment.
    let pause = Duration::from_millis(u64::from(wait)) / u32::try_from(sockets)?;
    for mut socket in connected {
        for _ in 0..runs_each {
            let answer = creator.post("/api/v1/runs", &body).await?;
            let id = answer.json()?["id"].as_str().context("an id")?.to_owned();
            let frame = format!(r#"{{"id":"s","type":"subscribe","run_id":"{id}","after":0}}"#);
            socket.send(Message::text(frame)).await?;
        }
        tasks.spawn(listen(socket, runs_each));
        tokio::time::sleep(pause).await;
    }
    let mut seen = Vec::new();
    while let Some(done) = tasks.join_next().await {
        seen.extend(done??);
    }
    let span = began.elapsed();
    let times = latencies(daemon, &seen).await?;
    let clients = sockets * runs_each;
    report.row(
        format!("commit → WebSocket, {sockets} sockets, {clients} runs followed"),
        format!("{} at {:.0} events/s", times.show(), rate(times.count(), span)),
        format!("ping → reply {}", floor.show()),
        "p50 ≤ 1 ms, p99 ≤ 25 ms",
        Met::of(
            times.p50() <= Duration::from_millis(1) && times.p99() <= Duration::from_millis(25),
        ),
    );
    report.row(
        format!("memory per idle WebSocket, {sockets} sockets"),
        format!("{:.1} KB", idle as f64 / 1e3),
        format!("daemon before: RSS {}", megabytes(before.rss)),
        "≤ 25 KB",
        Met::of(idle <= 25_000),
    );
    eprintln!("    p90 {}, worst {}", millis(times.percentile(90)), millis(times.percentile(100)));
    Ok(())
}

/// Pairs what was seen with the times that were stored.
async fn latencies(daemon: &Daemon, seen: &[Sight]) -> anyhow::Result<Times> {
    let store = ReadOnlyStore::open(&daemon.data_dir(), &daemon.place().database()?).await?;
    let mut reader = store.read().await?;
    let mut stored = HashMap::new();
    let mut times = Vec::with_capacity(seen.len());
    for (run, seq, at) in seen {
        if !stored.contains_key(run) {
            stored.insert(*run, reader.events().of_run(*run, 0, 500).await?);
        }
        let events = &stored[run];
        let event = events.iter().find(|e| e.seq == *seq).context("an event that is not stored")?;
        // The first two were stored before anybody could listen.
        if *seq > 2 {
            times.push(at.since(event.at));
        }
    }
    Ok(Times::new(times))
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let small = Shape { sockets: 200, runs_each: 1, ticks: plan.pick(4, 2), millis: 800 };
    one(report, &Daemon::start(fake).await?, &small).await?;
    // 500 sockets are the daemon's bound; two runs each make a thousand listeners.
    let large = Shape { sockets: 480, runs_each: 2, ticks: plan.pick(2, 1), millis: 4_000 };
    one(report, &Daemon::start(fake).await?, &large).await
}
