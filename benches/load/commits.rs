//! The store's writer alone: logical commits per second through `Store::write`.

use std::{path::Path, sync::Arc, time::Duration};

use agent_runtime::{
    domain::{AuditEntry, AuditKind, IdSource, Surface, SystemClock},
    runtime::{Redactor, Stop, Tasks},
    store::{Durability, Options, Store, StoreError},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    report::{Met, Report, rate},
};

/// A store in a directory, as the daemon opens it.
pub(crate) async fn open(data_dir: &Path, tasks: &Tasks) -> anyhow::Result<Store> {
    let clock = Arc::new(SystemClock);
    let ids = IdSource::new(clock.clone(), |bytes| {
        // Without randomness ids would collide, and the next insert says so.
        getrandom::fill(bytes).unwrap_or_default();
    });
    let options = Options {
        data_dir: data_dir.to_owned(),
        database: agent_runtime::store::Database::Sqlite,
        clock,
        ids,
        redactor: Redactor::default(),
        on_commit: Arc::new(|_| {}),
    };
    Ok(Store::open(options, tasks).await?)
}

async fn drive(
    store: &Store,
    durability: Durability,
    writers: usize,
    span: Duration,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut count = 0_usize;
            while began.elapsed() < span {
                store
                    .write::<_, StoreError, _>(durability, |tx| {
                        Box::pin(async move {
                            tx.audit(AuditEntry {
                                kind: AuditKind::Control,
                                actor: "bench".to_owned(),
                                surface: Surface::System,
                                run_id: None,
                                request_id: None,
                                data: serde_json::json!({ "verb": "none" }),
                            });
                            Ok(())
                        })
                    })
                    .await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(rate(total, began.elapsed()))
}

pub(crate) async fn measure(report: &mut Report, plan: Plan) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let store = open(&dir.path().join("data"), &tasks).await?;
    let span = plan.pick(Duration::from_millis(1_500), Duration::from_millis(500));
    for (name, durability) in [("NORMAL", Durability::Normal), ("FULL", Durability::Full)] {
        let alone = drive(&store, durability, 1, span).await?;
        let many = drive(&store, durability, 256, span).await?;
        report.row(
            format!("store, {name}, 256 writers, one audit row each"),
            format!("{many:.0} commits/s"),
            format!("one writer {alone:.0} commits/s"),
            "",
            Met::NotAsked,
        );
    }
    stop.hard();
    Ok(())
}
