//! The panic button: what it stops, that nothing happens after its answer, and that only a person
//! ends it.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{approval_of, provider, sh, until, until_alive},
    support::{
        checker::{Truth, check_no_leftovers},
        daemon::{Daemon, PATIENCE},
        fake_llm::{Fault, Turn},
        fake_site::FakeSite,
    },
    web,
};

/// Far more than the answer takes, on a machine that does other things as well.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing must happen after the answer.
const QUIET: Duration = Duration::from_millis(700);
/// Tools that write at once: each is a live sandbox.
const WRITERS: usize = 8;

/// A tool that writes to its own file as fast as it can.
fn writer(n: usize) -> Value {
    let script = format!("while :; do echo . >> count-{n}; sleep 0.005; done");
    json!({"argv": ["/bin/sh", "-c", script, format!("lock-marker-{n}")]})
}

fn sizes(files: &[PathBuf]) -> Vec<u64> {
    files.iter().map(|file| fs::metadata(file).map_or(0, |m| m.len())).collect()
}

async fn lock(daemon: &Daemon, reason: &str) -> Value {
    daemon.cli(&["lockdown", "on", "--json", "--reason", reason]).await.json()
}

async fn unlock(daemon: &Daemon) -> Value {
    daemon.cli(&["lockdown", "off", "--json"]).await.json()
}

/// Code and body of a probe.
async fn probe(daemon: &Daemon, path: &str) -> (u16, Value) {
    let answer = daemon.get(path).await;
    (answer.status.as_u16(), answer.json())
}

async fn rows(daemon: &Daemon) -> Vec<Value> {
    let told = daemon.cli(&["audit", "query", "--json", "--kind", "lockdown"]).await.json();
    told.as_array().unwrap().clone()
}

#[tokio::test]
async fn nothing_happens_after_the_answer_to_a_lockdown() {
    let (fake, site) = (provider(), FakeSite::start());
    for n in 0..WRITERS {
        fake.script(&format!("write{n}"), [Turn::call("exec", &writer(n)), Turn::text("done")]);
    }
    let sends = sh("while :; do curl -sS -m 5 http://site.example/beat >/dev/null; done");
    fake.script("send", [Turn::call("exec", &sends), Turn::text("done")]);
    let daemon = web::daemon(&fake, &site).await;
    let mut stopped = Vec::new();
    for n in 0..WRITERS {
        stopped.push(daemon.submit("open", &format!("script:write{n}")).await);
    }
    stopped.push(daemon.submit("web", "script:send").await);
    stopped.push(daemon.submit("open", "script:stuck").await);
    let asking = daemon.submit("careful", "script:exec").await;
    daemon.wait_for(&asking, &["awaiting_approval"]).await;
    let files: Vec<PathBuf> =
        (0..WRITERS).map(|n| daemon.workspace("open").join(format!("count-{n}"))).collect();
    until("every tool at work", || {
        let all_write = sizes(&files).iter().all(|size| *size > 20);
        let is_asked = !fake.seen_of("stuck").is_empty();
        (all_write && is_asked && site.asked_for("/beat").len() > 5).then_some(())
    })
    .await;
    let began = Instant::now();
    let told = lock(&daemon, "drill 7").await;
    let took = began.elapsed();
    let (after, asked) = (sizes(&files), site.asked().len());
    let models = fake.seen().len();
    assert!(took < ANSWER_WITHIN, "{took:?}: {told:#}");
    assert_eq!((&told["locked"], &told["lockdown"]["reason"]), (&json!(true), &json!("drill 7")));
    assert_eq!(told["stopped"]["is_done"], true, "{told:#}");
    assert_eq!(told["stopped"]["runs"], WRITERS + 2, "{told:#}");
    assert_eq!(told["stopped"]["calls"], WRITERS + 1, "{told:#}");
    tokio::time::sleep(QUIET).await;
    assert_eq!(sizes(&files), after, "a tool wrote after the answer");
    assert_eq!(site.asked().len(), asked, "a packet left after the answer");
    assert_eq!(fake.seen().len(), models, "a model was asked after the answer");
    for n in 0..WRITERS {
        until_alive(&format!("lock-marker-{n}"), false).await;
    }
    let sandbox = daemon.cli(&["capability", "list", "--live", "--json"]).await.json();
    assert_eq!(sandbox["items"], json!([]), "every capability is taken away");
    for id in &stopped {
        let run = daemon.run_of(id).await;
        assert_eq!(
            (&run["state"], &run["wait_reason"]),
            (&json!("paused"), &json!("lockdown")),
            "{run:#}"
        );
    }
    // Nothing starts, and it says so.
    let body = json!({"agent": "open", "input": "script:say"});
    let refused = daemon.post("/api/v1/runs", &body).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "lockdown"));
    assert!(refused.text.contains("lockdown off"), "{}", refused.text);
    let path = format!("/api/v1/runs/{}/resume", stopped[0]);
    assert_eq!(daemon.post(&path, &json!({})).await.code(), "lockdown");
    let (code, ready) = probe(&daemon, "/readyz").await;
    assert_eq!((code, &ready["checks"]["lockdown"]["ok"]), (503, &json!(false)), "{ready}");
    assert!(!ready.to_string().contains("drill 7"), "anybody may read it: {ready}");
    assert_eq!(probe(&daemon, "/healthz").await.0, 200);
    // A yes is taken, and starts nothing.
    let approval = approval_of(&daemon, &asking).await;
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(daemon.run_of(&asking).await["state"], "queued");
    // Whoever ends something may.
    let cancelled = stopped.pop().unwrap();
    daemon.post(&format!("/api/v1/runs/{cancelled}/cancel"), &json!({})).await;
    daemon.wait_for(&cancelled, &["cancelled"]).await;
    let rows = rows(&daemon).await;
    assert!(rows.iter().any(|r| r["data"]["what"] == "locked" && r["data"]["before"].is_null()));
    assert!(rows.iter().any(|r| r["data"]["what"] == "stopped"), "{rows:#?}");
}

#[tokio::test]
async fn a_lockdown_outlives_kill_9_and_what_it_stopped_goes_on_once_it_is_lifted() {
    let fake = provider();
    fake.script(
        "late",
        [
            Turn::call("exec", &writer(90)),
            Turn::call("exec", &sh("echo ran >> second.txt")),
            Turn::text("done"),
        ],
    );
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let stopped = daemon.submit("open", "script:late").await;
    until_alive("lock-marker-90", true).await;
    let first = lock(&daemon, "first").await;
    let again = lock(&daemon, "second").await;
    assert_eq!(again["lockdown"], first["lockdown"], "the first reason stays");
    assert_eq!(again["stopped"]["runs"], 0);
    daemon.kill();
    daemon.spawn().await;
    assert_eq!(probe(&daemon, "/readyz").await.0, 503, "it starts locked");
    let status = daemon.cli(&["lockdown", "status", "--json"]).await;
    assert_eq!(status.code, Some(1));
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["lockdown"], first["lockdown"]);
    let body = json!({"agent": "open", "input": "script:say"});
    assert_eq!(daemon.post("/api/v1/runs", &body).await.code(), "lockdown");
    let run = daemon.run_of(&stopped).await;
    assert_eq!((&run["state"], &run["wait_reason"]), (&json!("paused"), &json!("lockdown")));
    let lifted = unlock(&daemon).await;
    assert_eq!((&lifted["locked"], &lifted["lockdown"]), (&json!(false), &json!(null)));
    assert_eq!(probe(&daemon, "/readyz").await.0, 200);
    assert_eq!(unlock(&daemon).await["locked"], false, "lifting twice is harmless");
    // What was stopped goes on where a person wants it, with a capability of its own.
    assert_eq!(daemon.run_of(&stopped).await["state"], "paused");
    daemon.post(&format!("/api/v1/runs/{stopped}/resume"), &json!({})).await.expect(202);
    daemon.wait_for(&stopped, &["succeeded"]).await;
    let file = daemon.workspace("open").join("second.txt");
    assert_eq!(fs::read_to_string(file).unwrap(), "ran\n");
    let given = daemon.cli(&["capability", "list", "--json", "--run", &stopped]).await.json();
    let of = |cause: &str| {
        given["items"].as_array().unwrap().iter().filter(|c| c["revoked"]["cause"] == cause).count()
    };
    assert_eq!((of("lockdown"), of("person")), (2, 0), "{given:#}");
    let lifted = rows(&daemon).await;
    let lifted: Vec<_> = lifted.iter().filter(|r| r["data"]["what"] == "lifted").collect();
    assert_eq!(lifted.len(), 1);
    assert_eq!(lifted[0]["data"]["before"]["reason"], "first");
}

#[tokio::test]
async fn what_a_lockdown_took_for_a_while_a_person_can_take_for_good() {
    let fake = provider();
    fake.script("late", [Turn::call("exec", &writer(91)), Turn::text("done")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let stopped = daemon.submit("open", "script:late").await;
    until_alive("lock-marker-91", true).await;
    lock(&daemon, "drill").await;
    let given = daemon.cli(&["capability", "list", "--json", "--run", &stopped]).await.json();
    let mut all = given["items"].as_array().unwrap().iter();
    let own = all.find(|c| c["parent"].is_null()).unwrap();
    assert_eq!(own["revoked"]["cause"], "lockdown");
    let revoke = ["capability", "revoke", own["id"].as_str().unwrap(), "--json"];
    assert_eq!(daemon.cli(&revoke).await.json()["revoked"]["cause"], "person");
    unlock(&daemon).await;
    daemon.post(&format!("/api/v1/runs/{stopped}/resume"), &json!({})).await.expect(202);
    let run = daemon.wait_for(&stopped, &["failed", "succeeded"]).await;
    assert_eq!(run["error"]["code"], "capability.revoked", "{run:#}");
}

#[tokio::test]
async fn queued_runs_start_by_themselves_when_it_is_lifted() {
    let fake = provider();
    fake.script("hold", [Turn::text("held").after([Fault::Hang])]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let made = daemon.post("/api/v1/conversations", &json!({})).await;
    let conversation = made.json()["id"].as_str().expect("a conversation").to_owned();
    let create = async |input: &str| {
        let body = json!({"agent": "open", "input": input, "conversation_id": conversation});
        let run = daemon.post("/api/v1/runs", &body).await.expect(202);
        run["id"].as_str().unwrap().to_owned()
    };
    let first = create("script:hold").await;
    until("the model to be asked", || (!fake.seen_of("hold").is_empty()).then_some(())).await;
    let behind = create("script:say").await;
    lock(&daemon, "").await;
    assert_eq!(daemon.run_of(&behind).await["state"], "queued");
    unlock(&daemon).await;
    daemon.post(&format!("/api/v1/runs/{first}/resume"), &json!({})).await.expect(202);
    daemon.wait_for(&first, &["succeeded"]).await;
    daemon.wait_for(&behind, &["succeeded"]).await;
}

/// Killed at any moment of a lockdown: whoever was told that it is locked finds it locked, and no
/// tool of the dead daemon lives.
#[tokio::test]
async fn a_crash_in_the_middle_of_a_lockdown_never_takes_back_an_answer() {
    let fake = provider();
    for n in 0..6 {
        let turns = [Turn::call("exec", &writer(100 + n)), Turn::text("done")];
        fake.script(&format!("crash{n}"), turns);
    }
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let mut was_locked = 0;
    for round in 0_u64..6 {
        let n = usize::try_from(round).unwrap();
        let id = daemon.submit("open", &format!("script:crash{n}")).await;
        until_alive(&format!("lock-marker-{}", 100 + n), true).await;
        let locked_before = daemon.log().matches("locking down").count();
        let mut on = daemon.command(&["lockdown", "on", "--json"]);
        let mut on = on.stdout(std::process::Stdio::null()).spawn().expect("it starts");
        match round {
            // Before and while it is asked.
            0..3 => tokio::time::sleep(Duration::from_millis(20 * round)).await,
            // From the moment when it is heard.
            3 | 4 => {
                let heard = || daemon.log().matches("locking down").count();
                until("the lockdown", || (heard() > locked_before).then_some(())).await;
                tokio::time::sleep(Duration::from_millis(4 * (round - 3))).await;
            }
            // After the answer.
            _ => drop(until("the answer", || on.try_wait().expect("it can be waited for")).await),
        }
        daemon.kill();
        let told = on.wait().expect("it ends").success();
        check_no_leftovers(&daemon.data_dir());
        daemon.spawn().await;
        let status = daemon.cli(&["lockdown", "status", "--json"]).await;
        let is_locked = status.code == Some(1);
        assert!(is_locked || !told, "round {round}: told that it is locked, and it is not");
        was_locked += usize::from(is_locked);
        if is_locked {
            let run = daemon.run_of(&id).await;
            assert_eq!(run["state"], "paused", "round {round}: {run:#}");
            unlock(&daemon).await;
        }
        let deadline = Instant::now() + PATIENCE;
        while probe(&daemon, "/readyz").await.0 != 200 {
            assert!(Instant::now() < deadline, "not ready: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        daemon.post(&format!("/api/v1/runs/{id}/cancel"), &json!({})).await;
        daemon.wait_for(&id, &["cancelled"]).await;
    }
    assert!(was_locked > 0, "no round came as far as the lockdown");
    daemon.kill();
    let truth = Truth::read(&daemon.data_dir()).await;
    truth.check_events();
    truth.check_audit();
}
