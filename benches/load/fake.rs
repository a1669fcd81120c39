//! A language model that answers at once: OpenAI's streaming format over plain sockets, on a
//! thread of its own, as cheap as can be, so that what is measured is the daemon.
//!
//! The script stands in the user's message: `script:answer`, `script:file`, `script:exec`,
//! `script:hang`, `script:tick:COUNT:MILLIS`, `script:write:NAME`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// What the model has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: AtomicU64,
    /// Time between a whole request and its written answer, in nanoseconds.
    pub(crate) nanos: AtomicU64,
    /// Requests that hang.
    pub(crate) hanging: AtomicU64,
}

/// The fake service.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Fake {
    /// Starts it on a thread that lives as long as the process.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("fake-llm".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            });
        })?;
        Ok(Self { addr, seen })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Requests and the time spent on them so far.
    pub(crate) fn spent(&self) -> (u64, Duration) {
        let nanos = self.seen.nanos.load(Ordering::Relaxed);
        (self.seen.requests.load(Ordering::Relaxed), Duration::from_nanos(nanos))
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>) {
    // A client that is gone ends its task, nothing else.
    drop(stream.set_nodelay(true));
    let mut buffer = Vec::with_capacity(8 << 10);
    loop {
        let Some(length) = read_request(&mut stream, &mut buffer).await else { return };
        let began = Instant::now();
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let request = buffer.get(..length).unwrap_or_default();
        let answer = match answer(request) {
            Answer::Now(answer) => answer,
            Answer::After(wait, answer) => {
                tokio::time::sleep(wait).await;
                answer
            }
            Answer::Never => {
                seen.hanging.fetch_add(1, Ordering::Relaxed);
                let mut rest = [0; 64];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
                seen.hanging.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(0);
        seen.nanos.fetch_add(nanos, Ordering::Relaxed);
        buffer.drain(..length);
    }
}

/// Reads one whole request; its length in the buffer, head and body.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let length = head + 4 + content_length(buffer.get(..head)?)?;
            if buffer.len() >= length {
                return Some(length);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The value of `content-length`, any case.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

pub(crate) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

enum Answer {
    Now(Vec<u8>),
    After(Duration, Vec<u8>),
    Never,
}

fn answer(request: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(request);
    let script = text.rsplit_once("script:").map_or("answer", |(_, rest)| rest);
    let script = script.split('"').next().unwrap_or_default();
    let results = text.matches(r#""role":"tool""#).count();
    let mut words = script.split(':');
    match words.next().unwrap_or_default() {
        "hang" => Answer::Never,
        "file" if results == 0 => Answer::Now(call("read_file", r#"{\"path\":\"note.txt\"}"#)),
        "exec" if results == 0 => Answer::Now(call("exec", r#"{\"argv\":[\"/bin/true\"]}"#)),
        "write" if results == 0 => {
            let name = words.next().unwrap_or_default();
            let script = format!("while :; do echo . >> mark-{name}; sleep 0.05; done");
            let args = format!(r#"{{\"argv\":[\"/bin/sh\",\"-c\",\"{script}\"]}}"#);
            Answer::Now(call("exec", &args))
        }
        "tick" => {
            let mut number = || words.next().and_then(|w| w.parse().ok()).unwrap_or(0_u64);
            let (count, wait) = (number(), Duration::from_millis(number()));
            let is_done = u64::try_from(results).unwrap_or(u64::MAX) >= count;
            let answer =
                if is_done { done() } else { call("read_file", r#"{\"path\":\"note.txt\"}"#) };
            Answer::After(wait, answer)
        }
        _ => Answer::Now(done()),
    }
}

fn done() -> Vec<u8> {
    let delta = r#"{"role":"assistant","content":"done"}"#;
    stream(delta, "stop")
}

fn call(tool: &str, args: &str) -> Vec<u8> {
    let delta = format!(
        r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"c0","type":"function","function":{{"name":"{tool}","arguments":"{args}"}}}}]}}"#
    );
    stream(&delta, "tool_calls")
}

fn stream(delta: &str, finish: &str) -> Vec<u8> {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\
             \"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let body = format!(
        "{}{}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":5}}}}\
         \n\ndata: [DONE]\n\n",
        chunk(delta, "null"),
        chunk("{}", &format!("\"{finish}\"")),
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    format!("{head}{body}").into_bytes()
}
