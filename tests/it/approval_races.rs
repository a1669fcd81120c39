//! Between the answer and the start: what was shown is what runs, or it is asked again. Each attack
//! with the same thing done where nobody is asked, to show that it works.

use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, workspace_text},
    support::{
        daemon::{ADMIN, ALICE, Daemon},
        fake_llm::{FakeLlm, Turn},
    },
};

/// A second and a third administrator.
const ANN: &str = "ann-token-0123456789-0123456789-0123456789abc";
const TOM: &str = "tom-token-0123456789-0123456789-0123456789abc";
/// Rounds of each attack.
const ROUNDS: usize = 12;

/// `builder`: may execute what lies in its workspace, and asks before it does; its view holds the
/// interpreter that its scripts name. `hasty`: does not ask.
const MORE: &str = r#"
[agents.builder]
system_prompt = "test"
tools = ["exec"]
roles = ["member", "operator", "admin", "overlord"]
allowed_commands = ["dash"]
may_execute_files = true
[agents.hasty]
system_prompt = "test"
tools = ["exec"]
roles = ["member", "operator", "admin", "overlord"]
allowed_commands = ["*"]
may_execute_files = true
[[auth.tokens]]
name = "ann"
role = "admin"
token = "ann-token-0123456789-0123456789-0123456789abc"
[[auth.tokens]]
name = "tom"
role = "admin"
token = "tom-token-0123456789-0123456789-0123456789abc"
"#;

async fn start(fake: &FakeLlm) -> Daemon {
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), MORE);
    daemon.set_env("AGENT_RUNTIME_TOKEN", ADMIN);
    daemon.run().await;
    daemon
}

fn program(path: &Path, word: &str) {
    fs::write(path, format!("#!/usr/bin/dash\necho {word} >> {word}.log\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Exchanges two names as fast as it can until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(a: std::path::PathBuf, b: std::path::PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        #[expect(clippy::disallowed_methods, reason = "the attacker is a thread of the test")]
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Answers what a run asks until it ends: yes only to cards that `is_good` likes.
async fn answer_all(daemon: &Daemon, run: &str, is_good: impl Fn(&Value) -> bool) -> usize {
    let mut asked = 0;
    loop {
        let now = daemon.wait_for(run, &["awaiting_approval", "succeeded", "failed"]).await;
        if now["state"] != "awaiting_approval" {
            return asked;
        }
        let Some(card) = daemon.pending(run).await.into_iter().next() else { continue };
        asked += 1;
        let answer = if is_good(&card) { "approve" } else { "deny" };
        daemon.decide(&card, &json!({ "decision": answer })).await.expect(200);
        let path = format!("/api/v1/approvals/{}", card["id"].as_str().unwrap());
        assert_ne!(daemon.get(&path).await.expect(200)["state"], "pending");
    }
}

/// The first card of a call that changes nothing: what the good thing is known by.
async fn known(daemon: &Daemon, fake: &FakeLlm, args: &Value, part: &str) -> Value {
    fake.script("known", [Turn::call("exec", args), Turn::text("done")]);
    let id = daemon.submit("builder", "script:known").await;
    let card = approval_of(daemon, &id).await;
    daemon.decide(&card, &json!({"decision": "deny"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    card["bound"].pointer(part).cloned().expect("a part of the card")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_swapped_after_the_answer_never_runs_in_its_place() {
    let fake = provider();
    let daemon = start(&fake).await;
    let args = json!({"argv": ["./x"]});
    for agent in ["builder", "hasty"] {
        program(&daemon.workspace(agent).join("x"), "good");
        program(&daemon.workspace(agent).join("y"), "evil");
    }
    let good = known(&daemon, &fake, &args, "/executable/sha256").await;
    let swapper = |agent: &str| {
        let at = |name: &str| daemon.workspace(agent).join(name);
        Swapper::start(at("x"), at("y"))
    };
    fake.script("race", [Turn::call("exec", &args), Turn::text("done")]);
    let attack = swapper("builder");
    for round in 0..ROUNDS {
        let id = daemon.submit("builder", &format!("script:race {round}")).await;
        answer_all(&daemon, &id, |card| card["bound"]["executable"]["sha256"] == good).await;
    }
    drop(attack);
    assert_eq!(workspace_text(&daemon, "builder", "evil.log"), "", "a mismatched execution");
    // In peace the same program runs.
    program(&daemon.workspace("builder").join("x"), "good");
    let id = daemon.submit("builder", "script:race in peace").await;
    answer_all(&daemon, &id, |_| true).await;
    assert!(workspace_text(&daemon, "builder", "good.log").contains("good"));
    // The control: where nobody is asked, what lies there runs.
    let attack = swapper("hasty");
    for round in 0..40 {
        let id = daemon.submit("hasty", &format!("script:race h{round}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
        if workspace_text(&daemon, "hasty", "evil.log").contains("evil") {
            break;
        }
    }
    drop(attack);
    assert!(workspace_text(&daemon, "hasty", "evil.log").contains("evil"), "no attack at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_swapped_after_the_answer_is_never_worked_in() {
    let fake = provider();
    let daemon = start(&fake).await;
    let args = json!({"argv": ["/bin/sh", "-c", "echo ran >> ran.log"], "cwd": "d"});
    let at = |name: &str| daemon.workspace("builder").join(name);
    for name in ["d", "e"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let good = known(&daemon, &fake, &args, "/cwd/ino").await;
    fake.script("race", [Turn::call("exec", &args), Turn::text("done")]);
    let attack = Swapper::start(at("d"), at("e"));
    for round in 0..ROUNDS {
        let id = daemon.submit("builder", &format!("script:race {round}")).await;
        answer_all(&daemon, &id, |card| card["bound"]["cwd"]["ino"] == good).await;
    }
    drop(attack);
    let wrote = |ino: u64| {
        let of = |name: &str| {
            let found = fs::metadata(at(name)).unwrap();
            std::os::unix::fs::MetadataExt::ino(&found) == ino
        };
        let name = if of("d") { "d" } else { "e" };
        fs::read_to_string(at(name).join("ran.log")).unwrap_or_default()
    };
    let good = good.as_u64().unwrap();
    // In peace the same call runs, in the one that was shown.
    if fs::metadata(at("d")).map(|found| std::os::unix::fs::MetadataExt::ino(&found)).unwrap()
        != good
    {
        renameat_with(CWD, at("d"), CWD, at("e"), RenameFlags::EXCHANGE).unwrap();
    }
    let id = daemon.submit("builder", "script:race in peace").await;
    answer_all(&daemon, &id, |card| card["bound"]["cwd"]["ino"] == good).await;
    assert!(wrote(good).contains("ran"), "nothing runs at all");
    let other = ["d", "e"]
        .map(|name| std::os::unix::fs::MetadataExt::ino(&fs::metadata(at(name)).unwrap()));
    let other = other.into_iter().find(|ino| *ino != good).unwrap();
    assert_eq!(wrote(other), "", "a mismatched execution");
    // The control: where nobody is asked, it works wherever the name leads.
    let at = |name: &str| daemon.workspace("hasty").join(name);
    for name in ["d", "e"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Held open: by name one and the same could be found twice.
    let held = ["d", "e"].map(|name| fs::File::open(at(name)).unwrap());
    let both = || {
        let log = |dir: &fs::File| format!("/proc/self/fd/{}/ran.log", dir.as_raw_fd());
        held.iter().all(|dir| Path::new(&log(dir)).exists())
    };
    let attack = Swapper::start(at("d"), at("e"));
    for round in 0..60 {
        let id = daemon.submit("hasty", &format!("script:race h{round}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
        if both() {
            break;
        }
    }
    drop(attack);
    assert!(both(), "no attack at all");
}

#[tokio::test]
async fn what_changed_after_the_answer_is_told_voided_and_asked_again() {
    let fake = provider();
    let mut daemon = start(&fake).await;
    let x = daemon.workspace("builder").join("x");
    program(&x, "good");
    let args = json!({"argv": ["./x"]});
    fake.script("change", [Turn::call("exec", &args), Turn::text("done")]);
    let id = daemon.submit("builder", "script:change").await;
    let first = approval_of(&daemon, &id).await;
    assert_eq!(first["binding"].as_str().unwrap().len(), 64);
    assert_eq!(first["bound"]["executable"]["path"], x.to_str().unwrap());
    assert_eq!(first["bound"]["cwd"]["path"], daemon.workspace("builder").to_str().unwrap());
    assert_eq!(first["bound"]["profile"].as_str().unwrap().len(), 64);
    program(&x, "evil");
    daemon.decide(&first, &json!({"decision": "approve"})).await.expect(200);
    let second = approval_of(&daemon, &id).await;
    assert_ne!((&second["id"], &second["binding"]), (&first["id"], &first["binding"]));
    assert!(second["reasons"][0].as_str().unwrap().contains("program is another"), "{second}");
    let voided = event(&daemon, &id, "approval.voided").await;
    assert_eq!(voided["data"]["approval_id"], first["id"]);
    let path = format!("/api/v1/approvals/{}", first["id"].as_str().unwrap());
    assert_eq!(daemon.get(&path).await.expect(200)["state"], "voided");
    assert!(!kinds(&daemon, &id).await.contains(&"tool.started".to_owned()));
    // The first answer is spent; the second card shows what runs now.
    let late = daemon.decide(&first, &json!({"decision": "approve"})).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "approval.stale".to_owned()));
    daemon.decide(&second, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "builder", "evil.log"), "evil\n");
    assert_eq!(workspace_text(&daemon, "builder", "good.log"), "");
    // The list of hosts: the card showed none.
    fake.script("hosts", [Turn::call("exec", &sh("true")), Turn::text("done")]);
    let id = daemon.submit("builder", "script:hosts").await;
    let first = approval_of(&daemon, &id).await;
    let added = daemon.cli(&["egress", "add", "new.example", "--agent", "builder"]).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    daemon.decide(&first, &json!({"decision": "approve"})).await.expect(200);
    let second = approval_of(&daemon, &id).await;
    assert!(second["egress"].to_string().contains("new.example"), "{second}");
    assert!(second["reasons"][0].as_str().unwrap().contains("machines"), "{second}");
    daemon.decide(&second, &json!({"decision": "deny"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(daemon.stop().await, Some(0));
    let truth = crate::support::checker::Truth::read(&daemon.data_dir()).await;
    truth.check_events();
    truth.check_audit();
    truth.check_approvals();
}

/// Rewrites the configuration and has the daemon read it again.
fn reconfigure(daemon: &Daemon, from: &str, to: &str) {
    let file = daemon.dir().join("test.toml");
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains(from));
    fs::write(&file, config.replacen(from, to, 1)).unwrap();
    daemon.signal(1);
}

#[tokio::test]
async fn a_yes_counts_only_while_who_gave_it_may_give_it() {
    let fake = provider();
    let daemon = start(&fake).await;
    let same = sh("echo same >> ran.log");
    fake.script(
        "again",
        [
            Turn::call("exec", &same),
            Turn::call("ask_user", &json!({"question": "Go on?"})),
            Turn::call("exec", &same),
            Turn::text("done"),
        ],
    );
    let id = daemon.submit("careful", "script:again").await;
    let card = approval_of(&daemon, &id).await;
    let path = format!("/api/v1/approvals/{}/decision", card["id"].as_str().unwrap());
    let yes = json!({"decision": "approve", "scope": "run"});
    let decided = daemon.call(Method::POST, &path, ANN, Some(&yes)).await.unwrap();
    decided.expect(200);
    daemon.wait_for(&id, &["paused"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "same\n");
    // Ann is an operator from now on: her word about a call of high risk counts no longer.
    let ann = |role: &str| format!("name = \"ann\"\nrole = \"{role}\"");
    reconfigure(&daemon, &ann("admin"), &ann("operator"));
    loop {
        let me = daemon.call(Method::GET, "/api/v1/me", ANN, None).await.unwrap().expect(200);
        if me["role"] == "operator" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let resume = daemon.post(&format!("/api/v1/runs/{id}/resume"), &json!({"input": "yes"})).await;
    assert_eq!(resume.status.as_u16(), 202);
    let again = approval_of(&daemon, &id).await;
    assert!(again["reasons"][0].as_str().unwrap().contains("may no longer decide"), "{again}");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "same\n");
    event(&daemon, &id, "approval.voided").await;
    daemon.decide(&again, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "same\nsame\n");
}

#[tokio::test]
async fn a_pattern_lets_like_calls_through_until_it_is_used_up_or_revoked() {
    let fake = provider();
    let daemon = start(&fake).await;
    let call = |word: &str| json!({"argv": ["echo", "say", word]});
    let script = |name: &str, words: &[&str]| {
        let calls = words.iter().map(|word| Turn::call("exec", &call(word)));
        fake.script(name, calls.chain([Turn::text("done")]).collect::<Vec<_>>());
    };
    script("first", &["a"]);
    let id = daemon.submit("careful", "script:first").await;
    let card = approval_of(&daemon, &id).await;
    let apr = card["id"].as_str().unwrap();
    let pattern = json!({"argv_prefix": ["echo", "say"], "ttl_secs": 600, "uses": 3});
    let shown = daemon
        .post(&format!("/api/v1/approvals/{apr}/pattern-preview"), &pattern)
        .await
        .expect(200);
    assert_eq!((&shown["matched"], &shown["calls"]), (&json!(1), &json!(1)), "{shown}");
    for (bad, pointer) in [
        (json!({"argv_prefix": ["ls"], "ttl_secs": 600, "uses": 3}), "/pattern/argv_prefix"),
        (json!({"ttl_secs": 600, "uses": 101}), "/pattern/uses"),
        (json!({"ttl_secs": 86_401, "uses": 1}), "/pattern/ttl_secs"),
        (json!({"args": {"argv": "*"}, "ttl_secs": 6, "uses": 1}), "/pattern/args"),
    ] {
        let body = json!({"decision": "approve", "scope": "pattern", "pattern": bad});
        let refused = daemon.decide(&card, &body).await;
        assert_eq!(refused.status.as_u16(), 422, "{bad}");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{bad}");
    }
    let body = json!({"decision": "approve", "scope": "pattern", "pattern": pattern});
    daemon.decide(&card, &body).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    // Two of three uses in one run; what is not like it is asked.
    script("more", &["b", "c"]);
    let id = daemon.submit("careful", "script:more").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let list = daemon.get("/api/v1/approval-patterns").await.expect(200);
    assert_eq!(list["items"][0]["uses_left"], 1, "{list}");
    fake.script("other", [Turn::call("exec", &json!({"argv": ["echo", "x"]})), Turn::text("x")]);
    let id = daemon.submit("careful", "script:other").await;
    let other = approval_of(&daemon, &id).await;
    daemon.decide(&other, &json!({"decision": "deny"})).await.expect(200);
    // The last use, then it asks again.
    script("last", &["d", "e"]);
    let id = daemon.submit("careful", "script:last").await;
    let over = approval_of(&daemon, &id).await;
    assert_eq!(over["args"], call("e"));
    let body = json!({"decision": "approve", "scope": "pattern", "pattern": pattern});
    daemon.decide(&over, &body).await.expect(200);
    daemon.wait_for(&id, &["succeeded"]).await;
    let listed = daemon.cli(&["approval", "patterns", "--json"]).await.json();
    let pat = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let gone = daemon.cli(&["approval", "revoke-pattern", &pat]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    script("revoked", &["f"]);
    let id = daemon.submit("careful", "script:revoked").await;
    approval_of(&daemon, &id).await;
}

#[tokio::test]
async fn several_are_answered_at_once_each_on_its_own() {
    let fake = provider();
    let daemon = start(&fake).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let run = daemon.submit("careful", &format!("script:exec batch {n}")).await;
        let card = approval_of(&daemon, &run).await;
        ids.push((run, card["id"].as_str().unwrap().to_owned()));
    }
    let page = daemon.get("/api/v1/approvals?state=pending").await.expect(200);
    assert_eq!(page["groups"].as_array().map(Vec::len), Some(3), "{page}");
    assert_eq!(page["groups"][0]["tools"], json!(["exec"]));
    let shown = daemon.cli(&["approval", "list", "--pending"]).await;
    assert!(ids.iter().all(|(run, apr)| shown.out.contains(run) && shown.out.contains(apr)));
    let card = daemon.cli(&["approval", "show", &ids[0].1]).await;
    for part in ["binds directory", "binds program", "binds profile", "binds together"] {
        assert!(card.out.contains(part), "{}", card.out);
    }
    daemon.cli(&["approval", "deny", &ids[0].1]).await;
    let all: Vec<&str> = ids.iter().map(|(_, apr)| apr.as_str()).collect();
    let body = json!({"ids": all, "decision": "approve"});
    let answer = daemon.post("/api/v1/approvals/decisions", &body).await.expect(200);
    let oks: Vec<_> = answer["items"].as_array().unwrap().iter().map(|i| &i["ok"]).collect();
    assert_eq!(oks, [&json!(false), &json!(true), &json!(true)], "{answer:#}");
    assert_eq!(answer["items"][0]["problem"]["code"], "approval.stale");
    for (run, _) in &ids {
        daemon.wait_for(run, &["succeeded"]).await;
    }
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\nran\n");
    let none = json!({"ids": [], "decision": "deny"});
    let none = daemon.post("/api/v1/approvals/decisions", &none).await;
    assert_eq!(none.status.as_u16(), 422);
    let low = daemon.call(Method::POST, "/api/v1/approvals/decisions", ALICE, Some(&body)).await;
    assert_eq!(low.unwrap().status.as_u16(), 403);
}

#[tokio::test]
async fn the_words_of_somebody_else_taint_a_run() {
    let fake = provider();
    let daemon = start(&fake).await;
    // A message of Alice's stands in the conversation that the administrator goes on with.
    let body = json!({"agent": "careful", "input": "script:say hello"});
    let run = daemon.call(Method::POST, "/api/v1/runs?wait=30", ALICE, Some(&body)).await.unwrap();
    let run = run.expect(200);
    assert_eq!(run["tainted"], false);
    let body = json!({
        "agent": "careful", "input": "script:exec after", "conversation_id": run["conversation_id"],
    });
    let next = daemon.post("/api/v1/runs", &body).await.expect(202);
    let id = next["id"].as_str().unwrap();
    let card = approval_of(&daemon, id).await;
    assert_eq!(
        (&card["tainted"], &daemon.run_of(id).await["tainted"]),
        (&json!(true), &json!(true))
    );
    // So does a steer of somebody else's, and not one's own.
    for (token, wanted) in [(ADMIN, false), (TOM, true)] {
        let id = daemon.submit("careful", "script:exec steered").await;
        let card = approval_of(&daemon, &id).await;
        let path = format!("/api/v1/runs/{id}/steer");
        let steer = json!({"input": "script:say more"});
        let steered = daemon.call(Method::POST, &path, token, Some(&steer)).await.unwrap();
        assert_eq!(steered.status.as_u16(), 202);
        daemon.decide(&card, &json!({"decision": "deny"})).await.expect(200);
        assert_eq!(daemon.wait_for(&id, &["succeeded"]).await["tainted"], wanted);
    }
}

/// Two people for whatever is written below `guarded`.
const TWO_EYES: &str = r#"version = 1
[[rule]]
name = "guarded"
effect = "ask"
paths = ["guarded"]
access = "write"
quorum = 2
reason = "two people look at this"
"#;

#[tokio::test]
async fn a_rule_for_two_people_waits_for_two_and_writes_where_they_saw_it() {
    let fake = provider();
    let daemon = start(&fake).await;
    let file = daemon.dir().join("policy.toml");
    fs::write(&file, TWO_EYES).unwrap();
    let put = daemon.cli(&["policy", "put", file.to_str().unwrap()]).await;
    assert_eq!(put.code, Some(0), "{put:?}");
    let at = |name: &str| daemon.workspace("careful").join(name);
    for name in ["guarded", "other"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let args = json!({"path": "guarded/f", "content": "approved", "mode": "overwrite"});
    fake.script("write", [Turn::call("write_file", &args), Turn::text("done")]);
    let id = daemon.submit("careful", "script:write").await;
    let card = approval_of(&daemon, &id).await;
    assert_eq!(card["quorum"], 2, "{card}");
    assert_eq!(card["bound"]["target"]["file"], Value::Null);
    let decide = async |token: &str, card: &Value| {
        let path = format!("/api/v1/approvals/{}/decision", card["id"].as_str().unwrap());
        let yes = json!({"decision": "approve"});
        daemon.call(Method::POST, &path, token, Some(&yes)).await.unwrap()
    };
    let first = decide(ANN, &card).await.expect(200);
    assert_eq!(first["state"], "pending");
    assert_eq!(decide(ANN, &card).await.code(), "approval.counted");
    assert_eq!(daemon.run_of(&id).await["state"], "awaiting_approval");
    // Between the two answers the directory becomes another one, by a link.
    fs::rename(at("guarded"), at("old")).unwrap();
    std::os::unix::fs::symlink("other", at("guarded")).unwrap();
    assert_eq!(decide(TOM, &card).await.expect(200)["state"], "approved");
    let again = approval_of(&daemon, &id).await;
    assert_ne!(again["id"], card["id"]);
    assert!(again["reasons"][0].as_str().unwrap().contains("directory"), "{again}");
    assert!(!at("other/f").exists() && !at("old/f").exists());
    // As it was: now two people see it again, and it is written there.
    fs::remove_file(at("guarded")).unwrap();
    fs::rename(at("old"), at("guarded")).unwrap();
    decide(ANN, &again).await.expect(200);
    assert_eq!(decide(TOM, &again).await.expect(200)["state"], "approved");
    let third = approval_of(&daemon, &id).await;
    for token in [ADMIN, TOM] {
        decide(token, &third).await.expect(200);
    }
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(workspace_text(&daemon, "careful", "guarded/f"), "approved");
}
