//! Whether a run costs more when many are stored: two daemons side by side, asked in turn.

use std::time::Duration;

use agent_runtime::{
    domain::{AuditEntry, AuditKind, ConversationId, Event, Message, Run, RunId, Surface},
    runtime::{Stop, Tasks},
    store::{Conversation, Durability, Page, RunCore, RunFilter, Store, StoreError},
};
use anyhow::Context as _;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan, commits,
    daemon::Daemon,
    fake::Fake,
    report::{Met, Report, Times, millis},
};

/// Copies in one transaction.
const BATCH: usize = 64;

/// A finished run as stored, to copy.
#[derive(Clone)]
struct Sample {
    core: RunCore,
    run: Run,
    events: Vec<Event>,
    messages: Vec<Message>,
}

async fn sample(store: &Store) -> anyhow::Result<Sample> {
    let mut reader = store.read().await?;
    let page = Page::new(Some(1), None);
    let runs = reader.runs().list(&RunFilter::default(), &page).await?;
    let run = runs.items.into_iter().next().context("no run to copy")?;
    let core = reader.runs().core(run.id).await?.context("no run to copy")?;
    let events = reader.events().of_run(run.id, 0, 100).await?;
    let messages = reader.conversations().last_messages(run.conversation_id, 100).await?;
    Ok(Sample { core, run, events, messages })
}

/// Stores copies of a finished run until there are `wanted`.
async fn fill(store: &Store, sample: &Sample, wanted: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for lane in 0..4 {
        let (store, sample) = (store.clone(), sample.clone());
        tasks.spawn(async move {
            for _ in 0..wanted / BATCH / 4 + usize::from(lane == 0) {
                let sample = sample.clone();
                store
                    .write::<_, StoreError, _>(Durability::Normal, |tx| {
                        Box::pin(async move {
                            for _ in 0..BATCH {
                                copy(tx, &sample).await?;
                            }
                            Ok(())
                        })
                    })
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn copy(tx: &mut agent_runtime::store::Tx, sample: &Sample) -> Result<(), StoreError> {
    let id = RunId::new(tx.ids());
    let mut conversation = Conversation::new(
        ConversationId::new(tx.ids()),
        sample.core.principal,
        sample.core.created_at,
    );
    conversation.last_seq = u64::try_from(sample.messages.len()).unwrap_or(0);
    tx.conversations().put(&conversation).await?;
    let mut core = RunCore { id, conversation_id: conversation.id, seq: 0, ..sample.core.clone() };
    for event in &sample.events {
        tx.event(&mut core, event.body.clone())?;
        tx.audit(AuditEntry {
            kind: AuditKind::RunState,
            actor: "bench".to_owned(),
            surface: Surface::System,
            run_id: Some(id),
            request_id: None,
            data: serde_json::json!({ "event": event.body.kind() }),
        });
    }
    for message in &sample.messages {
        tx.message(conversation.id, message.seq, id, message.role, message.content.clone());
    }
    let run = Run { id, conversation_id: conversation.id, seq: core.seq, ..sample.run.clone() };
    tx.runs().insert(&core, &run);
    Ok(())
}

/// A daemon on a store with so many runs.
async fn stored(fake: &Fake, wanted: usize) -> anyhow::Result<Daemon> {
    let mut daemon = Daemon::start(fake).await?;
    anyhow::ensure!(daemon.client().await?.run("file").await?.has_succeeded(), "no run");
    daemon.kill();
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let store = commits::open(&daemon.data_dir(), &tasks).await?;
    fill(&store, &sample(&store).await?, wanted).await?;
    drop(store);
    // The next owner waits for our lock otherwise.
    stop.hard();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await?;
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
    let (few, many) = (1_000, plan.pick(100_000, 10_000));
    let (small, large) = (stored(fake, few).await?, stored(fake, many).await?);
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
            format!("hot path, {name}: {many} stored runs against {few}"),
            format!("p50 {} ({ratio:.2}×)", millis(many_times.p50())),
            format!("{few} runs: p50 {}", millis(few_times.p50())),
            "≤ 1.5× (10³ → 10⁶)",
            Met::of(ratio <= 1.5),
        );
    }
    Ok(())
}
