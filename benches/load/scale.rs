//! Whether a run costs more when many are stored: two daemons side by side, asked in turn.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    Plan,
    daemon::Daemon,
    fake::Fake,
    report::{Met, Report, Times, megabytes, millis},
    seed,
};

/// A daemon on a store with so many runs.
async fn stored(fake: &Fake, wanted: usize) -> anyhow::Result<Daemon> {
    let mut daemon = Daemon::start(fake).await?;
    anyhow::ensure!(daemon.client().await?.run("file").await?.has_succeeded(), "no run");
    daemon.kill();
    let rows = seed::fill(&daemon.data_dir(), daemon.place(), wanted).await?;
    eprintln!(
        "    {wanted} runs of {rows} rows: {}",
        megabytes(daemon.place().bytes(&daemon.data_dir()))
    );
    daemon.run().await?;
    Ok(daemon)
}

/// One round of what clients do most: a run, a look at it, its events, a page of runs.
async fn round(client: &mut crate::client::Client) -> anyhow::Result<[Duration; 2]> {
    let began = Instant::now();
    let answer = client.run("file").await?;
    let of_run = began.elapsed();
    anyhow::ensure!(answer.has_succeeded(), "a run failed: {}", answer.body);
    let id = answer.json()?["id"].as_str().context("an id")?.to_owned();
    let began = Instant::now();
    for path in [
        format!("/api/v1/runs/{id}"),
        format!("/api/v1/runs/{id}/events?limit=50"),
        "/api/v1/runs?limit=20".to_owned(),
        "/api/v1/runs?state=running&limit=20".to_owned(),
        "/api/v1/approvals?state=pending".to_owned(),
        "/api/v1/conversations?limit=20".to_owned(),
    ] {
        let answer = client.get(&path).await?;
        anyhow::ensure!(answer.status == 200, "{path}: {}", answer.status);
    }
    Ok([of_run, began.elapsed()])
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let (few, many) = (1_000, plan.pick(1_000_000, 100_000));
    let (small, large) = (stored(fake, few).await?, stored(fake, many).await?);
    let size = megabytes(large.place().bytes(&large.data_dir()));
    let (mut of_small, mut of_large) = (small.client().await?, large.client().await?);
    let mut times = [vec![], vec![], vec![], vec![]];
    for turn in 0..plan.pick(300, 100) {
        let (a, b) = (round(&mut of_small).await?, round(&mut of_large).await?);
        // The first turns fill caches.
        if turn >= 10 {
            for (list, time) in times.iter_mut().zip([a[0], a[1], b[0], b[1]]) {
                list.push(time);
            }
        }
    }
    let [run_few, read_few, run_many, read_many] = times.map(Times::new);
    for (name, few_times, many_times) in
        [("a run", run_few, run_many), ("six reads", read_few, read_many)]
    {
        let ratio = many_times.p50().as_secs_f64() / few_times.p50().as_secs_f64();
        report.row(
            format!("hot path, {name}: {many} stored runs ({size}) against {few}"),
            format!("p50 {} ({ratio:.2}×)", millis(many_times.p50())),
            format!("{few} runs: p50 {}", millis(few_times.p50())),
            "≤ 1.5× (10³ → 10⁶)",
            Met::of(ratio <= 1.5),
        );
    }
    Ok(())
}
