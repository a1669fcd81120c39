//! Starting, stopping, reloading, and the command line beside a running daemon.

use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{SOON, approval_of, event, kinds, provider, sh, until, until_asked, workspace_text},
    support::{
        checker::{Truth, check_no_leftovers},
        daemon::{ADMIN, Daemon, Told},
        fake_llm::Turn,
    },
};

/// Connected as admin, as from another machine.
fn with_admin(daemon: &mut Daemon) {
    let base = daemon.base().to_owned();
    daemon.set_env("AGENT_RUNTIME_URL", &base);
    daemon.set_env("AGENT_RUNTIME_TOKEN", ADMIN);
}

fn lines(told: &Told) -> Vec<Value> {
    let line = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
    told.out.lines().map(line).collect()
}

#[tokio::test]
async fn a_soft_stop_finishes_the_step_and_the_next_daemon_goes_on() {
    let fake = provider();
    fake.script(
        "step",
        [
            Turn::call(
                "exec",
                &sh("touch begun; while [ ! -e go ]; do sleep 0.02; done; echo one >> ran.log"),
            ),
            Turn::call("exec", &sh("echo two >> ran.log")),
            Turn::text("done"),
        ],
    );
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:step soft").await;
    let place = daemon.workspace("open");
    until("the tool", || place.join("begun").exists().then_some(())).await;
    daemon.signal(15);
    // It no longer takes runs and says so, while the step goes on.
    let deadline = Instant::now() + SOON;
    loop {
        let ready = daemon.http().get(format!("{}/readyz", daemon.base())).send().await;
        match ready {
            Ok(answer) if answer.status().as_u16() == 200 => {}
            Ok(answer) => {
                assert_eq!(answer.status().as_u16(), 503);
                break;
            }
            Err(_) => break,
        }
        assert!(Instant::now() < deadline, "still ready");
    }
    std::fs::write(place.join("go"), "").expect("a file");
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log());
    assert_eq!(workspace_text(&daemon, "open", "ran.log"), "one\n", "the step, and no more");
    let dir = daemon.data_dir();
    check_no_leftovers(&dir);
    let truth = Truth::read(&dir).await;
    truth.check_events();
    assert_eq!(truth.runs[0].state.as_str(), "queued", "given back");
    daemon.run().await;
    assert_eq!(daemon.wait_for(&id, &["succeeded", "paused"]).await["state"], "succeeded");
    assert_eq!(workspace_text(&daemon, "open", "ran.log"), "one\ntwo\n", "nothing twice");
    let kinds = kinds(&daemon, &id).await;
    assert!(!kinds.contains(&"approval.requested".to_owned()), "no doubt arose: {kinds:?}");
    let log = daemon.log();
    for word in ["stopping", "stopped"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[tokio::test]
async fn a_second_signal_drops_the_work_and_the_next_daemon_recovers_it() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:hang second signal").await;
    until_asked(&fake, "hang", 1).await;
    let begun = Instant::now();
    daemon.signal(15);
    until("the soft stop", || daemon.log().contains("stopping: no new work").then_some(())).await;
    daemon.signal(2);
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log());
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(daemon.log().contains("second signal"), "{}", daemon.log());
    daemon.run().await;
    assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["output"], "late but here");
    event(&daemon, &id, "run.recovered").await;
}

#[tokio::test]
async fn the_end_of_the_grace_drops_the_work_as_well() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), "[limits]\nstop_grace_secs = 1\n");
    daemon.run().await;
    let marker = format!("9{}.1", std::process::id());
    let exec = json!({"argv": ["/bin/sleep", marker], "timeout_secs": 50});
    fake.script("long", [Turn::call("exec", &exec), Turn::text("done")]);
    let id = daemon.submit("open", "script:long grace").await;
    crate::scenes::until_alive(&marker, true).await;
    assert_eq!(daemon.stop().await, Some(0));
    crate::scenes::until_alive(&marker, false).await;
    check_no_leftovers(&daemon.data_dir());
    daemon.run().await;
    // Whether the killed call had its effect is for a person to say.
    let run = daemon.wait_for(&id, &["paused"]).await;
    assert_eq!(run["wait_reason"], "effect_unknown");
}

#[tokio::test]
async fn a_hangup_reloads_the_log_level_and_a_wrong_file_changes_nothing() {
    let mut daemon = Daemon::prepare_with("", "[log]\nlevel = \"info\"\n");
    daemon.run().await;
    let probe = async |daemon: &Daemon| daemon.get("/readyz").await.expect(200);
    probe(&daemon).await;
    assert!(!daemon.log().contains("\"probe\""), "debug is off");
    let file = daemon.dir().join("test.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, config.replace("level = \"info\"", "level = 7")).expect("written");
    daemon.signal(1);
    until("the refusal", || daemon.log().contains("was not reloaded").then_some(())).await;
    probe(&daemon).await;
    assert!(!daemon.log().contains("\"probe\""));
    std::fs::write(&file, config.replace("\"info\"", "\"debug\"")).expect("written");
    daemon.signal(1);
    until("the reload", || daemon.log().contains("reloaded the log level").then_some(())).await;
    probe(&daemon).await;
    until("a debug line", || daemon.log().contains("\"probe\"").then_some(())).await;
    let rows = daemon.cli(&["audit", "query", "--kind", "config", "--json"]).await.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
}

#[tokio::test]
async fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let mut daemon = Daemon::prepare("");
    let path = daemon.dir().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a bound");
    daemon.set_env("NOTIFY_SOCKET", path.to_str().expect("text"));
    daemon.run().await;
    let said = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(said(), "READY=1");
    daemon.signal(1);
    assert!(said().starts_with("RELOADING=1"));
    assert_eq!(said(), "READY=1");
    daemon.signal(15);
    assert_eq!(said(), "STOPPING=1");
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn log_lines_are_json_and_name_request_and_run() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:exec log").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let request = daemon
        .http()
        .get(format!("{}/api/v1/me", daemon.base()))
        .bearer_auth(ADMIN)
        .header("x-request-id", "req-of-the-test");
    Daemon::answer(request).await.expect("an answer").expect(200);
    assert_eq!(daemon.stop().await, Some(0));
    let log = daemon.log();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(
            line["timestamp"].is_string() || line["time"].is_string() || line["at"].is_string(),
            "{line}"
        );
    }
    assert!(log.contains("req-of-the-test"), "{log}");
}

#[tokio::test]
async fn runs_and_approvals_are_driven_from_the_command_line() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    with_admin(&mut daemon);
    let told = daemon.cli(&["run", "submit", "--agent", "open", "script:say cli"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("All is well."), "{told:?}");
    let told =
        daemon.cli(&["run", "submit", "--agent", "careful", "--detach", "script:exec cli"]).await;
    let id = told.out.trim().to_owned();
    assert!(id.starts_with("run_"), "{told:?}");
    let approval = approval_of(&daemon, &id).await;
    let card = approval["id"].as_str().expect("an id");
    let list = daemon.cli(&["approval", "list"]).await;
    assert!(list.out.contains(card) && list.out.contains("exec"), "{list:?}");
    let shown = daemon.cli(&["approval", "show", card, "--json"]).await.json();
    assert_eq!(shown, approval);
    let shown = daemon.cli(&["approval", "show", card]).await;
    assert!(shown.out.contains("/bin/sh") && shown.out.contains("echo ran"), "{shown:?}");
    let told = daemon.cli(&["approval", "approve", card]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    daemon.wait_for(&id, &["succeeded"]).await;
    let late = daemon.cli(&["approval", "deny", card, "--reason", "late"]).await;
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.err.contains("decided"), "{late:?}");
    let run = daemon.cli(&["run", "show", &id, "--json"]).await.json();
    assert_eq!((&run["id"], &run["state"]), (&json!(id), &json!("succeeded")));
    let tail = daemon.cli(&["run", "tail", &id, "--json"]).await;
    assert_eq!(tail.code, Some(0));
    assert_eq!(lines(&tail), daemon.events(&id).await);
    let tail = daemon.cli(&["run", "tail", &id, "--after", "3", "--json"]).await;
    assert_eq!(lines(&tail)[0]["seq"], 4);
    let list = daemon.cli(&["run", "list", "--state", "succeeded", "--json"]).await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    let list = daemon.cli(&["run", "list"]).await;
    assert!(list.out.contains(&id) && list.out.contains("succeeded"), "{list:?}");
}

#[tokio::test]
async fn control_verbs_work_from_the_command_line_and_say_what_is_wrong() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    with_admin(&mut daemon);
    let id = daemon.submit("open", "script:stuck cli").await;
    until_asked(&fake, "stuck", 1).await;
    let code = async |args: &[&str]| daemon.cli(args).await.code;
    assert_eq!(code(&["run", "steer", &id, "more"]).await, Some(0));
    assert_eq!(code(&["run", "interrupt", &id, "--hard"]).await, Some(0));
    daemon.wait_for(&id, &["paused"]).await;
    assert_eq!(code(&["run", "resume", &id]).await, Some(0));
    assert_eq!(code(&["run", "cancel", &id, "--reason", "enough"]).await, Some(0));
    daemon.wait_for(&id, &["cancelled"]).await;
    let again = daemon.cli(&["run", "cancel", &id]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("has ended"), "{again:?}");
    let retry = daemon.cli(&["run", "retry", &id]).await;
    assert_eq!(retry.code, Some(1), "{retry:?}");
    let tail = daemon.cli(&["run", "tail", &id]).await;
    assert_eq!(tail.code, Some(1), "the run did not succeed: {tail:?}");
    assert_eq!(code(&["run", "show", "nonsense"]).await, Some(2));
    assert_eq!(code(&["run", "explode"]).await, Some(2));
    let missing = "run_0190a0a0-0000-7000-8000-000000000000";
    assert_eq!(code(&["run", "show", missing]).await, Some(1));
    assert_eq!(code(&["health"]).await, Some(0));
    daemon.set_env("AGENT_RUNTIME_TOKEN", "wrong");
    let stranger = daemon.cli(&["run", "list"]).await;
    assert_eq!(stranger.code, Some(3), "{stranger:?}");
    daemon.kill();
    let nobody = daemon.cli(&["health"]).await;
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
}

#[tokio::test]
async fn the_trail_is_verified_read_and_exported_beside_a_running_daemon() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec trail").await;
    let approval = approval_of(&daemon, &id).await;
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    let verified = daemon.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(verified["ok"], true);
    assert!(verified["rows"].as_u64() >= Some(8), "{verified}");
    let query = ["audit", "query", "--run", &id, "--json", "--limit", "500"];
    let rows = daemon.cli(&query).await.json();
    let found: Vec<_> =
        rows.as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    for kind in
        ["run_state", "approval_requested", "approval_decided", "tool_started", "tool_completed"]
    {
        assert!(found.contains(&kind), "{kind}: {found:?}");
    }
    let export = daemon.cli(&["audit", "export"]).await;
    assert_eq!(export.code, Some(0));
    // Beside the rows it holds the signed ends of the trail.
    let is_row = |line: &&Value| line.get("n").is_some() && line.get("kind").is_some();
    let exported = lines(&export);
    assert_eq!(
        exported.iter().filter(is_row).count() as u64,
        verified["rows"].as_u64().unwrap(),
        "{exported:?}"
    );
    let file = daemon.dir().join("audit.jsonl");
    let check = async |text: &str| {
        std::fs::write(&file, text).expect("written");
        daemon.cli(&["audit", "verify", "--file", file.to_str().unwrap()]).await.code
    };
    assert_eq!(check(&export.out).await, Some(0));
    // A row that is changed, left out or put elsewhere is found.
    let rows: Vec<&str> = export.out.lines().collect();
    let changed = export.out.replacen("approve", "deny", 1);
    assert_ne!(changed, export.out);
    assert_eq!(check(&changed).await, Some(1));
    let mut missing = rows.clone();
    missing.remove(rows.len() / 2);
    assert_eq!(check(&missing.join("\n")).await, Some(1));
    let mut swapped = rows.clone();
    swapped.swap(2, 3);
    assert_eq!(check(&swapped.join("\n")).await, Some(1));
}

#[tokio::test]
async fn a_row_that_is_changed_in_the_database_is_found() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:exec tamper").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    daemon.stop().await;
    assert_eq!(daemon.cli(&["audit", "verify"]).await.code, Some(0));
    let url = format!("sqlite://{}", daemon.data_dir().join("agent-runtime.db").display());
    let mut db =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.expect("a database");
    sqlx::query("UPDATE audit SET actor = 'somebody else' WHERE n = 4")
        .execute(&mut db)
        .await
        .expect("a change");
    sqlx::Connection::close(db).await.expect("an end");
    let told = daemon.cli(&["audit", "verify"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.err.contains("broken"), "{told:?}");
}

#[tokio::test]
async fn what_is_installed_can_be_looked_at() {
    let mut daemon = Daemon::prepare("");
    let version = daemon.cli(&["version", "--json"]).await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let check = daemon.cli(&["config", "check", "--allow-root"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    let shown = daemon.cli(&["config", "show", "--json"]).await;
    assert_eq!(shown.code, Some(0));
    assert!(!shown.out.contains(ADMIN), "{}", shown.out);
    let help = daemon.cli(&["--help"]).await;
    assert!(help.code == Some(0) && help.out.contains("Start here"), "{help:?}");
    daemon.run().await;
    let doctor = daemon.cli(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&doctor.out).expect("JSON");
    let items = report["items"].as_array().expect("items");
    assert!(items.len() >= 4, "{report}");
    for item in items {
        assert!(["pass", "warn", "fail"].contains(&item["verdict"].as_str().unwrap()), "{item}");
        let needs_fix = item["verdict"] != "pass";
        assert!(!needs_fix || item["fix"].is_string(), "no way out is named: {item}");
    }
    assert_eq!(doctor.code, Some(i32::from(report["ok"] != true)), "{report}");
}
