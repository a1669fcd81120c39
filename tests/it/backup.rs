//! Backups of a real daemon: made while it works, put back elsewhere, and what is refused.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use agent_runtime::{
    domain::Secret,
    store::{
        ReadOnlyStore,
        archive::{self, ArchiveError, Head, Progress, Taker, age::Identity},
        dump::{RowCells, Table},
    },
};
use serde_json::{Value, json};

use crate::support::{
    checker::{Truth, truth::database_of},
    daemon::{ADMIN, ALICE, BOB, Daemon, OPERATOR, PROVIDER_KEY},
    fake_llm::{FakeLlm, Turn},
};

fn provider() -> FakeLlm {
    let fake = FakeLlm::start();
    let sh = |script: &str| json!({"argv": ["/bin/sh", "-c", script]});
    fake.script("once", [Turn::call("exec", &sh("echo x >> made.txt")), Turn::text("done")]);
    fake.script("slow", [Turn::call("exec", &sh("sleep 0.3")), Turn::text("done")]);
    fake
}

/// Makes a pair of keys and tells the daemon the public one; the file with the secret one.
pub(crate) async fn with_key(daemon: &mut Daemon) -> PathBuf {
    let key = daemon.dir().join("backup-key.txt");
    let made = daemon.cli(&["backup", "keygen", "--out", key.to_str().unwrap(), "--json"]).await;
    let recipient = made.json()["recipient"].as_str().unwrap().to_owned();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.set_env("AGENT_RUNTIME_BACKUP_RECIPIENTS", &recipient);
    key
}

pub(crate) async fn create(daemon: &Daemon) -> (PathBuf, Value) {
    let made = daemon.cli(&["backup", "create", "--json"]).await.json();
    (made["path"].as_str().unwrap().into(), made)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a daemon's store is called, and how many replicas it knows; none before its first start.
async fn identity(daemon: &Daemon) -> Option<(String, usize)> {
    let dir = daemon.data_dir();
    let store = ReadOnlyStore::open(&dir, &database_of(&dir)).await.unwrap();
    let mut reader = store.read().await.unwrap();
    let cluster = reader.cluster().get().await.unwrap()?;
    Some((cluster.id, reader.replicas().newest(10).await.unwrap().len()))
}

/// The permission secret is no part of a backup: its keeper puts it back.
fn hand_over_the_secret(from: &Daemon, to: &Daemon) {
    let name = "permission-secret";
    fs::copy(from.data_dir().join(name), to.data_dir().join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_daemon_is_backed_up_and_what_comes_back_goes_on_with_nothing_lost() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = with_key(&mut daemon).await;
    daemon.run().await;
    let mut acknowledged = Vec::new();
    for n in 0..10 {
        acknowledged.push(daemon.submit("open", &format!("script:once {n}")).await);
    }
    daemon.wait_for(&acknowledged[0], &["succeeded"]).await;
    symlink("made.txt", daemon.workspace("open").join("link")).unwrap();
    fs::create_dir_all(daemon.data_dir().join("pki")).unwrap();
    fs::write(daemon.data_dir().join("pki/ca.crt"), "a certificate").unwrap();
    for n in 0..8 {
        acknowledged.push(daemon.submit("open", &format!("script:slow {n}")).await);
    }
    // Busy all the while.
    let busy = async {
        for n in 0..25 {
            daemon.submit("open", &format!("script:slow more {n}")).await;
        }
    };
    let ((file, made), ()) = tokio::join!(create(&daemon), busy);
    assert!(made["rows"].as_u64().unwrap() > 100, "{made}");
    let args = ["backup", "verify", text(&file), "--identity", text(&key), "--json"];
    let verified = daemon.cli(&args).await.json();
    assert_eq!((&verified["ok"], &verified["recorded"]), (&json!(true), &json!(true)));
    assert!(verified["signature"].as_str().unwrap().contains("signed by this daemon"));
    let args = ["backup", "drill", text(&file), "--identity", text(&key), "--json"];
    let drilled = daemon.cli(&args).await.json();
    assert_eq!(drilled["ok"], true, "{drilled}");
    assert_eq!(drilled["findings"].as_array().unwrap().len(), 3, "{drilled}");
    daemon.kill();

    let mut other = Daemon::prepare(&fake.openai_url());
    let restore = ["backup", "restore", text(&file), "--identity", text(&key), "--json"];
    other.cli(&restore).await.json();
    hand_over_the_secret(&daemon, &other);
    assert_eq!(fs::read_to_string(other.data_dir().join("pki/ca.crt")).unwrap(), "a certificate");
    let link = other.workspace("open").join("link");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("made.txt"));
    assert!(fs::read_to_string(&link).unwrap().lines().count() >= 1);
    let truth = Truth::read(&other.data_dir()).await;
    truth.check_events();
    truth.check_audit();
    for id in &acknowledged {
        assert!(truth.runs.iter().any(|run| run.id.to_string() == *id), "{id} is lost");
    }
    let audit = other.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(audit["ok"], true, "{audit}");
    assert!(audit["signed"].as_u64().unwrap() > 0, "{audit}");
    // It goes on where the other one was, as a store of its own and believing in nobody.
    assert_eq!(identity(&other).await, None);
    let (name, _) = identity(&daemon).await.unwrap();
    other.run().await;
    let (own, replicas) = identity(&other).await.unwrap();
    assert!(own != name && replicas == 1, "{own} {replicas}");
    for id in &acknowledged {
        other.wait_for(id, &["succeeded", "paused"]).await;
    }
    let again = other.submit("open", "script:once again").await;
    other.wait_for(&again, &["succeeded"]).await;
    assert_eq!(other.stop().await, Some(0));
    let truth = Truth::read(&other.data_dir()).await;
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
    assert_eq!(other.cli(&["audit", "verify", "--json"]).await.json()["ok"], true);
}

/// Everything that a backup holds, in plain.
#[derive(Default)]
struct Everything(BTreeMap<String, Vec<u8>>);

impl Taker for Everything {
    fn head(&mut self, head: &Head) -> Result<(), ArchiveError> {
        self.0.insert("head".to_owned(), serde_json::to_vec(head).unwrap());
        Ok(())
    }

    fn rows(&mut self, table: &Table, rows: Vec<RowCells>) -> Result<(), ArchiveError> {
        let all = self.0.entry(table.name.clone()).or_default();
        all.extend(serde_json::to_vec(&rows).unwrap());
        Ok(())
    }

    fn file(
        &mut self,
        name: &Path,
        _: u32,
        _: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        content.read_to_end(self.0.entry(name.display().to_string()).or_default()).unwrap();
        Ok(())
    }

    fn directory(&mut self, name: &Path, _: u32) -> Result<(), ArchiveError> {
        self.0.insert(format!("{}/", name.display()), Vec::new());
        Ok(())
    }

    fn link(&mut self, _: &Path, _: &Path) -> Result<(), ArchiveError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_a_backup_and_only_the_key_opens_it() {
    const CONTROL: &str = "a control that is no secret 4711";
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = with_key(&mut daemon).await;
    daemon.run().await;
    let id = daemon.submit("open", &format!("script:once {CONTROL} {PROVIDER_KEY} {ADMIN}")).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let (file, _) = create(&daemon).await;
    let permission = fs::read_to_string(daemon.data_dir().join("permission-secret")).unwrap();
    let bytes = fs::read(&file).unwrap();
    let identity = Secret::new(fs::read_to_string(&key).unwrap());
    let identity = Identity::parse(&identity).unwrap();
    let mut all = Everything::default();
    archive::read(&file, &identity, &mut all, &Progress::default()).unwrap();
    let has = |content: &[u8], wanted: &str| {
        content.windows(wanted.len()).any(|part| part == wanted.as_bytes())
    };
    let secrets = [ADMIN, OPERATOR, ALICE, BOB, PROVIDER_KEY, permission.trim()];
    for secret in secrets.into_iter().chain([identity.expose().expose().as_str()]) {
        for (name, content) in &all.0 {
            for form in [secret.to_owned(), data_encoding::BASE64.encode(secret.as_bytes())] {
                assert!(!has(content, &form), "{name} holds a secret");
            }
        }
    }
    // The same search finds what is there.
    let found: Vec<&String> =
        all.0.iter().filter(|(_, c)| has(c, CONTROL)).map(|(n, _)| n).collect();
    assert!(found.iter().any(|name| *name == "messages"), "{found:?}");
    assert!(!has(&bytes, CONTROL), "it is not encrypted");
    let configured = String::from_utf8(all.0["configuration.toml"].clone()).unwrap();
    assert!(configured.contains("# auth.token: a secret, not in this backup"), "{configured}");
    assert!(configured.contains("agents.open.allowed_commands = [\"*\"]"), "{configured}");
    for name in
        ["hosts.json", "prompts/open.md", "audit-checkpoints.jsonl", "workspaces/open/made.txt"]
    {
        assert!(all.0.contains_key(name), "{name} is missing: {:?}", all.0.keys());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_with_age_and_tar_can_read_a_backup_and_ours_reads_what_they_write() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = with_key(&mut daemon).await;
    daemon.run().await;
    let (file, _) = create(&daemon).await;
    #[expect(clippy::disallowed_methods, reason = "the program of others")]
    let run = |program: &str, args: &[&str]| Command::new(program).args(args).output().unwrap();
    let plain = daemon.dir().join("plain.tar.gz");
    let opened = run("age", &["-d", "-i", text(&key), "-o", text(&plain), text(&file)]);
    assert!(opened.status.success(), "{opened:?}");
    let listed = run("tar", &["tzf", text(&plain)]);
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in ["backup.json", "database/audit/000001.jsonl", "manifest.json", "signature.json"] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }
    let recipient = fs::read_to_string(&key).unwrap();
    let recipient = recipient.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap();
    let theirs = daemon.dir().join("theirs.tar.gz.age");
    assert!(run("age", &["-r", recipient, "-o", text(&theirs), text(&plain)]).status.success());
    let args = ["backup", "verify", text(&theirs), "--identity", text(&key), "--json"];
    assert_eq!(daemon.cli(&args).await.json()["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_cannot_be_whole_leaves_nothing_and_says_why() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let key = with_key(&mut daemon).await;
    let told = daemon.cli(&["backup", "keygen", "--out", text(&key)]).await;
    assert!(told.code == Some(2) && told.err.contains("never replaced"), "{told:?}");
    daemon.run().await;
    let (file, _) = create(&daemon).await;
    let other = Daemon::prepare(&fake.openai_url());
    let restore = async |file: &Path, key: &Path| {
        other.cli(&["backup", "restore", text(file), "--identity", text(key)]).await
    };
    let refused = daemon.cli(&["backup", "restore", text(&file), "--identity", text(&key)]).await;
    assert!(refused.code == Some(2) && refused.err.contains("is not empty"), "{refused:?}");
    let wrong = other.dir().join("wrong.txt");
    other.cli(&["backup", "keygen", "--out", text(&wrong)]).await;
    let refused = restore(&file, &wrong).await;
    assert!(refused.code == Some(2) && refused.err.contains("another recipient"), "{refused:?}");
    let whole = fs::read(&file).unwrap();
    let damaged = other.dir().join("damaged.tar.gz.age");
    let middle = whole.len() / 2;
    let mut changed = whole.clone();
    changed[middle] ^= 1;
    for bad in [&whole[..middle], &whole[..whole.len() - 1], &changed, b"nonsense"] {
        fs::write(&damaged, bad).unwrap();
        let refused = restore(&damaged, &key).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(!other.data_dir().exists(), "something was made");
        let drill = ["backup", "drill", text(&damaged), "--identity", text(&key)];
        assert_eq!(other.cli(&drill).await.code, Some(1));
    }
    let left = fs::read_dir(other.dir()).unwrap().map(|e| e.unwrap().file_name());
    assert!(!left.into_iter().any(|n| n.to_str().unwrap().contains("restoring")));
    // Without the key the file is compared with what the daemon recorded, and the rest is named.
    let told = daemon.cli(&["backup", "verify", text(&file)]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("byte for byte") && told.out.contains("not checked"), "{told:?}");
    fs::write(&file, &changed).unwrap();
    let told = daemon.cli(&["backup", "verify", text(&file)]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let told = restore(&damaged, &key).await;
    assert!(told.code == Some(2) && told.err.contains("chmod 600"), "{told:?}");
}

async fn listed(daemon: &Daemon) -> Vec<Value> {
    let list = daemon.cli(&["backup", "list", "--json"]).await.json();
    list["backups"].as_array().cloned().unwrap()
}

/// Waits until `found` says so.
async fn until(daemon: &Daemon, found: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..300 {
        let list = listed(daemon).await;
        if found(&list) {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not happen: {:#?}\n{}", listed(daemon).await, daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_makes_one_a_day_carries_it_away_keeps_the_newest_and_tells_what_fails() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let refused = {
        daemon.set_env("AGENT_RUNTIME_BACKUP_SCHEDULE", "00:00");
        daemon.refused().await
    };
    assert!(refused.code == Some(2) && refused.err.contains("backup keygen"), "{refused:?}");
    let key = with_key(&mut daemon).await;
    let away = daemon.dir().join("away");
    fs::create_dir(&away).unwrap();
    let program = format!("/bin/cp,-t,{}", away.display());
    daemon.set_env("AGENT_RUNTIME_BACKUP_AFTER_COMMAND", &program);
    daemon.set_env("AGENT_RUNTIME_BACKUP_KEEP", "2");
    daemon.run().await;
    // The moment of today has passed and has no backup yet.
    let list = until(&daemon, |list| list.first().is_some_and(|b| b["state"] == "done")).await;
    assert_eq!((list.len(), list[0]["due"].is_string()), (1, true), "{list:?}");
    let copy = away.join(list[0]["file"].as_str().unwrap());
    for _ in 0..200 {
        if copy.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let args = ["backup", "drill", text(&copy), "--identity", text(&key), "--json"];
    assert_eq!(daemon.cli(&args).await.json()["ok"], true);
    assert_eq!(daemon.stop().await, Some(0));
    // Another start on the same day makes no second one; what cannot be carried away is told.
    daemon.set_env("AGENT_RUNTIME_BACKUP_AFTER_COMMAND", "/bin/false");
    daemon.run().await;
    create(&daemon).await;
    let list = until(&daemon, |list| list[0]["error"].is_string()).await;
    assert_eq!(list.iter().filter(|b| b["due"].is_string()).count(), 1, "{list:?}");
    assert!(list[0]["error"].as_str().unwrap().contains("/bin/false"), "{list:?}");
    let alerts = daemon.cli(&["audit", "query", "--kind", "alert", "--json"]).await.json();
    assert!(alerts.to_string().contains("backup_failed"), "{alerts}");
    create(&daemon).await;
    let list = until(&daemon, |list| list.iter().any(|b| b["state"] == "pruned")).await;
    assert_eq!(list.iter().filter(|b| b["here"] == true).count(), 2, "{list:?}");
    // A directory that cannot be written: the failure is recorded and told.
    fs::remove_dir_all(daemon.data_dir().join("backups")).unwrap();
    fs::write(daemon.data_dir().join("backups"), "in the way").unwrap();
    let failed = daemon.cli(&["backup", "create"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let list = listed_records(&daemon).await;
    assert!(list.iter().any(|b| b["data"]["what"] == "failed"), "{list:?}");
}

async fn listed_records(daemon: &Daemon) -> Vec<Value> {
    let rows = daemon.cli(&["audit", "query", "--kind", "backup", "--json"]).await.json();
    rows.as_array().cloned().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_daemon_is_backed_up_too_and_without_a_recipient_nothing_is() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let told = daemon.cli(&["backup", "create"]).await;
    assert!(told.code == Some(1) && told.err.contains("no recipient"), "{told:?}");
    assert_eq!(daemon.stop().await, Some(0));
    let told = daemon.cli(&["backup", "create"]).await;
    assert!(told.code == Some(2) && told.err.contains("keygen"), "{told:?}");
    let key = with_key(&mut daemon).await;
    let out = daemon.dir().join("mine.tar.gz.age");
    let told = daemon.cli(&["backup", "create", "--out", text(&out)]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let args = ["backup", "verify", text(&out), "--identity", text(&key), "--json"];
    let verified = daemon.cli(&args).await.json();
    assert_eq!((&verified["ok"], &verified["recorded"]), (&json!(true), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_document_do_what_they_say() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/BACKUP.md");
    let document = fs::read_to_string(document).unwrap();
    let examples = document.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let mut lines = examples.lines();
    let run = |daemon: &Daemon, line: &str, env: &[(&str, String)]| {
        let words = line.split(' ').skip(1);
        #[expect(clippy::disallowed_methods, reason = "as a person types it")]
        let out = Command::new(env!("CARGO_BIN_EXE_agent-runtime"))
            .args(words)
            .env_clear()
            .env("AGENT_RUNTIME_CONFIG", daemon.dir().join("test.toml"))
            .env("AGENT_RUNTIME_DATA_DIR", daemon.data_dir())
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(daemon.dir())
            .output()
            .unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&out.stderr));
        said
    };
    let said = run(&daemon, lines.next().unwrap(), &[]);
    let recipient = said.split_whitespace().find(|word| word.starts_with("age1")).unwrap();
    let env = [("AGENT_RUNTIME_BACKUP_RECIPIENTS", recipient.to_owned())];
    daemon.set_env(env[0].0, recipient);
    daemon.run().await;
    let id = daemon.submit("open", "script:once documented").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let mut file = String::new();
    let mut count = 1;
    for line in lines {
        let line = line.replace("FILE", &file).replace("NEW", "restored");
        let said = run(&daemon, &line, &env);
        if line.ends_with("backup create") {
            said.lines().next().unwrap().clone_into(&mut file);
        }
        count += 1;
    }
    assert_eq!(count, 7, "an example is missing");
    assert!(daemon.dir().join("restored/agent-runtime.db").exists());
    let truth = Truth::read(&daemon.dir().join("restored")).await;
    assert!(truth.runs.iter().any(|run| run.id.to_string() == id));
}
