//! What the machine does to the daemon: a second one, a damaged file, no right to write, no room.
//! Each gives one clear error and loses nothing.

use std::fs;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{SOON, provider, sh, until},
    support::{
        checker::Truth,
        daemon::{ADMIN, Answer, Daemon, PATIENCE, Told},
        fake_llm::Turn,
        mount::{Mount, fill},
    },
};

/// A refusal to start: a failing exit code, and one line that names the trouble.
fn assert_refused(told: &Told, words: &[&str]) {
    assert!(!matches!(told.code, Some(0) | None), "{told:?}");
    let errors: Vec<&str> = told.err.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not named: {told:?}");
    }
    for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!told.err.contains(noise), "{told:?}");
    }
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused_and_the_first_goes_on() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:ask second").await;
    daemon.wait_for(&id, &["paused"]).await;
    let before = fs::read(daemon.data_dir().join("http-addr")).expect("an address");
    let dir = daemon.data_dir();
    for _ in 0..3 {
        assert_refused(&daemon.refused().await, &["another daemon", dir.to_str().unwrap()]);
    }
    assert_eq!(fs::read(dir.join("http-addr")).expect("an address"), before);
    let (status, _) = crate::scenes::verb(&daemon, &id, "resume", &json!({"input": "red"})).await;
    assert_eq!(status, 202);
    daemon.wait_for(&id, &["succeeded"]).await;
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_alone() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:say damage").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(daemon.stop().await, Some(0));
    let file = daemon.data_dir().join("agent-runtime.db");
    let good = fs::read(&file).expect("a database");
    assert!(good.len() > 8_192);
    let mut torn = good.clone();
    torn.truncate(good.len() / 2 + 100);
    let mut scribbled = good.clone();
    scribbled[..4_096].fill(0x5a);
    let mut header = good.clone();
    header[100..4_096].fill(0xff);
    for (what, bytes) in [
        ("not a database", b"this is not a database, only some text. ".repeat(50)),
        ("scribbled", scribbled),
        ("first page", header),
        ("torn", torn),
    ] {
        for rest in ["agent-runtime.db-wal", "agent-runtime.db-shm"] {
            drop(fs::remove_file(daemon.data_dir().join(rest)));
        }
        fs::write(&file, &bytes).expect("written");
        assert_refused(&daemon.refused().await, &["agent-runtime.db", "damaged"]);
        assert!(fs::read(&file).expect("a file") == bytes, "{what}: the file was changed");
    }
    fs::write(&file, &good).expect("written");
    daemon.run().await;
    assert_eq!(daemon.run_of(&id).await["state"], "succeeded", "the right file still works");
}

#[tokio::test]
async fn a_database_of_another_version_is_refused() {
    let mut daemon = Daemon::start("").await;
    assert_eq!(daemon.stop().await, Some(0));
    let options = format!("sqlite://{}", daemon.data_dir().join("agent-runtime.db").display());
    let change = async |sql: &'static str| {
        use sqlx::Connection;
        let mut db = sqlx::SqliteConnection::connect(&options).await.expect("a database");
        sqlx::query(sql).execute(&mut db).await.expect("a change");
        db.close().await.expect("an end");
    };
    change(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            VALUES (99990101, 'from the future', 1, x'00', 0)",
    )
    .await;
    assert_refused(&daemon.refused().await, &["agent-runtime.db", "version"]);
    change("DELETE FROM _sqlx_migrations WHERE version = 99990101").await;
    daemon.run().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let dir = daemon.data_dir();
    // Root may write whatever the mode says, so for root the file system itself is read-only.
    let small = Mount::small(&dir, 16_384);
    let lock = |is_locked: bool| {
        if let Some(small) = &small {
            small.set_read_only(is_locked);
            return;
        }
        fs::create_dir_all(&dir).expect("a directory");
        let mode = if is_locked { 0o500 } else { 0o700 };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&dir, mode).expect("a mode");
    };
    lock(true);
    assert_refused(&daemon.refused().await, &["data directory", dir.to_str().unwrap()]);
    lock(false);
    daemon.run().await;
    let id = daemon.submit("open", "script:say writable").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    if small.is_some() {
        daemon.stop().await;
        lock(true);
        assert_refused(&daemon.refused().await, &["data directory"]);
        lock(false);
        daemon.run().await;
        assert_eq!(daemon.run_of(&id).await["state"], "succeeded", "nothing was lost");
    }
    daemon.kill();
}

async fn create(daemon: &Daemon, key: &str) -> Answer {
    let request = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ADMIN)
        .header("idempotency-key", key)
        .json(&json!({"agent": "reader", "input": format!("script:say {key}")}));
    Daemon::answer(request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_mends_itself() {
    let fake = provider();
    let script = "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo ran >> ran.log";
    fake.script("gate", [Turn::call("exec", &sh(script)), Turn::text("through")]);
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let dir = daemon.data_dir();
    let small = Mount::small(&dir, 8_192)
        .expect("this test mounts a small file system: run it as root, as CI does");
    // The tool has room; only the store has none.
    let room = Mount::small(&dir.join("workspaces"), 4_096).expect("a second one");
    let workspace = daemon.workspace("open");
    daemon.run().await;
    let gate = daemon.submit("open", "script:gate").await;
    until("the tool", || workspace.join("begun").exists().then_some(())).await;
    let filler = fill(&dir);

    // The log may have some room of its own; then it is over.
    let mut promised = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let key = format!("full-{}", promised.len());
        let answer = create(&daemon, &key).await;
        if answer.status.as_u16() != 202 {
            break (key, answer);
        }
        promised.push((key, answer.json()["id"].as_str().expect("an id").to_owned()));
        assert!(Instant::now() < deadline, "the disk is never full");
    };
    let (refused_key, answer) = refused;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "store.unavailable".to_owned()));
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    // A probe that writes nothing would not see it; it writes at most once a second.
    let deadline = Instant::now() + PATIENCE;
    let probe = loop {
        let probe = daemon.get("/readyz").await;
        if probe.status.as_u16() == 503 {
            break probe;
        }
        assert!(Instant::now() < deadline, "nobody sees it: {}", probe.text);
        tokio::time::sleep(crate::support::live::LOOK).await;
    };
    assert_eq!(probe.json()["checks"]["store"]["ok"], json!(false), "{}", probe.text);
    // Reading still works, and the process lives.
    assert_eq!(daemon.get("/healthz").await.status.as_u16(), 200);
    assert_eq!(daemon.run_of(&gate).await["state"], "running");
    let steer = json!({"input": "while full"});
    let answer = daemon.post(&format!("/api/v1/runs/{gate}/steer"), &steer).await;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
    // The tool's result is held until it can be stored.
    fs::write(workspace.join("go"), "").expect("a file");
    until("the held result", || {
        daemon.log().contains("the store cannot commit; trying again").then_some(())
    })
    .await;

    fs::remove_file(filler).expect("removed");
    let run = daemon.wait_for(&gate, &["succeeded", "failed", "paused"]).await;
    assert_eq!((&run["state"], &run["output"]), (&json!("succeeded"), &json!("through")), "{run}");
    assert_eq!(fs::read_to_string(workspace.join("ran.log")).expect("a log"), "ran\n", "once");
    for (key, id) in &promised {
        assert_eq!(daemon.wait_for(id, &["succeeded"]).await["output"], "All is well.");
        assert_eq!(create(&daemon, key).await.expect(202)["id"], json!(id));
    }
    let deadline = Instant::now() + SOON;
    let id = loop {
        let answer = create(&daemon, &refused_key).await;
        if answer.status.as_u16() == 202 {
            break answer.json()["id"].as_str().expect("an id").to_owned();
        }
        assert!(Instant::now() < deadline, "still refused: {}", answer.text);
        tokio::time::sleep(crate::support::live::LOOK).await;
    };
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(daemon.stop().await, Some(0));
    let truth = Truth::read(&dir).await;
    assert_eq!(truth.runs.len(), promised.len() + 2, "one run per request that was accepted");
    truth.check_events();
    truth.check_audit();
    truth.check_settled();
    drop(room);
    drop(small);
}

#[tokio::test]
async fn a_kill_on_a_full_disk_is_survived_too() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let dir = daemon.data_dir();
    let small = Mount::small(&dir, 8_192)
        .expect("this test mounts a small file system: run it as root, as CI does");
    daemon.run().await;
    let body = |n: usize| json!({"agent": "reader", "input": format!("script:say kill {n}")});
    let first = daemon.post("/api/v1/runs?wait=30", &body(0)).await.expect(200);
    let filler = fill(&dir);
    let mut promised = vec![first["id"].as_str().expect("an id").to_owned()];
    for n in 1..500 {
        let answer = daemon.post("/api/v1/runs", &body(n)).await;
        if answer.status.as_u16() != 202 {
            assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
            break;
        }
        promised.push(answer.json()["id"].as_str().expect("an id").to_owned());
    }
    daemon.kill();
    fs::remove_file(filler).expect("removed");
    daemon.run().await;
    for id in &promised {
        daemon.wait_for(id, &["succeeded"]).await;
    }
    daemon.stop().await;
    let truth = Truth::read(&dir).await;
    assert_eq!(truth.runs.len(), promised.len());
    truth.check_events();
    truth.check_audit();
    drop(small);
}

#[tokio::test]
async fn a_wrong_configuration_names_every_fault_with_file_and_line() {
    let daemon = Daemon::prepare_with("", "[htttp]\naddr = \"x\"\n[log]\nlevel = 7\n");
    let told = daemon.refused().await;
    assert!(!matches!(told.code, Some(0) | None), "{told:?}");
    for word in ["test.toml:", "htttp", "log.level"] {
        assert!(told.err.contains(word), "{word}: {told:?}");
    }
    assert!(!daemon.data_dir().join("agent-runtime.db").exists(), "nothing was begun");
    let check = daemon.cli(&["config", "check"]).await;
    assert!(!matches!(check.code, Some(0) | None), "{check:?}");
    let readable = Daemon::prepare_with("", "");
    let file = readable.dir().join("test.toml");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&file, open).expect("a mode");
    let told = readable.refused().await;
    assert!(!matches!(told.code, Some(0) | None), "secrets that others can read: {told:?}");
    let rules: Value = readable.cli(&["version", "--json"]).await.json();
    assert_eq!(rules["version"], env!("CARGO_PKG_VERSION"));
}
