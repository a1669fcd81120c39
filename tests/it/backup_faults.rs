//! Backups that meet a full disk or a killed daemon: what is left never looks like a whole one.

use std::{fs, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    daemon::Daemon,
    fake_llm::{FakeLlm, Turn},
    mount::{Mount, fill},
};

/// Files that nobody can compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    noise
}

/// A daemon with a key whose backups lie in this directory; the file with the secret half.
async fn prepared(fake: &FakeLlm, dir: Option<&str>) -> (Daemon, String) {
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = daemon.dir().join("backup-key.txt").to_str().unwrap().to_owned();
    let made = daemon.cli(&["backup", "keygen", "--out", &key, "--json"]).await.json();
    daemon.set_env("AGENT_RUNTIME_BACKUP_RECIPIENTS", made["recipient"].as_str().unwrap());
    if let Some(dir) = dir {
        let dir = daemon.dir().join(dir);
        daemon.set_env("AGENT_RUNTIME_BACKUP_DIR", dir.to_str().unwrap());
    }
    (daemon, key)
}

fn provider() -> FakeLlm {
    let fake = FakeLlm::start();
    let once = json!({"argv": ["/bin/sh", "-c", "true"]});
    fake.script("once", [Turn::call("exec", &once), Turn::text("done")]);
    fake
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

async fn listed(daemon: &Daemon) -> Vec<Value> {
    let list = daemon.cli(&["backup", "list", "--json"]).await.json();
    list["backups"].as_array().cloned().unwrap()
}

async fn has_alert(daemon: &Daemon) -> bool {
    let alerts = daemon.cli(&["audit", "query", "--kind", "alert", "--json"]).await.json();
    alerts.to_string().contains("backup_failed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_finds_the_disk_full_leaves_nothing_and_the_next_one_is_whole() {
    let fake = provider();
    let (mut daemon, key) = prepared(&fake, Some("small")).await;
    let dir = daemon.dir().join("small");
    let _small = Mount::small(&dir, 1_024)
        .expect("this test mounts a small file system: run it as root, as CI does");
    daemon.run().await;
    let id = daemon.submit("open", "script:once").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    // Full at its beginning, and in its middle.
    let big = daemon.workspace("open").join("big");
    for is_full in [true, false] {
        let filler = is_full.then(|| fill(&dir));
        fs::write(&big, noise(4 << 20)).unwrap();
        let told = daemon.cli(&["backup", "create"]).await;
        assert!(
            told.code == Some(1) && told.err.contains("No space left"),
            "{told:?} {}",
            daemon.log()
        );
        let left: Vec<String> =
            names(&dir).into_iter().filter(|name| name.starts_with("backup-")).collect();
        assert!(left.is_empty(), "{left:?}");
        if let Some(filler) = filler {
            fs::remove_file(filler).unwrap();
        }
    }
    let list = listed(&daemon).await;
    assert!(list.iter().all(|b| b["state"] == "failed" && b["here"] == false), "{list:?}");
    assert!(has_alert(&daemon).await);
    // The runs did not notice, and with room there is a whole one.
    let id = daemon.submit("open", "script:once again").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    fs::remove_file(&big).unwrap();
    let made = daemon.cli(&["backup", "create", "--json"]).await.json();
    let file = made["path"].as_str().unwrap();
    let drill = ["backup", "drill", file, "--identity", &key, "--json"];
    assert_eq!(daemon.cli(&drill).await.json()["ok"], true);
    // A restore that finds no room leaves nothing either.
    let other = Daemon::prepare(&fake.openai_url());
    fs::create_dir_all(daemon.dir().join("tiny")).unwrap();
    let tiny = daemon.dir().join("tiny");
    let _tiny = Mount::small(&tiny, 256).unwrap();
    let place = tiny.join("data");
    let args = ["backup", "restore", file, "--identity", &key, "--data-dir"];
    let told = other.cli(&[&args[..], &[place.to_str().unwrap()]].concat()).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(names(&tiny).is_empty(), "{:?}", names(&tiny));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_while_it_makes_a_backup_leaves_none_that_looks_whole() {
    let fake = provider();
    let (mut daemon, key) = prepared(&fake, None).await;
    daemon.run().await;
    let id = daemon.submit("open", "script:once").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let big = daemon.workspace("open").join("big");
    fs::write(&big, noise(96 << 20)).unwrap();
    let mut asked = daemon.command(&["backup", "create"]);
    let mut asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let dir = daemon.data_dir().join("backups");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !names(&dir).iter().any(|name| name.ends_with(".partial")) {
        assert!(tokio::time::Instant::now() < deadline, "{:?} {}", names(&dir), daemon.log());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    daemon.kill();
    assert!(!asked.wait().unwrap().success(), "it was told that there is a backup");
    let left = names(&dir);
    assert!(left.iter().all(|name| name.ends_with(".partial")), "it was too quick: {left:?}");
    fs::remove_file(&big).unwrap();
    let partial = dir.join(&left[0]);
    let told =
        daemon.cli(&["backup", "verify", partial.to_str().unwrap(), "--identity", &key]).await;
    assert_eq!(told.code, Some(1), "{told:?}");

    daemon.run().await;
    // The record says so once the new daemon has looked, and nothing is in the way of the next one.
    for _ in 0..200 {
        if listed(&daemon).await.iter().all(|b| b["state"] != "running") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let list = listed(&daemon).await;
    assert_eq!(
        (&list[0]["state"], &list[0]["here"]),
        (&json!("failed"), &json!(false)),
        "{list:?}"
    );
    assert!(has_alert(&daemon).await);
    let made = daemon.cli(&["backup", "create", "--json"]).await.json();
    let file = made["path"].as_str().unwrap();
    let drill = ["backup", "drill", file, "--identity", &key, "--json"];
    assert_eq!(daemon.cli(&drill).await.json()["ok"], true);
}
