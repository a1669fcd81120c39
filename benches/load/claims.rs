//! Claims on Postgres: runs that wait are claimed as the daemon claims them, next to the plainest loop
//! that takes a row of the same table for itself.

use std::sync::Arc;

use agent_runtime::{
    domain::{
        AuditEntry, AuditKind, ConversationId, EventBody, PrincipalId, RunId, RunState, Surface,
    },
    runtime::{Stop, Tasks},
    store::{Conversation, Durability, Page, RunCore, RunFilter, Store, StoreError, Tx},
};
use anyhow::{Context as _, ensure};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan, commits,
    daemon::Daemon,
    fake::Fake,
    place,
    report::{Met, Report, rate},
};

/// Runs stored in one transaction.
const BATCH: usize = 64;
/// Claims under way at once: as many as the daemon starts tasks for.
const AT_ONCE: usize = 64;

/// A loop of one row at a time: the next that nobody else takes, locked, changed, committed.
const RAW: &str = "BEGIN;\n\
    SELECT id AS run FROM raw_runs WHERE state = 'queued' AND ready = 1 ORDER BY id LIMIT 1 \
    FOR UPDATE SKIP LOCKED \\gset\n\
    UPDATE raw_runs SET state = 'running', epoch = epoch + 1, owner = 1 WHERE id = :run;\n\
    COMMIT;\n";

/// Stores so many runs that wait.
async fn queue(store: &Store, sample: &RunCore, wanted: usize) -> anyhow::Result<PrincipalId> {
    let mut reader = store.read().await?;
    let run = reader.runs().get(sample.id).await?.context("no run to copy")?;
    for _ in 0..wanted.div_ceil(BATCH) {
        let (sample, run) = (sample.clone(), run.clone());
        store
            .write::<_, StoreError, _>(Durability::Normal, |tx| {
                Box::pin(async move {
                    for _ in 0..BATCH {
                        let id = RunId::new(tx.ids());
                        let conversation = ConversationId::new(tx.ids());
                        let thread = Conversation {
                            active_run_id: Some(id),
                            ..Conversation::new(conversation, sample.principal, tx.now())
                        };
                        tx.conversations().put(&thread).await?;
                        let core = RunCore {
                            id,
                            conversation_id: conversation,
                            state: RunState::Queued,
                            ready: true,
                            epoch: 0,
                            owner: None,
                            seq: 1,
                            started_at: None,
                            ended_at: None,
                            ..sample.clone()
                        };
                        tx.runs().insert(&core, &run);
                        tx.joined_queue(core.principal);
                    }
                    Ok(())
                })
            })
            .await?;
    }
    Ok(sample.principal)
}

/// What the daemon writes when it claims a run: the run's row locked if nobody else has it, the
/// transition, its event and its audit row.
async fn claim(tx: &mut Tx, id: RunId, owner: u64) -> Result<bool, StoreError> {
    let Some(mut run) = tx.runs().free(id).await? else { return Ok(false) };
    if run.state != RunState::Queued {
        return Ok(false);
    }
    let believed = run.epoch;
    run.epoch += 1;
    run.owner = Some(owner);
    run.state = RunState::Running;
    run.started_at = Some(tx.now());
    tx.left_queue(run.principal);
    tx.event(&mut run, EventBody::RunStarted {})?;
    tx.audit(AuditEntry {
        kind: AuditKind::RunState,
        actor: "bench".to_owned(),
        surface: Surface::System,
        run_id: Some(id),
        request_id: None,
        data: serde_json::json!({ "from": "queued", "to": "running" }),
    });
    tx.runs().save(&run, believed).await?;
    Ok(true)
}

/// Claims everything that waits, page by page; how many per second.
async fn drain(store: &Store, principal: PrincipalId) -> anyhow::Result<f64> {
    let owner = store.boot_epoch();
    let began = Instant::now();
    let mut claimed = 0;
    loop {
        let page = store.read().await?.runs().claimable(principal, 512).await?;
        if page.is_empty() {
            break;
        }
        let page = Arc::new(std::sync::Mutex::new(page));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (store, page) = (store.clone(), Arc::clone(&page));
            tasks.spawn(async move {
                let mut count = 0_usize;
                loop {
                    let next = page.lock().ok().and_then(|mut page| page.pop());
                    let Some(id) = next else { return anyhow::Ok(count) };
                    let job = store.write::<_, StoreError, _>(Durability::Normal, move |tx| {
                        Box::pin(claim(tx, id, owner))
                    });
                    count += usize::from(job.await?);
                }
            });
        }
        while let Some(count) = tasks.join_next().await {
            claimed += count??;
        }
    }
    Ok(rate(claimed, began.elapsed()))
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let mut daemon = Daemon::start(fake).await?;
    ensure!(daemon.client().await?.run("answer").await?.has_succeeded(), "no run");
    daemon.kill();
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let store = commits::open(&daemon.data_dir(), daemon.place(), &tasks).await?;
    let mut reader = store.read().await?;
    let runs = reader.runs().list(&RunFilter::default(), &Page::new(Some(1), None)).await?;
    let first = runs.items.first().context("no run to copy")?.id;
    let sample = reader.runs().core(first).await?.context("no run to copy")?;
    drop(reader);
    let wanted = plan.pick(20_000, 5_000);
    let principal = queue(&store, &sample, wanted).await?;
    let floor = match daemon.place().on_server() {
        Some(database) => {
            // The same rows and indexes, none of the other tables.
            database.psql(
                "CREATE TABLE raw_runs (LIKE runs INCLUDING ALL); \
                 INSERT INTO raw_runs SELECT * FROM runs; ANALYZE raw_runs",
            );
            let raw = |clients: usize, share: usize| {
                let each = place::Amount::Each(wanted / share / clients);
                place::pgbench(database, RAW, clients, each, false)
            };
            let (one, many) = (raw(1, 4)?, raw(16, 2)?);
            format!(
                "`SELECT … FOR UPDATE SKIP LOCKED` and `UPDATE`, a transaction each: \
                 1 client {one:.0}/s, 16 clients {many:.0}/s"
            )
        }
        None => String::new(),
    };
    let ours = drain(&store, principal).await?;
    stop.hard();
    report.row(
        format!(
            "claims: {wanted} runs that wait, {AT_ONCE} at once, each with event and audit row"
        ),
        format!("{ours:.0} claims/s"),
        floor,
        "",
        Met::NotAsked,
    );
    Ok(())
}
