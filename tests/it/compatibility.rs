//! Upgrades: the database that an older release left behind opens, and its runs go on from where
//! they were; one that a newer release has changed is refused, and the words say what to do.
//!
//! `tests/compat/schema-N.sql` is a database as the last release with migration N left it, in the
//! middle of everything. Before migration N + 1 is added, write the next one with
//! `AGENT_RUNTIME_TEST_WRITE_DATABASE=tests/compat/schema-N.sql cargo test --test it compatibility`
//! (it needs `sqlite3`), and name it in [`LEFT_BEHIND`].

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    scenes::{approval_of, sh, until, until_asked, verb, workspace_text},
    support::{
        checker::Truth,
        daemon::Daemon,
        fake_llm::{FakeLlm, Fault, Turn},
    },
};

/// The databases that this release must open, oldest first.
const LEFT_BEHIND: [(&str, &str); 1] = [("0003", include_str!("../compat/schema-0003.sql"))];
/// What a person may take to answer between two releases. Longer than this program lives.
const PATIENT: &str = "[limits]\napproval_ttl_secs = 3000000000\n";
/// The same secret before and after: an upgrade changes none.
const SECRET: &str = "a-permission-secret-of-old-0123456789";

fn prepare(fake: &FakeLlm) -> Daemon {
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), PATIENT);
    daemon.set_env("PERMISSION_SECRET", SECRET);
    daemon
}

/// A provider that knows the scripts; where it hangs, a new one answers.
fn provider(is_old: bool) -> FakeLlm {
    let fake = FakeLlm::start();
    fake.script("say", [Turn::text("All is well.")]);
    fake.script("exec", [Turn::call("exec", &sh("echo ran >> ran.log")), Turn::text("done")]);
    let question = json!({"question": "Which colour?", "options": ["red", "blue"]});
    fake.script("ask", [Turn::call("ask_user", &question), Turn::text("thanks")]);
    // Hangs in the old release's hands; the new one is answered.
    let hang = Fault::Hang;
    let late = Turn::text("late but here");
    fake.script("late", [if is_old { late.after([hang; 64]) } else { late }]);
    let witness = "echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60";
    fake.script("cut", [Turn::call("exec", &sh(witness)), Turn::text("told")]);
    let refused = Fault::Status(400, None, "invalid_request_error");
    fake.script("bad", [Turn::text("never").after([refused; 64])]);
    fake
}

/// A daemon dies in the middle of all that a run can be in.
async fn leave_behind() -> (FakeLlm, Daemon) {
    let fake = provider(true);
    let mut daemon = prepare(&fake);
    daemon.run().await;
    for args in [
        &["principal", "create", "ann", "--role", "operator"][..],
        &["egress", "add", "api.example.com", "--agent", "open"],
        &["budget", "set", "org", "--tokens-per-day", "9000000"],
    ] {
        let told = daemon.cli(args).await;
        assert_eq!(told.code, Some(0), "{told:?}");
    }
    let done = daemon.submit("open", "script:exec succeeded").await;
    let done = daemon.wait_for(&done, &["succeeded"]).await;
    let cancelled = daemon.submit("open", "script:late cancelled").await;
    until_asked(&fake, "late", 1).await;
    assert_eq!(verb(&daemon, &cancelled, "cancel", &json!({})).await.0, 202);
    daemon.wait_for(&cancelled, &["cancelled"]).await;
    let failed = daemon.submit("open", "script:bad failed").await;
    daemon.wait_for(&failed, &["failed"]).await;
    let asks = daemon.submit("careful", "script:exec asks").await;
    approval_of(&daemon, &asks).await;
    let behind = json!({"agent": "careful", "input": "script:say queued",
                        "conversation_id": daemon.run_of(&asks).await["conversation_id"]});
    let behind = daemon.post("/api/v1/runs", &behind).await.expect(202);
    assert_eq!(behind["state"], "queued");
    let question = daemon.submit("open", "script:ask question").await;
    daemon.wait_for(&question, &["paused"]).await;
    let paused = daemon.submit("open", "script:late paused").await;
    until_asked(&fake, "late", 2).await;
    assert_eq!(verb(&daemon, &paused, "interrupt", &json!({})).await.0, 202);
    daemon.wait_for(&paused, &["paused"]).await;
    daemon.submit("open", "script:late thinking").await;
    until_asked(&fake, "late", 3).await;
    // One more turn of a thread that has a bundle.
    let again = json!({"agent": "open", "input": "script:late again",
                       "conversation_id": done["conversation_id"]});
    daemon.post("/api/v1/runs", &again).await.expect(202);
    until_asked(&fake, "late", 4).await;
    daemon.submit("open", "script:cut unknown").await;
    let here = daemon.workspace("open").join("here");
    until("the call that is cut", || here.exists().then_some(())).await;
    daemon.kill();
    (fake, daemon)
}

/// Its runs by their input's last word.
async fn runs(daemon: &Daemon) -> BTreeMap<String, Value> {
    let page = daemon.get("/api/v1/runs?limit=100").await.expect(200);
    let by_name = |run: &Value| {
        let input = run["input"].as_str().unwrap_or_default();
        (input.rsplit(' ').next().unwrap_or_default().to_owned(), run.clone())
    };
    page["items"].as_array().expect("runs").iter().map(by_name).collect()
}

/// Everything that was left behind goes on to its end, and what ended stays as it was.
async fn goes_on(daemon: &mut Daemon) {
    let runs = runs(daemon).await;
    let id = |name: &str| runs[name]["id"].as_str().expect("an id").to_owned();
    assert_eq!(runs.len(), 10, "{runs:#?}");
    for (name, state) in
        [("succeeded", "succeeded"), ("cancelled", "cancelled"), ("failed", "failed")]
    {
        assert_eq!(runs[name]["state"], state);
    }
    for name in ["thinking", "again"] {
        let run = daemon.wait_for(&id(name), &["succeeded"]).await;
        assert_eq!(run["output"], "late but here");
    }
    // An answer is bound to the very directory, and that of the fixture is not here: asked again.
    loop {
        let run = daemon.wait_for(&id("asks"), &["succeeded", "awaiting_approval"]).await;
        if run["state"] == "succeeded" {
            break;
        }
        for asked in daemon.pending(&id("asks")).await {
            daemon.decide(&asked, &json!({"decision": "approve"})).await.expect(200);
        }
    }
    assert_eq!(workspace_text(daemon, "careful", "ran.log"), "ran\n");
    daemon.wait_for(&id("queued"), &["succeeded"]).await;
    let blue = json!({"input": "blue"});
    for (name, body) in [("question", &blue), ("paused", &json!({}))] {
        assert_eq!(verb(daemon, &id(name), "resume", body).await.0, 202, "{name}");
        daemon.wait_for(&id(name), &["succeeded"]).await;
    }
    let unknown = approval_of(daemon, &id("unknown")).await;
    assert_eq!(unknown["kind"], "unknown_effect");
    let happened = json!({"decision": "approve", "outcome": "happened"});
    daemon.decide(&unknown, &happened).await.expect(200);
    daemon.wait_for(&id("unknown"), &["succeeded"]).await;
    let new = daemon.submit("open", "script:say new").await;
    daemon.wait_for(&new, &["succeeded"]).await;
    for (args, word) in [
        (&["principal", "list"][..], "ann"),
        (&["egress", "list"], "api.example.com"),
        (&["budget", "show"], "9000000"),
        (&["audit", "verify"], ""),
    ] {
        let told = daemon.cli(args).await;
        assert!(told.code == Some(0) && told.out.contains(word), "{args:?}: {told:?}");
    }
    let dir = daemon.data_dir();
    assert_eq!(daemon.stop().await, Some(0));
    let truth = Truth::read(&dir).await;
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
    truth.check_settled();
}

#[tokio::test]
async fn what_this_release_leaves_behind_goes_on_in_itself() {
    let (_old, mut daemon) = leave_behind().await;
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    if let Ok(file) = std::env::var("AGENT_RUNTIME_TEST_WRITE_DATABASE") {
        write_down(&daemon, Path::new(&file));
    }
    let fake = provider(false);
    daemon.set_env("AGENT_RUNTIME_LLM_BASE_URL", &fake.openai_url());
    daemon.run().await;
    goes_on(&mut daemon).await;
}

#[tokio::test]
async fn what_an_older_release_left_behind_opens_and_goes_on() {
    for (schema, text) in LEFT_BEHIND {
        println!("schema {schema}");
        let fake = provider(false);
        let mut daemon = prepare(&fake);
        read_back(&daemon, text).await;
        let witness = daemon.workspace("open");
        fs::create_dir_all(&witness).expect("a directory");
        daemon.run().await;
        goes_on(&mut daemon).await;
    }
}

/// The database as text.
fn write_down(daemon: &Daemon, file: &Path) {
    let database = agent_runtime::store::database_file(&daemon.data_dir());
    #[expect(clippy::disallowed_methods, reason = "only to write the next fixture")]
    let dump = std::process::Command::new("sqlite3").arg(database).arg(".dump").output();
    let dump = dump.expect("sqlite3 is installed");
    assert!(dump.status.success());
    fs::write(file, dump.stdout).expect("a file");
}

async fn read_back(daemon: &Daemon, text: &'static str) {
    let dir = daemon.data_dir();
    fs::create_dir_all(&dir).expect("a directory");
    let database = agent_runtime::store::database_file(&dir);
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options).await.expect("a database");
    sqlx::raw_sql(text).execute(&mut conn).await.expect("its rows");
    conn.close().await.expect("it closes");
}
