//! Backups where several daemons share a store, and a copy of it beside them.

use std::time::Duration;

use crate::{
    set::{SECRET, Set, TAKEOVER, eventually, until_state},
    support::{daemon::Daemon, postgres::Server},
};

/// Longer than a daemon waits between two looks at the schedule.
const LOOKED: Duration = Duration::from_secs(11);

#[tokio::test]
async fn one_replica_makes_the_scheduled_backup_and_its_copy_lives_beside_the_original() {
    let set = Set::new();
    let (mut first, mut second) = (set.prepare(), set.prepare());
    let key = first.dir().join("backup-key.txt").to_str().unwrap().to_owned();
    let made = first.cli(&["backup", "keygen", "--out", &key, "--json"]).await.json();
    let dir = set.workspaces().with_file_name("backups");
    for daemon in [&mut first, &mut second] {
        daemon.set_env("AGENT_RUNTIME_BACKUP_RECIPIENTS", made["recipient"].as_str().unwrap());
        daemon.set_env("AGENT_RUNTIME_BACKUP_DIR", dir.to_str().unwrap());
    }
    first.run().await;
    let run = first.submit("open", "script:say").await;
    until_state(&first, &run, &["succeeded"]).await;
    assert_eq!(first.stop().await, Some(0));
    // The moment of today has passed: both see it at their start.
    for daemon in [&mut first, &mut second] {
        daemon.set_env("AGENT_RUNTIME_BACKUP_SCHEDULE", "00:00");
        daemon.run().await;
    }
    let done = "SELECT file FROM backups WHERE state = 'done' AND due IS NOT NULL";
    let file = eventually("the backup", TAKEOVER, async || set.rows(done).pop()).await;
    tokio::time::sleep(LOOKED).await;
    assert_eq!(set.rows("SELECT state FROM backups"), ["done"], "one for one moment");
    let makers: Vec<bool> =
        [&first, &second].map(|daemon| daemon.log().contains("backup made")).into();
    assert_eq!(makers.iter().filter(|made| **made).count(), 1, "{makers:?}");

    // Its copy on another database of the same server, while the original goes on.
    let database = Server::shared().database();
    let mut copy = Daemon::prepare(&set.fake.openai_url());
    copy.set_env("AGENT_RUNTIME_DATABASE_URL", &database.url());
    copy.set_env("AGENT_RUNTIME_PERMISSION_SECRET", SECRET);
    let file = dir.join(file);
    let restore = ["backup", "restore", file.to_str().unwrap(), "--identity", &key, "--json"];
    copy.cli(&restore).await.json();
    assert_eq!(database.psql("SELECT COUNT(*) FROM replicas"), "0");
    assert_eq!(database.psql("SELECT COUNT(*) FROM leases"), "0");
    copy.run().await;
    assert_eq!(copy.run_of(&run).await["state"], "succeeded");
    let name = "SELECT cluster_id FROM cluster";
    assert_ne!(database.psql(name), set.database.psql(name));
    let live = "SELECT boot_epoch FROM replicas WHERE ended_at IS NULL ORDER BY boot_epoch";
    assert_eq!(database.psql(live).lines().count(), 1, "it believes in nobody else");
    assert_eq!(set.rows(live).len(), 2, "nobody was taken over");
    for daemon in [&first, &second, &copy] {
        let run = daemon.submit("open", "script:say").await;
        until_state(daemon, &run, &["succeeded"]).await;
    }
    let audit = copy.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(audit["ok"], true, "{audit}");
}
