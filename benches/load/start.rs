//! From exec to ready, and what an idle daemon costs.

use std::time::Duration;

use crate::{
    Plan,
    daemon::{Daemon, bare_start},
    fake::Fake,
    report::{Met, Report, Times, megabytes, millis},
};

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let rounds = plan.pick(15, 5);
    let (mut fresh, mut warm, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut daemon = Daemon::prepare(fake)?;
        fresh.push(daemon.run().await?);
        daemon.kill();
        warm.push(daemon.run().await?);
        daemon.kill();
        bare.push(bare_start(&std::env::temp_dir())?);
    }
    let bare = Times::new(bare);
    let floor = format!("`--version` p50 {}", millis(bare.p50()));
    let (fresh, warm) = (Times::new(fresh), Times::new(warm));
    report.row("exec → ready, new data directory", fresh.show(), floor.clone(), "", Met::NotAsked);
    report.row(
        "exec → ready, warm",
        warm.show(),
        floor,
        "≤ 15 ms",
        Met::of(warm.p50() <= Duration::from_millis(15)),
    );
    let daemon = Daemon::start(fake).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = daemon.used();
    let span = plan.pick(Duration::from_secs(4), Duration::from_secs(1));
    tokio::time::sleep(span).await;
    let used = daemon.used();
    report.row(
        "memory, idle",
        format!("RSS {}; helper {} (its share)", megabytes(used.rss), megabytes(used.helper)),
        "",
        "RSS ≤ 20 MB",
        Met::of(used.rss <= 20_000_000),
    );
    let cpu = (used.cpu.saturating_sub(before.cpu)).as_secs_f64() / span.as_secs_f64();
    report.row("processor, idle", format!("{:.1} %", cpu * 100.0), "", "", Met::NotAsked);
    Ok(())
}
