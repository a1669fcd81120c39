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
    place::{Amount, Place, pgbench},
    report::{Met, Report, rate},
};

/// The store of a daemon, as it opens it.
pub(crate) async fn open(data_dir: &Path, place: &Place, tasks: &Tasks) -> anyhow::Result<Store> {
    let clock = Arc::new(SystemClock);
    let ids = IdSource::new(clock.clone(), |bytes| {
        // Without randomness ids would collide, and the next insert says so.
        getrandom::fill(bytes).unwrap_or_default();
    });
    let options = Options {
        data_dir: data_dir.to_owned(),
        database: place.database()?,
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

/// One row of the trail's shape, in a transaction of its own.
const ROW: &str = "INSERT INTO raw_audit VALUES (nextval('raw_n'), 'evt_' || gen_random_uuid(), \
    1795200000000000, 'control', 'bench', 'system', NULL, NULL, '{\"verb\":\"none\"}', \
    repeat('0', 64), repeat('1', 64));\n";

/// What the server does when each row is a transaction: with one client, and with many.
fn alone(place: &Place, span: Duration, waits: bool) -> anyhow::Result<Option<[f64; 2]>> {
    let Some(database) = place.on_server() else { return Ok(None) };
    database.psql(
        "CREATE TABLE IF NOT EXISTS raw_audit (LIKE audit INCLUDING ALL); \
         CREATE SEQUENCE IF NOT EXISTS raw_n",
    );
    let one = pgbench(database, ROW, 1, Amount::For(span), waits)?;
    Ok(Some([one, pgbench(database, ROW, 64, Amount::For(span), waits)?]))
}

pub(crate) async fn measure(report: &mut Report, plan: Plan) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
    let place = Place::fresh();
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let store = open(&dir.path().join("data"), &place, &tasks).await?;
    let span = plan.pick(Duration::from_millis(1_500), Duration::from_millis(500));
    for (name, durability) in [("NORMAL", Durability::Normal), ("FULL", Durability::Full)] {
        let one = drive(&store, durability, 1, span).await?;
        let many = drive(&store, durability, 256, span).await?;
        let waits = durability == Durability::Full;
        let raw = alone(&place, plan.pick(Duration::from_secs(2), Duration::from_secs(1)), waits)?;
        let raw = raw.map_or_else(String::new, |[raw_one, raw_many]| {
            format!(
                "; pgbench, a transaction for each row: 1 client {raw_one:.0}/s, \
                 64 clients {raw_many:.0}/s"
            )
        });
        report.row(
            format!("store, {name}, 256 writers, one audit row each"),
            format!("{many:.0} commits/s"),
            format!("one writer {one:.0} commits/s{raw}"),
            "",
            Met::NotAsked,
        );
    }
    stop.hard();
    Ok(())
}
