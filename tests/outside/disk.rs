//! (f) The disk is full, breaks or may not be written, and some time later it is well again. New
//! work is refused with a clear problem, nothing is lost, `/readyz` says so, and when the trouble
//! ends everything goes on without anybody's help.
//!
//! The errors come from the shim, at the calls of SQLite and of the checkpoint file; real full file
//! systems are in `tests/it/faults.rs` and below. `AGENT_RUNTIME_TEST_DISK_ROUNDS` (1) repeats it.

use std::{fs, path::PathBuf, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    dice::{Dice, seed, setting},
    load::{self, sh},
    shim::{Fault, Shim, Target},
    support::{
        daemon::{ADMIN, Daemon, PATIENCE, VIEWER},
        fake_llm::Turn,
        mount::{Mount, fill},
    },
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// After the trouble: how soon everything must work again.
const SOON: Duration = Duration::from_secs(10);

async fn ready(daemon: &Daemon) -> (u16, Value) {
    let answer = daemon.http().get(format!("{}/readyz", daemon.base())).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

async fn until_ready(daemon: &Daemon, wanted: u16) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let (status, body) = ready(daemon).await;
        if status == wanted {
            return body;
        }
        assert!(Instant::now() < deadline, "/readyz says {status} {body}: {}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_file(path: PathBuf) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not come", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_trouble_refuses_clearly_loses_nothing_and_mends_by_itself() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let shim = Shim::load(&mut daemon);
    daemon.run().await;
    let workspace = daemon.workspace("open");
    let mut accepted = 0;
    let mut rounds = 0;
    let write = |errno| (errno, 0, 0);
    for round in 0..setting("AGENT_RUNTIME_TEST_DISK_ROUNDS", 1) {
        for (name, (write_errno, sync_errno, read_errno)) in [
            ("full", write(ENOSPC)),
            ("read-only", write(EROFS)),
            ("broken", write(EIO)),
            ("broken-sync", (0, EIO, 0)),
            ("full-sync", (0, ENOSPC, 0)),
            ("unreadable", (EIO, EIO, EIO)),
        ] {
            rounds += 1;
            let tag = format!("{name}-{round}");
            let script = format!(
                "touch begun-{tag}; while [ ! -e go-{tag} ]; do sleep 0.02; done; echo {tag} >> ran.log"
            );
            fake.script(
                &format!("gate-{tag}"),
                [Turn::call("exec", &sh(&script)), Turn::text("through")],
            );
            let run = daemon.submit("open", &format!("script:gate-{tag}")).await;
            let asks = daemon.submit("careful", &format!("script:once asks {tag}")).await;
            accepted += 2;
            daemon.wait_for(&asks, &["awaiting_approval"]).await;
            until_file(workspace.join(format!("begun-{tag}"))).await;
            let approval = daemon.pending(&asks).await.remove(0);

            let fault = Fault {
                write_errno,
                sync_errno,
                read_errno,
                target: Target::Database,
                times: None,
            };
            shim.fail(fault);
            let began = Instant::now();
            let mut keys = Vec::new();
            for n in 0..4 {
                let (key, body) = (format!("{tag}-{n}"), load::body(&mut dice, n));
                let answer = load::send(&daemon, &key, &body).await.expect("an answer");
                assert_eq!(answer.status.as_u16(), 503, "{tag}: {}", answer.text);
                assert_eq!(answer.code(), "store.unavailable", "{tag}");
                assert!(answer.headers.contains_key("retry-after"), "{tag}: {:?}", answer.headers);
                keys.push((key, body));
            }
            let decided = daemon.decide(&approval, &json!({"decision": "approve"})).await;
            assert_eq!(
                (decided.status.as_u16(), decided.code()),
                (503, "store.unavailable".to_owned())
            );
            let run_of_viewer = json!({"agent": "open", "input": "not for viewers"});
            let refused = daemon.call(Method::POST, "/api/v1/runs", VIEWER, Some(&run_of_viewer));
            assert_eq!(refused.await.expect("an answer").status.as_u16(), 403, "{tag}");
            let body = until_ready(&daemon, 503).await;
            let seen = began.elapsed();
            assert_eq!(body["checks"]["store"]["ok"], json!(false), "{tag}: {body}");
            assert_eq!(body["checks"]["llm"]["ok"], json!(true), "{tag}: {body}");
            assert_eq!(daemon.get("/healthz").await.status.as_u16(), 200, "{tag}");
            // What a tool did meanwhile is kept until it can be stored.
            fs::write(workspace.join(format!("go-{tag}")), "").expect("a file");
            tokio::time::sleep(Duration::from_millis(700)).await;

            let failed = shim.mend();
            assert!(failed > 0, "{tag}: nothing failed");
            let mended = Instant::now();
            until_ready(&daemon, 200).await;
            let run = daemon.wait_for(&run, &["succeeded", "failed", "paused"]).await;
            assert_eq!(
                (&run["state"], &run["output"]),
                (&json!("succeeded"), &json!("through")),
                "{tag}"
            );
            for (key, body) in keys {
                load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
                accepted += 1;
            }
            assert!(
                daemon.decide(&approval, &json!({"decision": "approve"})).await.status.is_success()
            );
            println!(
                "{tag}: {failed} calls failed, seen after {seen:?}, well after {:?}",
                mended.elapsed()
            );
        }
    }
    load::settle(&daemon, &mut dice).await;
    let ran = fs::read_to_string(workspace.join("ran.log")).expect("a log");
    assert_eq!(ran.lines().count(), rounds, "each tool ran once: {ran}");
    let export = daemon.cli(&["audit", "export"]).await;
    assert_eq!(export.out.matches("\"access_denied\"").count(), rounds, "audit rows waited");
    assert_eq!(daemon.stop().await, Some(0));
    let truth = load::read_and_check(&daemon.data_dir()).await;
    truth.check_settled();
    let witness: Vec<String> = load::witness(&daemon).into_iter().map(|(call, _)| call).collect();
    truth.check_witness(&witness);
    assert_eq!(truth.runs.len(), accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_cannot_be_written_outside_are_told_and_written_later() {
    let mut daemon = Daemon::prepare("");
    let shim = Shim::load(&mut daemon);
    daemon.run().await;
    let file = daemon.data_dir().join("audit-checkpoints.jsonl");
    let lines = || fs::read_to_string(&file).unwrap_or_default().lines().count();
    let before = lines();
    for errno in [ENOSPC, EIO, EROFS] {
        let fault = Fault {
            write_errno: errno,
            sync_errno: errno,
            read_errno: 0,
            target: Target::Checkpoints,
            times: None,
        };
        shim.fail(fault);
        let told = daemon.cli(&["audit", "checkpoint"]).await;
        assert!(!matches!(told.code, Some(0) | None), "{told:?}");
        // The runs do not wait for it.
        let id = daemon.submit("reader", "hello").await;
        daemon.wait_for(&id, &["succeeded"]).await;
        let standing = lines();
        assert!(shim.mend() > 0);
        let deadline = Instant::now() + SOON;
        while lines() == standing {
            assert!(Instant::now() < deadline, "it is not written: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(lines() >= before + 3);
    let told = daemon.cli(&["audit", "verify"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(daemon.stop().await, Some(0));
    load::read_and_check(&daemon.data_dir()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_workspace_fails_the_write_and_keeps_the_old_file() {
    let fake = load::provider();
    let old = "old ".repeat(10);
    let write = |content: &str| {
        Turn::call(
            "write_file",
            &json!({"path": "notes.txt", "content": content, "mode": "overwrite"}),
        )
    };
    fake.script("small", [write(&old), Turn::text("kept")]);
    fake.script("large", [write(&"new ".repeat(20_000)), Turn::text("told")]);
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let room = Mount::small(&daemon.data_dir().join("workspaces"), 512)
        .expect("this test mounts a small file system: run it as root, as CI does");
    daemon.run().await;
    let small = daemon.submit("open", "script:small").await;
    daemon.wait_for(&small, &["succeeded"]).await;
    let workspace = daemon.workspace("open");
    let names = || {
        let entries = fs::read_dir(&workspace).expect("a directory").filter_map(Result::ok);
        entries.map(|entry| entry.file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    let filler = fill(&daemon.data_dir().join("workspaces"));
    let large = daemon.submit("open", "script:large").await;
    daemon.wait_for(&large, &["succeeded"]).await;
    let events = daemon.events(&large).await;
    let done = events.iter().find(|e| e["type"] == "tool.completed").expect("an outcome");
    assert_ne!(done["data"]["outcome"]["status"], json!("ok"), "{done}");
    assert!(done.to_string().contains("space"), "it says why: {done}");
    assert_eq!(fs::read_to_string(workspace.join("notes.txt")).expect("a file"), old);
    assert_eq!(names(), before, "half a file was left");
    // The store has room: the daemon is ready and works.
    assert_eq!(ready(&daemon).await.0, 200);
    fs::remove_file(filler).expect("removed");
    let large = daemon.submit("open", "script:large again").await;
    daemon.wait_for(&large, &["succeeded"]).await;
    assert_eq!(fs::read_to_string(workspace.join("notes.txt")).expect("a file").len(), 80_000);
    let token = daemon.call(Method::GET, "/api/v1/runs", ADMIN, None).await.expect("an answer");
    assert_eq!(token.status.as_u16(), 200);
    daemon.kill();
    drop(room);
}
