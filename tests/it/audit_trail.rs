//! The audit trail against whoever edits it: every change of a real trail is found, in the database
//! and in an export that another machine checks.

use std::{fs, io::Cursor};

use agent_runtime::{
    auth::{
        Key, Keys, Purpose,
        trail::{Report, verify_export},
    },
    domain::{Secret, audit::AuditRow},
    store::audit::hash,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::{
    scenes::{approval_of, provider},
    support::daemon::{ALICE, Daemon},
};

/// Mutations of the fuzz test.
const ROUNDS: u64 = 2_500;

/// A stopped daemon with a trail of many kinds of rows, and the key that signed it.
async fn trail() -> (Daemon, Key) {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    for round in 0..3 {
        let id = daemon.submit("open", &format!("script:exec {round}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
        let id = daemon.submit("careful", &format!("script:exec asked {round}")).await;
        let approval = approval_of(&daemon, &id).await;
        daemon.decide(&approval, &json!({"decision": "deny", "reason": "no"})).await.expect(200);
        daemon.wait_for(&id, &["succeeded"]).await;
        let wrong = daemon.call(Method::GET, "/api/v1/me", "wrong-token-0123456789", None).await;
        assert_eq!(wrong.unwrap().status, 401);
        daemon.call(Method::GET, "/api/v1/runs", ALICE, None).await.unwrap().expect(200);
        // Checkpoints between the rows.
        daemon.cli(&["audit", "checkpoint", "--json"]).await.json();
    }
    assert_eq!(daemon.stop().await, Some(0));
    let secret = fs::read_to_string(daemon.data_dir().join("permission-secret")).unwrap();
    let keys = Keys::new(&Secret::new(secret.trim().to_owned())).unwrap();
    (daemon, keys.key(Purpose::Checkpoint))
}

async fn export(daemon: &Daemon) -> String {
    let told = daemon.cli(&["audit", "export"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.out
}

fn check(text: &str, key: Option<&Key>) -> Report {
    verify_export(Cursor::new(text), key.map(std::slice::from_ref)).unwrap()
}

/// Numbers that repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn is_row(line: &str) -> bool {
    line.starts_with("{\"n\":")
}

/// Gives every row the number and the hashes that it would have had: what somebody does who knows
/// how the trail is made and has no key. Checkpoints that still fit stay, and the others keep their
/// signatures.
fn rehash(lines: &[String]) -> Vec<String> {
    let (mut n, mut prev) = (0, "0".repeat(64));
    let again =
        |line: &String| {
            if let Ok(mut row) = serde_json::from_str::<AuditRow>(line) {
                n += 1;
                (row.n, row.prev_hash) = (n, prev.clone());
                row.hash = hash(&row);
                prev.clone_from(&row.hash);
                return serde_json::to_string(&row).unwrap();
            }
            let mut value: Value = serde_json::from_str(line).unwrap_or_default();
            for name in ["checkpoint", "end"] {
                if let Some(signed) = value.get_mut(name) {
                    (signed["n"], signed["hash"]) = (json!(n), json!(prev));
                }
            }
            // The order of the fields is the export's.
            ["checkpoint", "end"].iter().find_map(|name| {
            let c = value.get(*name)?;
            Some(format!(
                "{{\"{name}\":{{\"n\":{},\"hash\":{},\"at\":{},\"key_id\":{},\"mac\":{}}}}}",
                c["n"], c["hash"], c["at"], c["key_id"], c["mac"]
            ))
        })
        .unwrap_or_else(|| line.clone())
        };
    lines.iter().map(again).collect()
}

/// One change, of what kind, and whether it shows without the key.
fn mutate(text: &str, random: &mut Random) -> (&'static str, String, bool) {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let rows: Vec<usize> = (0..lines.len()).filter(|i| is_row(&lines[*i])).collect();
    let one = rows[random.below(rows.len())];
    let other = rows[random.below(rows.len())];
    let join = |lines: Vec<String>| lines.join("\n") + "\n";
    let mut new = lines.clone();
    match random.below(12) {
        0 => {
            let mut bytes = new[one].clone().into_bytes();
            let at = random.below(bytes.len());
            bytes[at] = b' ' + u8::try_from(random.below(94)).unwrap();
            new[one] = String::from_utf8_lossy(&bytes).into_owned();
            ("a byte of a row", join(new), true)
        }
        1 => {
            new.remove(one);
            ("a row dropped", join(new), true)
        }
        2 => {
            new.insert(other, lines[one].clone());
            ("a row twice", join(new), true)
        }
        3 => {
            new.swap(one, other);
            ("two rows swapped", join(new), true)
        }
        4 => {
            new.truncate(random.below(lines.len() - 1) + 1);
            ("lines cut off", join(new), true)
        }
        5 => {
            let mut cut = text.to_owned();
            cut.truncate(text.floor_char_boundary(random.below(text.len() - 2)));
            ("bytes cut off", cut, true)
        }
        6 => {
            let mut row: AuditRow = serde_json::from_str(&lines[one]).unwrap();
            row.actor = format!("nobody{}", random.below(9));
            new[one] = serde_json::to_string(&row).unwrap();
            ("an actor edited, hashed again", join(rehash(&new)), false)
        }
        7 => {
            new.remove(one);
            ("a row dropped, hashed again", join(rehash(&new)), false)
        }
        8 => {
            let mut row: AuditRow = serde_json::from_str(&lines[one]).unwrap();
            row.data = json!({ "forged": random.below(1_000) });
            new.insert(other, serde_json::to_string(&row).unwrap());
            ("a row put in, hashed again", join(rehash(&new)), false)
        }
        9 => {
            // Everything after a row goes, and the last line is made to fit.
            let end = new.pop().unwrap();
            let last = rows[rows.len() - 1];
            new.truncate(one.min(last - 1) + 1);
            new.push(end);
            ("the end cut off, hashed again", join(rehash(&new)), false)
        }
        10 => {
            // No checkpoint is left but the last line, with a signature of its own making.
            new.retain(|line| is_row(line) || line.contains("\"end\""));
            new.swap(0, rows.len() / 2);
            let new = join(rehash(&new));
            ("replaced as a whole", new.replace("\"mac\":\"0", "\"mac\":\"1"), false)
        }
        _ => {
            let row = new[one].clone();
            new[one] = row.replacen("\"data\":{", "\"data\":{\"twice\":1,", 1);
            ("a field put in", join(new), true)
        }
    }
}

#[tokio::test]
async fn every_change_of_an_exported_trail_is_found() {
    let (daemon, key) = trail().await;
    let text = export(&daemon).await;
    let whole = check(&text, Some(&key));
    assert!(whole.ok && whole.rows > 40 && whole.checkpoints >= 4, "{whole:?}");
    assert_eq!((whole.signed, whole.unsigned_rows), (Some(whole.checkpoints), 0));
    assert!(check(&text, None).ok);
    let mut random = Random(0x5eed_1234_5678_9abc);
    let (mut tried, mut kinds) = (0_u64, std::collections::BTreeMap::<&str, u64>::new());
    while tried < ROUNDS {
        let (kind, changed, shows_without_key) = mutate(&text, &mut random);
        if changed == text {
            continue;
        }
        tried += 1;
        *kinds.entry(kind).or_default() += 1;
        let report = check(&changed, Some(&key));
        assert!(!report.ok, "{kind} was not found: {report:?}");
        if shows_without_key {
            assert!(!check(&changed, None).ok, "{kind} was not found without the key");
        }
    }
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[tokio::test]
async fn an_export_is_checked_on_another_machine_with_and_without_the_key() {
    let (daemon, _) = trail().await;
    let elsewhere = Daemon::prepare("");
    let (file, key) = (elsewhere.dir().join("audit.jsonl"), elsewhere.dir().join("key"));
    fs::write(&file, export(&daemon).await).unwrap();
    fs::copy(daemon.data_dir().join("permission-secret"), &key).unwrap();
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    let plain = elsewhere.cli(&["audit", "verify", "--file", file, "--json"]).await.json();
    assert_eq!((&plain["ok"], &plain["signed"]), (&json!(true), &Value::Null));
    let args = ["audit", "verify", "--file", file, "--key-file", key, "--json"];
    let signed = elsewhere.cli(&args).await.json();
    assert_eq!((&signed["ok"], &signed["signed"]), (&json!(true), &signed["checkpoints"]));
    // With another key the signatures are not silently taken for good.
    fs::write(key, "another-permission-secret-0123456789\n").unwrap();
    assert_eq!(elsewhere.cli(&args).await.code, Some(1));
}

async fn change(daemon: &Daemon, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(daemon.data_dir().join("agent-runtime.db"));
    let mut db = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn an_edited_database_is_found_also_when_its_end_was_cut_off_with_its_checkpoints() {
    let (mut daemon, _) = trail().await;
    let database = daemon.data_dir().join("agent-runtime.db");
    let original = fs::read(&database).unwrap();
    let verify = async |daemon: &Daemon| daemon.cli(&["audit", "verify", "--json"]).await;
    assert_eq!(verify(&daemon).await.json()["ok"], true);
    for (sql, word) in [
        ("UPDATE audit SET actor = 'nobody' WHERE n = 7", "changed"),
        ("UPDATE audit SET data = json_insert(data, '$.x', 1) WHERE n = 7", "changed"),
        (
            "UPDATE audit SET data = replace(data, '{', '{\"x\":1,\"x\":2,') WHERE n = 7",
            "not written by us",
        ),
        ("DELETE FROM audit WHERE n = 7", "stands where"),
        ("UPDATE audit SET n = n + 100000 WHERE n = 7", "stands where"),
        ("UPDATE audit SET at = at + 1000 WHERE n = 7", "changed"),
        ("UPDATE audit_checkpoints SET mac = replace(mac, 'a', 'b')", "forged"),
        ("DELETE FROM audit_checkpoints", "stands outside"),
        ("DELETE FROM audit WHERE n > 20", "cut off"),
    ] {
        change(&daemon, sql).await;
        let found = verify(&daemon).await;
        assert_eq!(found.code, Some(1), "{sql}: {found:?}");
        assert!(found.out.contains(word), "{sql}: {found:?}");
        fs::write(&database, &original).unwrap();
    }
    // The end of the rows goes together with the checkpoints that would show it.
    change(&daemon, "DELETE FROM audit WHERE n > 20").await;
    change(&daemon, "DELETE FROM audit_checkpoints WHERE n > 20").await;
    let found = verify(&daemon).await;
    assert!(found.code == Some(1) && found.out.contains("cut off"), "{found:?}");
    // The daemon says so by itself.
    daemon.run().await;
    assert!(daemon.log().contains("does not hold the row of its last checkpoint"));
    let alerts = daemon.cli(&["audit", "query", "--kind", "alert", "--json"]).await.json();
    assert_eq!(alerts[0]["data"]["alert"], "audit", "{alerts}");
    fs::write(&database, &original).unwrap();
}

#[tokio::test]
async fn a_file_of_checkpoints_that_cannot_be_written_is_told_and_caught_up_with() {
    let mut daemon = Daemon::prepare("");
    let blocked = daemon.dir().join("nowhere");
    let file = blocked.join("checkpoints.jsonl");
    daemon.set_env("AGENT_RUNTIME_AUDIT_CHECKPOINT_FILE", file.to_str().unwrap());
    daemon.run().await;
    let told = daemon.cli(&["audit", "checkpoint"]).await;
    assert_ne!(told.code, Some(0), "{told:?}");
    assert!(daemon.log().contains("could not be signed"), "{}", daemon.log());
    fs::create_dir(&blocked).unwrap();
    daemon.cli(&["audit", "checkpoint", "--json"]).await.json();
    let lines = fs::read_to_string(&file).unwrap();
    assert!(lines.lines().count() >= 2, "what failed before is missing: {lines}");
    assert_eq!(daemon.stop().await, Some(0));
    assert_eq!(daemon.cli(&["audit", "verify", "--json"]).await.json()["unsigned_rows"], 0);
}

#[tokio::test]
async fn rows_are_found_by_kind_actor_run_and_time_page_by_page() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:exec once").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let all = daemon.cli(&["audit", "query", "--limit", "500", "--json"]).await.json();
    let all = all.as_array().unwrap();
    let of_run = daemon.cli(&["audit", "query", "--run", &id, "--json"]).await.json();
    assert!(of_run.as_array().unwrap().iter().all(|row| row["run_id"] == json!(id)));
    let at = all[2]["at"].as_str().unwrap();
    let later = daemon.cli(&["audit", "query", "--since", at, "--limit", "500", "--json"]).await;
    let later = later.json();
    assert!(later.as_array().unwrap().iter().all(|row| row["at"].as_str().unwrap() >= at));
    let earlier = daemon.cli(&["audit", "query", "--until", at, "--json"]).await.json();
    assert!(earlier.as_array().unwrap().iter().all(|row| row["at"].as_str().unwrap() < at));
    let page =
        daemon.cli(&["audit", "query", "--after", "2", "--limit", "1", "--json"]).await.json();
    assert_eq!(page[0]["n"], 3);
    let told = daemon.cli(&["audit", "query", "--kind", "nonsense"]).await;
    assert!(told.code == Some(2) && told.err.contains("kind"), "{told:?}");
}
