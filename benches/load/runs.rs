//! Whole runs through the API: rate, latency, processor time, refusals.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    daemon::{Daemon, Used, cpu_of, machine_busy},
    fake::Fake,
    place::{count_statements, is_postgres, show_statements},
    report::{Met, Report, Times, megabytes, millis, rate},
};

/// Wait of a client that was told to come back; shorter than `Retry-After`, to keep the pressure.
const COME_BACK: Duration = Duration::from_millis(100);

/// What a load did.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) times: Times,
    pub(crate) refused: usize,
    pub(crate) failed: usize,
    pub(crate) span: Duration,
    pub(crate) cpu: Duration,
    /// Of the database server.
    pub(crate) server: Duration,
    /// Model time per run.
    pub(crate) model: Duration,
    /// Share of the machine that tools and other programs used.
    pub(crate) others: f64,
    pub(crate) used: Used,
}

impl Load {
    pub(crate) fn rate(&self) -> f64 {
        rate(self.times.count(), self.span)
    }

    pub(crate) fn cpu_per_run(&self) -> Duration {
        self.per_run(self.cpu)
    }

    fn per_run(&self, time: Duration) -> Duration {
        time / u32::try_from(self.times.count().max(1)).unwrap_or(u32::MAX)
    }

    /// Processor time of a run, in the daemon and, where there is one, in the server.
    fn show_cpu(&self) -> String {
        let own = millis(self.cpu_per_run());
        if is_postgres() {
            format!("CPU {own} and {} in the server", millis(self.per_run(self.server)))
        } else {
            format!("CPU {own}")
        }
    }
}

/// Lets so many clients start one run after another for a while, each waiting for its end.
pub(crate) async fn load(
    daemon: &Daemon,
    fake: &Fake,
    script: &'static str,
    clients: usize,
    span: Duration,
) -> anyhow::Result<Load> {
    let mut connected = Vec::with_capacity(clients);
    for _ in 0..clients {
        connected.push(daemon.client().await?);
    }
    let (before, asked) = (daemon.used(), fake.spent());
    let (busy, own) = (machine_busy(), cpu_of(std::process::id()));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in connected {
        tasks.spawn(async move {
            let (mut times, mut refused, mut failed) = (Vec::new(), 0_usize, 0_usize);
            while began.elapsed() < span {
                let start = Instant::now();
                match client.run(script).await {
                    Ok(answer) if answer.has_succeeded() => times.push(start.elapsed()),
                    Ok(answer) if answer.status == 429 => {
                        refused += 1;
                        failed += usize::from(!answer.head.contains("retry-after"));
                        tokio::time::sleep(COME_BACK).await;
                    }
                    Ok(_) => failed += 1,
                    Err(_) => {
                        failed += 1;
                        break;
                    }
                }
            }
            (times, refused, failed)
        });
    }
    let (mut all, mut refused, mut failed) = (Vec::new(), 0, 0);
    let mut used = Used::default();
    while let Some(done) = tasks.join_next().await {
        let (times, of_client, bad) = done?;
        all.extend(times);
        refused += of_client;
        failed += bad;
        if used.rss == 0 {
            used = daemon.used();
        }
    }
    let took = began.elapsed();
    let after = daemon.used();
    let cpu = after.cpu.saturating_sub(before.cpu);
    let own = cpu_of(std::process::id()).saturating_sub(own);
    let server = after.server.saturating_sub(before.server);
    let busy = machine_busy().saturating_sub(busy).saturating_sub(cpu + own + server);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = fake.spent().1.saturating_sub(asked.1);
    let count = u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
    Ok(Load {
        times: Times::new(all),
        refused,
        failed,
        span: took,
        cpu,
        server,
        model: model / count,
        others: busy.as_secs_f64() / took.as_secs_f64() / cores as f64,
        used,
    })
}

/// The rows about whole runs; also memory after many of them.
pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let daemon = Daemon::start(fake).await?;
    // What is slow only once (connections, statements, pages of the program) is not a run's cost.
    load(&daemon, fake, "file", 8, Duration::from_millis(500)).await?;
    let span = plan.pick(Duration::from_millis(4_000), Duration::from_millis(1_200));
    let mut total = 0;
    let mut one_client = [Duration::ZERO; 3];
    for (place, script) in ["answer", "file", "exec"].into_iter().enumerate() {
        let done = load(&daemon, fake, script, 1, span / 2).await?;
        total += done.times.count();
        one_client[place] = done.times.p50();
        overhead(report, script, &done);
    }
    let [answer, file, exec] = one_client;
    report.row(
        "a tool round adds (in-process; sandboxed), one client",
        format!("{}; {}", millis(file.saturating_sub(answer)), millis(exec.saturating_sub(answer))),
        "",
        if is_postgres() { "" } else { "sandboxed ≤ 4 ms" },
        if is_postgres() {
            Met::NotAsked
        } else {
            Met::of(exec.saturating_sub(answer) <= Duration::from_millis(4))
        },
    );
    for (script, clients) in
        [("answer", 64), ("file", 16), ("file", 64), ("file", 256), ("exec", 16), ("exec", 64)]
    {
        count_statements(daemon.place());
        let done = load(&daemon, fake, script, clients, span).await?;
        total += done.times.count();
        let what = format!("{clients} clients, {}", name(script));
        show_statements(daemon.place(), &what, done.times.count());
        throughput(report, script, clients, &done);
    }
    let wanted: usize = plan.pick(10_000, 3_000);
    let began = Instant::now();
    while total < wanted && began.elapsed() < Duration::from_secs(20) {
        total += load(&daemon, fake, "answer", 32, span).await?.times.count();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = daemon.used();
    report.row(
        format!("memory after {total} runs"),
        format!("RSS {}; helper {}", megabytes(used.rss), megabytes(used.helper)),
        "",
        "",
        Met::NotAsked,
    );
    Ok(())
}

const fn name(script: &str) -> &'static str {
    match script.as_bytes() {
        b"file" => "one in-process tool",
        b"exec" => "one sandboxed process",
        _ => "no tool",
    }
}

fn overhead(report: &mut Report, script: &str, done: &Load) {
    let own = |time: Duration| time.saturating_sub(done.model);
    let (p50, p99) = (own(done.times.p50()), own(done.times.p99()));
    let is_asked = script != "exec";
    report.row(
        format!("overhead of a run, one client, {}", name(script)),
        format!("p50 {}, p99 {}, {}", millis(p50), millis(p99), done.show_cpu()),
        format!("model {} (taken off)", millis(done.model)),
        match script {
            _ if is_postgres() => "",
            "answer" => "p50 ≤ 3 ms, CPU ≤ 1 ms",
            "file" => "p50 ≤ 3 ms",
            _ => "",
        },
        match script {
            _ if is_postgres() => Met::NotAsked,
            "answer" => Met::of(
                p50 <= Duration::from_millis(3) && done.cpu_per_run() <= Duration::from_millis(1),
            ),
            _ if is_asked => Met::of(p50 <= Duration::from_millis(3)),
            _ => Met::NotAsked,
        },
    );
}

fn throughput(report: &mut Report, script: &str, clients: usize, done: &Load) {
    let rate = done.rate();
    let refused = if clients >= 256 {
        format!(", {} × 429, RSS {}", done.refused, megabytes(done.used.rss))
    } else {
        String::new()
    };
    let failed = if done.failed == 0 { String::new() } else { format!(", {} FAILED", done.failed) };
    let (target, met) = match (script, clients) {
        ("file", 256) if !is_postgres() => (
            "p99 ≤ 250 ms, RSS ≤ 64 MB",
            Met::of(done.times.p99() <= Duration::from_millis(250) && done.used.rss <= 64_000_000),
        ),
        ("file", 64) if is_postgres() => ("≥ 600 runs/s", Met::of(rate >= 600.0)),
        _ if is_postgres() => ("", Met::NotAsked),
        ("file", _) => ("≥ 1,000 runs/s", Met::of(rate >= 1_000.0)),
        ("exec", _) => ("≥ 400 runs/s", Met::of(rate >= 400.0)),
        _ => ("", Met::NotAsked),
    };
    report.row(
        format!("{clients} clients, {}", name(script)),
        format!("{rate:.0} runs/s, {}, {}{refused}{failed}", done.times.show(), done.show_cpu()),
        format!("tools and other programs: {:.0} % of the machine", done.others * 100.0),
        target,
        met,
    );
}
