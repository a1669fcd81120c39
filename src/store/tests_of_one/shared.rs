//! Several stores on one Postgres: what one of them does, the others do not do again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::postgres::PgListener;

use super::*;

/// Takes a waiting run for a store, if nobody else has it or is taking it.
async fn claim(store: &Store, id: RunId) -> Result<bool, StoreError> {
    let owner = store.boot_epoch();
    store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let Some(mut core) = tx.runs().free(id).await? else { return Ok(false) };
                if core.state != RunState::Queued {
                    return Ok(false);
                }
                // Time for the other to try the same.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let believed = core.epoch;
                core.state = RunState::Running;
                core.epoch += 1;
                core.owner = Some(owner);
                tx.runs().save(&core, believed).await?;
                Ok(true)
            })
        })
        .await
}

#[tokio::test]
async fn of_two_stores_that_claim_at_once_each_run_has_one() {
    let place = on_postgres();
    let a = open(place.path()).await.unwrap();
    let (_dir, b) = beside(&place).await;
    assert_ne!(a.store.boot_epoch(), b.store.boot_epoch());
    let made = join_all((0..60).map(|_| insert_as(&a, Durability::Normal, false))).await;
    let ids: Vec<RunId> = made.into_iter().map(Result::unwrap).collect();
    let mut claims: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    // What the other one was looking at was left out: it is there in the next round, or taken.
    for _ in 0..3 {
        let all = |f: &Fixture| {
            let store = f.store.clone();
            let ids = ids.clone();
            async move {
                let one = |id| {
                    let store = store.clone();
                    async move { (id, claim(&store, id).await.unwrap()) }
                };
                (store.boot_epoch(), join_all(ids.into_iter().map(one)).await)
            }
        };
        for (owner, results) in <[_; 2]>::from(tokio::join!(all(&a), all(&b))) {
            for (id, claimed) in results {
                if claimed {
                    claims.entry(id.to_string()).or_default().push(owner);
                }
            }
        }
    }
    assert_eq!(claims.len(), 60, "every run was claimed");
    let mut reader = b.store.read().await.unwrap();
    for id in &ids {
        let core = reader.runs().core(*id).await.unwrap().unwrap();
        let owners = &claims[&id.to_string()];
        assert_eq!((core.epoch, core.owner.into_iter().collect()), (1, owners.clone()), "{id}");
    }
}

#[tokio::test]
async fn a_row_that_somebody_changes_is_waited_for_and_left_out_by_who_claims() {
    let place = on_postgres();
    let a = open(place.path()).await.unwrap();
    let (_dir, b) = beside(&place).await;
    let id = insert_as(&a, Durability::Normal, false).await.unwrap();
    let holds = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&holds);
    let change = a.store.write(Durability::Normal, move |tx| {
        Box::pin(async move {
            let mut core = tx.runs().core(id).await?.expect("the run");
            flag.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(400)).await;
            core.step += 1;
            tx.runs().save(&core, core.epoch).await?;
            flag.store(false, Ordering::SeqCst);
            Ok::<_, StoreError>(())
        })
    });
    let others = async {
        while !holds.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!claim(&b.store, id).await.unwrap(), "it is left out");
        assert!(holds.load(Ordering::SeqCst), "without waiting");
        let step = b.store.write(Durability::Normal, move |tx| {
            Box::pin(async move { Ok::<_, StoreError>(tx.runs().core(id).await?.map(|c| c.step)) })
        });
        assert_eq!(step.await.unwrap(), Some(1), "who reads to change sees what was committed");
    };
    let (changed, ()) = tokio::join!(change, others);
    changed.unwrap();
}

#[tokio::test]
async fn stores_that_write_at_once_keep_one_trail_without_a_gap() {
    let place = on_postgres();
    let a = open(place.path()).await.unwrap();
    let (_c, b) = beside(&place).await;
    let (_d, c) = beside(&place).await;
    let before = check_trail(&a.store).await;
    let write = |f: &Fixture, name: &'static str| {
        let store = f.store.clone();
        async move {
            for n in 0..40 {
                let rows = (0..3).map(|_| store.audit(entry(json!({"from": name, "n": n}))));
                assert!(join_all(rows).await.iter().all(Result::is_ok));
            }
        }
    };
    tokio::join!(write(&a, "a"), write(&b, "b"), write(&c, "c"));
    assert_eq!(check_trail(&b.store).await, before + 3 * 120);
}

#[tokio::test]
async fn a_change_runs_alone_and_every_store_sees_its_generation() {
    let place = on_postgres();
    let a = open(place.path()).await.unwrap();
    let (_dir, b) = beside(&place).await;
    let generation = || async {
        let mut reader = a.store.read().await.unwrap();
        reader.replicas().generation().await.unwrap()
    };
    let before = generation().await;
    let (alone, met) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let changes = async {
        for _ in 0..5 {
            let alone = Arc::clone(&alone);
            let change = a.store.change(move |_| {
                Box::pin(async move {
                    alone.store(true, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    alone.store(false, Ordering::SeqCst);
                    Ok::<_, StoreError>(())
                })
            });
            change.await.unwrap();
        }
    };
    let writes = async {
        for _ in 0..60 {
            let (alone, met) = (Arc::clone(&alone), Arc::clone(&met));
            let write = b.store.write(Durability::Normal, move |_| {
                Box::pin(async move {
                    if alone.load(Ordering::SeqCst) {
                        met.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    if alone.load(Ordering::SeqCst) {
                        met.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, StoreError>(())
                })
            });
            write.await.unwrap();
        }
    };
    tokio::join!(changes, writes);
    assert_eq!(met.load(Ordering::SeqCst), 0, "somebody wrote beside a change");
    assert_eq!(generation().await, before + 5);
}

#[tokio::test]
async fn each_group_of_writes_gives_one_notice() {
    let place = on_postgres();
    let f = open(place.path()).await.unwrap();
    let database = place.database.as_ref().unwrap();
    let mut notices = PgListener::connect(&database.socket_url()).await.unwrap();
    notices.listen(CHANNEL).await.unwrap();
    let epoch = f.store.boot_epoch();
    let groups = || {
        let sql = format!("SELECT last_group FROM replicas WHERE boot_epoch = {epoch}");
        database.psql(&sql).parse::<u64>().unwrap()
    };
    let before = groups();
    let jobs = join_all((0..200).map(|_| insert_as(&f, Durability::Normal, false))).await;
    assert!(jobs.iter().all(Result::is_ok));
    let groups = groups() - before;
    assert!((1..100).contains(&groups), "200 jobs in {groups} groups");
    let mut heard = 0;
    while tokio::time::timeout(Duration::from_millis(500), notices.recv()).await.is_ok() {
        heard += 1;
    }
    assert_eq!(heard, groups);
}

#[tokio::test]
async fn a_replica_that_was_taken_over_writes_nothing_any_more() {
    let place = on_postgres();
    let a = open(place.path()).await.unwrap();
    let (_dir, b) = beside(&place).await;
    insert_as(&a, Durability::Full, false).await.unwrap();
    let epoch = a.store.boot_epoch();
    let database = place.database.as_ref().unwrap();
    database.psql(&format!("UPDATE replicas SET ended_at = 1 WHERE boot_epoch = {epoch}"));
    for _ in 0..3 {
        let written = insert_as(&a, Durability::Full, false).await;
        assert!(matches!(written, Err(StoreError::Fenced)), "{written:?}");
    }
    insert_as(&b, Durability::Full, false).await.unwrap();
    assert_eq!(stored(&b.store).await.len(), 2);
    check_trail(&b.store).await;
}

#[tokio::test]
async fn the_order_of_bytes_holds_whatever_the_servers_language() {
    for database in
        [test_server::Server::shared().database(), test_server::Server::shared().database_in_c()]
    {
        let place = in_database(database);
        let f = open(place.path()).await.unwrap();
        let database = place.database.as_ref().unwrap();
        let odd = "SELECT table_name, column_name FROM information_schema.columns \
                   WHERE table_schema = 'public' AND data_type = 'text' \
                   AND collation_name IS DISTINCT FROM 'C' AND table_name NOT LIKE '\\_sqlx%'";
        assert_eq!(database.psql(odd), "", "columns that sort by a language");
        let made = join_all((0..30).map(|_| insert_as(&f, Durability::Normal, false))).await;
        let mut made: Vec<RunId> = made.into_iter().map(Result::unwrap).collect();
        made.sort_by_key(ToString::to_string);
        assert_eq!(stored(&f.store).await, made);
    }
}
