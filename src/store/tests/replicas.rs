//! Replicas and duties, by a clock that the test moves.

use super::*;
use crate::domain::limits::REPLICA_TTL;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(secs * 1_000_000).expect("a time"))
}

fn about(name: &str) -> NewReplica {
    NewReplica {
        name: name.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        version: "0.1.0".to_owned(),
        schema: 4,
    }
}

const TTL: u64 = REPLICA_TTL.as_secs();

async fn tx<T: Send + 'static>(
    store: &Store,
    job: impl for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, StoreError>> + Send + 'static,
) -> T {
    store.write(Durability::Full, job).await.expect("a commit")
}

async fn join(store: &Store, boot_epoch: u64, now: u64) {
    tx(store, move |tx| {
        Box::pin(async move { tx.replicas().join(boot_epoch, &about("a"), at(now)).await })
    })
    .await;
}

#[tokio::test]
async fn a_replica_is_taken_over_once_and_only_when_its_lease_is_over() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    join(&f.store, 101, 1_000).await;
    join(&f.store, 102, 1_000).await;
    let beat = |epoch, now| {
        tx(&f.store, move |tx| {
            Box::pin(async move {
                let beat = Beat { address: "here:2".to_owned(), is_draining: true };
                tx.replicas().beat(epoch, &beat, at(now)).await
            })
        })
    };
    let end = |epoch, now| {
        tx(&f.store, move |tx| {
            Box::pin(async move { tx.replicas().end_expired(epoch, at(now)).await })
        })
    };
    assert!(!end(101, 1_000 + TTL).await, "its lease lasts until then");
    assert!(beat(101, 1_010).await);
    assert!(!end(101, 1_001 + TTL).await, "it was heard of since");
    assert!(end(102, 1_001 + TTL).await);
    assert!(!end(102, 1_001 + TTL).await, "somebody has it already");
    assert!(!beat(102, 1_002 + TTL).await, "a row that has ended never lives again");
    let mut reader = f.store.read().await.expect("a reader");
    let live = reader.replicas().live().await.expect("rows");
    let found = live.iter().find(|r| r.boot_epoch == 101).expect("it lives");
    assert_eq!((found.about.address.as_str(), found.is_draining), ("here:2", true));
    assert!(!reader.replicas().is_live(102).await.expect("a row"));
    let left = reader.replicas().unrecovered().await.expect("rows");
    assert_eq!(left.iter().map(|r| r.boot_epoch).collect::<Vec<_>>(), [102]);
    drop(reader);
    tx(&f.store, |tx| Box::pin(async move { tx.replicas().recovered(102).await })).await;
    let mut reader = f.store.read().await.expect("a reader");
    assert!(reader.replicas().unrecovered().await.expect("rows").is_empty());
}

#[tokio::test]
async fn a_change_waits_for_those_that_live_and_decide_and_for_nobody_else() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    for epoch in 101..=104 {
        join(&f.store, epoch, 1_000).await;
    }
    let generation = tx(&f.store, |tx| {
        Box::pin(async move {
            let now = tx.replicas().generation().await?;
            assert!(!tx.replicas().enter(101, now + 1).await?, "it has read something else");
            for epoch in [101, 102, 103] {
                assert!(tx.replicas().enter(epoch, now).await?);
            }
            tx.replicas().leave(103, at(1_001)).await?;
            Ok(now)
        })
    })
    .await;
    let behind = |wanted, now| {
        tx(&f.store, move |tx| Box::pin(async move { tx.replicas().behind(wanted, at(now)).await }))
    };
    assert!(behind(generation, 1_002).await.is_empty());
    // 103 has left, 104 has not begun to decide.
    assert_eq!(behind(generation + 1, 1_002).await, [101, 102]);
    tx(&f.store, move |tx| {
        Box::pin(async move {
            tx.replicas().saw(101, generation + 1).await?;
            tx.replicas().saw(101, generation).await
        })
    })
    .await;
    assert_eq!(behind(generation + 1, 1_002).await, [102]);
    assert!(behind(generation + 1, 1_001 + TTL).await.is_empty(), "its lease is over");
}

#[tokio::test]
async fn a_nudge_reaches_the_owner_that_the_run_has_then_and_once() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    let (one, two) = (RunId::new(&f.ids), RunId::new(&f.ids));
    let taken = tx(&f.store, move |tx| {
        Box::pin(async move {
            tx.replicas().nudge(one, 101, 3).await?;
            tx.replicas().nudge(one, 101, 5).await?;
            tx.replicas().nudge(two, 101, 7).await?;
            tx.replicas().nudge(two, 102, 9).await?;
            let first = tx.replicas().take_nudges(101).await?;
            assert!(tx.replicas().take_nudges(101).await?.is_empty());
            Ok((first, tx.replicas().take_nudges(102).await?))
        })
    })
    .await;
    assert_eq!(taken, (vec![(one, 3)], vec![(two, 9)]));
}

#[tokio::test]
async fn a_duty_has_one_holder_and_a_new_epoch_with_each_new_one() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    join(&f.store, 101, 1_000).await;
    join(&f.store, 102, 1_000).await;
    let hold = |epoch, now| {
        tx(&f.store, move |tx| {
            Box::pin(async move { tx.leases().hold("duty", epoch, at(now)).await })
        })
    };
    assert_eq!(hold(101, 1_000).await, Some(1));
    assert_eq!(hold(102, 1_001).await, None);
    assert_eq!(hold(101, 1_010).await, Some(1), "one's own goes on");
    assert_eq!(hold(102, 1_009 + TTL).await, None);
    assert_eq!(hold(102, 1_011 + TTL).await, Some(2), "it was over");
    assert_eq!(hold(101, 1_012 + TTL).await, None);
    // Who has ended holds nothing, whatever its lease says.
    tx(&f.store, |tx| Box::pin(async move { tx.replicas().leave(102, at(1_020)).await })).await;
    assert_eq!(hold(101, 1_012 + TTL).await, Some(3));
    tx(&f.store, |tx| Box::pin(async move { tx.leases().release(101).await })).await;
    join(&f.store, 103, 1_020).await;
    assert_eq!(hold(103, 1_012 + TTL).await, Some(4), "it was given up");
    let mut reader = f.store.read().await.expect("a reader");
    let lease = reader.leases().get("duty").await.expect("a row").expect("a duty");
    assert_eq!((lease.boot_epoch, lease.epoch), (103, 4));
}

#[tokio::test]
async fn what_is_written_to_a_run_of_another_replica_nudges_it_and_nobody_else() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    let own = f.store.boot_epoch();
    let (mine, theirs, waiting) = (run(&f.ids), run(&f.ids), run(&f.ids));
    let ids = [mine.0.id, theirs.0.id, waiting.0.id];
    let taken = tx(&f.store, move |tx| {
        Box::pin(async move {
            for ((mut core, run), owner, state) in [
                (mine, own, RunState::Running),
                (theirs, own + 1, RunState::Running),
                // Its owner is the last that had it: nobody works on it.
                (waiting, own + 1, RunState::Queued),
            ] {
                (core.owner, core.state) = (Some(owner), state);
                tx.runs().insert(&core, &run);
                tx.event(&mut core, EventBody::RunStarted {})?;
                tx.event(&mut core, EventBody::CancelRequested { reason: None })?;
                let epoch = core.epoch;
                tx.runs().save(&core, epoch).await?;
            }
            tx.flush().await?;
            let mine = tx.replicas().take_nudges(own).await?;
            Ok((mine, tx.replicas().take_nudges(own + 1).await?))
        })
    })
    .await;
    assert_eq!(taken, (Vec::new(), vec![(ids[1], 1)]));
}

#[tokio::test]
async fn only_runs_of_replicas_that_are_gone_are_abandoned() {
    let dir = directory();
    let f = open(dir.path()).await.expect("a store");
    join(&f.store, 101, 1_000).await;
    join(&f.store, 102, 1_000).await;
    let runs = [101, 102, 103].map(|owner| (run(&f.ids), owner));
    let ids: Vec<_> = runs.iter().map(|((core, _), _)| core.id).collect();
    tx(&f.store, move |tx| {
        Box::pin(async move {
            for ((mut core, run), owner) in runs {
                (core.owner, core.state) = (Some(owner), RunState::Running);
                tx.runs().insert(&core, &run);
            }
            tx.replicas().leave(102, at(1_001)).await
        })
    })
    .await;
    let mut reader = f.store.read().await.expect("a reader");
    // The third one's owner was never heard of: a daemon from before there were replicas.
    let found = reader.runs().abandoned().await.expect("runs");
    assert_eq!(found.len(), 2);
    assert!(found.contains(&ids[1]) && found.contains(&ids[2]), "{found:?} of {ids:?}");
}
