//! Which replica may start: the same secret, the same workspaces, a version that fits.

use crate::{
    set::{Set, TAKEOVER, eventually},
    support::daemon::Told,
};

#[track_caller]
fn refused(told: &Told, words: &[&str]) {
    assert!(matches!(told.code, Some(1 | 2)), "{told:?}");
    for word in words {
        assert!(told.err.contains(word), "`{word}` is not in {told:?}");
    }
}

#[tokio::test]
async fn a_replica_with_another_secret_or_other_workspaces_does_not_start() {
    let set = Set::new();
    let mut first = set.replica().await;
    let mut other = set.prepare();
    other.set_env("AGENT_RUNTIME_PERMISSION_SECRET", "another-secret-of-more-than-32-characters");
    refused(&other.refused().await, &["permission secret", "docs/SCALING.md"]);
    let mut other = set.prepare();
    let elsewhere = other.dir().join("elsewhere");
    other.set_env("AGENT_RUNTIME_WORKSPACES_DIR", elsewhere.to_str().unwrap());
    refused(&other.refused().await, &["workspaces", "workspaces_dir", "elsewhere"]);
    let mut other = set.prepare();
    other.set_env("AGENT_RUNTIME_WORKER_RUNTIME", "docker");
    refused(&other.refused().await, &["sandbox.backend"]);
    // Nothing of that has touched the one that works.
    let id = first.submit("open", "script:exec").await;
    first.wait_for(&id, &["succeeded"]).await;
    // A new secret, where the old one is known, is the one that counts from then on.
    assert_eq!(first.stop().await, Some(0));
    first.set_env(
        "AGENT_RUNTIME_PERMISSION_SECRET_PREVIOUS",
        "a-permission-secret-of-all-the-replicas-0123",
    );
    first.set_env("AGENT_RUNTIME_PERMISSION_SECRET", "a-new-secret-of-more-than-32-characters");
    first.run().await;
    refused(&set.prepare().refused().await, &["permission secret"]);
}

#[tokio::test]
async fn a_replica_that_is_too_old_or_too_new_for_the_schema_does_not_start() {
    let set = Set::new();
    let first = set.replica().await;
    let known = set.database.psql("SELECT MAX(version) FROM _sqlx_migrations");
    let row =
        "SELECT version, schema, name <> '', address <> '' FROM replicas WHERE boot_epoch = 1";
    let version = env!("CARGO_PKG_VERSION");
    // Where it answers comes with its first beat.
    eventually("it says who it is", TAKEOVER, async || {
        (set.rows(row) == [format!("{version}|{known}|t|t")]).then_some(())
    })
    .await;
    // Another replica that is far behind still works on it.
    set.database.psql("UPDATE replicas SET schema = 1 WHERE boot_epoch = 1");
    refused(&set.prepare().refused().await, &["too old", "schema 1", "upgrade"]);
    set.database.psql(&format!("UPDATE replicas SET schema = {known} WHERE boot_epoch = 1"));
    // Somebody newer was here.
    set.database.psql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999900, 'newer', TRUE, '', 0)",
    );
    refused(&set.prepare().refused().await, &["newer version", "schema 999900"]);
    drop(first);
}
