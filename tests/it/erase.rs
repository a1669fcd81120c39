//! Erasing a person: every word of theirs is gone from the whole data directory, others keep their
//! work, the audit trail still verifies; and what a person is given of their own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{approval_of, provider, workspace_text},
    support::{
        daemon::{Daemon, PATIENCE},
        fake_llm::{FakeLlm, Turn},
    },
};

const NAME: &str = "Zita Canaryname";
const ALSO: &str = "zita.canarymail@example.com";

/// What must not be anywhere afterwards, beside the id: each a word of its own.
const CANARIES: &[&str] = &[
    "Canaryname",
    "canarymail",
    "canarylabel",
    "canaryaccount",
    "Canarydisplay",
    "canaryinput",
    "canaryanswer",
    "canaryfile",
    "canarycontent",
    "canarysteer",
    "canarydecision",
    "canarywaiting",
    "canaryguest",
    "canaryreason",
];

async fn said(daemon: &Daemon, args: &[&str]) -> Value {
    daemon.cli(&[args, &["--json"]].concat()).await.json()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}`: {value:#}")).to_owned()
}

/// Which of the words stand in which files below a directory.
fn found(top: &Path, words: &[String]) -> BTreeMap<String, Vec<PathBuf>> {
    let mut out: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let mut bytes = path.file_name().unwrap().as_encoded_bytes().to_vec();
            if kind.is_dir() {
                pending.push(path.clone());
            } else if kind.is_file() {
                bytes.extend(fs::read(&path).unwrap());
            }
            for word in words {
                if bytes.windows(word.len()).any(|w| w == word.as_bytes()) {
                    out.entry(word.clone()).or_default().push(path.clone());
                }
            }
        }
    }
    out
}

struct Scene {
    /// Answers until the end.
    _fake: FakeLlm,
    daemon: Daemon,
    /// Hers.
    id: String,
    token: String,
    /// The admin's run that she steered and decided on, and the conversation in which she was a guest.
    others_run: String,
    others_conversation: String,
    /// The admin's, forked from hers.
    fork: String,
    /// What must go.
    words: Vec<String>,
}

async fn call(daemon: &Daemon, path: &str, token: &str, body: Value) -> Value {
    let answer = daemon.call(Method::POST, path, token, Some(&body)).await.unwrap();
    assert!(answer.status.is_success(), "{path}: {}", answer.text);
    answer.json()
}

/// A person who did everything that leaves something behind.
async fn scene() -> Scene {
    let fake = provider();
    let content = json!({ "path": "canaryfile.txt", "content": "canarycontent", "mode": "create" });
    fake.script("write", [Turn::call("write_file", &content), Turn::text("it is canaryanswer")]);
    // A file that somebody else has made, and one that somebody else writes anew later.
    let whole = json!({ "path": "theirs.txt", "content": "hers", "mode": "create" });
    let part = json!({ "path": "theirs.txt", "content": "", "mode": "append" });
    let later = json!({ "path": "later.txt", "content": "hers at first", "mode": "create" });
    fake.script(
        "others",
        [
            Turn::call("write_file", &whole),
            Turn::call("write_file", &part),
            Turn::call("write_file", &later),
            Turn::text("as far as it went"),
        ],
    );
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let log = daemon.data_dir().join("log").display().to_string();
    fs::create_dir_all(daemon.data_dir()).unwrap();
    daemon.set_env("AGENT_RUNTIME_LOG_FILE", &log);
    daemon.set_env("AGENT_RUNTIME_LOG_LEVEL", "debug");
    daemon.run().await;
    let made = said(&daemon, &["principal", "create", NAME, "--role", "admin"]).await;
    let id = text(&made, "id");
    let token = said(&daemon, &["token", "create", NAME, "--label", "canarylabel"]).await;
    let (token_id, token) = (text(&token, "id"), text(&token, "token"));
    let account = ["--platform", "telegram", "--account", "canaryaccount", "--name"];
    let asked =
        said(&daemon, &[&["pair", "request"], &account[..], &["Canarydisplay"]].concat()).await;
    let code = text(&asked, "code");
    said(&daemon, &["pair", "approve", &code, "--role", "member", "--principal", NAME]).await;
    // Her own work: one done, one that waits for a person, one that she ended with words.
    let run = json!({ "agent": "open", "input": format!("script:write canaryinput {ALSO}") });
    let run = call(&daemon, "/api/v1/runs?wait=30", &token, run).await;
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let hers = text(&run, "id");
    let waiting = json!({ "agent": "careful", "input": "script:exec canarywaiting" });
    let waiting = call(&daemon, "/api/v1/runs", &token, waiting).await;
    approval_of(&daemon, &text(&waiting, "id")).await;
    let ended = json!({ "agent": "open", "input": "script:stuck" });
    let ended = text(&call(&daemon, "/api/v1/runs", &token, ended).await, "id");
    let why = json!({ "reason": "canaryreason" });
    call(&daemon, &format!("/api/v1/runs/{ended}/cancel"), &token, why).await;
    daemon.wait_for(&ended, &["cancelled"]).await;
    // Files that are not hers, or not any more.
    let workspace = daemon.workspace("open");
    let made = json!({ "path": "theirs.txt", "content": "of the admin", "mode": "create" });
    fake.script("theirs", [Turn::call("write_file", &made), Turn::text("made")]);
    let run = daemon.submit("open", "script:theirs").await;
    daemon.wait_for(&run, &["succeeded"]).await;
    let run = json!({ "agent": "open", "input": "script:others" });
    let run = call(&daemon, "/api/v1/runs?wait=30", &token, run).await;
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let later = workspace.join("later.txt");
    assert_eq!(fs::read_to_string(&later).unwrap(), "hers at first");
    fs::write(&later, "of the admin now").unwrap();
    let later = File::options().write(true).open(&later).unwrap();
    let changed = later.metadata().unwrap().modified().unwrap();
    later.set_modified(changed + Duration::from_secs(60)).unwrap();
    // A run of hers that nothing ends by itself.
    let running = json!({ "agent": "open", "input": "script:stuck" });
    let running = text(&call(&daemon, "/api/v1/runs", &token, running).await, "id");
    daemon.wait_for(&running, &["running"]).await;
    // A fork of her conversation, by somebody else.
    let forked = json!({ "input": "script:say go on" });
    let forked = daemon.post(&format!("/api/v1/runs/{hers}/fork"), &forked).await;
    let forked: Value = forked.json();
    daemon.wait_for(&text(&forked, "id"), &["succeeded"]).await;
    // What she did to the run of somebody else.
    let others_run = daemon.submit("careful", "script:exec of the admin").await;
    let approval = approval_of(&daemon, &others_run).await;
    let steer = json!({ "input": "canarysteer: be quick about it" });
    call(&daemon, &format!("/api/v1/runs/{others_run}/steer"), &token, steer).await;
    let decision = json!({ "decision": "deny", "reason": "canarydecision, and I mean it" });
    let path = format!("/api/v1/approvals/{}/decision", text(&approval, "id"));
    call(&daemon, &path, &token, decision).await;
    let run = daemon.wait_for(&others_run, &["succeeded"]).await;
    let others_conversation = text(&run, "conversation_id");
    // As a guest in that conversation.
    let guest = json!({
        "agent": "open", "input": "script:say canaryguest", "conversation_id": others_conversation,
    });
    let guest = call(&daemon, "/api/v1/runs?wait=30", &token, guest).await;
    assert_eq!(guest["state"], "succeeded", "{guest:#}");
    let mut words: Vec<String> = CANARIES.iter().map(|word| (*word).to_owned()).collect();
    words.extend([id.clone(), token_id]);
    let fork = text(&forked, "conversation_id");
    Scene { _fake: fake, daemon, id, token, others_run, others_conversation, fork, words }
}

async fn messages(daemon: &Daemon, conversation: &str) -> Vec<Value> {
    let path = format!("/api/v1/conversations/{conversation}/messages");
    daemon.get(&path).await.expect(200)["items"].as_array().cloned().unwrap_or_default()
}

/// Waits for the receipt of the one erasure that there is.
/// The receipt of the newest erasure, once it is done.
async fn receipt(daemon: &Daemon) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = said(daemon, &["erase", "--list"]).await;
        let first = &all["items"][0];
        if first["receipt"].is_object() {
            return first["receipt"].clone();
        }
        assert!(Instant::now() < deadline, "it is not done: {all:#}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing is left of her, and everything else is.
async fn check(scene: &Scene, receipt: &Value) {
    let Scene { daemon, words, .. } = scene;
    let left = found(&daemon.data_dir(), words);
    assert!(left.is_empty(), "{left:#?}\n{receipt:#}");
    let verified = daemon.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(verified["ok"], json!(true), "{verified:#}");
    assert!(verified["replaced"].as_u64().unwrap() > 0, "{verified:#}");
    let export = daemon.cli(&["audit", "export"]).await;
    let file = daemon.dir().join("trail.jsonl");
    fs::write(&file, &export.out).unwrap();
    let offline =
        daemon.cli(&["audit", "verify", "--file", file.to_str().unwrap(), "--json"]).await;
    assert_eq!(offline.json()["ok"], json!(true));
    // Others keep their runs and their words.
    let run = daemon.run_of(&scene.others_run).await;
    assert_eq!(run["state"], "succeeded");
    let kept = messages(daemon, &scene.others_conversation).await;
    let kept = json!(kept).to_string();
    assert!(kept.contains("of the admin") && kept.contains("[erased]"), "{kept}");
    let kept = json!(messages(daemon, &scene.fork).await).to_string();
    assert!(kept.contains("go on") && kept.contains("[erased]"), "{kept}");
    daemon.events(&scene.others_run).await;
    // So are their files.
    assert_eq!(workspace_text(daemon, "open", "theirs.txt"), "of the admin");
    assert_eq!(workspace_text(daemon, "open", "later.txt"), "of the admin now");
    let left = receipt["files_left"].to_string();
    assert!(left.contains("theirs.txt: a part") && left.contains("later.txt: changed"), "{left}");
    // The fork of her conversation goes on without her.
    let more = json!({
        "agent": "open", "input": "script:say more", "conversation_id": scene.fork,
    });
    let more = daemon.post("/api/v1/runs?wait=30", &more).await.json();
    assert_eq!(more["state"], "succeeded", "{more:#}");
    // The conversation that she was a guest in goes on.
    let more = json!({
        "agent": "open", "input": "script:say more", "conversation_id": scene.others_conversation,
    });
    let more = daemon.post("/api/v1/runs?wait=30", &more).await.json();
    assert_eq!(more["state"], "succeeded", "{more:#}");
    // Who she was may do nothing any more.
    let me = daemon.call(Method::GET, "/api/v1/me", &scene.token, None).await.unwrap();
    assert_eq!(me.status, 401);
    let pseudonym = text(receipt, "pseudonym");
    let rows = said(daemon, &["audit", "query", "--actor", &pseudonym]).await;
    assert!(!rows.as_array().unwrap().is_empty(), "what she did is told of somebody");
}

#[tokio::test]
async fn every_word_of_an_erased_person_is_gone_from_the_data_directory_and_the_rest_stands() {
    let scene = scene().await;
    let control = found(&scene.daemon.data_dir(), &scene.words);
    for word in &scene.words {
        assert!(control.contains_key(word), "the control does not find {word}: {control:#?}");
    }
    assert!(!said(&scene.daemon, &["audit", "verify"]).await["hash"].is_null());
    let dry = said(&scene.daemon, &["erase", NAME, "--dry-run"]).await;
    assert!(dry["counts"]["conversations"].as_u64().unwrap() >= 3, "{dry:#}");
    assert_eq!(found(&scene.daemon.data_dir(), &scene.words).len(), scene.words.len());
    // What is held is not erased.
    said(&scene.daemon, &["retention", "hold", "principal", NAME, "--reason", "a case"]).await;
    let refused = scene.daemon.cli(&["erase", NAME]).await;
    assert!(refused.code == Some(1) && refused.err.contains("legal hold"), "{refused:?}");
    said(&scene.daemon, &["retention", "lift", "principal", NAME]).await;
    let told = scene.daemon.cli(&["erase", NAME, "--also", ALSO]).await;
    let receipt = told.json();
    assert_eq!(receipt["database_compacted"], json!(true), "{receipt:#}");
    assert!(receipt["counts"]["files"].as_u64() == Some(1), "{receipt:#}");
    check(&scene, &receipt).await;
    // Again: there is nobody to erase.
    let again = scene.daemon.cli(&["erase", &scene.id]).await;
    assert!(again.code == Some(1) && again.err.contains("principal.not_found"), "{again:?}");
}

#[tokio::test]
async fn an_erasure_that_is_killed_again_and_again_goes_on_and_ends() {
    let mut scene = scene().await;
    let mut erase = scene.daemon.command(&["erase", NAME, "--also", ALSO]);
    erase.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut erase = erase.spawn().unwrap();
    for wait in [60, 90, 130, 180] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        scene.daemon.kill();
        scene.daemon.run().await;
    }
    drop(erase.kill());
    drop(erase.wait());
    let all = said(&scene.daemon, &["erase", "--list"]).await;
    if all["items"].as_array().unwrap().is_empty() {
        // Killed before it was asked for: nothing was promised.
        assert!(scene.daemon.cli(&["erase", NAME, "--also", ALSO]).await.code == Some(0));
    }
    let receipt = receipt(&scene.daemon).await;
    check(&scene, &receipt).await;
}

#[tokio::test]
async fn a_person_of_the_configuration_and_the_local_operator_are_not_erased() {
    let daemon = Daemon::start("").await;
    let refused = daemon.cli(&["erase", "alice"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("configuration"), "{refused:?}");
    let refused = daemon.cli(&["erase", "nobody at all"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("principal.not_found"), "{refused:?}");
}

#[tokio::test]
async fn a_person_is_given_everything_that_is_stored_about_them_and_nothing_of_others() {
    let scene = scene().await;
    let out = scene.daemon.dir().join("export");
    let told = scene.daemon.cli(&["export", NAME, "--out", out.to_str().unwrap()]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let hers = ["Canaryname", "canarylabel", "canaryaccount", "canaryinput", "canaryanswer"];
    let mut words: Vec<String> = hers.iter().map(|word| (*word).to_owned()).collect();
    words.extend(["canarycontent", "canarywaiting", "canaryguest"].map(str::to_owned));
    let there = found(&out, &words);
    assert_eq!(there.len(), words.len(), "{there:#?}");
    assert!(found(&out, &["of the admin".to_owned()]).is_empty());
    let secret = scene.token.rsplit('_').next().unwrap().to_owned();
    assert!(found(&out, &[secret]).is_empty(), "a token is never given");
    let readme = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(readme.contains("`messages.jsonl`"), "{readme}");
    let files = fs::read_to_string(out.join("files.jsonl")).unwrap();
    let file: Value = serde_json::from_str(files.lines().next().unwrap()).unwrap();
    let copy = fs::read_to_string(out.join(text(&file, "file"))).unwrap();
    assert_eq!(copy, "canarycontent");
    let again = scene.daemon.cli(&["export", NAME, "--out", out.to_str().unwrap()]).await;
    assert_eq!(again.code, Some(2), "{again:?}");
    let rows = said(&scene.daemon, &["audit", "query", "--kind", "person_export"]).await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn how_long_things_are_kept_is_shown_set_and_kept_over_a_restart() {
    let mut daemon = Daemon::start("").await;
    let shown = said(&daemon, &["retention", "show"]).await;
    let expected =
        json!({ "access": 90, "app": 30, "error": 365, "audit": 2555, "conversations": 0 });
    assert_eq!(shown["days"], expected);
    said(&daemon, &["retention", "set", "app", "7"]).await;
    let refused = daemon.cli(&["retention", "set", "audit", "1"]).await;
    assert!(refused.code == Some(2) && refused.err.contains("90"), "{refused:?}");
    assert_eq!(daemon.stop().await, Some(0));
    daemon.run().await;
    assert_eq!(said(&daemon, &["retention", "show"]).await["days"]["app"], json!(7));
    let report = said(&daemon, &["retention", "run", "--dry-run"]).await;
    assert_eq!((&report["dry_run"], &report["removed"]), (&json!(true), &json!({})));
    said(&daemon, &["retention", "set", "app", "default"]).await;
    assert_eq!(said(&daemon, &["retention", "show"]).await["days"], expected);
}

#[tokio::test]
async fn an_erasure_names_the_backups_that_may_hold_the_person() {
    let fake = provider();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    crate::backup::with_key(&mut daemon).await;
    daemon.run().await;
    let told = daemon.cli(&["principal", "create", "ann", "--role", "member"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let (file, _) = crate::backup::create(&daemon).await;
    let told = daemon.cli(&["erase", "ann"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let receipt = receipt(&daemon).await;
    let named = receipt["backups"].as_array().unwrap();
    assert_eq!(named.len(), 1, "{receipt:#}");
    assert_eq!(named[0]["name"], file.file_name().unwrap().to_str().unwrap());
    assert_eq!(named[0]["bytes"], fs::metadata(&file).unwrap().len());
}
