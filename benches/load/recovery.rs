//! `kill -9` with many runs in flight: from the exec of the next daemon until each of them is
//! claimed again or waits with a reason.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agent_runtime::{
    domain::{Clock, EventBody, SystemClock, Timestamp},
    store::{Page, ReadOnlyStore, RunFilter},
};
use anyhow::{Context as _, ensure};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    client::{PATIENCE, body},
    daemon::Daemon,
    fake::Fake,
    report::{Met, Report, millis},
};

const CLIENTS: usize = 16;

async fn wait_hanging(fake: &Fake, wanted: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    while fake.seen.hanging.load(Ordering::Relaxed) != wanted {
        ensure!(began.elapsed() < PATIENCE, "the model was not asked {wanted} times");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let runs: usize = plan.pick(1_000, 1_000);
    let mut daemon = Daemon::start(fake).await?;
    let shared = Arc::new(body("hang"));
    let mut tasks = JoinSet::new();
    for lane in 0..CLIENTS {
        let (mut client, body) = (daemon.client().await?, Arc::clone(&shared));
        let count = runs / CLIENTS + usize::from(lane < runs % CLIENTS);
        tasks.spawn(async move {
            for _ in 0..count {
                let answer = client.post("/api/v1/runs", &body).await?;
                ensure!(answer.status == 202, "not accepted: {}", answer.body);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let in_flight = u64::try_from(runs).unwrap_or(0);
    wait_hanging(fake, in_flight).await?;
    daemon.kill();
    wait_hanging(fake, 0).await?;
    let exec = SystemClock.now();
    let ready = daemon.run().await?;
    wait_hanging(fake, in_flight).await?;
    let (claimed, count) = claimed_again(&daemon, exec).await?;
    ensure!(count == runs, "only {count} of {runs} were claimed again");
    daemon.kill();
    wait_hanging(fake, 0).await?;
    report.row(
        format!("kill -9 with {runs} runs in flight: exec → all claimed again"),
        millis(claimed),
        format!("exec → ready {}", millis(ready)),
        "≤ 0.5 s",
        Met::of(claimed <= Duration::from_millis(500)),
    );
    Ok(())
}

/// When the last run was claimed again or paused, as the log of events tells it.
async fn claimed_again(daemon: &Daemon, exec: Timestamp) -> anyhow::Result<(Duration, usize)> {
    let store = ReadOnlyStore::open(&daemon.data_dir(), &daemon.place().database()?).await?;
    let mut reader = store.read().await?;
    let (mut last, mut count, mut cursor) = (exec, 0, None);
    loop {
        let page = Page::new(Some(500), cursor);
        let paged = reader.runs().list(&RunFilter::default(), &page).await?;
        for run in &paged.items {
            let events = reader.events().of_run(run.id, 0, 100).await?;
            let again = events.iter().rev().find(|event| {
                event.at > exec
                    && matches!(
                        event.body,
                        EventBody::RunStarted { .. }
                            | EventBody::RunRecovered { paused: Some(_), .. }
                    )
            });
            let again = again.with_context(|| format!("{} was not claimed again", run.id))?;
            last = last.max(again.at);
            count += 1;
        }
        cursor = paged.next_cursor;
        if cursor.is_none() {
            return Ok((last.since(exec), count));
        }
    }
}
