//! The panic button with many tools at work: from the request to its answer, and to the last thing
//! that any of them did.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::Instant,
};

use crate::{
    Plan,
    client::PATIENCE,
    daemon::Daemon,
    fake::Fake,
    report::{Met, Report, Times, millis},
};

/// Tools at work at once, each in a sandbox of its own that writes twenty times a second: together
/// once in a millisecond.
const WRITERS: usize = 50;
/// Model calls in flight beside them.
const ASKING: u64 = 50;
/// Room for all of them.
const LIMITS: &str = "[limits]\ntool_processes = 64\n[sandbox]\nsessions_max = 64\n";
const LOOK: Duration = Duration::from_millis(5);
/// How long is watched for something that happens after the answer.
const QUIET: Duration = Duration::from_millis(300);

/// One request at the admin door; the head and the body of its answer.
async fn door(daemon: &Daemon, method: &str, json: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(daemon.data_dir().join("admin.sock")).await?;
    let request = format!(
        "{method} /admin/v1/lockdown HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

/// What each tool wrote last, and how much.
fn marks(workspace: &Path, round: usize) -> Vec<(SystemTime, u64)> {
    let file = |n: usize| -> PathBuf { workspace.join(format!("mark-{round}-{n}")) };
    let mark = |n| fs::metadata(file(n)).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    (0..WRITERS).filter_map(mark).filter(|(_, size)| *size > 4).collect()
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let rounds: usize = plan.pick(20, 5);
    let mut daemon = Daemon::prepare_with(fake, LIMITS)?;
    daemon.run().await?;
    let workspace = daemon.data_dir().join("workspaces/bench");
    let (mut answers, mut effects) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut client = daemon.client().await?;
        let mut runs = Vec::new();
        for n in 0..WRITERS {
            runs.push(client.start(&format!("write:{round}-{n}")).await?);
        }
        for _ in 0..ASKING {
            runs.push(client.start("hang").await?);
        }
        let began = Instant::now();
        let hanging = || fake.seen.hanging.load(std::sync::atomic::Ordering::Relaxed);
        while marks(&workspace, round).len() < WRITERS || hanging() < ASKING {
            ensure!(began.elapsed() < PATIENCE, "not all at work: {}", daemon.log());
            tokio::time::sleep(LOOK).await;
        }
        let (wall, began) = (SystemTime::now(), Instant::now());
        let answer = door(&daemon, "POST", "{\"reason\":\"bench\"}").await?;
        answers.push(began.elapsed());
        let last = marks(&workspace, round);
        ensure!(answer.contains("\"is_done\":true"), "{answer}");
        tokio::time::sleep(QUIET).await;
        ensure!(marks(&workspace, round) == last, "a tool wrote after the answer");
        let latest = last.iter().map(|(at, _)| *at).max().context("no marks")?;
        effects.push(latest.duration_since(wall).unwrap_or_default());
        door(&daemon, "DELETE", "").await?;
        for id in runs {
            client.post(&format!("/api/v1/runs/{id}/cancel"), "{}").await?;
        }
    }
    let (answers, effects) = (Times::new(answers), Times::new(effects));
    report.row(
        format!("lockdown, {WRITERS} tools and {ASKING} model calls under way: to the last effect"),
        effects.show(),
        format!("{rounds} rounds; nothing in {} after the answer", millis(QUIET)),
        "",
        Met::NotAsked,
    );
    report.row("the same, to the answer", answers.show(), "", "", Met::NotAsked);
    Ok(())
}
