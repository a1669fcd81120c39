//! A file that can be damaged, and a planner that never counts.

use super::*;

#[tokio::test]
async fn a_damaged_file_is_refused_and_not_changed() {
    let dir = on_sqlite();
    let file = database_file(dir.path());
    let rubbish = vec![0x42_u8; 8192];
    std::fs::write(&file, &rubbish).unwrap();
    let error = open(dir.path()).await.err().expect("refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), rubbish);
}

#[tokio::test]
async fn each_hot_query_uses_an_index() {
    let dir = on_sqlite();
    let f = open(dir.path()).await.unwrap();
    let mut reader = f.store.read().await.unwrap();
    for sql in [
        runs::CLAIMABLE,
        "SELECT id FROM runs WHERE state IN ('running', 'cancelling') ORDER BY id LIMIT 1",
        "SELECT id FROM runs WHERE wake_at IS NOT NULL AND wake_at <= 1 ORDER BY wake_at LIMIT 1",
        "SELECT id FROM runs WHERE conversation_id = 'c' AND state = 'queued' AND ready = 0 ORDER BY id LIMIT 1",
        "SELECT id FROM approvals WHERE state = 'pending' AND expires_at <= 1 ORDER BY expires_at LIMIT 1",
        "SELECT body FROM events WHERE run_id = 'r' AND seq > 1 ORDER BY seq LIMIT 1",
        "SELECT content FROM messages WHERE conversation_id = 'c' ORDER BY seq DESC LIMIT 1",
    ] {
        let plan = reader.plan(sql).await.unwrap();
        assert!(!plan.contains("SCAN"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn pages_of_decisions_are_read_by_their_key_and_never_scanned() {
    let dir = on_sqlite();
    let f = open(dir.path()).await.unwrap();
    let mut reader = f.store.read().await.unwrap();
    for sql in [
        "SELECT call_id, n, run_id, at, agent, policy_version, verdict, rule, layer, question \
         FROM decisions WHERE (call_id, n) > ($1, $2) ORDER BY call_id, n LIMIT $3",
        "SELECT call_id, n, run_id, at, agent, policy_version, verdict, rule, layer, question \
         FROM decisions WHERE call_id = $1 ORDER BY n DESC LIMIT $2",
        "SELECT call_id, n FROM decisions WHERE call_id < $1 ORDER BY call_id, n LIMIT $2",
    ] {
        let plan = reader.plan(sql).await.unwrap();
        assert!(plan.contains("SEARCH decisions USING"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test]
async fn who_waits_is_found_by_an_index_alone() {
    let dir = on_sqlite();
    let f = open(dir.path()).await.unwrap();
    let mut reader = f.store.read().await.unwrap();
    let plan = reader.plan(runs::CLAIMANTS).await.unwrap();
    assert!(plan.matches("SEARCH runs USING COVERING INDEX runs_claimable").count() == 2, "{plan}");
    assert!(!plan.contains("SCAN runs"), "{plan}");
}

#[tokio::test]
async fn a_database_that_one_daemon_owns_has_no_other_replica_after_a_start() {
    let dir = on_sqlite();
    let first = open(dir.path()).await.expect("a store");
    let before = first.store.boot_epoch();
    first.tasks.stop().hard();
    first.tasks.wait().await;
    drop(first);
    let second = open(dir.path()).await.expect("a store");
    let mut reader = second.store.read().await.expect("a reader");
    let live = reader.replicas().live().await.expect("rows");
    assert_eq!(live.iter().map(|r| r.boot_epoch).collect::<Vec<_>>(), [before + 1]);
    let left = reader.replicas().unrecovered().await.expect("rows");
    assert_eq!(left.iter().map(|r| r.boot_epoch).collect::<Vec<_>>(), [before]);
}
