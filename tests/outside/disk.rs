//! (f) The disk is full, breaks or may not be written, and some time later it is well again. New
//! work is refused with a clear problem, nothing is lost, `/readyz` says so, and when the trouble
//! ends everything goes on without anybody's help.
//!
//! The errors come from the shim, at the calls of SQLite and of the checkpoint file; real full file
//! systems are in `tests/it/faults.rs` and below. `AGENT_RUNTIME_TEST_DISK_ROUNDS` (1) repeats it.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    dice::{Dice, count, seed},
    load::{self, UnderWay},
    shim::{Fault, Shim, Target},
    support::{
        daemon::{ADMIN, Daemon, VIEWER},
        fake_llm::Turn,
        mount::{Mount, fill},
    },
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// After the trouble: how soon everything must work again.
const SOON: Duration = Duration::from_secs(10);

async fn until_ready(daemon: &Daemon, wanted: u16) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let (status, body) = load::ready(daemon).await;
        if status == wanted {
            return body;
        }
        assert!(Instant::now() < deadline, "/readyz says {status} {body}: {}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything that is refused while the disk is in trouble, and what goes on; what was asked for.
async fn trouble(
    daemon: &Daemon,
    dice: &mut Dice,
    tag: &str,
    under_way: &UnderWay,
) -> Vec<(String, Value)> {
    let mut asked = Vec::new();
    for n in 0..4 {
        let (key, body) = (format!("{tag}-{n}"), load::body(dice, n));
        let answer = load::send(daemon, &key, &body).await.expect("an answer");
        load::assert_unavailable(&answer);
        asked.push((key, body));
    }
    let yes = json!({"decision": "approve"});
    load::assert_unavailable(&daemon.decide(&under_way.approval, &yes).await);
    let not_theirs = json!({"agent": "open", "input": "not for viewers"});
    let refused = daemon.call(Method::POST, "/api/v1/runs", VIEWER, Some(&not_theirs)).await;
    assert_eq!(refused.expect("an answer").status.as_u16(), 403, "{tag}");
    let body = until_ready(daemon, 503).await;
    assert_eq!(body["checks"]["store"]["ok"], json!(false), "{tag}: {body}");
    assert_eq!(body["checks"]["llm"]["ok"], json!(true), "{tag}: {body}");
    assert_eq!(daemon.get("/healthz").await.status.as_u16(), 200, "{tag}");
    asked
}

/// Writes, fsyncs and reads that fail, by name.
const FAULTS: [(&str, [i32; 3]); 6] = [
    ("full", [ENOSPC, 0, 0]),
    ("read-only", [EROFS, 0, 0]),
    ("broken", [EIO, 0, 0]),
    ("broken-sync", [0, EIO, 0]),
    ("full-sync", [0, ENOSPC, 0]),
    ("unreadable", [EIO, EIO, EIO]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_trouble_refuses_clearly_loses_nothing_and_mends_by_itself() {
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let shim = Shim::load(&mut daemon);
    daemon.run().await;
    let rounds = count("AGENT_RUNTIME_TEST_DISK_ROUNDS", 1);
    for round in 0..rounds {
        for (name, [write_errno, sync_errno, read_errno]) in FAULTS {
            let tag = format!("{name}-{round}");
            let under_way = UnderWay::begin(&daemon, &fake, &tag).await;
            let target = Target::Database;
            shim.fail(Fault { write_errno, sync_errno, read_errno, target, times: None });
            let asked = trouble(&daemon, &mut dice, &tag, &under_way).await;
            // What a tool did meanwhile is kept until it can be stored.
            under_way.let_go(&daemon);
            tokio::time::sleep(Duration::from_millis(700)).await;
            let failed = shim.mend();
            assert!(failed > 0, "{tag}: nothing failed");
            let mended = Instant::now();
            until_ready(&daemon, 200).await;
            under_way.succeeds(&daemon).await;
            println!("{tag}: {failed} calls failed so far, well after {:?}", mended.elapsed());
            for (key, body) in asked {
                load::send(&daemon, &key, &body).await.expect("an answer").expect(202);
            }
            let yes = json!({"decision": "approve"});
            assert!(daemon.decide(&under_way.approval, &yes).await.status.is_success());
        }
    }
    let tools = rounds * FAULTS.len();
    let export = daemon.cli(&["audit", "export"]).await;
    assert_eq!(export.out.matches("\"access_denied\"").count(), tools, "audit rows waited");
    load::end(&mut daemon, &mut dice, tools, tools * 6).await;
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
    assert_eq!(load::ready(&daemon).await.0, 200);
    fs::remove_file(filler).expect("removed");
    let large = daemon.submit("open", "script:large again").await;
    daemon.wait_for(&large, &["succeeded"]).await;
    assert_eq!(fs::read_to_string(workspace.join("notes.txt")).expect("a file").len(), 80_000);
    let token = daemon.call(Method::GET, "/api/v1/runs", ADMIN, None).await.expect("an answer");
    assert_eq!(token.status.as_u16(), 200);
    daemon.kill();
    drop(room);
}
