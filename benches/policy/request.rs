//! A request whose token is checked beside a probe that anybody may send, turn by turn on two
//! connections to the same daemon.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{
    Plan,
    client::Client,
    daemon::{Daemon, TOKEN},
    fake::Fake,
    report::{Met, Report, Times},
};

/// Needs a token, and nothing from the store: what it costs more is the check.
const CHECKED: &str = "/api/v1/me";
/// Needs nothing.
const PROBE: &str = "/healthz";

pub(crate) async fn measure(report: &mut Report, plan: Plan) -> anyhow::Result<()> {
    let fake = Fake::start()?;
    let daemon = Daemon::start(&fake).await?;
    let mut known = Client::connect(daemon.addr(), TOKEN).await?;
    let mut anybody = Client::connect(daemon.addr(), TOKEN).await?;
    let mut stranger = Client::connect(daemon.addr(), "not-a-token").await?;
    ensure!(stranger.get(CHECKED).await?.status == 401, "the request is not checked");
    let (mut checked, mut probe) = (Vec::new(), Vec::new());
    for turn in 0..plan.pick(4_000, 1_000) {
        let of_probe = timed(&mut anybody, PROBE).await?;
        let of_checked = timed(&mut known, CHECKED).await?;
        // The first few fill caches.
        if turn >= 100 {
            probe.push(of_probe);
            checked.push(of_checked);
        }
    }
    let (checked, probe) = (Times::new(checked), Times::new(probe));
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let show = |times: &Times| {
        format!("p50 {:.0} µs, p99 {:.0} µs", micros(times.p50()), micros(times.p99()))
    };
    report.row(
        "an authenticated request (`/api/v1/me`)",
        format!(
            "{}; adds {:.0} µs at p50",
            show(&checked),
            micros(checked.p50().saturating_sub(probe.p50()))
        ),
        format!("`/healthz` {}", show(&probe)),
        "",
        Met::NotAsked,
    );
    Ok(())
}

async fn timed(client: &mut Client, path: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let answer = client.get(path).await?;
    let took = began.elapsed();
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    Ok(took)
}
