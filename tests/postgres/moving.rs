//! A store moves from SQLite to Postgres and back, and a backup goes from one to the other.

use std::{fs, path::Path};

use agent_runtime::store::{Database, ReadOnlyStore};
use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, Told},
    fake_llm::{FakeLlm, Turn},
    postgres::Server,
};

/// A daemon on a file of its own: every other one of this binary is on the server.
fn on_a_file(fake: &FakeLlm) -> Daemon {
    let mut daemon = Daemon::prepare(&fake.openai_url());
    daemon.use_a_file();
    daemon
}

fn provider() -> FakeLlm {
    let fake = FakeLlm::start();
    let once = json!({"argv": ["/bin/sh", "-c", "true"]});
    fake.script("once", [Turn::call("exec", &once), Turn::text("done")]);
    fake
}

async fn migrate(daemon: &Daemon, from: &str, to: &str, more: &[&str]) -> Told {
    let args = [&["migrate", "--from", from, "--to", to, "--json"], more].concat();
    daemon.cli(&args).await
}

/// What a store is called; none before its first start.
async fn name_of(data_dir: &Path, database: &Database) -> Option<String> {
    let store = ReadOnlyStore::open(data_dir, database).await.unwrap();
    let identity = store.read().await.unwrap().cluster().get().await.unwrap();
    identity.map(|identity| identity.id)
}

/// What every table but those that each start changes holds.
fn tables(moved: &Value) -> Vec<Value> {
    moved["tables"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_postgres_and_back_and_the_daemon_goes_on() {
    let fake = provider();
    let (one, two) = (Server::shared().database(), Server::shared().database());
    let mut daemon = on_a_file(&fake);
    daemon.run().await;
    let mut runs = Vec::new();
    for n in 0..8 {
        runs.push(daemon.submit("open", &format!("script:once {n}")).await);
    }
    for id in &runs {
        daemon.wait_for(id, &["succeeded"]).await;
    }
    let file = daemon.data_dir().join("agent-runtime.db");
    let sqlite = format!("sqlite://{}", file.display());
    let refused = migrate(&daemon, &sqlite, &one.url(), &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("--snapshot"), "{refused:?}");
    // One moment of a daemon at work.
    let moved = migrate(&daemon, &sqlite, &two.url(), &["--snapshot"]).await.json();
    assert!(moved["rows"].as_u64().unwrap() > 100, "{moved}");
    assert_eq!(daemon.stop().await, Some(0));
    let server = |url: String| Database::Postgres(url.parse().unwrap());
    let name = name_of(&daemon.data_dir(), &Database::Sqlite).await;
    assert!(name.is_some());
    let copied = name_of(&daemon.data_dir(), &server(two.url())).await;
    assert_eq!(copied, None, "a copy makes its own name");

    let there = migrate(&daemon, &sqlite, &one.url(), &[]).await.json();
    let refused = migrate(&daemon, &sqlite, &one.url(), &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("not empty"), "{refused:?}");
    // The store itself is there now, under its own name and without the daemons of before.
    assert_eq!(name_of(&daemon.data_dir(), &server(one.url())).await, name);
    // Back again, nothing has changed.
    let back = daemon.dir().join("back");
    let back_url = format!("sqlite://{}", back.join("agent-runtime.db").display());
    let returned = migrate(&daemon, &one.url(), &back_url, &[]).await.json();
    assert_eq!(tables(&there), tables(&returned));
    let refused = migrate(&daemon, &one.url(), &back_url, &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("there already"), "{refused:?}");
    let left = fs::read_dir(&back).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("migrating")));

    // The daemon goes on with what is on the server.
    daemon.use_database(&one.url());
    fs::rename(&file, daemon.dir().join("old.db")).unwrap();
    daemon.run().await;
    for id in &runs {
        assert_eq!(daemon.run_of(id).await["state"], "succeeded");
    }
    let id = daemon.submit("open", "script:once on the server").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let audit = daemon.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(audit["ok"], true, "{audit}");
    let refused = migrate(&daemon, &one.url(), &format!("{back_url}x"), &[]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    // While it is at work there it does not go anywhere; one moment of it does.
    let again = daemon.dir().join("again");
    let again_url = format!("sqlite://{}", again.join("agent-runtime.db").display());
    let refused = migrate(&daemon, &one.url(), &again_url, &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("--snapshot"), "{refused:?}");
    assert!(!again.exists(), "something was made");
    migrate(&daemon, &one.url(), &again_url, &["--snapshot"]).await.json();
    assert_eq!(name_of(&again, &Database::Sqlite).await, None);
    // A daemon that was killed counts for as long as it may come back.
    daemon.kill();
    let third = daemon.dir().join("third");
    let third_url = format!("sqlite://{}", third.join("agent-runtime.db").display());
    let refused = migrate(&daemon, &one.url(), &third_url, &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("work on"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_one_database_is_put_into_the_other() {
    let fake = provider();
    let (from, to) = (Server::shared().database(), Server::shared().database());
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = daemon.dir().join("backup-key.txt");
    let key = key.to_str().unwrap().to_owned();
    let made = daemon.cli(&["backup", "keygen", "--out", &key, "--json"]).await.json();
    daemon.set_env("AGENT_RUNTIME_BACKUP_RECIPIENTS", made["recipient"].as_str().unwrap());
    daemon.use_database(&from.url());
    daemon.run().await;
    let id = daemon.submit("open", "script:once").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let made = daemon.cli(&["backup", "create", "--json"]).await.json();
    let file = made["path"].as_str().unwrap().to_owned();
    let drilled =
        daemon.cli(&["backup", "drill", &file, "--identity", &key, "--json"]).await.json();
    assert_eq!(drilled["ok"], true, "{drilled}");
    assert_eq!(daemon.stop().await, Some(0));
    let restore = ["backup", "restore", &file, "--identity", &key, "--json"];
    // Into an empty database on the server; a full one is refused and leaves no directory.
    let mut other = Daemon::prepare(&fake.openai_url());
    other.use_database(&from.url());
    let refused = other.cli(&restore).await;
    assert!(refused.code == Some(2) && refused.err.contains("not empty"), "{refused:?}");
    assert!(!other.data_dir().exists());
    other.use_database(&to.url());
    other.cli(&restore).await.json();
    let secret = |daemon: &Daemon| daemon.data_dir().join("permission-secret");
    fs::copy(secret(&daemon), secret(&other)).unwrap();
    assert!(!Path::new(&other.data_dir().join("agent-runtime.db")).exists());
    other.run().await;
    assert_eq!(other.run_of(&id).await["state"], "succeeded");
    let audit = other.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(audit["ok"], true, "{audit}");
}
