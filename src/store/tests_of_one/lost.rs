//! A Postgres that goes away in the middle: what was answered stands, what failed does not.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use test_server::{Server, Stop, Sync};
use tokio::time::Instant;

use super::*;

/// Longest time from the database's return to the first write.
const SOON: Duration = Duration::from_secs(20);

/// Writes until told to stop; the runs whose commit was answered, and how many failed.
async fn write_on(
    f: &Fixture,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> (Vec<RunId>, usize) {
    let (mut kept, mut failed) = (Vec::new(), 0);
    while !*stop.borrow_and_update() {
        let group = (0..4).map(|_| insert_as(f, Durability::Full, false));
        for result in futures_util::future::join_all(group).await {
            match result {
                Ok(id) => kept.push(id),
                Err(error) => {
                    assert!(error.is_temporary(), "{error:?}");
                    failed += 1;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (kept, failed)
}

/// Waits until a write is done again.
async fn comes_back(f: &Fixture) -> RunId {
    let deadline = Instant::now() + SOON;
    loop {
        match insert_as(f, Durability::Full, false).await {
            Ok(id) => return id,
            Err(error) => assert!(Instant::now() < deadline, "it does not come back: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Exactly what was answered is stored, and the trail has a row for each.
async fn check(f: &Fixture, mut kept: Vec<RunId>) {
    kept.sort_by_key(ToString::to_string);
    let stored = stored(&f.store).await;
    assert_eq!(stored.len(), kept.len());
    assert_eq!(stored, kept);
    assert_eq!(check_trail(&f.store).await, u64::try_from(kept.len()).unwrap());
}

#[tokio::test]
async fn a_writer_whose_connection_is_ended_connects_again_and_loses_nothing() {
    let place = on_postgres();
    let f = open(place.path()).await.unwrap();
    let database = place.database.as_ref().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let disturb = async {
        let mut ended = 0;
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            ended += database.terminate_connections();
        }
        stop.send_replace(true);
        ended
    };
    let ((mut kept, failed), ended) = tokio::join!(write_on(&f, stopped), disturb);
    assert!(ended >= 6, "only {ended} connections were ended: this shows nothing");
    assert!(kept.len() > 20, "{} kept, {failed} failed", kept.len());
    kept.push(comes_back(&f).await);
    check(&f, kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_is_found_again_and_nothing_answered_is_lost() {
    let server = Server::start(Sync::Off);
    let place = in_database(server.database());
    let f = Arc::new(open(place.path()).await.unwrap());
    let mut kept = Vec::new();
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let disturb = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let server = Arc::clone(&server);
            let down = move || {
                server.stop(how);
                std::thread::sleep(Duration::from_millis(300));
                server.resume();
            };
            std::thread::Builder::new().spawn(down).unwrap();
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            stop.send_replace(true);
        };
        let ((more, failed), ()) = tokio::join!(write_on(&f, stopped), disturb);
        assert!(failed > 0, "{how:?} hit nothing");
        kept.extend(more);
        kept.push(comes_back(&f).await);
    }
    check(&f, kept).await;
}

#[tokio::test]
async fn what_is_locked_for_too_long_is_busy_and_what_takes_too_long_is_given_up() {
    let (locked, slow) = (on_postgres(), on_postgres());
    let (a, b) = (open(locked.path()).await.unwrap(), open(slow.path()).await.unwrap());
    let id = insert_as(&a, Durability::Full, false).await.unwrap();
    let database = locked.database.as_ref().unwrap();
    // An administrator looks at a row, and goes to lunch.
    let sql = "BEGIN; SELECT 1 FROM runs FOR UPDATE; SELECT pg_sleep(14); COMMIT";
    let (server, name) = (Arc::clone(database.server()), database.name().to_owned());
    let lunch = std::thread::Builder::new().spawn(move || server.psql(&name, sql)).unwrap();
    // And on another server something makes every row of the trail slow.
    let database = slow.database.as_ref().unwrap();
    database.psql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN PERFORM pg_sleep(60); RETURN NEW; END$$; \
         CREATE TRIGGER slow BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let begin = Instant::now();
    let held = async {
        while locked.database.as_ref().unwrap().psql(waits) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let step = a
            .store
            .write(Durability::Normal, move |tx| Box::pin(async move { tx.runs().core(id).await }));
        (step.await, begin.elapsed())
    };
    let late = async { (b.store.audit(entry(json!({}))).await, begin.elapsed()) };
    let ((held, busy_after), (late, gone_after)) = tokio::join!(held, late);
    assert!(matches!(held, Err(StoreError::Busy)), "{held:?}");
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    for took in [busy_after, gone_after] {
        assert!((9..15).contains(&took.as_secs()), "{took:?}");
    }
    // Nothing of it goes on behind our back, and the next write is one.
    database.psql("DROP TRIGGER slow ON audit");
    b.store.audit(entry(json!({}))).await.unwrap();
    assert_eq!(check_trail(&b.store).await, 1);
    lunch.join().unwrap();
    insert_as(&a, Durability::Full, false).await.unwrap();
}
