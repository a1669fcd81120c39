//! Secrets that the daemon keeps: sealed at rest, used where the configuration names them, replaced
//! without a restart, and never shown.

use std::{fs, io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::{
    scenes::{provider, until},
    support::{
        daemon::{Daemon, Told},
        fake_site::FakeSite,
    },
    web::play,
};

const FIRST: &str = "first-value-of-a-secret-0123456789";
const SECOND: &str = "second-value-of-a-secret-987654321";

/// Stores a secret as a person does: from standard input.
pub(crate) fn set(daemon: &Daemon, name: &str, value: &str) -> Told {
    let mut child = daemon
        .command(&["secret", "set", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{value}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn configuration(site: &FakeSite) -> String {
    format!(
        "{}\n[egress.secrets.site-key]\nhost = \"site.example\"\nport = 80\n",
        crate::web::agents(site)
    )
}

fn with_key() -> Value {
    let headers = json!({"authorization": "Bearer {{secret:site-key}}"});
    json!({"method": "GET", "url": "http://site.example/page", "headers": headers})
}

/// What the site was last sent as authorization.
fn authorization(site: &FakeSite) -> String {
    let asked = site.asked();
    let header = asked.last().and_then(|a| a.headers.get("authorization").cloned());
    header.map(|h| h.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn listed(daemon: &Daemon, name: &str) -> Value {
    let page = daemon.cli(&["secret", "list", "--json"]).await.json();
    let items = page["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_stored_secret_is_sealed_put_in_replaced_and_removed_while_the_daemon_runs() {
    let (fake, site) = (provider(), FakeSite::start());
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &configuration(&site));
    daemon.run().await;
    let call = [("http_request", with_key())];
    let before = play(&daemon, &fake, "web", "none", &call).await;
    assert!(before.told[0].contains("secret"), "{before:?}");
    assert_eq!(site.asked().len(), 0);
    for (name, value) in [("first", FIRST), ("second", SECOND)] {
        let told = set(&daemon, "site-key", value);
        assert_eq!(told.code, Some(0), "{told:?}");
        play(&daemon, &fake, "web", name, &call).await;
        assert_eq!(authorization(&site), format!("Bearer {value}"));
    }
    assert_eq!(listed(&daemon, "site-key").await["source"], "store");
    assert_eq!(listed(&daemon, "llm.api_key").await["source"], "config");
    let used = daemon.cli(&["audit", "query", "--kind", "secret_used", "--json"]).await.json();
    let of = |name: &str| -> Vec<&Value> {
        used.as_array().unwrap().iter().filter(|row| row["data"]["name"] == name).collect()
    };
    assert_eq!(of("site-key").len(), 2, "{used}");
    assert_eq!(of("site-key")[0]["data"]["host"], "site.example");
    // The model's key once for each of the three runs, however often they asked.
    let by_run = of("llm.api_key");
    assert_eq!(by_run.len(), 3, "{used}");
    assert!(
        by_run.iter().all(|row| row["run_id"].is_string() && row["data"]["model"] == "default")
    );
    let told = daemon.cli(&["secret", "remove", "site-key"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let asked = site.asked().len();
    play(&daemon, &fake, "web", "gone", &call).await;
    assert_eq!(site.asked().len(), asked);
    let told = daemon.cli(&["secret", "remove", "site-key"]).await;
    assert!(told.code == Some(1) && told.err.contains("does not exist"), "{told:?}");
    assert_eq!(daemon.stop().await, Some(0));
    let changed =
        daemon.cli(&["audit", "query", "--kind", "secret_changed", "--json"]).await.json();
    let what: Vec<&str> =
        changed.as_array().unwrap().iter().map(|r| r["data"]["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["stored", "replaced", "removed"]);
    let database = fs::read(daemon.data_dir().join("agent-runtime.db")).unwrap();
    for value in [FIRST, SECOND] {
        assert!(!database.windows(value.len()).any(|w| w == value.as_bytes()));
    }
}

#[tokio::test]
async fn a_model_takes_its_key_from_the_store() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(
        "",
        &format!(
            "[models.real]\nprovider = \"openai\"\nmodel = \"fake\"\nbase_url = \"{}\"\napi_key_secret = \"MODEL_KEY\"\n\
             [agents.kept]\nmodel = \"real\"\nsystem_prompt = \"test\"\n",
            fake.openai_url()
        ),
    );
    daemon.run().await;
    assert_eq!(set(&daemon, "MODEL_KEY", FIRST).code, Some(0));
    let id = daemon.submit("kept", "script:say one").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(fake.seen().last().unwrap().key.as_deref(), Some(FIRST));
    let used = daemon.cli(&["audit", "query", "--kind", "secret_used", "--json"]).await.json();
    assert_eq!((&used[0]["data"]["name"], &used[0]["run_id"]), (&json!("MODEL_KEY"), &json!(id)));
    assert_eq!(set(&daemon, "MODEL_KEY", SECOND).code, Some(0));
    let id = daemon.submit("kept", "script:say two").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(fake.seen().last().unwrap().key.as_deref(), Some(SECOND));
}

#[tokio::test]
async fn another_permission_secret_seals_what_the_one_before_had_sealed() {
    let (fake, site) = (provider(), FakeSite::start());
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &configuration(&site));
    daemon.set_env("PERMISSION_SECRET", "the-old-permission-secret-0123456789");
    daemon.run().await;
    assert_eq!(set(&daemon, "site-key", FIRST).code, Some(0));
    assert_eq!(daemon.cli(&["secret", "rotate-key", "--json"]).await.json()["sealed"], 1);
    let since = listed(&daemon, "llm.api_key").await["since"].clone();
    let kept_since = listed(&daemon, "site-key").await["since"].clone();
    assert_eq!(daemon.stop().await, Some(0));
    // Without the old one the daemon does not start: it could not open what it keeps.
    daemon.set_env("PERMISSION_SECRET", "the-new-permission-secret-0123456789");
    let told = daemon.refused().await;
    assert!(told.code == Some(1) && told.err.contains("permission_secret_previous"), "{told:?}");
    daemon.set_env(
        "AGENT_RUNTIME_PERMISSION_SECRET_PREVIOUS",
        "the-old-permission-secret-0123456789",
    );
    daemon.run().await;
    assert_eq!(listed(&daemon, "llm.api_key").await["since"], since, "it is as old as it was");
    assert_eq!(listed(&daemon, "site-key").await["since"], kept_since);
    play(&daemon, &fake, "web", "sealed", &[("http_request", with_key())]).await;
    assert_eq!(authorization(&site), format!("Bearer {FIRST}"));
    assert_eq!(daemon.stop().await, Some(0));
    // From now on the old one is not needed for it, but for the signatures of its time.
    let verified = daemon.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(verified["ok"], true, "{verified}");
    daemon.set_env("AGENT_RUNTIME_PERMISSION_SECRET_PREVIOUS", "");
    daemon.run().await;
    let verified = daemon.cli(&["audit", "verify", "--json"]).await;
    assert!(verified.code == Some(1) && verified.out.contains("which is not here"), "{verified:?}");
}

#[tokio::test]
async fn a_replaced_file_is_read_again_and_its_old_value_stays_masked() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let file = daemon.dir().join("key");
    let write = |value: &str| {
        fs::remove_file(&file).unwrap_or_default();
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.create_new(true).write(true), 0o600);
        options.open(&file).unwrap().write_all(value.as_bytes()).unwrap();
    };
    write(FIRST);
    // Stands in the file in place of the variable: two of one kind would contradict each other.
    let config = daemon.dir().join("test.toml");
    let text = fs::read_to_string(&config).unwrap();
    let named = format!("api_key_file = {:?}", file.display().to_string());
    let own = format!("api_key = \"{}\"", crate::support::daemon::PROVIDER_KEY);
    fs::write(&config, text.replace(&own, &named)).unwrap();
    daemon.run().await;
    let since = listed(&daemon, "llm.api_key").await["since"].clone();
    assert_eq!(listed(&daemon, "llm.api_key").await["source"], "file");
    write(SECOND);
    let told = daemon.cli(&["secret", "reload"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_ne!(listed(&daemon, "llm.api_key").await["since"], since, "a new value is a new age");
    let id = daemon.submit("open", &format!("script:say {FIRST} {SECOND}")).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(fake.seen().last().unwrap().key.as_deref(), Some(SECOND));
    let run = daemon.run_of(&id).await.to_string();
    assert!(!run.contains(FIRST) && !run.contains(SECOND) && run.contains("[redacted]"), "{run}");
    // A wrong file changes nothing, and says what to do.
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let told = daemon.cli(&["secret", "reload"]).await;
    assert!(told.code != Some(0) && told.err.contains("chmod 600"), "{told:?}");
    // The signal does the same and is told in the log.
    daemon.signal(1);
    until("the refusal in the log", || daemon.log().contains("was not reloaded").then_some(()))
        .await;
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_with_the_reason() {
    let daemon = Daemon::start("").await;
    let short = set(&daemon, "SHORT", "seven77");
    assert!(short.code == Some(2) && short.err.contains("8 to"), "{short:?}");
    let name = set(&daemon, "no.name", FIRST);
    assert!(name.code == Some(2) && name.err.contains("letters, digits"), "{name:?}");
    let empty = set(&daemon, "EMPTY", "");
    assert!(empty.code == Some(2) && empty.err.contains("empty"), "{empty:?}");
    let argv = daemon.cli(&["secret", "set", "NAME", FIRST]).await;
    assert_eq!(argv.code, Some(2), "a value on the command line is seen by everybody: {argv:?}");
}

#[tokio::test]
async fn an_old_secret_is_warned_of_in_the_log_and_in_the_list() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    assert_eq!(listed(&daemon, "llm.api_key").await["warning"], Value::Null);
    assert!(!daemon.log().contains("a secret is older than"), "nothing is old yet");
    assert_eq!(daemon.stop().await, Some(0));
    let url = format!("sqlite://{}", daemon.data_dir().join("agent-runtime.db").display());
    let mut db = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let earlier =
        "UPDATE secret_ages SET since = since - 91 * 86400000000 WHERE name = 'llm.api_key'";
    assert_eq!(sqlx::query(earlier).execute(&mut db).await.unwrap().rows_affected(), 1);
    sqlx::Connection::close(db).await.unwrap();
    daemon.run().await;
    let item = listed(&daemon, "llm.api_key").await;
    assert_eq!(
        (&item["days"], &item["warning"]),
        (&json!(91), &json!("older than 90 days: replace it"))
    );
    until("the warning", || daemon.log().contains("a secret is older than 90 days").then_some(()))
        .await;
    let told = daemon.log();
    let line = told.lines().find(|line| line.contains("a secret is older than")).unwrap();
    assert!(line.contains("\"secret\":\"llm.api_key\"") && line.contains("\"days\":91"), "{line}");
}
