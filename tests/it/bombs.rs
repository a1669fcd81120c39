//! A real daemon beside programs that take all they can get: it answers at once, other runs come
//! to their end, and what the bomb took is given back.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    scenes::{is_alive, provider, sh},
    support::{
        daemon::{Daemon, PATIENCE},
        fake_llm::Turn,
    },
};

/// Longest that an answer may take; usually it is a few milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Bombs at the same time: as many as there are processors, and more.
const AT_ONCE: usize = 3;

/// Each goes on until it is ended, and carries its name as an argument, so that its processes can be
/// found from outside.
const BOMBS: [(&str, &str); 6] = [
    (
        "bomb-forks",
        "import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
  try: os.fork()
  except OSError: pass",
    ),
    (
        "bomb-memory",
        "import time
x = []
while True:
  try: x.append(bytearray(b'1') * (16 << 20))
  except MemoryError: time.sleep(0.01)",
    ),
    (
        "bomb-output",
        "import os
while True: os.write(1, b'y\\n' * 30000)",
    ),
    (
        "bomb-disk",
        "import itertools, os
for i in itertools.count():
  with open(f'd{i}-{os.getpid()}', 'wb') as f: f.write(b'1' * (4 << 20))",
    ),
    (
        "bomb-files",
        "import itertools
for i in itertools.count(): open(f'f{i}', 'w').close()",
    ),
    (
        "bomb-processor",
        "import os
os.fork(); os.fork()
while True: pass",
    ),
];

const LIMITS: &str = r"
[agents.open.tool_limits]
wall_secs = 4
cpu_secs = 3
memory_bytes = 402653184
memory_total_bytes = 268435456
workspace_bytes = 134217728
workspace_inodes = 5000
processes = 64
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_answers_and_other_runs_go_on_during_every_bomb() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), LIMITS);
    daemon.run().await;
    let calm = slowest_answer(&daemon, Duration::from_millis(500)).await;
    println!("{:<10} slowest answer {calm:?}", "calm");
    for (name, code) in BOMBS {
        let bomb = json!({"argv": ["python3", "-c", code, name]});
        let workspace = daemon.workspace("open");
        let mut runs = Vec::new();
        for n in 0..AT_ONCE {
            let told = format!("{name}-{n}");
            fake.script(&told, vec![Turn::call("exec", &bomb), Turn::text("done")]);
            runs.push(daemon.submit("open", &format!("script:{told}")).await);
        }
        let begun = Instant::now();
        let slowest = slowest_answer(&daemon, Duration::from_millis(1_500)).await;
        // Another run, while they go on.
        let other = format!("{name}-other");
        fake.script(&other, vec![Turn::call("exec", &sh("echo fine")), Turn::text("done")]);
        let body = json!({"agent": "open", "input": format!("script:{other}")});
        let run = daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
        assert_eq!(run["state"], "succeeded", "{name}: {run:#}");
        let seen = fake.seen_of(&other);
        let results = seen.last().expect("a request").results();
        assert!(results.iter().any(|result| result.1.contains("fine")), "{name}");
        let mut limits = Vec::new();
        for run in runs {
            daemon.wait_for(&run, &["succeeded"]).await;
            let events = daemon.events(&run).await;
            let done = events.iter().find(|e| e["type"] == "tool.completed").expect("an outcome");
            limits.push(done["data"]["status"].as_str().unwrap_or_default().to_owned());
        }
        let ended = begun.elapsed();
        println!("{name:<10} slowest answer {slowest:?}, all ended after {ended:?} as {limits:?}");
        assert!(slowest < ANSWER_MAX, "{name}: {slowest:?}");
        assert!(
            limits.iter().all(|status| status == "limit" || status == "timeout"),
            "{name}: {limits:?}"
        );
        assert!(ended < PATIENCE, "{name}");
        let deadline = Instant::now() + PATIENCE;
        while is_alive(name) {
            assert!(Instant::now() < deadline, "{name}: a process is left");
            sleep(Duration::from_millis(20)).await;
        }
        for entry in std::fs::read_dir(&workspace).unwrap().flatten() {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Asks again and again for a while; the longest wait for an answer.
async fn slowest_answer(daemon: &Daemon, during: Duration) -> Duration {
    let mut slowest = Duration::ZERO;
    let end = Instant::now() + during;
    while Instant::now() < end {
        let begun = Instant::now();
        let answer = daemon.get("/healthz").await;
        assert!(answer.status.is_success(), "{}", answer.text);
        slowest = slowest.max(begun.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    slowest
}
