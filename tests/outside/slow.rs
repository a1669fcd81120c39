//! (i) Clients that do not read. Many WebSockets listen, each to a run of its own, and one in a
//! hundred never reads; some event streams are not read either. The daemon's memory stays bounded,
//! everybody else gets every durable event in order, and who was cut off comes back and misses
//! nothing.
//!
//! `AGENT_RUNTIME_TEST_SOCKETS` (600) WebSockets. Long: `5000`.

use std::{fs, time::Duration};

use futures_util::{StreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    dice::{count, seed},
    load,
    support::{
        daemon::{ADMIN, Daemon, PATIENCE},
        fake_llm::{FakeLlm, Turn},
        live::{Heard, Sse, Ws, is_terminal},
    },
};

/// Bytes of one answer of a run that says much, and how many there are: more than what the kernel
/// keeps for a connection that nobody reads.
const MUCH: (usize, usize) = (100_000, 8);
/// Event streams that nobody reads.
const STREAMS: usize = 4;
/// Receive buffer of who does not read.
const WINDOW: u32 = 4_096;
/// How long the daemon waits for a client, and then for its farewell.
const CUT: Duration = Duration::from_secs(20);

fn provider() -> FakeLlm {
    let fake = load::provider();
    let much = Turn::call("list_files", &json!({}));
    let much = Turn { text: "much ".repeat(MUCH.0 / 5), ..much };
    let mut turns = vec![much; MUCH.1];
    turns.push(Turn::text("done"));
    fake.script("much", turns);
    let little = Turn::call("list_files", &json!({}));
    fake.script("little", [little.clone(), little, Turn::text("done")]);
    fake
}

fn limits(sockets: usize) -> String {
    format!(
        "[limits]\nconnections = {}\nconnections_per_address = {}\nwebsockets = {}\n\
         websockets_per_principal = {}\nrequests_per_minute_per_principal = 0\n\
         requests_per_minute_per_address = 0\nqueued_runs_per_principal = 10000\n\
         model_requests_per_minute_per_principal = 0\n",
        2 * sockets + 500,
        2 * sockets + 500,
        sockets + 100,
        sockets + 100,
    )
}

/// As many open files as sockets here and in the daemon need, which inherits it.
fn raise_open_files(wanted: u64) {
    let now = getrlimit(Resource::Nofile);
    let has = now.current.unwrap_or(u64::MAX);
    if has < wanted {
        let maximum = now.maximum.map(|maximum| maximum.max(wanted));
        let raised = Rlimit { current: Some(wanted), maximum };
        setrlimit(Resource::Nofile, raised).expect("this test needs many open files");
    }
}

/// The daemon's memory, in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// What a client has seen of its run, each durable event once and in order.
#[derive(Debug, Default)]
struct Seen {
    last: u64,
    has_ended: bool,
}

impl Seen {
    #[track_caller]
    fn take(&mut self, seq: Option<u64>, kind: &str) {
        let Some(seq) = seq else { return };
        assert_eq!(seq, self.last + 1, "an event is missing or came twice");
        self.last = seq;
        self.has_ended = is_terminal(kind);
    }

    /// Reads to the end of the run or of the connection; how that was closed.
    async fn read(&mut self, ws: &mut Ws) -> Option<u16> {
        while !self.has_ended {
            match ws.hear().await {
                Heard::Frame(frame) if frame["type"] == "event" => {
                    let kind = frame["event"].as_str().unwrap_or_default();
                    self.take(frame["seq"].as_u64(), kind);
                }
                Heard::Frame(_) => {}
                Heard::Closed(code) => return code,
            }
        }
        None
    }
}

async fn subscribe(ws: &mut Ws, run: &str, after: u64) {
    ws.send(&json!({"id": "s", "type": "subscribe", "run_id": run, "after": after})).await;
}

async fn create(daemon: &Daemon, script: &str) -> String {
    daemon.submit("reader_of_all", &format!("script:{script}")).await
}

/// What a scene came to.
#[derive(Debug)]
struct Came {
    /// Most memory while everybody listened, less what there was before, in KiB.
    grown: u64,
    /// Sockets that were closed with each code before their run had ended.
    cut: Vec<Option<u16>>,
    /// Of these who came back and saw the rest.
    back: usize,
}

/// Those who did not read do so now: what was under way, then why it ends. And they come back. How
/// each was closed, and how many saw the rest.
async fn look_again(
    daemon: &Daemon,
    stuck: Vec<(Ws, String)>,
    streams: Vec<(Sse, String)>,
) -> (Vec<Option<u16>>, usize) {
    let (mut cut, mut back) = (Vec::new(), 0);
    for (mut ws, run) in stuck {
        let mut seen = Seen::default();
        cut.push(seen.read(&mut ws).await);
        assert!(!seen.has_ended, "everything fitted into the buffers: nobody was slow");
        let mut again = Ws::open(daemon, ADMIN).await;
        subscribe(&mut again, &run, seen.last).await;
        assert_eq!(seen.read(&mut again).await, None);
        back += 1;
    }
    for (mut stream, run) in streams {
        let mut seen = Seen::default();
        while let Some(event) = stream.next().await {
            seen.take(event.id, &event.kind);
        }
        if !seen.has_ended {
            let mut again = Sse::open(daemon, ADMIN, &run, seen.last).await;
            while let Some(event) = again.next().await {
                seen.take(event.id, &event.kind);
            }
        }
        assert!(seen.has_ended, "a stream ends before its run");
    }
    (cut, back)
}

/// Everybody listens; `reads`: so do those who otherwise do not.
async fn scene(fake: &FakeLlm, sockets: usize, reads: bool) -> Came {
    let agent = "[agents.reader_of_all]\nsystem_prompt = \"test\"\ntools = [\"list_files\"]\n\
                 [agents.reader_of_all.limits]\nmax_tokens = 100000000\n";
    let more = format!("{agent}{}", limits(sockets));
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let before = resident(&daemon);
    let slow = (sockets / 100).max(1);
    let mut all = Vec::with_capacity(sockets);
    for n in 0..sockets {
        let window = (n < slow).then_some(WINDOW);
        all.push(Ws::open_with(&daemon, ADMIN, window).await);
    }
    let runs: Vec<String> = stream::iter(0..sockets)
        .map(|n| create(&daemon, if n < slow { "much" } else { "little" }))
        .buffered(16)
        .collect()
        .await;
    let mut readers = JoinSet::new();
    let mut stuck = Vec::new();
    for (n, (mut ws, run)) in all.into_iter().zip(runs).enumerate() {
        subscribe(&mut ws, &run, 0).await;
        if n < slow && !reads {
            stuck.push((ws, run));
            continue;
        }
        let listen = async move {
            let mut seen = Seen::default();
            let code = seen.read(&mut ws).await;
            assert!(seen.has_ended, "closed with {code:?} behind event {}", seen.last);
        };
        readers.spawn(listen);
    }
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let run = create(&daemon, "much").await;
        streams.push((Sse::open(&daemon, ADMIN, &run, 0).await, run));
    }
    if reads {
        for (mut stream, _) in streams.drain(..) {
            readers.spawn(async move {
                let mut seen = Seen::default();
                while let Some(event) = stream.next().await {
                    seen.take(event.id, &event.kind);
                }
                assert!(seen.has_ended);
            });
        }
    }

    let mut most = 0;
    let everybody = async {
        while let Some(done) = readers.join_next().await {
            done.expect("a client that saw everything");
        }
    };
    let deadline = Instant::now() + CUT + 2 * PATIENCE;
    let watch = async {
        loop {
            most = most.max(resident(&daemon));
            let told = daemon.log().matches("a WebSocket client does not read").count();
            let open = load::list(&daemon, "/api/v1/runs?state=running&limit=5").await.len()
                + load::list(&daemon, "/api/v1/runs?state=queued&limit=5").await.len();
            if told == stuck.len() && open == 0 {
                return;
            }
            let is_late = Instant::now() > deadline;
            assert!(!is_late, "{told} of {} were cut, {open} runs are open", stuck.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::join!(everybody, watch);
    most = most.max(resident(&daemon));

    let (cut, back) = look_again(&daemon, stuck, streams).await;
    assert_eq!(daemon.stop().await, Some(0));
    if !reads {
        load::read_and_check(&daemon.data_dir()).await.check_settled();
    }
    Came { grown: most.saturating_sub(before), cut, back }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_cost_little_and_nobody_else_anything() {
    let sockets = count("AGENT_RUNTIME_TEST_SOCKETS", 600);
    seed();
    raise_open_files(4 * sockets as u64 + 4_096);
    let fake = provider();
    let with_all_reading = scene(&fake, sockets, true).await;
    let came = scene(&fake, sockets, false).await;
    let slow = came.cut.len();
    let told = came.cut.iter().filter(|code| **code == Some(1013)).count();
    println!(
        "{sockets} WebSockets, {slow} and {STREAMS} streams that do not read: {} KiB more memory \
         than before, {} KiB when they read ({} %); {told} closed with 1013, {} came back",
        came.grown,
        with_all_reading.grown,
        came.grown * 100 / with_all_reading.grown.max(1),
        came.back,
    );
    // A queue of a mebibyte and what is being written, for each.
    let bound = with_all_reading.grown * 3 / 2 + (slow + STREAMS) as u64 * 1_536;
    assert!(came.grown <= bound, "{} KiB are more than {bound}", came.grown);
    assert_eq!((told, came.back), (slow, slow));
}
