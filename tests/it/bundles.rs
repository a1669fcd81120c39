//! Session bundles: when they are committed, who may continue one, and what none may hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, until_asked, verb},
    secrets::set,
    support::{
        daemon::{ADMIN, ALICE, Daemon},
        fake_llm::Turn,
    },
};

/// The provider's key: the daemon knows it as a secret.
const SECRET: &str = "sk-fake-key-0123456789";

async fn bundles(daemon: &Daemon, run: &str) -> Vec<Value> {
    let page = daemon.get(&format!("/api/v1/runs/{run}/bundles")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

async fn say(daemon: &Daemon, body: Value) -> Value {
    daemon.post("/api/v1/runs?wait=30", &body).await.expect(200)
}

/// What the trail says about secrets that were kept from leaving.
async fn blocked(daemon: &Daemon) -> Vec<Value> {
    let rows = daemon.cli(&["audit", "query", "--kind", "secret_blocked", "--json"]).await.json();
    rows.as_array().cloned().unwrap_or_default()
}

async fn head(daemon: &Daemon, conversation: &Value) -> Value {
    let path = format!("/api/v1/conversations/{}", conversation.as_str().expect("an id"));
    daemon.get(&path).await.expect(200)["head_bundle_id"].clone()
}

#[tokio::test]
async fn every_safe_point_commits_one_whose_parent_is_the_one_before() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("careful", "script:exec bundles").await;
    let approval = approval_of(&daemon, &id).await;
    let first = bundles(&daemon, &id).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["parent_id"], Value::Null);
    daemon.decide(&approval, &json!({"decision": "deny"})).await.expect(200);
    let run = daemon.wait_for(&id, &["succeeded"]).await;
    let all = bundles(&daemon, &id).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], first[0], "a bundle never changes");
    assert_eq!(all[1]["parent_id"], all[0]["id"]);
    let committed = event(&daemon, &id, "bundle.committed").await;
    assert_eq!(committed["data"]["bundle_id"], all[0]["id"]);
    assert_eq!(head(&daemon, &run["conversation_id"]).await, all[1]["id"]);
    // The next run of the thread continues the newest.
    let next = say(
        &daemon,
        json!({"agent": "open", "input": "script:say next",
        "conversation_id": run["conversation_id"], "bundle_id": all[1]["id"]}),
    )
    .await;
    let next = bundles(&daemon, next["id"].as_str().unwrap()).await;
    assert_eq!(next[0]["parent_id"], all[1]["id"]);
    // No approval, token or key is in any of them.
    let text = format!("{all:?}{next:?}");
    for foreign in [SECRET, ADMIN, "decisions", approval["id"].as_str().unwrap()] {
        assert!(!text.contains(foreign), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_continuations_exactly_one_wins() {
    let fake = provider();
    fake.script("slowly", [Turn::call("exec", &sh("sleep 0.3")), Turn::text("done")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let first = say(&daemon, json!({"agent": "open", "input": "script:say base"})).await;
    let base = head(&daemon, &first["conversation_id"]).await;
    let body = |n: u32| {
        json!({"agent": "open", "input": format!("script:slowly {n}"),
            "conversation_id": first["conversation_id"], "bundle_id": base})
    };
    let bodies: Vec<Value> = (0..10).map(body).collect();
    let all = bodies.iter().map(|body| daemon.post("/api/v1/runs", body));
    let mut outcomes: BTreeMap<(u16, String), u32> = BTreeMap::new();
    let mut winner = String::new();
    for answer in futures_util::future::join_all(all).await {
        let status = answer.status.as_u16();
        let answer = answer.json();
        if status == 202 {
            answer["id"].as_str().unwrap().clone_into(&mut winner);
        }
        let code = answer["code"].as_str().unwrap_or_default().to_owned();
        *outcomes.entry((status, code)).or_default() += 1;
    }
    let wanted = [((202, String::new()), 1), ((409, "bundle.busy".to_owned()), 9)];
    assert_eq!(outcomes, BTreeMap::from(wanted));
    daemon.wait_for(&winner, &["succeeded"]).await;
    // The base is no longer the newest.
    let late = daemon.post("/api/v1/runs", &body(99)).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "bundle.superseded".to_owned()));
}

#[tokio::test]
async fn a_fork_begins_with_the_history_and_leaves_the_original_alone() {
    let fake = provider();
    fake.script("told", [Turn::text("The number is 42.")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let first = say(&daemon, json!({"agent": "open", "input": "script:told"})).await;
    let id = first["id"].as_str().unwrap();
    let base = head(&daemon, &first["conversation_id"]).await;
    let second = say(
        &daemon,
        json!({"agent": "open", "input": "script:say more",
        "conversation_id": first["conversation_id"]}),
    )
    .await;
    let path = format!("/api/v1/runs/{id}/fork");
    let body = json!({"input": "script:say forked", "bundle_id": base});
    let forked = daemon.post(&path, &body).await.expect(202);
    assert_ne!(forked["conversation_id"], first["conversation_id"]);
    let forked = daemon.wait_for(forked["id"].as_str().unwrap(), &["succeeded"]).await;
    let seen = fake.seen_of("say");
    let said = format!("{:?}", seen.last().unwrap().said);
    assert!(said.contains("The number is 42."), "the history came along: {said}");
    assert!(!said.contains("script:say more"), "and nothing after the bundle: {said}");
    assert_ne!(head(&daemon, &forked["conversation_id"]).await, base);
    let path =
        format!("/api/v1/conversations/{}/messages", first["conversation_id"].as_str().unwrap());
    let messages = daemon.get(&path).await.expect(200)["items"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(4), "{messages}");
    assert_eq!(second["state"], "succeeded");
    // Somebody else's bundle does not exist for this run.
    let other = say(&daemon, json!({"agent": "open", "input": "script:say other"})).await;
    let foreign = head(&daemon, &other["conversation_id"]).await;
    let path = format!("/api/v1/runs/{id}/fork");
    let answer = daemon.post(&path, &json!({"input": "x", "bundle_id": foreign})).await;
    assert_eq!(answer.status.as_u16(), 404, "{}", answer.text);
}

#[tokio::test]
async fn a_failed_or_cancelled_run_does_not_become_the_head() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let first = say(&daemon, json!({"agent": "open", "input": "script:say head"})).await;
    let base = head(&daemon, &first["conversation_id"]).await;
    assert!(base.is_string());
    let thread = &first["conversation_id"];
    let failed = say(
        &daemon,
        json!({"agent": "open", "input": "script:loop fail",
        "conversation_id": thread, "limits": {"max_steps": 1}}),
    )
    .await;
    assert_eq!(failed["state"], "failed");
    assert!(
        !kinds(&daemon, failed["id"].as_str().unwrap())
            .await
            .contains(&"bundle.committed".to_owned())
    );
    assert_eq!(head(&daemon, thread).await, base);
    let asked = say(
        &daemon,
        json!({"agent": "careful", "input": "script:exec cancel",
        "conversation_id": thread}),
    )
    .await;
    let id = asked["id"].as_str().unwrap();
    assert_eq!(bundles(&daemon, id).await.len(), 1, "a safe point");
    assert_eq!(verb(&daemon, id, "cancel", &json!({})).await.0, 202);
    assert_eq!(head(&daemon, thread).await, base);
    // The thread goes on from what was kept.
    let last = say(
        &daemon,
        json!({"agent": "open", "input": "script:say on",
        "conversation_id": thread, "bundle_id": base}),
    )
    .await;
    assert_eq!(last["state"], "succeeded");
}

#[tokio::test]
async fn a_secret_of_the_daemon_is_kept_nowhere() {
    let fake = provider();
    // The agent reads a secret that somebody left in its workspace, and one is typed in.
    fake.script(
        "leak",
        [
            Turn::call("read_file", &json!({"path": "leak.txt"})),
            Turn::text(&format!("The key is {SECRET}.")),
        ],
    );
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), "[log]\nlevel = \"debug\"\n");
    daemon.run().await;
    std::fs::write(daemon.workspace("open").join("leak.txt"), format!("key={SECRET}\n")).unwrap();
    let typed =
        say(&daemon, json!({"agent": "open", "input": format!("script:say {SECRET}")})).await;
    // What a person typed was masked before it was stored, and the model repeats the mask.
    assert_eq!(typed["state"], "succeeded", "{typed}");
    assert!(!typed.to_string().contains(SECRET));
    let read = say(&daemon, json!({"agent": "open", "input": "script:leak"})).await;
    // What came through a tool or the model was masked before it was stored.
    assert_eq!(read["state"], "succeeded", "{read}");
    assert!(!read.to_string().contains(SECRET));
    let audit = daemon.cli(&["audit", "export"]).await;
    assert_eq!(audit.code, Some(0));
    // And the trail says of each that something was masked, and where.
    assert!(audit.out.contains("secret_blocked"));
    let blocked = blocked(&daemon).await;
    let of = |id: &Value, place: &str| {
        blocked.iter().filter(|row| row["run_id"] == *id && row["data"]["place"] == place).count()
    };
    assert_eq!((of(&typed["id"], "input"), of(&read["id"], "input")), (1, 0), "{blocked:?}");
    for id in [&typed["id"], &read["id"]] {
        let events = format!("{:?}", daemon.events(id.as_str().unwrap()).await);
        let bundles = format!("{:?}", bundles(&daemon, id.as_str().unwrap()).await);
        let places = [events, bundles, daemon.log(), audit.out.clone()];
        let names = ["events", "bundles", "log", "audit"];
        for (place, name) in places.iter().zip(names) {
            for secret in [SECRET, ADMIN, ALICE] {
                assert!(!place.contains(secret), "{secret} is in the {name} of {id}");
            }
        }
    }
    let told = &fake.seen_of("leak")[1];
    assert!(!told.results()[0].1.contains(SECRET), "not even the model is shown it");
}

#[tokio::test]
async fn a_deleted_conversation_is_gone_and_a_busy_one_stays() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let path = "/api/v1/conversations";
    let made = daemon.post(path, &json!({"title": "mine"})).await;
    let location = made.headers["location"].to_str().unwrap().to_owned();
    let made = made.expect(201);
    assert_eq!(made["title"], "mine");
    let run = say(
        &daemon,
        json!({"agent": "open", "input": "script:say del",
        "conversation_id": made["id"]}),
    )
    .await;
    assert_eq!(run["conversation_id"], made["id"]);
    let busy = daemon.submit("open", "script:stuck del").await;
    until_asked(&fake, "stuck", 1).await;
    let thread = daemon.run_of(&busy).await["conversation_id"].clone();
    let delete = async |path: &str| {
        let answer = daemon.call(reqwest::Method::DELETE, path, ADMIN, None).await;
        answer.expect("an answer")
    };
    let refused = delete(&format!("{path}/{}", thread.as_str().unwrap())).await;
    assert_eq!(refused.status.as_u16(), 409, "{}", refused.text);
    assert_eq!(delete(&location).await.status.as_u16(), 204);
    assert_eq!(daemon.get(&location).await.status.as_u16(), 404);
    assert_eq!(daemon.get(&format!("{location}/messages")).await.status.as_u16(), 404);
    let body = json!({"agent": "open", "input": "x", "conversation_id": made["id"]});
    assert_eq!(daemon.post("/api/v1/runs", &body).await.status.as_u16(), 404);
    verb(&daemon, &busy, "cancel", &json!({})).await;
}

#[tokio::test]
async fn a_secret_that_a_person_types_is_masked_and_told_by_whatever_way_it_comes() {
    let fake = provider();
    fake.script("asks", [Turn::call("ask_user", &json!({"question": "which?"})), Turn::text("so")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    let typed = format!("it is {SECRET}");
    let mut wanted: Vec<(String, &str)> = Vec::new();
    let body = json!({"agent": "open", "input": "script:asks", "metadata": {"note": typed}});
    let asked = say(&daemon, body).await;
    let id = asked["id"].as_str().unwrap().to_owned();
    wanted.push((id.clone(), "metadata"));
    assert_eq!(asked["state"], "paused", "{asked}");
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": typed})).await.0, 202);
    wanted.push((id.clone(), "input"));
    daemon.wait_for(&id, &["succeeded"]).await;
    let path = format!("/api/v1/runs/{id}/fork");
    let key = "a-key-of-a-fork";
    let url = format!("{}{path}", daemon.base());
    // The same request twice is one command, and one row.
    let mut forked = Value::Null;
    for _ in 0..2 {
        let request = daemon.http().post(&url).bearer_auth(ADMIN).header("idempotency-key", key);
        let request = request.json(&json!({"input": format!("script:stuck {SECRET}")}));
        forked = Daemon::answer(request).await.unwrap().expect(202);
    }
    let id = forked["id"].as_str().unwrap().to_owned();
    wanted.push((id.clone(), "input"));
    until_asked(&fake, "stuck", 1).await;
    assert_eq!(verb(&daemon, &id, "steer", &json!({"input": typed})).await.0, 202);
    wanted.push((id.clone(), "input"));
    assert_eq!(verb(&daemon, &id, "cancel", &json!({"reason": typed})).await.0, 202);
    wanted.push((id.clone(), "reason"));
    let careful = daemon.submit("careful", "script:exec masked").await;
    let approval = approval_of(&daemon, &careful).await;
    daemon.decide(&approval, &json!({"decision": "deny", "reason": typed})).await.expect(200);
    wanted.push((careful, "reason"));
    let blocked = blocked(&daemon).await;
    let place = |row: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&row["run_id"]), text(&row["data"]["place"]))
    };
    let found: Vec<_> = blocked.iter().map(place).collect();
    let found: Vec<_> = found.iter().map(|(run, place)| (run.clone(), place.as_str())).collect();
    assert_eq!(found, wanted);
    assert!(blocked.iter().all(|row| row["actor"].as_str().unwrap().starts_with("prn_")));
}

#[tokio::test]
async fn a_conversation_that_holds_what_became_a_secret_is_not_kept_again() {
    const LATER: &str = "said-before-it-was-a-secret-0123";
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let said = say(&daemon, json!({"agent": "open", "input": format!("script:say {LATER}")})).await;
    assert_eq!(said["state"], "succeeded", "{said}");
    let thread = &said["conversation_id"];
    let base = head(&daemon, thread).await;
    assert_eq!(set(&daemon, "LATER", LATER).code, Some(0));
    let go_on = json!({"agent": "open", "input": "script:say on", "conversation_id": thread});
    let refused = say(&daemon, go_on).await;
    assert_eq!(
        (&refused["state"], &refused["error"]["code"]),
        (&json!("failed"), &json!("bundle.secret"))
    );
    let told = refused["error"]["message"].as_str().unwrap();
    assert!(told.contains("start a new conversation"), "{told}");
    let id = refused["id"].as_str().unwrap();
    assert_eq!(bundles(&daemon, id).await, Vec::<Value>::new());
    assert_eq!(head(&daemon, thread).await, base, "nothing new was kept");
    let event = event(&daemon, id, "secret.blocked").await;
    assert_eq!(event["data"]["place"], "session bundle", "{event}");
    // A run that would wait for a person ends, too: it could only wait with a bundle.
    let ask = json!({"agent": "careful", "input": "script:exec on", "conversation_id": thread});
    let waits = say(&daemon, ask).await;
    assert_eq!(waits["state"], "cancelled", "{waits}");
    assert_eq!(daemon.pending("").await, Vec::<Value>::new());
    let runs: Vec<Value> = blocked(&daemon)
        .await
        .into_iter()
        .filter(|row| row["data"]["place"] == "session bundle")
        .map(|row| row["run_id"].clone())
        .collect();
    assert_eq!(runs, [refused["id"].clone(), waits["id"].clone()]);
    // Another conversation is not concerned.
    let other = say(&daemon, json!({"agent": "open", "input": "script:say other"})).await;
    assert_eq!(other["state"], "succeeded", "{other}");
}
