//! Every write path has its failpoints: the sources are read, and each place that commits, starts a
//! process, sends or stores a file stands in a table with the points around it, or with the reason
//! why it has none.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What does something that others can see.
const ACTS: &[&str] = &[
    // Commits.
    "sqlite::COMMIT",
    "sqlite::COUNT_AND_COMMIT",
    "postgres::commit(",
    "tx.commit()",
    "MIGRATIONS.run(",
    // Processes.
    "Command::new(",
    "helper.ask(",
    "kept.ask(",
    "sys::fork(",
    "sys::fork_until_exec(",
    // Messages.
    "request.send()",
    "socket.send(",
    "socket.feed(",
    "socket.connect(",
    ".write_all(",
    "next.run(request)",
    // Files.
    "fs::write(",
    "fs::rename(",
    "renameat(",
    "sync_all()",
];

use Guard::{Points, Without};

/// What stands around a write path.
#[derive(Clone, Copy)]
enum Guard {
    /// Points of this file.
    Points(&'static [&'static str]),
    /// None, because.
    Without(&'static str),
}

const HELPER: Guard =
    Without("in the helper or a sandbox, which have no environment; the daemon's side has points");
const CANARY: Guard = Without("an attempt of the canary, before the daemon is ready");
const STREAMED: Guard =
    Without("bytes of a connection that the points around its dialling let through");
const MEMORY: Guard = Without("a file in memory for a call that has points of its own");
const ACKNOWLEDGED: Guard = Without("`answer::acknowledged` has the point, behind every handler");
const LOG: Guard = Without("the log");
const HOOK: Guard = Without("the operator's program behind a finished backup; no run waits for it");
const ARCHIVE: Guard = Without("a backup's own file, which counts once it has its last name");
const CLI: Guard = Without("a command of a person, not the daemon");

/// File, act, how often at most, and what stands around it.
const PATHS: &[(&str, &str, usize, Guard)] = &[
    ("app/backup/restore.rs", "fs::rename(", 1, CLI),
    ("app/backup/restore.rs", "sync_all()", 2, CLI),
    ("app/cli/backup.rs", ".write_all(", 1, CLI),
    ("app/cli/backup.rs", "sync_all()", 1, CLI),
    ("app/cli/export.rs", ".write_all(", 2, CLI),
    ("app/cli/export.rs", "sync_all()", 1, CLI),
    ("app/cli/migrate.rs", "fs::rename(", 1, CLI),
    ("app/cli/migrate.rs", "sync_all()", 1, CLI),
    ("runtime/hook.rs", "Command::new(", 1, HOOK),
    ("runtime/log_file.rs", ".write_all(", 5, LOG),
    ("runtime/log_file.rs", "fs::rename(", 1, LOG),
    ("runtime/log_file.rs", "sync_all()", 1, LOG),
    ("store/archive/age/stream.rs", ".write_all(", 3, ARCHIVE),
    ("store/archive/pack.rs", "sync_all()", 1, ARCHIVE),
    ("store/archive/write.rs", "fs::rename(", 1, ARCHIVE),
    ("store/archive/write.rs", "sync_all()", 1, ARCHIVE),
    ("store/dump/load.rs", "sqlite::COMMIT", 1, CLI),
    ("app/client/mod.rs", "request.send()", 1, CLI),
    ("app/config/secret_file.rs", ".write_all(", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("app/config/secret_file.rs", "fs::rename(", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("app/config/secret_file.rs", "sync_all()", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("app/cluster.rs", "sync_all()", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("store/members.rs", "fs::write(", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("store/members.rs", "fs::rename(", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("store/members.rs", "sync_all()", 1, Points(&["OwnFileBefore", "OwnFileAfter"])),
    ("app/demo/daemon.rs", "Command::new(", 2, CLI),
    ("app/demo/witness.rs", "Command::new(", 1, CLI),
    ("egress/body.rs", ".write_all(", 4, STREAMED),
    ("egress/dial.rs", ".write_all(", 1, Points(&["EgressDialBefore", "EgressDialAfter"])),
    ("egress/dial.rs", "socket.connect(", 1, Points(&["EgressDialBefore", "EgressDialAfter"])),
    ("egress/plain.rs", ".write_all(", 2, STREAMED),
    ("egress/proxy.rs", ".write_all(", 1, STREAMED),
    (
        "egress/resolve.rs",
        "socket.connect(",
        1,
        Without("nothing is sent: it asks the kernel for an address"),
    ),
    ("egress/response.rs", ".write_all(", 2, STREAMED),
    ("egress/tunnel.rs", ".write_all(", 3, STREAMED),
    (
        "http/api/ws/mod.rs",
        "socket.send(",
        1,
        Without("the farewell of a connection that nobody was let in on"),
    ),
    ("http/api/ws/session.rs", "socket.feed(", 1, Points(&["SocketSendBefore", "SocketSendAfter"])),
    ("http/api/ws/session.rs", "socket.send(", 2, Points(&["SocketSendBefore", "SocketSendAfter"])),
    ("http/kit/door.rs", "next.run(request)", 1, ACKNOWLEDGED),
    ("http/kit/edge.rs", "next.run(request)", 1, ACKNOWLEDGED),
    ("llm/client.rs", "request.send()", 1, Points(&["LlmSendBefore", "LlmSendAfter"])),
    (
        "runtime/durable.rs",
        "sync_all()",
        1,
        Without("a name; who made it has points around the whole"),
    ),
    (
        "runtime/failpoint/armed.rs",
        ".write_all(",
        1,
        Without("the log of the failpoints themselves"),
    ),
    ("runtime/telemetry.rs", ".write_all(", 2, Without("the log")),
    ("sandbox/bound.rs", ".write_all(", 1, MEMORY),
    ("sandbox/call.rs", "kept.ask(", 1, Points(&["SandboxCallBefore", "SandboxCallAfter"])),
    ("sandbox/canary.rs", ".write_all(", 2, CANARY),
    ("sandbox/canary.rs", "fs::write(", 4, CANARY),
    ("sandbox/canary.rs", "sys::fork(", 1, CANARY),
    ("sandbox/cgroup.rs", "fs::write(", 1, Without("ends what is left of a call")),
    ("sandbox/child.rs", "sys::fork(", 1, HELPER),
    ("sandbox/child.rs", "sys::fork_until_exec(", 1, HELPER),
    ("sandbox/dir.rs", ".write_all(", 3, Points(&["FileWriteBefore", "FileWriteAfter"])),
    ("sandbox/dir.rs", "renameat(", 1, Points(&["FileWriteBefore", "FileWriteAfter"])),
    ("sandbox/dir.rs", "sync_all()", 2, Points(&["FileWriteBefore", "FileWriteAfter"])),
    (
        "sandbox/docker/api.rs",
        ".write_all(",
        1,
        Points(&["SandboxBuildBefore", "SandboxBuildAfter"]),
    ),
    (
        "sandbox/docker/exec.rs",
        ".write_all(",
        1,
        Without("input of a call whose start has its points in `api`"),
    ),
    ("sandbox/docker/mod.rs", "fs::write(", 1, CANARY),
    ("sandbox/kept.rs", "fs::write(", 5, HELPER),
    ("sandbox/kept.rs", "sys::fork(", 1, HELPER),
    ("sandbox/local.rs", ".write_all(", 1, MEMORY),
    ("sandbox/local.rs", "Command::new(", 1, Points(&["SandboxCallBefore", "SandboxCallAfter"])),
    ("sandbox/lock.rs", ".write_all(", 1, Without("who holds the lock, for people")),
    ("sandbox/mounts.rs", ".write_all(", 1, HELPER),
    ("sandbox/net_canary.rs", ".write_all(", 1, CANARY),
    ("sandbox/parent.rs", "Command::new(", 2, Points(&["HelperSpawnBefore", "HelperSpawnAfter"])),
    ("sandbox/session.rs", "helper.ask(", 1, Points(&["SandboxBuildBefore", "SandboxBuildAfter"])),
    ("sandbox/wire.rs", ".write_all(", 1, MEMORY),
    ("sandbox/zygote.rs", "sys::fork(", 1, HELPER),
    (
        "store/outside.rs",
        ".write_all(",
        1,
        Points(&["CheckpointAppendBefore", "CheckpointAppendAfter"]),
    ),
    (
        "store/outside.rs",
        "sync_all()",
        1,
        Points(&["CheckpointAppendBefore", "CheckpointAppendAfter"]),
    ),
    (
        "store/backend/sqlite.rs",
        "MIGRATIONS.run(",
        1,
        Without("each migration is one transaction; the points of the opening stand behind it"),
    ),
    ("store/tx/file.rs", "sqlite::COMMIT", 1, Points(&["StoreCommitAfter"])),
    ("store/tx/file.rs", "sqlite::COUNT_AND_COMMIT", 1, Points(&["StoreCommitAfter"])),
    ("store/tx/group.rs", "postgres::commit(", 1, Points(&["StoreCommitAfter"])),
    ("store/writer.rs", "tx.commit()", 1, Points(&["StoreBeginBefore", "StoreCommitBefore"])),
];

/// The code of a file that is no test.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text.get(..end).unwrap_or_default().lines();
    let code = lines.filter(|l| !l.trim_start().starts_with("//"));
    let code: String = code.flat_map(|l| [l, "\n"]).collect();
    // A method of the store that writes rows into the transaction, not bytes to a file.
    code.replace(".write_all()", "")
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !name.starts_with("tests") {
                collect(&path, into);
            }
        } else if path.extension().is_some_and(|e| e == "rs")
            && name != "tests.rs"
            && !name.ends_with("_tests.rs")
            && name != "testing.rs"
        {
            into.push(path);
        }
    }
}

/// What is wrong with these sources: path below `src/` and text.
fn unguarded(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, text) in files {
        let code = code(text);
        for act in ACTS {
            let count = code.matches(act).count();
            let row = PATHS.iter().find(|(path, known, ..)| path == file && known == act);
            match row {
                None if count > 0 => {
                    wrong.push(format!(
                        "{file}: `{act}` × {count} has no row: no failpoint is known"
                    ));
                }
                Some((_, _, known, guard)) if *known < count => {
                    let guard = match guard {
                        Points(points) => format!("between {points:?}"),
                        Without(why) => format!("without a point: {why}"),
                    };
                    wrong.push(format!(
                        "{file}: `{act}` × {count}, the table knows {known} {guard}"
                    ));
                }
                Some((_, _, _, Points(points))) if count > 0 => {
                    for point in *points {
                        if !code.contains(&format!("Point::{point})")) {
                            wrong.push(format!("{file}: `{act}` has lost its point {point}"));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    wrong
}

fn read() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 200, "only {} files found", files.len());
    let name = |f: &PathBuf| f.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|f| (name(f), fs::read_to_string(f).unwrap())).collect()
}

#[test]
fn every_write_path_has_its_failpoints_or_says_why_not() {
    let wrong = unguarded(&read());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_new_write_path_without_a_failpoint_is_found() {
    let mut files = read();
    let writer = files.get_mut("store/outside.rs").unwrap();
    *writer = format!("fn f() {{ file.write_all(b\"x\") }}\n{writer}");
    assert!(unguarded(&files).iter().any(|w| w.starts_with("store/outside.rs")));
    let mut files = read();
    files.insert("orchestrator/new.rs".to_owned(), "fn f() { fs::write(p, t) }".to_owned());
    assert!(unguarded(&files).iter().any(|w| w.starts_with("orchestrator/new.rs")));
    let mut files = read();
    let gone = files.get_mut("store/outside.rs").unwrap();
    *gone = gone.replace("Point::CheckpointAppendAfter", "Point::Nothing");
    assert!(unguarded(&files).iter().any(|w| w.contains("has lost its point")));
}

#[test]
fn each_point_stands_in_the_sources_exactly_where_something_happens() {
    let files = read();
    for point in agent_runtime::runtime::failpoint::Point::ALL {
        let used = format!("Point::{point:?})");
        let places: Vec<_> = files.iter().filter(|(_, text)| text.contains(&used)).collect();
        assert!(!places.is_empty(), "{used} stands nowhere");
    }
}
