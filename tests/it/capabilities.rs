//! Capabilities in whole runs: what a run and each of its calls are given, and what happens when an
//! administrator takes it away.

use std::{fs, time::Duration};

use agent_runtime::http::admin::SOCKET;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{approval_of, kinds, pid_of, provider, sh, until, until_alive},
    support::{
        daemon::{ADMIN, Answer, Daemon, PROVIDER_KEY},
        fake_llm::{FakeLlm, Turn},
        fake_site::FakeSite,
    },
    web,
};

/// Longest time from the answer to a revocation to the death of what ran under it.
const KILLED_WITHIN: Duration = Duration::from_secs(3);

async fn door(daemon: &Daemon, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let socket = daemon.data_dir().join(SOCKET);
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let mut request = client.request(method, format!("http://localhost/admin/v1{path}"));
    if let Some(body) = body {
        request = request.json(body);
    }
    Daemon::answer(request).await.unwrap()
}

/// The capabilities of a run, newest first: those of its calls before the run's own.
async fn given(daemon: &Daemon, run: &str, more: &[&str]) -> Vec<Value> {
    let args = [&["capability", "list", "--json", "--run", run], more].concat();
    daemon.cli(&args).await.json()["items"].as_array().unwrap().clone()
}

async fn the_runs_own(daemon: &Daemon, run: &str) -> Value {
    let all = given(daemon, run, &["--live"]).await;
    all.into_iter().find(|c| c["parent"].is_null()).expect("the run's own")
}

async fn revoke(daemon: &Daemon, capability: &Value, reason: &str) -> Value {
    let id = capability["id"].as_str().unwrap();
    daemon.cli(&["capability", "revoke", id, "--json", "--reason", reason]).await.json()
}

async fn rows(daemon: &Daemon, kind: &str, run: &str) -> Vec<Value> {
    let told = daemon.cli(&["audit", "query", "--json", "--kind", kind]).await.json();
    let all = told.as_array().unwrap().iter();
    all.filter(|row| row["run_id"] == run).cloned().collect()
}

fn texts(capability: &Value) -> Vec<&str> {
    capability["permissions"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect()
}

/// A call that runs until it is killed, and can be seen from outside.
fn endless(marker: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", "while :; do sleep 0.05; done", marker]})
}

#[tokio::test]
async fn a_run_gets_what_its_agent_may_do_and_each_call_a_part_of_it() {
    let fake = provider();
    fake.script(
        "parts",
        [
            Turn::call("read_file", &json!({"path": "a/b.txt"})),
            Turn::call("list_files", &json!({})),
            Turn::text("done"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("reader", "script:parts").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let all = given(&daemon, &id, &[]).await;
    assert_eq!(all.len(), 3, "{all:#?}");
    let own = all.last().unwrap();
    let workspace = daemon.workspace("reader");
    let workspace = workspace.display();
    assert_eq!(
        texts(own),
        [
            "tool use read_file (at most 60 s)".to_owned(),
            "tool use list_files (at most 60 s)".to_owned(),
            format!("path read {workspace}/**"),
        ]
    );
    assert_eq!((&own["delegatable"], &own["parent"]), (&json!(true), &json!(null)));
    let read = &all[1];
    assert_eq!(
        texts(read),
        [
            "tool use read_file (at most 60 s)".to_owned(),
            format!("path read {workspace}/a/b.txt/**")
        ]
    );
    for part in &all[..2] {
        assert_eq!((&part["parent"], &part["delegatable"]), (&own["id"], &json!(false)));
        assert!(part["call_id"].is_string() && part["is_signed"] == true, "{part}");
        assert!(part["expires_at"].as_str() <= own["expires_at"].as_str(), "{part}");
    }
    // The run is over, and so is all that it was given.
    assert!(all.iter().all(|c| c["state"] == "ended"), "{all:#?}");
    assert!(given(&daemon, &id, &["--live"]).await.is_empty());
    let granted = rows(&daemon, "capability_granted", &id).await;
    assert_eq!(granted.len(), 3);
    for capability in &all {
        let row = granted.iter().find(|r| r["data"]["capability_id"] == capability["id"]);
        assert_eq!(row.unwrap()["data"]["permissions"], capability["permissions"]);
    }
    assert!(!json!(all).to_string().contains("cap_v1."), "the signed text is shown to nobody");
}

#[tokio::test]
async fn revoking_a_runs_capability_kills_its_call_and_fails_the_run() {
    let fake = provider();
    fake.script(
        "two",
        [
            Turn::call("exec", &endless("cap-marker-1")).and("exec", &sh("echo ran > second.txt")),
            Turn::text("never"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:two").await;
    until_alive("cap-marker-1", true).await;
    let own = the_runs_own(&daemon, &id).await;
    let began = Instant::now();
    let revoked = revoke(&daemon, &own, "it talks too much").await;
    until_alive("cap-marker-1", false).await;
    assert!(began.elapsed() < KILLED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(revoked["revoked"]["cause"], "person");
    let run = daemon.wait_for(&id, &["failed"]).await;
    assert_eq!(run["error"]["code"], "capability.revoked");
    assert!(run["error"]["message"].as_str().unwrap().contains("it talks too much"), "{run}");
    let events = daemon.events(&id).await;
    let denied: Vec<_> = events.iter().filter(|e| e["type"] == "tool.denied").collect();
    assert_eq!(denied.len(), 1, "the second call is denied: {events:#?}");
    assert_eq!(denied[0]["data"]["rule"], "capability.revoked");
    assert!(!daemon.workspace("open").join("second.txt").exists());
    assert!(kinds(&daemon, &id).await.contains(&"capability.revoked".to_owned()));
    // The call's own went with it; doing it again changes nothing.
    let all = given(&daemon, &id, &[]).await;
    assert!(all.iter().all(|c| c["state"] == "revoked"), "{all:#?}");
    assert_eq!(revoke(&daemon, &own, "again").await["revoked"], revoked["revoked"]);
    let rows = rows(&daemon, "capability_revoked", &id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["data"]["before"], &rows[0]["data"]["after"]),
        (&json!("live"), &json!("revoked"))
    );
    assert_eq!(rows[0]["data"]["revoked"].as_array().unwrap().len(), 2, "{rows:#?}");
}

#[tokio::test]
async fn revoking_a_calls_capability_kills_that_call_alone() {
    let fake = provider();
    fake.script(
        "one",
        [
            Turn::call("exec", &endless("cap-marker-2")),
            Turn::call("exec", &sh("echo ran > after.txt")),
            Turn::text("done"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:one").await;
    until_alive("cap-marker-2", true).await;
    let all = given(&daemon, &id, &["--live"]).await;
    assert_eq!(all.len(), 2, "{all:#?}");
    let part = all.iter().find(|c| c["parent"].is_string()).unwrap();
    let began = Instant::now();
    revoke(&daemon, part, "only this").await;
    until_alive("cap-marker-2", false).await;
    assert!(began.elapsed() < KILLED_WITHIN, "{:?}", began.elapsed());
    let run = daemon.wait_for(&id, &["succeeded", "failed"]).await;
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert!(daemon.workspace("open").join("after.txt").exists());
    let events = daemon.events(&id).await;
    let first = events.iter().find(|e| e["type"] == "tool.completed").unwrap();
    assert_eq!(first["data"]["status"], "killed");
}

#[tokio::test]
async fn a_waiting_run_whose_capability_was_revoked_fails_also_after_a_crash() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let approved = daemon.submit("careful", "script:exec one").await;
    let crashed = daemon.submit("careful", "script:exec two").await;
    let kept = daemon.submit("careful", "script:exec three").await;
    for id in [&approved, &crashed, &kept] {
        daemon.wait_for(id, &["awaiting_approval"]).await;
    }
    for id in [&approved, &crashed] {
        revoke(&daemon, &the_runs_own(&daemon, id).await, "not today").await;
    }
    let approval = approval_of(&daemon, &approved).await;
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    let run = daemon.wait_for(&approved, &["failed"]).await;
    assert_eq!(run["error"]["code"], "capability.revoked");
    daemon.kill();
    daemon.run().await;
    for (id, wanted) in [(&crashed, "failed"), (&kept, "succeeded")] {
        let approval = approval_of(&daemon, id).await;
        daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
        let run = daemon.wait_for(id, &["failed", "succeeded"]).await;
        assert_eq!(run["state"], wanted, "{run:#}");
    }
    // Only the run that kept its capability has done anything.
    let log = fs::read_to_string(daemon.workspace("careful").join("ran.log")).unwrap();
    assert_eq!(log, "ran\n");
    // Each time it was taken up it was given another one; the one before had ended.
    let own = given(&daemon, &kept, &[]).await;
    let own: Vec<_> = own.iter().filter(|c| c["parent"].is_null()).collect();
    assert_eq!(own.len(), 2, "{own:#?}");
}

#[tokio::test]
async fn a_host_that_is_allowed_during_a_run_is_in_its_next_calls_capability() {
    let (fake, site) = (provider(), FakeSite::start());
    let waits = sh("while [ ! -e go ]; do sleep 0.02; done");
    fake.script(
        "late",
        [
            Turn::call("http_request", &web::get("http://late.example/early")),
            Turn::call("exec", &waits),
            Turn::call("http_request", &web::get("http://late.example/late")),
            Turn::text("done"),
        ],
    );
    let daemon = web::daemon(&fake, &site).await;
    let id = daemon.submit("web", "script:late").await;
    until("the second call", || {
        fs::read_dir(daemon.workspace("web"))
            .ok()
            .map(drop)
            .filter(|()| fake.seen_of("late").len() >= 2)
    })
    .await;
    let before = the_runs_own(&daemon, &id).await;
    let rule = json!({"rule": {"host": "late.example", "port": 80, "allow_private": true}, "agent": "web"});
    door(&daemon, Method::POST, "/egress/domains", Some(&rule)).await.expect(201);
    fs::write(daemon.workspace("web").join("go"), "").unwrap();
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(site.asked_for("/late").len(), 1, "{:#?}", site.asked());
    assert!(site.asked_for("/early").is_empty());
    let all = given(&daemon, &id, &[]).await;
    let own: Vec<_> = all.iter().filter(|c| c["parent"].is_null()).collect();
    assert_eq!(own.len(), 2, "{own:#?}");
    assert!(texts(own[0]).iter().any(|p| p.contains("late.example")), "{own:#?}");
    assert!(!texts(&before).iter().any(|p| p.contains("late.example")), "{before:#?}");
}

#[tokio::test]
async fn no_tool_and_no_helper_ever_holds_a_token_of_the_daemon() {
    let fake = provider();
    // Everything that a tool can see of itself and of what it hangs from.
    let look = "
import os, sys, time
print(dict(os.environ))
for name in os.listdir('/proc/self/fd'):
    try: print(name, os.readlink('/proc/self/fd/' + name))
    except OSError: pass
for pid in ('self', '1'):
    try: print(open('/proc/' + pid + '/environ').read())
    except OSError as error: print(error)
sys.stdout.flush()
time.sleep(60)
";
    let call = json!({"argv": ["python3", "-c", look, "cap-marker-3"]});
    fake.script("look", [Turn::call("exec", &call), Turn::text("done")]);
    let mut daemon = Daemon::prepare(&fake.openai_url());
    daemon.set_env("CANARY_OF_THE_DAEMON", "canary-5512");
    daemon.run().await;
    let id = daemon.submit("open", "script:look").await;
    let tool = until("the tool", || pid_of("cap-marker-3")).await;
    let own = the_runs_own(&daemon, &id).await;
    let secret = fs::read_to_string(daemon.data_dir().join("permission-secret")).unwrap();
    let forbidden =
        ["cap_v1.", ADMIN, PROVIDER_KEY, "canary-5512", secret.trim(), own["id"].as_str().unwrap()];
    // From outside, as root sees the tool and everything between it and the daemon.
    let mut pid = tool;
    let mut looked = 0;
    while pid != daemon.pid() && pid > 1 {
        let proc = format!("/proc/{pid}");
        let environ = fs::read(format!("{proc}/environ")).unwrap_or_default();
        let command = fs::read(format!("{proc}/cmdline")).unwrap_or_default();
        for bytes in [environ, command] {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for word in forbidden {
                assert!(!text.contains(word), "{pid} holds {word}: {text}");
            }
        }
        for entry in fs::read_dir(format!("{proc}/fd")).unwrap().filter_map(Result::ok) {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.display().to_string();
            let is_ours = target.contains("store.db") || target.contains("permission-secret");
            assert!(!is_ours, "{pid} holds {target}");
            let is_file = target.starts_with(&daemon.data_dir().display().to_string());
            let may = target.contains("/workspaces/") || target.ends_with("tools.lock");
            assert!(!is_file || may, "{pid} holds {target}");
        }
        looked += 1;
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap();
        pid = parent.trim().parse().unwrap();
    }
    assert!(looked >= 2, "the tool has a helper between itself and the daemon");
    revoke(&daemon, &own, "seen enough").await;
    let run = daemon.wait_for(&id, &["failed"]).await;
    // And from inside, as the tool saw itself.
    let events = daemon.events(&id).await;
    let completed = events.iter().find(|e| e["type"] == "tool.completed").expect("an output");
    let output = completed["data"]["output"].as_str().unwrap();
    assert!(output.contains("AGENT_RUNTIME_CALL_ID"), "{output} {run}");
    for word in forbidden {
        assert!(!output.contains(word), "{word}: {output}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_about_capabilities_is_said() {
    let fake: FakeLlm = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:say").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let unknown = "/capabilities/cap_01890a5d-ac96-774b-bcce-b302099a8057";
    let missing = door(&daemon, Method::GET, unknown, None).await;
    assert_eq!((missing.status.as_u16(), missing.code().as_str()), (404, "capability.not_found"));
    let path = format!("{unknown}/revoke");
    let missing = door(&daemon, Method::POST, &path, Some(&json!({}))).await;
    assert_eq!((missing.status.as_u16(), missing.code().as_str()), (404, "capability.not_found"));
    let strange = door(&daemon, Method::GET, "/capabilities/run_1", None).await;
    assert_eq!(strange.status.as_u16(), 404);
    for (body, pointer) in
        [(json!({"why": "x"}), "/why"), (json!({"reason": "x".repeat(1_001)}), "/reason")]
    {
        let wrong = door(&daemon, Method::POST, &path, Some(&body)).await.expect(422);
        assert_eq!(wrong["errors"][0]["pointer"], pointer, "{body}");
    }
    let query = door(&daemon, Method::GET, "/capabilities?alive=true", None).await;
    assert_eq!(query.status.as_u16(), 422, "{}", query.text);
    // Pages are walked by their cursor.
    for n in 0..3 {
        let id = daemon.submit("open", &format!("script:say {n}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
    }
    let first = door(&daemon, Method::GET, "/capabilities?limit=3", None).await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let path = format!("/capabilities?limit=3&agent=open&cursor={cursor}");
    let second = door(&daemon, Method::GET, &path, None).await.expect(200);
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        (second["items"].as_array().unwrap().len(), &second["next_cursor"]),
        (1, &json!(null))
    );
    let none =
        daemon.cli(&["capability", "show", "cap_01890a5d-ac96-774b-bcce-b302099a8057"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.err.contains("no such capability"), "{none:?}");
}

#[tokio::test]
async fn revoking_what_a_run_was_given_before_takes_away_what_it_holds_now() {
    let fake = provider();
    fake.script(
        "twice",
        [
            Turn::call("ask_user", &json!({"question": "Go on?"})),
            Turn::call("exec", &endless("cap-marker-superseded")),
            Turn::text("never"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:twice").await;
    daemon.wait_for(&id, &["paused"]).await;
    let older = given(&daemon, &id, &[]).await.pop().expect("the first one");
    daemon.post(&format!("/api/v1/runs/{id}/resume"), &json!({"input": "yes"})).await.expect(202);
    until_alive("cap-marker-superseded", true).await;
    let newer = the_runs_own(&daemon, &id).await;
    assert_ne!(older["id"], newer["id"]);
    revoke(&daemon, &older, "not this run").await;
    until_alive("cap-marker-superseded", false).await;
    let run = daemon.wait_for(&id, &["failed"]).await;
    assert_eq!(run["error"]["code"], "capability.revoked", "{run}");
    let states = given(&daemon, &id, &[]).await;
    let own: Vec<&Value> = states.iter().filter(|c| c["parent"].is_null()).collect();
    assert!(own.iter().all(|c| c["state"] == "revoked"), "{own:#?}");
    let row = rows(&daemon, "capability_revoked", &id).await.pop().expect("a row");
    assert!(row["data"]["revoked"].to_string().contains(newer["id"].as_str().unwrap()), "{row}");
}
