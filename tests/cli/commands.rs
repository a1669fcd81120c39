//! The client commands against a running daemon, and the local ones.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::{
    Ran, feed, run,
    support::daemon::{ALICE, Daemon},
};

/// A client command with the daemon's own address and configured token.
fn client(daemon: &Daemon, args: &[&str]) -> Ran {
    daemon.command(args).output().unwrap().into()
}

#[tokio::test]
async fn a_run_is_submitted_shown_listed_and_told_again() {
    let daemon = Daemon::start("").await;
    let ran =
        client(&daemon, &["run", "submit", "--agent", "open", "write a.txt: one\nread a.txt"])
            .good();
    assert!(ran.out.contains("→ write_file") && ran.out.contains("✓ done"), "{}", ran.out);
    let id = ran.err.trim().to_owned();
    let shown = client(&daemon, &["run", "show", &id, "--json"]).good().json();
    assert_eq!(
        (&shown["id"], &shown["state"]),
        (&Value::from(id.clone()), &Value::from("succeeded"))
    );
    let human = client(&daemon, &["run", "show", &id]).good();
    assert!(human.out.contains("state         succeeded"), "{}", human.out);
    let list = client(&daemon, &["run", "list", "--json", "--agent", "open"]).good().json();
    assert_eq!(list["items"][0]["id"], Value::from(id.clone()));
    assert!(client(&daemon, &["run", "list", "--state", "succeeded"]).good().out.contains(&id));
    let tail = client(&daemon, &["run", "tail", &id, "--json"]).good();
    let seqs: Vec<u64> = tail
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=shown["seq"].as_u64().unwrap()).collect::<Vec<_>>());
    let rest = client(&daemon, &["run", "tail", &id, "--json", "--after", "3"]).good();
    assert_eq!(rest.out.lines().count(), seqs.len() - 3);
}

#[tokio::test]
async fn a_waiting_run_is_approved_denied_and_cancelled_from_the_command_line() {
    let daemon = Daemon::start("").await;
    let submit = |script: &str| {
        let args = ["run", "submit", "--detach", "--agent", "careful", script];
        client(&daemon, &args).good().out.trim().to_owned()
    };
    let pending = async |run: &str| {
        daemon.wait_for(run, &["awaiting_approval"]).await;
        let list = client(&daemon, &["approval", "list", "--json"]).good().json();
        let items = list["items"].as_array().unwrap();
        let item = items.iter().find(|a| a["run_id"] == run).unwrap();
        item["id"].as_str().unwrap().to_owned()
    };
    let (yes, no, end) =
        (submit("shell echo y > y"), submit("shell echo n > n"), submit("shell true"));
    let approval = pending(&yes).await;
    let shown = client(&daemon, &["approval", "show", &approval]).good().out;
    assert!(shown.contains("script: echo y > y") && shown.contains("high risk"), "{shown}");
    client(&daemon, &["approval", "approve", &approval]).good();
    client(&daemon, &["approval", "approve", &approval]).bad(1, "approval.stale");
    let approval = pending(&no).await;
    client(&daemon, &["approval", "deny", &approval, "--reason", "not now"]).good();
    for run in [&yes, &no] {
        daemon.wait_for(run, &["succeeded"]).await;
    }
    assert!(daemon.workspace("careful").join("y").exists());
    assert!(!daemon.workspace("careful").join("n").exists());
    daemon.wait_for(&end, &["awaiting_approval"]).await;
    let cancelled =
        client(&daemon, &["run", "cancel", &end, "--reason", "enough", "--json"]).good();
    assert!(cancelled.json()["id"] == end.as_str());
    daemon.wait_for(&end, &["cancelled"]).await;
    assert_eq!(client(&daemon, &["run", "tail", &end]).code, Some(1));
    client(&daemon, &["run", "resume", &end]).bad(1, "run.terminal");
}

#[tokio::test]
async fn a_question_is_answered_by_resume_and_a_run_is_steered() {
    let daemon = Daemon::start("").await;
    let args = ["run", "submit", "--detach", "--agent", "open", "ask Which colour?"];
    let id = client(&daemon, &args).good().out.trim().to_owned();
    daemon.wait_for(&id, &["paused"]).await;
    client(&daemon, &["run", "resume", &id, "blue"]).good();
    let done = daemon.wait_for(&id, &["succeeded"]).await;
    assert!(done["output"].as_str().unwrap().contains("blue"), "{done}");
    client(&daemon, &["run", "steer", &id, "more"]).bad(1, "run.terminal");
    client(&daemon, &["run", "retry", &id]).bad(1, "409");
    let args = ["run", "submit", "--detach", "--agent", "open", "run sleep 30"];
    let id = client(&daemon, &args).good().out.trim().to_owned();
    daemon.wait_for(&id, &["running"]).await;
    client(&daemon, &["run", "interrupt", &id, "--hard"]).good();
    daemon.wait_for(&id, &["paused"]).await;
}

#[tokio::test]
async fn chat_works_through_a_pipe_and_asks_for_approvals() {
    let daemon = Daemon::start("").await;
    let mut command = daemon.command(&["chat", "--agent", "careful"]);
    let ran = feed(
        &mut command,
        "shell echo said-yes\ny\nshell echo said-no\nn\nask Sure?\nquite sure\n/runs\n",
    )
    .good();
    assert!(ran.out.contains("│ said-yes"), "{}", ran.out);
    assert!(!ran.out.contains("│ said-no"), "{}", ran.out);
    assert!(ran.out.contains("   | quite sure"), "{}", ran.out);
    assert_eq!(ran.out.matches("succeeded\u{20}").count(), 3, "{}", ran.out);
    let mut command = daemon.command(&["chat", "--agent", "careful"]);
    let unanswered = feed(&mut command, "shell echo never\n");
    assert_eq!(unanswered.code, Some(1));
    assert!(unanswered.err.contains("approval approve apr_"), "{unanswered:?}");
    feed(&mut daemon.command(&["chat", "--agent", "nobody"]), "list\n").bad(1, "agent");
}

#[tokio::test]
async fn a_wrong_token_and_an_absent_daemon_are_told_apart_from_failures() {
    let daemon = Daemon::start("").await;
    let with_token = |token: &str, args: &[&str]| {
        Ran::from(daemon.command(args).env("AGENT_RUNTIME_TOKEN", token).output().unwrap())
    };
    with_token(ALICE, &["run", "list"]).good();
    with_token("wrong", &["run", "list"]).bad(3, "401");
    let url = ["run", "list", "--url", "http://127.0.0.1:1"];
    client(&daemon, &url).bad(3, "no daemon answers at http://127.0.0.1:1");
    client(&daemon, &["run", "list", "--url", "127.0.0.1:1"]).bad(2, "is not a URL");
    client(&daemon, &["run", "show", "run_1"]).bad(2, "not a valid id");
    let token = daemon.dir().join("token");
    fs::write(&token, ALICE).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let named = ["run", "list", "--token-file", token.to_str().unwrap()];
    client(&daemon, &named).bad(2, "chmod 600");
    assert_eq!(client(&daemon, &["health"]).good().out.split(' ').next(), Some("ready"));
}

#[tokio::test]
async fn the_audit_trail_is_verified_queried_and_exported_and_a_change_is_found() {
    let mut daemon = Daemon::start("").await;
    let id = daemon.submit("open", "run true").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    client(&daemon, &["audit", "verify"]).good();
    daemon.kill();
    let rows = client(&daemon, &["audit", "query", "--run", &id, "--json"]).good().json();
    assert!(rows.as_array().unwrap().iter().any(|r| r["kind"] == "tool_started"), "{rows}");
    let export = client(&daemon, &["audit", "export"]).good().out;
    let file = daemon.dir().join("audit.jsonl");
    let verify = |text: &str| {
        fs::write(&file, text).unwrap();
        client(&daemon, &["audit", "verify", "--json", "--file", file.to_str().unwrap()])
    };
    assert_eq!(verify(&export).good().json()["ok"], true);
    let lines: Vec<&str> = export.lines().collect();
    let changed = export.replace("tool_started", "tool_denied");
    let without = [&lines[..2], &lines[3..]].concat().join("\n");
    for text in [changed.as_str(), without.as_str(), "nonsense"] {
        let found = verify(text);
        assert_eq!((found.code, &found.json()["ok"]), (Some(1), &Value::from(false)));
    }
    let elsewhere = tempfile::tempdir().unwrap();
    run(elsewhere.path(), &["audit", "verify"]).bad(2, "--data-dir");
}

#[test]
fn init_makes_a_configuration_that_works_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["init", "--production"]).good();
    let token = dir.path().join("data/secrets/auth-token");
    let permission = dir.path().join("data/secrets/permission-secret");
    let config = dir.path().join("config/agent-runtime.toml");
    for path in [&token, &permission, &config] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let secret = fs::read_to_string(&token).unwrap();
    assert_eq!(secret.trim().len(), 64);
    run(dir.path(), &["config", "check", "--allow-root"]).good();
    let shown = run(dir.path(), &["config", "show", "--json"]).good();
    assert!(!shown.out.contains(secret.trim()));
    let entries = shown.json();
    let entry = entries.as_array().unwrap().iter().find(|e| e["key"] == "env").unwrap();
    assert_eq!(
        (&entry["value"], &entry["origin"]),
        (&"production".into(), &"config/agent-runtime.toml:2".into())
    );
    run(dir.path(), &["init"]).bad(2, "--force");
    assert_eq!(fs::read_to_string(&token).unwrap(), secret);
    let sealing = fs::read_to_string(&permission).unwrap();
    run(dir.path(), &["init", "--force"]).good();
    assert_ne!(fs::read_to_string(&token).unwrap(), secret);
    assert_eq!(fs::read_to_string(&permission).unwrap(), sealing, "what it sealed would be lost");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    run(dir.path(), &["config", "check", "--allow-root"]).bad(2, "chmod 600");
}

#[test]
fn doctor_says_what_is_wrong_and_how_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    let healthy = run(dir.path(), &["doctor", "--json"]).good().json();
    let item = |report: &Value, name: &str| {
        report["items"].as_array().unwrap().iter().find(|i| i["name"] == name).cloned().unwrap()
    };
    assert_eq!(item(&healthy, "sandbox")["verdict"], "pass", "{healthy}");
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        data.join("agent-runtime.db"),
        "this is no database, and long enough to be read as one".repeat(50),
    )
    .unwrap();
    fs::write(data.join("bootstrap-token"), "x").unwrap();
    fs::set_permissions(data.join("bootstrap-token"), fs::Permissions::from_mode(0o644)).unwrap();
    let sick = run(dir.path(), &["doctor", "--json"]);
    assert_eq!(sick.code, Some(1), "{sick:?}");
    let report = sick.json();
    for (name, verdict, word) in [
        ("data directory", "warn", "chmod 700"),
        ("store", "fail", "backup"),
        ("secrets", "fail", "chmod 600"),
    ] {
        let found = item(&report, name);
        assert_eq!(found["verdict"], verdict, "{found}");
        assert!(found["fix"].as_str().unwrap().contains(word), "{found}");
    }
    fs::write(dir.path().join("bad.toml"), "x = 1").unwrap();
    let wrong = run(dir.path(), &["--config", "bad.toml", "doctor"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.out.contains("unknown key `x`"), "{wrong:?}");
}

#[test]
fn doctor_attests_the_sandbox_with_negative_controls() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(dir.path(), &["doctor", "--attest", "--json"]).good().json();
    assert_eq!((&report["ok"], &report["level"]), (&true.into(), &"full".into()), "{report}");
    let findings = report["findings"].as_array().unwrap();
    let held = findings.iter().filter(|f| f["shown"] == "held").count();
    assert!(held >= 15, "{report}");
    let table = run(dir.path(), &["doctor", "--attest"]).good().out;
    assert!(table.contains("read a file outside") && table.contains("level full"), "{table}");
}

#[test]
fn help_teaches_with_examples() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(dir.path(), &["--help"]).good().out;
    assert!(help.contains("Exit codes:") && help.contains("agent-runtime demo"), "{help}");
    for command in ["serve", "demo", "init", "chat", "run", "approval", "audit", "config"] {
        let help = run(dir.path(), &[command, "--help"]).good().out;
        assert!(
            help.contains("Examples:") && help.contains(&format!("agent-runtime {command}")),
            "{help}"
        );
    }
}
